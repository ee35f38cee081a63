"""Training of the mini of TiTok's generator: to tell masked tokens from those that are left and the class."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ...layers.checkpoint import seeded
from ...layers.config import from_upstream
from ...layers.masked import arccos_ratio
from ...train.loop import Task, TrainingRecipe
from ...train.tokens import BATCH, CODES, Training, shipped_tokenizer, task_of
from .cards import MINI
from .network import TRAINING_ONLY, Config, Network, official_names


class MaskedTraining(Training):
    """The network in training: of each row a share by the schedule of sampling is masked, in places of its own."""

    def predict(self, labels: Tensor, tokens: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Logits (1, M, V) and the tokens (1, M) they are of: the masked ones of all rows."""
        mask = masked_places(*tokens.shape, generator).to(tokens.device)
        logits = self.score(labels, tokens.masked_fill(mask, self.network.config.mask))
        return logits[mask].unsqueeze(0), tokens[mask].unsqueeze(0)


def masked_places(rows: int, length: int, generator: torch.Generator) -> Tensor:
    """(rows, length) bool: at least one place is masked in each row, and all where the schedule begins."""
    progress = torch.rand(rows, generator=generator)
    shares = torch.tensor([arccos_ratio(each) for each in progress.tolist()])
    counts = (length * shares).round().clamp(min=1).long()
    ranks = torch.rand(rows, length, generator=generator).argsort(dim=1)
    return ranks < counts.unsqueeze(1)


def initialise(network: Network) -> None:
    """BERT's: small weights, biases of zero."""
    for module in network.modules():
        if isinstance(module, (nn.Linear, nn.Embedding)):
            nn.init.trunc_normal_(module.weight, std=0.02)
        if isinstance(module, nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)


def prepare(seed: int, device: torch.device) -> Task:
    config = from_upstream(Config, MINI.config, TRAINING_ONLY)
    with seeded(seed):
        network = Network(config)
        initialise(network)
    training = MaskedTraining(network, network, config.condition_num_classes).to(device)
    return task_of(training, official_names(config), shipped_tokenizer(MINI.tokenizer), seed, device)


RECIPE = TrainingRecipe(
    steps=1500, batch=BATCH, learning_rate=2e-3, data=CODES, prepare=prepare, ema=0.995, weight_decay=0.05
)
