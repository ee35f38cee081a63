"""Numbers of conventions from vectors in memory: what a tool rounds, and of how many vectors it takes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import prdc
import pytest
import scipy.linalg
import torch
import torchmetrics.image.mifid
from numpy.typing import NDArray

from arbench.evaluate import numbers as estimators
from arbench.evaluate.built_in_conventions import BUILT_IN
from arbench.evaluate.conventions import conventions
from arbench.evaluate.inputs import Inputs, Unavailable
from arbench.evaluate.known_reference import KnownReference
from arbench.evaluate.numbers import prompts_of
from arbench.features.feature_set import PictureRecord
from arbench.metrics.sets.device_kernel import DeviceSums
from arbench.metrics.sets.diversity import vendi
from arbench.metrics.sets.kernel import cmmd
from arbench.spec.result import Metric

pytestmark = pytest.mark.numerical

DRAW = np.random.RandomState(0)
REAL = DRAW.gamma(0.5, 0.8, (240, 16)).astype(np.float32)
FAKE = DRAW.gamma(0.55, 0.8, (180, 16)).astype(np.float32)


class Held:
    """A set of features in memory."""

    labels, pictures = None, ()

    def __init__(self, vectors: NDArray[np.float32]) -> None:
        self.vectors = vectors
        self.outputs: dict[str, Any] = {}

    def rows(self, output: str) -> NDArray[np.float32]:
        return self.vectors


def numbers(
    convention: str,
    recipe: str,
    limit: int | None = None,
    fake: NDArray[np.float32] = FAKE,
    real: NDArray[np.float32] = REAL,
    only: tuple[str, ...] = (),
    subset_size: int | None = None,
) -> dict[str, Metric]:
    chosen = tuple(each for each in conventions()[convention].definitions if not only or each.metric in only)
    if limit is not None:
        chosen = tuple(
            replace(each, settings={**each.settings, "limit": limit}) if "limit" in each.settings else each
            for each in chosen
        )
    reference = KnownReference("memory", {recipe: Held(real)})  # type: ignore[dict-item]
    inputs = Inputs({recipe: Held(fake)}, reference, {}, ks=(5,), subset_size=subset_size)  # type: ignore[dict-item]
    return {metric.name: metric for metric in estimators.numbers(chosen, inputs)}


@pytest.mark.parametrize(("limit", "size"), [(100, 100), (10_000, 180)])
def test_dgm_evals_neighbours_take_as_many_of_each_side_and_no_more_than_its_limit(limit: int, size: int) -> None:
    found = numbers("dgm-eval", "dinov2/dgm", limit)
    draw = np.random.RandomState(0)
    real, fake = (rows[draw.choice(len(rows), size, replace=False)] for rows in (REAL, FAKE))
    for name, value in prdc.compute_prdc(real, fake, 5).items():
        assert found[name].value == pytest.approx(value, abs=1e-9)
        assert f"limit {limit}" in found[name].how
    assert found["auth-pct"].n == 180


@pytest.mark.parametrize(
    ("convention", "recipe", "name"), [("dgm-eval", "dinov2/dgm", "vendi"), ("cmmd", "clip-l14-336/cmmd", "cmmd")]
)
def test_a_tools_float32_number_has_the_exact_one_beside_it(convention: str, recipe: str, name: str) -> None:
    metric = numbers(convention, recipe)[name]
    value, exact, interval = metric.value, metric.extras["exact"], metric.interval
    assert value is not None
    assert interval is not None
    assert 0 < abs(value - exact) < 5e-4
    # the interval goes with the value: it is that of the exact one, moved
    estimate = {"vendi": lambda: vendi(FAKE), "cmmd": lambda: cmmd(FAKE, REAL)}[name]()
    assert estimate.value == pytest.approx(exact, rel=1e-12)
    for limit, own in ((interval.low, estimate.low), (interval.high, estimate.high)):
        assert own is not None
        assert limit - value == pytest.approx(own - exact, rel=1e-6)


@pytest.mark.parametrize(
    ("convention", "recipe", "flags"),
    [("torch-fidelity-2048", "inception/tf1", ("exact",)), ("dgm-eval", "dinov2/dgm", ())],
)
def test_a_devices_sums_under_a_tools_name_are_flagged_where_the_tool_rounds(monkeypatch, convention, recipe, flags):
    size = {"subset_size": 100}
    host = numbers(convention, recipe, only=("kid",), **size)["kid"]
    monkeypatch.setattr(estimators, "device_sums", lambda device: DeviceSums(torch.device("cpu")))
    found = numbers(convention, recipe, only=("kid",), **size)["kid"]
    assert (host.flags, found.flags) == ((), flags)
    assert found.value == pytest.approx(host.value, rel=1e-3)


FEW, WIDE = 24, 48
NARROW = DRAW.gamma(0.5, 0.8, (2, FEW, WIDE)).astype(np.float32)
"""Fewer vectors than dimensions on both sides: each tool's own root decides the ninth digit."""


