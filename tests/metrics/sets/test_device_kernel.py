"""Kernel sums by torch, as a GPU takes them, against NumPy's, and the distances that they give: on the CPU."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from arbench.evaluate import inputs as shared
from arbench.evaluate.inputs import Inputs
from arbench.evaluate.known_reference import KnownReference
from arbench.metrics.estimate import Estimate
from arbench.metrics.sets import device_kernel
from arbench.metrics.sets.device_kernel import DeviceSums, device_sums, pair_sums
from arbench.metrics.sets.kernel import ON_HOST, Kind, Sums, cmmd, kid
from arbench.metrics.sets.kernel_subsets import SUBSETS, Subsets, kid_subsets

pytestmark = pytest.mark.numerical

ON_TORCH = DeviceSums(torch.device("cpu"))
_DRAW = np.random.RandomState(0)
REAL = _DRAW.gamma(0.5, 0.8, (2000, 64)).astype(np.float32)
FAKE = _DRAW.gamma(0.55, 0.8, (1500, 64)).astype(np.float32)
"""As in test_kernel_subsets: a distance of 0.0095, kernels around 1."""
PRODUCT = 2.0**-24 * 8
"""A product of 64 float32 numbers is off by the square root of 64 roundings, however it is added up."""


def near(found: Sums, expected: Sums, rounding: float) -> None:
    """To `rounding` of each entry of the matrix: signs are random, so that sums and squares are nearer than that."""
    np.testing.assert_allclose(found.rows, expected.rows, rtol=rounding)
    np.testing.assert_allclose(found.columns, expected.columns, rtol=rounding)
    assert found.squares == pytest.approx(expected.squares, rel=rounding)
    # a Gaussian kernel less 1 is 0 there, and its rounding is all there is
    assert found.diagonal == pytest.approx(expected.diagonal, rel=rounding, abs=1e-8 * len(expected.rows))


@pytest.mark.parametrize(("dtype", "rounding"), [(np.float64, 1e-13), (np.float32, PRODUCT), (np.float16, PRODUCT)])
@pytest.mark.parametrize("kind", ["polynomial", "gaussian"])
@pytest.mark.parametrize("block", [77, 250, 300, 2048])
@pytest.mark.parametrize("held", [0, 2**29])
def test_sums_are_those_of_the_host(
    kind: Kind, dtype: type, rounding: float, block: int, held: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device_kernel, "BLOCK", block)
    monkeypatch.setattr(device_kernel, "HELD", held)
    one, two = FAKE[:300].astype(dtype), REAL[:250].astype(dtype)
    rounding *= 10 if kind == "gaussian" else 1  # the product less 1 has fewer digits than the product
    near(ON_TORCH.within(one, kind), ON_HOST.within(one, kind), rounding)
    near(ON_TORCH.across(one, two, kind), ON_HOST.across(one, two, kind), rounding)


def bounds(estimate: Estimate) -> tuple[float, float]:
    assert estimate.low is not None
    assert estimate.high is not None
    return estimate.low, estimate.high


@pytest.mark.parametrize("reference_fixed", [True, False])
@pytest.mark.parametrize(("metric", "scale"), [(kid, 1.0), (cmmd, 1000.0)])
def test_distances_and_intervals_are_those_of_the_host(
    metric: Callable[..., Estimate], scale: float, reference_fixed: bool
) -> None:
    expected = metric(FAKE, REAL, reference_fixed=reference_fixed)
    found = metric(FAKE, REAL, reference_fixed=reference_fixed, sums=ON_TORCH)
    # a millionth of the interval and less: sums of millions of roundings of 1e-7, each of either sign
    assert found.value == pytest.approx(expected.value, abs=1e-9 * scale)
    assert bounds(found) == pytest.approx(bounds(expected), abs=1e-8 * scale)
    assert (found.method, found.n) == (expected.method, expected.n)


TOOLS = {"torch-fidelity": 3e-8, "clean-fid": 3e-8, "torchmetrics": 3e-8, "dgm-eval": 1e-12}
"""How far a distance is from the tool's: as far as float32 sums of kernels around 1 round, or float64."""


