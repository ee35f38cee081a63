"""The feature recipes: a network, its weights, and how an image becomes its input. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..errors import UnknownName

if TYPE_CHECKING:
    from .extractor import FeatureExtractor, Mode
    from .weight_files import Weights


@dataclass(frozen=True, slots=True)
class Recipe:
    """`outputs` maps output names to lengths; `weights` names the files in the registry that it needs."""

    name: str
    outputs: dict[str, int]
    weights: tuple[str, ...]
    loader: str
    """"module:function", called as function(recipe name, weights, device, mode)."""
    what: str
    gflop: float
    """Floating-point operations for one image, in units of 1e9: for estimates of time."""


_INCEPTION = {"pool3": 2048, "spatial": 2023, "logits": 1008, "logits_unbiased": 1008}
_LOAD_INCEPTION = "arbench.features.networks.inception:load"
_LOAD_DINO = "arbench.features.networks.dinov2:load"
_LOAD_CLIP = "arbench.features.networks.clip:load"


def _inception(name: str, what: str) -> Recipe:
    return Recipe(f"inception/{name}", _INCEPTION, ("inception",), _LOAD_INCEPTION, what, 11.4)


def _dinov2(name: str, width: int, weights: str, what: str, gflop: float) -> Recipe:
    return Recipe(f"dinov2/{name}", {"cls": width}, (weights,), _LOAD_DINO, what, gflop)


def _clip(name: str, length: int, weights: str, what: str, gflop: float) -> Recipe:
    return Recipe(name, {"image": length}, (weights,), _LOAD_CLIP, what, gflop)


RECIPES: dict[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        _inception("tf1", "TF1 bilinear to 299, (x - 128) / 128: ADM, torch-fidelity"),
        _inception("clean", "PIL bicubic in float to 299, clipped, (x - 128) / 128: clean-fid"),
        _inception("half-pixel", "bilinear without antialias to 299 on [0, 1], 2x - 1: pytorch-fid, SEED-Voken"),
        _inception("antialias", "bilinear with antialias to 299, (x - 128) / 128: torchmetrics"),
        _inception("grid-sample", "TF1 bilinear by affine grid, (x - 128) / 128: StyleGAN, EDM2"),
        _inception("tf1-float64", "as tf1, the network in float64: 1d-tokenizer"),
        _dinov2("dgm", 1024, "dinov2-vitl14", "PIL bicubic to 224, rounded: dgm-eval", 162),
        _dinov2("dgm-s", 384, "dinov2-vits14", "as dgm, with ViT-S/14", 12),
        _dinov2("dgm-b", 768, "dinov2-vitb14", "as dgm, with ViT-B/14", 46),
        _dinov2("dgm-g", 1536, "dinov2-vitg14", "as dgm, with ViT-g/14", 584),
        _dinov2("edm2", 1024, "dinov2-vitl14", "bicubic antialias in float to 224: EDM2", 162),
        Recipe(
            "clip-b32/clean",
            {"image": 512},
            ("clip-vitb32",),
            _LOAD_CLIP,
            "PIL bicubic, centre crop 224: clean-fid",
            8.8,
        ),
        _clip("clip-b32/hf", 512, "clip-vitb32", "as clean, crop rounded down: torchmetrics with ViT-B/32", 8.8),
        _clip(
            "clip-b32/llamagen", 512, "clip-vitb32", "square of 256 by Lanczos, truncated, then clean: LlamaGen", 8.8
        ),
        _clip("clip-l14/hf", 768, "clip-vitl14", "as clean, crop rounded down: torchmetrics' default", 162),
        Recipe(
            "clip-l14-336/cmmd",
            {"image": 768},
            ("clip-vitl14-336",),
            _LOAD_CLIP,
            "centre crop, PIL bicubic 336: CMMD",
            382,
        ),
        Recipe(
            "vgg16/torch-fidelity",
            {"fc2_relu": 4096},
            ("vgg16",),
            "arbench.features.networks.vgg16:load",
            "TF1 bilinear to 224, ImageNet mean and std on 0..255: torch-fidelity's precision and recall",
            31.0,
        ),
        Recipe(
            "efficientnet-lite0",
            {"pooled": 1280},
            (),
            "arbench.features.networks.efficientnet:load",
            "bilinear antialias to 224; its weights come with the installation",
            0.8,
        ),
    )
}


def find(name: str) -> Recipe:
    if name not in RECIPES:
        raise UnknownName("feature recipe", name, RECIPES, "arbench ls metrics")
    return RECIPES[name]


def load(name: str, weights: Weights, device: str = "cpu", mode: Mode = "parity") -> FeatureExtractor:
    """The extractor of a recipe. Raises `MissingWeights` if a file it needs is nowhere."""
    import importlib

    module, _, function = find(name).loader.partition(":")
    extractor: FeatureExtractor = getattr(importlib.import_module(module), function)(name, weights, device, mode)
    return extractor
