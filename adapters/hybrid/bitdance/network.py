"""BitDance's networks: a Llama-like transformer over groups of binary tokens, and the head that draws a group."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from arbench.errors import ConfigError

from ...layers.attention import KVCache, attend
from ...layers.checkpoint import OfficialNames, replace_patterns
from ...layers.flow_blocks import TimeEmbedding
from ...layers.linear import Linear
from ...layers.rope import rotate_pairs

TRAINING_ONLY = frozenset(
    {"class", "diff_batch_mul", "grad_checkpointing", "class_dropout_prob", "trained_vae", "drop_rate", "time_schedule"}
    | {"perturb_schedule", "perturb_rate", "perturb_rate_max", "P_std", "P_mean"}
)
IGNORED = (r"vae\..*",)
"""The generators' files hold the tokenizer as well."""
EPS, BASE, MULTIPLE, HEAD_WIDTH = 1e-6, 10000.0, 256, 64


@dataclass(frozen=True, slots=True)
class Config:
    """Upstream's `BitDance`, less what only training uses; `file` is that of its class."""

    dim: int = 768
    n_layer: int = 24
    n_head: int = 12
    diff_layers: int = 6
    diff_dim: int = 768
    diff_adanln_layers: int = 2
    latent_dim: int = 32
    down_size: int = 16
    patch_size: int = 1
    resolution: int = 256
    cls_token_num: int = 16
    num_classes: int = 1000
    time_shift: float = 1.0
    file: str = "model"
    parallel_num: int = 4
    parallel_mode: str = "standard"

    def __post_init__(self) -> None:
        if self.file not in ("model", "model_parallel") or self.parallel_mode not in ("standard", "patch"):
            raise ConfigError(
                f"no BitDance of {self.file!r} in mode {self.parallel_mode!r}",
                "its files are model and model_parallel, its modes standard and patch",
                "use one of them",
            )
        if self.tokens % self.group or (self.walks and math.isqrt(self.group) ** 2 != self.group):
            raise ConfigError(
                f"groups of {self.group} do not fill {self.side} x {self.side} tokens", "they have one size", ""
            )

    @property
    def side(self) -> int:
        return self.resolution // (self.down_size * self.patch_size)

    @property
    def tokens(self) -> int:
        return self.side**2

    @property
    def channels(self) -> int:
        """Numbers of a token."""
        return self.latent_dim * self.patch_size**2

    @property
    def group(self) -> int:
        """Tokens of a pass."""
        return self.parallel_num if self.file == "model_parallel" else 1

    @property
    def walks(self) -> bool:
        """Whether a group is a square of tokens, not a part of a row."""
        return self.file == "model_parallel" and self.parallel_mode == "patch"

    @property
    def hidden(self) -> int:
        return math.ceil(int(2 * 4 * self.dim / 3) / MULTIPLE) * MULTIPLE


class Gated(nn.Module):
    """silu of one half of a projection times the other."""

    def __init__(self, inputs: int, hidden: int, outputs: int, *, bias: bool) -> None:
        super().__init__()
        self.both = Linear(inputs, 2 * hidden, bias=bias)
        self.down = Linear(hidden, outputs, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        gate, up = self.both(x).chunk(2, dim=-1)
        out: Tensor = self.down(F.silu(gate) * up)
        return out


class Block(nn.Module):
    def __init__(self, config: Config) -> None:
        super().__init__()
        self.heads = config.n_head
        self.attention_norm, self.ffn_norm = nn.RMSNorm(config.dim, eps=EPS), nn.RMSNorm(config.dim, eps=EPS)
        self.qkv = Linear(config.dim, 3 * config.dim, bias=False)
        self.out = Linear(config.dim, config.dim, bias=False)
        self.mlp = Gated(config.dim, config.hidden, config.dim, bias=False)

    def forward(
        self, x: Tensor, rotations: Tensor, mask: Tensor | None, start: int = 0, cache: KVCache | None = None
    ) -> Tensor:
        heads = self.qkv(self.attention_norm(x)).unflatten(-1, (3, self.heads, -1))
        query, key, value = heads.permute(2, 0, 3, 1, 4)
        query, key = rotate_pairs(query, rotations), rotate_pairs(key, rotations)
        if cache is not None:
            key, value = cache.extend(key, value, start)
        x = x + self.out(attend(query, key, value, mask=mask))
        out: Tensor = x + self.mlp(self.ffn_norm(x))
        return out


class HeadBlock(nn.Module):
    """A gated MLP; among several tokens with attention before it."""

    def __init__(self, width: int, *, attentive: bool) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, eps=EPS)
        self.mlp = Gated(width, int(width * 1.5), width, bias=True)
        self.attentive = attentive
        if attentive:
            self.attention_norm = nn.LayerNorm(width, eps=EPS)
            self.qkv, self.out = Linear(width, 3 * width), Linear(width, width)

    def forward(self, x: Tensor, modulation: Sequence[Tensor]) -> Tensor:
        """`modulation` are scale, shift and gate, of the attention if there is one and of the MLP."""
        if self.attentive:
            scale, shift, gate = modulation[:3]
            h = self.qkv(self.attention_norm(x) * (1 + scale) + shift)
            query, key, value = h.unflatten(-1, (3, -1, HEAD_WIDTH)).permute(2, 0, 3, 1, 4)
            x = x + self.out(attend(query, key, value)) * gate
        scale, shift, gate = modulation[-3:]
        out: Tensor = x + self.mlp(self.norm(x) * (1 + scale) + shift) * gate
        return out


