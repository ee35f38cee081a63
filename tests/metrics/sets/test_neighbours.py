"""Neighbour metrics against prdc, torch-fidelity, scikit-learn, brute force and the published vectors."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import numpy as np
import prdc
import pytest
import torch
import torch_fidelity.metric_prc
from numpy.typing import NDArray
from scipy.spatial.distance import cdist
from sklearn.neighbors import NearestNeighbors

from arbench.errors import InputError
from arbench.metrics.sets import neighbour_passes
from arbench.metrics.sets.moments import MINIMUM
from arbench.metrics.sets.neighbours import Neighbours, precision_recall, radii

pytestmark = pytest.mark.numerical

Array = NDArray[Any]
torch.set_num_threads(1)
_DRAW = np.random.RandomState(0)
REAL = _DRAW.gamma(0.5, 0.8, (2000, 64)).astype(np.float32)
FAKE = _DRAW.gamma(0.55, 0.8, (1500, 64)).astype(np.float32)
EUCLIDEAN = ("float32", "cdist", "float64")


def _prdc(real: Array, fake: Array, k: int) -> dict[str, float]:
    return {name: float(value) for name, value in prdc.compute_prdc(real, fake, k).items()}


def _ours(fake: Array, real: Array, k: int, distance: Any = "float32") -> dict[str, float]:
    found = Neighbours(fake, real, (k,), distance=distance)
    both, other = found.precision_recall(k, "<"), found.density_coverage(k)
    values = {"precision": both.precision, "recall": both.recall, "density": other.density, "coverage": other.coverage}
    return {name: cast("float", estimate.value) for name, estimate in values.items()}


def _fidelity(fake: Array, real: Array, k: int) -> tuple[float, float]:
    theirs = torch_fidelity.metric_prc.prc_features_to_metric(
        torch.from_numpy(fake), torch.from_numpy(real), prc_neighborhood=k, prc_batch_size=10000, verbose=False
    )
    return theirs["precision"], theirs["recall"]


@pytest.mark.parametrize("distance", EUCLIDEAN)
def test_published_values_of_prdc_dgm_eval_and_torch_fidelity(distance: Any) -> None:
    found = Neighbours(FAKE, REAL, distance=distance)
    closed = found.precision_recall(3)
    assert (closed.precision.value, closed.recall.value) == (0.54, 0.7435)
    for k, expected in ((3, (0.54, 0.7435, 0.6842222, 0.7)), (5, (0.6366667, 0.815, 0.6905333, 0.8575))):
        opened, other = found.precision_recall(k, "<"), found.density_coverage(k)
        values = (opened.precision.value, opened.recall.value, other.density.value, other.coverage.value)
        assert values == pytest.approx(expected, abs=5e-8)  # the digits that are published
    assert found.auth_pct().value == pytest.approx(91.1333313, abs=3e-6)  # theirs is a float32 mean


def test_published_values_of_adm() -> None:
    found = Neighbours(FAKE, REAL, (3,), distance="adm").precision_recall(3)
    assert found.precision.value == pytest.approx(0.5406667, abs=5e-8)
    assert found.recall.value == pytest.approx(0.7440, abs=1e-12)


def test_adm_adds_float16_in_the_order_of_tensorflow() -> None:
    """What TensorFlow 2.21's reduce_sum gave: beside 2048 a lone 1 is lost, two that meet first are not."""

    def with_ones(length: int, *places: int) -> Array:
        row = np.zeros(length, np.float16)
        row[0] = 2048
        row[list(places)] = 1
        return row

    wide = [((8, 16), 2048), ((8, 40), 2050), ((16, 48), 2050), ((32, 8), 2048), ((1, 2), 2050), ((8, 1), 2048)]
    for places, expected in wide:
        values = torch.from_numpy(with_ones(64, *places))[None]
        assert float(neighbour_passes._sum_of_halves(values)) == expected
    long = [((8, 40), 2050), ((32, 64), 2048), ((1024, 2040), 2050), ((8, 1024), 2048), ((1016, 1000), 2050 - 2)]
    for places, expected in long:
        values = torch.from_numpy(with_ones(2048, *places))[None]
        assert float(neighbour_passes._sum_of_halves(values)) == expected


