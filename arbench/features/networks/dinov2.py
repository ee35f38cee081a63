"""DINOv2 (Oquab et al., arXiv 2304.07193): the CLS token, for FD-DINOv2 as dgm-eval or EDM2 compute it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..extractor import FeatureExtractor, Mode
from ..to_device import batch_for
from ..weight_files import WeightFile, Weights
from .checkpoint import assign, check_names, read_state_dict
from .pil_resize import resized
from .pixels import IMAGENET_MEAN, IMAGENET_STD, standardise
from .precision import precision

SIDE = 224
PATCH = 14
GRID = SIDE // PATCH
CPU_BATCH = 8
MEGABYTES = 16
"""Of activations for one image: the hidden layer of ViT-g's MLP before and after its gate, and a block's own."""


@dataclass(frozen=True, slots=True)
class Size:
    """Of a network. `gated`: its MLPs are SwiGLU, w3(silu(a) b) with (a, b) = w12(x)."""

    width: int
    depth: int
    heads: int
    gated: bool = False


SIZES = {
    "dinov2-vits14": Size(384, 12, 6),
    "dinov2-vitb14": Size(768, 12, 12),
    "dinov2-vitl14": Size(1024, 24, 16),
    "dinov2-vitg14": Size(1536, 40, 24, gated=True),
}
"""Weight file in the registry -> size."""
OF_RECIPE = {"dinov2/dgm-s": "dinov2-vits14", "dinov2/dgm-b": "dinov2-vitb14", "dinov2/dgm-g": "dinov2-vitg14"}
"""Recipe -> weight file; the others take ViT-L."""


def load(recipe: str, weights: Weights, device: str, mode: Mode) -> FeatureExtractor:
    """The extractor of "dinov2/dgm", "dinov2/edm2" or a size of `OF_RECIPE`.

    Raises `MissingWeights`, `CheckpointError`.
    """
    file = weights.locate(OF_RECIPE.get(recipe, "dinov2-vitl14"))
    return DinoV2(recipe, file, device, mode, SIZES[file.name])


class DinoV2(FeatureExtractor):
    """CLS token after the last norm, as "cls" (n, width), of images squeezed to 224 x 224 whatever their shape.

    dinov2/dgm and its sizes: PIL bicubic on uint8, so the resized pixels are rounded. dinov2/edm2: torch bicubic with
    antialias in float, neither rounded nor clipped.
    """

    def __init__(self, recipe: str, file: WeightFile, device: str, mode: Mode, size: Size) -> None:
        self.recipe, self.weights, self.mode = recipe, file, mode
        self.device = torch.device(device)
        self.outputs = {"cls": size.width}
        self.batch = batch_for(self.device, CPU_BATCH, MEGABYTES)
        network = uninitialised(size)
        state = from_official(read_state_dict(file.path), GRID)
        check_names(network.state_dict(), state, file, f"DINOv2 of width {size.width} and depth {size.depth}")
        self.network = assign(network, state).to(self.device)

    def prepare(self, images: Tensor) -> Tensor:
        if self.recipe == "dinov2/edm2":
            square = F.interpolate(images.float(), size=(SIDE, SIDE), mode="bicubic", antialias=True)
        else:
            square = resized(images, (SIDE, SIDE))
        return standardise(square, IMAGENET_MEAN, IMAGENET_STD)

    def forward(self, pixels: Tensor) -> dict[str, Tensor]:
        with precision(self.device, self.mode):
            return {"cls": self.network(pixels)}


def uninitialised(size: Size) -> nn.Module:
    """timm's network on the meta device: (n, 3, 224, 224) -> CLS token (n, width) after the last norm."""
    import timm

    with torch.device("meta"):
        network: nn.Module = timm.create_model(
            "vit_giant_patch14_dinov2" if size.gated else "vit_large_patch14_dinov2",
            pretrained=False,
            img_size=SIDE,
            dynamic_img_size=False,
            num_classes=0,
            global_pool="token",
            embed_dim=size.width,
            depth=size.depth,
            num_heads=size.heads,
        )
    return network


def from_official(official: Mapping[str, Tensor], grid: int) -> dict[str, Tensor]:
    """timm's state dict for `grid` x `grid` patches: the mask token is for training only, SwiGLU's layers renamed."""
    renamed = {name.replace(".mlp.w12.", ".mlp.fc1.").replace(".mlp.w3.", ".mlp.fc2."): name for name in official}
    state = {ours: official[name] for ours, name in renamed.items() if name != "mask_token"}
    if "pos_embed" in state:
        state["pos_embed"] = resample(state["pos_embed"], grid)
    return state


def resample(embedding: Tensor, grid: int) -> Tensor:
    """Positional embedding (1, 1 + grid^2, D) from (1, 1 + side^2, D), as DINOv2's own code does it.

    Bicubic without antialias, sampled not at side / grid but at side / (grid + 0.1): the offset once kept a rounding
    error from losing a patch, and the published features depend on it. timm resamples with antialias instead.
    """
    first, patches = embedding[:, :1].float(), embedding[:, 1:].float()
    side = math.isqrt(patches.shape[1])
    if side * side != patches.shape[1] or side == grid:
        return embedding
    image = patches.reshape(1, side, side, -1).permute(0, 3, 1, 2)  # (1, D, side, side)
    factor = (grid + 0.1) / side
    image = F.interpolate(image, scale_factor=(factor, factor), mode="bicubic")  # (1, D, grid, grid)
    return torch.cat([first, image.permute(0, 2, 3, 1).flatten(1, 2)], dim=1)
