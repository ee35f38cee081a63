"""GigaTok's networks: convolutions around transformers that write a map to tokens, in a row or in a grid, and back.

After Xiong et al., "GigaTok: scaling visual tokenizers to 3 billion parameters" (arXiv:2504.08736).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from arbench.errors import ConfigError

from ...layers.attention import attend
from ...layers.autoencoder import Encoder, Level, Spread, Style, Upsample, group_norm, middle
from ...layers.checkpoint import OfficialNames, replace_patterns
from ...layers.config import from_upstream
from ...layers.linear import Linear
from ...layers.quantize import Codebook

IGNORED = (r"quantize\.codebook_used", r"(s1to2decoder\.|s2ddecoder\.)?distill_mlp\..*")
"""Official keys that only training uses."""
TRAINING_ONLY = (
    "class",
    "codebook_show_usage",
    "commit_loss_beta",
    "entropy_loss_ratio",
    "dropout_p",
    "rot",
    "distill_depth",
    "encoder_2d_distill",
    "out_inner_dim",
    "fea_rec_loss_type",
    "fea_rec_loss_weight",
    "stochastic",
    "stochastic_temperature",
    "eval_deterministic",
    "bernoulli_sample",
    "codebook_transform",
    "freeze_codebook",
    "prior_model_config",
)
"""Official hyper-parameters without effect on a trained network."""
UNBUILT = (
    "use_lfq",
    "simvq",
    "use_rope",
    "rope_1d",
    "rope_2d",
    "res_up_down_sample",
    "downsample_match_channel",
    "upsample_match_channel",
    "res_codebook_updown_sample",
    "downsample_improve",
    "with_prior_model",
)
"""Official switches that no published model has on, and that are refused."""
SIZES = {
    "tiny": (256, 4, 4),
    "small": (512, 6, 8),
    "base": (768, 12, 12),
    "large": (1024, 24, 16),
    "xl": (1280, 36, 20),
    "xxl": (1536, 48, 24),
    "xxxl": (2560, 48, 40),
}
"""Name of a size -> width, layers, heads."""
LAYERS = ("TransformerDecoderLayer", "TransformerLayer", "QformerLayerVar")
BLOCKS = 2
"""Residual blocks of a level; the decoder has one more."""


@dataclass(frozen=True, slots=True)
class Config:
    """Upstream's `VQVitModelPlusArgs` and `VQVitModel2DPlusArgs`, and `image_size` and `ch` of their parts."""

    image_size: int = 256
    ch: int = 128
    codebook_size: int = 16384
    codebook_embed_dim: int = 8
    codebook_l2_norm: bool = True
    encoder_ch_mult: tuple[int, ...] = (1, 1, 2, 2, 4)
    decoder_ch_mult: tuple[int, ...] = (1, 1, 2, 2, 4)
    model_size: str | None = "small"
    encoder_size: str | None = None
    decoder_size: str | None = None
    num_latent_tokens: int = 256
    z_channels: int = 256
    transformer_layer_type: str = LAYERS[0]
    use_qk_norm: bool = False
    use_flash_attn: bool = False
    multi_level_query_init: bool = False
    learnable_1d_query_init: bool = False
    last_level_2d_query_init: bool = False
    multi_level_2d_query_init: bool = False
    learnable_2d_query_init: bool = False
    adaptive_gn: bool = False
    d2s_up: bool = False
    use_attn: bool = True

    def __post_init__(self) -> None:
        if self.transformer_layer_type not in LAYERS:
            raise ConfigError(
                f"no transformer_layer_type {self.transformer_layer_type!r}", f"known: {', '.join(LAYERS)}", ""
            )
        for size in (self.encoder_size or self.model_size, self.decoder_size or self.model_size):
            if size not in SIZES:
                raise ConfigError(f"no size {size!r}", f"known: {', '.join(SIZES)}", "use upstream's name")

    @property
    def factor(self) -> int:
        return int(2 ** (len(self.encoder_ch_mult) - 1))

    @property
    def side(self) -> int:
        """Of the map that the transformers work on."""
        return self.image_size // self.factor

    def shape(self, size: str | None) -> tuple[int, int, int]:
        return SIZES[size or self.model_size or ""]

    @property
    def apart(self) -> bool:
        """Whether queries, keys and values are layers of their own in official files."""
        return self.use_qk_norm or self.use_flash_attn


# ---- transformers ----------------------------------------------------------------------------------------------------


