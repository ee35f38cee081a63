"""Frechet distance, KID, precision and recall against torch-fidelity, SciPy, published vectors and brute force."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import scipy.linalg
import torch
import torch_fidelity.metric_fid
import torch_fidelity.metric_kid
import torch_fidelity.metric_prc
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from arbench.errors import InputError
from arbench.metrics.distribution import (
    MINIMUM,
    frechet,
    frechet_distance,
    kid,
    kid_subsets,
    moments,
    precision_recall,
)
from arbench.metrics.estimate import Estimate

_DRAW = np.random.RandomState(0)
REAL = _DRAW.gamma(0.5, 0.8, (2000, 64)).astype(np.float32)
FAKE = _DRAW.gamma(0.55, 0.8, (1500, 64)).astype(np.float32)
"""The recipe of the published vectors below."""


def test_the_recipe_gives_the_published_data() -> None:
    np.testing.assert_allclose(REAL[0, :3], [0.24320151, 0.30261737, 0.14358671], rtol=1e-7)
    assert REAL.astype(np.float64).sum() == pytest.approx(51119.614483965845, rel=1e-14)


def _fidelity_moments(features: NDArray[np.float32]) -> dict[str, NDArray[np.float64]]:
    return torch_fidelity.metric_fid.fid_features_to_statistics(torch.from_numpy(features))


def test_frechet_distance_is_the_published_value_of_adm_torch_fidelity_and_dgm_eval() -> None:
    a, b = _fidelity_moments(FAKE), _fidelity_moments(REAL)
    assert frechet_distance(a["mu"], a["sigma"], b["mu"], b["sigma"]) == pytest.approx(0.68386213890725, abs=1e-8)
    # they subtract the means in float32 unless given float64
    a["mu"], b["mu"] = a["mu"].astype(np.float64), b["mu"].astype(np.float64)
    theirs = torch_fidelity.metric_fid.fid_statistics_to_metric(a, b, False)["frechet_inception_distance"]
    assert frechet_distance(a["mu"], a["sigma"], b["mu"], b["sigma"]) == pytest.approx(theirs, abs=1e-12)


def test_frechet_of_features_differs_from_the_published_value_by_its_float32_means_alone() -> None:
    # their means are summed in float32 over 2000 rows, ours in float64
    assert frechet(FAKE, REAL).value == pytest.approx(0.68386213890725, abs=2e-7)


@pytest.mark.parametrize("rank", [40, 25, 6])
def test_frechet_distance_against_scipy_sqrtm(rank: int) -> None:
    draw = np.random.default_rng(rank)
    factor1, factor2 = draw.normal(size=(40, rank)), draw.normal(size=(40, 40))
    sigma1, sigma2 = factor1 @ factor1.T, factor2 @ factor2.T
    mu1, mu2 = draw.normal(size=40), draw.normal(size=40)
    root = scipy.linalg.sqrtm(sigma1 @ sigma2)
    expected = ((mu1 - mu2) ** 2).sum() + np.trace(sigma1 + sigma2 - 2 * np.real(root))
    # sqrtm of a singular product is itself good to about 1e-6 only
    assert frechet_distance(mu1, sigma1, mu2, sigma2) == pytest.approx(expected, rel=1e-10 if rank == 40 else 1e-5)


def test_frechet_distance_of_a_set_with_itself_is_zero() -> None:
    m = moments(FAKE)
    assert frechet_distance(m.mean, m.covariance, m.mean, m.covariance) == pytest.approx(0, abs=1e-9)
    same = frechet(FAKE[:50], FAKE[:50])  # n < D
    assert same.value == pytest.approx(0, abs=1e-9)
    assert same.value >= 0


@pytest.mark.parametrize(("n", "m"), [(300, 400), (40, 400), (400, 40), (30, 50), (64, 65), (65, 65)])
def test_frechet_of_features_agrees_with_its_moments_at_any_rank(n: int, m: int) -> None:
    a, b = moments(FAKE[:n]), moments(REAL[:m])
    estimate = frechet(FAKE[:n], REAL[:m])
    assert estimate.value == pytest.approx(frechet_distance(a.mean, a.covariance, b.mean, b.covariance), rel=1e-6)
    assert ("rank_deficient" in estimate.flags) == (min(n, m) <= 64)
    assert "small_n" in estimate.flags


@pytest.mark.parametrize(("n", "m", "dimension"), [(60, 80, 4), (24, 40, 60)])
def test_frechet_interval_is_that_of_the_numerical_derivative(n: int, m: int, dimension: int) -> None:
    x, y = FAKE[:n, :dimension].astype(np.float64), REAL[:m, :dimension].astype(np.float64)
    of_x, of_y = _derivatives(x, y), _derivatives(y, x)
    fixed, both = frechet(x, y), frechet(x, y, reference_fixed=False)
    assert _error(fixed) == pytest.approx(np.std(of_x, ddof=1) / np.sqrt(n), rel=1e-3)
    variance = np.var(of_x, ddof=1) / n + np.var(of_y, ddof=1) / m
    assert _error(both) == pytest.approx(np.sqrt(variance), rel=1e-3)


def _derivatives(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of the distance by the weight of each row of x, by central differences."""
    n, of_y = len(x), moments(y)

    def distance(weights: NDArray[np.float64]) -> float:
        mean = weights @ x
        covariance = (x - mean).T @ ((x - mean) * weights[:, None]) * n / (n - 1)
        return frechet_distance(mean, covariance, of_y.mean, of_y.covariance)

    step, even = 1e-4 / n, np.full(n, 1 / n)
    towards = np.eye(n) - 1 / n
    return np.array([(distance(even + step * t) - distance(even - step * t)) / (2 * step) for t in towards])


