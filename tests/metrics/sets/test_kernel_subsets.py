"""KID over subsets against torch-fidelity, clean-fid and published vectors; its error against that of all pairs."""

from __future__ import annotations

from dataclasses import replace

import cleanfid.fid
import numpy as np
import pytest
import torch
import torch_fidelity.metric_kid
from numpy.typing import NDArray

from arbench.metrics.estimate import Estimate
from arbench.metrics.sets import kernel_subsets
from arbench.metrics.sets.kernel import kid
from arbench.metrics.sets.kernel_subsets import SUBSETS, Subsets, kid_subsets

pytestmark = pytest.mark.numerical

_DRAW = np.random.RandomState(0)
REAL = _DRAW.gamma(0.5, 0.8, (2000, 64)).astype(np.float32)
FAKE = _DRAW.gamma(0.55, 0.8, (1500, 64)).astype(np.float32)
"""The recipe of the published vectors below."""


def _error(estimate: Estimate) -> float:
    assert estimate.low is not None
    assert estimate.high is not None
    return (estimate.high - estimate.low) / 2 / 1.959963984540054


@pytest.mark.parametrize(
    ("tool", "mean", "spread"),
    [
        ("torch-fidelity", 0.0095111346244812, 0.0011789346957711),
        ("clean-fid", 0.009594601579010487, None),
        ("dgm-eval", 0.009502995014190673, 1.4332300320063e-06**0.5),
    ],
)
def test_kid_over_subsets_is_the_published_value(tool: str, mean: float, spread: float | None) -> None:
    found = kid_subsets(FAKE, REAL, SUBSETS[tool])
    # the published figures are of float32 kernels: means around 1, which another BLAS rounds otherwise
    assert found.estimate.value == pytest.approx(mean, abs=3e-8)
    if spread is not None:
        assert found.spread == pytest.approx(spread, abs=3e-8)


@pytest.mark.parametrize("dimension", [64, 40])
def test_kid_over_subsets_equals_torch_fidelity_run_here(dimension: int) -> None:
    fake, real = np.ascontiguousarray(FAKE[:, :dimension]), np.ascontiguousarray(REAL[:, :dimension])
    theirs = torch_fidelity.metric_kid.kid_features_to_metric(
        torch.from_numpy(fake),
        torch.from_numpy(real),
        kid_subsets=20,
        kid_subset_size=500,
        kid_kernel="poly",
        kid_kernel_poly_degree=3,
        kid_kernel_poly_gamma=None,
        kid_kernel_poly_coef0=1,
        rng_seed=2020,
        verbose=False,
    )
    ours = kid_subsets(fake, real, Subsets(count=20, size=500))
    assert ours.estimate.value == pytest.approx(theirs["kernel_inception_distance_mean"], rel=1e-6)
    assert ours.spread == pytest.approx(theirs["kernel_inception_distance_std"], rel=1e-5)
    assert len(ours.values) == 20


def test_kid_over_subsets_equals_clean_fid_run_here() -> None:
    state = np.random.get_state()
    np.random.seed(0)
    theirs = cleanfid.fid.kernel_distance(REAL, FAKE, num_subsets=20)
    np.random.set_state(state)
    ours = kid_subsets(FAKE, REAL, replace(SUBSETS["clean-fid"], count=20))
    assert ours.estimate.value == pytest.approx(theirs, rel=1e-6)


def test_kid_near_zero_equals_clean_fid_run_here() -> None:
    state = np.random.get_state()
    np.random.seed(0)
    theirs = cleanfid.fid.kernel_distance(REAL[:48] * 3, REAL[48:96] * 3, max_subset_size=30)
    np.random.set_state(state)
    # subsets scatter far more than their mean, which clean-fid adds up in float32
    ours = kid_subsets(REAL[48:96] * 3, REAL[:48] * 3, replace(SUBSETS["clean-fid"], size=30))
    assert ours.estimate.value == pytest.approx(theirs, rel=1e-6)


def test_subsets_shrink_where_the_tool_shrinks_them() -> None:
    assert kid_subsets(FAKE[:90], REAL, SUBSETS["clean-fid"]).estimate.value is not None
    missing = kid_subsets(FAKE[:900], REAL, SUBSETS["torch-fidelity"])
    assert missing.estimate.value is None
    assert missing.estimate.reason == "900 vectors, and a subset takes 1000"


