"""VGG16: against torch-fidelity's own extractor with the same weight file."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch
from skimage.data import chelsea
from torch_fidelity.feature_extractor_vgg16 import FeatureExtractorVGG16
from torchvision.models import vgg16

from arbench.errors import CheckpointError
from arbench.features.networks.vgg16 import Vgg16, load
from arbench.features.weight_files import WeightFile, Weights

pytestmark = pytest.mark.numerical


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small file with full-size weights: each row of a matrix is the one before, moved by one."""
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(0)
    with torch.device("meta"):
        shapes = {name: tensor.shape for name, tensor in vgg16(weights=None).state_dict().items()}
    state = {}
    for name, shape in shapes.items():
        if len(shape) == 1:
            state[name] = 0.1 * torch.randn(shape, generator=generator)
            continue
        inputs = shape[1:].numel()
        numbers = torch.randn(inputs + shape[0], generator=generator) * (2 / inputs) ** 0.5
        strides = torch.empty(shape[1:], device="meta").stride()
        state[name] = numbers.as_strided(shape, (1, *strides))
    path = tmp_path_factory.mktemp("vgg16") / "vgg16.pth"
    torch.save(state, path)
    assert path.stat().st_size < 5e6
    return path


@pytest.fixture(scope="module")
def extractor(path: Path) -> Vgg16:
    file = WeightFile("vgg16", path, hashlib.sha256(path.read_bytes()).hexdigest())
    ours = Vgg16("vgg16/torch-fidelity", file, "cpu", "parity")
    ours.batch = 1
    return ours


def photographs() -> list[np.ndarray]:
    cat = np.ascontiguousarray(chelsea().transpose(2, 0, 1))
    return [cat, np.ascontiguousarray(cat[:, 100:132, 200:232])]


def roundings(path: Path) -> float:
    """How far apart two orders of the sums may bring the features, relative to their length.

    A layer rounds each of its sums of D products D times, by up to half a step of 2^-23, up or down: sqrt(D) such
    halves in all. The layers' errors are independent of each other too, so that their D add up: 62619 in 15 layers,
    which makes 1.5e-5.
    """
    layers = [w for name, w in torch.load(path).items() if w.ndim > 1 and name != "classifier.6.weight"]
    return float(2**-24 * sum(w[0].numel() for w in layers) ** 0.5)


def test_features_are_those_of_torch_fidelity(path: Path, extractor: Vgg16, monkeypatch: pytest.MonkeyPatch) -> None:
    reference = FeatureExtractorVGG16("vgg16", ["fc2_relu"], feature_extractor_weights_path=str(path))
    with torch.inference_mode():
        expected = [reference(torch.from_numpy(image)[None])[0][0].numpy() for image in photographs()]
    found = extractor(photographs())["fc2_relu"]
    assert found.shape == (2, 4096)
    for ours, theirs in zip(found, expected, strict=True):
        assert 0.2 < np.count_nonzero(theirs) / 4096 < 0.8  # the ReLU did something
        np.testing.assert_array_equal(ours, theirs)  # images one by one, as there: on every processor
    monkeypatch.setattr(extractor, "batch", 2)
    for ours, theirs in zip(extractor(photographs())["fc2_relu"], expected, strict=True):
        assert np.linalg.norm(ours - theirs) <= roundings(path) * np.linalg.norm(theirs)


def test_fast_mode_differs_by_the_order_of_sums_alone(path: Path, extractor: Vgg16) -> None:
    fast = Vgg16("vgg16/torch-fidelity", WeightFile("vgg16", path, ""), "cpu", "fast")
    fast.batch = 1
    image = photographs()[:1]
    slow = extractor(image)["fc2_relu"]
    assert np.linalg.norm(fast(image)["fc2_relu"] - slow) <= roundings(path) * np.linalg.norm(slow)
    assert fast.convention.endswith("fast")


def test_another_network_is_refused(tmp_path: Path) -> None:
    other = tmp_path / "other.pth"
    torch.save({"features.0.weight": torch.zeros(8, 3, 3, 3), "fc.weight": torch.zeros(2, 2)}, other)
    with pytest.raises(CheckpointError) as caught:
        load("vgg16/torch-fidelity", Weights({"vgg16": other}, tmp_path), "cpu", "parity")
    assert "missing: features.0.bias" in caught.value.why
    assert "unexpected: fc.weight" in caught.value.why
    assert "features.0.weight (8, 3, 3, 3) for (64, 3, 3, 3)" in caught.value.why