def _error(estimate: Estimate) -> float:
    assert estimate.low is not None
    assert estimate.high is not None
    return (estimate.high - estimate.low) / 2 / 1.959963984540054


Metric = Callable[..., Estimate]


@pytest.mark.parametrize("reference_fixed", [True, False])
@pytest.mark.parametrize(
    ("metric", "n", "m", "dimension", "shift"),
    [
        (frechet, 200, 300, 8, 0.1),
        (frechet, 40, 60, 64, 0.02),  # rank-deficient: conservative
        (kid, 60, 90, 8, 0.2),
        (kid, 60, 90, 8, 0.0),  # the distributions agree: only the quadratic term is left
    ],
)
def test_intervals_cover_the_mean_of_many_draws(
    metric: Metric, n: int, m: int, dimension: int, shift: float, reference_fixed: bool
) -> None:
    draw = np.random.default_rng(7)
    reference = draw.normal(size=(m, dimension))
    estimates = []
    for _ in range(150):
        if not reference_fixed:
            reference = draw.normal(size=(m, dimension))
        estimates.append(metric(draw.normal(size=(n, dimension)) + shift, reference, reference_fixed=reference_fixed))
    values = np.array([estimate.value for estimate in estimates])
    covered = np.mean([e.low <= values.mean() <= e.high for e in estimates])  # type: ignore[operator]
    # 150 draws of a 95 % interval fall below 0.88 with probability 1e-3
    assert covered >= 0.88
    ratio = np.mean([_error(estimate) for estimate in estimates]) / values.std()
    assert 0.8 < ratio < 2.0  # and not by being far too wide


@pytest.mark.parametrize(
    ("options", "mean", "spread"),
    [
        ({"seed": 2020}, 0.0095111346244812, 0.0011789346957711),  # torch-fidelity
        ({"seed": 0}, 0.009594601579010487, None),  # clean-fid
        ({"seed": 0, "reference_first": True}, 0.009502995014190673, 1.4332300320063e-06**0.5),  # dgm-eval
    ],
    ids=["torch-fidelity", "clean-fid", "dgm-eval"],
)
def test_kid_over_subsets_is_the_published_value(options: dict[str, int], mean: float, spread: float | None) -> None:
    estimate = kid_subsets(FAKE, REAL, **options)  # type: ignore[arg-type]
    # float32: rounding of kernel means around 1, in whatever order a BLAS sums them
    assert estimate.value == pytest.approx(mean, abs=1e-7)
    if spread is not None:
        assert estimate.high is not None
        assert estimate.high - mean == pytest.approx(spread, abs=1e-7)


def test_kid_over_subsets_equals_torch_fidelity_run_here() -> None:
    theirs = torch_fidelity.metric_kid.kid_features_to_metric(
        torch.from_numpy(FAKE),
        torch.from_numpy(REAL),
        kid_subsets=20,
        kid_subset_size=500,
        kid_kernel="poly",
        kid_kernel_poly_degree=3,
        kid_kernel_poly_gamma=None,
        kid_kernel_poly_coef0=1,
        rng_seed=2020,
        verbose=False,
    )
    ours = kid_subsets(FAKE, REAL, subsets=20, size=500)
    assert ours.value == pytest.approx(theirs["kernel_inception_distance_mean"], abs=1e-7)
    assert ours.high is not None
    assert ours.value is not None
    assert ours.high - ours.value == pytest.approx(theirs["kernel_inception_distance_std"], abs=1e-7)


