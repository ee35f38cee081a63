"""The generator: noise through three random convolutions, brighter from class to class."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from arbench.adapters.layers.sampling import check_supported
from arbench.protocols import NO_PROBE, Card, Generated, Request, Sampling

WIDTH = 16


def kernels(shapes: list[tuple[int, int]], seed: int) -> list[Tensor]:
    """3 x 3 kernels (out, in, 3, 3) of unit gain."""
    draw = torch.Generator().manual_seed(seed)
    return [torch.randn(out, into, 3, 3, generator=draw) / (9 * into) ** 0.5 for into, out in shapes]


class Toy:
    tokenizer = None

    def __init__(self, card: Card) -> None:
        self.card = card
        self.kernels = kernels([(3, WIDTH), (WIDTH, WIDTH), (WIDTH, 3)], seed=0)

    @classmethod
    def load(cls, card: Card, spec: Any, tokenizer: Any) -> Toy:
        return cls(card)

    def prepare(self, batch: int, sampling: Sampling) -> None: ...

    def sample(self, request: Request, sampling: Sampling, *, probe: Any = NO_PROBE) -> Generated:
        check_supported(self.card, sampling)
        side = self.card.resolution
        with probe("ar", tokens=1):
            pixels = request.noise.uniform("noise", 3 * side * side).float().reshape(-1, 3, side, side) - 0.5
            for kernel in self.kernels:
                pixels = torch.tanh(F.conv2d(pixels, kernel, padding=1))
            assert request.labels is not None
            images = 0.5 + 0.4 * pixels + (request.labels.float() / 90)[:, None, None, None]
        return Generated(images=images.clamp(0, 1), outer_steps=1, forwards=1)

    def close(self) -> None: ...
