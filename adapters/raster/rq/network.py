"""RQ-Transformer's network: a decoder over places, and a small one over the depths of a place."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from arbench.errors import ConfigError

from ...layers.attention import KVCache
from ...layers.checkpoint import replace_patterns
from ...layers.linear import Linear
from ...layers.mingpt import Block, block_names

IGNORED = (r"tok_emb\.offsets",)
"""Official keys of buffers that are computed."""
TRAINING_ONLY = frozenset(
    {"class", "type", "ema", "ar_hierarchy", "use_padding_emb", "scaled_head_emb_vqvae", "embd_pdrop"}
)
Lookup = Callable[[Tensor], Tensor]
"""(..., D) ids -> (..., D, C) codes of the tokenizer."""


@dataclass(frozen=True, slots=True)
class Config:
    """Upstream's `RQTransformerConfig`. A stack is {n_layer, n_head} or {n_layer, block: {n_head, ...}}."""

    block_size: tuple[int, int, int] = (8, 8, 4)
    vocab_size: int | tuple[int, ...] = 16384
    embed_dim: int = 1536
    input_embed_dim: int = 256
    shared_tok_emb: bool = False
    shared_cls_emb: bool = False
    input_emb_vqvae: bool = False
    head_emb_vqvae: bool = False
    cumsum_depth_ctx: bool = False
    vocab_size_cond: int = 0
    block_size_cond: int = 0
    body: Mapping[str, Any] = field(default_factory=dict)
    head: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        sizes = self.vocab_size if isinstance(self.vocab_size, tuple) else ()
        if self.block_size_cond > 1 or len(set(sizes)) > 1:
            raise ConfigError(
                f"block_size_cond {self.block_size_cond}, vocab_size {self.vocab_size}",
                "captions and depths with vocabularies of their own are not built here",
                "use a class-conditional model with one vocabulary",
            )

    @property
    def places(self) -> int:
        return self.block_size[0] * self.block_size[1]

    @property
    def depth(self) -> int:
        """Codes at each place."""
        return self.block_size[2]

    @property
    def codes(self) -> int:
        return self.vocab_size[0] if isinstance(self.vocab_size, tuple) else self.vocab_size


def stack(config: Mapping[str, Any], width: int) -> nn.ModuleList:
    """The blocks of a body or a head."""
    block = {**config.get("block", {}), **{name: config[name] for name in config if name not in ("n_layer", "block")}}
    known = {"n_head", "mlp_bias", "attn_bias", "attn_pdrop", "resid_pdrop", "gelu", "embed_dim"}
    if strange := sorted(block.keys() - known):
        raise ConfigError(f"unknown hyper-parameters: {', '.join(strange)}", f"known: {', '.join(sorted(known))}", "")
    return nn.ModuleList(
        Block(
            width,
            block["n_head"],
            attention_bias=block.get("attn_bias", True),
            mlp_bias=block.get("mlp_bias", True),
            quick=block.get("gelu", "v1") == "v2",
        )
        for _ in range(config["n_layer"])
    )


