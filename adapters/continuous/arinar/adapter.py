"""ARINAR (arXiv:2503.02883): tokens in random order as MAR's, the numbers of a token one after the other."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Self

import torch
from torch import Tensor

from arbench.errors import InputError, Unsupported
from arbench.protocols import (
    Card,
    Codes,
    Generated,
    LoadSpec,
    Noise,
    Probe,
    Sampling,
    Tokenizer,
)
from arbench.seeds import Greedy

from ...layers.checkpoint import build_and_load, compile_blocks, with_state
from ...layers.config import from_upstream
from ...layers.generator import RecordedGenerator
from ...layers.kl import KLTokenizer, fitting
from ...layers.masked import gathered, split_mask
from ...layers.sampling import check_silent
from ..mar.adapter import SETTINGS, Drawing, generate, upstream_sampling
from .network import IGNORED, TRAINING_ONLY, Config, Mixture, Network, official_names

CANDIDATES = 1000
"""Numbers that are drawn under guidance, of which one is chosen."""


def scheduled(schedule: str, value: float, share: float) -> float:
    """A temperature or weight for the group that ends at this share of a token."""
    if schedule == "linear":
        return value + (value - 1) * share * 0.5
    if schedule == "cosine":
        return 1 + 0.5 * (value - 1) * (1 + math.cos(math.pi * share))
    return value


def drawn_from(mixture: Mixture, count: int, temperature: float, noise: Noise, stream: str, rows: int) -> Tensor:
    """(N, count, F) draws from each of N = B * n mixtures (N, 1, ...); `rows` is B."""
    weight = mixture.weight.expand(-1, count, -1).reshape(rows, -1, mixture.weight.shape[-1])
    chosen = noise.categorical(weight, f"{stream}/component").reshape(-1, count, 1, 1)  # (N, count, 1, 1)
    chosen = chosen.expand(-1, -1, 1, mixture.mean.shape[-1])
    mean, logvar = (
        each.expand(-1, count, -1, -1).gather(2, chosen)[:, :, 0] for each in (mixture.mean, mixture.logvar)
    )
    spread = noise.normal(f"{stream}/spread", (mean.numel() // rows,)).reshape(mean.shape)
    return mean + temperature * (0.5 * logvar).exp() * spread


def number_by_number(network: Network, sampling: Sampling, noise: Noise) -> Drawing:
    """Tokens are drawn by the inner transformer, under guidance by choosing among draws without it."""
    head, config = network.head, network.config

    def draw(states: Tensor, iteration: int, weight: float | None) -> Tensor:
        rows, flat = noise.batch, states.flatten(0, 1)
        caches, x, modulations = head.allocate(len(flat)), head.start(flat), head.modulate(flat)
        groups: list[Tensor] = []
        for group in range(config.groups):
            stream, share = f"token/{iteration}/{group}", (group + 1) / config.groups
            temperature = scheduled(config.bilevel_schedule, sampling.temperature, share)
            mixture = head(x, modulations, group, caches)
            if weight is None:
                made = drawn_from(mixture, 1, temperature, noise, stream, rows)
            else:
                strength = scheduled(config.bilevel_schedule, weight, share)
                made = guided(mixture, strength, temperature, noise, stream, rows)
            groups.append(made)
            both = made if weight is None else torch.cat((made, made))
            x = head.token_in(both.to(states.dtype))
        return torch.cat(groups, dim=-1).reshape(rows, states.shape[1], -1)

    return draw


def guided(mixture: Mixture, weight: float, temperature: float, noise: Noise, stream: str, rows: int) -> Tensor:
    """(N, 1, F): one of many draws of the conditional half, by how much likelier that half finds it."""
    halves = [
        Mixture(*parts)
        for parts in zip(*(each.chunk(2) for each in (mixture.weight, mixture.mean, mixture.logvar)), strict=True)
    ]
    candidates = drawn_from(halves[0], CANDIDATES, temperature, noise, stream, rows)
    likelier = halves[0].log_likelihood(candidates) - halves[1].log_likelihood(candidates)
    choice = ((weight - 1) * likelier).softmax(-1).reshape(rows, -1, CANDIDATES)
    picked = noise.categorical(choice, f"{stream}/choice").reshape(-1, 1, 1)
    return candidates.gather(1, picked.expand(-1, -1, candidates.shape[-1]))


class ARINAR(RecordedGenerator):
    """`Generator`. Guidance chooses among draws; its weight starts at 1 and grows with the tokens known."""

    network: Network
    tokenizer: KLTokenizer

    @classmethod
    def load(cls, card: Card, spec: LoadSpec, tokenizer: Tokenizer | None) -> Self:
        config = from_upstream(Config, card.config, TRAINING_ONLY)
        tokenizer = fitting(card, config.vae_embed_dim, config.vae_stride, tokenizer)
        network = build_and_load(lambda: Network(config), card, spec, names=official_names, ignored=IGNORED)
        compile_blocks(spec, (*network.encoder, *network.decoder, *network.head.blocks), dynamic=True)
        return cls(card, network, tokenizer, spec)

    def check(self, sampling: Sampling) -> None:
        super().check(sampling)
        if sampling.guidance.on and self.network.config.feature_group > 1:
            raise Unsupported(
                f"{self.card.name} cannot be guided", "upstream's choice is made for single numbers", "guidance: off"
            )

    def draw(self, noise: Noise, sampling: Sampling, probe: Probe, labels: Tensor) -> Generated:
        drawing = number_by_number(self.network, sampling, noise)
        latents, taken, forwards = generate(self.network, labels, sampling, noise, drawing=drawing, probe=probe)
        codes = Codes(latents=latents / self.tokenizer.latent_scale)
        return Generated(codes=codes, outer_steps=taken, forwards=forwards)


def replay(
    config: Mapping[str, Any],
    state: dict[str, Tensor],
    tokenizer: tuple[Mapping[str, Any], dict[str, Tensor]] | None = None,
) -> Callable[[str, Mapping[str, Any], Mapping[str, Tensor]], dict[str, Tensor]]:
    """A function that repeats a recorded probe (name, settings, inputs) with the network of a recording."""
    ours = from_upstream(Config, config, TRAINING_ONLY)
    network = with_state(lambda: Network(ours), state, card_name="ARINAR's MAR", names=official_names, ignored=IGNORED)

    def mixture(states: Tensor, features: Tensor) -> dict[str, Tensor]:
        head, groups = network.head, features.unflatten(-1, (ours.groups, ours.feature_group))
        x = torch.cat((head.start(states), head.token_in(groups[:, :-1])), dim=1)
        made = head(x, head.modulate(states))
        likely = made.log_likelihood(groups, math.log(2 * math.pi))
        return {"weight": made.weight, "mean": made.mean, "logvar": made.logvar, "log_likelihood": likely}

    @torch.inference_mode()
    def call(probe: str, settings: Mapping[str, Any], inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        if probe == "hidden":
            latents, positions = inputs["latents"], split_mask(inputs["mask"])
            everywhere = torch.arange(ours.tokens).expand(len(latents), -1)
            condition = network.condition(inputs["class_ids"], guided=False)
            return {"hidden": network(condition, gathered(latents, positions), positions, everywhere)}
        if probe == "mixture":
            return mixture(inputs["hidden"], inputs["features"])
        if probe == "generate":
            check_silent(settings, SETTINGS)
            labels, sampling = inputs["class_ids"], upstream_sampling(settings)
            noise = Greedy(len(labels))
            drawing = number_by_number(network, sampling, noise)
            return {"latents": generate(network, labels, sampling, noise, drawing=drawing, order=inputs["order"])[0]}
        raise InputError(f"no probe {probe!r} for an ARINAR generator", "known: hidden, mixture, generate", "")

    return call
