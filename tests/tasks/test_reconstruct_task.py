"""The reconstruct task, with a tokenizer whose reconstructions can be worked out in NumPy."""

import numpy as np
import pytest

from arbench.data.readers.mnist import mnist5k
from arbench.errors import CellError, ImageError
from arbench.images import unpack
from arbench.spec.cell import Unit
from arbench.spec.suite import Reconstruct
from arbench.tasks.reconstruct import ReconstructTask


def by_name(finished):
    return {metric.name: metric for metric in finished.metrics}


def measured(cell, context, adapter="tokenizers/blocks", unit=Unit(index=0, start=0, stop=40), **task):  # noqa: B008
    return ReconstructTask().measure(cell(adapter, Reconstruct(n=unit.stop, **task)), unit, context)


def expected_ids(images):
    """Mean grey of 4 x 4 blocks in 16 levels."""
    grey = images.astype(np.float64).mean(1).reshape(-1, 8, 4, 8, 4).mean((2, 4)) / 255
    return np.round(grey * 15 + 0.01).astype(int).reshape(-1, 64)


def test_a_unit_against_numpy(cell, context):
    arrays = measured(cell, context, unit=Unit(index=1, start=64, stop=100))
    originals = mnist5k("heldout").load(range(64, 100))
    ids = expected_ids(originals)
    assert arrays["image_ids"].tolist() == list(range(64, 100))
    assert arrays["ids"].dtype == np.int32
    np.testing.assert_array_equal(arrays["ids"], ids)
    blocks = np.repeat(np.repeat((ids * 17).reshape(-1, 1, 8, 8), 4, 2), 4, 3)
    np.testing.assert_array_equal(arrays["reconstructions"], np.broadcast_to(blocks, originals.shape))
    mse = ((originals.astype(float) - blocks) ** 2).mean((1, 2, 3))
    np.testing.assert_allclose(arrays["psnr"], 10 * np.log10(255**2 / mse), rtol=1e-12)
    assert arrays["ssim"].shape == arrays["feature_distance"].shape == (36,)


@pytest.mark.parametrize("adapter", ["tokenizers/blocks", "tokenizers/telltale", "tokenizers/continuous"])
def test_arrays_are_the_same_at_every_batch_size(cell, context, adapter):
    first = measured(cell, context, adapter, batch=64)
    for batch in (1, 7, 1000):
        other = measured(cell, context, adapter, batch=batch)
        for name in first:
            np.testing.assert_array_equal(first[name], other[name], err_msg=f"{name} at batch {batch}")


def test_metrics_with_intervals(cell, through):
    finished, units = through(cell("tokenizers/blocks", Reconstruct(n=150)))
    metrics = by_name(finished)
    values = np.concatenate([unit["psnr"] for unit in units])
    psnr = metrics["psnr"]
    assert psnr.value == pytest.approx(values.mean(), rel=1e-12)
    assert (psnr.unit, psnr.n, psnr.direction) == ("dB", 150, "higher")
    assert psnr.interval.low < psnr.value < psnr.interval.high
    ids = expected_ids(mnist5k("heldout").load(range(150)))
    codes, counts = np.unique(ids, return_counts=True)
    share = counts / counts.sum()
    assert metrics["codebook-used"].value == len(codes) / 16
    assert metrics["dead-codes"].value == 16 - len(codes)
    assert metrics["codebook-perplexity"].value == pytest.approx(2 ** -(share * np.log2(share)).sum(), rel=1e-9)
    assert metrics["bits-per-image"].value == 64 * 4
    assert metrics["bits-per-image-entropy"].value == pytest.approx(-64 * (share * np.log2(share)).sum(), rel=1e-9)
    predicted = np.concatenate([unit["predicted"] for unit in units])
    assert metrics["class-agreement"].value == np.mean(predicted == np.arange(150) % 10)
    assert metrics["rfd-pooled"].value > 0
    assert "not rFID" in metrics["rfd-pooled"].convention
    assert metrics["feature-distance-pooled"].direction == "lower"
    assert all(metric.measure == "quality" for metric in finished.metrics)


def test_levels_of_a_pyramid_side_by_side(cell, through):
    finished, units = through(cell("tokenizers/scales", Reconstruct(n=30)))
    ids = units[0]["ids"]
    assert ids.shape == (30, 5)
    metrics = by_name(finished)
    entropy = 0.0
    for number, level in enumerate((ids[:, :1], ids[:, 1:])):
        assert metrics[f"codebook-used-level{number}"].value == len(np.unique(level)) / 8
        share = np.unique(level, return_counts=True)[1] / level.size
        entropy -= level.shape[1] * (share * np.log2(share)).sum()
        perplexity = metrics[f"codebook-perplexity-level{number}"].value
        assert perplexity == pytest.approx(2 ** -(share * np.log2(share)).sum(), rel=1e-9)
    assert metrics["bits-per-image-entropy"].value == pytest.approx(entropy, rel=1e-9)
    assert metrics["bits-per-image"].value == 5 * 3
    assert "2 x 2 tokens" in metrics["codebook-used-level1"].convention


def test_a_continuous_tokenizer_has_no_codebook(cell, through):
    metrics = by_name(through(cell("tokenizers/continuous", Reconstruct(n=20)))[0])
    for name in ("codebook-used", "codebook-perplexity", "dead-codes", "bits-per-image", "bits-per-image-entropy"):
        assert metrics[name].value is None
        assert metrics[name].reason == "continuous latents have no codebook"
    assert metrics["psnr"].value > 10


def test_pairs_for_the_report(cell, through):
    finished, units = through(cell("tokenizers/blocks", Reconstruct(n=70)))
    pairs = unpack(finished.artifacts["pairs.npz"])
    assert pairs["ids"].dtype == np.int64
    assert pairs["ids"].tolist() == list(range(20))
    np.testing.assert_array_equal(pairs["originals"], mnist5k("heldout").load(range(20)))
    np.testing.assert_array_equal(pairs["reconstructions"], units[0]["reconstructions"][:20])
    assert pairs["reconstructions"].dtype == np.uint8


def test_images_of_another_size_are_refused_before_anything_runs(cell, context, monkeypatch):
    from tiny_adapters import CARDS, card

    from arbench import registry

    cards = CARDS | {"tokenizers/blocks": card("tokenizers/blocks", resolution=256)}
    monkeypatch.setattr(registry, "cards", lambda: cards)
    with pytest.raises(ImageError, match="takes 256 x 256 images") as caught:
        measured(cell, context)
    assert "mnist5k/heldout are 32 x 32" in caught.value.why


def test_a_wrong_reconstruction_is_named(cell, context):
    with pytest.raises(CellError, match=r"tokenizers/wide: images of shape \(16, 3, 32, 32\) expected"):
        measured(cell, context, "tokenizers/wide")
