"""Training of the minis of any order: RAR on random orders that give way to raster, RandAR on random ones only."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor, nn

from arbench.protocols import Card

from ..layers.checkpoint import OfficialNames, seeded
from ..layers.config import from_upstream
from ..random_order import rar
from ..random_order.randar_cards import RANDAR_MINI
from ..random_order.randar_network import TRAINING_ONLY as RANDAR_TRAINING_ONLY
from ..random_order.randar_network import RandARConfig, RandARNetwork
from ..random_order.randar_network import official_names as randar_names
from ..random_order.rar_cards import RAR_MINI
from ..tokenizers.llamagen_vq import LlamaGenVQ
from .generators import DATA, Score, Training, initialise_llama, task_of, tokenizer_of
from .loop import Recipe, Task

ANNEAL = (0.5, 0.75)
"""Fractions of RAR's training between which the share of random orders falls from all to none (arXiv:2411.00776)."""
BATCH = 16


def random_share(progress: float) -> float:
    """The share of sequences in a random order at `progress` in [0, 1] of RAR's training; the others are in raster."""
    start, end = ANNEAL
    return min(1.0, max(0.0, (end - progress) / (end - start)))


def always(progress: float) -> float:
    return 1.0


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


def _rar_mini(seed: int, device: torch.device) -> Task:
    config = from_upstream(rar.Config, RAR_MINI.config, rar.TRAINING_ONLY)
    with seeded(seed):
        network = rar.Network(config)
        _initialise_rar(network)
    training = AnyOrder(network, network.score, config.condition_num_classes, random_share)
    return _task(training, rar.official_names, RAR_MINI, seed, device)


def _initialise_rar(network: rar.Network) -> None:
    """Small weights, a silent head, residual branches that are half open."""
    width = network.config.hidden_size
    for name, parameter in network.named_parameters():
        if parameter.ndim > 1:
            nn.init.trunc_normal_(parameter, std=0.02)
        elif name.endswith("bias"):
            nn.init.zeros_(parameter)
    nn.init.zeros_(network.head.weight)
    with torch.no_grad():
        for block in network.blocks:
            for gate in (2, 5):
                block.modulation.bias[gate * width : (gate + 1) * width].fill_(0.5)


def _randar_mini(seed: int, device: torch.device) -> Task:
    config = from_upstream(RandARConfig, RANDAR_MINI.config, RANDAR_TRAINING_ONLY)
    with seeded(seed):
        network = RandARNetwork(config)
        initialise_llama(network)
    network.place(device, torch.float32)
    training = AnyOrder(network, network.score_in_order, config.num_classes, always)
    return _task(training, randar_names, RANDAR_MINI, seed, device)


def _task(training: AnyOrder, names: OfficialNames, card: Card, seed: int, device: torch.device) -> Task:
    training.to(device)
    tokenizer = LlamaGenVQ.load(*tokenizer_of(card))
    task = task_of(training, names, tokenizer, seed, device, batch=BATCH)
    return replace(task, after_step=training.after_step)


RECIPES: tuple[Recipe, ...] = (
    Recipe(
        name=RAR_MINI.name,
        file="rar-mini.safetensors",
        steps=2500,
        batch=BATCH,
        learning_rate=2e-3,
        data=DATA,
        prepare=_rar_mini,
        ema=0.995,
        weight_decay=0.05,
    ),
    Recipe(
        name=RANDAR_MINI.name,
        file="randar-mini.safetensors",
        steps=2500,
        batch=BATCH,
        learning_rate=2e-3,
        data=DATA,
        prepare=_randar_mini,
        ema=0.995,
        weight_decay=0.05,
    ),
)
