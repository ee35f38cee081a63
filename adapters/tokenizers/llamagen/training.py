"""Training of the mini of LlamaGen's tokenizer."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...layers.checkpoint import seeded
from ...train.codebook import COMMITMENT, PATIENCE, DeadCodes, measure, total_loss
from ...train.digits import PICTURES, mnist_batches
from ...train.loop import Metrics, Task, TrainingRecipe
from .cards import MINI
from .network import Network

BATCH = 32


class VQTraining(nn.Module):
    """LlamaGen's tokenizer in training."""

    idle: Tensor

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network
        # all codes start as dead, so that the first step places them among the features
        self.register_buffer("idle", torch.full((network.quantize.embedding.num_embeddings,), PATIENCE))
        self.dead = DeadCodes(network.quantize)

    def loss(self, batch: tuple[Tensor, Tensor], generator: torch.Generator) -> tuple[Tensor, Metrics]:
        images = batch[0] * 2 - 1
        features = self.network.features(images)  # (B, N, C)
        ids = self.network.quantize.nearest(features.detach())
        self.dead.saw(features.flatten(0, 1), ids.flatten())
        features = F.normalize(features, dim=-1)
        codes = self.network.quantize.lookup(ids)
        matching = F.mse_loss(codes, features.detach()) + COMMITMENT * F.mse_loss(features, codes.detach())
        made = self.network.render(features + (codes - features).detach())
        return total_loss(made, images, matching)

    def after_step(self, step: int, steps: int, generator: torch.Generator) -> None:
        self.dead.restart(self.idle, step / steps, generator)

    def measure(self) -> Metrics:
        def encoded(images: Tensor) -> tuple[Tensor, Tensor]:
            ids = self.network.encode(images)
            return ids, self.network.decode(ids)

        return measure(self.network.quantize, encoded)


def prepare(seed: int, device: torch.device) -> Task:
    with seeded(seed):
        training = VQTraining(Network(MINI.config))
    training.to(device)
    return Task(
        module=training,
        loss=training.loss,
        batches=mnist_batches(BATCH, seed, device),
        weights=training.network.state_dict,
        measure=training.measure,
        after_step=training.after_step,
    )


RECIPE = TrainingRecipe(steps=1000, batch=BATCH, learning_rate=1e-3, data=PICTURES, prepare=prepare)
