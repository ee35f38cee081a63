"""Frechet distance against SciPy, torch-fidelity, published vectors and numerical derivatives."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import scipy.linalg
import torch
import torch_fidelity.metric_fid

from arbench.errors import InputError, UsageError
from arbench.metrics.estimate import Estimate
from arbench.metrics.sets.frechet import Jackknife, frechet, frechet_distance, jackknife, roots_of
from arbench.metrics.sets.influence import influence
from arbench.metrics.sets.moments import MINIMUM, Factored, Moments, moments

pytestmark = pytest.mark.numerical

_DRAW = np.random.RandomState(0)
REAL = _DRAW.gamma(0.5, 0.8, (2000, 64)).astype(np.float32)
FAKE = _DRAW.gamma(0.55, 0.8, (1500, 64)).astype(np.float32)
"""The recipe of the published vectors below."""
PUBLISHED = 0.68386213890725


def test_the_recipe_gives_the_published_data() -> None:
    np.testing.assert_allclose(REAL[0, :3], [0.24320151, 0.30261737, 0.14358671], rtol=1e-7)
    assert REAL.astype(np.float64).sum() == pytest.approx(51119.614483965845, rel=1e-14)


def test_the_distance_is_the_published_value_of_adm_torch_fidelity_and_dgm_eval() -> None:
    # their means are float32, added row by row and subtracted in float32; the last digits are the root's
    one, two = moments(FAKE, float32_mean=True), moments(REAL, float32_mean=True)
    assert frechet_distance(one, two) == pytest.approx(PUBLISHED, abs=1e-12)
    assert frechet(FAKE, REAL, float32_mean=True).value == pytest.approx(PUBLISHED, abs=1e-12)
    # with means in float64 it differs in the seventh digit
    assert frechet(FAKE, REAL).value == pytest.approx(PUBLISHED, abs=2e-7)


def test_the_distance_equals_torch_fidelity_run_here() -> None:
    a, b = (torch_fidelity.metric_fid.fid_features_to_statistics(torch.from_numpy(rows)) for rows in (FAKE, REAL))
    theirs = torch_fidelity.metric_fid.fid_statistics_to_metric(a, b, False)["frechet_inception_distance"]
    assert frechet(FAKE, REAL, float32_mean=True).value == pytest.approx(theirs, rel=1e-9)


@pytest.mark.parametrize("rank", [40, 25, 6])
def test_the_distance_against_scipy_sqrtm(rank: int) -> None:
    draw = np.random.default_rng(rank)
    factor1, factor2 = draw.normal(size=(40, rank)), draw.normal(size=(40, 40))
    sigma1, sigma2 = factor1 @ factor1.T, factor2 @ factor2.T
    mu1, mu2 = draw.normal(size=40), draw.normal(size=40)
    root = scipy.linalg.sqrtm(sigma1 @ sigma2)
    expected = ((mu1 - mu2) ** 2).sum() + np.trace(sigma1 + sigma2 - 2 * np.real(root))
    one, two = Moments(mu1, sigma1, 100), Moments(mu2, sigma2, 100)
    # sqrtm of a singular product is itself good to about 1e-6 only
    tolerance = 1e-10 if rank == 40 else 1e-5
    assert frechet_distance(one, two) == pytest.approx(expected, rel=tolerance)
    assert frechet_distance(two, Factored(one)) == pytest.approx(expected, rel=tolerance)


def test_the_distance_of_a_set_to_itself_is_zero() -> None:
    found = moments(FAKE)
    assert frechet_distance(found, found) == pytest.approx(0, abs=1e-9)
    same = frechet(FAKE[:50], FAKE[:50])  # n < D
    assert same.value == pytest.approx(0, abs=1e-9)
    assert same.value >= 0


@pytest.mark.parametrize(("n", "m"), [(300, 400), (40, 400), (400, 40), (30, 50), (64, 65), (65, 65)])
def test_features_and_moments_agree_at_any_rank(n: int, m: int) -> None:
    a, b = moments(FAKE[:n]), moments(REAL[:m])
    estimate = frechet(FAKE[:n], REAL[:m])
    assert estimate.value == pytest.approx(frechet_distance(a, b), rel=1e-6)
    assert ("rank_deficient" in estimate.flags) == (min(n, m) <= 64)
    assert "small_n" in estimate.flags
    known = frechet(FAKE[:n], Factored(b))  # a file of statistics: same value, same interval
    assert known.value == pytest.approx(estimate.value, rel=1e-6)
    assert known.flags == estimate.flags
    if "heavy_tails" not in known.flags:  # one outlier rules the 65 rows
        assert _error(known) == pytest.approx(_error(estimate), rel=1e-4)


def _error(estimate: Estimate) -> float:
    assert estimate.low is not None
    assert estimate.high is not None
    return (estimate.high - estimate.low) / 2 / 1.959963984540054


@pytest.mark.parametrize(
    ("method", "n", "m", "dimension", "reference_fixed"),
    [
        ("delta", 200, 300, 8, True),
        ("delta", 200, 300, 8, False),
        ("delta", 40, 60, 64, True),  # rank-deficient: conservative
        ("delta", 40, 60, 64, False),
        ("jackknife", 200, 300, 8, True),
        ("jackknife", 200, 300, 8, False),
    ],
)
def test_intervals_cover_the_mean_of_many_draws(
    method: str, n: int, m: int, dimension: int, reference_fixed: bool
) -> None:
    draw = np.random.default_rng(7)
    reference = draw.normal(size=(m, dimension))
    estimates = []
    for _ in range(150):
        if not reference_fixed:
            reference = draw.normal(size=(m, dimension))
        samples = draw.normal(size=(n, dimension)) + 0.1
        estimates.append(frechet(samples, reference, method=method, reference_fixed=reference_fixed))
    values = np.array([estimate.value for estimate in estimates])
    covered = np.mean([e.low <= values.mean() <= e.high for e in estimates])  # type: ignore[operator]
    # 150 draws of a 95 % interval fall below 0.88 with probability 1e-3
    assert covered >= 0.88
    ratio = np.mean([_error(estimate) for estimate in estimates]) / values.std()
    assert 0.8 < ratio < 2.0  # and not by being far too wide


@pytest.mark.parametrize("stretch", [1.0, 1.2])
@pytest.mark.parametrize("steep", [0, 1, 2])
def test_the_float32_part_of_large_problems_moves_the_error_alone_and_little(
    steep: int, stretch: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw, scale = np.random.default_rng(3), 1e-9 * np.arange(1, 257.0) ** -(steep / 2)
    turn = np.linalg.qr(draw.normal(size=(256, 256)))[0]
    x, y = (draw.normal(size=(1500, 256)) * scale @ turn * by for by in (stretch, 1.0))
    narrow = frechet(x, y)
    monkeypatch.setattr("arbench.metrics.sets.influence.LARGE", 257)
    wide = frechet(x, y)
    assert narrow.value == pytest.approx(wide.value, rel=1e-10)
    assert _error(narrow) == pytest.approx(_error(wide), rel=5e-3)


@pytest.mark.parametrize("method", ["delta", "jackknife"])
@pytest.mark.parametrize("shift", [0.0, 0.3])
def test_the_error_is_right_where_the_quadratic_part_rules_too(method: str, shift: float) -> None:
    draw = np.random.default_rng(11)
    reference = Factored(Moments(np.zeros(16), np.diag(np.linspace(0.2, 2, 16)), 10**6))
    scale = np.sqrt(np.linspace(0.2, 2, 16))
    estimates = [frechet((draw.normal(size=(400, 16)) + shift) * scale, reference, method=method) for _ in range(300)]
    sd = np.std([estimate.value for estimate in estimates], ddof=1)
    # 300 draws know their standard deviation to 4 %; without the correction the ratio is 1.3 at shift 0
    assert np.mean([_error(estimate) for estimate in estimates]) / sd == pytest.approx(1, abs=0.12)


@pytest.mark.parametrize(("groups", "n"), [(20, 1500), (7, 300), (5, 50)])
def test_the_jackknife_is_the_one_that_recomputes_every_subset(
    groups: int, n: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("arbench.metrics.sets.frechet.overshoot", lambda found: 0.0)  # before its correction
    found = jackknife(FAKE[:n], REAL, groups=groups, seed=3)
    assert isinstance(found, Jackknife)
    parts = np.array_split(np.random.RandomState(3).permutation(n), groups)
    reference = moments(REAL)
    left = [frechet_distance(moments(np.delete(FAKE[:n], part, axis=0)), reference) for part in parts]
    whole = frechet_distance(moments(FAKE[:n]), reference)
    assert found.value == pytest.approx(whole, rel=1e-8)
    roots = roots_of(moments(FAKE[:n]), Factored(reference))
    smoothing = influence(FAKE[:n], moments(FAKE[:n]), Factored(reference), roots).smoothing
    assert found.error == pytest.approx(np.sqrt((groups - 1) * np.var(left) * smoothing), rel=1e-5)
    assert found.bias == pytest.approx((groups - 1) * (np.mean(left) - whole), rel=1e-5)
    assert found.corrected.value == pytest.approx(found.value - found.bias, rel=1e-12)


def test_the_jackknife_takes_away_most_of_the_bias() -> None:
    draw = np.random.default_rng(0)
    reference = Factored(Moments(np.zeros(20), np.eye(20), 10**6))  # and the samples are of the same distribution
    found = [jackknife(draw.normal(size=(400, 20)), reference) for _ in range(10)]
    plain = np.mean([each.value for each in found])  # type: ignore[union-attr]
    corrected = np.mean([each.corrected.value for each in found])  # type: ignore[union-attr]
    assert abs(corrected) < plain / 5


def test_rows_on_disk_give_the_same_and_blocks_do_not_show(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "rows.npy"
    np.save(path, FAKE)
    whole, cut = frechet(FAKE, REAL), jackknife(FAKE, REAL)
    for module in ("rows", "sets.moments", "sets.influence"):
        monkeypatch.setattr(f"arbench.metrics.{module}.BLOCK", 177)
    disk = np.load(path, mmap_mode="r")
    assert frechet(disk, REAL).value == pytest.approx(whole.value, rel=1e-9)
    assert _error(frechet(disk, REAL)) == pytest.approx(_error(whole), rel=1e-9)
    again = jackknife(disk, REAL)
    assert isinstance(again, Jackknife)
    assert isinstance(cut, Jackknife)
    assert again.error == pytest.approx(cut.error, rel=1e-7)


def test_ddof_0_is_stylegans_distance() -> None:
    exact = [rows.astype(np.float64) for rows in (FAKE[:300], REAL[:400])]
    one, two = (Moments(rows.mean(0), np.cov(rows, rowvar=False, ddof=0), len(rows)) for rows in exact)
    assert frechet(FAKE[:300], REAL[:400], ddof=0).value == pytest.approx(frechet_distance(one, two), rel=1e-9)
    assert frechet(FAKE[:30], REAL[:400], ddof=0).value < frechet(FAKE[:30], REAL[:400]).value  # type: ignore[operator]


def test_the_bootstrap_is_refused_with_the_reason() -> None:
    with pytest.raises(UsageError, match="bias of order D / n twice") as caught:
        frechet(FAKE, REAL, method="bootstrap")
    assert "delta" in caught.value.hint
    assert "jackknife" in caught.value.hint
    with pytest.raises(UsageError, match="unknown method"):
        frechet(FAKE, REAL, method="guess")


def test_the_references_own_error_needs_its_features() -> None:
    with pytest.raises(UsageError, match="needs its features"):
        frechet(FAKE, Factored.of(REAL), reference_fixed=False)


def test_too_few_or_broken_features_give_no_value_and_the_reason() -> None:
    few = frechet(FAKE[: MINIMUM - 1], REAL)
    assert (few.value, few.low) == (None, None)
    assert few.reason == f"{MINIMUM - 1} samples, at least {MINIMUM} are needed"
    assert "reference images" in frechet(FAKE, REAL[:1]).reason
    assert frechet(FAKE[:MINIMUM], REAL[:MINIMUM]).value is not None
    broken = FAKE[:50].copy()
    broken[3, 3] = np.nan
    assert frechet(broken, REAL[:50]).reason == "features of the samples are not finite"
    assert frechet(broken, REAL[:50]).value is None
    short = jackknife(broken, REAL[:50])
    assert isinstance(short, Estimate)
    assert "not finite" in short.reason
    broken_reference = REAL.copy()
    broken_reference[3, 3] = np.inf
    assert frechet(FAKE, broken_reference).reason == "features of the reference are not finite"
    with pytest.raises(InputError, match="different length"):
        frechet(FAKE[:, :60], REAL)
