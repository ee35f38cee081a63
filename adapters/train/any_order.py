"""Training on token sequences that are each in an order of their own, for RAR and RandAR."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor, nn

from ..layers.checkpoint import OfficialNames
from .loop import Task
from .tokens import Score, Training, shipped_tokenizer, task_of

BATCH = 16


class AnyOrder(Training):
    """A network in training on sequences each in an order of its own, a `share` (of the progress) of them random."""

    progress: Tensor

    def __init__(self, network: nn.Module, score: Score, classes: int, share: Callable[[float], float]) -> None:
        super().__init__(network, score, classes)
        self._share = share
        # of the training so far; saved with the weights, so that a resumed run anneals on
        self.register_buffer("progress", torch.zeros((), dtype=torch.float64))

    def predict(self, labels: Tensor, tokens: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        order = self.orders(*tokens.shape, generator).to(tokens.device)
        return self.score(labels, tokens, order), tokens.gather(1, order)

    def orders(self, count: int, length: int, generator: torch.Generator) -> Tensor:
        """(count, length) int64: the raster positions in the order in which each sequence draws them."""
        shuffled = torch.rand(count, length, generator=generator).argsort(dim=1)
        random = torch.rand(count, 1, generator=generator) < self._share(self.progress.item())
        return torch.where(random, shuffled, torch.arange(length))

    def after_step(self, step: int, steps: int, generator: torch.Generator) -> None:
        self.progress.fill_((step + 1) / steps)


def any_order_task(
    training: AnyOrder, names: OfficialNames, tokenizer: str | None, seed: int, device: torch.device
) -> Task:
    """The task of a network that is to learn the ids of digits by the shipped tokenizer of this name."""
    training.to(device)
    task = task_of(training, names, shipped_tokenizer(tokenizer), seed, device, batch=BATCH)
    return replace(task, after_step=training.after_step)
