"""TiTok's generators: a BERT, or a U-shaped transformer, over a class token and tokens that may be masked."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from arbench.errors import ConfigError

from ...layers.attention import attend, projected
from ...layers.checkpoint import OfficialNames, replace_patterns
from ...layers.linear import Linear
from ...layers.masked import gathered, projected_once

TRAINING_ONLY = frozenset({"class", "dropout", "attn_drop", "class_label_dropout", "num_steps"})
"""Official hyper-parameters without effect on a trained network."""
BERT_EPS = 1e-12


@dataclass(frozen=True, slots=True)
class Config:
    """Upstream's `model.generator` and the tokenizer's `codebook_size`; `model_type` is "ViT" or "UViT"."""

    model_type: str = "ViT"
    hidden_size: int = 768
    num_hidden_layers: int = 24
    num_attention_heads: int = 16
    intermediate_size: int = 3072
    image_seq_len: int = 32
    condition_num_classes: int = 1000
    codebook_size: int = 4096

    def __post_init__(self) -> None:
        if self.model_type not in ("ViT", "UViT"):
            raise ConfigError(f"no model_type {self.model_type!r}", "known: ViT, UViT", "use upstream's name")

    @property
    def mask(self) -> int:
        """The id of a masked token; classes come after it, then the one for no class."""
        return self.codebook_size


class Block(nn.Module):
    """Attention over all positions and an MLP: norms after each (BERT), or before each, with a skip from below."""

    def __init__(self, config: Config, *, after: bool, skip: bool = False) -> None:
        super().__init__()
        width = config.hidden_size
        self.heads, self.after = config.num_attention_heads, after
        eps = BERT_EPS if after else 1e-5
        self.norm1, self.norm2 = nn.LayerNorm(width, eps=eps), nn.LayerNorm(width, eps=eps)
        self.qkv, self.out = Linear(width, 3 * width, bias=after), Linear(width, width)
        # upstream goes through a ratio in floating point, which loses one unit of some widths
        inner = config.intermediate_size if after else int(width * (config.intermediate_size / width))
        self.mlp_in, self.mlp_out = Linear(width, inner), Linear(inner, width)
        self.skip = Linear(2 * width, width) if skip else None

    def forward(
        self, x: Tensor, below: Tensor | None = None, wanted: Tensor | None = None, heads: Tensor | None = None
    ) -> Tensor:
        """`x` (B, L, W), or with `wanted` (B, n) these rows of it, which see all.

        `heads` are what is `projected` of `x`, if that was made before.
        """
        if self.skip is not None and below is not None:
            x = self.skip(torch.cat((x, below), dim=-1))
        x = gathered(x, wanted) + self._attention(x, wanted, heads)
        if self.after:
            x = self.norm1(x)
            return self.norm2(x + self._mlp(x))  # type: ignore[no-any-return]
        return x + self._mlp(self.norm2(x))

    def projected(self, x: Tensor) -> Tensor:
        """(B, L, 3W) queries, keys and values of `x` (B, L, W)."""
        heads: Tensor = self.qkv(x if self.after else self.norm1(x))
        return heads

    def _attention(self, x: Tensor, wanted: Tensor | None, heads: Tensor | None) -> Tensor:
        if heads is None:
            parts = projected(self.qkv, x if self.after else self.norm1(x), wanted)
        else:
            asked, *seen = heads.chunk(3, dim=-1)
            parts = (gathered(asked, wanted), *seen)
        query, key, value = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in parts)
        mixed: Tensor = self.out(attend(query, key, value))
        return mixed

    def _mlp(self, x: Tensor) -> Tensor:
        out: Tensor = self.mlp_out(F.gelu(self.mlp_in(x)))
        return out


class Network(nn.Module):
    """Logits of all tokens from a class and the tokens so far, masked ones with the id `Config.mask`."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        width, layers = config.hidden_size, config.num_hidden_layers
        bert = config.model_type == "ViT"
        self.table = nn.Embedding(config.codebook_size + config.condition_num_classes + 2, width)
        places = torch.zeros(config.image_seq_len + 1, width)
        self.places = nn.Parameter(places if bert else places.unsqueeze(0))
        nn.init.trunc_normal_(self.places, std=0.02)
        if bert:
            self.kinds = nn.Embedding(2, width)  # BERT's sentences, of which there is one here
            self.norm_in = nn.LayerNorm(width, eps=BERT_EPS)
            self.blocks = nn.ModuleList(Block(config, after=True) for _ in range(layers))
        else:
            half = layers // 2
            self.down = nn.ModuleList(Block(config, after=False) for _ in range(half))
            self.middle = Block(config, after=False)
            self.up = nn.ModuleList(Block(config, after=False, skip=True) for _ in range(half))
            self.norm_out = nn.LayerNorm(width)
        self.head = Linear(width, config.codebook_size)

    def forward(self, labels: Tensor, tokens: Tensor, wanted: Tensor | None = None, *, halves: bool = False) -> Tensor:
        """(B, N, V) float32 logits for class ids (B,), `condition_num_classes` for none, and tokens (B, N).

        With `wanted` (B, n) those of these tokens alone, (B, n, V). With `halves` the tokens of the first half of the
        batch are those of the second too.
        """
        classes = (labels + self.config.codebook_size + 1).unsqueeze(1)
        x = self.table(torch.cat((classes, tokens), dim=1)) + self.places
        rows = None if wanted is None else wanted + 1  # the class comes first
        x = self._bert(x, rows, halves) if self.config.model_type == "ViT" else self._u_shaped(x, rows, halves)
        logits: Tensor = self.head(x if rows is not None else x[:, 1:])
        return logits.float()

    def _bert(self, x: Tensor, wanted: Tensor | None, halves: bool) -> Tensor:
        x = self.norm_in(x + self.kinds.weight[0])
        heads = projected_once(self.blocks[0].projected, x, 0) if halves else None
        for index, block in enumerate(self.blocks, 1):
            x = block(x, None, wanted if index == len(self.blocks) else None, heads if index == 1 else None)
        return x

    def _u_shaped(self, x: Tensor, wanted: Tensor | None, halves: bool) -> Tensor:
        below: list[Tensor] = []
        first = next(iter(self.down), self.middle)
        heads = projected_once(first.projected, x, 0) if halves else None
        for block in self.down:
            x = block(x, None, None, None if below else heads)
            below.append(x)
        x = self.middle(x, None, None, None if below else heads)
        for block in self.up:
            x = block(x, below.pop(), None if below else wanted)
        out: Tensor = self.norm_out(x)
        return out


