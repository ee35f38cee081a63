"""Training of the minis of continuous tokens: MAR's KL autoencoder, and MAR on its latents of shifted digits."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from arbench.data.readers.mnist import mnist5k
from arbench.images import to_float

from ..continuous.cards import MAR_MINI
from ..continuous.transformer import TRAINING_ONLY, Config, Network, gathered, official_names
from ..layers.checkpoint import OfficialNames, seeded
from ..layers.config import from_upstream
from ..layers.diffusion_head import HeadBlock
from ..next_scale.cards import VAR_MINI
from ..tokenizers import mar_kl
from ..tokenizers.cards import MAR_KL_MINI
from ..tokenizers.mar_kl import LATENT_SCALE, MARKL, KLNetwork
from ..tokenizers.var_msvq import MSVQNetwork, VARTokenizer
from .diffusion import diffusion_loss
from .generators import BATCH, Encode, drop_classes, epochs, heldout_set, tokenizer_of, training_set
from .loop import Metrics, Recipe, Task, mnist_batches, step_generator
from .tokenizers import DATA as PICTURES

IMAGES = 16
"""Images of a batch of the autoencoder."""
KL_WEIGHT = 2e-3
"""Of the divergence in nats per latent number, beside errors per pixel in [-1, 1]."""
SCALED_ON = 1000
"""Shifted training digits whose latents decide the scale."""
VIEWS = 4
"""Randomly shifted copies of each digit whose latents are learned."""
MASK_DEVIATION = 0.5
"""Of the masked share, which is at most one and likeliest one. The paper has 0.25 and a share of at least 0.7: of its
256 tokens that still shows 77, of 16 it would never show more than four."""


def official(network: nn.Module, names: OfficialNames) -> Mapping[str, Tensor]:
    """The state of `network` under the official keys."""
    state: dict[str, Tensor] = {}
    for name, tensor in network.state_dict().items():
        keys = names(name)
        state |= dict(zip(keys, tensor.chunk(len(keys)), strict=True))
    return state


# ---- the autoencoder -------------------------------------------------------------------------------------------------


class KLTraining(nn.Module):
    """MAR's tokenizer in training: reconstruction of a draw from the posterior, and its divergence from a normal."""

    def __init__(self, network: KLNetwork) -> None:
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
def standardised(network: KLNetwork, images: Tensor) -> KLNetwork:
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
def measure(network: KLNetwork, limit: int = 1000) -> Metrics:
    """PSNR in dB of the posterior's mean and of a draw from it: the mean over `limit` held-out digits, clamped.

    Of the latents, scaled as generators see them, the deviation, and that of a draw around its mean.
    """
    source = mnist5k("heldout")
    device = next(network.parameters()).device
    images = to_float(source.load(range(limit))).to(device)
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


def started(network: KLNetwork, trained: MSVQNetwork) -> KLNetwork:
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


def _kl_mini(seed: int, device: torch.device) -> Task:
    with seeded(seed):
        network = KLNetwork(MAR_KL_MINI.config)
    trained: MSVQNetwork = VARTokenizer.load(*tokenizer_of(VAR_MINI)).network
    training = KLTraining(started(network, trained)).to(device)
    digits, _ = mnist_batches(SCALED_ON, seed, device)(0)
    return Task(
        module=training,
        loss=training.loss,
        batches=mnist_batches(IMAGES, seed, device),
        weights=lambda: official(standardised(training.network, digits), mar_kl.official_names(MAR_KL_MINI.config)),
        measure=lambda: measure(standardised(training.network, digits)),
    )


# ---- the generator ---------------------------------------------------------------------------------------------------


def moments_by(tokenizer: MARKL) -> Encode:
    """Images to (B, 2, C, h, w): means and standard deviations of the posterior, scaled as MAR has them."""

    @torch.no_grad()
    def encode(images: Tensor) -> Tensor:
        return torch.stack(tokenizer.network.moments(images * 2 - 1), dim=1) * tokenizer.latent_scale

    return encode


def masked_count(tokens: int, least: float, generator: torch.Generator) -> int:
    """How many of `tokens` are masked: a share from a normal around one, cut to `least`..1, rounded up."""
    normal = torch.distributions.Normal(1.0, MASK_DEVIATION)
    low, high = normal.cdf(torch.tensor([least, 1.0])).tolist()
    share: float = normal.icdf(low + (high - low) * torch.rand((), generator=generator)).item()
    return max(1, min(tokens, math.ceil(tokens * share)))