def _scipys(fake: NDArray[np.float64], real: NDArray[np.float64]) -> float:
    """pytorch-fid's function, as ADM, dgm-eval, EDM2, 1d-tokenizer and MaskBit have it where the root is finite."""
    one, two = np.cov(fake, rowvar=False), np.cov(real, rowvar=False)
    root = scipy.linalg.sqrtm(one @ two).real
    return float(((fake.mean(0) - real.mean(0)) ** 2).sum() + np.trace(one) + np.trace(two) - 2 * np.trace(root))


def _eigenvalues(fake: NDArray[np.float64], real: NDArray[np.float64]) -> float:
    """By torchmetrics' own function."""
    sides = [(rows.mean(0), torch.cov(rows.T)) for rows in (torch.from_numpy(real), torch.from_numpy(fake))]
    return float(torchmetrics.image.mifid._compute_fid(*sides[0], *sides[1]))


@pytest.mark.parametrize(
    ("convention", "metric", "tool"),
    [
        ("adm", "fid", _scipys),
        ("adm", "sfid", _scipys),
        ("torch-fidelity", "fid", _eigenvalues),
        ("torch-fidelity-2048", "fid", _eigenvalues),
        ("clean-fid", "fid", _scipys),
        ("clean-fid", "clip-fid", _scipys),
        ("pytorch-fid", "fid", _scipys),
        ("torchmetrics", "fid", _eigenvalues),
        ("torchmetrics", "mifid", _eigenvalues),
        ("edm2", "fid", _scipys),
        ("edm2", "fd-dinov2", _scipys),
        ("dgm-eval", "fd-dinov2", _scipys),
        ("llamagen", "rfid", _scipys),
        ("seed-voken", "rfid", _scipys),
        ("1d-tokenizer", "rfid", _scipys),
        ("maskbit", "rfid", _scipys),
        ("lightningdit", "rfid", _scipys),
    ],
)
def test_with_fewer_images_than_dimensions_a_convention_takes_its_tools_own_root(convention, metric, tool) -> None:
    fake, real = NARROW
    (definition,) = (each for each in conventions()[convention].definitions if each.metric == metric)
    found = numbers(convention, definition.recipe, fake=fake, real=real, only=(metric,))[metric]
    theirs = tool(fake.astype(np.float64), real.astype(np.float64))
    assert found.value == pytest.approx(theirs, rel=5e-9)
    assert "rank_deficient" in found.flags
    if metric != "mifid":  # and the exact distance beside it, which is none of these
        assert 1e-8 < abs(found.extras["exact"] / theirs - 1) < 1e-4


def test_every_distance_of_a_tool_names_its_root() -> None:
    ours = {"arbench", "offline", "offline-pairs"}
    kinds = {"frechet", "frechet-infinity", "mifid"}
    for name, convention in BUILT_IN.items():
        for each in convention.definitions:
            assert (each.kind in kinds and name not in ours) == ("root" in each.settings), (name, each.metric)


def test_dgm_evals_extrapolation_takes_its_root_at_every_size_below_the_dimensions() -> None:
    draw = np.random.RandomState(5)
    fake, real = (draw.gamma(0.5, 0.8, (size, WIDE)).astype(np.float32) for size in (100, 400))
    found = numbers("dgm-eval", "dinov2/dgm", fake=fake, real=real, only=("fd-dinov2-infinity",))["fd-dinov2-infinity"]
    order = np.random.RandomState(0).permutation(100)
    sizes = np.linspace(10, 100, 15).astype(int)
    distances = [_scipys(fake[order[:size]].astype(np.float64), real.astype(np.float64)) for size in sizes]
    assert found.value == pytest.approx(np.polyfit(1 / sizes, distances, 1)[1], rel=1e-7)


@pytest.mark.parametrize(
    ("places", "count", "expected"),
    [
        ([0, 1, 2], 3, [0, 1, 2]),
        ([0, 2, 3], 4, [0, 2, 3]),  # a bad image is left out, and its prompt with it
        ([0, 2, 3], 3, None),  # nobody knows whose prompt is missing
        ([0, 1, 2], 4, None),
        ([0, 1, 2], 2, None),
    ],
)
def test_the_prompt_of_an_image_is_that_at_its_place(places, count, expected):
    pictures = [PictureRecord(place, f"{place}.png", 8, 8, None, "00" * 16) for place in places]
    prompts = [f"prompt {place}" for place in range(count)]
    if expected is None:
        with pytest.raises(Unavailable, match=f"{len(places)} images and {count} prompts"):
            prompts_of(pictures, prompts)
    else:
        assert list(prompts_of(pictures, prompts)) == [f"prompt {place}" for place in expected]
