"""ARPG's network: half of the layers read the known tokens, the other half answer queries from what was read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from arbench.errors import ConfigError

from ...layers import llama
from ...layers.attention import KVCache, attend
from ...layers.checkpoint import replace_patterns
from ...layers.linear import Linear, filled_up
from ...layers.rope import grid_rotations, rotate_pairs

TRAINING_ONLY = llama.TRAINING_ONLY | {"class_dropout_prob"}
IGNORED = (r"freqs_cis",)


@dataclass(frozen=True, slots=True)
class Config(llama.Config):
    """Upstream's `ModelArgs`, less what only training uses."""

    def __post_init__(self) -> None:
        if self.model_type != "c2i" or self.cls_token_num != 1:
            raise ConfigError("ARPG takes one class token", "upstream has no other", 'use model_type "c2i"')

    @property
    def half(self) -> int:
        """Layers of each kind; of an odd number one is lost, as upstream."""
        return self.n_layer // 2

    @property
    def side(self) -> int:
        return int(self.block_size**0.5)


class Reader(nn.Module):
    """A layer of queries over keys and values that all these layers share."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.heads = config.n_head
        self.attention_norm = llama.RMSNorm(config.dim, config.norm_eps)
        self.query = Linear(config.dim, config.dim, bias=False)
        self.out = Linear(config.dim, config.dim, bias=False)
        self.ffn_norm = llama.RMSNorm(config.dim, config.norm_eps)
        self.gate = Linear(config.dim, config.hidden, bias=False)
        self.up = Linear(config.dim, config.hidden, bias=False)
        self.down = Linear(config.hidden, config.dim, bias=False)

    def turned(self, x: Tensor, rotations: Tensor) -> Tensor:
        """(B, H, n, D) the queries of `x` (B, n, dim), or of one for all, at places (B, 1, n, D / 2, 2)."""
        query = self.query(self.attention_norm(x))[: len(rotations)].unflatten(-1, (self.heads, -1)).transpose(1, 2)
        return rotate_pairs(query, rotations)

    def forward(self, x: Tensor, query: Tensor, key: Tensor, value: Tensor, causal: bool) -> Tensor:
        """`x` (B, n, dim) are queries, `query` (B, H, n, D) what was `turned` of them.

        Rows of `x` for which there is no query only fill up.
        """
        x = x + self.out(filled_up(attend(query, key, value, causal=causal), len(x)))
        h = self.ffn_norm(x)
        out: Tensor = x + self.down(F.silu(self.gate(h)) * self.up(h))
        return out


class Network(nn.Module):
    """One table holds codes, mask, classes and "no class"; `rotations` stays float32 whatever the weights are."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.table = nn.Embedding(config.vocab_size + config.num_classes + 3, config.dim)
        self.blocks = nn.ModuleList(llama.Block(config) for _ in range(config.half))
        self.read_norm = llama.RMSNorm(config.dim, config.norm_eps)
        self.key = Linear(config.dim, config.dim, bias=False)
        self.value = Linear(config.dim, config.dim, bias=False)
        self.readers = nn.ModuleList(Reader(config) for _ in range(config.half))
        self.norm = llama.RMSNorm(config.dim, config.norm_eps)
        self.head = Linear(config.dim, config.vocab_size, bias=False)
        self.rotations = self._rotations("cpu")

    def _rotations(self, device: torch.device | str) -> Tensor:
        c = self.config
        with torch.device("cpu"):
            table = grid_rotations(c.side, c.head_width, base=c.rope_base, condition=1)
        return table.to(device)

    def place(self, device: torch.device | str, dtype: torch.dtype) -> Self:
        self.rotations = self._rotations(device)
        return self.to(device=device, dtype=dtype)

    def condition(self, labels: Tensor, *, guided: bool) -> Tensor:
        """(B, 1, dim) of classes (B,); with `guided` (2B, 1, dim), the second half that of no class."""
        ids = labels + self.config.vocab_size + 1
        if guided:
            ids = torch.cat((ids, torch.full_like(ids, self.config.vocab_size + 1 + self.config.num_classes)))
        embedded: Tensor = self.table(ids.unsqueeze(1))
        return embedded

    def questions(self, places: Tensor) -> Tensor:
        """(B, H, L, D) what the first of the readers asks at places (B, 1, L, D / 2, 2): one query in many places."""
        asked = self.table.weight[self.config.vocab_size].expand(1, 1, -1)
        reader = self.readers[0]
        assert isinstance(reader, Reader)
        return reader.turned(asked, places)

    def forward(
        self,
        x: Tensor,
        turns: Tensor,
        places: Tensor,
        start: int = 0,
        caches: Sequence[KVCache] | None = None,
        questions: Tensor | None = None,
        rows: int | None = None,
    ) -> Tensor:
        """(B, m, V) logits of the tokens at the m places with rotations `places` (B, 1, m, D / 2, 2).

        `x` (B, n, dim) are the newly known tokens, with rotations `turns`. With caches all that is known is seen by
        all; without, token k and query k see the first k + 1 tokens, as in training. `questions` (B, H, m, D) are
        those of the places, if they were made before; with `rows` other rows of `x` only fill up (`filled_up`).
        """
        rows, alone = len(x) if rows is None else rows, caches is None
        for index, block in enumerate(self.blocks):
            x = block(x, turns, start, None if caches is None else caches[index], rows=rows, causal=alone)
        h = self.read_norm(x)
        key, value = (
            layer(h)[:rows].unflatten(-1, (self.config.n_head, -1)).transpose(1, 2) for layer in (self.key, self.value)
        )
        key = rotate_pairs(key, turns)
        if caches is not None:
            key, value = caches[-1].extend(key, value, start)
        queries = self.table.weight[self.config.vocab_size].expand(rows, places.shape[2], -1)
        if questions is not None:
            queries = filled_up(queries)
        for index, reader in enumerate(self.readers):
            asked = reader.turned(queries, places) if index or questions is None else questions
            queries = reader(queries, asked, key, value, alone)
        logits: Tensor = self.head(self.norm(queries))[:rows].float()
        return logits

    def score_in_order(self, labels: Tensor, tokens: Tensor, order: Tensor) -> Tensor:
        """(B, L, V) logits, in the order of decoding, of tokens (B, L) in raster order."""
        known = self.table(tokens.gather(1, order[:, :-1]))
        places = self.rotations[1:][order].unsqueeze(1)
        first = self.rotations[:1].expand(len(order), 1, -1, -1, -1)
        turns = torch.cat((first, places[:, :, :-1]), dim=2)
        return self(torch.cat((self.condition(labels, guided=False), known), dim=1), turns, places)

    def allocate(self, rows: int) -> list[KVCache]:
        """Caches of the reading layers, and last the keys and values that the others share."""
        c, weight = self.config, self.head.weight
        return [
            KVCache(rows, c.n_head, 1 + c.block_size, c.head_width, weight.dtype, weight.device)
            for _ in range(c.half + 1)
        ]


