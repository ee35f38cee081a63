"""Training of tokenizers with a codebook: reconstruction and commitment losses, restarts of dead codes."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..layers.quantize import Codebook
from .digits import heldout_digits
from .loop import Metrics

COMMITMENT = 0.25
PATIENCE = 20
"""Steps after which a code that nothing chose is restarted."""
RESTART_UNTIL = 0.6
"""Fraction of the steps with restarts; afterwards the averaged weights settle."""


class DeadCodes:
    """Restarts codes that went unused at a feature of the current batch, chosen by the step's generator."""

    def __init__(self, codebook: Codebook) -> None:
        self._codebook = codebook
        self._features: Tensor | None = None
        self._ids: Tensor | None = None

    def saw(self, features: Tensor, ids: Tensor) -> None:
        """Remember the features (N, C) that were matched in this step and their ids (N,)."""
        self._features, self._ids = features.detach(), ids

    @torch.no_grad()
    def restart(self, idle: Tensor, progress: float, generator: torch.Generator) -> None:
        """`idle` (V,) counts the steps each code went unused, and is updated."""
        assert self._features is not None
        assert self._ids is not None
        idle += 1
        idle[self._ids] = 0
        dead = (idle > PATIENCE).nonzero().squeeze(1)
        if not len(dead) or progress > RESTART_UNTIL:
            return
        chosen = torch.randint(len(self._features), (len(dead),), generator=generator)
        self._codebook.embedding.weight[dead] = self._features[chosen.to(self._features.device)]
        idle[dead] = 0


class VQTraining(nn.Module):
    """A network with one grid or row of codes on the unit sphere, in training.

    `features` gives for images in [-1, 1] what is matched, (B, N, C); `render` makes of codes (B, N, C) such images.
    """

    idle: Tensor

    def __init__(
        self,
        network: nn.Module,
        codebook: Codebook,
        features: Callable[[Tensor], Tensor],
        render: Callable[[Tensor], Tensor],
    ) -> None:
        super().__init__()
        self.network = network
        # all codes start as dead, so that the first step places them among the features
        self.register_buffer("idle", torch.full((codebook.embedding.num_embeddings,), PATIENCE))
        self.dead = DeadCodes(codebook)
        self._codebook, self._features, self._render = [codebook], features, render  # the list hides a second name

    def loss(self, batch: tuple[Tensor, Tensor], generator: torch.Generator) -> tuple[Tensor, Metrics]:
        images, (codebook,) = batch[0] * 2 - 1, self._codebook
        features = self._features(images)
        ids = codebook.nearest(features.detach())
        self.dead.saw(features.flatten(0, 1), ids.flatten())
        features = F.normalize(features, dim=-1)
        codes = codebook.lookup(ids)
        matching = F.mse_loss(codes, features.detach()) + COMMITMENT * F.mse_loss(features, codes.detach())
        return total_loss(self._render(self.decoded(features, codes)), images, matching)

    def decoded(self, features: Tensor, codes: Tensor) -> Tensor:
        """(B, N, C) for the decoder: the codes, through which gradients pass to the features."""
        return features + (codes - features).detach()

    def after_step(self, step: int, steps: int, generator: torch.Generator) -> None:
        self.dead.restart(self.idle, step / steps, generator)

    def measure(self) -> Metrics:
        (codebook,) = self._codebook

        def encoded(images: Tensor) -> tuple[Tensor, Tensor]:
            ids = codebook.nearest(self._features(images))
            return ids, self._render(codebook.lookup(ids))

        return measure(codebook, encoded)


def total_loss(made: Tensor, images: Tensor, matching: Tensor) -> tuple[Tensor, Metrics]:
    """The loss of images made in training, in [-1, 1], and numbers to show; `matching` is of features and codes."""
    absolute, squared = F.l1_loss(made, images), F.mse_loss(made, images)
    psnr = -10 * math.log10(max(squared.item() / 4, 1e-10))  # of images in [-1, 1]
    return absolute + squared + matching, {"psnr": psnr, "matching": matching.item()}


@torch.no_grad()
def measure(codebook: Codebook, encoded: Callable[[Tensor], tuple[Tensor, Tensor]]) -> Metrics:
    """PSNR in dB (mean over the held-out digits, clamped) and how much of the codebook they use.

    `encoded` gives for images in [-1, 1] their ids (B, L) and what is decoded from them, in [-1, 1].
    """
    images, _ = heldout_digits()
    psnr, ids = [], []
    for part in torch.split(images.to(codebook.embedding.weight.device), 100):
        chosen, made = encoded(part * 2 - 1)
        error = ((made + 1) / 2).clamp(0, 1) - part
        psnr.append(-10 * error.square().flatten(1).mean(1).clamp_min(1e-10).log10())
        ids.append(chosen.flatten())
    share = torch.cat(ids).bincount(minlength=codebook.embedding.num_embeddings).double()
    share = share / share.sum()
    return {
        "heldout_psnr_db": torch.cat(psnr).mean().item(),
        "codes_used": (share > 0).double().mean().item(),
        "code_perplexity": torch.special.entr(share).sum().exp().item(),
    }
