"""Training of generators: what their tokenizers make of shifted digits, and cross-entropy on its codes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from arbench import registry, weights
from arbench.protocols import LoadSpec, Tokenizer

from ..layers.checkpoint import OfficialNames
from .digits import heldout_digits, mnist_batches, training_count
from .loop import Metrics, Task, official_state, step_generator

VIEWS = 10
"""Randomly shifted copies of each digit that are encoded."""
ENCODED_AT_ONCE = 100
CLASS_DROPOUT = 0.1
BATCH = 64
CODES = f"codes of the MNIST-5k training split (4000 digits, {VIEWS} copies each, shifted by up to 2 pixels)"

Score = Callable[..., Tensor]
"""(labels (B,), tokens (B, L), for networks of any order also the order (B, L)) -> logits (B, L, V)."""
Encode = Callable[[Tensor], Tensor]
"""images (B, 3, 32, 32) in [0, 1] -> what the generator learns of each one, (B, ...)."""

# ---- what is learned -------------------------------------------------------------------------------------------------


def shipped_tokenizer(name: str | None) -> Any:
    """The tokenizer `name` with its packaged weights."""
    card = registry.card(name or "")
    return registry.resolve(card.implementation).load(card, LoadSpec(weights=weights.locate(card)))


def ids_by(tokenizer: Tokenizer) -> Encode:
    """Images to ids (B, L) int64, levels concatenated."""

    def encode(images: Tensor) -> Tensor:
        return torch.cat(tokenizer.encode(images).ids, dim=1).clone()  # a clone is not an inference tensor

    return encode


def training_set(encode: Encode, seed: int, views: int = VIEWS) -> tuple[Tensor, Tensor]:
    """Codes (N, ...) and labels (N,) of `views` randomly shifted copies of every training digit."""
    load = mnist_batches(ENCODED_AT_ONCE, seed, torch.device("cpu"))
    steps = views * (training_count() // ENCODED_AT_ONCE)
    codes, labels = [], []
    for step in range(steps):
        pictures, classes = load(step)
        codes.append(encode(pictures))
        labels.append(classes)
    return torch.cat(codes), torch.cat(labels)


def heldout_set(encode: Encode) -> tuple[Tensor, Tensor]:
    """Codes (N, ...) and labels (N,) of the held-out digits, as they are."""
    pictures, labels = heldout_digits()
    return torch.cat([encode(part) for part in pictures.split(ENCODED_AT_ONCE)]), labels


def epochs(codes: Tensor, labels: Tensor, seed: int, batch: int = BATCH) -> Callable[[int], tuple[Tensor, Tensor]]:
    """step -> `batch` of the codes and their labels; every epoch in an order of its own, each at most once."""
    per_epoch = len(codes) // batch

    def load(step: int) -> tuple[Tensor, Tensor]:
        epoch, position = divmod(step, per_epoch)
        order = np.random.default_rng([seed, epoch]).permutation(len(codes))
        chosen = torch.from_numpy(order[position * batch : (position + 1) * batch]).to(codes.device)
        return codes[chosen], labels[chosen]

    return load


# ---- how it is learned -----------------------------------------------------------------------------------------------


def drop_classes(labels: Tensor, null: int, generator: torch.Generator) -> Tensor:
    """`labels` (B,), about one in ten replaced by `null`, so that the network learns to draw without a class too."""
    dropped = torch.rand(len(labels), generator=generator).to(labels.device) < CLASS_DROPOUT
    return torch.where(dropped, null, labels)


class Training(nn.Module):
    """A generator's network in training on token sequences (B, L)."""

    def __init__(self, network: nn.Module, score: Score, classes: int) -> None:
        super().__init__()
        self.network = network
        self.score = score
        self._classes = classes

    def predict(self, labels: Tensor, tokens: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Logits (B, L, V) and the tokens (B, L) they are of; here in the order that the tokens have."""
        return self.score(labels, tokens), tokens

    def loss(self, batch: tuple[Tensor, Tensor], generator: torch.Generator) -> tuple[Tensor, Metrics]:
        tokens, labels = batch
        logits, targets = self.predict(drop_classes(labels, self._classes, generator), tokens, generator)
        return F.cross_entropy(logits.flatten(0, 1), targets.flatten()), {}

    @torch.no_grad()
    def measure(self, tokens: Tensor, labels: Tensor) -> Metrics:
        """Mean negative log-likelihood of a token in nats, on held-out digits, with and without their class."""
        given, free = [], []
        for index, (part, label) in enumerate(zip(tokens.split(BATCH), labels.split(BATCH), strict=True)):
            for losses, condition in ((given, label), (free, torch.full_like(label, self._classes))):
                logits, targets = self.predict(condition, part, step_generator(0, index))
                losses.append(F.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="none"))
        return {
            "heldout_nats_per_token": torch.cat(given).mean().item(),
            "heldout_nats_per_token_without_class": torch.cat(free).mean().item(),
        }


def task_of(
    training: Training, names: OfficialNames, tokenizer: Tokenizer, seed: int, device: torch.device, batch: int = BATCH
) -> Task:
    """The task of a network that is on `device`, to learn the tokenizer's ids of digits."""
    encode = ids_by(tokenizer)
    codes, labels = (each.to(device) for each in training_set(encode, seed))
    heldout = tuple(each.to(device) for each in heldout_set(encode))

    return Task(
        module=training,
        loss=training.loss,
        batches=epochs(codes, labels, seed, batch),
        weights=lambda: official_state(training.network, names),
        measure=lambda: training.measure(*heldout),
    )
