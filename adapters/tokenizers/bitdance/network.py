"""The network of BitDance's tokenizer: convolutions around the signs of the features, which also style the decoder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from arbench.errors import ConfigError

from ...layers.autoencoder import group_norm
from ...layers.checkpoint import replace_patterns
from ...layers.config import from_upstream
from ...layers.linear import Linear

IGNORED = (r"loss\..*", r"quantize\..*")
TRAINING_ONLY = ("class", "double_z", "in_channels", "out_ch", "resolution", "gan_decoder")


@dataclass(frozen=True, slots=True)
class Config:
    """Upstream's `ddconfig`, less what only training uses, and its number of codebooks."""

    z_channels: int = 32
    ch: int = 256
    ch_mult: tuple[int, ...] = (1, 1, 2, 2, 4)
    num_res_blocks: int = 4
    num_codebooks: int = 4

    def __post_init__(self) -> None:
        if self.z_channels % self.num_codebooks:
            raise ConfigError(
                f"{self.z_channels} bits are not {self.num_codebooks} equal groups", "an id is a group", "divide evenly"
            )

    @property
    def bits(self) -> int:
        """Bits of an id."""
        return self.z_channels // self.num_codebooks


def config_of(given: Mapping[str, Any]) -> Config:
    """From upstream's arguments of `VQModel`."""
    flat = {**given.get("ddconfig", {}), **{key: value for key, value in given.items() if key != "ddconfig"}}
    if flat.get("gan_decoder"):
        raise ConfigError("BitDance's decoder with noise is not here", "no ImageNet model has it", "leave it out")
    return from_upstream(Config, flat, TRAINING_ONLY)


class ResBlock(nn.Module):
    """Two normalised 3x3 convolutions without bias and a skip."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = group_norm(inputs), group_norm(outputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.skip = nn.Conv2d(inputs, outputs, 1, bias=False) if inputs != outputs else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv1(F.silu(self.norm1(x)))
        out: Tensor = self.skip(x) + self.conv2(F.silu(self.norm2(h)))
        return out


def blocks(count: int, inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(*(ResBlock(inputs if index == 0 else outputs, outputs) for index in range(count)))


class Level(nn.Module):
    def __init__(self, count: int, inputs: int, outputs: int, resample: nn.Module | None) -> None:
        super().__init__()
        self.blocks = blocks(count, inputs, outputs)
        self.resample = resample if resample is not None else nn.Identity()


class Encoder(nn.Module):
    def __init__(self, config: Config) -> None:
        super().__init__()
        widths = [config.ch * each for each in config.ch_mult]
        self.stem = nn.Conv2d(3, config.ch, 3, padding=1, bias=False)
        last = len(widths) - 1
        self.levels = nn.ModuleList(
            Level(
                config.num_res_blocks,
                ([config.ch, *widths])[index],
                width,
                nn.Conv2d(width, width, 3, stride=2, padding=1) if index < last else None,
            )
            for index, width in enumerate(widths)
        )
        self.middle = blocks(config.num_res_blocks, widths[-1], widths[-1])
        self.norm = group_norm(widths[-1])
        self.head = nn.Conv2d(widths[-1], config.z_channels, 1)

    def forward(self, images: Tensor) -> Tensor:
        x = self.stem(images)
        for level in self.levels:
            x = level.resample(level.blocks(x))
        out: Tensor = self.head(F.silu(self.norm(self.middle(x))))
        return out


class Style(nn.Module):
    """A group norm whose scale follows how far the bits of each channel vary, and whose shift follows their mean."""

    def __init__(self, bits: int, width: int) -> None:
        super().__init__()
        self.gamma, self.beta = Linear(bits, width), Linear(bits, width)

    def forward(self, x: Tensor, bits: Tensor) -> Tensor:
        flat = bits.flatten(2)
        scale, shift = self.gamma((flat.var(dim=-1) + 1e-6).sqrt()), self.beta(flat.mean(dim=-1))
        return F.group_norm(x, 32, eps=1e-6) * scale[..., None, None] + shift[..., None, None]


class Enlarge(nn.Module):
    """Four times the channels become twice the sides; a channel's place in a cell is the slowest axis."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, 4 * width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        cells = self.conv(x).unflatten(1, (2, 2, -1)).permute(0, 3, 4, 1, 5, 2)
        out: Tensor = cells.flatten(4, 5).flatten(2, 3)
        return out


