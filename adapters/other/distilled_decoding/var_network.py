"""The student of VAR: its network over token vectors, with the class as a scale of its own in front."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...layers.checkpoint import replace_patterns
from ...layers.linear import Linear
from ...next_scale.var import network as var
from .student import ContinuousHead

TRAINING_ONLY = var.TRAINING_ONLY | {"n_d_embed_enable"}
IGNORED = var.IGNORED


@dataclass(frozen=True, slots=True)
class Config(var.Config):
    """Upstream's `DD_Model`, its tokenizer's code count and width, and its sampler's scales `second` and `split`."""

    layerwise_n_d_embed: bool = True
    second: int = 5
    split: int = 5


class Block(var.Block):
    """VAR's block; what says data from noise is added between its attention and its MLP."""

    def told(self, x: Tensor, modulation: Tensor, mask: Tensor, kind: Tensor) -> Tensor:
        """`kind` (1, n, C)."""
        gate1, gate2, scale1, scale2, shift1, shift2 = modulation.unbind(2)
        x = x + self.attention(self._adapt(x, scale1, shift1), 0, None, mask) * gate1 + kind
        hidden = F.gelu(self.mlp_in(self._adapt(x, scale2, shift2)), approximate="tanh")
        out: Tensor = x + self.mlp_out(hidden) * gate2
        return out


class Network(var.Network):
    """`config` has the scale of the class in front of the others; `starts` are places of tokens, without it."""

    def __init__(self, config: Config) -> None:
        super().__init__(replace(config, patch_nums=(1, *config.patch_nums)))
        width = config.embed_dim
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.depth))
        self.kind_table = nn.Embedding(2, width)
        if config.layerwise_n_d_embed:
            self.kinds = nn.ModuleList(Linear(width, width) for _ in range(config.depth + 1))
        self.continuous = ContinuousHead(width, config.z_channels)

    def start_of(self, scale: int) -> int:
        """The place of the first token of a scale, 0 the first."""
        return self.config.starts[scale + 1] - 1

    def predict(self, labels: Tensor, vectors: Tensor, start: int) -> tuple[Tensor, Tensor]:
        """Token vectors (B, L, C) and logits (B, L, V), given vectors (B, L, C) that are noise from `start` on."""
        condition = self.class_table(labels)
        x = torch.cat((condition.unsqueeze(1) + self.first_position, self.features_in(vectors.float())), dim=1)
        level = torch.cat([torch.full((n,), scale, device=x.device) for scale, n in enumerate(self.config.lengths)])
        place = torch.arange(x.shape[1], device=x.device)
        kind = self.kind_table((place < 1 + start).long()).unsqueeze(0)
        x = x + self.level_table(level) + self.position + kind
        mask = (level[:, None] > level) | (place[:, None] == place)
        kinds = [layer(kind) for layer in self.kinds] if hasattr(self, "kinds") else [kind] * (len(self.blocks) + 1)
        for block, modulation, told in zip(self.blocks, self.modulate(condition), kinds, strict=False):
            x = block.told(x, modulation, mask, told)
        x = (x + kinds[-1])[:, 1:]
        return self.continuous(x, condition.unsqueeze(1)), self.logits(x, condition)


_TO_OFFICIAL = (
    (r"^kind_table\.", "n_d_embed."),
    (r"^kinds\.", "layerwise_n_d_embed."),
    (r"^continuous\.modulation$", "final_layer_conti.scale_shift_table"),
    (r"^continuous\.out\.", "final_layer_conti.linear."),
)


def official_names(ours: str) -> tuple[str, ...]:
    """The official key of one of our parameters."""
    name = replace_patterns(ours, _TO_OFFICIAL)
    return (name,) if name != ours else var.official_names(ours)
