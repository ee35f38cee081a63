"""LPIPS and DISTS against torchmetrics' own networks with the same random backbone weights."""

from __future__ import annotations

import pickle
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torchmetrics.functional.image.dists as their_dists
import torchmetrics.functional.image.lpips as their_lpips
import torchvision
from numpy.typing import NDArray
from skimage import data
from torch import Tensor, nn

from arbench.errors import CheckpointError, MissingWeights, UnknownName
from arbench.features.weight_files import Weights
from arbench.metrics.pairs import perceptual
from arbench.metrics.pairs.backbones import NEEDS
from arbench.metrics.pairs.paired import compare
from arbench.metrics.pairs.perceptual import load

pytestmark = pytest.mark.numerical

Images = NDArray[np.uint8]
TOLERANCE = 1e-5
"""Relative: both sides are float32 and sum in different orders."""


def _features(name: str) -> nn.Sequential:
    """torchvision's convolutional part with random weights that keep activations of order one."""
    with torch.device("meta"):
        network: nn.Sequential = getattr(torchvision.models, name)(weights=None).features
    network = network.to_empty(device="cpu")
    draw = torch.Generator().manual_seed(7)
    for module in network:
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, generator=draw)
            nn.init.normal_(module.bias, 0, 0.05, generator=draw)
    return network.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def backbones() -> dict[str, nn.Sequential]:
    return {name: _features(name) for name in ("alexnet", "vgg16")}


@pytest.fixture(scope="module")
def weights(backbones: dict[str, nn.Sequential], tmp_path_factory: pytest.TempPathFactory) -> Weights:
    folder = tmp_path_factory.mktemp("weights")
    for name, network in backbones.items():
        state = {f"features.{key}": value for key, value in network.state_dict().items()}
        torch.save({**state, "classifier.6.bias": torch.zeros(1000)}, folder / f"{name}.pth")
    return Weights({name: folder / f"{name}.pth" for name in backbones}, folder)


@pytest.fixture
def theirs(backbones: dict[str, nn.Sequential], monkeypatch: pytest.MonkeyPatch) -> None:
    """torchmetrics takes its backbones from here instead of from the internet."""
    monkeypatch.setattr(their_lpips, "_get_tv_model_features", lambda net, pretrained=False: backbones[net])
    monkeypatch.setattr(their_dists, "vgg16", lambda weights: SimpleNamespace(features=backbones["vgg16"]))


def _photographs() -> tuple[Images, Images]:
    """(2, 3, 64, 72) reconstructions, one of them identical, and originals."""
    crops = [image[100:164, 200:272].transpose(2, 0, 1) for image in (data.astronaut(), data.coffee())]
    originals = np.stack(crops)
    images = originals.copy()
    noise = np.random.default_rng(0).normal(0, 20, images[0].shape)
    images[0] = np.clip(images[0] + noise, 0, 255).astype(np.uint8)
    return images, originals


def _signed(images: Images) -> Tensor:
    return torch.from_numpy(images).float() / 127.5 - 1


@pytest.mark.usefixtures("theirs")
@pytest.mark.parametrize("net", ["alex", "vgg"])
def test_lpips_equals_torchmetrics(net: str, weights: Weights) -> None:
    name = f"lpips-{net}-torchmetrics"
    images, originals = _photographs()
    ours = compare(images, originals, [name], load([name], weights))[name]
    expected = their_lpips.learned_perceptual_image_patch_similarity(
        _signed(images), _signed(originals), net_type=net, reduction="none"
    )
    np.testing.assert_allclose(ours, expected, rtol=TOLERANCE, atol=1e-9)
    assert ours[0] > 0
    assert ours[1] == 0


@pytest.mark.usefixtures("theirs")
@pytest.mark.parametrize("net", ["alex", "vgg"])
def test_lpips_with_the_normalisation_of_its_own_package(
    net: str, weights: Weights, monkeypatch: pytest.MonkeyPatch
) -> None:
    def normalise(x: Tensor, eps: float = 1e-10) -> Tensor:
        return x / (x.norm(dim=1, keepdim=True) + eps)

    monkeypatch.setattr(their_lpips, "_normalize_tensor", normalise)
    images, originals = _photographs()
    both = [f"lpips-{net}", f"lpips-{net}-torchmetrics"]
    ours = compare(images, originals, both, load(both, weights))
    expected = their_lpips.learned_perceptual_image_patch_similarity(
        _signed(images), _signed(originals), net_type=net, reduction="none"
    )
    np.testing.assert_allclose(ours[both[0]], expected, rtol=TOLERANCE, atol=1e-9)


