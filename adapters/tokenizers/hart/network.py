"""The network of HART's tokenizer: VAR's, read in two ways, with codes alone or with a residual beside them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from ...layers import multiscale
from ...layers.checkpoint import OfficialNames
from ...layers.multiscale import Network
from ...layers.quantize import MultiScaleQuantizer

__all__ = ["IGNORED", "RESIDUAL_SCALE", "Network", "discrete_part", "network_config", "official_names"]

RESIDUAL_SCALE = 0.6
"""Generators divide residuals by it for their diffusion head."""

IGNORED = (r"vae\.quantize\.ema_vocab_hit_SV", r"vae\.(decoder2|post_quant_conv2)\..*", r"disc\..*")
"""Official keys without effect on codes and images: usage counters, a second decoder, the discriminator."""

WITHOUT_EFFECT = frozenset(
    {"quantizer_type", "hybrid", "levels", "disable_quant_resi", "freeze_codebook_for_hybrid", "double_decoder"}
)
"""Official hyper-parameters that change neither codes nor images of a trained network."""
WIDTH = 160
"""Upstream's default of `ch`, the only one that is not VAR's."""


def network_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """The hyper-parameters of VAR's tokenizer among HART's."""
    return {"ch": WIDTH} | {name: value for name, value in config.items() if name not in WITHOUT_EFFECT}


def official_names(config: Mapping[str, Any]) -> OfficialNames:
    """One of our parameter names -> the official key, for a network of this `config`."""
    names = multiscale.official_names(network_config(config))
    return lambda ours: tuple(f"vae.{key}" for key in names(ours))


def discrete_part(quantizer: MultiScaleQuantizer, levels: Sequence[Tensor]) -> Tensor:
    """(B, C, H, W): what the residual is added to, from ids (B, h * w) of all scales.

    Unlike in VAR, and in the discrete-only decoder, codes of the last scale do not pass a convolution here.
    """
    last = len(quantizer.sides) - 1
    f_hat = quantizer.start(len(levels[0]))
    for scale, ids in enumerate(levels[:last]):
        f_hat = quantizer.accumulate(f_hat, ids, scale)
    return f_hat + quantizer.lookup(levels[last], last)
