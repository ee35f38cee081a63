"""Training of FlowAR's mini, on latents of shifted digits."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...continuous.mar.training import VIEWS, moments_by
from ...layers.checkpoint import seeded
from ...layers.config import from_upstream
from ...layers.flow_blocks import FlowBlock
from ...train.loop import Metrics, Task, TrainingRecipe, official_state, step_generator
from ...train.tokens import drop_classes, epochs, heldout_set, shipped_tokenizer, training_set
from .cards import MINI
from .network import BETWEEN, TRAINING_ONLY, Config, Network, official_names

BATCH = 32
COPIES = 2
"""Times of the flow at which the tokens of each scale are tried."""


class FlowTraining(nn.Module):
    """FlowAR in training: each scale is the whole map made small, drawn by the flow given the true scales before it."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def predict(self, labels: Tensor, moments: Tensor, generator: torch.Generator) -> Tensor:
        """The mean squared error of the velocity. `labels` (B,) where the number of classes stands for none.

        `moments` (B, 2, C, h, w) are scaled; each token counts as much as any other, whatever its scale.
        """
        network, device = self.network, labels.device
        mean, deviation = moments.unbind(1)
        latents = mean + deviation * torch.randn(mean.shape, generator=generator).to(device)
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

    def loss(self, batch: tuple[Tensor, Tensor], generator: torch.Generator) -> tuple[Tensor, Metrics]:
        moments, labels = batch
        return self.predict(drop_classes(labels, self.network.config.classes, generator), moments, generator), {}

    @torch.no_grad()
    def measure(self, moments: Tensor, labels: Tensor) -> Metrics:
        """The squared error of the velocity on held-out digits, with and without their class, under the same noise."""
        given: list[Tensor] = []
        free: list[Tensor] = []
        parts = zip(torch.split(moments, BATCH), torch.split(labels, BATCH), strict=True)
        for index, (part, label) in enumerate(parts):
            without = torch.full_like(label, self.network.config.classes)
            for losses, condition in ((given, label), (free, without)):
                losses.append(self.predict(condition, part, step_generator(0, index)))
        return {
            "heldout_flow_loss": torch.stack(given).mean().item(),
            "heldout_flow_loss_without_class": torch.stack(free).mean().item(),
        }


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
    moments, labels = (each.to(device) for each in training_set(encode, seed, VIEWS))
    heldout, heldout_labels = (each.to(device) for each in heldout_set(encode))
    return Task(
        module=training,
        loss=training.loss,
        batches=epochs(moments, labels, seed, BATCH),
        weights=lambda: official_state(network, official_names),
        measure=lambda: training.measure(heldout, heldout_labels),
    )


RECIPE = TrainingRecipe(
    steps=2000,
    batch=BATCH,
    learning_rate=2e-3,
    data=f"latents of the MNIST-5k training split (4000 digits, {VIEWS} copies each, shifted by up to 2 pixels)",
    prepare=prepare,
    ema=0.995,
    weight_decay=0.02,
)
