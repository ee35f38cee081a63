"""Training of RAR's mini: on random orders that give way to raster order."""

from __future__ import annotations

import torch
from torch import nn

from ...layers.checkpoint import seeded
from ...layers.config import from_upstream
from ...train.any_order import BATCH, AnyOrder, any_order_task
from ...train.loop import Task, TrainingRecipe
from ...train.tokens import CODES
from .cards import MINI
from .network import TRAINING_ONLY, Config, Network, official_names

ANNEAL = (0.5, 0.75)
"""Fractions of RAR's training between which the share of random orders falls from all to none (arXiv:2411.00776)."""


def random_share(progress: float) -> float:
    """The share of sequences in a random order at `progress` in [0, 1] of RAR's training; the others are in raster."""
    start, end = ANNEAL
    return min(1.0, max(0.0, (end - progress) / (end - start)))


def prepare(seed: int, device: torch.device) -> Task:
    config = from_upstream(Config, MINI.config, TRAINING_ONLY)
    with seeded(seed):
        network = Network(config)
        initialise(network)
    training = AnyOrder(network, network.score, config.condition_num_classes, random_share)
    return any_order_task(training, official_names, MINI.tokenizer, seed, device)


def initialise(network: Network) -> None:
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


RECIPE = TrainingRecipe(
    steps=2500, batch=BATCH, learning_rate=2e-3, data=CODES, prepare=prepare, ema=0.995, weight_decay=0.05
)
