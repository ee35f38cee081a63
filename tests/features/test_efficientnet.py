"""EfficientNet-Lite0: the fast network against timm's own, and timm's own against what is in a photograph."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from skimage.data import chelsea
from torch.nn import functional as F

from arbench.data.readers.mnist import mnist5k
from arbench.errors import InputError
from arbench.features import recipes
from arbench.features.extractor import FeatureExtractor
from arbench.features.networks.efficientnet import official_state
from arbench.features.weight_files import Weights

pytestmark = pytest.mark.numerical


@pytest.fixture(scope="module")
def extractor() -> FeatureExtractor:
    torch.set_num_threads(1)
    return recipes.load("efficientnet-lite0", Weights({}, Path("no such folder")))


def timms_network() -> torch.nn.Module:
    """timm's network with the package's weights: the same tensors in the same order under other names."""
    network = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    names, tensors = list(network.state_dict()), list(official_state().values())
    network.load_state_dict(dict(zip(names, tensors, strict=True)))
    return network.eval()


@pytest.fixture(scope="module")
def plain() -> torch.nn.Module:
    network = timms_network()
    network.reset_classifier(0)  # type: ignore[operator]
    return network


@pytest.mark.parametrize(("height", "width"), [(32, 32), (224, 224), (256, 256), (100, 300)])
def test_features_are_those_of_timms_network(
    extractor: FeatureExtractor, plain: torch.nn.Module, height: int, width: int
) -> None:
    images = np.random.default_rng(0).integers(0, 256, (2, 3, height, width), dtype=np.uint8)
    pixels = (torch.from_numpy(images).float() - 127) / 128
    resized = F.interpolate(pixels, size=(224, 224), mode="bilinear", align_corners=False, antialias=True)
    with torch.inference_mode():
        expected = plain(resized).numpy()
    ours = extractor(list(images))["pooled"]
    assert ours.shape == (2, 1280)
    assert ours.dtype == np.float32
    # the features reach 6; folding and another order of sums change them in the sixth digit
    np.testing.assert_allclose(ours, expected, atol=1e-4)


def test_the_weights_know_a_cat() -> None:
    photograph = torch.from_numpy(np.ascontiguousarray(chelsea().transpose(2, 0, 1)))[None, :, :, 75:375]
    pixels = (photograph.float() - 127) / 128
    with torch.inference_mode():
        logits = timms_network()(F.interpolate(pixels, size=(224, 224), mode="bilinear", antialias=True))
    cats = {281, 282, 283, 284, 285}  # tabby, tiger, Persian, Siamese, Egyptian: ImageNet's domestic cats
    assert int(logits.argmax()) in cats


def test_features_do_not_depend_on_the_callers_batch_or_the_sizes_in_it(extractor: FeatureExtractor) -> None:
    numbers = np.random.default_rng(0)
    images = [*mnist5k("heldout").load(range(9)), numbers.integers(0, 256, (3, 300, 200), dtype=np.uint8)]
    together = extractor(images)["pooled"]
    for size in (1, 3, 7):
        parts = [extractor(images[start : start + size])["pooled"] for start in range(0, 10, size)]
        np.testing.assert_array_equal(np.concatenate(parts), together)
    np.testing.assert_array_equal(extractor(images)["pooled"], together)


def test_the_convention_names_the_extractor_and_no_images_give_no_features(extractor: FeatureExtractor) -> None:
    assert extractor.convention.startswith("efficientnet-lite0 ")
    assert extractor.convention.endswith(", parity")
    assert extractor([])["pooled"].shape == (0, extractor.outputs["pooled"])


def test_floats_and_other_shapes_are_refused(extractor: FeatureExtractor) -> None:
    with pytest.raises(InputError, match="uint8"):
        extractor([np.zeros((3, 32, 32), dtype=np.float32)])  # type: ignore[list-item]
    with pytest.raises(InputError, match="3, H, W"):
        extractor([np.zeros((32, 32, 3), dtype=np.uint8)])