def test_kid_over_all_pairs_is_what_subsets_estimate() -> None:
    # the mean of 100 overlapping subsets scatters by at most their own standard error
    assert kid_subsets(FAKE, REAL).estimate.value == pytest.approx(kid(FAKE, REAL).value, abs=3 * 0.00118 / 10)


@pytest.mark.parametrize("tool", ["torch-fidelity", "dgm-eval"])
def test_the_error_is_that_of_all_pairs_and_of_the_choice(tool: str) -> None:
    found = kid_subsets(FAKE, REAL, replace(SUBSETS[tool], size=500))
    assert found.spread is not None
    expected = np.hypot(_error(kid(FAKE, REAL)), found.spread / 10)
    # its terms are known from 100 subsets of 500, hence to a few percent
    assert _error(found.estimate) == pytest.approx(expected, rel=0.05)


def test_one_subset_of_everything_has_the_error_of_all_pairs() -> None:
    found = kid_subsets(FAKE[:300], REAL[:300], Subsets(count=1, size=300))
    pairs = kid(FAKE[:300], REAL[:300])
    assert found.estimate.value == pytest.approx(pairs.value, abs=1e-6)  # float32 sums of a kernel around 1
    assert _error(found.estimate) == pytest.approx(_error(pairs), rel=1e-4)


@pytest.mark.parametrize("shift", [0.0, 0.2])
def test_the_interval_covers_the_mean_of_many_draws(shift: float) -> None:
    draw = np.random.default_rng(7)
    reference = draw.normal(size=(180, 8)).astype(np.float32)
    rule, found = Subsets(count=20, size=60, double=True), []
    for seed in range(150):
        rows = (draw.normal(size=(120, 8)) + shift).astype(np.float32)
        found.append(kid_subsets(rows, reference, replace(rule, seed=seed)).estimate)
    values = np.array([estimate.value for estimate in found])
    covered = np.mean([e.low <= values.mean() <= e.high for e in found])  # type: ignore[operator]
    # 150 draws of a 95 % interval fall below 0.88 with probability 1e-3
    assert covered >= 0.88
    assert 0.8 < np.mean([_error(estimate) for estimate in found]) / values.std() < 1.5


def test_subsets_of_three_have_a_value_without_interval() -> None:
    found = kid_subsets(FAKE, REAL, Subsets(count=5, size=3)).estimate
    assert found.value is not None
    assert (found.low, found.flags) == (None, ("no_interval",))


def large(n: int) -> NDArray[np.float32]:
    return np.random.default_rng(n).gamma(0.5, 0.8, (n, 512)).astype(np.float32)


@pytest.mark.parametrize("tool", ["torch-fidelity", "clean-fid", "dgm-eval"])
def test_products_of_the_whole_sets_change_no_digit(tool: str, monkeypatch: pytest.MonkeyPatch) -> None:
    fake, real = large(420), large(380)
    rule = replace(SUBSETS[tool], count=12, size=230)
    shared = kid_subsets(fake, real, rule)
    monkeypatch.setattr(
        "arbench.metrics.sets.kernel_subsets.HELD", 0
    )  # each subset multiplied by itself, as the tools do
    assert kid_subsets(fake, real, rule) == shared


def test_whole_products_that_round_otherwise_are_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = large(420), large(380)
    whole = [one @ one.T, two @ two.T, one @ two.T]
    last = whole[2][-1, -1]
    whole[2][-1, -1] = np.nextafter(last, np.float32(np.inf))
    assert not kernel_subsets._as_in_a_subset(one, two, whole, 230)


def test_where_and_how_rows_lie_in_memory_changes_no_digit() -> None:
    fake, real = large(420), large(380)
    rule = replace(SUBSETS["torch-fidelity"], count=2, size=230)
    expected = kid_subsets(fake, real, rule), kid(fake, real)
    raw = np.zeros(real.nbytes + 1, np.uint8)
    odd = raw[1:].view(np.float32).reshape(real.shape)  # as a member of an npz may begin anywhere
    odd[:] = real
    assert not odd.flags.aligned
    for rows in (odd, np.asfortranarray(real)):
        assert (kid_subsets(fake, rows, rule), kid(fake, rows)) == expected
