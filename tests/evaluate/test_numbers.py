"""Numbers of conventions from vectors in memory: what a tool rounds, and of how many vectors it takes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import prdc
import pytest
from numpy.typing import NDArray

from arbench.evaluate import numbers as estimators
from arbench.evaluate.conventions import conventions
from arbench.evaluate.inputs import Inputs
from arbench.evaluate.known_reference import KnownReference
from arbench.spec.result import Metric

pytestmark = pytest.mark.numerical

DRAW = np.random.RandomState(0)
REAL = DRAW.gamma(0.5, 0.8, (240, 16)).astype(np.float32)
FAKE = DRAW.gamma(0.55, 0.8, (180, 16)).astype(np.float32)


class Held:
    """A set of features in memory."""

    labels = None

    def __init__(self, vectors: NDArray[np.float32]) -> None:
        self.vectors = vectors
        self.outputs: dict[str, Any] = {}

    def rows(self, output: str) -> NDArray[np.float32]:
        return self.vectors


def numbers(convention: str, recipe: str, limit: int | None = None) -> dict[str, Metric]:
    chosen = conventions()[convention].definitions
    if limit is not None:
        chosen = tuple(
            replace(each, settings={**each.settings, "limit": limit}) if "limit" in each.settings else each
            for each in chosen
        )
    reference = KnownReference("memory", {recipe: Held(REAL)})  # type: ignore[dict-item]
    inputs = Inputs({recipe: Held(FAKE)}, reference, {}, ks=(5,))  # type: ignore[dict-item]
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
    # the interval goes with the value
    assert (interval.low + interval.high) / 2 == pytest.approx(value, rel=1e-9)
