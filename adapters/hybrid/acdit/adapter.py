"""ACDiT (arXiv:2412.07720): blocks of latents in turn, the tokens of a block drawn together by a diffusion solver."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
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
from ...layers.checkpoint import build_and_load, compile_blocks, with_state
from ...layers.config import from_upstream
from ...layers.generator import CachedGenerator
from ...layers.kl import KLTokenizer, fitting
from ...layers.sampling import check_silent, guided_steps, mix_guidance
from .network import TRAINING_ONLY, Config, Network, official_names
from .solver import advanced, solver_steps

STEPS = 25
"""What sampling takes when not told."""


def generate(
    network: Network,
    labels: Tensor,
    sampling: Sampling,
    noise: Noise,
    *,
    caches: Sequence[KVCache] | None = None,
    probe: Probe = NO_PROBE,
) -> tuple[Tensor, int]:
    """Tokens (B, L, C) block by block, and the blocks counted twice where they are guided.

    The first step of a block reads the block before it once more, clean, and keeps it in the caches.
    """
    config, batch = network.config, len(labels)
    guided = guided_steps(sampling.guidance, config.ar_len)
    steps = solver_steps(sampling.inner_steps or STEPS)
    if guided:
        labels = torch.cat((labels, torch.full_like(labels, config.num_classes)))
    if caches is None or caches[0].rows < len(labels):
        caches = network.allocate(len(labels))
    with probe("condition"):
        classes = network.class_table(labels)
    blocks: list[Tensor] = []
    for index in range(config.ar_len):
        with probe("ar" if index else "prefill", index=index, tokens=config.block_size):
            passes = 2 if index < guided else 1
            now = noise.normal(f"block/{index}", (config.block_size, config.latent_size))
            clean = None
            with probe("inner", index=index, tokens=config.block_size):
                for number, step in enumerate(steps):
                    tokens, start = now, index * config.block_size
                    if number == 0 and index:
                        tokens, start = torch.cat((blocks[-1], now), dim=1), start - config.block_size
                    time = torch.full((1,), step.time, device=labels.device)
                    condition = classes[: passes * batch] + network.time(time)
                    predicted = network(tokens.repeat(passes, 1, 1), condition, start, caches)
                    if passes == 2:
                        predicted = mix_guidance(predicted, sampling.guidance.scale)
                    now, clean = advanced(step, now, predicted, clean)
            blocks.append(now)
    return torch.cat(blocks, dim=1), config.ar_len + guided


class ACDiT(CachedGenerator):
    """`Generator`. `inner_steps` are those of the solver in each block; `until` of the guidance counts blocks."""

    network: Network
    tokenizer: KLTokenizer

    @classmethod
    def load(cls, card: Card, spec: LoadSpec, tokenizer: Tokenizer | None) -> Self:
        config = from_upstream(Config, card.config, TRAINING_ONLY)
        stride = card.resolution // (config.side * config.patch_size)
        tokenizer = fitting(card, config.channels, stride, tokenizer)
        network = build_and_load(lambda: Network(config), card, spec, names=official_names)
        compile_blocks(spec, network.blocks, dynamic=True)
        return cls(card, network, tokenizer, spec)

    def draw(self, noise: Noise, sampling: Sampling, probe: Probe, labels: Tensor) -> Generated:
        caches = self.caches(len(labels), sampling)
        tokens, forwards = generate(self.network, labels, sampling, noise, caches=caches, probe=probe)
        codes = Codes(latents=self.network.grid(tokens) / self.tokenizer.latent_scale)
        return Generated(codes=codes, outer_steps=self.network.config.ar_len, forwards=forwards)


SETTINGS = frozenset({"noise", "greedy", "num_inference_steps", "cfg_scale"})


def replay(
    config: Mapping[str, Any],
    state: dict[str, Tensor],
    tokenizer: tuple[Mapping[str, Any], dict[str, Tensor]] | None = None,
) -> Callable[[str, Mapping[str, Any], Mapping[str, Tensor]], dict[str, Tensor]]:
    """A function that repeats a recorded probe (name, settings, inputs) with the network of a recording."""
    ours = from_upstream(Config, config, TRAINING_ONLY)
    network = with_state(lambda: Network(ours), state, card_name="ACDiT's ACDiT", names=official_names)

    @torch.inference_mode()
    def call(probe: str, settings: Mapping[str, Any], inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        labels = inputs["class_ids"]
        if probe == "velocity":
            condition = network.class_table(labels) + network.time(inputs["timesteps"])
            noisy, start = inputs["noisy"], 0
            if "latents" in inputs:
                noisy = torch.cat((inputs["latents"], noisy), dim=1)
            return {"prediction": network(noisy, condition, start)}
        if probe == "generate":
            check_silent(settings, SETTINGS)
            scale, count = settings.get("cfg_scale", 1.0), settings.get("num_inference_steps", STEPS)
            sampling = Sampling(guidance=Guidance(scale=scale) if scale > 1 else Guidance(), inner_steps=count)
            tokens, _ = generate(network, labels, sampling, Greedy(len(labels)))
            return {"latents": tokens, "steps": torch.tensor([step.time for step in solver_steps(count)])}
        raise InputError(f"no probe {probe!r} for an ACDiT generator", "known: velocity, generate", "")

    return call
