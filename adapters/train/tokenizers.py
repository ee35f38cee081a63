"""Training of the mini tokenizers: reconstruction, codebook and commitment losses, restarts of dead codes."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from arbench.data.readers.mnist import mnist5k
from arbench.images import to_float

from ..layers.checkpoint import seeded
from ..layers.quantize import Codebook
from ..tokenizers.cards import LLAMAGEN_MINI, VAR_MINI
from ..tokenizers.llamagen_vq import VQNetwork
from ..tokenizers.var_msvq import MSVQNetwork
from .loop import Metrics, Recipe, Task, mnist_batches

COMMITMENT = 0.25
PATIENCE = 20
"""Steps after which a code that nothing chose is restarted."""
RESTART_UNTIL = 0.6
"""Fraction of the steps with restarts; afterwards the averaged weights settle."""
BATCH = 32


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
    """LlamaGen's tokenizer in training."""

    idle: Tensor

    def __init__(self, network: VQNetwork) -> None:
        super().__init__()
        self.network = network
        # all codes start as dead, so that the first step places them among the features
        self.register_buffer("idle", torch.full((network.quantize.embedding.num_embeddings,), PATIENCE))
        self.dead = DeadCodes(network.quantize)

    def loss(self, batch: tuple[Tensor, Tensor], generator: torch.Generator) -> tuple[Tensor, Metrics]:
        images = batch[0] * 2 - 1
        features = self.network.features(images)  # (B, N, C)
        ids = self.network.quantize.nearest(features.detach())
        self.dead.saw(features.flatten(0, 1), ids.flatten())
        features = F.normalize(features, dim=-1)
        codes = self.network.quantize.lookup(ids)
        matching = F.mse_loss(codes, features.detach()) + COMMITMENT * F.mse_loss(features, codes.detach())
        made = self.network.render(features + (codes - features).detach())
        return _total(made, images, matching)

    def after_step(self, step: int, steps: int, generator: torch.Generator) -> None:
        self.dead.restart(self.idle, step / steps, generator)


class MSVQTraining(nn.Module):
    """VAR's tokenizer in training. The matching loss is over the partial sums of all scales, as in the paper."""

    idle: Tensor

    def __init__(self, network: MSVQNetwork) -> None:
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
        return _total(made, images, matching / len(quantize.sides))

    def decoded(self, features: Tensor, f_hat: Tensor) -> Tensor:
        """(B, C, h, w) for the decoder: the quantised map, through which gradients pass to the features."""
        return features + (f_hat - features).detach()

    def after_step(self, step: int, steps: int, generator: torch.Generator) -> None:
        self.dead.restart(self.idle, step / steps, generator)


def _total(made: Tensor, images: Tensor, matching: Tensor) -> tuple[Tensor, Metrics]:
    absolute, squared = F.l1_loss(made, images), F.mse_loss(made, images)
    psnr = -10 * math.log10(max(squared.item() / 4, 1e-10))  # of images in [-1, 1]
    return absolute + squared + matching, {"psnr": psnr, "matching": matching.item()}


@torch.no_grad()
def measure(network: VQNetwork | MSVQNetwork) -> Metrics:
    """PSNR in dB (mean over the held-out digits, clamped) and how much of the codebook they use."""
    source = mnist5k("heldout")
    device = next(network.parameters()).device
    images = to_float(source.load(range(len(source)))).to(device)
    psnr, ids = [], []
    for part in torch.split(images, 100):
        if isinstance(network, VQNetwork):
            chosen = network.encode(part * 2 - 1)
            made = network.decode(chosen)
        else:
            levels, f_hat = network.encode(part * 2 - 1)
            chosen, made = torch.cat(levels, dim=1), network.render(f_hat)
        error = ((made + 1) / 2).clamp(0, 1) - part
        psnr.append(-10 * error.square().flatten(1).mean(1).clamp_min(1e-10).log10())
        ids.append(chosen.flatten())
    codebook = network.quantize if isinstance(network, VQNetwork) else network.quantize.codebook
    size = codebook.embedding.num_embeddings
    share = torch.cat(ids).bincount(minlength=size).double()
    share = share / share.sum()
    return {
        "heldout_psnr_db": torch.cat(psnr).mean().item(),
        "codes_used": (share > 0).double().mean().item(),
        "code_perplexity": torch.special.entr(share).sum().exp().item(),
    }


def _task(training: VQTraining | MSVQTraining, seed: int, device: torch.device) -> Task:
    training.to(device)

    def weights() -> Mapping[str, Tensor]:
        return training.network.state_dict()

    return Task(
        module=training,
        loss=training.loss,
        batches=mnist_batches(BATCH, seed, device),
        weights=weights,
        measure=lambda: measure(training.network),
        after_step=training.after_step,
    )


def _llamagen_mini(seed: int, device: torch.device) -> Task:
    with seeded(seed):
        training = VQTraining(VQNetwork(LLAMAGEN_MINI.config))
    return _task(training, seed, device)


def _var_mini(seed: int, device: torch.device) -> Task:
    with seeded(seed):
        training = MSVQTraining(MSVQNetwork(VAR_MINI.config))
    return _task(training, seed, device)


DATA = "MNIST-5k training split (4000 digits, 32 x 32), shifted by up to 2 pixels"

RECIPES: tuple[Recipe, ...] = (
    Recipe(
        name=LLAMAGEN_MINI.name,
        file="llamagen-tokenizer-mini.safetensors",
        steps=1000,
        batch=BATCH,
        learning_rate=1e-3,
        data=DATA,
        prepare=_llamagen_mini,
    ),
    Recipe(
        name=VAR_MINI.name,
        file="var-tokenizer-mini.safetensors",
        steps=1200,
        batch=BATCH,
        learning_rate=1e-3,
        data=DATA,
        prepare=_var_mini,
    ),
)
