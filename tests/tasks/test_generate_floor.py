"""Beside the floor: distances to the reference as a generator's own tokenizer reconstructs it, against NumPy.

Tiny adapters here; the packaged minis through `arbench run` and `arbench score` in tests/score/test_floor.py.
"""

import numpy as np
import pytest
import torch
from tiny_adapters import CARDS

from arbench.data.readers.mnist import mnist5k
from arbench.metrics.sets.frechet import frechet
from arbench.metrics.sets.kernel import kid
from arbench.spec.task import Rates, tasks
from arbench.tasks.generate import Generate, why_no_floor

AGAINST, OF = {"sets": "samples to reconstructions"}, {"sets": "reconstructions to reference"}
METRICS = ("frechet", "kid", "precision", "vendi", "auth-pct")


@pytest.fixture
def reference(tmp_path):
    """80 digits in an npz."""
    path = tmp_path / "digits.npz"
    source = mnist5k("heldout")
    np.savez(path, arr_0=source.load(range(80)).transpose(0, 2, 3, 1), arr_1=source.labels[:80])
    return str(path)


def pooled(images):
    return images.astype(np.float32).reshape(-1, 3, 2, 16, 2, 16).mean((3, 5)).reshape(-1, 12)


def reconstructed(images):
    """By the tokenizer of blocks: the mean grey of 4 x 4 pixels in 16 levels."""
    grey = images.astype(np.float64).mean(1).reshape(-1, 8, 4, 8, 4).mean((2, 4)) / 255
    ids = np.round(grey * 15 + 0.01).astype(np.uint8)
    blocks = np.repeat(np.repeat((ids * 17)[:, None], 4, 2), 4, 3)
    return np.broadcast_to(blocks, images.shape)


def at(finished, place):
    return {metric.name: metric for metric in finished.metrics if metric.at == place and metric.convention != "arbench"}


def test_numbers_are_those_of_reconstructions_made_by_hand(cell, through, reference):
    task = Generate(n=70, reference=reference, conventions=("offline",), metrics=METRICS, floor=True)
    finished, units = through(cell("raster/tinted", task))
    samples = np.concatenate([unit["features:efficientnet-lite0:pooled"] for unit in units])
    originals = mnist5k("heldout").load(range(80))
    real, middle = pooled(originals), pooled(reconstructed(originals))
    for place, first, second in (({}, samples, real), (AGAINST, samples, middle), (OF, middle, real)):
        found = at(finished, place)
        assert found["frechet"].value == pytest.approx(frechet(first, second).value, rel=1e-5)
        assert found["kid"].value == pytest.approx(kid(first, second).value, rel=1e-5)
        assert found["frechet"].interval.low < found["frechet"].value < found["frechet"].interval.high
        assert found["frechet"].reference == at(finished, {})["frechet"].reference
        assert found["frechet"].n == len(first)
    assert set(at(finished, {})) == set(METRICS)
    # numbers of the samples alone have no floor, and reconstructions are near-copies by nature
    assert set(at(finished, AGAINST)) == set(at(finished, OF)) == {"frechet", "kid", "precision"}
    assert "reconstructed by tokenizers/blocks" in at(finished, OF)["kid"].how
    assert tasks()["generate"].summary[1].of(finished.metrics).at == {}


def test_without_a_floor_the_other_numbers_are_the_same(cell, through, reference):
    task = Generate(n=40, reference=reference, conventions=("offline",))
    plain, _ = through(cell("raster/tinted", task))
    beside, _ = through(cell("raster/tinted", task.model_copy(update={"floor": True})))
    assert tuple(metric for metric in beside.metrics if not metric.at) == plain.metrics


def test_generators_of_one_tokenizer_share_its_reconstructions(cell, context, through, reference):
    task = Generate(n=40, reference=reference, conventions=("offline",), metrics=("frechet",), floor=True)
    first, _ = through(cell("raster/tinted", task))
    tokenizer = context.tokenizer(cell("raster/tinted", task))
    tokenizer.decoded.clear()
    second, _ = through(cell("raster/seven", task))
    assert at(second, OF) == at(first, OF)
    assert at(second, AGAINST) != at(first, AGAINST)
    assert sum(batch for batch, _ in tokenizer.decoded) == 48  # its own samples alone, in batches of 16
    other, _ = through(cell("raster/telltale", task))
    assert at(other, OF)["frechet"].value != at(first, OF)["frechet"].value
    assert at(other, OF)["frechet"].key == at(first, OF)["frechet"].key  # one column


def test_other_weights_are_other_reconstructions(cell, context, through, reference):
    task = Generate(n=40, reference=reference, conventions=("offline",), metrics=("frechet",), floor=True)
    one = cell("raster/tinted", task)
    through(one)
    tokenizer = context.tokenizer(one)
    tokenizer.decoded.clear()
    through(one.model_copy(update={"weights_sha256": {"tokenizers/blocks": "other"}}))
    assert sum(batch for batch, _ in tokenizer.decoded) == 48 + 80


@pytest.mark.parametrize(
    ("adapter", "given", "reason"),
    [
        ("raster/direct", "mnist5k/heldout", "raster/direct has no tokenizer that could reconstruct the reference"),
        ("raster/tinted", "statistics", "holds statistics, and reconstructions are made of images"),
        ("raster/tinted", "small", "tokenizers/blocks takes 32 x 32 images, those of"),
    ],
)
def test_where_there_is_no_floor_it_is_null_and_known_before(cell, through, tmp_path, adapter, given, reason):
    if given == "statistics":
        given = str(tmp_path / "moments.npz")
        np.savez(given, mu=np.zeros(2048), sigma=np.eye(2048))
    elif given == "small":
        given = str(tmp_path / "small.npz")
        np.savez(given, arr_0=np.random.default_rng(0).integers(0, 255, (40, 16, 16, 3), dtype=np.uint8))
    task = Generate(
        n=40, reference=given, kind="pytorch-fid", conventions=("offline",), metrics=("frechet", "kid"), floor=True
    )
    assert reason in why_no_floor(CARDS[adapter], task)
    notes = tasks()["generate"].notes(CARDS[adapter], task)
    assert any("distances to reconstructions will be null" in note and reason in note for note in notes)
    finished, _ = through(cell(adapter, task))
    for place in (AGAINST, OF):
        found = at(finished, place)
        assert set(found) == {"frechet", "kid"}
        assert all(metric.value is None and reason in metric.reason for metric in found.values())


def test_the_cost_grows_by_the_reference():
    rates = Rates(image=2.0, flops=1e12, pixels=3072, coded=0.5)
    effort = tasks()["generate"].effort
    plain, beside = (effort(Generate(n=10, floor=on), rates) for on in (False, True))
    assert beside.seconds - plain.seconds == pytest.approx(1000 * 0.5, rel=0.1)
    assert beside.batch == plain.batch


def test_the_tokenizer_runs_without_gradients(cell, context, through, reference, monkeypatch):
    task = Generate(n=40, reference=reference, conventions=("offline",), metrics=("frechet",), floor=True)
    tokenizer = context.tokenizer(cell("raster/tinted", task))
    seen, encode = [], tokenizer.encode
    monkeypatch.setattr(tokenizer, "encode", lambda images: (seen.append(torch.is_grad_enabled()), encode(images))[1])
    through(cell("raster/tinted", task))
    assert seen == [False, False]  # 64 and 16 images
