"""GigaTok's networks: convolutions around transformers that write a map to tokens, in a row or in a grid, and back.

After Xiong et al., "GigaTok: scaling visual tokenizers to 3 billion parameters" (arXiv:2504.08736).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from arbench.errors import ConfigError

from ...layers.autoencoder import Encoder, Level, Spread, Style, Upsample, group_norm, middle
from ...layers.checkpoint import OfficialNames, replace_patterns
from ...layers.config import from_upstream
from ...layers.quantize import Codebook
from .config import BLOCKS, IGNORED, TRAINING_ONLY, UNBUILT, Config
from .transformers import Grid, Reader, Writer

__all__ = ["IGNORED", "TRAINING_ONLY", "Config", "Network", "official_names"]


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
