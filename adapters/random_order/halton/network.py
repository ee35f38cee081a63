"""Halton-MaskGIT's network: a transformer over a grid of masked tokens and registers, modulated by the class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from arbench.errors import ConfigError

from ...layers.attention import attend, projected
from ...layers.checkpoint import replace_patterns
from ...layers.linear import Linear, linear
from ...layers.llama import RMSNorm
from ...layers.masked import gathered
from ...layers.order import halton_cells

EPS = 1e-5
IGNORED = (r"head\.weight",)
"""The head's weight is the table of tokens, which is in the file as well."""
TRAINING_ONLY = frozenset({"class", "dropout"})


@dataclass(frozen=True, slots=True)
class Config:
    """Upstream's `Transformer`, with its defaults. `input_size` is tokens per side."""

    input_size: int = 16
    hidden_dim: int = 768
    codebook_size: int = 1024
    depth: int = 12
    heads: int = 16
    mlp_dim: int = 3072
    nclass: int = 1000
    register: int = 1
    proj: int = 1

    def __post_init__(self) -> None:
        if self.proj != 1:
            raise ConfigError(f"proj is {self.proj}", "upstream's code for merged tokens cannot run", "use proj 1")

    @property
    def tokens(self) -> int:
        return self.input_size**2

    @property
    def mask(self) -> int:
        """The id of a masked token."""
        return self.codebook_size

    @property
    def inner(self) -> int:
        """Width inside the MLP: two thirds, rounded up to a multiple of 256."""
        return -(-int(2 * self.mlp_dim / 3) // 256) * 256


def modulated(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    return x * (1 + scale.unsqueeze(1)) + shift.unsqueeze(1)


class Block(nn.Module):
    """Attention with normalised queries and keys, and a gated MLP, both modulated by the class."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        width = config.hidden_dim
        self.heads = config.heads
        self.modulation = Linear(width, 6 * width)
        self.norm1, self.norm2 = RMSNorm(width, EPS), RMSNorm(width, EPS)
        self.qkv, self.out = Linear(width, 3 * width, bias=False), Linear(width, width, bias=False)
        self.gate, self.up = Linear(width, config.inner, bias=False), Linear(width, config.inner, bias=False)
        self.down = Linear(config.inner, width, bias=False)

    def forward(self, x: Tensor, modulation: Tensor, wanted: Tensor | None = None) -> Tensor:
        """`x` (B, L, W), or its rows `wanted` (B, n); `modulation` (B, 6W) is a layer's of the class."""
        shift1, scale1, gate1, shift2, scale2, gate2 = modulation.chunk(6, dim=-1)
        mixed = self._attention(modulated(self.norm1(x), shift1, scale1), wanted)
        x = gathered(x, wanted) + gate1.unsqueeze(1) * mixed
        hidden = modulated(self.norm2(x), shift2, scale2)
        out: Tensor = x + gate2.unsqueeze(1) * self.down(F.silu(self.gate(hidden)) * self.up(hidden))
        return out

    def _attention(self, x: Tensor, wanted: Tensor | None) -> Tensor:
        query, key, value = projected(self.qkv, x, wanted)
        # normalised over all heads together
        query, key = (F.rms_norm(part, part.shape[-1:], None, EPS) for part in (query, key))
        heads = [part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in (query, key, value)]
        mixed: Tensor = self.out(attend(*heads))
        return mixed


class Network(nn.Module):
    """Logits of all tokens, the mask's among them, from a class and the tokens so far."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        width = config.hidden_dim
        self.classes = nn.Embedding(config.nclass + 1, width)  # the last is "no class"
        self.table = nn.Embedding(config.codebook_size + 1, width)
        self.places = nn.Embedding(config.tokens, width)
        self.registers = nn.Embedding(config.register, width) if config.register else None
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.depth))
        self.norm_out = RMSNorm(width, EPS)
        self.norm_bias = nn.Parameter(torch.zeros(width))
        self.modulation = Linear(width, 2 * width)
        self.head_bias = nn.Parameter(torch.zeros(config.codebook_size + 1))
        for table in (self.table, self.places):
            nn.init.normal_(table.weight, std=0.1)
        order = torch.tensor(halton_cells(config.input_size))
        self.register_buffer("order", order, persistent=False)

    order: Tensor
    """(N,) raster places in the order of a Halton sequence."""

    def modulations(self, labels: Tensor) -> list[Tensor]:
        """What classes (B,), `nclass` for none, change: (B, 6W) of each block, and last (B, 2W) of the output."""
        condition = F.silu(self.classes(labels))
        return [layer(condition) for layer in (*(block.modulation for block in self.blocks), self.modulation)]

    def forward(
        self, labels: Tensor, tokens: Tensor, modulations: Sequence[Tensor] | None = None, wanted: Tensor | None = None
    ) -> Tensor:
        """(B, N, V + 1) float32 logits for class ids (B,), `nclass` for none, and tokens (B, N) in raster order.

        `modulations` are those of the labels, if they were made before; with `wanted` (B, n) there are logits at these
        places alone.
        """
        *inner, outer = modulations or self.modulations(labels)
        x = self.table(tokens) + self.places.weight
        if self.registers is not None:
            x = torch.cat((x, self.registers.weight.expand(len(x), -1, -1)), dim=1)
        for index, (block, modulation) in enumerate(zip(self.blocks, inner, strict=True), 1):
            x = block(x, modulation, wanted if index == len(inner) else None)
        shift, scale = outer.chunk(2, dim=-1)
        x = modulated(self.norm_out(x[:, : tokens.shape[1]]) + self.norm_bias, shift, scale)
        return linear(x, self.table.weight, self.head_bias).float()


_TO_OFFICIAL = (
    (r"^classes\.", "cls_emb."),
    (r"^table\.", "tok_emb."),
    (r"^places\.", "pos_emb."),
    (r"^registers\.", "reg_tokens."),
    (r"^norm_out\.", "last_norm.norm_final."),
    (r"^norm_bias$", "last_norm.norm_final.bias"),
    (r"^modulation\.", "last_norm.mlp.1."),
    (r"^head_bias$", "head.bias"),
    (r"^blocks\.", "transformer.layers."),
    (r"\.modulation\.", ".mlp.1."),
    (r"\.norm([12])\.", r".ln\1."),
    (r"\.out\.", ".attn.wo."),
    (r"\.gate\.", ".ff.w1."),
    (r"\.up\.", ".ff.w3."),
    (r"\.down\.", ".ff.w2."),
)


def official_names(ours: str) -> tuple[str, ...]:
    """The official key of one of our parameters; a fused `qkv` is three official tensors."""
    name = replace_patterns(ours, _TO_OFFICIAL)
    return tuple(name.replace(".qkv.", f".attn.w{part}.") for part in "qkv") if ".qkv." in name else (name,)
