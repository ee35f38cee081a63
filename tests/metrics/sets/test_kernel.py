"""KID over all pairs and CMMD against published vectors and sums written out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from arbench.errors import InputError
from arbench.metrics.estimate import Estimate
from arbench.metrics.sets.kernel import cmmd, cmmd_float32, kid
from arbench.metrics.sets.kernel_subsets import SUBSETS, Subsets, kid_subsets
from arbench.metrics.sets.moments import MINIMUM

pytestmark = pytest.mark.numerical

_DRAW = np.random.RandomState(0)
REAL = _DRAW.gamma(0.5, 0.8, (2000, 64)).astype(np.float32)
FAKE = _DRAW.gamma(0.55, 0.8, (1500, 64)).astype(np.float32)
"""The recipe of the published vectors below."""
EXACT_FAKE, EXACT_REAL = FAKE.astype(np.float64), REAL.astype(np.float64)


def _error(estimate: Estimate) -> float:
    assert estimate.low is not None
    assert estimate.high is not None
    return (estimate.high - estimate.low) / 2 / 1.959963984540054


def test_kid_over_all_pairs_is_the_u_statistic() -> None:
    x, y = EXACT_FAKE[:20, :5], EXACT_REAL[:30, :5]

    def k(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
        return float((a @ b / 5 + 1) ** 3)

    xx = np.mean([k(x[i], x[j]) for i in range(20) for j in range(20) if i != j])
    yy = np.mean([k(y[i], y[j]) for i in range(30) for j in range(30) if i != j])
    xy = np.mean([k(a, b) for a in x for b in y])
    assert kid(x, y).value == pytest.approx(xx + yy - 2 * xy, rel=1e-10)


def test_float32_rows_cost_kid_no_digits_that_matter() -> None:
    single, double = kid(FAKE, REAL), kid(EXACT_FAKE, EXACT_REAL)
    assert single.value == pytest.approx(double.value, abs=1e-9)  # the interval is 2e-3 wide
    assert _error(single) == pytest.approx(_error(double), rel=1e-5)


Metric = Callable[..., Estimate]


@pytest.mark.parametrize("metric", [kid, cmmd])
def test_neither_blocks_nor_files_show(metric: Metric, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "rows.npy"
    np.save(path, EXACT_FAKE[:300])
    whole = metric(EXACT_FAKE[:300], EXACT_REAL[:200])
    monkeypatch.setattr("arbench.metrics.sets.kernel.OUTER", 77)
    for inner in (23, 77, 100):
        monkeypatch.setattr("arbench.metrics.sets.kernel.INNER", inner)
        parts = metric(np.load(path, mmap_mode="r"), EXACT_REAL[:200])
        assert parts.value == pytest.approx(whole.value, rel=1e-10)
        assert _error(parts) == pytest.approx(_error(whole), rel=1e-8)


@pytest.mark.parametrize("reference_fixed", [True, False])
@pytest.mark.parametrize(("metric", "shift"), [(kid, 0.2), (kid, 0.0), (cmmd, 0.3)])
def test_intervals_cover_the_mean_of_many_draws(metric: Metric, shift: float, reference_fixed: bool) -> None:
    draw = np.random.default_rng(7)
    reference = draw.normal(size=(90, 8))
    estimates = []
    for _ in range(150):
        if not reference_fixed:
            reference = draw.normal(size=(90, 8))
        estimates.append(metric(draw.normal(size=(60, 8)) + shift, reference, reference_fixed=reference_fixed))
    values = np.array([estimate.value for estimate in estimates])
    covered = np.mean([e.low <= values.mean() <= e.high for e in estimates])  # type: ignore[operator]
    # 150 draws of a 95 % interval fall below 0.88 with probability 1e-3
    assert covered >= 0.88
    ratio = np.mean([_error(estimate) for estimate in estimates]) / values.std()
    assert 0.8 < ratio < 2.0  # and not by being far too wide


def _skewed(draw: np.random.Generator, n: int) -> NDArray[np.float32]:
    scale = np.arange(1, 33) ** -0.5 * 3
    rows = np.maximum(draw.normal(size=(n, 32)) * scale - 0.3, 0) * np.exp(0.4 * draw.normal(size=(n, 1)))
    return rows.astype(np.float32)


@pytest.mark.parametrize("subsets", [False, True])
def test_the_interval_covers_on_skewed_features_where_the_two_laws_are_equal(subsets: bool) -> None:
    reference = _skewed(np.random.default_rng(0), 600)
    draws = [_skewed(np.random.default_rng([1, i]), 400) for i in range(200)]
    found = [kid_subsets(x, reference, Subsets(20, 300)).estimate if subsets else kid(x, reference) for x in draws]
    truth = float(np.mean([kid(x, reference).value for x in draws]))  # type: ignore[misc]
    missed = [(e.low > truth, e.high < truth) for e in found]  # type: ignore[operator]
    low, high = np.mean(missed, axis=0)
    # 200 draws of a 95 % interval miss more than 10 % with probability 1e-3, one side more than 6.5 %; the normal
    # interval misses 12 to 16 % of these, all from below
    assert low + high <= 0.10
    assert max(low, high) <= 0.065


def test_cmmd_is_the_biased_statistic_of_unit_vectors() -> None:
    x, y = (rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (EXACT_FAKE, EXACT_REAL))

    def mean(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
        squares = (a**2).sum(1)[:, None] + (b**2).sum(1) - 2 * a @ b.T
        return float(np.exp(-squares / (2 * 10.0**2)).mean())

    expected = 1000 * (mean(x, x) + mean(y, y) - 2 * mean(x, y))
    assert cmmd(EXACT_FAKE, EXACT_REAL).value == pytest.approx(expected, rel=1e-9)
    assert cmmd(FAKE, REAL).value == pytest.approx(expected, rel=1e-6)


def test_cmmd_in_float32_is_the_published_value() -> None:
    published = 0.009179115295410156
    # three means just below 1, of float32 spacing 6e-8, times 1000: the published value is 77 steps of 1.2e-4
    step = 2.0**-23 * 1000
    assert published == pytest.approx(77 * step, rel=1e-9)
    found = cmmd_float32(FAKE, REAL)
    assert found is not None
    assert found / step == pytest.approx(round(found / step), abs=1e-6)
    # the order in which a mean of millions is added up depends on the number of threads: one step
    assert found == pytest.approx(published, abs=1.01 * step)
    # in exact arithmetic it is between two steps
    assert cmmd(FAKE, REAL).value == pytest.approx(published, abs=4 * step)
    assert cmmd_float32(np.broadcast_to(FAKE[0], (5001, 64)), REAL) is None


@pytest.mark.parametrize("metric", [kid, cmmd, lambda x, y: kid_subsets(x, y, SUBSETS["clean-fid"]).estimate])
def test_too_few_or_broken_features_give_no_value_and_the_reason(metric: Metric) -> None:
    few = metric(FAKE[: MINIMUM - 1], REAL)
    assert (few.value, few.low) == (None, None)
    assert few.reason == f"{MINIMUM - 1} samples, at least {MINIMUM} are needed"
    assert "reference images" in metric(FAKE, REAL[:3]).reason
    assert metric(FAKE[:MINIMUM], REAL[:MINIMUM]).value is not None
    broken = FAKE[:50].copy()
    broken[3, 3] = np.nan
    assert "not finite" in metric(broken, REAL[:50]).reason
    assert "not finite" in metric(REAL[:50], broken).reason
    with pytest.raises(InputError, match="different length"):
        metric(FAKE[:, :60], REAL)
