"""Training of the multi-scale autoencoder, for VAR's tokenizer and for HART's."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..layers.multiscale import Network
from .codebook import COMMITMENT, PATIENCE, DeadCodes, measure, total_loss
from .loop import Metrics


class MultiScaleTraining(nn.Module):
    """The network in training. The matching loss is over the partial sums of all scales, as in the paper."""

    idle: Tensor

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("idle", torch.full((network.quantize.codebook.embedding.num_embeddings,), PATIENCE))
        self.dead = DeadCodes(network.quantize.codebook)

    def loss(self, batch: tuple[Tensor, Tensor], generator: torch.Generator) -> tuple[Tensor, Metrics]:
        images = batch[0] * 2 - 1
        quantize = self.network.quantize
        features = self.network.features(images)  # (B, C, h, w)
        target, f_hat = features.detach(), quantize.start(len(images))
        matching = features.new_zeros(())
        seen, chosen = [], []
        for scale, side in enumerate(quantize.sides):
            small = F.interpolate(target - f_hat.detach(), size=(side, side), mode="area")
            rows = small.flatten(2).transpose(1, 2)  # (B, side * side, C)
            ids = quantize.codebook.nearest(rows)
            f_hat = quantize.accumulate(f_hat, ids, scale)
            matching = matching + F.mse_loss(f_hat, target) + COMMITMENT * F.mse_loss(features, f_hat.detach())
            seen.append(rows.flatten(0, 1))
            chosen.append(ids.flatten())
        self.dead.saw(torch.cat(seen), torch.cat(chosen))
        decoder = self.network.decoder
        made = decoder(self.network.post_quant_conv(self.decoded(features, f_hat)))
        return total_loss(made, images, matching / len(quantize.sides))

    def decoded(self, features: Tensor, f_hat: Tensor) -> Tensor:
        """(B, C, h, w) for the decoder: the quantised map, through which gradients pass to the features."""
        return features + (f_hat - features).detach()

    def after_step(self, step: int, steps: int, generator: torch.Generator) -> None:
        self.dead.restart(self.idle, step / steps, generator)


def measure_codes(network: Network) -> Metrics:
    """`measure`, of the codes of all scales."""

    def encoded(images: Tensor) -> tuple[Tensor, Tensor]:
        levels, f_hat = network.encode(images)
        return torch.cat(levels, dim=1), network.render(f_hat)

    return measure(network.quantize.codebook, encoded)
