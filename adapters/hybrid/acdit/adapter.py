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
from ...layers.flow_blocks import filled
from ...layers.generator import CachedGenerator
from ...layers.kl import KLTokenizer, fitting
from ...layers.sampling import check_silent, guided_steps, mix_guidance
from .network import TRAINING_ONLY, Config, Network, official_names
from .solver import advanced, solver_steps

STEPS = 25
"""What sampling takes when not told."""


KEPT = 2**24
"""Numbers that a call keeps of modulations; where they are more all blocks of tokens make their own."""


class Conditions:
    """What class and time change in the network at each step: once a call, for all blocks of tokens draw alike."""

    def __init__(self, network: Network, labels: Tensor, times: Sequence[int]) -> None:
        self._network, self._rows = network, len(labels)
        self._classes, times_at = network.class_table(labels), filled(times, labels.device)
        self._times = network.time(times_at)
        width = sum(block.modulation.out_features for block in network.blocks)
        self._made: list[Tensor] | None = None
        if len(labels) * len(times) * width <= KEPT:
            self._made = network.modulations((self._times.unsqueeze(1) + self._classes).flatten(0, 1))

    def __call__(self, step: int, rows: int) -> Tensor | list[Tensor]:
        """The condition of the first `rows` samples at a step, or the modulations that it makes."""
        if self._made is None:
            return self._classes[:rows] + self._times[step]
        first = step * self._rows
        return [each[first : first + rows] for each in self._made]


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
        conditions = Conditions(network, labels, [step.time for step in steps])
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
                    condition = conditions(number, passes * batch)
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
