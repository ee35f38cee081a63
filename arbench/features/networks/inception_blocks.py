"""The blocks of Inception-2015, as in the published TensorFlow graph, with the layer names of pytorch-fid's files.

Szegedy et al., arXiv 1512.00567. Where the graph differs from the paper: averages leave out the padding, and the last
block takes the maximum in place of an average.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class ConvNorm(nn.Module):
    """A convolution without bias, its batch norm and a ReLU."""

    def __init__(
        self, inputs: int, outputs: int, kernel: tuple[int, int], stride: int = 1, padding: tuple[int, int] = (0, 0)
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, padding, bias=False)
        self.bn: nn.Module = nn.BatchNorm2d(outputs, eps=0.001)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(x)), inplace=True)

    def fold(self) -> None:
        """Puts the batch norm into the convolution: w s and beta - mean s with s = gamma / sqrt(var + eps)."""
        norm = self.bn
        assert isinstance(norm, nn.BatchNorm2d)
        assert norm.running_mean is not None
        assert norm.running_var is not None
        scale = norm.weight.double() / (norm.running_var.double() + norm.eps).sqrt()
        shift = norm.bias.double() - norm.running_mean.double() * scale
        weight = self.conv.weight.double() * scale[:, None, None, None]
        dtype = self.conv.weight.dtype
        self.conv.weight = nn.Parameter(weight.to(dtype), requires_grad=False)
        self.conv.bias = nn.Parameter(shift.to(dtype), requires_grad=False)
        self.bn = nn.Identity()


# ---- what a block is made of -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Conv:
    """A layer by its name; of stride 1 it keeps the height and width, of stride 2 it has no padding."""

    name: str
    channels: int
    kernel: tuple[int, int] = (1, 1)
    stride: int = 1

    def layer(self, inputs: int) -> ConvNorm:
        height, width = self.kernel
        padding = (height // 2, width // 2) if self.stride == 1 else (0, 0)
        return ConvNorm(inputs, self.channels, self.kernel, self.stride, padding)


Step = Conv | tuple[Conv, ...] | Callable[[Tensor], Tensor]
"""A layer, layers side by side, or a pooling, which keeps the channels."""


def average(x: Tensor) -> Tensor:
    """Of 3 x 3 places, of fewer at the rim."""
    return _by_place(lambda x: F.avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=False), x)


def maximum(x: Tensor) -> Tensor:
    """Of 3 x 3 places."""
    return _by_place(lambda x: F.max_pool2d(x, 3, stride=1, padding=1), x)


def halved(x: Tensor) -> Tensor:
    """The maximum of 3 x 3 places at every second one: (n, C, h, w) -> (n, C, (h - 1) / 2, (w - 1) / 2)."""
    return _by_place(lambda x: F.max_pool2d(x, 3, stride=2), x)


def _by_place(pool: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """On a CPU, pools with the channels of a place side by side in memory: the same bits, two to five times as fast."""
    if x.device.type != "cpu" or not x.is_contiguous():
        return pool(x)
    return pool(x.contiguous(memory_format=torch.channels_last)).contiguous()


class Block(nn.Module):
    """Chains of steps on one input (n, `inputs`, h, w), whose outputs are joined along the channels, in their order."""

    def __init__(self, inputs: int, *chains: Sequence[Step]) -> None:
        super().__init__()
        self._chains = chains
        for chain in chains:
            width = inputs
            for step in chain:
                if not callable(step):
                    layers = (step,) if isinstance(step, Conv) else step
                    for each in layers:
                        self.add_module(each.name, each.layer(width))
                    width = sum(each.channels for each in layers)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self._through(chain, x) for chain in self._chains], 1)

    def _through(self, chain: Sequence[Step], x: Tensor) -> Tensor:
        for step in chain:
            if callable(step):
                x = step(x)
            elif isinstance(step, Conv):
                x = self.get_submodule(step.name)(x)
            else:
                x = torch.cat([self.get_submodule(each.name)(x) for each in step], 1)
        return x


# ---- the five kinds --------------------------------------------------------------------------------------------------


def block_a(inputs: int, pooled: int) -> Block:
    """(n, inputs, 35, 35) -> (n, 224 + pooled, 35, 35)."""
    return Block(
        inputs,
        [Conv("branch1x1", 64)],
        [Conv("branch5x5_1", 48), Conv("branch5x5_2", 64, (5, 5))],
        [Conv("branch3x3dbl_1", 64), Conv("branch3x3dbl_2", 96, (3, 3)), Conv("branch3x3dbl_3", 96, (3, 3))],
        [average, Conv("branch_pool", pooled)],
    )


def block_b(inputs: int) -> Block:
    """(n, inputs, 35, 35) -> (n, 480 + inputs, 17, 17)."""
    return Block(
        inputs,
        [Conv("branch3x3", 384, (3, 3), stride=2)],
        [Conv("branch3x3dbl_1", 64), Conv("branch3x3dbl_2", 96, (3, 3)), Conv("branch3x3dbl_3", 96, (3, 3), stride=2)],
        [halved],
    )


def block_c(inputs: int, narrow: int) -> Block:
    """(n, inputs, 17, 17) -> (n, 768, 17, 17), with `narrow` channels between its seven by ones."""
    return Block(
        inputs,
        [Conv("branch1x1", 192)],
        [Conv("branch7x7_1", narrow), Conv("branch7x7_2", narrow, (1, 7)), Conv("branch7x7_3", 192, (7, 1))],
        [
            Conv("branch7x7dbl_1", narrow),
            Conv("branch7x7dbl_2", narrow, (7, 1)),
            Conv("branch7x7dbl_3", narrow, (1, 7)),
            Conv("branch7x7dbl_4", narrow, (7, 1)),
            Conv("branch7x7dbl_5", 192, (1, 7)),
        ],
        [average, Conv("branch_pool", 192)],
    )


def block_d(inputs: int) -> Block:
    """(n, inputs, 17, 17) -> (n, 512 + inputs, 8, 8)."""
    return Block(
        inputs,
        [Conv("branch3x3_1", 192), Conv("branch3x3_2", 320, (3, 3), stride=2)],
        [
            Conv("branch7x7x3_1", 192),
            Conv("branch7x7x3_2", 192, (1, 7)),
            Conv("branch7x7x3_3", 192, (7, 1)),
            Conv("branch7x7x3_4", 192, (3, 3), stride=2),
        ],
        [halved],
    )


def block_e(inputs: int, pool: Callable[[Tensor], Tensor]) -> Block:
    """(n, inputs, 8, 8) -> (n, 2048, 8, 8)."""
    return Block(
        inputs,
        [Conv("branch1x1", 320)],
        [
            Conv("branch3x3_1", 384),
            (Conv("branch3x3_2a", 384, (1, 3)), Conv("branch3x3_2b", 384, (3, 1))),
        ],
        [
            Conv("branch3x3dbl_1", 448),
            Conv("branch3x3dbl_2", 384, (3, 3)),
            (Conv("branch3x3dbl_3a", 384, (1, 3)), Conv("branch3x3dbl_3b", 384, (3, 1))),
        ],
        [pool, Conv("branch_pool", 192)],
    )
