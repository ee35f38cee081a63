"""How published tokenizer evaluations measure reconstructions: their metrics, quantisation and rFID, by repository.

Imports no torch until something is quantised.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

from ..errors import UnknownName

if TYPE_CHECKING:
    from torch import Tensor

    from ..metrics.sets.published_roots import Route

LEVELS = 256


def _round_half_up(x: Tensor) -> Tensor:
    return (127.5 * x + 128).clamp(0, 255)


def _round(x: Tensor) -> Tensor:
    return ((x + 1) / 2 * 255).clamp(0, 255).round()


def _truncate(x: Tensor) -> Tensor:
    return (x.clamp(-1, 1) + 1) / 2 * 255


def _truncate_127(x: Tensor) -> Tensor:
    return ((x + 1) * 127.5).clamp(0, 255)


def _truncate_unit(y: Tensor) -> Tensor:
    return y.clamp(0, 1) * 255


def _round_truncate_unit(y: Tensor) -> Tensor:
    return (y.clamp(0, 1) * 255).round() / 255 * 255


QUANTISERS: Mapping[str, Callable[[Tensor], Tensor]] = MappingProxyType(
    {
        "round-half-up": _round_half_up,
        "round": _round,
        "truncate": _truncate,
        "truncate-127.5": _truncate_127,
        "truncate-unit": _truncate_unit,
        "round-truncate-unit": _round_truncate_unit,
    }
)
"""float32 -> values that are then cut to bytes; in [-1, 1] but for the two `unit` rules, which take [0, 1].

"round-half-up": DiT, LlamaGen, StyleGAN; "round", half to even: MAR; "truncate": SEED-Voken, VTBench; "truncate-127.5":
guided-diffusion; "truncate-unit": RAR and TiTok samples; "round-truncate-unit": 1d-tokenizer's evaluation.
"""
INGESTS: Mapping[str, Callable[[Tensor], Tensor]] = MappingProxyType(
    {
        "v/255": lambda v: v.float() / 255,
        "(v/255-.5)/.5": lambda v: (v.float() / 255 - 0.5) / 0.5,
        "v/127.5-1": lambda v: (v.double() / 127.5 - 1).float(),
    }
)
"""How bytes become the float32 input of a tokenizer: torchvision's ToTensor, with Normalize(.5, .5), and taming's."""


def quantise(x: Tensor, rule: str) -> Tensor:
    """uint8 of the same shape from the floats that a decoder gives, in the range that the rule takes."""
    import torch

    if rule not in QUANTISERS:
        raise UnknownName("quantisation rule", rule, QUANTISERS, "one of those of paired_conventions.QUANTISERS")
    return QUANTISERS[rule](x.float()).to(torch.uint8)


def requantised(originals: Tensor, ingest: str, rule: str) -> Tensor:
    """What uint8 originals become where a repository turns them into floats and back; same shape, uint8.

    None of 256 levels changes under the rules that round; 95 do in SEED-Voken, 63 in VTBench and guided-diffusion.
    """
    import torch

    if ingest not in INGESTS:
        raise UnknownName("ingest", ingest, INGESTS, "one of those of paired_conventions.INGESTS")
    levels = quantise(INGESTS[ingest](torch.arange(LEVELS)), rule)
    return levels.to(originals.device)[originals.long()]


@dataclass(frozen=True, slots=True)
class PairedConvention:
    """What one repository's evaluation of reconstructions computes.

    `metrics` maps its own names to ours (see `paired.METRICS`).
    `original` is what it does to the originals before pixel metrics: an (ingest, rule) for `requantised`, or None if
    they stay as they are. `recipe` is the feature recipe of its rFID, against the same originals.
    """

    name: str
    source: str
    metrics: Mapping[str, str]
    original: tuple[str, str] | None
    recipe: str
    splits: int | None
    """Splits of its Inception Score; None: it computes none."""
    note: str = ""
    flags: tuple[str, ...] = ()
    root: Route = "sqrtm"
    """The covariance root of its rFID."""

    def originals(self, images: Tensor) -> Tensor:
        """The originals as this repository's pixel metrics see them; uint8 to uint8, same shape."""
        return requantised(images, *self.original) if self.original else images


def _names(**metrics: str) -> Mapping[str, str]:
    return MappingProxyType(metrics)


CONVENTIONS: Mapping[str, PairedConvention] = MappingProxyType(
    {
        convention.name: convention
        for convention in (
            PairedConvention(
                "llamagen",
                "FoundationVision/LlamaGen tokenizer/tokenizer_image/reconstruction_vq_ddp.py",
                _names(psnr="psnr", ssim="ssim-uniform7-range2"),
                None,
                "inception/tf1",
                None,
                "originals stay float in PSNR and SSIM, equal to bytes / 255; rFID by ADM's evaluator on PNG files; "
                "counts the last images twice where the number of processes does not divide the images",
                ("data_range_2",),
            ),
            PairedConvention(
                "seed-voken",
                "TencentARC/SEED-Voken evaluation_image.py",
                _names(psnr="psnr", ssim="ssim-uniform7", lpips_alex="lpips-alex", lpips_vgg="lpips-vgg"),
                ("v/127.5-1", "truncate"),
                "inception/half-pixel",
                None,
                "PSNR and SSIM are means of batch means, of outputs truncated to bytes; LPIPS and rFID there are of "
                "floats that were never bytes",
                ("originals_truncated",),
            ),
            PairedConvention(
                "1d-tokenizer",
                "bytedance/1d-tokenizer evaluator/evaluator.py",
                _names(),
                None,
                "inception/tf1-float64",
                1,
                "computes rFID, Inception Score and codebook use only",
                root="sqrtm-diagonal",
            ),
            PairedConvention(
                "maskbit",
                "markweberdev/maskbit evaluator/evaluator.py",
                _names(psnr="psnr-eps1e-10", ssim="ssim-torchmetrics", lpips="lpips-vgg", mse="mse", mae="l1"),
                None,
                "inception/tf1-float64",
                1,
                "only rFID and the Inception Score there are of bytes, the others of clamped floats",
                root="sqrtm-diagonal",
            ),
            PairedConvention(
                "lightningdit",
                "hustvl/LightningDiT evaluate_tokenizer.py",
                _names(psnr="psnr", ssim="ssim-torchmetrics-signed", lpips="lpips-vgg"),
                None,
                "inception/half-pixel",
                None,
                "PSNR there is of PNG files paired by sorted name; SSIM and LPIPS are of floats that were never bytes, "
                "for LPIPS not clamped either",
            ),
        )
    }
)


def find(name: str) -> PairedConvention:
    if name not in CONVENTIONS:
        raise UnknownName("reconstruction convention", name, CONVENTIONS, "arbench ls metrics")
    return CONVENTIONS[name]