def test_normalisations_differ_where_features_are_small(backbones: dict[str, nn.Sequential]) -> None:
    faint = nn.Sequential(*(module for module in _features("alexnet")))
    for module in faint:
        if isinstance(module, nn.Conv2d):
            module.weight.mul_(0.05)
            module.bias.mul_(1e-4)
    heads = [perceptual.published("alex")[f"lin{layer}.model.1.weight"].flatten() for layer in range(5)]
    images, originals = _photographs()
    network = perceptual.Lpips("lpips-alex", "alexnet", faint, heads)
    values = network.measure(torch.from_numpy(images), torch.from_numpy(originals))
    assert values["lpips-alex"][0] > 1.01 * values["lpips-alex-torchmetrics"][0]


@pytest.mark.usefixtures("theirs")
def test_dists_equals_torchmetrics(weights: Weights) -> None:
    images, originals = _photographs()
    ours = compare(images, originals, ["dists"], load(["dists"], weights))["dists"]
    x, y = (torch.from_numpy(side).float() / 255 for side in (images, originals))
    expected = their_dists.deep_image_structure_and_texture_similarity(x, y)
    # a distance of 0 is 1 minus a float32 sum over 1475 channels
    np.testing.assert_allclose(ours, expected.detach(), rtol=TOLERANCE, atol=2e-6)
    assert ours[0] > 0.01
    assert abs(ours[1]) < 2e-6


def test_a_distance_depends_on_its_own_pair_alone(weights: Weights) -> None:
    images, originals = _photographs()
    many, truth = np.concatenate([images] * 3)[:5], np.concatenate([originals] * 3)[:5]  # not a multiple of PAIRS
    network = load(["lpips-alex"], weights)
    whole = compare(many, truth, ["lpips-alex"], network)["lpips-alex"]
    assert whole.shape == (5,)
    np.testing.assert_array_equal(whole[4:], compare(many[:1], truth[:1], ["lpips-alex"], network)["lpips-alex"])
    np.testing.assert_array_equal(whole[:2], compare(images, originals, ["lpips-alex"], network)["lpips-alex"])


def test_variants_of_one_network_share_it(weights: Weights) -> None:
    networks = load(["lpips-alex", "lpips-alex-torchmetrics"], weights)
    assert networks["lpips-alex"] is networks["lpips-alex-torchmetrics"]


def test_random_numbers_of_the_caller_are_left_alone(weights: Weights) -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    load(["lpips-alex"], weights)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_backbone_that_is_nowhere_is_named(tmp_path: Path) -> None:
    with pytest.raises(MissingWeights, match="vgg16"):
        load(["dists"], Weights({}, tmp_path))


def test_other_weights_are_refused(tmp_path: Path, weights: Weights) -> None:
    with pytest.raises(CheckpointError, match="torchvision's vgg16"):
        load(["lpips-vgg"], Weights({"vgg16": weights.given["alexnet"]}, tmp_path))


def test_a_pickle_that_runs_code_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "alexnet.pth"
    path.write_bytes(pickle.dumps({"features.0.weight": SimpleNamespace(a=1)}, protocol=2))
    with pytest.raises(CheckpointError, match="cannot be read"):
        load(["lpips-alex"], Weights({"alexnet": path}, tmp_path))


def test_heads_other_than_the_published_ones_are_refused(weights: Weights, monkeypatch: pytest.MonkeyPatch) -> None:
    other = {"alex": perceptual.Published("lpips_models/alex.pth", "0" * 64)}
    monkeypatch.setattr(perceptual, "PUBLISHED", other)
    with pytest.raises(CheckpointError, match="not the published file"):
        load(["lpips-alex"], weights)


def test_every_distance_has_a_backbone_and_others_are_unknown(tmp_path: Path) -> None:
    assert set(NEEDS.values()) == {"alexnet", "vgg16"}
    with pytest.raises(UnknownName, match="lpips-alex"):
        load(["lpips-alexa"], Weights({}, tmp_path))
