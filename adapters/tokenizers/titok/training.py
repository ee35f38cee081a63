"""Training of the mini of TiTok's tokenizer: in one stage, on pixels."""

from __future__ import annotations

import torch
from torch import Tensor

from ...layers.checkpoint import seeded
from ...layers.titok import Network, official_names
from ...train.codebook import VQTraining
from ...train.digits import PICTURES, mnist_batches
from ...train.loop import Task, TrainingRecipe, official_state
from .cards import MINI

BATCH = 32
CODES_ALONE = 0.5
"""Share of the training after which all is decoded from codes. Before it ever fewer images are decoded from features:
from codes alone the transformers learn nothing but the mean digit for long."""


class TiTokTraining(VQTraining):
    """TiTok's tokenizer in training. The network has pixels in [0, 1] and codes (B, C, 1, K)."""

    progress: Tensor

    def __init__(self, network: Network) -> None:
        def features(images: Tensor) -> Tensor:
            return network.features((images + 1) / 2)

        def render(codes: Tensor) -> Tensor:
            return network.render(codes.mT.unsqueeze(2)) * 2 - 1

        super().__init__(network, network.quantize, features, render)
        # of the training so far; saved with the weights, so that a resumed run continues as it was
        self.register_buffer("progress", torch.zeros((), dtype=torch.float64))

    def decoded(self, features: Tensor, codes: Tensor) -> Tensor:
        count = round(len(features) * max(0.0, 1 - self.progress.item() / CODES_ALONE))
        return torch.cat((features[:count], super().decoded(features[count:], codes[count:])))

    def after_step(self, step: int, steps: int, generator: torch.Generator) -> None:
        super().after_step(step, steps, generator)
        self.progress.fill_((step + 1) / steps)


def prepare(seed: int, device: torch.device) -> Task:
    with seeded(seed):
        network = Network(MINI.config)
    training = TiTokTraining(network).to(device)
    return Task(
        module=training,
        loss=training.loss,
        batches=mnist_batches(BATCH, seed, device),
        weights=lambda: official_state(network, official_names),
        measure=training.measure,
        after_step=training.after_step,
    )


RECIPE = TrainingRecipe(steps=2500, batch=BATCH, learning_rate=3e-3, data=PICTURES, prepare=prepare)
