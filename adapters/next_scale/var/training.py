"""Training of VAR's mini."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ...layers.checkpoint import seeded
from ...layers.config import from_upstream
from ...layers.multiscale import split
from ...layers.quantize import MultiScaleQuantizer
from ...train.loop import Task, TrainingRecipe
from ...train.tokens import BATCH, CODES, Training, shipped_tokenizer, task_of
from .cards import MINI
from .network import TRAINING_ONLY, Config, Network, official_names


def prepare(seed: int, device: torch.device) -> Task:
    config = from_upstream(Config, MINI.config, TRAINING_ONLY)
    with seeded(seed):
        network = Network(config)
        initialise(network)
    network.place(device, torch.float32)
    tokenizer = shipped_tokenizer(MINI.tokenizer)
    quantizer: MultiScaleQuantizer = tokenizer.quantizer.to(device)

    def score(labels: Tensor, tokens: Tensor) -> Tensor:
        with torch.no_grad():
            features = quantizer.teacher_forcing(split(tokens, config.patch_nums))
        return network.score(labels, features)

    training = Training(network, score, config.num_classes)
    return task_of(training, official_names, tokenizer, seed, device)


def initialise(network: Network) -> None:
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


RECIPE = TrainingRecipe(
    steps=3000, batch=BATCH, learning_rate=2e-3, data=CODES, prepare=prepare, ema=0.995, weight_decay=0.05
)
