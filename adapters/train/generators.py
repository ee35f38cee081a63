"""Training of the mini generators: cross-entropy on the mini tokenizers' codes of shifted digits."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from arbench.data.readers.mnist import mnist5k
from arbench.images import to_float
from arbench.protocols import Card, LoadSpec, Tokenizer

from ..layers.checkpoint import OfficialNames, seeded
from ..layers.config import from_upstream
from ..layers.quantize import MultiScaleQuantizer
from ..next_scale import transformer, var
from ..next_scale.cards import VAR_MINI
from ..raster import llama, llamagen
from ..raster.cards import LLAMAGEN_MINI
from ..tokenizers.cards import CARDS as TOKENIZERS
from ..tokenizers.llamagen_vq import LlamaGenVQ
from ..tokenizers.var_msvq import VARTokenizer, split
from .loop import Metrics, Recipe, Task, mnist_batches, step_generator

VIEWS = 10
"""Randomly shifted copies of each digit that are encoded."""
ENCODED_AT_ONCE = 100
CLASS_DROPOUT = 0.1
BATCH = 64

Score = Callable[..., Tensor]
"""(labels (B,), tokens (B, L), for networks of any order also the order (B, L)) -> logits (B, L, V)."""
Encode = Callable[[Tensor], Tensor]
"""images (B, 3, 32, 32) in [0, 1] -> what the generator learns of each one, (B, ...)."""

# ---- what is learned -------------------------------------------------------------------------------------------------


def tokenizer_of(card: Card) -> tuple[Card, LoadSpec]:
    """The card of the generator's tokenizer, and how to load its packaged weights."""
    tokenizer = next(each for each in TOKENIZERS if each.name == card.tokenizer)
    assert tokenizer.checkpoint is not None
    return tokenizer, LoadSpec(weights=Path(__file__).parents[1] / "weights" / tokenizer.checkpoint.file)


def ids_by(tokenizer: Tokenizer) -> Encode:
    """Images to ids (B, L) int64, levels concatenated."""

    def encode(images: Tensor) -> Tensor:
        return torch.cat(tokenizer.encode(images).ids, dim=1).clone()  # a clone is no inference tensor

    return encode


def training_set(encode: Encode, seed: int, views: int = VIEWS) -> tuple[Tensor, Tensor]:
    """Codes (N, ...) and labels (N,) of `views` randomly shifted copies of every training digit."""
    load = mnist_batches(ENCODED_AT_ONCE, seed, torch.device("cpu"))
    steps = views * (len(mnist5k("train")) // ENCODED_AT_ONCE)
    codes, labels = [], []
    for step in range(steps):
        pictures, classes = load(step)
        codes.append(encode(pictures))
        labels.append(classes)
    return torch.cat(codes), torch.cat(labels)


def heldout_set(encode: Encode) -> tuple[Tensor, Tensor]:
    """Codes (N, ...) and labels (N,) of the held-out digits, as they are."""
    source = mnist5k("heldout")
    assert source.labels is not None
    pictures = to_float(source.load(range(len(source))))
    return torch.cat([encode(part) for part in pictures.split(ENCODED_AT_ONCE)]), torch.from_numpy(source.labels)


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

    def weights() -> Mapping[str, Tensor]:
        return {names(key)[0]: value for key, value in training.network.state_dict().items()}

    return Task(
        module=training,
        loss=training.loss,
        batches=epochs(codes, labels, seed, batch),
        weights=weights,
        measure=lambda: training.measure(*heldout),
    )


# ---- the minis in raster and scale order -----------------------------------------------------------------------------


def _llamagen_mini(seed: int, device: torch.device) -> Task:
    config = from_upstream(llama.Config, LLAMAGEN_MINI.config, llama.TRAINING_ONLY)
    with seeded(seed):
        network = llama.Network(config)
        initialise_llama(network)
    network.place(device, torch.float32)
    tokenizer = LlamaGenVQ.load(*tokenizer_of(LLAMAGEN_MINI))
    training = Training(network, network.score, config.num_classes)
    return task_of(training, llamagen.official_names, tokenizer, seed, device)


def initialise_llama(network: llama.Network) -> None:
    """Small weights and a silent head, as upstream."""
    for module in network.modules():
        if isinstance(module, nn.Linear | nn.Embedding):
            nn.init.normal_(module.weight, std=0.02)
    nn.init.zeros_(network.head.weight)


def _var_mini(seed: int, device: torch.device) -> Task:
    config = from_upstream(transformer.Config, VAR_MINI.config, transformer.TRAINING_ONLY)
    with seeded(seed):
        network = transformer.Network(config)
        _initialise_var(network)
    network.place(device, torch.float32)
    tokenizer = VARTokenizer.load(*tokenizer_of(VAR_MINI))
    quantizer: MultiScaleQuantizer = tokenizer.quantizer.to(device)

    def score(labels: Tensor, tokens: Tensor) -> Tensor:
        with torch.no_grad():
            features = quantizer.teacher_forcing(split(tokens, config.patch_nums))
        return network.score(labels, features)

    training = Training(network, score, config.num_classes)
    return task_of(training, var.official_names, tokenizer, seed, device)


def _initialise_var(network: transformer.Network) -> None:
    """Small weights, a nearly silent head, residual branches that start weak and grow."""
    width, depth = network.config.embed_dim, network.config.depth
    std = (3 * width) ** -0.5
    for name, parameter in network.named_parameters():
        if name.endswith(("bias", "log_scale")):
            continue  # zero, and log 4
        nn.init.trunc_normal_(parameter, std=std)
    with torch.no_grad():
        network.head.weight.mul_(0.02)
        for module in (network.head_modulation, *(each for each in network.modules() if isinstance(each, nn.Linear))):
            if module.bias is not None:
                module.bias.zero_()
        for block in network.blocks:
            block.attention.out.weight.div_((2 * depth) ** 0.5)
            block.mlp_out.weight.div_((2 * depth) ** 0.5)
            block.modulation.bias[: 2 * width].fill_(0.5)  # the gates


DATA = f"codes of the MNIST-5k training split (4000 digits, {VIEWS} copies each, shifted by up to 2 pixels)"

RECIPES: tuple[Recipe, ...] = (
    Recipe(
        name=LLAMAGEN_MINI.name,
        file="llamagen-mini.safetensors",
        steps=2500,
        batch=BATCH,
        learning_rate=2e-3,
        data=DATA,
        prepare=_llamagen_mini,
        ema=0.995,
        weight_decay=0.05,
    ),
    Recipe(
        name=VAR_MINI.name,
        file="var-mini.safetensors",
        steps=3000,
        batch=BATCH,
        learning_rate=2e-3,
        data=DATA,
        prepare=_var_mini,
        ema=0.995,
        weight_decay=0.05,
    ),
)