class Decoder(nn.Module):
    """`levels` and `styles` are stored from fine to coarse."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        widths = [config.ch * each for each in config.ch_mult]
        inputs = [*widths[1:], widths[-1]]
        self.stem = nn.Conv2d(config.z_channels, widths[-1], 3, padding=1)
        self.middle = blocks(config.num_res_blocks, widths[-1], widths[-1])
        self.styles = nn.ModuleList(Style(config.z_channels, width) for width in inputs)
        self.levels = nn.ModuleList(
            Level(config.num_res_blocks, inputs[index], width, Enlarge(width) if index else None)
            for index, width in enumerate(widths)
        )
        self.norm = group_norm(widths[0])
        self.head = nn.Conv2d(widths[0], 3, 3, padding=1)

    def forward(self, bits: Tensor) -> Tensor:
        x = self.middle(self.stem(bits))
        for style, level in zip(reversed(self.styles), reversed(self.levels), strict=True):
            x = level.resample(level.blocks(style(x, bits)))
        out: Tensor = self.head(F.silu(self.norm(x)))
        return out


class Network(nn.Module):
    """Encoder and decoder; images in [-1, 1], the output not clamped."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        self.config = config_of(config)
        self.factor = 2 ** (len(self.config.ch_mult) - 1)
        self.encoder = Encoder(self.config)
        self.decoder = Decoder(self.config)

    def encode(self, images: Tensor) -> Tensor:
        """Bits (B, C, h, w), 1 or -1; zero counts as -1."""
        return torch.where(self.encoder(images) > 0, 1.0, -1.0)

    def ids(self, bits: Tensor) -> Tensor:
        """(B, h * w, groups) of bits (B, C, h, w): the first channel of a group is its lowest bit."""
        on = (bits > 0).long().flatten(2).mT.unflatten(-1, (self.config.num_codebooks, self.config.bits))
        return (on << torch.arange(self.config.bits, device=bits.device)).sum(-1)

    def bits(self, ids: Tensor, shape: tuple[int, int]) -> Tensor:
        """The inverse of `ids`, for a map of `shape` (h, w)."""
        on = (ids.unsqueeze(-1) >> torch.arange(self.config.bits, device=ids.device)) & 1
        return (2.0 * on - 1).flatten(2).mT.unflatten(-1, shape)

    def render(self, bits: Tensor) -> Tensor:
        images: Tensor = self.decoder(bits.to(self.decoder.stem.weight.dtype))
        return images


_TO_OFFICIAL = (
    (r"^encoder\.levels\.(\d+)\.blocks\.", r"encoder.down.\1.block."),
    (r"^encoder\.levels\.(\d+)\.resample\.", r"encoder.down.\1.downsample."),
    (r"^decoder\.levels\.(\d+)\.blocks\.", r"decoder.up.\1.block."),
    (r"^decoder\.levels\.(\d+)\.resample\.conv\.", r"decoder.up.\1.upsample.conv1."),
    (r"\.middle\.", ".mid_block."),
    (r"\.styles\.", ".adaptive."),
    (r"\.skip\.", ".nin_shortcut."),
    (r"\.stem\.", ".conv_in."),
    (r"coder\.norm\.", "coder.norm_out."),
    (r"coder\.head\.", "coder.conv_out."),
)


def official_names(ours: str) -> tuple[str, ...]:
    """The official key of one of our parameters."""
    return (replace_patterns(ours, _TO_OFFICIAL),)
