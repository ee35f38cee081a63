"""The CompVis-style convolutional encoder and decoder that most image tokenizers share.

After Esser et al., "Taming transformers for high-resolution image synthesis" (CVPR 2021), as LlamaGen and VAR use it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from .checkpoint import replace_patterns

GROUPS = 32


def group_norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(GROUPS, channels, eps=1e-6)


class ResBlock(nn.Module):
    """Two normalised 3x3 convolutions and a skip, 1x1 where the width changes."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.norm1 = group_norm(inputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.norm2 = group_norm(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.skip = nn.Conv2d(inputs, outputs, 1) if inputs != outputs else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv1(F.silu(self.norm1(x)))
        h = self.conv2(F.silu(self.norm2(h)))
        out: Tensor = self.skip(x) + h
        return out


class ConvAttention(nn.Module):
    """Single-head self-attention over all positions of a feature map, with 1x1 convolutions as projections."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = group_norm(channels)
        self.qkv = nn.Conv2d(channels, 3 * channels, 1)
        self.out = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        qkv = self.qkv(self.norm(x)).flatten(2).transpose(1, 2)  # (B, H*W, 3C)
        q, k, v = qkv.unsqueeze(1).chunk(3, dim=-1)  # (B, 1, H*W, C)
        h = F.scaled_dot_product_attention(q, k, v).squeeze(1)
        out: Tensor = x + self.out(h.transpose(1, 2).reshape(x.shape))
        return out


class Downsample(nn.Module):
    """(B, C, H, W) -> (B, C, H/2, W/2); the padding is on the right and the bottom only."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv(F.pad(x, (0, 1, 0, 1)))
        return out


class Upsample(nn.Module):
    """(B, C, H, W) -> (B, C, 2H, 2W), nearest neighbour and a convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))
        return out


def depth_to_space(x: Tensor) -> Tensor:
    """(B, 4C, H, W) -> (B, C, 2H, 2W); the row of a block counts slowest in 4C, then the column, then the channel."""
    return x.unflatten(1, (2, 2, -1)).permute(0, 3, 4, 1, 5, 2).flatten(4).flatten(2, 3)


class Spread(nn.Module):
    """(B, C, H, W) -> (B, C, 2H, 2W), a convolution to four times the channels and `depth_to_space`."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, 4 * channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return depth_to_space(self.conv(x))


class Style(nn.Module):
    """A group norm whose scale and shift come from deviation and mean of the code map."""

    def __init__(self, codes: int, channels: int) -> None:
        super().__init__()
        self.scale, self.shift = nn.Linear(codes, channels), nn.Linear(codes, channels)

    def forward(self, x: Tensor, codes: Tensor) -> Tensor:
        flat = codes.flatten(2)
        scale = self.scale((flat.var(dim=-1) + 1e-6).sqrt())[:, :, None, None]
        shift = self.shift(flat.mean(dim=-1))[:, :, None, None]
        styled: Tensor = scale * F.group_norm(x, GROUPS, eps=1e-6) + shift
        return styled


class Level(nn.Module):
    """The blocks at one resolution, each followed by attention if asked for, then the change of resolution."""

    def __init__(self, inputs: int, outputs: int, blocks: int, *, attention: bool, resample: nn.Module | None) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(ResBlock(inputs if i == 0 else outputs, outputs) for i in range(blocks))
        self.attention = nn.ModuleList(ConvAttention(outputs) if attention else nn.Identity() for _ in range(blocks))
        self.resample = resample if resample is not None else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        for block, attention in zip(self.blocks, self.attention, strict=True):
            x = attention(block(x))
        out: Tensor = self.resample(x)
        return out


def middle(channels: int, *, attention: bool = True) -> nn.Sequential:
    blocks = [ResBlock(channels, channels), ResBlock(channels, channels)]
    return nn.Sequential(blocks[0], ConvAttention(channels), blocks[1]) if attention else nn.Sequential(*blocks)


