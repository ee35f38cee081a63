"""BitDance (arXiv:2602.14041): binary tokens, each group drawn together by a diffusion head and signed."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Self

import torch
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

from ...layers.attention import KVCache
from ...layers.checkpoint import build_and_load, compile_passes, device_of, with_state
from ...layers.config import from_upstream
from ...layers.diffusion_head import step_noise
from ...layers.flow_blocks import even, filled
from ...layers.generator import CachedGenerator, check_form, of_kind
from ...layers.sampling import check_silent, guided_steps, mix_guidance
from ...tokenizers.bitdance.adapter import BitDanceTokenizer
from ...tokenizers.bitdance.adapter import restored as restored_tokenizer
from .network import IGNORED, TRAINING_ONLY, Config, Head, Network, official_names

STEPS = 100
"""What sampling takes when not told."""
LAST = 0.05
"""Length of the last step, and the least that is divided by."""


def shifted(time: float, shift: float) -> float:
    return 0.0 if time == 0 else (1 / shift) / (1 / shift + 1 / time - 1)


@dataclass(frozen=True, slots=True)
class Times:
    """The times of a call's steps and at last that of the step without noise, and what the head makes of them."""

    points: tuple[float, ...]
    embedded: Tensor

    @classmethod
    def of(cls, head: Head, steps: int, shift: float) -> Self:
        """The last step takes the time to be 0.95 whatever the `shift`."""
        points = tuple(shifted(time, shift) for time in even(0.0, 1 - LAST, steps + 1))
        given = filled((*points[:-1], 1 - LAST), head.token_in.weight.device)
        return cls(points, head.time(1000 * given))


def draw_group(head: Head, states: Tensor, noise: Noise, stream: str, times: Times, weight: float | None) -> Tensor:
    """Tokens (B, n, C) before they are signed, from states (B, n, dim), by Euler-Maruyama; the last step has no noise.

    With a guidance `weight` the states are a doubled batch (2B, n, dim), the conditional half first.
    """
    shape = (states.shape[1], head.token_in.in_features)
    now = noise.normal(f"{stream}/start", shape)
    added = step_noise(noise, stream, len(times.points) - 1, shape)
    states = head.state_in(states)

    def velocity(index: int, time: float) -> Tensor:
        noisy = now if weight is None else torch.cat((now, now))
        clean = head.clean(noisy, times.embedded[index].unsqueeze(0), states).float()
        speed = (clean - noisy) / max(1 - time, LAST)
        return speed if weight is None else mix_guidance(speed, weight)

    for index, (time, after) in enumerate(pairwise(times.points)):
        drift = (1 + time) * velocity(index, time) - now
        now = now + (after - time) * drift + math.sqrt(2 * (1 - time) * (after - time)) * next(added)
    return now + LAST * velocity(-1, 1 - LAST)


def generate(
    network: Network,
    labels: Tensor,
    sampling: Sampling,
    noise: Noise,
    *,
    caches: Sequence[KVCache] | None = None,
    probe: Probe = NO_PROBE,
) -> tuple[Tensor, int, int]:
    """Bits (B, C, h, w), 1 or -1, the passes and the passes counting both halves.

    The guidance weight of pass i of n is the schedule's at i / n. Where it is 1 both halves of the doubled batch draw
    tokens of their own, and the unconditional half goes on from its own.
    """
    config, batch = network.config, len(labels)
    count, group = config.tokens // config.group, config.group
    guided = guided_steps(sampling.guidance, count)
    if caches is None or caches[0].rows < batch * (2 if guided else 1):
        caches = network.allocate(batch * (2 if guided else 1))
    with probe("condition"):
        x = network.condition(labels, guided=guided > 0)
        mask: Tensor | None = network.sight(x.shape[1], x.device)
        times = Times.of(network.head, sampling.inner_steps or STEPS, config.time_shift)
    start, groups, free = 0, [], torch.empty(0)
    for index in range(count):
        with probe("ar" if index else "prefill", index=index, tokens=group):
            copies = 2 if index < guided else 1
            if index:
                fed = torch.cat((groups[-1], free)) if copies == 2 else groups[-1]
                x, mask = network.token_in(fed.to(x.dtype)), None
            states = network(x, mask, start, caches)[:, -group:]
            start += x.shape[1]
            states = states + network.state_position.weight[index * group : (index + 1) * group]
            weight = sampling.guidance.weight(index / count)
            with probe("inner", index=index, tokens=group):
                on = weight if copies == 2 and weight != 1 else None
                given = states if on is not None else states[:batch]
                drawn = draw_group(network.head, given, noise, f"group/{index}", times, on).sign()
                free = drawn
                if copies == 2 and on is None:
                    stream = f"group/{index}/free"
                    free = draw_group(network.head, states[batch:], noise, stream, times, None).sign()
            groups.append(drawn)
    return network.grid(torch.cat(groups, dim=1)), count, count + guided


