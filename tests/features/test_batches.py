"""The features of an image are the same bits whatever else the caller gives with it: every network, random weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from open_clip.model import CLIP
from torch import Tensor, nn

from arbench.features import recipes
from arbench.features.extractor import FeatureExtractor, Mode
from arbench.features.networks import clip, dinov2, vgg16
from arbench.features.weight_files import WeightFile, Weights

pytestmark = pytest.mark.numerical

COUNT = 17
CLIP_CONFIG = {
    "embed_dim": 16,
    "quick_gelu": True,
    "vision_cfg": {"image_size": 64, "layers": 2, "width": 64, "patch_size": 16},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2},
}


def saved(state: dict[str, Tensor], folder: Path) -> WeightFile:
    torch.save(state, folder / "weights.pt")
    return WeightFile("random", folder / "weights.pt", "")


def random_state(network: nn.Module) -> dict[str, Tensor]:
    """Weights that keep the size of activations. Each row of a matrix is the one before, moved by one: a small file."""
    draw = torch.Generator().manual_seed(0)
    state = {}
    for name, tensor in network.state_dict().items():
        if tensor.ndim < 2:
            state[name] = torch.full(tensor.shape, 0.5)
            continue
        inputs = tensor[0].numel()
        numbers = torch.randn(inputs + len(tensor), generator=draw) * (2 / inputs) ** 0.5
        state[name] = numbers.as_strided(tensor.shape, (1, *torch.empty(tensor.shape[1:], device="meta").stride()))
    return state


def small(extractor: FeatureExtractor, side: int) -> FeatureExtractor:
    """Sees one corner of the prepared image, as large as the network can do with."""
    prepare = extractor.prepare
    extractor.prepare = lambda images: prepare(images)[:, :, :side, :side]  # type: ignore[method-assign]
    return extractor


def an_inception(mode: Mode, inception_file: Path, folder: Path) -> FeatureExtractor:
    return small(recipes.load("inception/clean", Weights({"inception": inception_file}, folder), mode=mode), 75)


def a_vgg16(mode: Mode, inception_file: Path, folder: Path) -> FeatureExtractor:
    file = saved(random_state(vgg16.uninitialised()), folder)
    return small(vgg16.Vgg16("vgg16/torch-fidelity", file, "cpu", mode), 32)


def a_dinov2(recipe: str, inception_file: Path, folder: Path) -> FeatureExtractor:
    file = saved(random_state(dinov2.uninitialised(dinov2.Size(64, 2, 2))), folder)
    return dinov2.DinoV2(recipe, file, "cpu", "parity", dinov2.Size(64, 2, 2))


def a_clip(recipe: str, inception_file: Path, folder: Path) -> FeatureExtractor:
    return clip.Clip(recipe, clip_file(folder), "cpu", "parity", CLIP_CONFIG)


def clip_file(folder: Path) -> WeightFile:
    torch.manual_seed(0)
    return saved(CLIP(**CLIP_CONFIG).state_dict(), folder)  # type: ignore[arg-type]


def an_efficientnet(recipe: str, inception_file: Path, folder: Path) -> FeatureExtractor:
    return recipes.load(recipe, Weights({}, folder))


NETWORKS: list[tuple[Callable[[Any, Path, Path], FeatureExtractor], str]] = [
    (an_inception, "parity"),
    (an_inception, "fast"),
    (a_vgg16, "parity"),
    (a_vgg16, "fast"),
    (a_dinov2, "dinov2/dgm"),
    (a_dinov2, "dinov2/edm2"),
    (a_clip, "clip-b32/clean"),
    (a_clip, "clip-l14-336/cmmd"),
    (an_efficientnet, "efficientnet-lite0"),
]


# threads of many small convolutions wait for each other while other tests run: half a minute a network
CASES = [(*network, 1) for network in NETWORKS] + [
    (make, which, 2) for make, which in NETWORKS if make not in (an_inception, a_vgg16)
]


@pytest.fixture
def threads() -> Iterator[Callable[[int], None]]:
    """Sets the number of torch's threads for one test."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def pictures() -> list[NDArray[np.uint8]]:
    """Ten of one size, and then of three sizes by turns, in a layout like that of a decoded file."""
    draw, sizes = np.random.default_rng(0), [(60, 44), (80, 80), (30, 50)]
    shapes = [sizes[0] if place < 10 else sizes[place % 3] for place in range(COUNT)]
    return [draw.integers(0, 256, (*shape, 3), dtype=np.uint8).transpose(2, 0, 1) for shape in shapes]


def check(features: Callable[[Sequence[Any]], dict[str, NDArray[np.float32]]], items: Sequence[Any]) -> None:
    whole = features(items)
    for name, rows in features(items[::-1]).items():
        assert len(np.unique(rows, axis=0)) == COUNT, f"{name} tells the items apart"
        np.testing.assert_array_equal(rows[::-1], whole[name], err_msg=f"{name}, in reverse")
    for size in (1, 3, 7, 16):
        for start in sorted({0, 9, COUNT - size} if size < 8 else {0, COUNT - size}):
            for name, rows in features(items[start : start + size]).items():
                what = f"{name}, {size} from {start}"
                np.testing.assert_array_equal(rows, whole[name][start : start + size], err_msg=what)


@pytest.mark.parametrize(("make", "which", "count"), CASES, ids=[f"{m.__name__}-{w}-{n}" for m, w, n in CASES])
def test_an_image_has_its_features_in_any_batch_and_place(
    make: Callable[[Any, Path, Path], FeatureExtractor],
    which: str,
    count: int,
    threads: Callable[[int], None],
    inception_file: Path,
    tmp_path: Path,
) -> None:
    threads(count)
    check(make(which, inception_file, tmp_path), pictures())


@pytest.mark.parametrize("count", [1, 2])
def test_a_prompt_has_its_embedding_in_any_batch_and_place(
    count: int, threads: Callable[[int], None], tmp_path: Path
) -> None:
    threads(count)
    encoder = clip.TextEncoder(clip_file(tmp_path), "cpu", "parity", CLIP_CONFIG)
    check(lambda prompts: {"text": encoder(prompts)}, ["a cat " * (place + 1) for place in range(COUNT)])


def test_every_recipe_has_its_network_here() -> None:
    families = {make.__name__.partition("_")[2] for make, _ in NETWORKS}
    assert {name.partition("/")[0].partition("-")[0] for name in recipes.RECIPES} == families
