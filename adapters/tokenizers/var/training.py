"""Training of the mini of VAR's tokenizer."""

from __future__ import annotations

import torch

from ...layers.checkpoint import seeded
from ...train.digits import PICTURES, mnist_batches
from ...train.loop import Task, TrainingRecipe
from ...train.multiscale import MultiScaleTraining, measure_codes
from .cards import MINI
from .network import Network

BATCH = 32


def prepare(seed: int, device: torch.device) -> Task:
    with seeded(seed):
        training = MultiScaleTraining(Network(MINI.config))
    training.to(device)
    return Task(
        module=training,
        loss=training.loss,
        batches=mnist_batches(BATCH, seed, device),
        weights=training.network.state_dict,
        measure=lambda: measure_codes(training.network),
        after_step=training.after_step,
    )


RECIPE = TrainingRecipe(steps=1200, batch=BATCH, learning_rate=1e-3, data=PICTURES, prepare=prepare)