class BitDance(CachedGenerator):
    """`Generator`. `inner_steps` are those of the head, whose last step comes on top."""

    network: Network
    tokenizer: BitDanceTokenizer

    @classmethod
    def load(cls, card: Card, spec: LoadSpec, tokenizer: Tokenizer | None) -> Self:
        config = from_upstream(Config, card.config, TRAINING_ONLY)
        tokenizer = of_kind(card, tokenizer, BitDanceTokenizer, "BitDance's tokenizer")
        theirs = (tokenizer.network.config.z_channels, tokenizer.network.factor)
        check_form(card, tokenizer, "bits and factor", theirs, (config.latent_dim, config.down_size))
        names = official_names(config)
        network = build_and_load(lambda: Network(config), card, spec, names=names, ignored=IGNORED)
        network.place(device_of(spec), getattr(torch, spec.dtype))
        compile_passes(spec, network, network.head, dynamic=True)
        return cls(card, network, tokenizer, spec)

    def draw(self, noise: Noise, sampling: Sampling, probe: Probe, labels: Tensor) -> Generated:
        caches = self.caches(len(labels), sampling)
        bits, count, forwards = generate(self.network, labels, sampling, noise, caches=caches, probe=probe)
        ids = self.tokenizer.network.ids(bits).flatten(1)
        return Generated(codes=Codes(ids=(ids,)), outer_steps=count, forwards=forwards)


def upstream_sampling(settings: Mapping[str, Any]) -> Sampling:
    """Canonical sampling from the arguments of upstream's `sample`: off for scales up to 1."""
    scale = settings.get("cfg_scale", 1.0)
    schedule = settings.get("cfg_schedule", "linear")
    return Sampling(
        guidance=Guidance(scale=scale, schedule=schedule) if scale > 1 else Guidance(),
        inner_steps=settings["sample_steps"],
    )


SETTINGS = frozenset({"noise", "greedy", "sample_steps", "cfg_scale", "cfg_schedule", "chunk_size", "cfg"})


def replay(
    config: Mapping[str, Any],
    state: dict[str, Tensor],
    tokenizer: tuple[Mapping[str, Any], dict[str, Tensor]] | None = None,
) -> Callable[[str, Mapping[str, Any], Mapping[str, Tensor]], dict[str, Tensor]]:
    """A function that repeats a recorded probe (name, settings, inputs) with the networks of a recording."""
    ours = from_upstream(Config, config, TRAINING_ONLY)
    network = with_state(
        lambda: Network(ours), state, card_name="BitDance's BitDance", names=official_names(ours), ignored=IGNORED
    )
    vae = restored_tokenizer(*tokenizer) if tokenizer else None

    def flow(settings: Mapping[str, Any], inputs: Mapping[str, Tensor]) -> Tensor:
        states, weight = grouped(inputs["cond"]), settings.get("cfg", 1.0)
        if weight > 1:
            states = torch.cat((states, grouped(inputs["uncond"])))
        noise = Greedy(len(inputs["cond"]))
        on = weight if weight > 1 else None
        times = Times.of(network.head, settings["sample_steps"], ours.time_shift)
        made = draw_group(network.head, states, noise, "group", times, on)
        return made.reshape(*inputs["cond"].shape[:-1], -1)

    @torch.inference_mode()
    def call(probe: str, settings: Mapping[str, Any], inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        if probe == "hidden":
            return {"hidden": network.states(inputs["class_ids"], network.in_order(inputs["latents"]))}
        if probe == "denoise":
            noisy = inputs["noisy"]
            made = network.head(grouped(noisy), inputs["timesteps"], grouped(inputs["hidden"]))
            return {"prediction": made.reshape(noisy.shape)}
        if probe == "flow_sample":
            return {"latents": flow(settings, inputs)}
        if probe == "generate":
            check_silent(settings, SETTINGS)
            labels = inputs["class_ids"]
            bits, _, _ = generate(network, labels, upstream_sampling(settings), Greedy(len(labels)))
            return {"latents": bits} | ({"images": vae.render(bits)} if vae else {})
        raise InputError(
            f"no probe {probe!r} for a BitDance generator", "known: hidden, denoise, flow_sample, generate", ""
        )

    return call


def grouped(x: Tensor) -> Tensor:
    """(B, n, C), of rows (B, C) groups of one."""
    return x.unsqueeze(1) if x.ndim == 2 else x
