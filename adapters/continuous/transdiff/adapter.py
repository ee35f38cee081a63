"""TransDiff (arXiv:2506.09482): features of a class in one pass, decoded by a flow; or four times in turn."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
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
from ...layers.diffusion_head import step_noise
from ...layers.flow_blocks import even, filled
from ...layers.generator import CachedGenerator
from ...layers.kl import KLTokenizer, fitting
from ...layers.sampling import check_silent, guided_steps, mix_guidance
from .network import ROUND, TRAINING_ONLY, Config, Network, official_names

STEPS = 100
"""What sampling takes when not told."""
LAST = 0.04
"""Time of the last step, which goes to 0 without noise."""


def generate(
    network: Network,
    labels: Tensor,
    weights: Sequence[float],
    noise: Noise,
    steps: int,
    scales: tuple[float, float],
    *,
    caches: Sequence[KVCache] | None = None,
    probe: Probe = NO_PROBE,
) -> tuple[Tensor, int]:
    """Latents (B, C, h, w) as the network has them (scaled), and the passes of the transformer, guided ones twice.

    `weights` are those of guidance for each image in turn, one if there is one; `scales` multiply the drift of all
    steps but the last, and their noise. All images of a sample start from the same noise.
    """
    config, batch = network.config, len(labels)
    on = any(weight != 1 for weight in weights)
    with probe("condition"):
        condition = network.condition(labels, guided=on)
        if config.mrar and caches is None:
            caches = network.allocate(len(condition))
        shape = (config.side**2, config.channels)
        first = noise.normal("start", shape)
        times = [*even(1.0, LAST, steps), 0.0]
        steered = network.decoder.modulations(filled([1000 * time for time in times[:-1]], first.device))
    features, latents = torch.empty(0), torch.empty(0)
    for index, weight in enumerate(weights):
        with probe("ar" if index else "prefill", index=index, tokens=ROUND if config.mrar else config.side**2):
            earlier = None
            if index:
                earlier = network.patches(latents).to(features.dtype).repeat(len(condition) // batch, 1, 1)
            more = network(condition, earlier, index, caches if config.mrar else None)
            features = torch.cat((features, more), dim=1) if index else more
            rows = 2 * batch if weight != 1 else batch
            with probe("inner", index=index, tokens=config.side**2):
                now, added = first, step_noise(noise, f"image/{index}", steps - 1, shape)
                read = network.decoder.read(features[:rows])
                for step, (time, after) in enumerate(pairwise(times)):
                    noisy = now.to(features.dtype).repeat(rows // batch, 1, 1)
                    embedded, modulation = (each[step : step + 1] for each in steered)
                    velocity = network.decoder.velocity(noisy, embedded, modulation, read).float()
                    if rows > batch:
                        velocity = mix_guidance(velocity, weight)
                    drift = (2 - time) * velocity + now  # velocity less time times the score
                    if after:
                        spread = scales[1] * math.sqrt(2 * time * (time - after))
                        now = now + scales[0] * (after - time) * drift + spread * next(added)
                    else:
                        now = now + (after - time) * drift
            latents = network.grid(now)
    return latents, len(weights) * (2 if on else 1)


class TransDiff(CachedGenerator):
    """`Generator`. `inner_steps` are those of the flow."""

    network: Network
    tokenizer: KLTokenizer

    @classmethod
    def load(cls, card: Card, spec: LoadSpec, tokenizer: Tokenizer | None) -> Self:
        config = from_upstream(Config, card.config, TRAINING_ONLY)
        tokenizer = fitting(card, config.vae_embed_dim, card.resolution // config.side, tokenizer)
        network = build_and_load(lambda: Network(config), card, spec, names=official_names)
        compile_passes(spec, network, network.decoder)
        return cls(card, network, tokenizer, spec)

    def draw(self, noise: Noise, sampling: Sampling, probe: Probe, labels: Tensor) -> Generated:
        config = self.network.config
        scales = tuple(
            sampling.extra.get(name, self.card.native.extra.get(name, 1.0)) for name in ("drift_scale", "noise_scale")
        )
        guided = guided_steps(sampling.guidance, config.rounds)
        weights = [sampling.guidance.scale if index < guided else 1.0 for index in range(config.rounds)]
        caches = self.caches(len(labels), sampling) if config.mrar else None
        latents, forwards = generate(
            self.network,
            labels,
            weights,
            noise,
            sampling.inner_steps or STEPS,
            (scales[0], scales[1]),
            caches=caches,
            probe=probe,
        )
        codes = Codes(latents=latents / self.tokenizer.latent_scale)
        return Generated(codes=codes, outer_steps=config.rounds, forwards=forwards)


SETTINGS = frozenset({"noise", "greedy", "num_sampling_steps", "cfg_scale", "scale_0", "scale_1", "sampler"})


def replay(
    config: Mapping[str, Any],
    state: dict[str, Tensor],
    tokenizer: tuple[Mapping[str, Any], dict[str, Tensor]] | None = None,
) -> Callable[[str, Mapping[str, Any], Mapping[str, Tensor]], dict[str, Tensor]]:
    """A function that repeats a recorded probe (name, settings, inputs) with the network of a recording."""
    mrar = "mrar" in config.get("class", "")
    ours = from_upstream(Config, {**config, "mrar": mrar}, TRAINING_ONLY)
    network = with_state(lambda: Network(ours), state, card_name="TransDiff's Transdiff", names=official_names)

    def hidden(labels: Tensor, latents: Tensor | None) -> Tensor:
        condition = network.condition(labels, guided=False)
        if latents is None or not mrar:
            return network(condition)
        caches = network.allocate(len(labels))
        parts = [network(condition, caches=caches)]
        for done, earlier in enumerate(latents.split(ROUND, dim=1)[1:], start=1):
            parts.append(network(condition, earlier, done, caches))
        return torch.cat(parts, dim=1)

    @torch.inference_mode()
    def call(probe: str, settings: Mapping[str, Any], inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        if probe == "hidden":
            return {"hidden": hidden(inputs["class_ids"], inputs.get("latents"))}
        if probe == "denoise":
            return {"prediction": network.decoder(inputs["noisy"], inputs["timesteps"], inputs["hidden"])}
        if probe == "generate":
            check_silent(settings, SETTINGS)
            labels, scale = inputs["class_ids"], settings.get("cfg_scale", 1.0)
            weights = list(scale) if isinstance(scale, list | tuple) else [scale] * ours.rounds
            scales = settings.get("scale_0", 1.0), settings.get("scale_1", 1.0)
            steps = settings.get("num_sampling_steps", STEPS)
            return {"latents": generate(network, labels, weights, Greedy(len(labels)), steps, scales)[0]}
        raise InputError(f"no probe {probe!r} for a TransDiff generator", "known: hidden, denoise, generate", "")

    return call
