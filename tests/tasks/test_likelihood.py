"""The likelihood task: nats by hand, the right class against another, and who has none."""

import math

import numpy as np
import pytest
import torch
from tiny_adapters import CARDS, LEVELS, card

from arbench import registry
from arbench.data.readers.mnist import mnist5k
from arbench.errors import CellError
from arbench.protocols import Codes, TokenSpec
from arbench.spec.cell import make_cell
from arbench.spec.suite import Settings
from arbench.spec.task import tasks
from arbench.spec.unit import Unit
from arbench.tasks.likelihood import Likelihood
from arbench.tasks.likelihood.work import LikelihoodWork, negative_log_likelihood


def by_name(finished):
    return {metric.name: metric for metric in finished.metrics}


def unable(card, spec):
    return tasks()["likelihood"].why_unable(card, spec)


def by_hand(labels, count=70):
    """(n,) nats of the block tokenizer's codes under the weights of `Repainted`."""
    grey = mnist5k("heldout").load(range(count)).mean(1).reshape(count, 8, 4, 8, 4).mean((2, 4)) / 17
    ids = (grey + 0.01).round().astype(int).reshape(count, 64)
    scores = -np.square(np.arange(LEVELS) - 1.5 * labels[:, None]) / 8
    logs = scores - np.log(np.exp(scores).sum(1, keepdims=True))
    return -np.take_along_axis(logs, ids, axis=1).sum(1)


def test_nats_and_bits(cell, through):
    finished, _ = through(cell("raster/repainted", Likelihood(n=70)))
    metrics = by_name(finished)
    labels = mnist5k("heldout").labels[:70]
    right, wrong = by_hand(labels), by_hand((labels + 1) % 10)
    expected = {
        "nats-per-token": right.mean() / 64,
        "nats-per-token-wrong-class": wrong.mean() / 64,
        "nats-per-token-gap": (wrong - right).mean() / 64,
        "bits-per-image": right.mean() / math.log(2),
        "bits-per-dimension": right.mean() / math.log(2) / (3 * 32 * 32),
    }
    # float32 logits, a few dozen nats a token
    assert {name: metric.value for name, metric in metrics.items()} == pytest.approx(expected, rel=1e-5)
    error = right.std(ddof=1) / 64 / math.sqrt(70)
    interval = metrics["nats-per-token"].interval
    assert interval.high - interval.low == pytest.approx(2 * 1.995 * error, rel=1e-3)  # Student's t, 69 degrees
    paired = metrics["nats-per-token-gap"].interval
    assert paired.high - paired.low == pytest.approx(2 * 1.995 * (wrong - right).std(ddof=1) / 64 / 70**0.5, rel=1e-3)
    for metric in finished.metrics:
        assert metric.n == 70
        assert metric.how.startswith("codes of tokenizers/blocks; teacher-forced, unguided")
    assert "no bound for pixels" in metrics["bits-per-dimension"].how


def test_arrays_do_not_depend_on_the_batch(cell, context):
    unit = Unit(index=0, start=0, stop=20)
    with torch.inference_mode():
        first, other = (
            LikelihoodWork().measure(cell("raster/repainted", Likelihood(n=20, batch=batch)), unit, context)
            for batch in (20, 7)
        )
    for name in first:
        np.testing.assert_allclose(first[name], other[name], rtol=1e-6, err_msg=name)


def test_without_classes_there_is_no_wrong_one(cell, through):
    metrics = by_name(through(cell("raster/classless", Likelihood(n=8)))[0])
    assert metrics["nats-per-token"].value > 0
    for name in ("nats-per-token-wrong-class", "nats-per-token-gap"):
        assert metrics[name].value is None
        assert metrics[name].reason == "the generator has no classes"


def test_logits_that_do_not_fit_are_named(cell, context):
    unit = Unit(index=0, start=0, stop=4)
    with pytest.raises(CellError, match=r"logits for \(4, 64\) tokens expected"):
        LikelihoodWork().measure(cell("raster/muddled", Likelihood(n=4)), unit, context)
    with pytest.raises(CellError, match="raster/pretends: its card offers `scores`"):
        LikelihoodWork().measure(cell("raster/pretends", Likelihood(n=4)), unit, context)
    logits = torch.zeros(2, 3, 5)
    logits[1, 2, 0] = math.nan
    with pytest.raises(CellError, match="logits are not finite"):
        negative_log_likelihood(logits, Codes(ids=(torch.zeros(2, 3, dtype=torch.int64),)), "raster/x")


def test_a_uniform_model_has_the_entropy_of_the_codebook():
    codes = Codes(ids=(torch.zeros(2, 1, dtype=torch.int64), torch.ones(2, 4, dtype=torch.int64)))
    nats = negative_log_likelihood(torch.full((2, 5, 16), 3.0), codes, "raster/x")
    assert nats.tolist() == pytest.approx([5 * math.log(16)] * 2, rel=1e-6)


def test_who_has_no_likelihood_is_known_before_anything_is_loaded():
    assert unable(CARDS["raster/repainted"], Likelihood()) == ""
    assert "does not offer `scores`" in unable(CARDS["raster/tinted"], Likelihood())
    latents = TokenSpec(kind="continuous", layout="grid", levels=((8, 8),), channels=3)
    assert "no tractable likelihood" in unable(card("continuous/x", tokens=latents), Likelihood())


@pytest.mark.parametrize("adapter", ["next_scale/var-mini", "raster/llamagen-mini"])
def test_minis_are_better_than_chance_and_know_the_class(adapter, monkeypatch, through):
    cards = registry._load()[0]
    monkeypatch.setattr(registry, "cards", lambda: cards)
    chosen = cards[adapter]
    one = make_cell(chosen, Likelihood(n=32), Settings(), chosen.native, {}, data={}, machine="here")
    metrics = by_name(through(one)[0])
    assert metrics["nats-per-token"].value < 0.9 * math.log(chosen.tokens.vocabulary)
    gap = metrics["nats-per-token-gap"]
    assert gap.interval.low > 0
    bits = metrics["bits-per-image"].value
    assert bits == pytest.approx(metrics["nats-per-token"].value * chosen.tokens.tokens / math.log(2))
    assert metrics["bits-per-dimension"].value == pytest.approx(bits / 3072)
