"""LlamaGen's network: a Llama decoder over a condition and an image's tokens, with rotary positions on a grid."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..layers.attention import KVCache, attend
from ..layers.linear import Linear
from ..layers.rope import grid_rotations, rotate_pairs


@dataclass(frozen=True, slots=True)
class Config:
    """Upstream's `ModelArgs`, less what only training uses."""

    dim: int = 4096
    n_layer: int = 32
    n_head: int = 32
    n_kv_head: int | None = None
    multiple_of: int = 256
    ffn_dim_multiplier: float | None = None
    rope_base: float = 10000.0
    norm_eps: float = 1e-5
    num_classes: int = 1000
    caption_dim: int = 2048
    class_dropout_prob: float = 0.1
    model_type: Literal["c2i", "t2i"] = "c2i"
    vocab_size: int = 16384
    cls_token_num: int = 1
    block_size: int = 256

    @property
    def kv_heads(self) -> int:
        return self.n_kv_head or self.n_head

    @property
    def head_width(self) -> int:
        return self.dim // self.n_head

    @property
    def hidden(self) -> int:
        """Width inside the SwiGLU: 8/3 of the model's, rounded up to a multiple of `multiple_of`."""
        width = int(2 * 4 * self.dim / 3)
        if self.ffn_dim_multiplier is not None:
            width = int(self.ffn_dim_multiplier * width)
        return math.ceil(width / self.multiple_of) * self.multiple_of


TRAINING_ONLY = frozenset(
    {"token_dropout_p", "attn_dropout_p", "resid_dropout_p", "ffn_dropout_p", "drop_path_rate", "initializer_range"}
    | {"class", "max_batch_size", "max_seq_len"}
)


