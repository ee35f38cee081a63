"""Training of the mini of LlamaGen's tokenizer."""

from __future__ import annotations

import torch

from ...layers.checkpoint import seeded
from ...train.codebook import VQTraining
from ...train.digits import PICTURES, mnist_batches
from ...train.loop import Task, TrainingRecipe
from .cards import MINI
from .network import Network

BATCH = 32


def training_of(network: Network) -> VQTraining:
    return VQTraining(network, network.quantize, network.features, network.render)


def prepare(seed: int, device: torch.device) -> Task:
    with seeded(seed):
        network = Network(MINI.config)
    training = training_of(network).to(device)
    return Task(
        module=training,
        loss=training.loss,
        batches=mnist_batches(BATCH, seed, device),
        weights=network.state_dict,
        measure=training.measure,
        after_step=training.after_step,
    )


RECIPE = TrainingRecipe(steps=1000, batch=BATCH, learning_rate=1e-3, data=PICTURES, prepare=prepare)