class Encoder(nn.Module):
    """Features (B, outputs, H/f, W/f) of images (B, 3, H, W) in [-1, 1], f = 2 ** (len(multipliers) - 1).

    `width` is the channels at full resolution, `multipliers` those of each level in units of it, `blocks` the residual
    blocks per level. Attention is in the middle, unless `inside` is false, and at the levels `attention`, counted from
    full resolution (None: at the last).
    """

    def __init__(
        self,
        width: int,
        multipliers: Sequence[int],
        blocks: int,
        outputs: int,
        *,
        images: int = 3,
        attention: Collection[int] | None = None,
        inside: bool = True,
    ) -> None:
        super().__init__()
        widths = [width * m for m in multipliers]
        last = len(widths) - 1
        sites = {last} if attention is None else set(attention)
        self.stem = nn.Conv2d(images, width, 3, padding=1)
        self.levels = nn.ModuleList(
            Level(before, here, blocks, attention=i in sites, resample=Downsample(here) if i < last else None)
            for i, (before, here) in enumerate(zip([width, *widths], widths, strict=False))
        )
        self.middle = middle(widths[-1], attention=inside)
        self.norm = group_norm(widths[-1])
        self.head = nn.Conv2d(widths[-1], outputs, 3, padding=1)

    def forward(self, images: Tensor) -> Tensor:
        x = self.stem(images)
        for level in self.levels:
            x = level(x)
        features: Tensor = self.head(F.silu(self.norm(self.middle(x))))
        return features


class Decoder(nn.Module):
    """Images (B, 3, H, W), about [-1, 1] but not clamped, of features (B, inputs, H/f, W/f).

    The levels are held coarse to fine, in the order they run; each has one block more than the encoder's. `attention`
    counts them as the encoder does, from full resolution (None: at the coarsest).
    """

    def __init__(
        self,
        width: int,
        multipliers: Sequence[int],
        blocks: int,
        inputs: int,
        *,
        images: int = 3,
        attention: Collection[int] | None = None,
    ) -> None:
        super().__init__()
        widths = [width * m for m in reversed(multipliers)]
        last = len(widths) - 1
        sites = {last} if attention is None else set(attention)
        self.stem = nn.Conv2d(inputs, widths[0], 3, padding=1)
        self.middle = middle(widths[0])
        self.levels = nn.ModuleList(
            Level(before, here, blocks + 1, attention=last - i in sites, resample=Upsample(here) if i < last else None)
            for i, (before, here) in enumerate(zip([widths[0], *widths], widths, strict=False))
        )
        self.norm = group_norm(widths[-1])
        self.head = nn.Conv2d(widths[-1], images, 3, padding=1)

    def forward(self, features: Tensor) -> Tensor:
        x = self.middle(self.stem(features))
        for level in self.levels:
            x = level(x)
        images: Tensor = self.head(F.silu(self.norm(x)))
        return images


_COMPVIS = (
    (r"\.middle\.0\.", ".mid.block_1."),
    (r"\.middle\.1\.", ".mid.attn_1."),
    (r"\.middle\.2\.", ".mid.block_2."),
    (r"\.blocks\.", ".block."),
    (r"\.attention\.", ".attn."),
    (r"\.skip\.", ".nin_shortcut."),
    (r"\.out\.(weight|bias)$", r".proj_out.\1"),
    (r"\.stem\.", ".conv_in."),
    (r"coder\.norm\.", "coder.norm_out."),
    (r"\.head\.", ".conv_out."),
)


def compvis_names(levels: int, *, fused: bool = False) -> Callable[[str], tuple[str, ...]]:
    """One of the names of `encoder` or `decoder` here -> its keys in a CompVis file, for networks of that many levels.

    There the decoder counts its levels fine to coarse, and queries, keys and values are convolutions of their own
    (one for all three in files that are `fused`).
    """

    def name(ours: str) -> tuple[str, ...]:
        name = re.sub(r"^encoder\.levels\.(\d+)\.", r"encoder.down.\1.", ours)
        name = re.sub(r"^decoder\.levels\.(\d+)\.", lambda m: f"decoder.up.{levels - 1 - int(m[1])}.", name)
        name = re.sub(r"\.resample\.", ".downsample." if ours.startswith("encoder.") else ".upsample.", name)
        name = replace_patterns(name, _COMPVIS)
        if fused or ".qkv." not in name:
            return (name,)
        return tuple(name.replace(".qkv.", f".{part}.") for part in "qkv")

    return name
