"""LPIPS (Zhang et al., 2018) and DISTS (Ding et al., 2020): distances between the features of two images."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from ...errors import CheckpointError, MissingWeights, UnknownName
from ...features.weight_files import Weights, sha256
from .backbones import NEEDS, Backbone

Floats = NDArray[np.float64]
PAIRS = 4
"""Pairs per forward pass, the last ones filled up with blank pairs: a value depends on its own pair alone."""
DISTS_CHANNELS = [3, 64, 128, 256, 512, 512]
DISTS_EPSILON = 1e-6


@dataclass(frozen=True, slots=True)
class Published:
    """Trained parameters that come with the torchmetrics package."""

    file: str
    sha256: str


PUBLISHED = {
    "alex": Published("lpips_models/alex.pth", "df73285e35b22355a2df87cdb6b70b343713b667eddbda73e1977e0c860835c0"),
    "vgg": Published("lpips_models/vgg.pth", "a78928a0af1e5f0fcb1f3b9e8f8c3a2a5a3de244d830ad5c1feddc79b8432868"),
    "dists": Published("dists_models/weights.pt", "f5e65c96230b7f6ca995691647d482237e4cab8a50c5c4a5784f219ef0748218"),
}
CUTS: dict[Backbone, tuple[int, ...]] = {"alexnet": (2, 5, 8, 10, 12), "vgg16": (4, 9, 16, 23, 30)}
"""Ends of the five stages among torchvision's `features`; each ends in a ReLU."""


class Network:
    """One network that measures one or more distances from one forward pass."""

    names: tuple[str, ...]
    device: torch.device

    def distances(self, x: Tensor, y: Tensor) -> dict[str, Tensor]:
        """(n,) per name from float32 images (n, 3, H, W) with values 0..255 on the network's device."""
        raise TypeError("a network defines `distances`")  # pragma: no cover

    def measure(self, images: Tensor, originals: Tensor) -> dict[str, Floats]:
        """(N,) per name from uint8 images (N, 3, H, W) on any device."""
        parts: dict[str, list[Tensor]] = {name: [] for name in self.names}
        for start in range(0, len(images), PAIRS):
            x, y = (_filled(side[start : start + PAIRS]).to(self.device).float() for side in (images, originals))
            with torch.inference_mode(), _exact():
                for name, values in self.distances(x, y).items():
                    parts[name].append(values[: len(images) - start].double().cpu())
        return {name: torch.cat(values).numpy() if values else np.zeros(0) for name, values in parts.items()}


class Lpips(Network):
    """Weighted squared differences of channel-normalised features, averaged over pixels, summed over five layers.

    Two variants that differ in the normalisation: that of the `lpips` package, x / (|x| + 1e-10), and that of
    torchmetrics, x / sqrt(|x|^2 + 1e-8).
    """

    def __init__(self, name: str, backbone: Backbone, features: nn.Sequential, heads: Sequence[Tensor]) -> None:
        self.names = (name, f"{name}-torchmetrics")
        self.features, self.cuts, self.heads = features, CUTS[backbone], heads  # heads: five of (C,)
        self.device = device = heads[0].device
        # on [-1, 1], the ImageNet mean and standard deviation up to rounding
        self.shift = torch.tensor([-0.030, -0.088, -0.188], device=device)[:, None, None]
        self.scale = torch.tensor([0.458, 0.448, 0.450], device=device)[:, None, None]

    def distances(self, x: Tensor, y: Tensor) -> dict[str, Tensor]:
        h = torch.cat((x, y)) / 127.5 - 1  # (2n, 3, H, W)
        h = (h - self.shift) / self.scale
        totals = dict.fromkeys(self.names, torch.zeros(len(x), device=x.device))
        for start, stop, head in zip((0, *self.cuts), self.cuts, self.heads, strict=False):
            h = self.features[start:stop](h)
            squares = h.square().sum(1, keepdim=True)  # (2n, 1, H', W')
            for name, norm in zip(self.names, (squares.sqrt() + 1e-10, (squares + 1e-8).sqrt()), strict=True):
                a, b = (h / norm).chunk(2)
                totals[name] = totals[name] + torch.einsum("nchw,c->nhw", (a - b).square(), head).mean((1, 2))
        return totals


