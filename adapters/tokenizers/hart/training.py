"""Training of the mini of HART's tokenizer, which decodes codes with and without their residual."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from ...layers.multiscale import Network
from ...train.digits import PICTURES, heldout_digits, mnist_batches, training_digits
from ...train.loop import Metrics, Task, TrainingRecipe, official_state
from ...train.multiscale import MultiScaleTraining, measure_codes
from ...train.tokens import shipped_tokenizer
from .cards import MINI
from .network import RESIDUAL_SCALE, discrete_part, official_names

START = "tokenizers/var-mini"
"""A network of the same form, whose weights are where training starts."""
BATCH = 16
COVERED = 0.99
"""Share of the residual's numbers that the diffusion head, which clips them, can draw."""
MEASURED_ON = 500


class HybridTraining(MultiScaleTraining):
    """HART's tokenizer in training: half of each batch is decoded from the features, the other half from the codes."""

    def decoded(self, features: Tensor, f_hat: Tensor) -> Tensor:
        half = len(features) // 2
        return torch.cat((features[:half], super().decoded(features[half:], f_hat[half:])))


@torch.no_grad()
def residuals(network: Network, images: Tensor) -> Tensor:
    """(B, C, h, w): what the codes of the last map leave over, of images (B, 3, H, W) in [0, 1]."""
    features = network.features(images * 2 - 1)
    return features - discrete_part(network.quantize, network.quantize.encode(features)[0])


def rescaled(network: Network, factor: float) -> Network:
    """A copy with the same codes and images whose features are `factor` times as large."""
    network = copy.deepcopy(network)
    with torch.no_grad():
        for tensor in (*network.quant_conv.parameters(), network.quantize.codebook.embedding.weight):
            tensor.mul_(factor)
        for phi in network.quantize.phis:
            assert isinstance(phi, nn.Conv2d)
            assert phi.bias is not None
            phi.bias.mul_(factor)
        network.post_quant_conv.weight.div_(factor)
    return network


def fitted(network: Network, images: Tensor) -> Network:
    """`rescaled` so that `COVERED` of the residual of `images` is within what the diffusion head draws."""
    largest = residuals(network, images).abs().flatten().quantile(COVERED).item()
    return rescaled(network, RESIDUAL_SCALE / largest)


@torch.no_grad()
def measure_hybrid(network: Network) -> Metrics:
    """PSNR in dB on the held-out digits with the residual and from codes alone, and how the codebook is used."""
    discrete = measure_codes(network)
    device = next(network.parameters()).device
    psnr, within = [], []
    for part in heldout_digits()[0].to(device).split(100):
        made = (network.render(network.features(part * 2 - 1)) + 1) / 2
        psnr.append(-10 * (made - part).square().flatten(1).mean(1).clamp_min(1e-10).log10())
        within.append((residuals(network, part).abs() <= RESIDUAL_SCALE).float().mean())
    return {
        "heldout_psnr_db": torch.cat(psnr).mean().item(),
        "heldout_psnr_db_of_codes_alone": discrete.pop("heldout_psnr_db"),
        "heldout_residual_within_reach": torch.stack(within).mean().item(),
        **discrete,
    }


def prepare(seed: int, device: torch.device) -> Task:
    start = shipped_tokenizer(START).network
    training = HybridTraining(start.requires_grad_(True))
    training.idle.zero_()  # its codes are in their places
    training.to(device)
    names = official_names(MINI.config)
    some = training_digits(MEASURED_ON).to(device)

    return Task(
        module=training,
        loss=training.loss,
        batches=mnist_batches(BATCH, seed, device),
        weights=lambda: official_state(fitted(training.network, some), names),
        measure=lambda: measure_hybrid(fitted(training.network, some)),
        after_step=training.after_step,
    )


RECIPE = TrainingRecipe(
    steps=300, batch=BATCH, learning_rate=1e-3, data=f"{PICTURES}; starts from the weights of {START}", prepare=prepare
)
