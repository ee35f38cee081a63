"""Training of HART's minis: a tokenizer that decodes codes with and without their residual, and its generator."""

from __future__ import annotations

import copy
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from arbench.data.readers.mnist import mnist5k
from arbench.images import to_float

from ..hybrid import hart
from ..hybrid.cards import HART_MINI
from ..hybrid.sampler import RESIDUAL_SCALE, class_captions
from ..hybrid.transformer import TRAINING_ONLY, Config, Network
from ..layers.checkpoint import seeded
from ..layers.config import from_upstream
from ..layers.diffusion_head import DiffusionHead
from ..layers.quantize import MultiScaleQuantizer
from ..next_scale.cards import VAR_MINI
from ..tokenizers import hart_hybrid
from ..tokenizers.cards import HART_MINI_TOKENIZER
from ..tokenizers.hart_hybrid import HARTTokenizer, discrete_part
from ..tokenizers.var_msvq import MSVQNetwork, VARTokenizer
from .diffusion import diffusion_loss
from .generators import drop_classes, epochs, heldout_set, tokenizer_of, training_set
from .loop import Metrics, Recipe, Task, mnist_batches, step_generator
from .tokenizers import DATA as PICTURES
from .tokenizers import MSVQTraining, measure

# ---- the tokenizer ---------------------------------------------------------------------------------------------------

IMAGES = 16
"""Digits in a step."""
COVERED = 0.99
"""Share of the residual's numbers that the diffusion head, which clips them, can draw."""
MEASURED_ON = 500


class HybridTraining(MSVQTraining):
    """HART's tokenizer in training: half of each batch is decoded from the features, the other half from the codes."""

    def decoded(self, features: Tensor, f_hat: Tensor) -> Tensor:
        half = len(features) // 2
        return torch.cat((features[:half], super().decoded(features[half:], f_hat[half:])))


@torch.no_grad()
def residuals(network: MSVQNetwork, images: Tensor) -> Tensor:
    """(B, C, h, w): what the codes of the last map leave over, of images (B, 3, H, W) in [0, 1]."""
    features = network.features(images * 2 - 1)
    return features - discrete_part(network.quantize, network.quantize.encode(features)[0])


def rescaled(network: MSVQNetwork, factor: float) -> MSVQNetwork:
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


def fitted(network: MSVQNetwork, images: Tensor) -> MSVQNetwork:
    """`rescaled` so that `COVERED` of the residual of `images` is within what the diffusion head draws."""
    largest = residuals(network, images).abs().flatten().quantile(COVERED).item()
    return rescaled(network, RESIDUAL_SCALE / largest)


@torch.no_grad()
def measure_hybrid(network: MSVQNetwork) -> Metrics:
    """PSNR in dB on the held-out digits with the residual and from codes alone, and how the codebook is used."""
    discrete = measure(network)
    source = mnist5k("heldout")
    device = next(network.parameters()).device
    psnr, within = [], []
    for part in to_float(source.load(range(len(source)))).to(device).split(100):
        made = (network.render(network.features(part * 2 - 1)) + 1) / 2
        psnr.append(-10 * (made - part).square().flatten(1).mean(1).clamp_min(1e-10).log10())
        within.append((residuals(network, part).abs() <= RESIDUAL_SCALE).float().mean())
    return {
        "heldout_psnr_db": torch.cat(psnr).mean().item(),
        "heldout_psnr_db_of_codes_alone": discrete.pop("heldout_psnr_db"),
        "heldout_residual_within_reach": torch.stack(within).mean().item(),
        **discrete,
    }


def _tokenizer(seed: int, device: torch.device) -> Task:
    start = VARTokenizer.load(*tokenizer_of(VAR_MINI)).network  # of the same form
    training = HybridTraining(start.requires_grad_(True))
    training.idle.zero_()  # its codes are in their places
    training.to(device)
    names = hart_hybrid.official_names(HART_MINI_TOKENIZER.config)
    some = to_float(mnist5k("train").load(range(MEASURED_ON))).to(device)

    def weights() -> Mapping[str, Tensor]:
        return {names(key)[0]: value for key, value in fitted(training.network, some).state_dict().items()}

    return Task(
        module=training,
        loss=training.loss,
        batches=mnist_batches(IMAGES, seed, device),
        weights=weights,
        measure=lambda: measure_hybrid(fitted(training.network, some)),
        after_step=training.after_step,
    )


# ---- the generator ---------------------------------------------------------------------------------------------------

BATCH = 32
VIEWS = 5
"""Randomly shifted copies of each digit whose features are learned."""
COPIES = 2
"""Timesteps of the diffusion at which each token of the last map is tried in a step."""