def test_adm_redoes_a_block_that_overflows_in_float32() -> None:
    x, y = FAKE[:60].copy(), REAL[:80].copy()
    scale = np.float32(60.0)  # squared norms near 150 000, past float16's 65 504
    ours = Neighbours(x * scale, y * scale, (3,), distance="adm").precision_recall(3)
    plain = Neighbours(x, y, (3,), distance="float64").precision_recall(3)
    assert (ours.precision.value, ours.recall.value) == (plain.precision.value, plain.recall.value)


@pytest.mark.parametrize("k", [1, 5])
@pytest.mark.parametrize("distance", EUCLIDEAN)
def test_equal_to_prdc_on_random_data(k: int, distance: Any) -> None:
    draw = np.random.default_rng(k)
    real, fake = (draw.normal(size=(n, 12)).astype(np.float32) for n in (333, 271))
    # the pairs closest to an edge are 1e-6 apart here, so float32 decides no pair otherwise
    assert _ours(fake, real, k, distance) == pytest.approx(_prdc(real, fake, k), abs=1e-12)


def test_copies_within_and_between_the_sets_count_as_in_prdc() -> None:
    draw = np.random.default_rng(3)
    real = draw.integers(-9, 9, (200, 5)).astype(np.float32)
    fake = draw.integers(-9, 9, (150, 5)).astype(np.float32)
    real[150:] = real[:50]  # twice
    real[:5] = real[60]  # more copies than k: balls of radius 0
    fake[:80] = real[:80]
    for distance in ("float32", "float64"):
        for k in (1, 3, 5):
            # whole numbers: every distance is exact in scikit-learn as well, and ties are many
            assert _ours(fake, real, k, distance) == pytest.approx(_prdc(real, fake, k), abs=1e-12)


def test_copies_count_as_in_torch_fidelity() -> None:
    draw = np.random.default_rng(4)
    real, fake = (draw.integers(-9, 9, (n, 5)).astype(np.float32) for n in (200, 150))
    real[150:], fake[:80] = real[:50], real[:80]
    for distance in EUCLIDEAN:
        ours = Neighbours(fake, real, (3,), distance=cast("Any", distance)).precision_recall(3)
        assert (ours.precision.value, ours.recall.value) == pytest.approx(_fidelity(fake, real, 3), abs=1e-6)


@pytest.mark.parametrize("n", [20, 700, 1700])
@pytest.mark.parametrize("distance", ["float32", "cdist", "float64", "adm"])
def test_a_set_covers_itself(n: int, distance: Any) -> None:
    found = Neighbours(FAKE[:n], FAKE[:n].copy(), (3,), distance=distance)
    both = found.precision_recall(3)
    assert (both.precision.value, both.recall.value) == (1.0, 1.0)
    if distance != "adm":  # float16 has ties beyond count
        other = found.density_coverage(3)
        # open balls hold the point itself and k - 1 others: as in prdc, exactly, through blocks of every shape
        assert (other.density.value, other.coverage.value) == (1.0, 1.0)
    assert found.auth_pct().value == 0.0


def test_nearly_constant_features_keep_their_digits() -> None:
    """Features of an untrained network: 1e-3 apart at a distance of 40 from the origin."""
    draw = np.random.default_rng(0)
    far = np.float32(5) + 1e-4 * draw.normal(size=(500, 64)).astype(np.float32)
    real, fake = far[:300], far[300:]
    exact = _prdc(real.astype(np.float64) - 5, fake.astype(np.float64) - 5, 3)
    assert _ours(fake, real, 3, "float32") == pytest.approx(exact, abs=1e-12)
    theirs = _fidelity(fake, real, 3)  # noise decides, the same noise
    ours = precision_recall(fake, real, 3)
    assert (ours.precision.value, ours.recall.value) == pytest.approx(theirs, abs=1e-6)


