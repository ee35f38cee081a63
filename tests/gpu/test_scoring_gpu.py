"""Scoring on CUDA: resizes of the conventions against the host, no waiting on the way, a chunk ahead, statistics."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from arbench.data.readers.ahead import AheadStream
from arbench.data.reading import Reading
from arbench.features import extract, recipes
from arbench.features.extractor import FeatureExtractor
from arbench.features.networks import clip, pil_resize, resize
from arbench.features.networks.pixels import IMAGENET_MEAN, IMAGENET_STD, standardise
from arbench.features.to_device import Copies
from arbench.features.weight_files import Weights
from arbench.metrics.estimate import Estimate
from arbench.metrics.sets.device_kernel import device_sums, pair_sums
from arbench.metrics.sets.device_moments import moments_on
from arbench.metrics.sets.kernel import ON_HOST, Kind, cmmd, kid
from arbench.metrics.sets.kernel_subsets import SUBSETS, kid_subsets
from arbench.metrics.sets.moments import moments
from arbench.metrics.sets.neighbours import radii

pytestmark = [pytest.mark.gpu, pytest.mark.numerical]
CUDA = torch.device("cuda:0")
SIZES = [(256, 256), (512, 512), (300, 451), (77, 640), (64, 64), (400, 90)]


@pytest.fixture(params=SIZES, ids=str)
def images(request: pytest.FixtureRequest) -> Tensor:
    draw = torch.Generator().manual_seed(0)
    noise = torch.randint(0, 256, (5, 3, *request.param), dtype=torch.uint8, generator=draw)
    noise[1] = (noise[1] > 127) * 255
    return noise


EXACT: dict[str, Callable[[Tensor], Tensor]] = {
    "tf1": resize.tf1_bilinear,
    "tf1-float64": lambda given: resize.tf1_bilinear(given, dtype=torch.float64),
    "dgm": lambda given: pil_resize.resized(given, (224, 224)),
    "clip-clean": lambda given: clip.shorter_side_then_crop(given, 224),
    "clip-hf": lambda given: clip.shorter_side_then_crop_down(given, 224),
    "clip-llamagen": lambda given: clip.as_llamagen(given, 224),
    "clip-cmmd": lambda given: clip.crop_then_resize(given, 336),
    "standardised": lambda given: standardise(given, IMAGENET_MEAN, IMAGENET_STD),
}
"""Ways of which every step is rounded by itself, or is a whole number: the host's bits."""
NEAR: dict[str, tuple[Callable[[Tensor], Tensor], float]] = {
    "clean": (resize.pil_bicubic, 3.1e-5),
    "half-pixel": (resize.half_pixel_bilinear, 1e-6),
    "antialias": (resize.antialias_bilinear, 1e-4),
    "grid-sample": (resize.grid_sample_bilinear, 1e-2),
}
"""Ways with sums in another order, or coordinates by another kernel, and how far they may be: grey levels, or 0..1."""


@pytest.mark.parametrize("name", EXACT)
def test_the_device_gives_the_hosts_bits(name: str, images: Tensor) -> None:
    assert torch.equal(EXACT[name](images.to(CUDA)).cpu(), EXACT[name](images))


@pytest.mark.parametrize("name", NEAR)
def test_the_device_is_as_near_as_stated(name: str, images: Tensor) -> None:
    way, most = NEAR[name]
    assert (way(images.to(CUDA)).cpu() - way(images)).abs().max() <= most


def test_pillows_resize_is_done_on_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise AssertionError("Pillow was asked to resize")

    given = torch.randint(0, 256, (8, 3, 256, 256), dtype=torch.uint8)
    pil_resize.order_of((256, 256), (224, 224), "bicubic")
    monkeypatch.setattr(pil_resize, "_by_pillow", refused)
    assert pil_resize.resized(given.to(CUDA), (224, 224)).is_cuda


@contextmanager
def no_waiting() -> Iterator[None]:
    """Inside, a copy or a question that waits for the device is an error."""
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


