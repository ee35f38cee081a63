"""DINOv2 ViT-L/14 (Oquab et al., arXiv 2304.07193): the CLS token, for FD-DINOv2 as dgm-eval or EDM2 compute it."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from ..extractor import FeatureExtractor, Mode
from ..weight_files import WeightFile, Weights
from .checkpoint import assign, check_names, read_state_dict
from .pixels import IMAGENET_MEAN, IMAGENET_STD, standardise, through_pil
from .precision import precision

SIDE = 224
PATCH = 14
GRID = SIDE // PATCH
BATCH = {"cpu": 8, "cuda": 64}


def load(recipe: str, weights: Weights, device: str, mode: Mode) -> FeatureExtractor:
    """The extractor of "dinov2/dgm" or "dinov2/edm2". Raises `MissingWeights`, `CheckpointError`."""
    return DinoV2(recipe, weights.locate("dinov2-vitl14"), device, mode)


class DinoV2(FeatureExtractor):
    """CLS token after the last norm, as "cls" (n, width), of images squeezed to 224 x 224 whatever their shape.

    dinov2/dgm: PIL bicubic on uint8, so the resized pixels are rounded. dinov2/edm2: torch bicubic with antialias in
    float, neither rounded nor clipped. The defaults of width, depth and heads are those of ViT-L.
    """

    def __init__(
        self,
        recipe: str,
        file: WeightFile,
        device: str,
        mode: Mode,
        width: int = 1024,
        depth: int = 24,
        heads: int = 16,
    ) -> None:
        self.recipe, self.weights, self.mode = recipe, file, mode
        self.device = torch.device(device)
        self.outputs = {"cls": width}
        self.batch = BATCH.get(self.device.type, 8)
        network = uninitialised(width, depth, heads)
        state = from_official(read_state_dict(file.path), GRID)
        check_names(network.state_dict(), state, file, "DINOv2 ViT-L/14")
        self.network = assign(network, state).to(self.device)

    def prepare(self, images: Tensor) -> Tensor:
        if self.recipe == "dinov2/edm2":
            resized = F.interpolate(images.float(), size=(SIDE, SIDE), mode="bicubic", antialias=True)
        else:
            resized = through_pil(images, lambda image: image.resize((SIDE, SIDE), Image.Resampling.BICUBIC))
        return standardise(resized, IMAGENET_MEAN, IMAGENET_STD)

    def forward(self, pixels: Tensor) -> dict[str, Tensor]:
        with precision(self.device, self.mode):
            return {"cls": self.network(pixels)}


def uninitialised(width: int = 1024, depth: int = 24, heads: int = 16) -> nn.Module:
    """timm's network on the meta device: (n, 3, 224, 224) -> CLS token (n, width) after the last norm."""
    import timm

    with torch.device("meta"):
        network: nn.Module = timm.create_model(
            "vit_large_patch14_dinov2",
            pretrained=False,
            img_size=SIDE,
            dynamic_img_size=False,
            num_classes=0,
            global_pool="token",
            embed_dim=width,
            depth=depth,
            num_heads=heads,
        )
    return network


def from_official(official: Mapping[str, Tensor], grid: int) -> dict[str, Tensor]:
    """timm's state dict for `grid` x `grid` patches; names are the same, the mask token is for training only."""
    state = {name: tensor for name, tensor in official.items() if name != "mask_token"}
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