class MARTraining(nn.Module):
    """MAR in training: of each latent a random part is masked, and the head learns to draw it given the rest."""

    def __init__(self, network: Network, *, least_masked: float, copies: int) -> None:
        super().__init__()
        self.network = network
        self.least_masked = least_masked
        self.copies = copies

    def predict(self, labels: Tensor, moments: Tensor, generator: torch.Generator) -> Tensor:
        """The diffusion loss of the masked tokens. `labels` (B,) where the number of classes stands for none.

        `moments` (B, 2, C, h, w) are scaled; every sample masks as many tokens, in places of its own.
        """
        network, device = self.network, labels.device
        mean, deviation = moments.unbind(1)
        tokens = network.patches(mean + deviation * torch.randn(mean.shape, generator=generator).to(device))
        order = torch.rand(tokens.shape[:2], generator=generator).argsort(dim=1).to(device)
        count = masked_count(tokens.shape[1], self.least_masked, generator)
        wanted, positions = order[:, :count], order[:, count:]
        classes = network.config.class_num
        embedded = network.condition(labels.clamp_max(classes - 1), guided=False)
        condition = torch.where((labels == classes)[:, None], network.no_class, embedded)
        states = network(condition, gathered(tokens, positions), positions, wanted)  # (B, n, W)
        targets = gathered(tokens, wanted)
        return diffusion_loss(network.head, states.flatten(0, 1), targets.flatten(0, 1), generator, copies=self.copies)

    def loss(self, batch: tuple[Tensor, Tensor], generator: torch.Generator) -> tuple[Tensor, Metrics]:
        moments, labels = batch
        return self.predict(drop_classes(labels, self.network.config.class_num, generator), moments, generator), {}

    @torch.no_grad()
    def measure(self, moments: Tensor, labels: Tensor) -> Metrics:
        """The diffusion loss on held-out digits, with and without their class, under the same noise."""
        given: list[Tensor] = []
        free: list[Tensor] = []
        parts = zip(torch.split(moments, BATCH), torch.split(labels, BATCH), strict=True)
        for index, (part, label) in enumerate(parts):
            without = torch.full_like(label, self.network.config.class_num)
            for losses, condition in ((given, label), (free, without)):
                losses.append(self.predict(condition, part, step_generator(0, index)))
        return {
            "heldout_diffusion_loss": torch.stack(given).mean().item(),
            "heldout_diffusion_loss_without_class": torch.stack(free).mean().item(),
        }


def initialise(network: Network) -> None:
    """Xavier weights; a head that starts at zero and blocks of it that start as the identity."""
    for module in network.modules():
        if isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            nn.init.zeros_(module.bias)
    nn.init.normal_(network.class_table.weight, std=0.02)
    head = network.head
    for layer in (head.time_in, head.time_out):
        nn.init.normal_(layer.weight, std=0.02)
    nn.init.zeros_(head.modulation.weight)
    nn.init.zeros_(head.out.weight)
    for block in head.blocks:
        assert isinstance(block, HeadBlock)
        nn.init.zeros_(block.modulation.weight)


def _mar_mini(seed: int, device: torch.device) -> Task:
    with seeded(seed):
        network = Network(from_upstream(Config, MAR_MINI.config, TRAINING_ONLY))
        initialise(network)
    training = MARTraining(
        network, least_masked=MAR_MINI.config["mask_ratio_min"], copies=MAR_MINI.config["diffusion_batch_mul"]
    ).to(device)
    encode = moments_by(MARKL.load(*tokenizer_of(MAR_MINI)))
    moments, labels = (each.to(device) for each in training_set(encode, seed, VIEWS))
    heldout, heldout_labels = (each.to(device) for each in heldout_set(encode))
    return Task(
        module=training,
        loss=training.loss,
        batches=epochs(moments, labels, seed),
        weights=lambda: official(network, official_names),
        measure=lambda: training.measure(heldout, heldout_labels),
    )


RECIPES: tuple[Recipe, ...] = (
    Recipe(
        name=MAR_KL_MINI.name,
        file="mar-kl-mini.safetensors",
        steps=500,
        batch=IMAGES,
        learning_rate=1e-3,
        data=f"{PICTURES}; from the weights of tokenizers/var-mini",
        prepare=_kl_mini,
    ),
    Recipe(
        name=MAR_MINI.name,
        file="mar-mini.safetensors",
        steps=2400,
        batch=BATCH,
        learning_rate=1.5e-3,
        data=f"latents of the MNIST-5k training split (4000 digits, {VIEWS} copies each, shifted by up to 2 pixels)",
        prepare=_mar_mini,
        ema=0.995,
        weight_decay=0.02,
    ),
)