def pictures(count: int, side: int = 256) -> list[NDArray[np.uint8]]:
    return list(np.random.default_rng(0).integers(0, 256, (count, 3, side, side), dtype=np.uint8))


@pytest.mark.parametrize("mode", ["parity", "fast"])
def test_a_call_is_begun_without_waiting(mode: str, inception_file: Path, tmp_path: Path) -> None:
    weights = Weights({"inception": inception_file}, tmp_path)
    network = recipes.load("inception/tf1", weights, "cuda:0", mode)  # type: ignore[arg-type]
    given = pictures(network.batch)
    first = network(given)
    with no_waiting():
        running = [network.begin(given) for _ in range(3)]
    for each in running:
        np.testing.assert_array_equal(each.result()["pool3"], first["pool3"])


@pytest.mark.parametrize("recipe", ["tf1", "clean", "half-pixel", "antialias", "grid-sample"])
def test_no_convention_waits(recipe: str, inception_file: Path, tmp_path: Path) -> None:
    network = recipes.load(f"inception/{recipe}", Weights({"inception": inception_file}, tmp_path), "cuda:0")
    given = pictures(4)
    network(given)
    with no_waiting():
        running = network.begin(given)
    assert np.isfinite(running.result()["pool3"]).all()


@pytest.mark.parametrize("step", list(clip.STEPS))
def test_no_step_of_clip_waits(step: str) -> None:
    given = torch.from_numpy(np.stack(pictures(4))).to(CUDA)
    expected = clip.STEPS[step](given, 224)
    with no_waiting():
        found = clip.STEPS[step](given, 224)
    assert torch.equal(found, expected)


class Slow(FeatureExtractor):
    """The sum of each colour after a tenth of a second of the device."""

    recipe = "slow"
    outputs: Mapping[str, int] = {"sum": 3}
    weights, mode, device, batch = None, "parity", CUDA, 4

    def prepare(self, images: Tensor) -> Tensor:
        return images.float().sum((2, 3), keepdim=True)

    def forward(self, pixels: Tensor) -> dict[str, Tensor]:
        torch.cuda._sleep(200_000_000)
        return {"sum": pixels.flatten(1)}


def test_images_are_copied_while_the_device_is_busy() -> None:
    network, sets = Slow(), [pictures(4), pictures(3, 64), pictures(4, 200)]
    network(sets[0])
    started = time.perf_counter()
    running = [network.begin(given) for given in sets]
    begun = time.perf_counter() - started
    found = [each.result()["sum"] for each in running]
    whole = time.perf_counter() - started
    assert network.ahead == 1
    assert begun < 0.05 < 0.1 < whole
    for rows, given in zip(found, sets, strict=True):  # no buffer was given out again too early
        np.testing.assert_array_equal(rows, np.stack(given).sum((2, 3), dtype=np.float32))


def test_many_images_are_decoded_in_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = pictures(40, 64)
    (tmp_path / "images").mkdir()
    for index, image in enumerate(given):
        Image.fromarray(image.transpose(1, 2, 0)).save(tmp_path / f"images/{index:03d}.png")
    begun: list[int] = []
    known = AheadStream.decode_in_processes
    monkeypatch.setattr(AheadStream, "decode_in_processes", lambda self: (begun.append(1), known(self))[1])
    monkeypatch.setattr(extract, "MANY", len(given))
    monkeypatch.setattr(recipes, "load", lambda *_: Slow())
    job = extract.Job(str(tmp_path / "images"), Reading(), tmp_path / "out")
    networks = extract.Extractors(Weights({}, tmp_path), "cuda:0", "parity")
    found = extract.features_of(job, ["slow"], networks, lambda *_: None)["slow"]
    assert begun
    np.testing.assert_array_equal(found.rows("slow:sum")[:], np.stack(given).sum((2, 3), dtype=np.float32))


def test_images_of_many_sizes_arrive_whole() -> None:
    given = [pictures(1, side)[0] for side in (3, 50, 7, 129)]
    for there, image in zip(Copies(CUDA).there(given), given, strict=True):
        np.testing.assert_array_equal(there.cpu().numpy()[0], image)


