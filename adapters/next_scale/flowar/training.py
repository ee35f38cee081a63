"""Training of FlowAR's mini, on latents of shifted digits."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...layers.checkpoint import seeded
from ...layers.config import from_upstream
from ...layers.flow_blocks import FlowBlock
from ...tokenizers.mar_kl.moments import moments_by
from ...train.latents import LATENTS, LatentTraining, drawn, task
from ...train.loop import Task, TrainingRecipe, official_state
from ...train.tokens import shipped_tokenizer
from .cards import MINI
from .network import BETWEEN, TRAINING_ONLY, Config, Network, official_names

BATCH = 32
COPIES = 2
"""Times of the flow at which the tokens of each scale are tried."""


class FlowTraining(LatentTraining):
    """FlowAR in training: each scale is the whole map made small, drawn by the flow given the true scales before it."""

    def __init__(self, network: Network) -> None:
        super().__init__(network, network.config.classes, BATCH, "flow_loss")

    def predict(self, labels: Tensor, moments: Tensor, generator: torch.Generator) -> Tensor:
        """The mean squared error of the velocity: each token counts as much as any other, whatever its scale."""
        network, device = self.network, labels.device
        assert isinstance(network, Network)
        latents = drawn(moments, generator)
        sides = network.config.scale
        maps = [F.interpolate(latents, size=(side, side), mode="area") for side in sides]
        condition = network.class_table(labels)
        fed = [
            network.fed(before, side, between=(BETWEEN, BETWEEN))
            for before, side in zip(maps[:-1], sides[1:], strict=True)
        ]
        states = network.together(torch.cat((condition.unsqueeze(1), *fed), dim=1), network.modulate(condition))
        errors = []
        for each, state in zip(maps, states.split([side * side for side in sides], dim=1), strict=True):
            clean, state = (x.repeat(COPIES, 1, 1) for x in (each.flatten(2).mT, state))
            times = torch.rand(len(clean), generator=generator).to(device)
            noise = torch.randn(clean.shape, generator=generator).to(device)
            mixed = torch.lerp(clean, noise, times[:, None, None])
            velocity = network.flow(mixed, (times * 1000).long(), state)
            errors.append((velocity - (noise - clean)).square().mean(dim=(0, 2)))
        return torch.cat(errors).mean()


def initialise(network: Network) -> None:
    """Xavier weights; a flow that starts at zero and blocks that start as the identity."""
    for module in network.modules():
        if isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    nn.init.normal_(network.class_table.weight, std=0.02)
    flow = network.flow
    for layer in (flow.time.time_in, flow.time.time_out):
        nn.init.normal_(layer.weight, std=0.02)
    for layer in (flow.modulation, flow.out):
        nn.init.zeros_(layer.weight)
    for block in (*network.encoder, *network.decoder, *flow.blocks):
        assert isinstance(block, FlowBlock)
        nn.init.zeros_(block.modulation.weight)


def prepare(seed: int, device: torch.device) -> Task:
    with seeded(seed):
        network = Network(from_upstream(Config, MINI.config, TRAINING_ONLY))
        initialise(network)
    training = FlowTraining(network).to(device)
    encode = moments_by(shipped_tokenizer(MINI.tokenizer))
    return task(training, encode, seed, device, lambda: official_state(network, official_names))


RECIPE = TrainingRecipe(
    steps=2000,
    batch=BATCH,
    learning_rate=2e-3,
    data=LATENTS,
    prepare=prepare,
    ema=0.995,
    weight_decay=0.02,
)
