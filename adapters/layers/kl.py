"""KL autoencoders: one grid of continuous latents, in the form of latent diffusion (Rombach et al., CVPR 2022)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from arbench.errors import InputError
from arbench.protocols import NO_PROBE, Card, Codes, LoadSpec, Noise, Probe, Tokenizer

from .autoencoder import Decoder, Encoder, compvis_names
from .checkpoint import OfficialNames, build_and_load, compile_blocks
from .config import from_upstream
from .generator import check_form, of_kind
from .tokenizer import NetworkTokenizer, check_multiple, from_signed, to_signed

IGNORED = (r"loss\..*",)
"""Official keys of the discriminator and the perceptual network that trained it."""

TRAINING_ONLY = ("class", "ckpt_path", "dropout")
"""Official hyper-parameters without effect on a trained network."""

LOG_VARIANCE = (-30.0, 20.0)
"""Log variances of the posterior are clamped to this range."""


@dataclass(frozen=True, slots=True)
class Config:
    """Upstream's `AutoencoderKL`, with its defaults. `resolution` only decides where the encoder has attention."""

    embed_dim: int = 16
    ch_mult: tuple[int, ...] = (1, 1, 2, 2, 4)
    use_variational: bool = True
    ch: int = 128
    num_res_blocks: int = 2
    resolution: int = 256
    attn_resolutions: tuple[int, ...] = (16,)


def official_names(config: Mapping[str, Any]) -> OfficialNames:
    """One of our parameter names -> its keys in a CompVis file, for a network of this `config`."""
    return compvis_names(len(from_upstream(Config, config, TRAINING_ONLY).ch_mult))


class Network(nn.Module):
    """Encoder to a diagonal Gaussian, and decoder; images in [-1, 1], the output not clamped."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        c = from_upstream(Config, config, TRAINING_ONLY)
        levels = range(len(c.ch_mult))
        self.channels = c.embed_dim
        self.factor = 2 ** levels[-1]
        sites = [level for level in levels if c.resolution // 2**level in c.attn_resolutions]
        self.encoder = Encoder(c.ch, c.ch_mult, c.num_res_blocks, 2 * c.embed_dim, attention=sites)
        self.quant_conv = nn.Conv2d(2 * c.embed_dim, (2 if c.use_variational else 1) * c.embed_dim, 1)
        self.post_quant_conv = nn.Conv2d(c.embed_dim, c.embed_dim, 1)
        self.decoder = Decoder(c.ch, c.ch_mult, c.num_res_blocks, c.embed_dim, attention=())

    def moments(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation (B, C, H/f, W/f), float32, of the posterior of images (B, 3, H, W)."""
        moments = self.quant_conv(self.encoder(images)).float()
        mean, rest = moments[:, : self.channels], moments[:, self.channels :]
        # without a variance of its own the official code takes a log variance of one
        log_variance = rest.clamp(*LOG_VARIANCE) if rest.shape[1] else torch.ones_like(mean)
        return mean, torch.exp(0.5 * log_variance)

    def render(self, latents: Tensor) -> Tensor:
        """Images, about [-1, 1], from latents (B, C, h, w) in the autoencoder's own units."""
        images: Tensor = self.decoder(self.post_quant_conv(latents.to(self.post_quant_conv.weight.dtype)))
        return images


class KLTokenizer(NetworkTokenizer):
    """`Tokenizer`. `Codes.latents` (B, C, h, w) are not scaled by `latent_scale`, that of the generators on it.

    Images of any size divisible by the factor are taken.
    """

    network: Network
    latent_scale: ClassVar[float]

    @classmethod
    def load(cls, card: Card, spec: LoadSpec) -> Self:
        names = official_names(card.config)
        network = build_and_load(lambda: Network(card.config), card, spec, names=names, ignored=IGNORED)
        compile_blocks(spec, (network.encoder, network.decoder))
        return cls(card, network)

    @torch.inference_mode()
    def encode(self, images: Tensor, *, noise: Noise | None = None) -> Codes:
        """The mean of the posterior, or with `noise` a draw from it."""
        check_multiple(self.card, images, self.network.factor, square=False)
        mean, deviation = self.network.moments(to_signed(images, self.dtype))
        if noise is not None:
            mean = mean + deviation * noise.normal("posterior", mean.shape[1:])
        return Codes(latents=mean)

    @torch.inference_mode()
    def decode(self, codes: Codes, *, probe: Probe = NO_PROBE) -> Tensor:
        with probe("decode"):
            if codes.latents is None or codes.latents.ndim != 4 or codes.latents.shape[1] != self.network.channels:
                given = "none" if codes.latents is None else f"of shape {tuple(codes.latents.shape)}"
                raise InputError(
                    f"{self.card.name} decodes latents of shape (B, {self.network.channels}, h, w)",
                    f"the codes have {given}",
                    "pass what its encoder or a generator made for it gives",
                )
            return from_signed(self.network.render(codes.latents))


def fitting(card: Card, channels: int, stride: int, tokenizer: Tokenizer | None) -> KLTokenizer:
    """The tokenizer, if a generator of latents of this form can use it."""
    tokenizer = of_kind(card, tokenizer, KLTokenizer, "a KL tokenizer")
    theirs = (tokenizer.network.channels, tokenizer.network.factor)
    check_form(card, tokenizer, "channels and factor", theirs, (channels, stride))
    return tokenizer