def test_moments_are_the_hosts_to_rounding() -> None:
    rows = np.random.default_rng(0).standard_gamma(0.5, (6000, 300)).astype(np.float32)
    found, expected = moments_on(rows, "cuda:0"), moments(rows)
    np.testing.assert_allclose(found.mean, expected.mean, rtol=1e-13)
    np.testing.assert_allclose(found.covariance, expected.covariance, rtol=0, atol=1e-12)


@pytest.mark.parametrize("distance", ["float32", "cdist", "float64", "adm"])
def test_radii_of_each_precision_are_as_near_as_stated(distance: str) -> None:
    rows = np.random.default_rng(0).standard_gamma(0.5, (3000, 256)).astype(np.float32)
    host, device = (radii(rows, [3], distance=distance, device=each)[3] for each in ("cpu", "cuda:0"))  # type: ignore[arg-type]
    most = {"float32": 1e-5, "cdist": 1e-5, "float64": 1e-6, "adm": 2e-3}[distance]
    np.testing.assert_allclose(np.asarray(device, float), np.asarray(host, float), rtol=most)


def skewed(n: int, shape: float) -> NDArray[np.float32]:
    return (0.8 * np.random.default_rng(n).standard_gamma(shape, (n, 256))).astype(np.float32)


FAKE, REAL = skewed(3000, 0.55), skewed(5000, 0.5)


@pytest.mark.parametrize(("dtype", "rounding"), [(np.float64, 1e-12), (np.float32, 2e-6)])
@pytest.mark.parametrize("kind", ["polynomial", "gaussian"])
def test_kernel_sums_are_the_hosts_to_the_rounding_of_products(kind: Kind, dtype: type, rounding: float) -> None:
    """Of each entry 16 roundings, of a product of 256 numbers; TF32 would be off by 1e-3."""
    sums, one, two = pair_sums("cuda:0"), FAKE.astype(dtype), REAL.astype(dtype)
    rounding *= 10 if kind == "gaussian" else 1  # the product less 1 has fewer digits than the product
    pairs = [
        (sums.within(one, kind), ON_HOST.within(one, kind)),
        (sums.across(one, two, kind), ON_HOST.across(one, two, kind)),
    ]
    for found, expected in pairs:
        np.testing.assert_allclose(found.rows, expected.rows, rtol=rounding)
        np.testing.assert_allclose(found.columns, expected.columns, rtol=rounding)
        assert found.squares == pytest.approx(expected.squares, rel=rounding)
        # a Gaussian kernel less 1 is 0 there, and its rounding is all there is
        assert found.diagonal == pytest.approx(expected.diagonal, rel=rounding, abs=1e-8 * len(one))


@pytest.mark.parametrize(("metric", "scale"), [(kid, 1.0), (cmmd, 1000.0)])
def test_kernel_distances_are_as_near_as_stated(metric: Callable[..., Estimate], scale: float) -> None:
    found, expected = metric(FAKE, REAL, sums=pair_sums("cuda:0")), metric(FAKE, REAL)
    assert found.value == pytest.approx(expected.value, abs=1e-8 * scale)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-7 * scale)


@pytest.mark.parametrize(("tool", "most"), [("torch-fidelity", 1e-6), ("clean-fid", 1e-6), ("dgm-eval", 1e-11)])
def test_subsets_are_the_tools_and_as_near_as_stated(tool: str, most: float) -> None:
    rule = replace(SUBSETS[tool], count=20)
    found, expected = kid_subsets(FAKE, REAL, rule, device_sums("cuda:0")), kid_subsets(FAKE, REAL, rule)
    np.testing.assert_allclose(found.values, expected.values, rtol=0, atol=most)
    exact = kid_subsets(FAKE, REAL, replace(rule, double=True)).values
    np.testing.assert_allclose(found.values, exact, rtol=0, atol=1e-11 if rule.double else 1e-8)
