"""Training of RandAR's mini: on random orders only."""

from __future__ import annotations

import torch

from ...layers.checkpoint import seeded
from ...layers.config import from_upstream
from ...layers.llama import initialise
from ...train.any_order import BATCH, AnyOrder, any_order_task
from ...train.loop import Task, TrainingRecipe
from ...train.tokens import CODES
from .cards import MINI
from .network import TRAINING_ONLY, Config, Network, official_names


def always(progress: float) -> float:
    return 1.0


def prepare(seed: int, device: torch.device) -> Task:
    config = from_upstream(Config, MINI.config, TRAINING_ONLY)
    with seeded(seed):
        network = Network(config)
        initialise(network)
    network.place(device, torch.float32)
    training = AnyOrder(network, network.score_in_order, config.num_classes, always)
    return any_order_task(training, official_names, MINI.tokenizer, seed, device)


RECIPE = TrainingRecipe(
    steps=2500, batch=BATCH, learning_rate=2e-3, data=CODES, prepare=prepare, ema=0.995, weight_decay=0.05
)
