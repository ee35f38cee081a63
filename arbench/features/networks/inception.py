"""Inception-2015 behind every resize convention: pool3, spatial and both logits from one forward pass."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from ...errors import NoDevice
from ..extractor import FeatureExtractor, Mode
from ..recipes import find
from ..to_device import batch_for
from ..weight_files import WeightFile, Weights
from . import inception_weights, resize
from .inception_blocks import ConvNorm, average, block_a, block_b, block_c, block_d, block_e, maximum
from .precision import precision

SPATIAL_CHANNELS = 7
"""ADM's sFID takes these first channels of Mixed_6d, at 17 x 17 places: 2023 numbers."""

# from 16 on the CPU's convolutions take the same kernels as in the batches of 32 to 64 of other tools: equal to the bit
_CPU_BATCH = 16
MEGABYTES = 24
"""Of activations for one image: input, output and normalised output of the widest layer, and what cuDNN takes."""
COMPILED_FROM = 20_000
"""Images of a pass from which compiling is worth its time; on an H200, 8,000 images in all do not earn it back."""


def _levels(grey: Tensor) -> Tensor:
    """0..255 -> [-1, 1), as the TensorFlow graph does."""
    return (grey - 128) / 128


def _unit(values: Tensor) -> Tensor:
    """0..1 -> [-1, 1], as pytorch-fid does."""
    return 2 * values - 1


_PREPARE: dict[str, Callable[[Tensor], Tensor]] = {
    "inception/tf1": lambda images: _levels(resize.tf1_bilinear(images)),
    "inception/clean": lambda images: _levels(resize.pil_bicubic(images)),
    "inception/half-pixel": lambda images: _unit(resize.half_pixel_bilinear(images)),
    "inception/antialias": lambda images: _levels(resize.antialias_bilinear(images)),
    "inception/grid-sample": lambda images: _levels(resize.grid_sample_bilinear(images)),
    "inception/tf1-float64": lambda images: _levels(resize.tf1_bilinear(images, dtype=torch.float64)),
}


class Network(nn.Module):
    """Inception-2015 with the parameter names of pytorch-fid and torch-fidelity; no weights of its own."""

    def __init__(self) -> None:
        super().__init__()
        # (n, 3, 299, 299) -> (n, 192, 35, 35)
        self.Conv2d_1a_3x3 = ConvNorm(3, 32, (3, 3), stride=2)
        self.Conv2d_2a_3x3 = ConvNorm(32, 32, (3, 3))
        self.Conv2d_2b_3x3 = ConvNorm(32, 64, (3, 3), padding=(1, 1))
        self.MaxPool_1 = nn.MaxPool2d(kernel_size=3, stride=2)
        self.Conv2d_3b_1x1 = ConvNorm(64, 80, (1, 1))
        self.Conv2d_4a_3x3 = ConvNorm(80, 192, (3, 3))
        self.MaxPool_2 = nn.MaxPool2d(kernel_size=3, stride=2)
        self.Mixed_5b = block_a(192, pooled=32)
        self.Mixed_5c = block_a(256, pooled=64)
        self.Mixed_5d = block_a(288, pooled=64)
        # -> (n, 768, 17, 17)
        self.Mixed_6a = block_b(288)
        self.Mixed_6b = block_c(768, narrow=128)
        self.Mixed_6c = block_c(768, narrow=160)
        self.Mixed_6d = block_c(768, narrow=160)
        self.Mixed_6e = block_c(768, narrow=192)
        # -> (n, 2048, 8, 8)
        self.Mixed_7a = block_d(768)
        self.Mixed_7b = block_e(1280, average)
        self.Mixed_7c = block_e(2048, maximum)
        self.AvgPool = nn.AdaptiveAvgPool2d(output_size=(1, 1))
        self.fc = nn.Linear(2048, 1008)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Outputs by name, (n, 2048), (n, 2023), (n, 1008) and (n, 1008), of pixels (n, 3, 299, 299)."""
        spatial = x
        for name, layer in self.named_children():
            if name == "fc":
                break
            x = layer(x)
            if name == "Mixed_6d":
                spatial = x[:, :SPATIAL_CHANNELS].permute(0, 2, 3, 1).flatten(1)  # height, width, channel
        pool3 = x.flatten(1)
        logits_unbiased = pool3.mm(self.fc.weight.T)
        logits = logits_unbiased + self.fc.bias
        return {"pool3": pool3, "spatial": spatial, "logits": logits, "logits_unbiased": logits_unbiased}


def uninitialised() -> Network:
    """The network on the meta device: no random numbers are drawn for weights that are replaced anyway."""
    with torch.device("meta"):
        return Network()


def network(file: WeightFile) -> Network:
    """The network with the weights of a file, float32, in evaluation mode. Raises `CheckpointError`."""
    made = uninitialised()
    shapes = made.state_dict()
    counters = {name: torch.tensor(0) for name in shapes if name.endswith(inception_weights.COUNTER)}
    made.load_state_dict(
        {n: t.float() for n, t in inception_weights.read(file, shapes).items()} | counters, assign=True
    )
    return made.requires_grad_(False).eval()


def fold(net: Network) -> Network:
    """Puts every batch norm into its convolution, in place."""
    for layer in net.modules():
        if isinstance(layer, ConvNorm):
            layer.fold()
    return net


class Inception(FeatureExtractor):
    """Inception-2015 behind one of the resize conventions.

    parity runs the layers of the reference in its memory format; fast has batch norm folded and channels last, and on
    CUDA uses TF32 and is compiled for large sets.
    """

    def __init__(self, recipe: str, weights: WeightFile | None, net: Network, device: torch.device, mode: Mode) -> None:
        self.recipe = recipe
        self.outputs = find(recipe).outputs
        self.weights = weights
        self.mode = mode
        self.device = device
        self.batch = batch_for(device, _CPU_BATCH, MEGABYTES)
        self._dtype = torch.float64 if recipe == "inception/tf1-float64" else torch.float32
        net = net.to(device, self._dtype)
        self.layout = torch.channels_last if mode == "fast" else torch.contiguous_format
        if mode == "fast":
            net = fold(net).to(memory_format=self.layout)
        self._net: Callable[[Tensor], dict[str, Tensor]] = net

    def expect(self, count: int | None) -> None:
        """Fast mode on CUDA is compiled for COMPILED_FROM images and more; torch keeps the kernels on disk."""
        if self.mode == "fast" and self.device.type == "cuda" and not self.compiled and (count or 0) >= COMPILED_FROM:
            # the batch is always full, so that there is one shape to compile for
            self._net, self.compiled = torch.compile(self._net, dynamic=False), True

    def prepare(self, images: Tensor) -> Tensor:
        return _PREPARE[self.recipe](images)

    def forward(self, pixels: Tensor) -> dict[str, Tensor]:
        # TF32 is as far as fast goes: bfloat16 moves the features by 1 %
        with precision(self.device, self.mode), torch.autocast(self.device.type, enabled=False):
            return self._net(pixels)


def load(recipe: str, weights: Weights, device: str = "cpu", mode: Mode = "parity") -> Inception:
    """The extractor of an `inception/...` recipe. Raises `MissingWeights`, `CheckpointError`, `NoDevice`."""
    target = torch.device(device)
    if target.type == "cuda" and not torch.cuda.is_available():
        raise NoDevice(f"no device {device!r}", "torch finds no CUDA device", "set device to cpu")
    file = weights.locate("inception")
    return Inception(recipe, file, network(file), target, mode)
