"""Training on continuous latents of shifted digits, given their classes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from .loop import Metrics, Task, step_generator
from .tokens import Encode, drop_classes, epochs, heldout_set, training_set

VIEWS = 4
"""Randomly shifted copies of each digit whose latents are learned."""
LATENTS = f"latents of the MNIST-5k training split (4000 digits, {VIEWS} copies each, shifted by up to 2 pixels)"


class LatentTraining(nn.Module, ABC):
    """A network in training on latents of `classes` classes; `told` is the name of its loss."""

    def __init__(self, network: nn.Module, classes: int, batch: int, told: str) -> None:
        super().__init__()
        self.network = network
        self.classes, self.batch, self.told = classes, batch, told

    @abstractmethod
    def predict(self, labels: Tensor, moments: Tensor, generator: torch.Generator) -> Tensor:
        """The loss. `labels` (B,) where the number of classes stands for none; `moments` (B, 2, C, h, w), means and
        standard deviations, are scaled."""

    def loss(self, batch: tuple[Tensor, Tensor], generator: torch.Generator) -> tuple[Tensor, Metrics]:
        moments, labels = batch
        return self.predict(drop_classes(labels, self.classes, generator), moments, generator), {}

    @torch.no_grad()
    def measure(self, moments: Tensor, labels: Tensor) -> Metrics:
        """The loss on held-out digits, with and without their class, under the same noise."""
        given: list[Tensor] = []
        free: list[Tensor] = []
        parts = zip(torch.split(moments, self.batch), torch.split(labels, self.batch), strict=True)
        for index, (part, label) in enumerate(parts):
            for losses, condition in ((given, label), (free, torch.full_like(label, self.classes))):
                losses.append(self.predict(condition, part, step_generator(0, index)))
        return {
            f"heldout_{self.told}": torch.stack(given).mean().item(),
            f"heldout_{self.told}_without_class": torch.stack(free).mean().item(),
        }


def drawn(moments: Tensor, generator: torch.Generator) -> Tensor:
    """(B, C, h, w) latents of posteriors (B, 2, C, h, w)."""
    mean, deviation = moments.unbind(1)
    return mean + deviation * torch.randn(mean.shape, generator=generator).to(moments.device)


def task(
    training: LatentTraining,
    encode: Encode,
    seed: int,
    device: torch.device,
    weights: Callable[[], Mapping[str, Tensor]],
) -> Task:
    """`encode` makes moments of images."""
    moments, labels = (each.to(device) for each in training_set(encode, seed, VIEWS))
    heldout, heldout_labels = (each.to(device) for each in heldout_set(encode))
    return Task(
        module=training,
        loss=training.loss,
        batches=epochs(moments, labels, seed, training.batch),
        weights=weights,
        measure=lambda: training.measure(heldout, heldout_labels),
    )
