"""Training of MAR's mini, on latents of shifted digits."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from ...layers.checkpoint import seeded
from ...layers.config import from_upstream
from ...layers.diffusion_head import HeadBlock
from ...tokenizers.mar_kl.adapter import MARKL
from ...train.diffusion import diffusion_loss
from ...train.loop import Metrics, Task, TrainingRecipe, official_state, step_generator
from ...train.tokens import BATCH, Encode, drop_classes, epochs, heldout_set, shipped_tokenizer, training_set
from .cards import MINI
from .network import TRAINING_ONLY, Config, Network, gathered, official_names

VIEWS = 4
"""Randomly shifted copies of each digit whose latents are learned."""
MASK_DEVIATION = 0.5
"""Of the masked share, which is at most one and likeliest one. The paper has 0.25 and a share of at least 0.7: of its
256 tokens that still shows 77, of 16 it would never show more than four."""


def moments_by(tokenizer: MARKL) -> Encode:
    """Images to (B, 2, C, h, w): means and standard deviations of the posterior, scaled as MAR has them."""

    @torch.no_grad()
    def encode(images: Tensor) -> Tensor:
        return torch.stack(tokenizer.network.moments(images * 2 - 1), dim=1) * tokenizer.latent_scale

    return encode


def masked_count(tokens: int, least: float, generator: torch.Generator) -> int:
    """How many of `tokens` are masked: a share from a normal around one, cut to `least`..1, rounded up."""
    normal = torch.distributions.Normal(1.0, MASK_DEVIATION)
    low, high = normal.cdf(torch.tensor([least, 1.0])).tolist()
    share: float = normal.icdf(low + (high - low) * torch.rand((), generator=generator)).item()
    return max(1, min(tokens, math.ceil(tokens * share)))


class MARTraining(nn.Module):
    """MAR in training: of each latent a random part is masked, and the head learns to draw it given the rest."""

    def __init__(self, network: Network, *, least_masked: float, copies: int) -> None:
        super().__init__()
        self.network = network
        self.least_masked = least_masked
        self.copies = copies

    def predict(self, labels: Tensor, moments: Tensor, generator: torch.Generator) -> Tensor:
        """The diffusion loss of the masked tokens. `labels` (B,) where the number of classes stands for none.

        `moments` (B, 2, C, h, w) are scaled; every sample masks as many tokens, in places of its own.
        """
        network, device = self.network, labels.device
        mean, deviation = moments.unbind(1)
        tokens = network.patches(mean + deviation * torch.randn(mean.shape, generator=generator).to(device))
        order = torch.rand(tokens.shape[:2], generator=generator).argsort(dim=1).to(device)
        count = masked_count(tokens.shape[1], self.least_masked, generator)
        wanted, positions = order[:, :count], order[:, count:]
        classes = network.config.class_num
        embedded = network.condition(labels.clamp_max(classes - 1), guided=False)
        condition = torch.where((labels == classes)[:, None], network.no_class, embedded)
        states = network(condition, gathered(tokens, positions), positions, wanted)  # (B, n, W)
        targets = gathered(tokens, wanted)
        return diffusion_loss(network.head, states.flatten(0, 1), targets.flatten(0, 1), generator, copies=self.copies)

    def loss(self, batch: tuple[Tensor, Tensor], generator: torch.Generator) -> tuple[Tensor, Metrics]:
        moments, labels = batch
        return self.predict(drop_classes(labels, self.network.config.class_num, generator), moments, generator), {}

    @torch.no_grad()
    def measure(self, moments: Tensor, labels: Tensor) -> Metrics:
        """The diffusion loss on held-out digits, with and without their class, under the same noise."""
        given: list[Tensor] = []
        free: list[Tensor] = []
        parts = zip(torch.split(moments, BATCH), torch.split(labels, BATCH), strict=True)
        for index, (part, label) in enumerate(parts):
            without = torch.full_like(label, self.network.config.class_num)
            for losses, condition in ((given, label), (free, without)):
                losses.append(self.predict(condition, part, step_generator(0, index)))
        return {
            "heldout_diffusion_loss": torch.stack(given).mean().item(),
            "heldout_diffusion_loss_without_class": torch.stack(free).mean().item(),
        }


def initialise(network: Network) -> None:
    """Xavier weights; a head that starts at zero and blocks of it that start as the identity."""
    for module in network.modules():
        if isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            nn.init.zeros_(module.bias)
    nn.init.normal_(network.class_table.weight, std=0.02)
    head = network.head
    for layer in (head.time_in, head.time_out):
        nn.init.normal_(layer.weight, std=0.02)
    nn.init.zeros_(head.modulation.weight)
    nn.init.zeros_(head.out.weight)
    for block in head.blocks:
        assert isinstance(block, HeadBlock)
        nn.init.zeros_(block.modulation.weight)


def prepare(seed: int, device: torch.device) -> Task:
    with seeded(seed):
        network = Network(from_upstream(Config, MINI.config, TRAINING_ONLY))
        initialise(network)
    training = MARTraining(
        network, least_masked=MINI.config["mask_ratio_min"], copies=MINI.config["diffusion_batch_mul"]
    ).to(device)
    encode = moments_by(shipped_tokenizer(MINI.tokenizer))
    moments, labels = (each.to(device) for each in training_set(encode, seed, VIEWS))
    heldout, heldout_labels = (each.to(device) for each in heldout_set(encode))
    return Task(
        module=training,
        loss=training.loss,
        batches=epochs(moments, labels, seed),
        weights=lambda: official_state(network, official_names),
        measure=lambda: training.measure(heldout, heldout_labels),
    )


RECIPE = TrainingRecipe(
    steps=2400,
    batch=BATCH,
    learning_rate=1.5e-3,
    data=f"latents of the MNIST-5k training split (4000 digits, {VIEWS} copies each, shifted by up to 2 pixels)",
    prepare=prepare,
    ema=0.995,
    weight_decay=0.02,
)