class Training(nn.Module):
    """HART's network in training on feature maps (B, C, h, w), with the class in place of the caption."""

    def __init__(self, network: Network, quantizer: MultiScaleQuantizer, classes: int) -> None:
        super().__init__()
        self.network = network
        self.quantizer = quantizer
        self.classes = classes

    def terms(self, features: Tensor, labels: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Cross-entropy of every token (B, L) and the loss of the diffusion head; label `classes` means no caption."""
        network, last = self.network, self.network.config.lengths[-1]
        with torch.no_grad():
            levels, _ = self.quantizer.encode(features)
            fed = self.quantizer.teacher_forcing(levels)
            residual = (features - discrete_part(self.quantizer, levels)).flatten(2).transpose(1, 2)  # (B, n, C)
            codes = self.quantizer.codebook.lookup(levels[-1])
            captions, mask = class_captions(labels, network.config)
            captions[labels == self.classes] = 0
        states, text = network.states(captions, mask, fed)
        entropy = F.cross_entropy(
            network.logits(states, text).transpose(1, 2), torch.cat(levels, dim=1), reduction="none"
        )
        diffusion = diffusion_loss(
            network.residual_head,
            network.joined(states[:, -last:], codes).flatten(0, 1),
            residual.flatten(0, 1) / RESIDUAL_SCALE,
            generator,
            copies=COPIES,
        )
        return entropy, diffusion

    def loss(self, batch: tuple[Tensor, Tensor], generator: torch.Generator) -> tuple[Tensor, Metrics]:
        features, labels = batch
        entropy, diffusion = self.terms(features, drop_classes(labels, self.classes, generator), generator)
        nats = entropy.mean()
        return nats + diffusion, {"nats": nats.item(), "diffusion": diffusion.item()}

    @torch.no_grad()
    def measure(self, features: Tensor, labels: Tensor) -> Metrics:
        """Mean negative log-likelihood of a code in nats, with and without the class, and the diffusion loss."""
        given, free, diffusion = [], [], []
        for index, (part, label) in enumerate(zip(features.split(BATCH), labels.split(BATCH), strict=True)):
            entropy, term = self.terms(part, label, step_generator(0, index))
            given.append(entropy)
            diffusion.append(term)
            free.append(self.terms(part, torch.full_like(label, self.classes), step_generator(0, index))[0])
        return {
            "heldout_nats_per_token": torch.cat(given).mean().item(),
            "heldout_nats_per_token_without_class": torch.cat(free).mean().item(),
            "heldout_diffusion_loss": torch.stack(diffusion).mean().item(),
        }


def _generator(seed: int, device: torch.device) -> Task:
    config = from_upstream(Config, HART_MINI.config, TRAINING_ONLY)
    with seeded(seed):
        network = Network(config)
        _initialise(network)
    network.place(device, torch.float32)
    tokenizer = HARTTokenizer.load(*tokenizer_of(HART_MINI))

    def encode(images: Tensor) -> Tensor:
        return tokenizer.network.features(images * 2 - 1)

    features, labels = (each.to(device) for each in training_set(encode, seed, VIEWS))
    heldout = [each.to(device) for each in heldout_set(encode)]
    training = Training(network, tokenizer.quantizer.to(device), HART_MINI.classes or 0)
    names = hart.official_names(config)

    def weights() -> Mapping[str, Tensor]:
        return {names(key)[0]: value for key, value in network.state_dict().items()}

    return Task(
        module=training,
        loss=training.loss,
        batches=epochs(features, labels, seed, BATCH),
        weights=weights,
        measure=lambda: training.measure(*heldout),
    )


def _initialise(network: Network) -> None:
    """Small weights, nearly silent heads, residual branches that start weak and grow."""
    std = (3 * network.config.embed_dim) ** -0.5
    for module in network.modules():
        if isinstance(module, nn.Linear):
            nn.init.trunc_normal_(module.weight, std=std)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    weak = (2 * network.config.depth) ** 0.5
    with torch.no_grad():
        network.head.weight.mul_(0.02)
        for block in network.blocks:
            block.attention.out.weight.div_(weak)
            block.mlp_out.weight.div_(weak)
    _silence(network.residual_head)


def _silence(head: DiffusionHead) -> None:
    """Start the diffusion head at blocks without effect and a prediction of zero, as upstream."""
    for layer in (*(block.modulation for block in head.blocks), head.modulation, head.out):
        for parameter in layer.parameters():
            nn.init.zeros_(parameter)


RECIPES: tuple[Recipe, ...] = (
    Recipe(
        name=HART_MINI_TOKENIZER.name,
        file="hart-tokenizer-mini.safetensors",
        steps=300,
        batch=IMAGES,
        learning_rate=1e-3,
        data=f"{PICTURES}; starts from the weights of {VAR_MINI.tokenizer}",
        prepare=_tokenizer,
    ),
    Recipe(
        name=HART_MINI.name,
        file="hart-mini.safetensors",
        steps=1500,
        batch=BATCH,
        learning_rate=2e-3,
        data=f"features of the MNIST-5k training split (4000 digits, {VIEWS} copies each, shifted by up to 2 pixels)",
        prepare=_generator,
        ema=0.995,
        weight_decay=0.05,
    ),
)
