"""Training of the mini of MAR's tokenizer."""

from __future__ import annotations

import copy
import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...layers.checkpoint import seeded
from ...train.digits import PICTURES, heldout_digits, mnist_batches
from ...train.loop import Metrics, Task, TrainingRecipe, official_state, step_generator
from ...train.tokens import shipped_tokenizer
from .cards import MINI
from .network import LATENT_SCALE, Network, official_names

BATCH = 16
START = "tokenizers/var-mini"
"""Its encoder and decoder are of the same form, and are where training starts."""
KL_WEIGHT = 2e-3
"""Of the divergence in nats per latent number, beside errors per pixel in [-1, 1]."""
SCALED_ON = 1000
"""Shifted training digits whose latents decide the scale."""


class KLTraining(nn.Module):
    """MAR's tokenizer in training: reconstruction of a draw from the posterior, and its divergence from a normal."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def loss(self, batch: tuple[Tensor, Tensor], generator: torch.Generator) -> tuple[Tensor, Metrics]:
        images = batch[0] * 2 - 1
        mean, deviation = self.network.moments(images)
        drawn = mean + deviation * torch.randn(mean.shape, generator=generator).to(mean.device)
        made = self.network.render(drawn)
        divergence = 0.5 * (mean.square() + deviation.square() - 1 - 2 * deviation.log()).mean()
        absolute, squared = F.l1_loss(made, images), F.mse_loss(made, images)
        psnr = -10 * math.log10(max(squared.item() / 4, 1e-10))  # of images in [-1, 1]
        return absolute + squared + KL_WEIGHT * divergence, {"psnr": psnr, "divergence": divergence.item()}


@torch.no_grad()
def standardised(network: Network, images: Tensor) -> Network:
    """A copy whose latents times `LATENT_SCALE` have mean zero in each channel and a deviation of one over all.

    Judged by the posterior means of `images` (B, 3, H, W) in [0, 1]. The 1x1 convolutions around the latents take the
    shift and the scale, so reconstructions stay what they were.
    """
    folded, channels = copy.deepcopy(network), network.channels
    latents = torch.cat([network.moments(part * 2 - 1)[0] for part in torch.split(images, 100)])  # (B, C, h, w)
    centre = latents.mean(dim=(0, 2, 3))
    factor = 1 / (LATENT_SCALE * (latents - centre[:, None, None]).std())
    into, back = folded.quant_conv, folded.post_quant_conv
    assert into.bias is not None
    assert back.bias is not None
    into.weight[:channels] *= factor
    into.bias[:channels] = (into.bias[:channels] - centre) * factor
    into.bias[channels:] += 2 * factor.log()  # log variances
    back.bias += back.weight[:, :, 0, 0] @ centre
    back.weight /= factor
    return folded


@torch.no_grad()
def measure(network: Network, limit: int = 1000) -> Metrics:
    """PSNR in dB of the posterior's mean and of a draw from it: the mean over `limit` held-out digits, clamped.

    Of the latents, scaled as generators see them, the deviation, and that of a draw around its mean.
    """
    device = next(network.parameters()).device
    images = heldout_digits(limit)[0].to(device)
    found: dict[str, list[Tensor]] = {"mean": [], "draw": [], "latents": [], "noise": []}
    for index, part in enumerate(torch.split(images, 100)):
        mean, deviation = network.moments(part * 2 - 1)
        drawn = mean + deviation * torch.randn(mean.shape, generator=step_generator(0, index)).to(device)
        for key, latents in (("mean", mean), ("draw", drawn)):
            error = ((network.render(latents) + 1) / 2).clamp(0, 1) - part
            found[key].append(-10 * error.square().flatten(1).mean(1).clamp_min(1e-10).log10())
        found["latents"].append(LATENT_SCALE * mean)
        found["noise"].append(LATENT_SCALE * deviation)
    return {
        "heldout_psnr_db": torch.cat(found["mean"]).mean().item(),
        "heldout_psnr_db_of_a_draw": torch.cat(found["draw"]).mean().item(),
        "scaled_latents_std": torch.cat(found["latents"]).std().item(),
        "scaled_posterior_std": torch.cat(found["noise"]).mean().item(),
    }


def started(network: Network, trained: nn.Module) -> Network:
    """`network`, with the encoder and decoder of VAR's tokenizer where they are alike, and little noise at first."""
    ours, channels = network.state_dict(), network.channels
    for name, tensor in trained.state_dict().items():
        if name.startswith(("encoder.", "decoder.")) and name in ours:
            ours[name][: len(tensor)] = tensor  # our encoder's last layer also has log variances, after the means
    network.load_state_dict(ours)
    for layer in (network.quant_conv, network.post_quant_conv):
        nn.init.dirac_(layer.weight)
        assert layer.bias is not None
        nn.init.zeros_(layer.bias)
    assert network.quant_conv.bias is not None
    network.quant_conv.bias.data[channels:] = -4.0
    return network


def prepare(seed: int, device: torch.device) -> Task:
    with seeded(seed):
        network = Network(MINI.config)
    training = KLTraining(started(network, shipped_tokenizer(START).network)).to(device)
    digits, _ = mnist_batches(SCALED_ON, seed, device)(0)
    return Task(
        module=training,
        loss=training.loss,
        batches=mnist_batches(BATCH, seed, device),
        weights=lambda: official_state(standardised(training.network, digits), official_names(MINI.config)),
        measure=lambda: measure(standardised(training.network, digits)),
    )


RECIPE = TrainingRecipe(
    steps=500, batch=BATCH, learning_rate=1e-3, data=f"{PICTURES}; from the weights of {START}", prepare=prepare
)
