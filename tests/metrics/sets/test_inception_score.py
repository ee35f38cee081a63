"""Inception Score against torch-fidelity, torchmetrics' formula, ADM's formula and published vectors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import scipy.special
import torch
import torch_fidelity.metric_isc
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from arbench.errors import UsageError
from arbench.metrics.sets.inception_score import SPLITS, Splits, inception_score

pytestmark = pytest.mark.numerical

_DRAW = np.random.RandomState(0)
_DRAW.gamma(0.5, 0.8, (2000, 64))
_DRAW.gamma(0.55, 0.8, (1500, 64))
LOGITS = (_DRAW.randn(2500, 100) * 2).astype(np.float32)
"""The recipe of the published vectors below, where two sets of features come first."""


@pytest.mark.parametrize(
    ("splits", "mean", "spread"),
    [
        (SPLITS["torch-fidelity"], 4.859321853606557, 0.10045434725770826),
        (SPLITS["no-shuffle"], 4.861031119857098, 0.09703548381839663),
    ],
)
def test_the_published_values_of_torch_fidelity(splits: Splits, mean: float, spread: float) -> None:
    found = inception_score(LOGITS, splits)
    assert found.estimate.value == pytest.approx(mean, rel=1e-13)
    assert found.spread == pytest.approx(spread, rel=1e-11)


@pytest.mark.parametrize(
    ("splits", "mean"),
    [
        (SPLITS["adm"], 4.958577632904053),
        (Splits("block", 250, seed=None, double=False), 4.8610310554504395),
    ],
)
def test_the_published_values_of_adms_formula(splits: Splits, mean: float) -> None:
    # in float32, whose last bit is 5e-7; exponentials of another CPU may differ there
    assert inception_score(LOGITS, splits).estimate.value == pytest.approx(mean, abs=1.5e-6)


@pytest.mark.parametrize("n", [2500, 1237])
@pytest.mark.parametrize("shuffle", [True, False])
def test_it_equals_torch_fidelity_run_here(n: int, shuffle: bool) -> None:
    theirs = torch_fidelity.metric_isc.isc_features_to_metric(torch.from_numpy(LOGITS[:n]), shuffle=shuffle)
    ours = inception_score(LOGITS[:n], "torch-fidelity" if shuffle else "no-shuffle")
    assert ours.estimate.value == pytest.approx(theirs["inception_score_mean"], rel=1e-12)
    assert ours.spread == pytest.approx(theirs["inception_score_std"], rel=1e-10)


def test_torchmetrics_splits_and_spread() -> None:
    shuffled = torch.from_numpy(LOGITS[:1234][np.random.RandomState(0).permutation(1234)])
    scores = []
    for part in shuffled.double().softmax(1).chunk(10):
        scores.append((part * (part.log() - part.mean(0).log())).sum(1).mean().exp())
    ours = inception_score(LOGITS[:1234], "torchmetrics")
    assert ours.estimate.value == pytest.approx(torch.stack(scores).mean().item(), rel=1e-6)
    assert ours.spread == pytest.approx(torch.stack(scores).std().item(), rel=1e-5)


@pytest.mark.parametrize(
    ("splits", "bounds"),
    [
        (Splits("floor", 3), [(0, 3), (3, 6), (6, 10)]),
        (Splits("chunk", 3), [(0, 4), (4, 8), (8, 10)]),
        (Splits("even", 3), [(0, 3), (3, 6), (6, 9)]),
        (Splits("block", 4), [(0, 4), (4, 8), (8, 10)]),
    ],
)
def test_where_splits_begin_and_end(splits: Splits, bounds: list[tuple[int, int]]) -> None:
    assert splits.bounds(10) == bounds


def _brute(logits: NDArray[np.float32]) -> float:
    p = scipy.special.softmax(logits.astype(np.float64), axis=1)
    return float(np.exp((p * (np.log(p) - np.log(p.mean(0)))).sum(1).mean()))


@settings(max_examples=20, deadline=None)
@given(shards=st.sampled_from([1, 3, 8]), seed=st.integers(0, 2**31))
def test_shards_in_any_order_give_the_same_single_split_score(shards: int, seed: int) -> None:
    parts = np.array_split(LOGITS[:800], shards)
    joined = np.concatenate([parts[i] for i in np.random.default_rng(seed).permutation(shards)])
    assert inception_score(joined, "single").estimate.value == pytest.approx(_brute(LOGITS[:800]), rel=1e-9)


def test_blocks_files_and_splits_too_large_to_hold_do_not_show(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.save(tmp_path / "logits.npy", LOGITS)
    expected = {name: inception_score(LOGITS, name).estimate for name in SPLITS}
    monkeypatch.setattr("arbench.metrics.sets.inception_score.BLOCK", 64)
    monkeypatch.setattr("arbench.metrics.sets.inception_score.HELD", 100)
    disk = np.load(tmp_path / "logits.npy", mmap_mode="r")
    for name, estimate in expected.items():
        again = inception_score(disk, name).estimate
        assert again.value == pytest.approx(estimate.value, rel=1e-6 if not SPLITS[name].double else 1e-12)
        assert again.low == pytest.approx(estimate.low, rel=1e-6)


def test_the_interval_covers_the_mean_of_many_draws() -> None:
    draw = np.random.default_rng(5)
    found = []
    for _ in range(200):
        logits = draw.normal(size=(400, 8)) * 2 + draw.exponential(size=(400, 1)) * draw.normal(size=(400, 8))
        found.append(inception_score(logits, Splits("floor", 2)).estimate)
    values = np.array([each.value for each in found])
    covered = np.mean([e.low <= values.mean() <= e.high for e in found])  # type: ignore[operator]
    assert 0.89 <= covered <= 0.995  # 200 draws at 95 %: four standard deviations


def test_sorted_labels_are_flagged_where_order_matters() -> None:
    flags = {name: inception_score(LOGITS, name, labels_sorted=True).estimate.flags for name in SPLITS}
    assert flags["adm"] == ("labels_sorted",)
    assert flags["no-shuffle"] == ("labels_sorted",)
    assert flags["torch-fidelity"] == ()
    assert flags["single"] == ()
    assert inception_score(LOGITS, "adm").estimate.flags == ()


def test_sorted_samples_lower_a_score_in_file_order_and_no_other() -> None:
    classes = np.repeat(np.arange(10), 100)
    logits = np.eye(10, dtype=np.float32)[classes] * 8
    assert inception_score(logits, "no-shuffle").estimate.value == pytest.approx(1.0, abs=1e-6)
    assert inception_score(logits, "torch-fidelity").estimate.value > 8  # type: ignore[operator]


def test_too_few_or_broken_logits_give_no_value_and_the_reason() -> None:
    assert "each needs at least 2" in inception_score(LOGITS[:11]).estimate.reason
    assert inception_score(LOGITS[:0]).estimate.value is None
    assert inception_score(LOGITS[:20]).estimate.value is not None
    broken = LOGITS.copy()
    broken[7, 7] = np.nan
    assert inception_score(broken).estimate.reason == "logits are not finite"
    far = LOGITS.copy()
    far[:, 3] = -500
    assert "probability is 0 in float32" in inception_score(far, "adm").estimate.reason
    assert inception_score(far, "torch-fidelity").estimate.value is not None
    with pytest.raises(UsageError, match="unknown splits"):
        inception_score(LOGITS, "fid")