_TO_OFFICIAL = (
    (r"^table\.", "embeddings."),
    (r"^(blocks|readers)\.(\d+)\.attention_norm\.", r"\1.\2.attn_norm."),
    (r"^(blocks|readers)\.(\d+)\.out\.", r"\1.\2.attn.proj."),
    (r"^readers\.(\d+)\.query\.", r"readers.\1.attn.to_q."),
    (r"^(blocks|readers)\.(\d+)\.gate\.", r"\1.\2.ffn.w1."),
    (r"^(blocks|readers)\.(\d+)\.up\.", r"\1.\2.ffn.w3."),
    (r"^(blocks|readers)\.(\d+)\.down\.", r"\1.\2.ffn.w2."),
    (r"^blocks\.", "layers.self_dec."),
    (r"^readers\.", "layers.cross_dec."),
    (r"^read_norm\.", "layers.norm."),
    (r"^key\.", "layers.to_k."),
    (r"^value\.", "layers.to_v."),
)


def official_names(ours: str) -> tuple[str, ...]:
    """The official key of one of our parameters, or the three that a block's `qkv` joins."""
    name = replace_patterns(ours, _TO_OFFICIAL)
    if ".qkv." in name:
        return tuple(name.replace(".qkv.", f".attn.to_{part}.") for part in "qkv")
    return (name,)
