"""A Llama decoder over a class and an image's tokens, with rotary positions on a grid: LlamaGen's and RandAR's."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .attention import KVCache, attend
from .checkpoint import replace_all
from .linear import Linear, filled_up
from .rope import grid_rotations, rotate_pairs


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
        return F.rms_norm(x, x.shape[-1:], None, self.eps) * self.weight


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
        self,
        x: Tensor,
        rotations: Tensor,
        start: int = 0,
        cache: KVCache | None = None,
        mask: Tensor | None = None,
        *,
        rows: int | None = None,
        causal: bool = True,
    ) -> Tensor:
        """`x` (B, n, dim) are the tokens from position `start` on; earlier ones are in the cache.

        With `rows` those behind the first so many sequences are only there to fill up (`filled_up`). Without a mask
        tokens see those before them, or all that are there if not `causal`.
        """
        x = x + self._attention(self.attention_norm(x), rotations, start, cache, mask, rows, causal)
        h = self.ffn_norm(x)
        return x + self.down(F.silu(self.gate(h)) * self.up(h))

    def _attention(
        self,
        x: Tensor,
        rotations: Tensor,
        start: int,
        cache: KVCache | None,
        mask: Tensor | None,
        rows: int | None,
        causal: bool,
    ) -> Tensor:
        heads = self.qkv(x)[:rows].unflatten(-1, (-1, self.width)).transpose(1, 2)  # (B, H + 2 H_kv, n, D)
        turned, value = heads.split([self.heads + self.kv_heads, self.kv_heads], dim=1)
        query, key = rotate_pairs(turned, rotations).split([self.heads, self.kv_heads], dim=1)
        if cache is not None:
            key, value = cache.extend(key, value, start)
        causal = causal and mask is None and x.shape[1] > 1  # a single token may look at everything before it
        return self.out(filled_up(attend(query, key, value, mask=mask, causal=causal), len(x)))


class Decoder(nn.Module):
    """The decoder. `rotations` is not a buffer: it stays float32 whatever the weights are cast to."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.add_condition(config)
        self.token_table = nn.Embedding(config.vocab_size, config.dim)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.n_layer))
        self.norm = RMSNorm(config.dim, config.norm_eps)
        self.head = Linear(config.dim, config.vocab_size, bias=False)
        self.rotations = self._rotations("cpu")

    def add_condition(self, config: Config) -> None:
        """Create the weights of `condition` and `null`."""
        self.class_table = nn.Embedding(config.num_classes + (config.class_dropout_prob > 0), config.dim)

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
        """(B, 1, dim) from class ids (B,)."""
        return self.class_table(given).unsqueeze(1)

    def null(self, given: Tensor) -> Tensor:
        """What `condition` takes for "no condition", as many as in `given`."""
        return torch.full_like(given, self.config.num_classes)

    def forward(
        self,
        x: Tensor,
        start: int = 0,
        caches: Sequence[KVCache] | None = None,
        mask: Tensor | None = None,
        rotations: Tensor | None = None,
        *,
        rows: int | None = None,
        causal: bool = True,
    ) -> Tensor:
        """(B, n, dim) states, normalised for the head, of the embedded tokens `x` from position `start` on.

        `rows` and `causal` are those of a block. `rotations`, broadcast to (B, H, n, head_width / 2, 2), are for
        sequences that are not in raster order.
        """
        if rotations is None:
            rotations = self.rotations[start : start + x.shape[1]]
        for index, block in enumerate(self.blocks):
            x = block(x, rotations, start, None if caches is None else caches[index], mask, rows=rows, causal=causal)
        return self.norm(x)

    def logits(self, x: Tensor) -> Tensor:
        return self.head(x).float()

    def read(self, x: Tensor, start: int, caches: Sequence[KVCache], rotations: Tensor | None = None) -> Tensor:
        """(B, n, V) logits of embedded tokens that see one another and all before: of `forward` in a sampling loop."""
        states = self(filled_up(x), start, caches, None, rotations, rows=len(x), causal=False)
        return self.logits(states)[: len(x)]

    def allocate(self, rows: int, length: int | None = None) -> list[KVCache]:
        """Caches for `rows` whole images, or for `rows` sequences of `length` positions."""
        config, weight = self.config, self.head.weight
        length = length or config.cls_token_num + config.block_size
        return [
            KVCache(rows, config.kv_heads, length, config.head_width, weight.dtype, weight.device)
            for _ in range(config.n_layer)
        ]


IGNORED = (r"freqs_cis", r"causal_mask", r"layers\.\d+\.attention\.kv_cache\.[kv]_cache")
"""Official keys that hold what can be computed."""

_TO_OFFICIAL = (
    ("class_table.", "cls_embedding.embedding_table."),
    ("token_table.", "tok_embeddings."),
    ("blocks.", "layers."),
    (".qkv.", ".attention.wqkv."),
    (".out.", ".attention.wo."),
    (".gate.", ".feed_forward.w1."),
    (".up.", ".feed_forward.w3."),
    (".down.", ".feed_forward.w2."),
    ("head.", "output."),
)


def official_names(ours: str) -> tuple[str, ...]:
    """The key in LlamaGen's files of one of our parameters."""
    return (replace_all(ours, _TO_OFFICIAL),)


def initialise(decoder: Decoder) -> None:
    """Small weights and a silent head, as upstream's training starts."""
    for module in decoder.modules():
        if isinstance(module, nn.Linear | nn.Embedding):
            nn.init.normal_(module.weight, std=0.02)
    nn.init.zeros_(decoder.head.weight)
