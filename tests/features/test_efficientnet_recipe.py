"""EfficientNet-Lite0 as a recipe: the numbers of the extractor that it wraps."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from arbench.features import recipes
from arbench.features.extractor import FeatureExtractor
from arbench.features.networks.efficientnet_features import EfficientNetLite0
from arbench.features.weight_files import Weights


@pytest.fixture(scope="module")
def extractor() -> FeatureExtractor:
    torch.set_num_threads(1)
    return recipes.load("efficientnet-lite0", Weights({}, Path("no such folder")))


def test_features_are_those_of_the_wrapped_extractor(extractor: FeatureExtractor) -> None:
    wrapped = EfficientNetLite0()
    images = np.random.default_rng(1).integers(0, 256, (6, 3, 40, 40), dtype=np.uint8)
    found = extractor(list(images))["pooled"]
    assert found.shape == (6, 1280)
    # the wrapped one runs the last two images as a batch of two; sums of another order, features up to 6
    np.testing.assert_allclose(found, wrapped(images), atol=1e-5)
    assert extractor.convention == f"{wrapped.convention}, parity"


def test_mixed_sizes_and_single_images_give_the_same(extractor: FeatureExtractor) -> None:
    numbers = np.random.default_rng(0)
    images = [numbers.integers(0, 256, (3, *size), dtype=np.uint8) for size in [(32, 32), (300, 200), (32, 32)]]
    together = extractor(images)["pooled"]
    apart = np.concatenate([extractor([image])["pooled"] for image in images])
    np.testing.assert_array_equal(together, apart)
    assert extractor([])["pooled"].shape == (0, 1280)