@pytest.mark.parametrize("tool", TOOLS)
@pytest.mark.parametrize("held", [0, 2**29])
def test_subsets_are_the_tools_and_only_rounded_otherwise(
    tool: str, held: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device_kernel, "HELD", held)
    rule = replace(SUBSETS[tool], count=20, size=500)
    expected, found = kid_subsets(FAKE, REAL, rule), kid_subsets(FAKE, REAL, rule, ON_TORCH)
    # of one subset: sums of 250,000 entries, rounded to a few times 6e-8 of their mean, which is near 1.5
    np.testing.assert_allclose(found.values, expected.values, rtol=0, atol=1e-6 if TOOLS[tool] > 1e-10 else 1e-12)
    assert found.estimate.value == pytest.approx(expected.estimate.value, abs=10 * TOOLS[tool])
    assert found.spread == pytest.approx(expected.spread, abs=10 * TOOLS[tool])
    assert bounds(found.estimate) == pytest.approx(bounds(expected.estimate), abs=1e-6)


@pytest.mark.parametrize("tool", TOOLS)
def test_subsets_are_nearer_to_the_exact_distance_than_the_tools(tool: str) -> None:
    rule = replace(SUBSETS[tool], count=10, size=500)
    exact = np.array(kid_subsets(FAKE, REAL, replace(rule, double=True)).values)
    theirs, ours = (np.abs(np.array(kid_subsets(FAKE, REAL, rule, on).values) - exact) for on in (None, ON_TORCH))
    assert ours.max() < (1e-12 if rule.double else 1e-8)
    assert rule.double or ours.max() < theirs.max() / 10


def test_subsets_without_interval_and_broken_rows() -> None:
    found = kid_subsets(FAKE, REAL, Subsets(count=5, size=3), ON_TORCH)
    assert (found.estimate.low, found.estimate.flags, len(found.values)) == (None, ("no_interval",), 5)
    broken = FAKE[:50].copy()
    broken[3, 3] = np.nan
    for one, two, side in ((broken, REAL, "samples"), (FAKE, broken, "reference")):
        assert kid(one, two, sums=ON_TORCH).reason == kid(one, two).reason
        assert side in kid(one, two, sums=ON_TORCH).reason
    assert "not finite" in kid_subsets(broken, REAL, SUBSETS["clean-fid"], ON_TORCH).estimate.reason
    zeros: NDArray[np.float32] = np.zeros((50, 64), np.float32)  # no direction to scale to length 1
    assert "not finite" in cmmd(zeros, REAL, sums=ON_TORCH).reason


def test_on_a_cpu_sums_are_the_hosts_to_the_bit() -> None:
    assert pair_sums("cpu") is ON_HOST
    assert device_sums("cpu") is None


def test_no_program_has_tensor_cores_round_the_products(monkeypatch: pytest.MonkeyPatch) -> None:
    inside = []
    product = torch.Tensor.__matmul__

    def watched(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        inside.append(torch.get_float32_matmul_precision())
        return product(a, b)

    monkeypatch.setattr(torch.Tensor, "__matmul__", watched)
    torch.set_float32_matmul_precision("medium")
    try:
        kid(FAKE[:20], REAL[:20], sums=ON_TORCH)
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision("highest")
    assert set(inside) == {"highest"}


def test_kernel_distances_are_summed_on_the_device_of_the_evaluation(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, str]] = []

    class Watched(DeviceSums):
        def within(self, rows: object, kind: Kind) -> Sums:
            asked.append((str(self.device), kind))
            return ON_HOST.within(FAKE[:20], kind)

        def across(self, one: object, two: object, kind: Kind) -> Sums:
            return ON_HOST.across(FAKE[:20], FAKE[:20], kind)

    monkeypatch.setattr(device_kernel, "DeviceSums", Watched)
    monkeypatch.setattr(Inputs, "rows", lambda self, output: FAKE[:20])
    monkeypatch.setattr(KnownReference, "rows", lambda self, output: FAKE[:20])
    found = Inputs({}, KnownReference("r", {}), {}, device="cuda:1")
    assert found.kid("means:mean").value is not None
    assert found.cmmd("means:mean").value is not None
    assert asked == [("cuda:1", "polynomial")] * 2 + [("cuda:1", "gaussian")] * 2
    assert shared.pair_sums is pair_sums