class Dists(Network):
    """1 - a weighted sum, over the channels of six layers, of the likeness of means and of structure.

    VGG16 whose max pooling is replaced by L2 pooling with a Hanning window; the image itself is the first layer.
    """

    def __init__(self, name: str, features: nn.Sequential, alpha: Tensor, beta: Tensor) -> None:
        self.names = (name,)
        self.features = features
        total = alpha.sum() + beta.sum()
        self.alpha: tuple[Tensor, ...] = torch.split(alpha.flatten() / total, DISTS_CHANNELS)
        self.beta: tuple[Tensor, ...] = torch.split(beta.flatten() / total, DISTS_CHANNELS)
        self.device = device = alpha.device
        self.mean = torch.tensor([0.485, 0.456, 0.406], device=device)[:, None, None]
        self.std = torch.tensor([0.229, 0.224, 0.225], device=device)[:, None, None]
        window = torch.tensor([0.25, 0.5, 0.25], device=device)  # a Hanning window of 5 without its zero ends
        self.window = torch.outer(window, window)

    def distances(self, x: Tensor, y: Tensor) -> dict[str, Tensor]:
        h = torch.cat((x, y)) / 255  # (2n, 3, H, W)
        likeness = self._likeness(h, 0)
        h = (h - self.mean) / self.std
        for layer, (start, stop) in enumerate(zip((0, *CUTS["vgg16"]), CUTS["vgg16"], strict=False), start=1):
            if start:
                h = self._pool(h)
                start += 1  # in place of the max pooling
            h = self.features[start:stop](h)
            likeness = likeness + self._likeness(h, layer)
        return {self.names[0]: 1 - likeness}

    def _pool(self, h: Tensor) -> Tensor:
        channels = h.shape[1]
        weights = self.window.expand(channels, 1, 3, 3)
        return (F.conv2d(h.square(), weights, stride=2, padding=1, groups=channels) + 1e-12).sqrt()

    def _likeness(self, h: Tensor, layer: int) -> Tensor:
        """(n,) this layer's share of the sum."""
        a, b = h.flatten(2).chunk(2)  # (n, C, H' W') each
        mean_a, mean_b = a.mean(2), b.mean(2)
        variances = (a - mean_a[..., None]).square().mean(2) + (b - mean_b[..., None]).square().mean(2)
        covariance = (a * b).mean(2) - mean_a * mean_b
        means = (2 * mean_a * mean_b + DISTS_EPSILON) / (mean_a.square() + mean_b.square() + DISTS_EPSILON)
        structure = (2 * covariance + DISTS_EPSILON) / (variances + DISTS_EPSILON)
        return torch.mv(means, self.alpha[layer]) + torch.mv(structure, self.beta[layer])


def load(names: Iterable[str], weights: Weights, device: str = "cpu") -> dict[str, Network]:
    """The network of each distance named in `NEEDS`; distances that share a network get the same object.

    Raises `MissingWeights` if a backbone or the torchmetrics package is nowhere, `CheckpointError` for another file.
    """
    networks: dict[str, Network] = {}
    for name in names:
        if name not in NEEDS:
            raise UnknownName("perceptual distance", name, NEEDS, "arbench ls metrics")
        if name not in networks:
            network = _load(name.removesuffix("-torchmetrics"), weights, device)
            networks.update(dict.fromkeys(network.names, network))
    return networks


def _load(name: str, weights: Weights, device: str) -> Network:
    file = weights.locate(NEEDS[name])
    features = backbone(NEEDS[name], _state(file.path), str(file.path)).to(device)
    if name == "dists":
        parameters = published("dists")
        return Dists(name, features, parameters["alpha"].to(device), parameters["beta"].to(device))
    parameters = published(name.removeprefix("lpips-"))
    heads = [parameters[f"lin{layer}.model.1.weight"].flatten().to(device) for layer in range(5)]
    return Lpips(name, NEEDS[name], features, heads)


def backbone(name: Backbone, state: Mapping[str, Tensor], where: str) -> nn.Sequential:
    """The convolutional part of torchvision's AlexNet or VGG16 with the weights of a whole torchvision state dict."""
    import torchvision

    with torch.device("meta"):  # no memory and no random numbers for weights that are replaced at once
        network: nn.Sequential = getattr(torchvision.models, name)(weights=None).features[: CUTS[name][-1]]
    own = {key.removeprefix("features."): value for key, value in state.items() if key.startswith("features.")}
    shapes = {key: tuple(value.shape) for key, value in network.state_dict().items()}
    found = {key: tuple(value.shape) for key, value in own.items()}
    wrong = sorted(key for key in shapes.keys() | found.keys() if shapes.get(key) != found.get(key))
    if wrong:
        raise CheckpointError(
            f"{where} does not hold the weights of torchvision's {name}",
            f"missing, unexpected or of another shape: {', '.join(wrong[:4])}",
            f"arbench weights fetch {name}",
        )
    network.load_state_dict({key: value.float() for key, value in own.items()}, assign=True)
    return network.eval().requires_grad_(False)


def published(name: str) -> dict[str, Tensor]:
    """The trained linear heads of LPIPS ("alex", "vgg") or alpha and beta of DISTS ("dists"), their digest checked."""
    file = PUBLISHED[name]
    found = importlib.util.find_spec("torchmetrics")
    if found is None or found.origin is None:
        raise MissingWeights(
            "LPIPS and DISTS take their trained parameters from the package torchmetrics",
            "it is not installed",
            "pip install torchmetrics",
        )
    path = Path(found.origin).parent / "functional" / "image" / file.file
    if not path.is_file() or sha256(path) != file.sha256:
        raise CheckpointError(
            f"{path} is not the published file",
            f"its sha256 should begin with {file.sha256[:12]}",
            "pip install --force-reinstall torchmetrics",
        )
    return _state(path)


def _state(path: Path) -> dict[str, Tensor]:
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        state: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever a damaged file makes the readers raise
        raise CheckpointError(f"{path} cannot be read", repr(error)[:200]) from error
    return state


def _filled(images: Tensor) -> Tensor:
    """(PAIRS, 3, H, W)."""
    blank = images.new_zeros(PAIRS - len(images), *images.shape[1:])
    return torch.cat((images, blank)) if len(blank) else images.contiguous()


def _exact() -> AbstractContextManager[None]:
    """float32 convolutions without TF32 and without a search that may pick another algorithm next time."""
    context: AbstractContextManager[None] = torch.backends.cudnn.flags(
        enabled=True, benchmark=False, deterministic=True, allow_tf32=False
    )
    return context