class Attention(nn.Module):
    """Attention of given queries, keys and values."""

    def __init__(self, width: int, heads: int, *, normed: bool) -> None:
        super().__init__()
        self.heads = heads
        self.qkv, self.out = Linear(width, 3 * width), Linear(width, width)
        self.query_norm = nn.LayerNorm(width // heads) if normed else nn.Identity()
        self.key_norm = nn.LayerNorm(width // heads) if normed else nn.Identity()

    def forward(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        weights, biases = self.qkv.weight.chunk(3), self.qkv.bias.chunk(3)
        parts = [
            F.linear(x, weight, bias).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for x, weight, bias in zip((query, key, value), weights, biases, strict=True)
        ]
        mixed: Tensor = self.out(attend(self.query_norm(parts[0]), self.key_norm(parts[1]), parts[2]))
        return mixed


class Block(nn.Module):
    """Attention among what is written, then to what is read, and an MLP; `alone`: without the second.

    Places enter queries and keys only.
    """

    def __init__(self, width: int, heads: int, *, normed: bool = False, alone: bool = False) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = Attention(width, heads, normed=normed)
        self.reading = None if alone else Attention(width, heads, normed=normed)
        self.norm3 = None if alone else nn.LayerNorm(width)
        self.mlp_in, self.mlp_out = Linear(width, 4 * width), Linear(4 * width, width)

    def forward(
        self, x: Tensor, places: Tensor | None, read: Tensor | None = None, read_places: Tensor | None = None
    ) -> Tensor:
        """Without `read` the second attention is to `x` itself, normalised."""
        normed = self.norm1(x)
        placed = normed if places is None else normed + places
        x = x + self.attention(placed, placed, normed)
        normed = self.norm2(x)
        if self.reading is not None and self.norm3 is not None:
            placed = normed if places is None else normed + places
            if read is None:
                x = x + self.reading(placed, placed, normed)
            else:
                x = x + self.reading(placed, read if read_places is None else read + read_places, read)
            normed = self.norm3(x)
        out: Tensor = x + self.mlp_out(F.gelu(self.mlp_in(normed)))
        return out


class Side(nn.Module):
    """What all four transformers share: a way in, the blocks, a way out."""

    def __init__(self, config: Config, size: str | None, *, kernel: int, alone: bool = False) -> None:
        super().__init__()
        width, layers, heads = config.shape(size)
        self.width, self.side = width, config.side
        self.norm_in, self.embed = nn.LayerNorm(config.z_channels), Linear(config.z_channels, width)
        self.places = nn.Parameter(width**-0.5 * torch.randn(config.side**2, 1, width))
        self.blocks = nn.ModuleList(Block(width, heads, normed=config.use_qk_norm, alone=alone) for _ in range(layers))
        self.norm_out = nn.LayerNorm(width)
        self.head = nn.Conv2d(width, config.z_channels, kernel, padding=kernel // 2)

    def enter(self, features: Tensor) -> Tensor:
        """(B, n, width) of a map (B, C, h, w)."""
        x: Tensor = self.embed(self.norm_in(features.flatten(2).transpose(1, 2)))
        return x

    def leave(self, x: Tensor, shape: tuple[int, int]) -> Tensor:
        """(B, C, h, w) of (B, h * w, width)."""
        features: Tensor = self.head(self.norm_out(x).transpose(1, 2).unflatten(2, shape))
        return features


def pooled(x: Tensor, levels: int) -> Tensor:
    """(B, 2^levels, C): averages of a map (B, C, H, W) over the whole, over halves, quarters, ..., coarse to fine."""
    parts = []
    for index in range(levels + 1):
        level = max(index - 1, 0)
        size = (x.shape[2] // 2 ** (level // 2), x.shape[3] // 2 ** ((level + 1) // 2))
        parts.append(F.avg_pool2d(x, size).flatten(2).transpose(1, 2))
    return torch.cat(parts, dim=1)


def spread(x: Tensor, level: int, side: int) -> Tensor:
    """(B, C, side, side) of the tokens (B, 2^level, C) of one level, each over its part of the map."""
    grid = x.transpose(1, 2).unflatten(2, (2 ** (level // 2), 2 ** ((level + 1) // 2)))
    return F.interpolate(grid, size=(side, side), mode="nearest")


class Writer(Side):
    """Tokens in a row (B, C, 1, K) of a map (B, C, h, w)."""

    def __init__(self, config: Config) -> None:
        super().__init__(config, config.encoder_size, kernel=1)
        count, scale = config.num_latent_tokens, self.width**-0.5
        self.count, self.levels = count, round(math.log2(count)) if config.multi_level_query_init else None
        self.token_places = nn.Parameter(scale * torch.randn(count, 1, self.width))
        self.queries, self.summary = None, None
        if config.learnable_1d_query_init:
            self.queries = nn.Parameter(scale * torch.randn(count, 1, self.width))
        else:
            self.summary = Linear(self.width, self.width)

    def forward(self, features: Tensor) -> Tensor:
        read = self.enter(features)
        if self.queries is not None:
            x = self.queries.squeeze(1).expand(len(read), -1, -1)
        elif self.levels is not None and self.summary is not None:
            x = self.summary(pooled(read.transpose(1, 2).unflatten(2, (self.side, self.side)), self.levels))
        else:
            assert self.summary is not None
            x = self.summary(read.mean(1, keepdim=True)).expand(-1, self.count, -1)
        for block in self.blocks:
            x = block(x, self.token_places.squeeze(1), read, self.places.squeeze(1))
        return self.leave(x, (1, self.count))


class Reader(Side):
    """A map (B, C, h, w) of tokens in a row (B, C, 1, K)."""

    def __init__(self, config: Config) -> None:
        super().__init__(config, config.decoder_size, kernel=3)
        self.config = config
        count, scale = config.num_latent_tokens, self.width**-0.5
        self.token_places = nn.Parameter(scale * torch.randn(count, 1, self.width))
        self.queries = None
        if config.learnable_2d_query_init:
            self.queries = nn.Parameter(scale * torch.randn(config.side**2, 1, self.width))

    def forward(self, tokens: Tensor) -> Tensor:
        read = self.enter(tokens)
        levels, side = round(math.log2(read.shape[1])), self.side
        if self.config.last_level_2d_query_init:
            last = read[:, -(2 ** (levels - 1)) :] if levels > 1 else read[:, :2].mean(1, keepdim=True)
            x = spread(last, levels - 1, side).flatten(2).transpose(1, 2)
        elif self.config.multi_level_2d_query_init:
            # upstream takes the first tokens for every level
            maps = [spread(read[:, :2].mean(1, keepdim=True), 0, side)]
            maps += [spread(read[:, : 2**level], level, side) for level in range(1, levels)]
            x = (torch.stack(maps).sum(0) / levels).flatten(2).transpose(1, 2)
        elif self.queries is not None:
            x = self.queries.squeeze(1).expand(len(read), -1, -1)
        else:
            x = read[:, :1].expand(-1, side * side, -1)
        token_places = self.token_places.squeeze(1)[: read.shape[1]]
        for block in self.blocks:
            x = block(x, self.places.squeeze(1), read, token_places)
        return self.leave(x, (side, side))


class Grid(Side):
    """A map (B, C, h, w) of another, tokens staying where they are."""

    def __init__(self, config: Config, size: str | None, kernel: int) -> None:
        self.kind = config.transformer_layer_type
        super().__init__(config, size, kernel=kernel, alone=self.kind == "TransformerLayer")

    def forward(self, features: Tensor) -> Tensor:
        x, places = self.enter(features), self.places.squeeze(1)
        if self.kind == "TransformerLayer":
            x = x + places
        for block in self.blocks:
            if self.kind == "TransformerLayer":
                x = block(x, None)
            else:
                itself = (x, places) if self.kind == "TransformerDecoderLayer" else ()
                x = block(x, places, *itself)
        return self.leave(x, (self.side, self.side))


# ---- convolutions ----------------------------------------------------------------------------------------------------


class Decoder(nn.Module):
    """Images (B, 3, H, W) of a map (B, C, h, w), which may style the norm at the start of each level."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        widths = [config.ch * m for m in reversed(config.decoder_ch_mult)]
        befores, last = [widths[0], *widths[:-1]], len(widths) - 1
        enlarge = Spread if config.d2s_up else Upsample
        self.stem = nn.Conv2d(config.z_channels, widths[0], 3, padding=1)
        self.middle = middle(widths[0], attention=config.use_attn)
        self.styles = nn.ModuleList(
            Style(config.z_channels, before) if config.adaptive_gn else nn.Identity() for before in befores
        )
        self.levels = nn.ModuleList(
            Level(
                before,
                here,
                BLOCKS + 1,
                attention=config.use_attn and i == 0,
                resample=enlarge(here) if i < last else None,
            )
            for i, (before, here) in enumerate(zip(befores, widths, strict=True))
        )
        self.norm = group_norm(widths[-1])
        self.head = nn.Conv2d(widths[-1], 3, 3, padding=1)

    def forward(self, features: Tensor) -> Tensor:
        x = self.middle(self.stem(features))
        for style, level in zip(self.styles, self.levels, strict=True):
            x = level(style(x, features) if isinstance(style, Style) else x)
        images: Tensor = self.head(F.silu(self.norm(x)))
        return images


class Network(nn.Module):
    """Encoder, codebook and decoder, in a row or ("VQVitModel2DPlus") in a grid; images in [-1, 1], not clamped."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        if asked := [name for name in UNBUILT if config.get(name)]:
            raise ConfigError(f"no GigaTok with {', '.join(asked)}", "no published model has it", "leave it out")
        c = self.sizes = from_upstream(Config, config, (*TRAINING_ONLY, *UNBUILT))
        grid = config.get("class") == "VQVitModel2DPlus"
        sites = None if c.use_attn else ()
        self.encoder = Encoder(c.ch, c.encoder_ch_mult, BLOCKS, c.z_channels, attention=sites, inside=c.use_attn)
        self.writer: nn.Module = Grid(c, c.encoder_size, 1) if grid else Writer(c)
        self.quant_conv = nn.Conv2d(c.z_channels, c.codebook_embed_dim, 1)
        self.quantize = Codebook(c.codebook_size, c.codebook_embed_dim, "codes" if c.codebook_l2_norm else "none")
        self.post_quant_conv = nn.Conv2d(c.codebook_embed_dim, c.z_channels, 1)
        self.reader: nn.Module = Grid(c, c.decoder_size, 3) if grid else Reader(c)
        self.decoder = Decoder(c)
        self.shape = (c.side, c.side) if grid else (1, c.num_latent_tokens)

    def encode(self, images: Tensor) -> Tensor:
        """(B, tokens) ids, of a grid row-major."""
        features = self.quant_conv(self.writer(self.encoder(images)))
        return self.quantize.nearest(features.float().flatten(2).transpose(1, 2))

    def decode(self, ids: Tensor) -> Tensor:
        """Images from ids (B, tokens)."""
        rows = self.shape[0]
        codes = self.quantize.lookup(ids).transpose(1, 2).unflatten(2, (rows, -1))
        images: Tensor = self.decoder(self.reader(self.post_quant_conv(codes.to(self.post_quant_conv.weight.dtype))))
        return images


_TRANSFORMER = (
    (r"\.norm_in\.", ".ln_pre."),
    (r"^writer\.embed\.", "writer.encoder_embed."),
    (r"^reader\.embed\.", "reader.decoder_embed."),
    (r"\.token_places$", ".latent_token_positional_embedding"),
    (r"\.places$", ".positional_embedding"),
    (r"\.summary\.", ".global_proj."),
    (r"^writer\.queries$", "writer.query_1d"),
    (r"^reader\.queries$", "reader.q_2d"),
    (r"\.norm_out\.", ".ln_post."),
    (r"\.head\.", ".conv_out."),
    (r"\.blocks\.", ".transformer."),
    (r"\.attention\.", ".self_attn."),
    (r"\.reading\.", ".multihead_attn."),
    (r"\.mlp_in\.", ".linear1."),
    (r"\.mlp_out\.", ".linear2."),
    (r"\.query_norm\.", ".q_norm."),
    (r"\.key_norm\.", ".k_norm."),
)
_CONVOLUTIONS = (
    (r"\.levels\.(\d+)\.blocks\.", r".conv_blocks.\1.res."),
    (r"\.levels\.(\d+)\.attention\.", r".conv_blocks.\1.attn."),
    (r"^encoder\.levels\.(\d+)\.resample\.", r"encoder.conv_blocks.\1.downsample."),
    (r"^decoder\.levels\.(\d+)\.resample\.", r"decoder.conv_blocks.\1.upsample."),
    (r"\.middle\.", ".mid."),
    (r"\.styles\.", ".adaptive."),
    (r"\.scale\.", ".gamma."),
    (r"\.shift\.", ".beta."),
    (r"\.skip\.", ".nin_shortcut."),
    (r"\.out\.(weight|bias)$", r".proj_out.\1"),
    (r"\.stem\.", ".conv_in."),
    (r"coder\.norm\.", "coder.norm_out."),
    (r"\.head\.", ".conv_out."),
)


def official_names(config: Mapping[str, Any]) -> OfficialNames:
    """One of our parameter names -> the official keys, for a network of this `config`."""
    c = from_upstream(Config, config, (*TRAINING_ONLY, *UNBUILT))
    grid = config.get("class") == "VQVitModel2DPlus"
    writer, reader = ("s2dencoder.", "s2ddecoder.") if grid else ("s2to1encoder.", "s1to2decoder.")

    def name(ours: str) -> tuple[str, ...]:
        if ours.startswith(("encoder.", "decoder.")):
            key = replace_patterns(ours, _CONVOLUTIONS)
            if c.d2s_up:
                key = key.replace(".upsample.conv.", ".upsample.conv1.")
            return tuple(key.replace(".qkv.", f".{part}.") for part in "qkv") if ".qkv." in key else (key,)
        key = replace_patterns(ours, _TRANSFORMER)
        if c.apart:
            key = key.replace(".out.", ".wo.")
        key = key.replace(".out.", ".out_proj.").replace("writer.", writer).replace("reader.", reader)
        if ".qkv." in key and c.apart:
            return tuple(key.replace(".qkv.", f".{part}_proj.") for part in "qkv")
        return (key.replace(".qkv.", ".in_proj_"),)

    return name
