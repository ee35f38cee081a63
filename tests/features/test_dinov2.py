"""DINOv2: against a ViT and a bicubic kernel written out here from the paper's facts, and PIL's own resizing."""

from __future__ import annotations

import hashlib
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from skimage.data import chelsea
from torch import Tensor
from torch.nn import functional as F

from arbench.errors import CheckpointError
from arbench.features.networks.dinov2 import SIZES, DinoV2, Size, from_official, load, resample, uninitialised
from arbench.features.weight_files import WeightFile, Weights

pytestmark = pytest.mark.numerical

WIDTH, DEPTH, HEADS = 48, 2, 2
SMALL = Size(WIDTH, DEPTH, HEADS)
GATED = Size(WIDTH, DEPTH, HEADS, gated=True)
MEAN, STD = np.array([0.485, 0.456, 0.406], np.float32), np.array([0.229, 0.224, 0.225], np.float32)


def official_state(width: int, depth: int, gated: bool = False) -> dict[str, Tensor]:
    """Random weights under the names and shapes of `dinov2_vitl14_pretrain.pth`, whose images had 518 pixels a side.

    Those of ViT-g have SwiGLU, of 8/3 of the width rounded up to a multiple of 8.
    """
    torch.set_num_threads(1)
    shapes: dict[str, tuple[int, ...]] = {
        "cls_token": (1, 1, width),
        "pos_embed": (1, 1 + 37 * 37, width),
        "mask_token": (1, width),
        "patch_embed.proj.weight": (width, 3, 14, 14),
        "patch_embed.proj.bias": (width,),
    }
    for block in range(depth):
        shapes |= {
            f"blocks.{block}.norm1.weight": (width,),
            f"blocks.{block}.norm1.bias": (width,),
            f"blocks.{block}.attn.qkv.weight": (3 * width, width),
            f"blocks.{block}.attn.qkv.bias": (3 * width,),
            f"blocks.{block}.attn.proj.weight": (width, width),
            f"blocks.{block}.attn.proj.bias": (width,),
            f"blocks.{block}.ls1.gamma": (width,),
            f"blocks.{block}.norm2.weight": (width,),
            f"blocks.{block}.norm2.bias": (width,),
            f"blocks.{block}.ls2.gamma": (width,),
        }
        hidden = (4 * width * 2 // 3 + 7) // 8 * 8 if gated else 4 * width
        first, last = ("w12", "w3") if gated else ("fc1", "fc2")
        shapes |= {
            f"blocks.{block}.mlp.{first}.weight": ((1 + gated) * hidden, width),
            f"blocks.{block}.mlp.{first}.bias": ((1 + gated) * hidden,),
            f"blocks.{block}.mlp.{last}.weight": (width, hidden),
            f"blocks.{block}.mlp.{last}.bias": (width,),
        }
    shapes |= {"norm.weight": (width,), "norm.bias": (width,)}
    generator = torch.Generator().manual_seed(0)
    return {name: 0.3 * torch.randn(shape, generator=generator) for name, shape in shapes.items()}


def saved(state: dict[str, Tensor], folder: Path) -> WeightFile:
    path = folder / "dinov2_vitl14_pretrain.pth"
    torch.save(state, path)
    return WeightFile("dinov2-vitl14", path, hashlib.sha256(path.read_bytes()).hexdigest())


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> WeightFile:
    return saved(official_state(WIDTH, DEPTH), tmp_path_factory.mktemp("dinov2"))


def extractor(file: WeightFile, recipe: str = "dinov2/dgm", size: Size = SMALL) -> DinoV2:
    return DinoV2(recipe, file, "cpu", "parity", size)


def plain_cls(state: dict[str, Tensor], pixels: Tensor) -> Tensor:
    """The ViT of DINOv2, step by step in float64: pre-norm, layer scale, exact GELU, eps 1e-6, CLS after the norm."""
    p = {name: tensor.double() for name, tensor in state.items()}

    def norm(x: Tensor, name: str) -> Tensor:
        centred = x - x.mean(-1, keepdim=True)
        variance = centred.square().mean(-1, keepdim=True)
        return centred / torch.sqrt(variance + 1e-6) * p[f"{name}.weight"] + p[f"{name}.bias"]

    def linear(x: Tensor, name: str) -> Tensor:
        return x @ p[f"{name}.weight"].T + p[f"{name}.bias"]

    patches = F.unfold(pixels.double(), 14, stride=14).transpose(1, 2)  # (n, 256, 588)
    x = patches @ p["patch_embed.proj.weight"].flatten(1).T + p["patch_embed.proj.bias"]
    x = torch.cat([p["cls_token"].expand(len(x), -1, -1), x], dim=1)
    x = x + torch.from_numpy(plain_positions(p["pos_embed"][0].numpy(), 16))
    for block in range(DEPTH):
        name = f"blocks.{block}"
        q, k, v = linear(norm(x, f"{name}.norm1"), f"{name}.attn.qkv").chunk(3, dim=-1)
        heads = []
        for head in range(HEADS):
            part = slice(head * WIDTH // HEADS, (head + 1) * WIDTH // HEADS)
            scores = q[..., part] @ k[..., part].transpose(1, 2) / math.sqrt(WIDTH // HEADS)
            heads.append(torch.softmax(scores, -1) @ v[..., part])
        x = x + p[f"{name}.ls1.gamma"] * linear(torch.cat(heads, -1), f"{name}.attn.proj")
        h = norm(x, f"{name}.norm2")
        if f"{name}.mlp.w12.weight" in p:
            a, b = linear(h, f"{name}.mlp.w12").chunk(2, dim=-1)
            h = linear(a / (1 + torch.exp(-a)) * b, f"{name}.mlp.w3")
        else:
            h = linear(h, f"{name}.mlp.fc1")
            h = linear(0.5 * h * (1 + torch.erf(h / math.sqrt(2))), f"{name}.mlp.fc2")
        x = x + p[f"{name}.ls2.gamma"] * h
    return norm(x, "norm")[:, 0]


def plain_positions(embedding: np.ndarray, grid: int) -> np.ndarray:
    """(1 + grid^2, D): Keys' cubic with a = -3/4, edges repeated, sampled every side / (grid + 0.1)."""
    side = math.isqrt(len(embedding) - 1)

    def kernel(x: float) -> float:
        x, a = abs(x), -0.75
        if x <= 1:
            return (a + 2) * x**3 - (a + 3) * x**2 + 1
        return a * x**3 - 5 * a * x**2 + 8 * a * x - 4 * a if x < 2 else 0.0

    weights = np.zeros((grid, side))
    for row in range(grid):
        centre = (row + 0.5) * side / (grid + 0.1) - 0.5
        for tap in range(math.floor(centre) - 1, math.floor(centre) + 3):
            weights[row, min(max(tap, 0), side - 1)] += kernel(centre - tap)
    image = embedding[1:].reshape(side, side, -1)
    patches = np.einsum("ia,jb,abd->ijd", weights, weights, image)
    return np.concatenate([embedding[:1], patches.reshape(grid * grid, -1)])


@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.parametrize("recipe", ["dinov2/dgm", "dinov2/edm2"])
def test_the_cls_token_is_that_of_a_plain_vit(tmp_path: Path, recipe: str, gated: bool) -> None:
    file = saved(official_state(WIDTH, DEPTH, gated), tmp_path)
    ours = extractor(file, recipe, GATED if gated else SMALL)
    ours.batch = 2
    images = list(np.random.default_rng(0).integers(0, 256, (3, 3, 64, 48), dtype=np.uint8))
    state = official_state(WIDTH, DEPTH, gated)
    expected = plain_cls(state, ours.prepare(torch.from_numpy(np.stack(images)))).numpy()
    found = ours(images)["cls"]
    assert found.shape == (3, WIDTH)
    assert found.dtype == np.float32
    # values of order 1 after the norm, computed in float32
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize(("side", "grid"), [(37, 16), (37, 37), (8, 5)])
def test_positions_are_resampled_with_the_official_offset(side: int, grid: int) -> None:
    embedding = torch.randn(1, 1 + side * side, 4, generator=torch.Generator().manual_seed(1))
    expected = embedding[0].numpy() if side == grid else plain_positions(embedding[0].double().numpy(), grid)
    # torch computes the sampling points in float32: 37 positions away they are off by 4e-6
    np.testing.assert_allclose(resample(embedding, grid)[0].numpy(), expected, atol=3e-5)


@pytest.mark.parametrize("crop", [(300, 451), (100, 80), (224, 224)])
def test_dgm_resizes_as_pil_and_rounds(file: WeightFile, crop: tuple[int, int]) -> None:
    photograph = chelsea()[: crop[0], : crop[1]]
    resized = np.asarray(Image.fromarray(photograph).resize((224, 224), Image.Resampling.BICUBIC))
    expected = ((resized.astype(np.float32) / 255 - MEAN) / STD).transpose(2, 0, 1)
    image = torch.from_numpy(np.ascontiguousarray(photograph.transpose(2, 0, 1)))[None]
    np.testing.assert_allclose(extractor(file).prepare(image)[0].numpy(), expected, atol=1e-6)


def test_edm2_resizes_in_float_without_rounding_or_clipping(file: WeightFile) -> None:
    photograph = np.ascontiguousarray(chelsea().transpose(2, 0, 1))
    photograph[:, 100:200, 100:200] = 255  # an edge where bicubic overshoots
    pixels = extractor(file, "dinov2/edm2").prepare(torch.from_numpy(photograph)[None])[0].numpy()
    levels = (pixels * STD[:, None, None] + MEAN[:, None, None]) * 255
    # PIL's bicubic on float images is the same filter
    expected = np.stack(
        [
            np.asarray(Image.fromarray(c.astype(np.float32)).resize((224, 224), Image.Resampling.BICUBIC))
            for c in photograph
        ]
    )
    np.testing.assert_allclose(levels, expected, atol=2e-3)
    assert levels.max() > 256
    assert np.abs(levels - np.round(levels)).mean() > 0.2  # uniform fractions would have 0.25


def test_the_callers_batch_and_mixed_sizes_change_nothing(file: WeightFile) -> None:
    ours = extractor(file)
    ours.batch = 4
    numbers = np.random.default_rng(2)
    images = [
        numbers.integers(0, 256, (3, *size), dtype=np.uint8)
        for size in [(40, 40), (40, 40), (30, 50), (40, 40), (9, 9)]
    ]
    together = ours(images)["cls"]
    apart = np.concatenate([ours([image])["cls"] for image in images])
    np.testing.assert_array_equal(together, apart)


@pytest.mark.parametrize(
    ("name", "published"),
    [
        ("dinov2-vits14", 22_056_576),
        ("dinov2-vitb14", 86_580_480),
        ("dinov2-vitl14", 304_368_640),
        ("dinov2-vitg14", 1_136_480_768),
    ],
)
def test_the_full_networks_have_the_official_parameters(name: str, published: int) -> None:
    size = SIZES[name]
    official = {key for key in official_state(12, size.depth, size.gated) if key != "mask_token"}
    network = uninitialised(size)
    assert set(from_official(dict.fromkeys(official, torch.zeros(1, 1 + 16 * 16, 1)), 16)) == set(network.state_dict())
    # those of the published file, less the mask token and 1113 positions (37^2 against 16^2)
    assert sum(p.numel() for p in network.parameters()) == published - (1 + 37**2 - 16**2) * size.width


def test_files_of_other_networks_are_refused_by_name(tmp_path: Path) -> None:
    state = official_state(WIDTH, DEPTH)
    state["register_tokens"] = state.pop("norm.bias").reshape(1, 1, -1)
    with pytest.raises(CheckpointError, match=r"missing: norm\.bias; unexpected: register_tokens"):
        extractor(saved(state, tmp_path))


def test_load_wants_vit_l(file: WeightFile, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"missing: blocks\.2\..* more"):
        load("dinov2/dgm", Weights({"dinov2-vitl14": file.path}, tmp_path), "cpu", "parity")
