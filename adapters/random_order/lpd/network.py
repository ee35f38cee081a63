"""LPD's network: a transformer over known tokens and over queries, which are one mask token in many places."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ...layers.attention import KVCache
from ...layers.checkpoint import replace_all
from ...layers.linear import Linear
from ...layers.vit import Block

TRAINING_ONLY = frozenset({"class", "label_drop_prob", "attn_dropout", "proj_dropout", "grad_checkpointing"})
IGNORED: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Config:
    """Upstream's `LPD`, less what only training uses."""

    img_size: int = 256
    vqgan_stride: int = 16
    decoder_embed_dim: int = 1024
    decoder_depth: int = 32
    decoder_num_heads: int = 16
    mlp_ratio: float = 4.0
    class_num: int = 1000
    vqgan_vocab_size: int = 16384
    norm_eps: float = 1e-6

    @property
    def side(self) -> int:
        return self.img_size // self.vqgan_stride

    @property
    def tokens(self) -> int:
        return self.side**2


class Network(nn.Module):
    def __init__(self, config: Config) -> None:
        super().__init__()
        width = config.decoder_embed_dim
        self.config = config
        self.class_table = nn.Embedding(config.class_num, width)
        self.code_table = nn.Embedding(config.vqgan_vocab_size, width)
        self.no_class = nn.Parameter(torch.empty(1, width))
        self.position = nn.Parameter(torch.empty(1, 1 + config.tokens, width))
        self.unknown = nn.Parameter(torch.empty(1, 1, width))
        for parameter in (self.no_class, self.position, self.unknown):
            nn.init.normal_(parameter, std=0.02)
        self.token_norm = nn.LayerNorm(width, eps=1e-6)
        self.blocks = nn.ModuleList(
            Block(width, config.decoder_num_heads, config.mlp_ratio, config.norm_eps)
            for _ in range(config.decoder_depth)
        )
        self.norm = nn.LayerNorm(width, eps=config.norm_eps)
        self.head = Linear(width, config.vqgan_vocab_size, bias=False)

    def condition(self, labels: Tensor, *, guided: bool) -> Tensor:
        """(B, 1, W) of classes (B,); with `guided` (2B, 1, W), the second half that of no class."""
        classes: Tensor = self.class_table(labels)
        if guided:
            classes = torch.cat((classes, self.no_class.expand_as(classes)))
        return classes.unsqueeze(1)

    def forward(
        self,
        known: Tensor,
        places: Tensor,
        queries: int,
        mask: Tensor,
        start: int = 0,
        caches: Sequence[KVCache] | None = None,
        *,
        trimmed: bool = False,
    ) -> Tensor:
        """(B, queries, V) logits at the last `queries` of the `places` (B, n), 0 being the class.

        `known` (B, n - queries, W) are embeddings for the first places. They are kept in the caches from `start` on;
        queries stand behind them there, and are overwritten by what is known next. `mask` (n, start + n) is boolean.
        With `trimmed` what is known is only seen by the last block, and there by queries that see everything.
        """
        x = torch.cat((known, self.unknown.expand(len(known), queries, -1)), dim=1)
        x = self.token_norm(x + self.position[0][places])
        for index, block in enumerate(self.blocks):
            only = slice(-queries, None) if trimmed and index == len(self.blocks) - 1 else None
            cache = None if caches is None else caches[index]
            x = block(x, mask if only is None else None, start, cache, only)
        logits: Tensor = self.head(self.norm(x[:, -queries:])).float()
        return logits

    def score_in_order(self, labels: Tensor, tokens: Tensor, order: Tensor, sizes: Sequence[int]) -> Tensor:
        """(B, L, V) logits, in the order of decoding, of tokens (B, L) in raster order, decoded in groups of `sizes`.

        A token is judged from the groups before its own.
        """
        context = self.config.tokens - sizes[-1]
        known = torch.cat(
            (self.condition(labels, guided=False), self.code_table(tokens.gather(1, order[:, :context]))), dim=1
        )
        places = torch.cat((torch.zeros_like(order[:, :1]), 1 + order[:, :context], 1 + order), dim=1)
        return self(known, places, self.config.tokens, sight_in_order(sizes, order.device))

    def allocate(self, rows: int) -> list[KVCache]:
        """Caches for `rows` whole images."""
        c, weight = self.config, self.head.weight
        width = c.decoder_embed_dim // c.decoder_num_heads
        return [
            KVCache(rows, c.decoder_num_heads, 1 + c.tokens, width, weight.dtype, weight.device)
            for _ in range(c.decoder_depth)
        ]


def group_of(sizes: Sequence[int], device: torch.device | str) -> Tensor:
    """(1 + L,) the group that each place of the sequence belongs to; the class is group 0."""
    counts = (1, *sizes)
    return torch.cat([torch.full((count,), index, device=device) for index, count in enumerate(counts)])


def sight_in_order(sizes: Sequence[int], device: torch.device | str) -> Tensor:
    """(n, n) boolean, for all known groups but the last and then queries of all: who sees whom.

    A known token sees its own group and earlier ones; a query sees earlier groups and the queries of its own group.
    """
    group = group_of(sizes, device)
    known, asked = group[: len(group) - sizes[-1]], group[1:]
    among = torch.cat((known[:, None] >= known, asked[:, None] > known))
    queries = torch.cat((torch.zeros(len(known), len(asked), dtype=torch.bool, device=device), asked[:, None] == asked))
    return torch.cat((among, queries), dim=1)


_TO_OFFICIAL = (
    ("class_table.", "class_emb."),
    ("code_table.", "token_emb."),
    ("no_class", "fake_latent"),
    ("token_norm.", "z_proj_ln."),
    ("unknown", "mask_token"),
    (".qkv.", ".attn.qkv."),
    (".out.", ".attn.proj."),
    (".mlp_in.", ".mlp.fc1."),
    (".mlp_out.", ".mlp.fc2."),
)


def official_names(ours: str) -> tuple[str, ...]:
    """The official key of one of our parameters."""
    return ("pos_embed",) if ours == "position" else (replace_all(ours, _TO_OFFICIAL),)
