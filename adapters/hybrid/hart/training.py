"""Training of HART's mini, on feature maps of shifted digits: codes by cross-entropy, the residual by diffusion."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...layers.checkpoint import seeded
from ...layers.config import from_upstream
from ...layers.diffusion_head import DiffusionHead
from ...layers.quantize import MultiScaleQuantizer
from ...tokenizers.hart.network import RESIDUAL_SCALE, discrete_part
from ...train.diffusion import diffusion_loss
from ...train.loop import Metrics, Task, TrainingRecipe, official_state, step_generator
from ...train.tokens import drop_classes, epochs, heldout_set, shipped_tokenizer, training_set
from .cards import MINI
from .network import TRAINING_ONLY, Config, Network, official_names
from .sampling import class_captions

BATCH = 32
VIEWS = 5
"""Randomly shifted copies of each digit whose features are learned."""
COPIES = 2
"""Timesteps of the diffusion at which each token of the last map is tried in a step."""


class Training(nn.Module):
    """HART's network in training on feature maps (B, C, h, w), with the class in place of the caption."""

    def __init__(self, network: Network, quantizer: MultiScaleQuantizer, classes: int) -> None:
        super().__init__()
        self.network = network
        self.quantizer = quantizer
        self.classes = classes

    def terms(self, features: Tensor, labels: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Cross-entropy of every token (B, L) and the loss of the diffusion head; label `classes` means no caption."""
        network, last = self.network, self.network.config.lengths[-1]
        with torch.no_grad():
            levels, _ = self.quantizer.encode(features)
            fed = self.quantizer.teacher_forcing(levels)
            residual = (features - discrete_part(self.quantizer, levels)).flatten(2).transpose(1, 2)  # (B, n, C)
            codes = self.quantizer.codebook.lookup(levels[-1])
            captions, mask = class_captions(labels, network.config)
            captions[labels == self.classes] = 0
        states, text = network.states(captions, mask, fed)
        entropy = F.cross_entropy(
            network.logits(states, text).transpose(1, 2), torch.cat(levels, dim=1), reduction="none"
        )
        diffusion = diffusion_loss(
            network.residual_head,
            network.joined(states[:, -last:], codes).flatten(0, 1),
            residual.flatten(0, 1) / RESIDUAL_SCALE,
            generator,
            copies=COPIES,
        )
        return entropy, diffusion

    def loss(self, batch: tuple[Tensor, Tensor], generator: torch.Generator) -> tuple[Tensor, Metrics]:
        features, labels = batch
        entropy, diffusion = self.terms(features, drop_classes(labels, self.classes, generator), generator)
        nats = entropy.mean()
        return nats + diffusion, {"nats": nats.item(), "diffusion": diffusion.item()}

    @torch.no_grad()
    def measure(self, features: Tensor, labels: Tensor) -> Metrics:
        """Mean negative log-likelihood of a code in nats, with and without the class, and the diffusion loss."""
        given, free, diffusion = [], [], []
        for index, (part, label) in enumerate(zip(features.split(BATCH), labels.split(BATCH), strict=True)):
            entropy, term = self.terms(part, label, step_generator(0, index))
            given.append(entropy)
            diffusion.append(term)
            free.append(self.terms(part, torch.full_like(label, self.classes), step_generator(0, index))[0])
        return {
            "heldout_nats_per_token": torch.cat(given).mean().item(),
            "heldout_nats_per_token_without_class": torch.cat(free).mean().item(),
            "heldout_diffusion_loss": torch.stack(diffusion).mean().item(),
        }


def prepare(seed: int, device: torch.device) -> Task:
    config = from_upstream(Config, MINI.config, TRAINING_ONLY)
    with seeded(seed):
        network = Network(config)
        initialise(network)
    network.place(device, torch.float32)
    tokenizer = shipped_tokenizer(MINI.tokenizer)

    def encode(images: Tensor) -> Tensor:
        features: Tensor = tokenizer.network.features(images * 2 - 1)
        return features

    features, labels = (each.to(device) for each in training_set(encode, seed, VIEWS))
    heldout = [each.to(device) for each in heldout_set(encode)]
    training = Training(network, tokenizer.quantizer.to(device), MINI.classes or 0)
    return Task(
        module=training,
        loss=training.loss,
        batches=epochs(features, labels, seed, BATCH),
        weights=lambda: official_state(network, official_names(config)),
        measure=lambda: training.measure(*heldout),
    )


def initialise(network: Network) -> None:
    """Small weights, nearly silent heads, residual branches that start weak and grow."""
    std = (3 * network.config.embed_dim) ** -0.5
    for module in network.modules():
        if isinstance(module, nn.Linear):
            nn.init.trunc_normal_(module.weight, std=std)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    weak = (2 * network.config.depth) ** 0.5
    with torch.no_grad():
        network.head.weight.mul_(0.02)
        for block in network.blocks:
            block.attention.out.weight.div_(weak)
            block.mlp_out.weight.div_(weak)
    _silence(network.residual_head)


def _silence(head: DiffusionHead) -> None:
    """Start the diffusion head at blocks without effect and a prediction of zero, as upstream."""
    for layer in (*(block.modulation for block in head.blocks), head.modulation, head.out):
        for parameter in layer.parameters():
            nn.init.zeros_(parameter)


RECIPE = TrainingRecipe(
    steps=1500,
    batch=BATCH,
    learning_rate=2e-3,
    data=f"features of the MNIST-5k training split (4000 digits, {VIEWS} copies each, shifted by up to 2 pixels)",
    prepare=prepare,
    ema=0.995,
    weight_decay=0.05,
)
