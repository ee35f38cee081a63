"""KID and CMMD against torch-fidelity, clean-fid, published vectors and sums written out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cleanfid.fid
import numpy as np
import pytest
import torch
import torch_fidelity.metric_kid
from numpy.typing import NDArray

from arbench.errors import InputError
from arbench.metrics.estimate import Estimate
from arbench.metrics.kernel import SUBSETS, Subsets, cmmd, kid, kid_subsets
from arbench.metrics.moments import MINIMUM

_DRAW = np.random.RandomState(0)
REAL = _DRAW.gamma(0.5, 0.8, (2000, 64)).astype(np.float32)
FAKE = _DRAW.gamma(0.55, 0.8, (1500, 64)).astype(np.float32)
"""The recipe of the published vectors below."""
EXACT_FAKE, EXACT_REAL = FAKE.astype(np.float64), REAL.astype(np.float64)


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
    assert found.estimate.low is None  # the spread over overlapping subsets is no error bar


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


def test_subsets_shrink_where_the_tool_shrinks_them() -> None:
    assert kid_subsets(FAKE[:90], REAL, SUBSETS["clean-fid"]).estimate.value is not None
    missing = kid_subsets(FAKE[:900], REAL, SUBSETS["torch-fidelity"])
    assert missing.estimate.value is None
    assert missing.estimate.reason == "900 vectors, and a subset takes 1000"


def test_kid_over_all_pairs_is_the_u_statistic() -> None:
    x, y = EXACT_FAKE[:20, :5], EXACT_REAL[:30, :5]

    def k(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
        return float((a @ b / 5 + 1) ** 3)

    xx = np.mean([k(x[i], x[j]) for i in range(20) for j in range(20) if i != j])
    yy = np.mean([k(y[i], y[j]) for i in range(30) for j in range(30) if i != j])
    xy = np.mean([k(a, b) for a in x for b in y])
    assert kid(x, y).value == pytest.approx(xx + yy - 2 * xy, rel=1e-10)


def test_kid_over_all_pairs_is_what_subsets_estimate() -> None:
    # the mean of 100 overlapping subsets scatters by at most their own standard error
    assert kid_subsets(FAKE, REAL).estimate.value == pytest.approx(kid(FAKE, REAL).value, abs=3 * 0.00118 / 10)


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
    monkeypatch.setattr("arbench.metrics.kernel.OUTER", 77)
    for inner in (23, 77, 100):
        monkeypatch.setattr("arbench.metrics.kernel.INNER", inner)
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


def test_cmmd_is_the_biased_statistic_of_unit_vectors() -> None:
    x, y = (rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (EXACT_FAKE, EXACT_REAL))

    def mean(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
        squares = (a**2).sum(1)[:, None] + (b**2).sum(1) - 2 * a @ b.T
        return float(np.exp(-squares / (2 * 10.0**2)).mean())

    expected = 1000 * (mean(x, x) + mean(y, y) - 2 * mean(x, y))
    assert cmmd(EXACT_FAKE, EXACT_REAL).value == pytest.approx(expected, rel=1e-9)
    assert cmmd(FAKE, REAL).value == pytest.approx(expected, rel=1e-6)


def test_cmmd_is_the_published_value_to_its_float32_rounding() -> None:
    # three means just below 1, of float32 spacing 6e-8, times 1000 and added with weights 1, 1, 2
    assert cmmd(FAKE, REAL).value == pytest.approx(0.009179115295410156, abs=4 * 6e-8 * 1000)
    x, y = (torch.from_numpy(rows / np.linalg.norm(rows, axis=1, keepdims=True)) for rows in (REAL, FAKE))

    def rounded(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        of_a, of_b = (a @ a.T).diagonal()[:, None], (b @ b.T).diagonal()
        return torch.exp(-0.005 * (-2 * (a @ b.T) + of_a + of_b)).mean()

    # and in float32 throughout it is that value, but for the order in which a BLAS adds
    in_float32 = 1000 * (rounded(x, x) + rounded(y, y) - 2 * rounded(x, y))
    assert in_float32.item() == pytest.approx(0.009179115295410156, abs=1.3e-4)


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
