"""Training of LlamaGen's mini."""

from __future__ import annotations

import torch

from ...layers.checkpoint import seeded
from ...layers.config import from_upstream
from ...layers.llama import initialise
from ...train.loop import Task, TrainingRecipe
from ...train.tokens import BATCH, CODES, Training, shipped_tokenizer, task_of
from .cards import MINI
from .network import TRAINING_ONLY, Config, Network, official_names


def prepare(seed: int, device: torch.device) -> Task:
    config = from_upstream(Config, MINI.config, TRAINING_ONLY)
    with seeded(seed):
        network = Network(config)
        initialise(network)
    network.place(device, torch.float32)
    training = Training(network, network.score, config.num_classes)
    return task_of(training, official_names, shipped_tokenizer(MINI.tokenizer), seed, device)


RECIPE = TrainingRecipe(
    steps=2500, batch=BATCH, learning_rate=2e-3, data=CODES, prepare=prepare, ema=0.995, weight_decay=0.05
)