class RMSNorm(nn.Module):
    """Normalised in float32, cast back, then scaled, in this order."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        wide = x.float()
        return (wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + self.eps)).type_as(x) * self.weight


class Block(nn.Module):
    def __init__(self, config: Config) -> None:
        super().__init__()
        self.heads, self.kv_heads, self.width = config.n_head, config.kv_heads, config.head_width
        self.attention_norm = RMSNorm(config.dim, config.norm_eps)
        self.qkv = Linear(config.dim, (self.heads + 2 * self.kv_heads) * self.width, bias=False)
        self.out = Linear(config.dim, config.dim, bias=False)
        self.ffn_norm = RMSNorm(config.dim, config.norm_eps)
        self.gate = Linear(config.dim, config.hidden, bias=False)
        self.up = Linear(config.dim, config.hidden, bias=False)
        self.down = Linear(config.hidden, config.dim, bias=False)

    def forward(
        self, x: Tensor, rotations: Tensor, start: int = 0, cache: KVCache | None = None, mask: Tensor | None = None
    ) -> Tensor:
        """`x` (B, n, dim) are the tokens from position `start` on; earlier ones are in the cache."""
        x = x + self._attention(self.attention_norm(x), rotations, start, cache, mask)
        h = self.ffn_norm(x)
        return x + self.down(F.silu(self.gate(h)) * self.up(h))

    def _attention(
        self, x: Tensor, rotations: Tensor, start: int, cache: KVCache | None, mask: Tensor | None
    ) -> Tensor:
        heads = self.qkv(x).unflatten(-1, (-1, self.width)).transpose(1, 2)  # (B, H + 2 H_kv, n, D)
        turned, value = heads.split([self.heads + self.kv_heads, self.kv_heads], dim=1)
        query, key = rotate_pairs(turned, rotations).split([self.heads, self.kv_heads], dim=1)
        if cache is not None:
            key, value = cache.extend(key, value, start)
        causal = mask is None and x.shape[1] > 1  # a single token may look at everything before it
        return self.out(attend(query, key, value, mask=mask, causal=causal))


def condition_mask(valid: Tensor, length: int) -> Tensor:
    """(B, 1, length, length): causal, blind to padded condition tokens; every token sees itself.

    `valid` (B, T) is True at the condition tokens in use.
    """
    rows, count = valid.shape
    seen = torch.ones(rows, length, dtype=torch.bool, device=valid.device)
    seen[:, :count] = valid.bool()
    square = torch.ones(length, length, dtype=torch.bool, device=valid.device)
    return ((seen[:, None] & square.tril()) | torch.eye(length, dtype=torch.bool, device=valid.device)).unsqueeze(1)


class Network(nn.Module):
    """The decoder. `rotations` is no buffer: it stays float32 whatever the weights are cast to."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        if config.model_type == "c2i":
            self.class_table = nn.Embedding(config.num_classes + (config.class_dropout_prob > 0), config.dim)
        else:
            self.null_caption = nn.Parameter(torch.zeros(config.cls_token_num, config.caption_dim))
            self.caption_in = Linear(config.caption_dim, config.dim, bias=False)
            self.caption_out = Linear(config.dim, config.dim, bias=False)
        self.token_table = nn.Embedding(config.vocab_size, config.dim)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.n_layer))
        self.norm = RMSNorm(config.dim, config.norm_eps)
        self.head = Linear(config.dim, config.vocab_size, bias=False)
        self.rotations = self._rotations("cpu")

    def _rotations(self, device: torch.device | str) -> Tensor:
        config = self.config
        side = math.isqrt(config.block_size)
        with torch.device("cpu"):
            table = grid_rotations(side, config.head_width, base=config.rope_base, condition=config.cls_token_num)
        return table.to(device)

    def place(self, device: torch.device | str, dtype: torch.dtype) -> Self:
        self.rotations = self._rotations(device)
        return self.to(device=device, dtype=dtype)

    def condition(self, given: Tensor) -> Tensor:
        """(B, T, dim) from class ids (B,), or from captions as features (B, T, caption_dim)."""
        if self.config.model_type == "c2i":
            return self.class_table(given).unsqueeze(1)
        features = given.to(self.caption_in.weight.dtype)
        projected: Tensor = self.caption_out(F.gelu(self.caption_in(features), approximate="tanh"))
        return projected[:, : self.config.cls_token_num]

    def null(self, given: Tensor) -> Tensor:
        """What `condition` takes for "no condition", as many as in `given`."""
        if self.config.model_type == "c2i":
            return torch.full_like(given, self.config.num_classes)
        return self.null_caption.expand(given.shape[0], -1, -1)

    def forward(
        self,
        x: Tensor,
        start: int = 0,
        caches: Sequence[KVCache] | None = None,
        mask: Tensor | None = None,
        rotations: Tensor | None = None,
    ) -> Tensor:
        """(B, n, dim) states, normalised for the head, of the embedded tokens `x` from position `start` on.

        `rotations`, broadcast to (B, H, n, head_width / 2, 2), are for sequences that are not in raster order.
        """
        if rotations is None:
            rotations = self.rotations[start : start + x.shape[1]]
        for index, block in enumerate(self.blocks):
            x = block(x, rotations, start, None if caches is None else caches[index], mask)
        return self.norm(x)

    def logits(self, x: Tensor) -> Tensor:
        return self.head(x).float()

    def score(self, given: Tensor, tokens: Tensor, valid: Tensor | None = None) -> Tensor:
        """(B, L, V) logits of `tokens` (B, L), each from the condition and the earlier tokens.

        `valid` (B, T) masks padded caption tokens.
        """
        condition = self.condition(given)
        x = torch.cat((condition, self.token_table(tokens[:, :-1])), dim=1)
        mask = None if valid is None else condition_mask(valid, x.shape[1])
        return self.logits(self(x, mask=mask)[:, condition.shape[1] - 1 :])

    def allocate(self, rows: int, length: int | None = None) -> list[KVCache]:
        """Caches for `rows` whole images, or for `rows` sequences of `length` positions."""
        config, weight = self.config, self.head.weight
        length = length or config.cls_token_num + config.block_size
        return [
            KVCache(rows, config.kv_heads, length, config.head_width, weight.dtype, weight.device)
            for _ in range(config.n_layer)
        ]