def test_collapsed_samples_are_all_copies() -> None:
    fake = np.repeat(REAL[:1], 400, axis=0)
    values = _ours(fake, REAL[:300], 3)
    assert values == pytest.approx(_prdc(REAL[:300], fake, 3), abs=1e-12)
    assert values["precision"] == 1.0
    closed = Neighbours(fake, REAL[:300], (3,)).precision_recall(3)
    assert closed.recall.value == 1 / 300


@pytest.mark.parametrize("distance", EUCLIDEAN)
def test_radii_are_scikit_learns_and_can_be_stored(distance: Any, tmp_path: Path) -> None:
    stored = radii(REAL, (3, 5), distance=distance)
    assert sorted(stored) == [1, 3, 5]
    exact = NearestNeighbors().fit(REAL.astype(np.float64)).kneighbors(n_neighbors=5)[0]
    for k, values in stored.items():
        np.testing.assert_allclose(values, exact[:, k - 1], rtol=1e-5)  # float32, |x|^2 at most 100 times d^2
    np.savez(tmp_path / "radii.npz", **{str(k): values for k, values in stored.items()})
    with np.load(tmp_path / "radii.npz") as file:
        loaded = {int(k): file[k] for k in file.files}
    fresh, cached = (
        Neighbours(FAKE, REAL, distance=distance),
        Neighbours(FAKE, REAL, distance=distance, reference_radii=loaded),
    )
    assert fresh.precision_recall(3) == cached.precision_recall(3)
    assert fresh.density_coverage(5) == cached.density_coverage(5)
    assert fresh.auth_pct() == cached.auth_pct()
    with pytest.raises(InputError, match="do not fit"):
        Neighbours(FAKE, REAL[:100], distance=distance, reference_radii=loaded)
    with pytest.raises(InputError, match="k = 4"):
        Neighbours(FAKE, REAL, (4,), distance=distance, reference_radii=loaded)


def test_radii_need_more_rows_than_k() -> None:
    with pytest.raises(InputError, match="k = 5"):
        radii(REAL[:5], (5,))
    with pytest.raises(InputError, match="k = 0"):
        radii(REAL, (0,))


def test_every_k_by_brute_force() -> None:
    x, y = FAKE[:120, :6].astype(np.float64), REAL[:90, :6].astype(np.float64)

    def balls(points: Array, k: int) -> Array:
        return np.asarray(np.sort(cdist(points, points), axis=1)[:, k])

    between = cdist(x, y)
    found = Neighbours(x, y, (2, 3, 7), distance="float64")
    for k in (2, 3, 7):
        both, other = found.precision_recall(k), found.density_coverage(k)
        assert both.precision.value == (between <= balls(y, k)).any(1).mean()
        assert both.recall.value == (between <= balls(x, k)[:, None]).any(0).mean()
        assert other.density.value == pytest.approx((between < balls(y, k)).sum(1).mean() / k, rel=1e-12)
        assert other.coverage.value == (between.min(0) < balls(y, k)).mean()
    authentic = balls(y, 1)[between.argmin(1)] < between.min(1)
    assert found.auth_pct().value == pytest.approx(100 * authentic.mean(), rel=1e-12)


