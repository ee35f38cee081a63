"""FAR (arXiv:2503.05305): each step draws all latents and keeps of them what a coarser grid can hold."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor

from arbench.errors import InputError
from arbench.protocols import (
    NO_PROBE,
    Card,
    Codes,
    Generated,
    Guidance,
    LoadSpec,
    Noise,
    Probe,
    Sampling,
    Tokenizer,
)
from arbench.seeds import Greedy

from ...layers.checkpoint import build_and_load, compile_passes, with_state
from ...layers.config import from_upstream
from ...layers.diffusion_head import embedded_times, sample_tokens
from ...layers.generator import RecordedGenerator
from ...layers.kl import KLTokenizer, fitting
from ...layers.masked import gathered, split_mask
from ...layers.sampling import check_silent, guided_steps
from ..mar.adapter import head_steps
from .network import TRAINING_ONLY, Config, Network, official_names

SIDES = (0, 2, 3, 4, 5, 6, 7, 8, 9, 10)
MASKED_SIDES = (0, 12, 12, 4, 5, 6, 7, 8, 9, 10, 11)
"""What the head is told in each iteration; the latents of an iteration are smoothed to the side of the next."""


def smoothed(latents: Tensor, side: int) -> Tensor:
    """Latents (B, C, h, w) without what a grid of `side` cannot hold."""
    small = F.interpolate(latents, size=(side, side), mode="area")
    return F.interpolate(small, size=latents.shape[-2:], mode="bicubic")


def generate(
    network: Network,
    labels: Tensor,
    sampling: Sampling,
    noise: Noise,
    *,
    order: Tensor | None = None,
    probe: Probe = NO_PROBE,
) -> tuple[Tensor, int, int]:
    """Latents (B, C, h, w) as the network has them (scaled), the iterations and the forward passes.

    With `mask` in the config an iteration reads the tokens at the places behind those still unknown in the `order`
    (B, L), which is drawn if not given; without, all. The guidance weight of iteration i of N is the schedule's at
    i / N.
    """
    config, batch = network.config, len(labels)
    sides = MASKED_SIDES if config.mask else SIDES
    count, total = len(sides), config.tokens
    guided = guided_steps(sampling.guidance, count)
    steps = head_steps(sampling)
    everywhere = torch.arange(total, device=labels.device).expand(batch, -1)
    with probe("condition"):
        condition, times = network.condition(labels, guided=guided > 0), embedded_times(network.head, steps)
        if not config.mask:
            order = everywhere
        elif order is None:
            order = noise.permutation("order", total)
    tokens = torch.zeros(batch, total, config.channels, device=labels.device)
    unknown = total if config.mask else 0
    for index, side in enumerate(sides):
        with probe("ar" if index else "prefill", index=index, tokens=total):
            passes = 2 if index < guided else 1
            positions = order[:, unknown:]
            states = network(
                condition[: passes * batch],
                gathered(tokens, positions).repeat(passes, 1, 1),
                positions.repeat(passes, 1),
                everywhere.repeat(passes, 1),
            )
            if config.mask:
                temperature = 0.85 + (sampling.temperature - 0.85) * index / count
            else:
                temperature = 0.8 + (1 - math.cos(math.pi / 2 * (index + 1) / count)) * 0.2
            with probe("inner", index=index, tokens=total):
                tokens = sample_tokens(
                    network.head,
                    steps,
                    network.head.embed(states, side),
                    noise,
                    f"iteration/{index}",
                    times=times,
                    weight=sampling.guidance.weight(index / count) if passes == 2 else None,
                    temperature=temperature,
                )
            if index < count - 1 and (index or not config.mask):
                tokens = network.patches(smoothed(network.grid(tokens), sides[index + 1]))
            if config.mask:
                unknown = math.floor(total * math.cos(math.pi / 2 * (index + 1) / count))
    return network.grid(tokens), count, count + guided


class FAR(RecordedGenerator):
    """`Generator`. Steps and temperatures are fixed upstream; a masked model honours the last temperature."""

    network: Network
    tokenizer: KLTokenizer

    @classmethod
    def load(cls, card: Card, spec: LoadSpec, tokenizer: Tokenizer | None) -> Self:
        config = from_upstream(Config, card.config, TRAINING_ONLY)
        tokenizer = fitting(card, config.vae_embed_dim, config.vae_stride, tokenizer)
        network = build_and_load(lambda: Network(config), card, spec, names=official_names)
        compile_passes(spec, network, dynamic=config.mask)
        compile_passes(spec, network.head.reverse, dynamic=True)  # steps have numbers of their own
        return cls(card, network, tokenizer, spec)

    def check(self, sampling: Sampling) -> None:
        super().check(sampling)
        head_steps(sampling)

    def prepare(self, batch: int, sampling: Sampling) -> None:
        self.check(sampling)
        self.network.head.times(head_steps(sampling))
        super().prepare(batch, sampling)

    def draw(self, noise: Noise, sampling: Sampling, probe: Probe, labels: Tensor) -> Generated:
        latents, count, forwards = generate(self.network, labels, sampling, noise, probe=probe)
        codes = Codes(latents=latents / self.tokenizer.latent_scale)
        return Generated(codes=codes, outer_steps=count, forwards=forwards)


def upstream_sampling(settings: Mapping[str, Any]) -> Sampling:
    """Canonical sampling from upstream's arguments; its `num_iter` and `cfg_schedule` are ignored there."""
    scale = settings.get("cfg_scale", 1.0)
    return Sampling(
        guidance=Guidance(scale=scale, schedule="linear"),
        temperature=settings.get("temperature", 1.0),
        inner_steps=int(settings.get("diffusion_steps", settings.get("num_sampling_steps", 100))),
    )


SETTINGS = frozenset({"noise", "greedy", "num_iter", "cfg_scale", "cfg_schedule", "temperature", "diffusion_steps"}) | {
    "num_sampling_steps"
}


def replay(
    config: Mapping[str, Any],
    state: dict[str, Tensor],
    tokenizer: tuple[Mapping[str, Any], dict[str, Tensor]] | None = None,
) -> Callable[[str, Mapping[str, Any], Mapping[str, Tensor]], dict[str, Tensor]]:
    """A function that repeats a recorded probe (name, settings, inputs) with the network of a recording."""
    ours = from_upstream(Config, config, TRAINING_ONLY)
    network = with_state(lambda: Network(ours), state, card_name="FAR's FAR", names=official_names)

    @torch.inference_mode()
    def call(probe: str, settings: Mapping[str, Any], inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        if probe == "hidden":
            latents = inputs["latents"]
            everywhere = torch.arange(ours.tokens).expand(len(latents), -1)
            positions = split_mask(inputs["mask"]) if ours.mask else everywhere
            condition = network.condition(inputs["class_ids"], guided=False)
            return {"hidden": network(condition, gathered(latents, positions), positions, everywhere)}
        if probe == "denoise":
            condition = network.head.embed(inputs["hidden"], settings["index"]) + network.head.time(inputs["timesteps"])
            return {"prediction": network.head.denoise(inputs["noisy"], condition)}
        if probe == "generate":
            check_silent(settings, SETTINGS)
            labels, sampling = inputs["class_ids"], upstream_sampling({**config, **settings})
            return {"latents": generate(network, labels, sampling, Greedy(len(labels)), order=inputs.get("order"))[0]}
        raise InputError(f"no probe {probe!r} for a FAR generator", "known: hidden, denoise, generate", "")

    return call