def test_kid_over_all_pairs_is_the_u_statistic() -> None:
    x, y = FAKE[:20, :5].astype(np.float64), REAL[:30, :5].astype(np.float64)

    def k(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
        return float((a @ b / 5 + 1) ** 3)

    xx = np.mean([k(x[i], x[j]) for i in range(20) for j in range(20) if i != j])
    yy = np.mean([k(y[i], y[j]) for i in range(30) for j in range(30) if i != j])
    xy = np.mean([k(a, b) for a in x for b in y])
    assert kid(x, y).value == pytest.approx(xx + yy - 2 * xy, rel=1e-10)


def test_kid_over_all_pairs_is_what_subsets_estimate() -> None:
    everything, subsets = kid(FAKE, REAL), kid_subsets(FAKE, REAL)
    # the mean of 100 overlapping subsets scatters by at most their own standard error
    assert subsets.value == pytest.approx(everything.value, abs=3 * 0.00118 / 10)


def test_kid_does_not_depend_on_how_rows_are_chunked(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = kid(FAKE[:300], REAL[:200])
    monkeypatch.setattr("arbench.metrics.distribution.CHUNK", 77)
    parts = kid(FAKE[:300], REAL[:200])
    assert parts.value == pytest.approx(whole.value, rel=1e-12)
    assert _error(parts) == pytest.approx(_error(whole), rel=1e-9)


def test_precision_and_recall_are_the_published_values_and_torch_fidelitys() -> None:
    ours = precision_recall(FAKE, REAL, k=3)
    assert ours.precision.value == pytest.approx(0.54, abs=1e-12)
    assert ours.recall.value == pytest.approx(0.7435, abs=1e-12)
    theirs = torch_fidelity.metric_prc.prc_features_to_metric(
        torch.from_numpy(FAKE), torch.from_numpy(REAL), prc_neighborhood=3, prc_batch_size=10000, verbose=False
    )
    assert ours.precision.value == pytest.approx(theirs["precision"], abs=1e-6)
    assert ours.recall.value == pytest.approx(theirs["recall"], abs=1e-6)
    assert ours.precision.n == 1500
    assert ours.recall.n == 2000
    assert "balls fixed" in ours.precision.method


@pytest.mark.parametrize("k", [1, 5])
def test_precision_and_recall_by_brute_force(k: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("arbench.metrics.distribution.CHUNK", 37)
    x, y = FAKE[:120, :6].astype(np.float64), REAL[:90, :6].astype(np.float64)

    def radii(points: NDArray[np.float64]) -> NDArray[np.float64]:
        distances = cdist(points, points)
        np.fill_diagonal(distances, np.inf)
        return np.sort(distances, axis=1)[:, k - 1]

    between = cdist(x, y)
    ours = precision_recall(x, y, k)
    # a point exactly on an edge in float64 may fall off it in float32: allow for one
    assert ours.precision.value == pytest.approx((between <= radii(y)).any(1).mean(), abs=1.01 / 120)
    assert ours.recall.value == pytest.approx((between <= radii(x)[:, None]).any(0).mean(), abs=1.01 / 90)


def test_a_set_covers_itself() -> None:
    ours = precision_recall(FAKE[:100], FAKE[:100])
    assert (ours.precision.value, ours.recall.value) == (1.0, 1.0)


@pytest.mark.parametrize("metric", [frechet, kid, lambda x, y: precision_recall(x, y).precision])
def test_too_few_or_broken_features_give_no_value_and_the_reason(metric: Metric) -> None:
    few = metric(FAKE[: MINIMUM - 1], REAL)
    assert few.value is None
    assert few.low is None
    assert few.reason == f"{MINIMUM - 1} samples, at least {MINIMUM} are needed"
    assert "reference images" in metric(FAKE, REAL[:3]).reason
    assert metric(FAKE[:MINIMUM], REAL[:MINIMUM]).value is not None
    broken = FAKE[:50].copy()
    broken[3, 3] = np.nan
    assert metric(broken, REAL[:50]).reason == "features of the samples are not finite"
    with pytest.raises(InputError, match="different length"):
        metric(FAKE[:, :60], REAL)


def test_subsets_larger_than_the_set_give_no_value() -> None:
    assert "a subset takes 1000" in kid_subsets(FAKE[:900], REAL).reason


def test_moments_are_numpys() -> None:
    m = moments(FAKE)
    np.testing.assert_allclose(m.mean, FAKE.astype(np.float64).mean(0), rtol=1e-13)
    np.testing.assert_allclose(m.covariance, np.cov(FAKE.astype(np.float64), rowvar=False), rtol=1e-9, atol=1e-15)
    with pytest.raises(InputError):
        moments(FAKE[:1])