class DepthLinear(nn.Module):
    """A linear layer for each depth."""

    def __init__(self, depth: int, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(inputs**-0.5 * torch.randn(depth, inputs, outputs))
        self.bias = nn.Parameter(torch.zeros(depth, outputs))

    def forward(self, x: Tensor, start: int) -> Tensor:
        """(B, n, outputs) of (B, n, inputs), which are the depths from `start` on."""
        here = slice(start, start + x.shape[1])
        return torch.einsum("bni,nio->bno", x, self.weight[here]) + self.bias[here]


class Network(nn.Module):
    """A body over a class and the places before, and a head over what the body says and the depths before."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        width = config.embed_dim
        self.classes = nn.Embedding(max(config.vocab_size_cond, 1), width)
        self.class_place = nn.Parameter(torch.zeros(1, 1, width))
        self.places = nn.Parameter(torch.zeros(1, config.places, width))
        self.depths = nn.Parameter(torch.zeros(1, config.depth, width))
        for places in (self.class_place, self.places, self.depths):
            nn.init.normal_(places, std=0.02)
        self.body_in = Linear(config.input_embed_dim, width) if config.input_emb_vqvae else None
        self.head_in = Linear(config.input_embed_dim, width) if config.head_emb_vqvae else None
        self.table = None
        if not (config.input_emb_vqvae and config.head_emb_vqvae):
            tables = 1 if config.shared_tok_emb else config.depth
            self.table = nn.Embedding(tables * config.codes, width)
        self.body, self.head = stack(config.body, width), stack(config.head, width)
        self.norm = nn.LayerNorm(width)
        self.logits: nn.Module = (
            Linear(width, config.codes) if config.shared_cls_emb else DepthLinear(config.depth, width, config.codes)
        )

    def own_codes(self, ids: Tensor) -> Tensor:
        """(..., D, C) of ids (..., D), from the network's own table."""
        assert self.table is not None
        if not self.config.shared_tok_emb:
            ids = ids + torch.arange(ids.shape[-1], device=ids.device) * self.config.codes
        rows: Tensor = self.table(ids)
        return rows

    def start(self, labels: Tensor) -> Tensor:
        """(B, 1, C), what the body reads first."""
        rows: Tensor = self.classes(labels)
        return rows.unsqueeze(1) + self.class_place

    def place(self, ids: Tensor, lookup: Lookup, index: int) -> Tensor:
        """(B, n, C), what the body reads after the places from `index` on, of their ids (B, n, D)."""
        codes = self.own_codes(ids) if self.body_in is None else self.body_in(lookup(ids).to(self.places.dtype))
        return codes.sum(-2) + self.places[:, index : index + ids.shape[1]]

    def contexts(self, ids: Tensor, lookup: Lookup) -> Tensor:
        """(..., D, C), what the head reads after each depth of ids (..., D)."""
        if self.head_in is None:
            return self.own_codes(ids)
        codes = lookup(ids)
        if self.config.cumsum_depth_ctx:
            codes = codes.cumsum(-2)
        read: Tensor = self.head_in(codes.to(self.places.dtype))
        return read

    def run(
        self,
        blocks: nn.ModuleList,
        x: Tensor,
        start: int = 0,
        caches: list[KVCache] | None = None,
        rows: int | None = None,
    ) -> Tensor:
        for index, block in enumerate(blocks):
            x = block(x, start, None if caches is None else caches[index], rows)
        return x[:rows]

    def predict(
        self, x: Tensor, depth: int = 0, caches: list[KVCache] | None = None, rows: int | None = None
    ) -> Tensor:
        """(B, n, V) float32 logits of the depths from `depth` on, of what the head reads there (B, n, C).

        With `rows` those behind the first so many are only there to fill up (`filled_up`).
        """
        x = self.norm(self.run(self.head, x + self.depths[:, depth : depth + x.shape[1]], depth, caches, rows))
        shared = self.config.shared_cls_emb
        logits: Tensor = self.logits(x) if shared else self.logits(x, depth)
        return logits.float()

    def score(self, labels: Tensor, tokens: Tensor, lookup: Lookup) -> Tensor:
        """(B, places * depth, V) logits of tokens (B, places * depth), each from the earlier ones."""
        ids = tokens.unflatten(1, (-1, self.config.depth))
        x = torch.cat((self.start(labels), self.place(ids[:, :-1], lookup, 0)), dim=1)
        spatial = self.run(self.body, x).unsqueeze(2)
        x = torch.cat((spatial, self.contexts(ids, lookup)[:, :, :-1]), dim=2)
        return self.predict(x.flatten(0, 1)).unflatten(0, ids.shape[:2]).flatten(1, 2)

    def allocate(self, rows: int) -> list[KVCache]:
        """Caches for `rows` whole images: the body's, then the head's."""
        weight, width = self.places, self.config.embed_dim
        sizes = [(block, self.config.places) for block in self.body]
        sizes += [(block, self.config.depth) for block in self.head]
        made = []
        for block, length in sizes:
            assert isinstance(block, Block)
            made.append(KVCache(rows, block.heads, length, width // block.heads, weight.dtype, weight.device))
        return made


_TO_OFFICIAL = (
    (r"^classes\.", "cond_emb."),
    (r"^class_place$", "pos_emb_cond"),
    (r"^places$", "pos_emb_hw"),
    (r"^depths$", "pos_emb_d"),
    (r"^body_in\.", "input_mlp."),
    (r"^head_in\.", "head_mlp."),
    (r"^table\.", "tok_emb."),
    (r"^norm\.", "classifier.layer_norm."),
    (r"^logits\.", "classifier.linear."),
    (r"^(body|head)\.(\d)", r"\1_transformer.blocks.\2"),
)


def official_names(ours: str) -> tuple[str, ...]:
    """The official key of one of our parameters; a fused `qkv` is three official tensors."""
    return block_names(replace_patterns(ours, _TO_OFFICIAL))
