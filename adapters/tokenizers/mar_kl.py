"""The KL autoencoder of MAR: one grid of continuous latents (Li et al., NeurIPS 2024, arXiv:2406.11838).

Its form is that of latent diffusion (Rombach et al., CVPR 2022), 16x down with 16 channels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor, nn

from arbench.errors import InputError
from arbench.protocols import NO_PROBE, Card, Codes, LoadSpec, Noise, Probe

from ..layers.autoencoder import Decoder, Encoder, compvis_names
from ..layers.checkpoint import OfficialNames, bring_up, compile_blocks, with_state
from ..layers.config import from_upstream
from ..layers.tokenizer import NetworkTokenizer, check_multiple, from_signed, to_signed

LATENT_SCALE = 0.2325
"""Generators work on latents times this number, about one over their standard deviation."""

IGNORED = (r"loss\..*",)
"""Official keys of the discriminator and the perceptual network that trained it."""

TRAINING_ONLY = ("class", "ckpt_path", "dropout")
"""Official hyper-parameters without effect on a trained network."""

LOG_VARIANCE = (-30.0, 20.0)
"""Log variances of the posterior are clamped to this range."""


@dataclass(frozen=True, slots=True)
class KLConfig:
    """Upstream's `AutoencoderKL`, with its defaults. `resolution` only decides where the encoder has attention."""

    embed_dim: int = 16
    ch_mult: tuple[int, ...] = (1, 1, 2, 2, 4)
    use_variational: bool = True
    ch: int = 128
    num_res_blocks: int = 2
    resolution: int = 256
    attn_resolutions: tuple[int, ...] = (16,)


def official_names(config: Mapping[str, Any]) -> OfficialNames:
    """One of our parameter names -> the official keys, for a network of this `config`."""
    return compvis_names(len(from_upstream(KLConfig, config, TRAINING_ONLY).ch_mult))


class KLNetwork(nn.Module):
    """Encoder to a diagonal Gaussian, and decoder; images in [-1, 1], the output not clamped."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        c = from_upstream(KLConfig, config, TRAINING_ONLY)
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


class MARKL(NetworkTokenizer):
    """`Tokenizer` of MAR and its relatives. `Codes.latents` (B, C, h, w) are not scaled by `latent_scale`.

    Images of any size divisible by the factor are taken.
    """

    network: KLNetwork
    latent_scale = LATENT_SCALE

    @classmethod
    def load(cls, card: Card, spec: LoadSpec) -> Self:
        names = official_names(card.config)
        network = bring_up(lambda: KLNetwork(card.config), card, spec, names=names, ignored=IGNORED)
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


def restored(config: Mapping[str, Any], state: dict[str, Tensor]) -> KLNetwork:
    """The network of a recording."""
    names = official_names(config)
    return with_state(lambda: KLNetwork(config), state, card_name="MAR's AutoencoderKL", names=names, ignored=IGNORED)


def replay(
    config: Mapping[str, Any],
    state: dict[str, Tensor],
    tokenizer: tuple[Mapping[str, Any], dict[str, Tensor]] | None = None,
) -> Callable[[str, Mapping[str, Any], Mapping[str, Tensor]], dict[str, Tensor]]:
    """A function that repeats a recorded probe (name, settings, inputs) with the network of a recording."""
    network = restored(config, state)

    @torch.inference_mode()
    def call(probe: str, settings: Mapping[str, Any], inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        if probe == "encode_moments":
            mean, deviation = network.moments(inputs["images"])
            return {"mean": mean, "std": deviation}
        if probe == "decode_latents":
            return {"images": network.render(inputs["latents"])}
        raise InputError(f"no probe {probe!r} for a KL autoencoder", "known: encode_moments, decode_latents", "")

    return call
