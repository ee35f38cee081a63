"""Stable Diffusion's autoencoder under Diffusers' names, which have changed once; its attention is of linear layers."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn

from ...layers import kl
from ...layers.attention import attend
from ...layers.autoencoder import group_norm
from ...layers.checkpoint import replace_patterns
from ...layers.kl import TRAINING_ONLY, Config
from ...layers.linear import Linear

__all__ = ["IGNORED", "LATENT_SCALE", "TRAINING_ONLY", "Config", "Network", "official_names"]

LATENT_SCALE = 0.18215
"""Generators work on latents times this number."""
IGNORED = ()
PROJECTIONS = {"new": ("to_q", "to_k", "to_v", "to_out.0"), "old": ("query", "key", "value", "proj_attn")}
"""Names of the attention's layers: since version 0.17 of Diffusers, and before."""


class Attention(nn.Module):
    """One head over all places of a map (B, C, H, W)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = group_norm(channels)
        self.qkv, self.out = Linear(channels, 3 * channels), Linear(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        rows = self.norm(x).flatten(2).transpose(1, 2).unsqueeze(1)  # (B, 1, H * W, C)
        mixed = self.out(attend(*self.qkv(rows).chunk(3, dim=-1)))
        return x + mixed.transpose(1, 2).unflatten(2, x.shape[2:])


class Network(kl.Network):
    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__(config)
        for part in (self.encoder, self.decoder):
            part.middle[1] = Attention(part.middle[0].norm1.num_channels)


_TO_OFFICIAL = (
    (r"\.middle\.1\.norm\.", ".mid_block.attentions.0.group_norm."),
    (r"\.middle\.1\.", ".mid_block.attentions.0."),
    (r"\.middle\.0\.", ".mid_block.resnets.0."),
    (r"\.middle\.2\.", ".mid_block.resnets.1."),
    (r"^encoder\.levels\.", "encoder.down_blocks."),
    (r"^decoder\.levels\.", "decoder.up_blocks."),
    (r"_blocks\.(\d+)\.blocks\.", r"_blocks.\1.resnets."),
    (r"down_blocks\.(\d+)\.resample\.", r"down_blocks.\1.downsamplers.0."),
    (r"up_blocks\.(\d+)\.resample\.", r"up_blocks.\1.upsamplers.0."),
    (r"\.skip\.", ".conv_shortcut."),
    (r"coder\.norm\.", "coder.conv_norm_out."),
    (r"\.stem\.", ".conv_in."),
    (r"\.head\.", ".conv_out."),
)


def official_names(config: Mapping[str, Any], style: str = "new") -> Callable[[str], tuple[str, ...]]:
    """One of our parameter names -> its keys in Diffusers' file; the same for every `config`."""
    *three, out = PROJECTIONS[style]

    def name(ours: str) -> tuple[str, ...]:
        found = re.sub(r"(attentions\.0)\.out\.", rf"\1.{out}.", replace_patterns(ours, _TO_OFFICIAL))
        return tuple(found.replace(".qkv.", f".{part}.") for part in three) if ".qkv." in found else (found,)

    return name
