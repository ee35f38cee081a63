"""FlowAR (arXiv:2412.15205): latents scale by scale, the tokens of a scale drawn together by flow matching."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
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

from ...layers.attention import KVCache
from ...layers.checkpoint import build_and_load, compile_passes, with_state
from ...layers.config import from_upstream
from ...layers.flow_blocks import annealed, even, truncated
from ...layers.generator import CachedGenerator
from ...layers.kl import KLTokenizer, fitting
from ...layers.sampling import check_silent, guided_steps, mix_guidance
from .network import BETWEEN, IGNORED, TRAINING_ONLY, Config, FlowNet, Network, official_names

STEPS, BELOW = 25, 0.9
"""What sampling takes when not told."""


def time_grid(steps: int) -> list[float]:
    """Times from 1, noise, to 0: coarse to 0.3, fine from 0.25, so that odd numbers lose a step; 50 are even."""
    if steps == 50:
        return even(1.0, 0.0, 51)
    return even(1.0, 0.3, steps // 2) + even(0.25, 0.0, steps // 2 + 1)


def flow_tokens(flow: FlowNet, x: Tensor, states: Tensor, steps: int, weight: float | None, below: float) -> Tensor:
    """Tokens (B, n, C) from noise `x` by Euler's method, which is kept in float64.

    With a guidance `weight` the states are a doubled batch (2B, n, Z), the conditional half first; it acts at times up
    to `below`, and before that the conditional half goes alone.
    """
    batch, now = len(x), x.double()
    times = time_grid(steps)
    for time, after in pairwise(times):
        noisy, at = now.to(states.dtype), truncated(time, x.device)
        if weight is not None and time <= below:
            velocity = mix_guidance(flow(torch.cat((noisy, noisy)), at, states).double(), weight)
        else:
            velocity = flow(noisy, at, states[:batch]).double()
        now = now + (after - time) * velocity
    return now.float()


def generate(
    network: Network,
    labels: Tensor,
    sampling: Sampling,
    noise: Noise,
    steps: Sequence[int],
    below: float,
    *,
    caches: Sequence[KVCache] | None = None,
    probe: Probe = NO_PROBE,
) -> tuple[Tensor, int]:
    """Latents (B, C, h, w) as the network has them (scaled), and the forward passes of the transformer.

    `steps` are the flow's for each scale. The guidance weight of scale k of K is the schedule's at k / (K - 1).
    """
    config, batch = network.config, len(labels)
    sides = config.scale
    guided = guided_steps(sampling.guidance, len(sides))
    if guided:
        labels = torch.cat((labels, torch.full_like(labels, config.classes)))
    if caches is None or caches[0].rows < len(labels):
        caches = network.allocate(len(labels))
    with probe("condition"):
        condition = network.class_table(labels)
        modulations = network.modulate(condition)
    latents = torch.empty(0)
    for scale, side in enumerate(sides):
        with probe("ar" if scale else "prefill", index=scale, tokens=side * side):
            rows = 2 * batch if scale < guided else batch
            x = condition.unsqueeze(1)
            if scale:
                x = network.fed(latents, side, between=(BETWEEN, BETWEEN)).repeat(rows // batch, 1, 1)
            states = network(x, [each[:rows] for each in modulations], scale, caches)
            weight = sampling.guidance.weight(scale / max(len(sides) - 1, 1)) if scale < guided else 1.0
            with probe("inner", index=scale, tokens=side * side):
                start = noise.normal(f"scale/{scale}", (side * side, config.vae_embed_dim))
                on = weight if weight != 1 else None
                tokens = flow_tokens(network.flow, start, states, steps[scale], on, below)
            latents = tokens.mT.unflatten(-1, (side, side))
    return latents, len(sides) + guided


class FlowAR(CachedGenerator):
    """`Generator`. `inner_steps` are those of the flow at each scale."""

    network: Network
    tokenizer: KLTokenizer

    @classmethod
    def load(cls, card: Card, spec: LoadSpec, tokenizer: Tokenizer | None) -> Self:
        config = from_upstream(Config, card.config, TRAINING_ONLY)
        tokenizer = fitting(card, config.vae_embed_dim, config.vae_stride, tokenizer)
        network = build_and_load(lambda: Network(config), card, spec, names=official_names, ignored=IGNORED)
        compile_passes(spec, network.through, network.flow.velocity, dynamic=True)
        return cls(card, network, tokenizer, spec)

    def draw(self, noise: Noise, sampling: Sampling, probe: Probe, labels: Tensor) -> Generated:
        first = sampling.inner_steps or STEPS
        last = sampling.extra.get("last_inner_steps", first)
        below = sampling.extra.get("guided_below", self.card.native.extra.get("guided_below", BELOW))
        scales = len(self.network.config.scale)
        caches = self.caches(len(labels), sampling)
        latents, forwards = generate(
            self.network, labels, sampling, noise, annealed(first, last, scales), below, caches=caches, probe=probe
        )
        codes = Codes(latents=latents / self.tokenizer.latent_scale)
        return Generated(codes=codes, outer_steps=scales, forwards=forwards)


SETTINGS = frozenset({"noise", "greedy", "flow_upper_steps", "flow_lower_steps", "num_step", "guidance", "cfg_scale"})


def replay(
    config: Mapping[str, Any],
    state: dict[str, Tensor],
    tokenizer: tuple[Mapping[str, Any], dict[str, Tensor]] | None = None,
) -> Callable[[str, Mapping[str, Any], Mapping[str, Tensor]], dict[str, Tensor]]:
    """A function that repeats a recorded probe (name, settings, inputs) with the network of a recording."""
    ours = from_upstream(Config, config, TRAINING_ONLY)
    network = with_state(
        lambda: Network(ours), state, card_name="FlowAR's FlowAR", names=official_names, ignored=IGNORED
    )

    def hidden(labels: Tensor, latents: Tensor) -> Tensor:
        condition, caches = network.class_table(labels), network.allocate(len(labels))
        modulations, parts = network.modulate(condition), []
        for scale, side in enumerate(ours.scale):
            x = condition.unsqueeze(1)
            if scale:
                before = ours.scale[scale - 1]
                small = F.interpolate(latents, size=(before, before), mode="area")
                x = network.fed(small, side, between=(latents.shape[-2], latents.shape[-1]))
            parts.append(network(x, modulations, scale, caches))
        return torch.cat(parts, dim=1)

    @torch.inference_mode()
    def call(probe: str, settings: Mapping[str, Any], inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        if probe == "hidden":
            return {"hidden": hidden(inputs["class_ids"], inputs["latents"])}
        if probe == "denoise":
            times = (inputs["timesteps"].float() * 1000).long()
            return {"prediction": network.flow(inputs["noisy"], times, inputs["hidden"])}
        if probe == "generate":
            check_silent(settings, SETTINGS)
            labels, scale = inputs["class_ids"], settings.get("cfg_scale", 1.0)
            first = settings.get("flow_upper_steps", settings.get("num_step", 50))
            steps = annealed(first, settings.get("flow_lower_steps", 15), len(ours.scale))
            sampling = Sampling(guidance=Guidance(scale=scale, schedule="linear") if scale > 1 else Guidance())
            below = settings.get("guidance", 0.9)
            return {"latents": generate(network, labels, sampling, Greedy(len(labels)), steps, below)[0]}
        raise InputError(f"no probe {probe!r} for a FlowAR generator", "known: hidden, denoise, generate", "")

    return call
