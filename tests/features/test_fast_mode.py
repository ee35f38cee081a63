"""The deviation of fast mode: measured once per machine and network on fixed images, and kept; compiled for many."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from arbench.features import fast_mode
from arbench.features.extract import Extractors
from arbench.features.extractor import FeatureExtractor
from arbench.features.networks.inception import COMPILED_FROM, Inception
from arbench.features.weight_files import WeightFile, Weights

calls: list[str] = []


class Means(FeatureExtractor):
    """The mean of each colour; in fast mode a hundredth too large."""

    recipe = "means"
    outputs: Mapping[str, int] = {"mean": 3}
    device = torch.device("cpu")
    batch = 4

    def __init__(self, mode: Any = "fast", digest: str = "a") -> None:
        self.mode, self.weights = mode, WeightFile("means", Path("w"), digest)

    def prepare(self, images: Tensor) -> Tensor:
        return images.float()

    def forward(self, pixels: Tensor) -> dict[str, Tensor]:
        calls.append(self.mode)
        return {"mean": pixels.mean((2, 3)) * (1.01 if self.mode == "fast" else 1)}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ARBENCH_CACHE", str(tmp_path))
    calls.clear()
    return tmp_path


def parity() -> FeatureExtractor:
    return Means("parity")


def refused() -> FeatureExtractor:
    raise AssertionError("it is kept already")


def test_the_probe_images_are_always_the_same_and_differ() -> None:
    one, two = fast_mode.probe_images(), fast_mode.probe_images()
    assert all((a == b).all() for a, b in zip(one, two, strict=True))
    assert len({image.tobytes() for image in one}) == len(one) == fast_mode.PROBE
    assert all(image.std() > 20 and image.shape == (3, 256, 256) for image in one)


def test_it_is_measured_once(cache: Path) -> None:
    assert fast_mode.kept_deviation(Means(), parity) == pytest.approx(0.01, rel=1e-3)
    assert set(calls) == {"fast", "parity"}
    calls.clear()
    assert fast_mode.kept_deviation(Means(), refused) == pytest.approx(0.01, rel=1e-3)
    assert not calls
    assert len(list(cache.glob("fast-*.json"))) == 1


@pytest.mark.parametrize("content", [b"", b"[]", b'{"deviation": "x"}', b'{"deviation": NaN}', b'{"deviation": -1}'])
def test_a_damaged_file_is_measured_again(content: bytes, caplog: pytest.LogCaptureFixture) -> None:
    first = fast_mode.kept_deviation(Means(), parity)
    fast_mode.place(Means()).write_bytes(content)
    with caplog.at_level(logging.WARNING):
        assert fast_mode.kept_deviation(Means(), parity) == first
    assert "measured again" in caplog.text
    assert fast_mode.kept_deviation(Means(), refused) == first


def test_each_ingredient_of_its_key(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled, other, smaller = Means(), Means(), Means()
    compiled.compiled, other.recipe, smaller.batch = True, "others", 2
    places = [fast_mode.place(one) for one in (Means(), Means(digest="b"), compiled, other, smaller)]
    changes: dict[str, Any] = {"VERSION": 99, "NUMBERS": 99}
    changes |= {"device_name": lambda device: "another", "packages": lambda names: {"torch": "0"}}
    for name, value in changes.items():
        with monkeypatch.context() as changed:
            changed.setattr(fast_mode, name, value)
            places.append(fast_mode.place(Means()))
    assert len(set(places)) == len(places) == 9
    assert fast_mode.place(Means()) == places[0]


def test_a_pass_measures_nothing_that_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("arbench.features.recipes.load", lambda recipe, weights, device, mode: Means(mode))
    weights = Weights({}, tmp_path)
    for expected in ({"fast", "parity"}, set()):
        calls.clear()
        extractors = Extractors(weights, "cpu", "fast")
        extractors.expect("means", 100)
        extractors.expect("means", None)
        assert extractors.deviation == {"means": pytest.approx(0.01, rel=1e-3)}
        assert set(calls) == expected
    exact = Extractors(weights, "cpu", "parity")
    exact.expect("means", 100)
    assert exact.deviation == {}
    assert not calls


def test_only_large_sets_on_cuda_in_fast_mode_are_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    monkeypatch.setattr(torch, "compile", lambda net, dynamic: made.append(net) or net)
    one = Inception("inception/tf1", None, nn.Identity(), torch.device("cpu"), "fast")  # type: ignore[arg-type]
    one.expect(COMPILED_FROM)
    one.device = torch.device("cuda")
    for count in (None, 0, COMPILED_FROM - 1):
        one.expect(count)
    assert not made
    assert not one.compiled
    one.expect(COMPILED_FROM)
    one.expect(COMPILED_FROM)
    assert len(made) == 1
    assert one.compiled


def test_the_fast_features_themselves_are_no_different(cache: Path) -> None:
    """What was measured before has no say in the features."""
    images = [np.full((3, 8, 8), 7, np.uint8)]
    before = Means()(images)["mean"]
    fast_mode.kept_deviation(Means(), parity)
    assert (Means()(images)["mean"] == before).all()
