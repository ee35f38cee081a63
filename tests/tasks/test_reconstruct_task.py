"""The reconstruct task, with a tokenizer whose reconstructions can be worked out in NumPy."""

import numpy as np
import pytest
import torch

from arbench.data.readers.mnist import mnist5k
from arbench.errors import CellError, ImageError
from arbench.metrics.sets.clip_score import cosines
from arbench.metrics.sets.frechet import frechet
from arbench.spec.unit import Unit
from arbench.tasks.reconstruct import Reconstruct, worst
from arbench.tasks.reconstruct.work import ReconstructWork


def by_name(finished):
    """Whole-codebook numbers and those of conventions, by name."""
    found = [metric for metric in finished.metrics if not metric.at]
    assert len({metric.name for metric in found}) == len(found)
    return {metric.name: metric for metric in found}


@torch.inference_mode()
def measured(cell, context, adapter="tokenizers/blocks", unit=Unit(index=0, start=0, stop=40), **task):  # noqa: B008
    return ReconstructWork().measure(cell(adapter, Reconstruct(n=unit.stop, **task)), unit, context)


def expected_ids(images):
    """Mean grey of 4 x 4 blocks in 16 levels."""
    grey = images.astype(np.float64).mean(1).reshape(-1, 8, 4, 8, 4).mean((2, 4)) / 255
    return np.round(grey * 15 + 0.01).astype(int).reshape(-1, 64)


def test_a_unit_against_numpy(cell, context):
    arrays = measured(cell, context, unit=Unit(index=1, start=64, stop=100))
    originals = mnist5k("heldout").load(range(64, 100))
    ids = expected_ids(originals)
    assert arrays["sample_ids"].tolist() == list(range(64, 100))
    assert arrays["keys"].tolist() == mnist5k("heldout").keys(range(64, 100))
    np.testing.assert_array_equal(arrays["labels"], mnist5k("heldout").labels[64:100])
    assert arrays["tokens"].dtype == np.int32
    np.testing.assert_array_equal(arrays["tokens"], ids)
    blocks = np.repeat(np.repeat((ids * 17).reshape(-1, 1, 8, 8), 4, 2), 4, 3)
    np.testing.assert_array_equal(arrays["images"], np.broadcast_to(blocks, originals.shape))
    mse = ((originals.astype(float) - blocks) ** 2).mean((1, 2, 3))
    np.testing.assert_allclose(arrays["value:psnr"], 10 * np.log10(255**2 / mse), rtol=1e-12)
    difference = np.abs(originals.astype(float) - blocks).mean((1, 2, 3)) / 255
    np.testing.assert_allclose(arrays["value:l1"], difference, rtol=1e-12)
    assert arrays["value:ssim-gaussian11"].shape == (36,)
    quarters = arrays["images"].reshape(36, 3, 2, 16, 2, 16).mean((3, 5)).reshape(36, 12)
    np.testing.assert_allclose(arrays["features:efficientnet-lite0:pooled"], quarters, rtol=1e-6)


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
    values = np.concatenate([unit["value:psnr"] for unit in units])
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
    rows = np.concatenate([unit["features:efficientnet-lite0:pooled"] for unit in units])
    pixels = mnist5k("heldout").load(range(150)).astype(np.float64)
    reference = pixels.reshape(150, 3, 2, 16, 2, 16).mean((3, 5)).reshape(150, 12)
    # the reference here is averaged in float64, the task's in float32
    assert metrics["frechet"].value == pytest.approx(frechet(rows, reference).value, rel=1e-4)
    distance = 1 - cosines(rows, reference.astype(np.float32))
    assert metrics["feature-distance"].value == pytest.approx(distance.mean(), rel=1e-3)
    assert metrics["feature-distance"].direction == "lower"
    for name in ("psnr", "ssim", "l1", "frechet", "feature-distance"):
        assert metrics[name].convention == "offline-pairs"
        assert metrics[name].reference.name == "mnist5k/heldout"
    assert (finished.samples.n, finished.reference.n) == (150, 150)  # of the first images only
    assert all(metric.measure == "quality" for metric in finished.metrics)


def test_levels_of_a_pyramid_side_by_side(cell, through):
    finished, units = through(cell("tokenizers/scales", Reconstruct(n=30)))
    ids = units[0]["tokens"]
    assert ids.shape == (30, 5)
    metrics = by_name(finished)
    levels = {(metric.name, metric.at["level"]): metric for metric in finished.metrics if metric.at}
    assert len(levels) == 6
    entropy = 0.0
    for number, level in enumerate((ids[:, :1], ids[:, 1:])):
        assert levels["codebook-used", number].value == len(np.unique(level)) / 8
        share = np.unique(level, return_counts=True)[1] / level.size
        entropy -= level.shape[1] * (share * np.log2(share)).sum()
        perplexity = levels["codebook-perplexity", number].value
        assert perplexity == pytest.approx(2 ** -(share * np.log2(share)).sum(), rel=1e-9)
    assert metrics["bits-per-image-entropy"].value == pytest.approx(entropy, rel=1e-9)
    assert metrics["bits-per-image"].value == 5 * 3
    assert "2 x 2 tokens" in levels["codebook-used", 1].how