@pytest.mark.parametrize("distance", ["float32", "float64", "adm"])
def test_the_size_of_blocks_changes_nothing(distance: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = FAKE[:900], REAL[:1100]

    def everything() -> list[object]:
        found = Neighbours(x, y, distance=distance)
        return [found.precision_recall(3), found.precision_recall(5, "<"), found.density_coverage(5), found.auth_pct()]

    whole = everything()
    monkeypatch.setattr(neighbour_passes, "BLOCK", 256)
    monkeypatch.setattr(neighbour_passes, "SMALLEST", 256)
    monkeypatch.setattr(neighbour_passes, "LITERAL_BLOCK", 200)
    assert everything() == whole  # intervals included


def test_rows_on_disk_are_read_a_block_at_a_time(tmp_path: Path) -> None:
    many = np.concatenate([FAKE, REAL, REAL + 0.01])[:, :8]
    np.save(tmp_path / "x.npy", many)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    largest = 0

    class Watched:
        shape = mapped.shape

        def __len__(self) -> int:
            return len(mapped)

        def __getitem__(self, index: Any) -> Array:
            nonlocal largest
            rows = np.asarray(mapped[index])
            largest = max(largest, len(rows))
            return rows

    streamed, held = (Neighbours(rows, REAL[:500, :8]) for rows in (Watched(), many))
    assert streamed.precision_recall(3) == held.precision_recall(3)
    assert 0 < largest <= 2500 < len(many)


@pytest.mark.parametrize("held", [neighbour_passes.HELD, 0])
def test_cdists_blocks_are_torchs_to_the_bit(held: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbour_passes, "HELD", held)
    x, y = (neighbour_passes.Points(rows, "cdist", "cpu") for rows in (FAKE, REAL))
    pairs = list(neighbour_passes.across(y, x))
    assert len(pairs) == 4  # 1250 rows a block
    for rows, columns, distances in pairs:
        direct = torch.cdist(torch.from_numpy(REAL[rows.rows]), torch.from_numpy(FAKE[columns.rows]))
        assert torch.equal(distances, direct)
    assert (x.block(0) is x.block(0)) == (held > 0)


def test_the_smallest_of_a_row_are_those_of_a_full_sort() -> None:
    values = torch.from_numpy(np.random.default_rng(0).integers(0, 400, (50, 1003)).astype(np.float32))
    small, where = neighbour_passes.smallest(values, 20)
    assert torch.equal(small, values.sort(1).values[:, :20])
    assert torch.equal(values.gather(1, where), small)
    assert all(len(set(row)) == 20 for row in where.tolist())
    low, row = neighbour_passes.least(values)
    assert torch.equal(low, values.amin(0))
    assert torch.equal(values.gather(0, row[None])[0], low)


def test_intervals_name_their_method_and_stay_in_range() -> None:
    found = Neighbours(FAKE, REAL)
    both, other, authentic = found.precision_recall(3), found.density_coverage(5), found.auth_pct()
    methods = [e.method for e in (both.precision, both.recall, other.density, other.coverage, authentic)]
    assert methods == [
        "wilson, reference fixed",
        "delete-a-third jackknife, not below wilson, reference fixed",
        "t, reference fixed",
        "delete-a-third jackknife, not below wilson, reference fixed",
        "wilson, reference fixed",
    ]
    assert (both.precision.n, both.recall.n, other.density.n, other.coverage.n, authentic.n) == (
        1500, 2000, 1500, 2000, 1500,
    )  # fmt: skip
    for estimate in (both.precision, both.recall, other.density, other.coverage):
        assert estimate.low is not None
        assert estimate.high is not None
        assert 0 <= estimate.low < cast("float", estimate.value) < estimate.high
    full = Neighbours(FAKE[:100], FAKE[:100], (40,)).precision_recall(40).recall  # balls that hold nearly everything
    assert full.high == 1.0
    assert full.low == pytest.approx(0.963, abs=1e-3)  # Wilson's lower limit at 100 of 100, not a width of 0


def test_recall_varies_from_draw_to_draw_as_its_interval_says() -> None:
    draw = np.random.default_rng(1)
    y = draw.normal(size=(400, 4))
    found = [Neighbours(draw.normal(size=(200, 4)) * 0.8 + 0.2, y, (3,)) for _ in range(60)]
    for estimates in (
        [one.precision_recall(3).recall for one in found],
        [one.density_coverage(3).coverage for one in found],
        [one.density_coverage(3).density for one in found],
    ):
        values = np.array([cast("float", one.value) for one in estimates])
        widths = np.array([cast("float", one.high) - cast("float", one.low) for one in estimates])
        # 60 draws know their own standard deviation to 9 %; the intervals may be 35 % too wide, not too narrow
        assert 0.8 < widths.mean() / (2 * 1.96 * values.std(ddof=1)) < 1.6


def test_too_few_or_broken_features_give_no_value_and_the_reason() -> None:
    few = precision_recall(FAKE[: MINIMUM - 1], REAL)
    assert few.precision.value is None
    assert few.precision.low is None
    assert few.recall.reason == f"{MINIMUM - 1} samples, at least {MINIMUM} are needed"
    assert "reference images" in precision_recall(FAKE, REAL[:3]).recall.reason
    assert precision_recall(FAKE[:MINIMUM], REAL[:MINIMUM]).precision.value is not None
    found = Neighbours(FAKE[:20], REAL[:20], (3, 20))
    assert found.precision_recall(3).recall.value is not None
    assert found.density_coverage(20).coverage.reason == "20 samples, at least 22 are needed"
    broken = FAKE[:50].copy()
    broken[3, 3] = np.nan
    spoilt = Neighbours(broken, REAL[:50])
    for estimate in (spoilt.precision_recall(3).recall, spoilt.density_coverage(5).density, spoilt.auth_pct()):
        assert estimate.value is None
        assert estimate.reason == "features of the samples are not finite"
    assert "reference" in Neighbours(REAL[:50], broken).auth_pct().reason


def test_wrong_requests_are_errors() -> None:
    with pytest.raises(InputError, match="different length"):
        Neighbours(FAKE[:, :60], REAL)
    with pytest.raises(InputError, match="one vector per image"):
        Neighbours(FAKE[0], REAL)
    with pytest.raises(InputError, match="no distance"):
        Neighbours(FAKE, REAL, distance=cast("Any", "euclid")).auth_pct()
    with pytest.raises(InputError, match="announced"):
        Neighbours(FAKE, REAL, (3,)).density_coverage(5)
    with pytest.raises(InputError, match="no test"):
        Neighbours(FAKE, REAL).precision_recall(3, cast("Any", "=="))
    with pytest.raises(InputError, match="at least 1"):
        Neighbours(FAKE, REAL, (0,))


@pytest.mark.parametrize("distance", ["float32", "cdist", "adm"])
@pytest.mark.parametrize("k", [3, 5])
def test_realism_is_equation_3_of_the_paper(k: int, distance: Any) -> None:
    """By scikit-learn's neighbours and SciPy's distances, all in float64."""
    draw = np.random.RandomState(0)
    real, fake = draw.randn(91, 12).astype(np.float32), (1.2 * draw.randn(60, 12)).astype(np.float32)
    radius = NearestNeighbors(n_neighbors=k + 1).fit(real.astype(np.float64)).kneighbors()[0][:, k - 1]
    small = radius <= np.median(radius)
    expected = (radius[small] / cdist(fake, real[small])).max(1)
    values, mean = Neighbours(fake, real, (k,), distance=distance).realism(k)
    np.testing.assert_allclose(values, expected, rtol=5e-3 if distance == "adm" else 1e-4)
    assert mean.value == pytest.approx(values.mean())
    assert mean.low is not None
    assert mean.high is not None
    assert mean.low < values.mean() < mean.high
    assert (values >= 1).sum() <= _ours(fake, real, k, distance)["precision"] * 60 + 1e-6


def test_realism_of_a_copy_is_infinite_and_its_mean_null() -> None:
    draw = np.random.RandomState(1)
    real, fake = draw.randn(40, 8), draw.randn(30, 8)
    fake[4] = real[int(np.argmin(radii(real, (3,))[3]))]
    values, mean = Neighbours(fake, real, (3,), distance="cdist").realism(3)
    assert np.flatnonzero(np.isinf(values)).tolist() == [4]
    assert (mean.value, mean.reason) == (None, "1 of 30 values are not finite")


def test_realism_needs_k_and_two_neighbours() -> None:
    values, mean = Neighbours(np.zeros((4, 3)), np.ones((9, 3)), (3,)).realism(3)
    assert np.isnan(values).all()
    assert mean.value is None
    assert "at least" in mean.reason