class Head(nn.Module):
    """The clean tokens of a group, given noisy ones and states. Neighbouring blocks share their modulation."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        width, attentive = config.diff_dim, config.file == "model_parallel"
        self.time = TimeEmbedding(width)
        self.state_in = Linear(config.dim, width)
        self.token_in = Linear(config.channels, width)
        self.blocks = nn.ModuleList(HeadBlock(width, attentive=attentive) for _ in range(config.diff_layers))
        self.modulations = nn.ModuleList(
            Linear(width, (6 if attentive else 3) * width) for _ in range(config.diff_adanln_layers)
        )
        self.shared = max(1, config.diff_layers // config.diff_adanln_layers)
        self.norm = nn.LayerNorm(width, eps=EPS, elementwise_affine=False)
        self.modulation = Linear(width, 2 * width)
        self.out = Linear(width, config.channels)

    def forward(self, noisy: Tensor, times: Tensor, states: Tensor) -> Tensor:
        """(B, n, C) from tokens (B, n, C) at times (1 or B,) from 0, noise, to 1, and states (B, n, dim)."""
        return self.clean(noisy, self.time(1000 * times), self.state_in(states))

    def clean(self, noisy: Tensor, time: Tensor, state: Tensor) -> Tensor:
        """`forward` of what was embedded before: a time (1 or B, W), states (B, n, W)."""
        x = self.token_in(noisy.to(self.token_in.weight.dtype))
        y = F.silu(time.unsqueeze(1) + state)
        parts: Sequence[Tensor] = ()
        for index, block in enumerate(self.blocks):
            if index % self.shared == 0:
                layer = self.modulations[index // self.shared]
                parts = layer(y).chunk(layer.out_features // x.shape[-1], dim=-1)
            x = block(x, parts)
        scale, shift = self.modulation(y).chunk(2, dim=-1)
        out: Tensor = self.out(self.norm(x) * (1 + scale) + shift)
        return out


class Network(nn.Module):
    """The sequence is class tokens, queries of the first group, tokens; `rotations` stays float32."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        c = config
        self.config = config
        self.class_table = nn.Embedding(c.num_classes + 1, c.dim * c.cls_token_num)
        if c.file == "model_parallel":
            self.queries = nn.Parameter(torch.randn(1, c.group - 1, c.dim) * 0.02)
        self.token_in = Gated(c.channels, int(1.5 * c.dim), c.dim, bias=True)
        self.embedded_norm = nn.RMSNorm(c.dim, eps=EPS)
        self.blocks = nn.ModuleList(Block(c) for _ in range(c.n_layer))
        self.norm = nn.RMSNorm(c.dim, eps=EPS)
        self.state_position = nn.Embedding(c.tokens, c.dim)
        self.head = Head(c)
        self.rotations = self._rotations("cpu")

    @property
    def first(self) -> int:
        """Places before the tokens: of the class and the queries."""
        return self.config.cls_token_num + self.config.group - 1

    def walk(self, device: torch.device | str) -> Tensor:
        """(L,) the raster index of the token that is drawn first, second, ..."""
        c = self.config
        cells = torch.arange(c.tokens, device=device)
        if c.walks:
            edge = math.isqrt(c.group)
            cells = cells.reshape(c.side // edge, edge, c.side // edge, edge).transpose(1, 2).flatten()
        return cells

    def _rotations(self, device: torch.device | str) -> Tensor:
        """(first + L, D / 2, 2): half of the pairs turn with the column, half with the row, counted from 1.5."""
        c = self.config
        with torch.device("cpu"):
            half = c.dim // c.n_head // 2
            rates = 1.0 / BASE ** (torch.arange(0, half, 2).float() / half)
            cells = self.walk("cpu")
            places = torch.stack((cells % c.side, cells // c.side), dim=1) + 1.5
            angles = (places[..., None] * rates).flatten(1)
            angles = torch.cat((torch.zeros(self.first, angles.shape[1]), angles))
            table = torch.stack((angles.cos(), angles.sin()), dim=-1)
        return table.to(device)

    def place(self, device: torch.device | str, dtype: torch.dtype) -> Self:
        self.rotations = self._rotations(device)
        return self.to(device=device, dtype=dtype)

    def condition(self, labels: Tensor, *, guided: bool) -> Tensor:
        """(B, first, dim) of classes (B,); with `guided` (2B, first, dim), the second half that of no class."""
        if guided:
            labels = torch.cat((labels, torch.full_like(labels, self.config.num_classes)))
        classes: Tensor = self.class_table(labels).unflatten(-1, (self.config.cls_token_num, -1))
        if self.config.file != "model_parallel":
            return classes
        return torch.cat((classes, self.queries.expand(len(classes), -1, -1)), dim=1)

    def forward(
        self, x: Tensor, mask: Tensor | None, start: int = 0, caches: Sequence[KVCache] | None = None
    ) -> Tensor:
        """(B, n, dim) states of embedded tokens `x` (B, n, dim) from place `start` on."""
        x = self.embedded_norm(x)
        turns = self.rotations[start : start + x.shape[1]]
        for index, block in enumerate(self.blocks):
            x = block(x, turns, mask, start, None if caches is None else caches[index])
        states: Tensor = self.norm(x)
        return states

    def sight(self, length: int, device: torch.device | str) -> Tensor:
        """(length, length) boolean: causal before the last class token, and in whole groups from it on."""
        place, group = torch.arange(length, device=device), self.config.group
        past = place - (self.config.cls_token_num - 1)
        end = torch.where(past >= 0, place + group - 1 - past % group, place)
        return end[:, None] >= place

    def states(self, labels: Tensor, tokens: Tensor) -> Tensor:
        """(B, L, dim) what the head is given for tokens (B, L, C) in the order of drawing."""
        x = torch.cat((self.condition(labels, guided=False), self.token_in(tokens[:, : -self.config.group])), dim=1)
        x = self(x, self.sight(x.shape[1], x.device))
        return x[:, -self.config.tokens :] + self.state_position.weight

    def allocate(self, rows: int) -> list[KVCache]:
        """Caches for `rows` whole images."""
        c, weight = self.config, self.norm.weight
        return [
            KVCache(rows, c.n_head, self.first + c.tokens, c.dim // c.n_head, weight.dtype, weight.device)
            for _ in self.blocks
        ]

    def grid(self, drawn: Tensor) -> Tensor:
        """(B, latent_dim, h, w) bits of tokens (B, L, C) in the order of drawing."""
        c, p = self.config, self.config.patch_size
        raster = drawn[:, self.walk(drawn.device).argsort()]
        patches = raster.unflatten(1, (c.side, c.side)).unflatten(-1, (c.latent_dim, p, p))
        return patches.permute(0, 3, 1, 4, 2, 5).flatten(4, 5).flatten(2, 3)

    def in_order(self, bits: Tensor) -> Tensor:
        """The inverse of `grid`."""
        c, p = self.config, self.config.patch_size
        patches = bits.unflatten(3, (c.side, p)).unflatten(2, (c.side, p)).permute(0, 2, 4, 1, 3, 5)
        return patches.flatten(3).flatten(1, 2)[:, self.walk(bits.device)]


_TO_OFFICIAL = (
    (r"^class_table\.", "cls_embedding."),
    (r"^queries", "query_token"),
    (r"^token_in\.", "proj_in."),
    (r"^embedded_norm\.", "emb_norm."),
    (r"^state_position\.", "pos_for_diff."),
    (r"^blocks\.(\d+)\.qkv\.", r"layers.\1.attention.wqkv."),
    (r"^blocks\.(\d+)\.out\.", r"layers.\1.attention.wo."),
    (r"^blocks\.(\d+)\.mlp\.", r"layers.\1.feed_forward."),
    (r"^blocks\.", "layers."),
    (r"^head\.time\.time_in\.", "head.net.time_embed.mlp.0."),
    (r"^head\.time\.time_out\.", "head.net.time_embed.mlp.2."),
    (r"^head\.state_in\.", "head.net.cond_embed."),
    (r"^head\.token_in\.", "head.net.input_proj."),
    (r"^head\.modulations\.", "head.net.ada_ln_blocks."),
    (r"^head\.modulation\.", "head.net.final_layer.ada_ln_modulation."),
    (r"^head\.out\.", "head.net.final_layer.linear."),
    (r"^head\.blocks\.(\d+)\.qkv\.", r"head.net.res_blocks.\1.attn.wqkv."),
    (r"^head\.blocks\.(\d+)\.out\.", r"head.net.res_blocks.\1.attn.wo."),
    (r"^head\.blocks\.(\d+)\.attention_norm\.", r"head.net.res_blocks.\1.norm1."),
    (r"^head\.blocks\.(\d+)\.mlp\.", r"head.net.res_blocks.\1."),
    (r"^head\.blocks\.", "head.net.res_blocks."),
    (r"\.both\.", ".w1."),
    (r"\.down\.", ".w2."),
)


def official_names(config: Config) -> OfficialNames:
    """One of our parameter names -> the official key: beside attention the head's norm has a number."""

    def name(ours: str) -> tuple[str, ...]:
        official = replace_patterns(ours, _TO_OFFICIAL)
        if config.file == "model_parallel" and ".res_blocks." in official:
            official = official.replace(".norm.", ".norm2.")
        return (official,)

    return name