def test_a_continuous_tokenizer_has_no_codebook(cell, through):
    metrics = by_name(through(cell("tokenizers/continuous", Reconstruct(n=20)))[0])
    for name in (
        "codebook-used",
        "codebook-entropy",
        "codebook-perplexity",
        "dead-codes",
        "bits-per-image",
        "bits-per-image-entropy",
    ):
        assert metrics[name].value is None
        assert metrics[name].reason == "continuous latents have no codebook"
    assert metrics["psnr"].value > 10


def test_pictures_for_the_report(cell, through):
    finished, units = through(cell("tokenizers/blocks", Reconstruct(n=70)))
    gallery = finished.gallery
    assert (gallery.layout, gallery.ids.tolist()) == ("rows", list(range(20)))
    assert gallery.names == ("original", "", "|difference| × 4")
    assert gallery.shared == (True, False, False)
    originals, after = mnist5k("heldout").load(range(20)), units[0]["images"][:20]
    np.testing.assert_array_equal(gallery.images[0], originals)
    np.testing.assert_array_equal(gallery.images[1], after)
    difference = np.abs(originals.astype(int) - after.astype(int)) * 4
    np.testing.assert_array_equal(gallery.images[2], difference.clip(0, 255))
    assert gallery.images.dtype == np.uint8

    values = np.concatenate([unit["value:psnr"] for unit in units])
    labels = np.concatenate([unit["labels"] for unit in units])
    order, worst = np.argsort(values, kind="stable")[:16], finished.worst
    assert worst.ids.tolist() == order.tolist()  # of both units
    assert worst.labels[0].tolist() == labels[order].tolist()
    np.testing.assert_array_equal(worst.images[0], mnist5k("heldout").load(order.tolist()))
    assert f"of the 70 that are kept, worst first: {values[order[0]]:.1f} to {values[order[-1]]:.1f} dB" in worst.lead
    assert finished.worst_lpips is None
    assert "The worst by LPIPS are not told: it was not measured" in worst.lead
    assert through(cell("tokenizers/blocks", Reconstruct(n=16)))[0].worst is None  # all of them are shown


def test_the_worst_by_lpips_are_others_than_by_psnr():
    """Two units of 20 images, of which both numbers are planted."""
    images = mnist5k("heldout").load(range(40))
    draw = np.random.default_rng(0)
    kept = (images // 2 + np.arange(40, dtype=np.uint8)[:, None, None, None]).astype(np.uint8)
    values = draw.permutation(40) / 40
    units = [
        {
            "sample_ids": np.arange(at, at + 20),
            "images": kept[at : at + 20],
            "labels": np.arange(at, at + 20) % 10,
            "value:lpips-alex": values[at : at + 20],
        }
        for at in (0, 20)
    ]
    task = Reconstruct(n=40)
    found = worst.by_lpips(task, units, lambda ids: images[ids])
    assert found.ids.tolist() == np.argsort(-values)[:16].tolist()
    assert found.title.endswith("in LPIPS")
    assert "Highest lpips-alex of the 40 that are kept, worst first: 0.975 to 0.600." in found.lead
    other = worst.by_psnr(task, units, lambda ids: images[ids])
    assert other.ids.tolist() != found.ids.tolist()
    assert "LPIPS" not in other.lead


def test_without_pictures_there_is_no_gallery(cell, through):
    assert through(cell("tokenizers/blocks", Reconstruct(n=10, show=0)))[0].gallery is None


def test_a_convention_whose_weights_are_missing_is_null_and_says_how_to_get_them(cell, through):
    task = Reconstruct(n=70, conventions=["offline-pairs", "pairs"])
    finished, units = through(cell("tokenizers/blocks", task))
    found = {metric.name: metric for metric in finished.metrics if metric.convention == "pairs"}
    for name, weights in (("lpips-alex", "alexnet"), ("lpips-vgg", "vgg16"), ("dists", "vgg16")):
        assert found[name].value is None
        assert (
            found[name].reason
            == f"no weights of {weights}: arbench weights fetch {weights}, or --weights {weights}=PATH"
        )
    assert found["psnr"].value == by_name_of(finished, "offline-pairs")["psnr"].value
    assert found["ms-ssim"].value is None
    assert "images are smaller than" in found["ms-ssim"].reason
    assert not {"value:lpips-alex", "value:dists"} & set(units[0])


def by_name_of(finished, convention):
    return {metric.name: metric for metric in finished.metrics if metric.convention == convention}


def test_images_are_kept_up_to_a_size_and_always_to_be_shown(cell, through):
    one = cell("tokenizers/blocks", Reconstruct(n=150, show=65), keep_images=0)
    finished, units = through(one)
    assert ["images" in unit for unit in units] == [True, True, False]
    assert all("value:psnr" in unit for unit in units)
    assert finished.gallery.images.shape == (3, 65, 3, 32, 32)


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
