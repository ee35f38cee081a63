"""The network of MaskBit's tokenizers: MaskGIT's autoencoder with strided convolutions, around bits or a codebook."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from arbench.errors import ConfigError

from ...layers.autoencoder import group_norm
from ...layers.checkpoint import OfficialNames, replace_patterns
from ...layers.config import from_upstream
from ...layers.maskgit_vqgan import res_blocks
from ...layers.quantize import Codebook, SignBits

IGNORED = (r"quantize\.(codebook|bits_to_indices)",)
"""Official keys of buffers that are computed."""

TRAINING_ONLY = (
    "class",
    "model_class",
    "commitment_cost",
    "entropy_loss_weight",
    "entropy_loss_temperature",
    "entropy_gamma",
    "finetune_decoder",
    "resolution",
    "dropout",
)
"""Official hyper-parameters without effect on a trained network."""


@dataclass(frozen=True, slots=True)
class Config:
    """Upstream's `vq_model`. `legacy` decoders hold their levels fine to coarse; others as they run."""

    quantizer_type: str = "lookup-free"
    codebook_size: int = 16384
    token_size: int = 14
    num_channels: int = 3
    hidden_channels: int = 128
    channel_mult: tuple[int, ...] = (1, 1, 2, 2, 4)
    num_resolutions: int = 5
    num_res_blocks: int = 2
    num_res_blocks_decoder: int | None = None
    sample_with_conv: bool = True
    use_l2_normalisation: bool = False
    legacy: bool = False

    def __post_init__(self) -> None:
        if self.quantizer_type not in ("lookup", "lookup-free"):
            raise ConfigError(
                f"no quantizer_type {self.quantizer_type!r}", "known: lookup, lookup-free", "use upstream's name"
            )

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels of each level, fine to coarse."""
        return tuple(self.hidden_channels * m for m in self.channel_mult[: self.num_resolutions])


class Level(nn.Module):
    """The blocks at one resolution, then half the size: by a strided convolution, by averages, or twice the size."""

    def __init__(self, inputs: int, outputs: int, count: int, *, then: str = "") -> None:
        super().__init__()
        self.blocks = res_blocks(inputs, outputs, count)
        self.then = then
        self.shrink = nn.Conv2d(outputs, outputs, 3, stride=2) if then == "shrink" else None
        self.enlarge = nn.Conv2d(outputs, outputs, 3, padding=1) if then == "enlarge" else None

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x)
        if self.shrink is not None:
            x = self.shrink(F.pad(x, (0, 1, 0, 1)))  # TensorFlow's "same" for even sides
        if self.enlarge is not None:
            x = self.enlarge(F.interpolate(x, scale_factor=2.0, mode="nearest"))
        return F.avg_pool2d(x, 2) if self.then == "average" else x


class Encoder(nn.Module):
    """(B, token_size, H/f, W/f) of images (B, 3, H, W) in [0, 1], f = 2 ** (levels - 1)."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        widths, count = config.widths, config.num_res_blocks
        how = "shrink" if config.sample_with_conv else "average"
        last = len(widths) - 1
        self.stem = nn.Conv2d(config.num_channels, config.hidden_channels, 3, padding=1, bias=False)
        self.levels = nn.ModuleList(
            Level(before, here, count, then=how if index < last else "")
            for index, (before, here) in enumerate(zip((config.hidden_channels, *widths), widths, strict=False))
        )
        self.middle = Level(widths[-1], widths[-1], count)
        self.norm = group_norm(widths[-1])
        self.head = nn.Conv2d(widths[-1], config.token_size, 1)

    def forward(self, images: Tensor) -> Tensor:
        x = self.stem(images)
        for level in (*self.levels, self.middle):
            x = level(x)
        features: Tensor = self.head(F.silu(self.norm(x)))
        return features


class Decoder(nn.Module):
    """Images (B, 3, H, W), about [0, 1] but not clamped, of codes (B, token_size, H/f, W/f); levels coarse to fine."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        widths, last = config.widths[::-1], len(config.widths) - 1
        count = config.num_res_blocks
        if not config.legacy and config.num_res_blocks_decoder is not None:
            count = config.num_res_blocks_decoder
        self.stem = nn.Conv2d(config.token_size, widths[0], 3, padding=1)
        self.middle = Level(widths[0], widths[0], count)
        self.levels = nn.ModuleList(
            Level(before, here, count, then="enlarge" if index < last else "")
            for index, (before, here) in enumerate(zip((widths[0], *widths), widths, strict=False))
        )
        self.norm = group_norm(widths[-1])
        self.head = nn.Conv2d(widths[-1], config.num_channels, 3, padding=1)

    def forward(self, codes: Tensor) -> Tensor:
        x = self.stem(codes)
        for level in (self.middle, *self.levels):
            x = level(x)
        images: Tensor = self.head(F.silu(self.norm(x)))
        return images


class Network(nn.Module):
    """Encoder, bits or codebook, decoder; images in [0, 1], the output not clamped."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        c = from_upstream(Config, config, TRAINING_ONLY)
        self.factor = 2 ** (len(c.widths) - 1)
        self.encoder = Encoder(c)
        self.decoder = Decoder(c)
        self.quantize: Codebook | SignBits = SignBits(c.token_size)
        if c.quantizer_type == "lookup":
            self.quantize = Codebook(c.codebook_size, c.token_size, "codes" if c.use_l2_normalisation else "none")

    def encode(self, images: Tensor) -> Tensor:
        """(B, H/f * W/f) ids, row-major."""
        return self.quantize.nearest(self.encoder(images).float().flatten(2).transpose(1, 2))

    def decode(self, ids: Tensor) -> Tensor:
        """Images from a square grid of ids (B, n * n)."""
        side = math.isqrt(ids.shape[1])
        grid = self.quantize.lookup(ids).transpose(1, 2).reshape(len(ids), -1, side, side)
        images: Tensor = self.decoder(grid.to(self.decoder.stem.weight.dtype))
        return images


_TO_OFFICIAL = (
    (r"\.blocks\.", ".res_blocks."),
    (r"\.middle\.", ".mid."),
    (r"\.shortcut\.", ".nin_shortcut."),
    (r"\.shrink\.", ".down_conv."),
    (r"\.enlarge\.", ".upsample_conv."),
    (r"^encoder\.levels\.", "encoder.down."),
    (r"^decoder\.levels\.", "decoder.up."),
    (r"coder\.stem\.", "coder.conv_in."),
    (r"coder\.norm\.", "coder.norm_out."),
    (r"coder\.head\.", "coder.conv_out."),
)


def official_names(config: Mapping[str, Any]) -> OfficialNames:
    """One of our parameter names -> the official keys, for a network of this `config`."""
    c = from_upstream(Config, config, TRAINING_ONLY)
    last = len(c.widths) - 1

    def name(ours: str) -> tuple[str, ...]:
        if c.legacy and ours.startswith("decoder.levels."):
            level, _, rest = ours.removeprefix("decoder.levels.").partition(".")
            ours = f"decoder.levels.{last - int(level)}.{rest}"
        return (replace_patterns(ours, _TO_OFFICIAL),)

    return name
