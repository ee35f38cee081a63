"""Training of MAR's mini, on latents of shifted digits."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from ...layers.checkpoint import seeded
from ...layers.config import from_upstream
from ...layers.diffusion_head import HeadBlock
from ...tokenizers.mar_kl.moments import moments_by
from ...train.diffusion import diffusion_loss
from ...train.latents import LATENTS, LatentTraining, drawn, task
from ...train.loop import Task, TrainingRecipe, official_state
from ...train.tokens import BATCH, shipped_tokenizer
from .cards import MINI
from .network import TRAINING_ONLY, Config, Network, gathered, official_names

MASK_DEVIATION = 0.5
"""Of the masked share, which is at most one and likeliest one. The paper has 0.25 and a share of at least 0.7: of its
256 tokens that still shows 77, of 16 it would never show more than four."""


def masked_count(tokens: int, least: float, generator: torch.Generator) -> int:
    """How many of `tokens` are masked: a share from a normal around one, cut to `least`..1, rounded up."""
    normal = torch.distributions.Normal(1.0, MASK_DEVIATION)
    low, high = normal.cdf(torch.tensor([least, 1.0])).tolist()
    share: float = normal.icdf(low + (high - low) * torch.rand((), generator=generator)).item()
    return max(1, min(tokens, math.ceil(tokens * share)))


class MARTraining(LatentTraining):
    """MAR in training: of each latent a random part is masked, and the head learns to draw it given the rest."""

    def __init__(self, network: Network, *, least_masked: float, copies: int) -> None:
        super().__init__(network, network.config.class_num, BATCH, "diffusion_loss")
        self.least_masked = least_masked
        self.copies = copies

    def predict(self, labels: Tensor, moments: Tensor, generator: torch.Generator) -> Tensor:
        """The diffusion loss of the masked tokens: every sample masks as many, in places of its own."""
        network, device = self.network, labels.device
        assert isinstance(network, Network)
        tokens = network.patches(drawn(moments, generator))
        order = torch.rand(tokens.shape[:2], generator=generator).argsort(dim=1).to(device)
        count = masked_count(tokens.shape[1], self.least_masked, generator)
        wanted, positions = order[:, :count], order[:, count:]
        classes = network.config.class_num
        embedded = network.condition(labels.clamp_max(classes - 1), guided=False)
        condition = torch.where((labels == classes)[:, None], network.no_class, embedded)
        states = network(condition, gathered(tokens, positions), positions, wanted)  # (B, n, W)
        targets = gathered(tokens, wanted)
        return diffusion_loss(network.head, states.flatten(0, 1), targets.flatten(0, 1), generator, copies=self.copies)


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
    return task(training, encode, seed, device, lambda: official_state(network, official_names))


RECIPE = TrainingRecipe(
    steps=2400,
    batch=BATCH,
    learning_rate=1.5e-3,
    data=LATENTS,
    prepare=prepare,
    ema=0.995,
    weight_decay=0.02,
)