_BERT = (
    (r"^table\.", "model.embeddings.word_embeddings."),
    (r"^places$", "model.embeddings.position_embeddings.weight"),
    (r"^kinds\.", "model.embeddings.token_type_embeddings."),
    (r"^norm_in\.", "model.embeddings.LayerNorm."),
    (r"^blocks\.", "model.encoder.layer."),
    (r"\.out\.", ".attention.output.dense."),
    (r"\.norm1\.", ".attention.output.LayerNorm."),
    (r"\.mlp_in\.", ".intermediate.dense."),
    (r"\.mlp_out\.", ".output.dense."),
    (r"\.norm2\.", ".output.LayerNorm."),
    (r"^head\.", "model.lm_head."),
)
_U_SHAPED = (
    (r"^table\.", "embeddings."),
    (r"^places$", "pos_embed"),
    (r"^norm_out\.", "norm."),
    (r"^down\.", "in_blocks."),
    (r"^middle\.", "mid_block."),
    (r"^up\.", "out_blocks."),
    (r"\.qkv\.", ".attn.qkv."),
    (r"\.out\.", ".attn.proj."),
    (r"\.mlp_in\.", ".mlp.fc1."),
    (r"\.mlp_out\.", ".mlp.fc2."),
    (r"\.skip\.", ".skip_linear."),
    (r"^head\.", "lm_head."),
)


def official_names(config: Config) -> OfficialNames:
    """One of our parameter names -> the official keys, for a network of this `config`."""

    def name(ours: str) -> tuple[str, ...]:
        if config.model_type == "UViT":
            return (replace_patterns(ours, _U_SHAPED),)
        if ".qkv." in ours:
            layer = replace_patterns(ours, _BERT)
            return tuple(layer.replace(".qkv.", f".attention.self.{part}.") for part in ("query", "key", "value"))
        return (replace_patterns(ours, _BERT),)

    return name
