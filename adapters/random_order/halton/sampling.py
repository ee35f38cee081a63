"""Halton-MaskGIT's two samplers: places in the order of a Halton sequence, or the surest tokens first."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Self

import torch
from torch import Tensor

from arbench.errors import Unsupported
from arbench.protocols import NO_PROBE, Noise, Probe, Sampling

from ...layers.masked import gumbel
from ...layers.sampling import draw_tokens, mix_guidance, token_probabilities, weights_of_steps
from .network import Network

SHARES: dict[str, Callable[[Tensor], Tensor]] = {
    "root": lambda r: 1 - r**0.5,
    "linear": lambda r: r,
    "square": lambda r: r**2,
    "cosine": lambda r: 1 - torch.cos(r * math.pi * 0.5),
    "arccos": lambda r: 1 - torch.arccos(r) / (math.pi * 0.5),
}
"""Name of a schedule -> the share of known tokens at a progress in [0, 1], as upstream has it."""


@dataclass(frozen=True, slots=True)
class Knobs:
    """The family's own settings, by upstream's names: see the card's `extra`."""

    sampler: str = "halton"
    sm_temp_min: float = 1.0
    sm_temp_max: float = 1.0
    temp_pow: float = 1.0
    temp_warmup: int = 0
    randomize: bool = False
    r_temp: float = 0.0
    sched_mode: str = "arccos"

    @classmethod
    def of(cls, native: Sampling, sampling: Sampling) -> Self:
        knobs = cls(**{**native.extra, **sampling.extra})
        if type(knobs.randomize) is not bool or knobs.temp_warmup != int(knobs.temp_warmup):
            raise Unsupported(
                f"randomize {knobs.randomize!r}, temp_warmup {knobs.temp_warmup!r}",
                "the first is true or false, the second a whole number",
                "leave them out, or give such values",
            )
        return knobs


@lru_cache(maxsize=64)
def known_after(steps: int, count: int) -> tuple[int, ...]:
    """How many of `count` places are known after each step, in float32 as upstream has it; one more at least."""
    shares = (SHARES["arccos"](torch.tensor((step + 1) / steps)) for step in range(steps))
    return tuple(max(step + 1, int(share * count)) for step, share in enumerate(shares))


@lru_cache(maxsize=64)
def kept_after(steps: int, count: int, schedule: str) -> tuple[int, ...]:
    """How many of `count` tokens the sampler by confidence keeps after each step; the first is one."""
    kept = (SHARES[schedule](torch.linspace(0, 1, steps)) * count).int().tolist()
    return tuple(max(step + 1, int(number)) for step, number in enumerate(kept))


@lru_cache(maxsize=64)
def factors(steps: int, least: float, most: float, power: float, warmup: int) -> tuple[float, ...]:
    """What logits are multiplied by at each step."""
    ramp = torch.linspace(least, most, steps) ** power
    return tuple(float(factor) * (0.5 if step < warmup else 1.0) for step, factor in enumerate(ramp))


def plan(knobs: Knobs, steps: int, count: int) -> None:
    """Work out the numbers of a call on the host, before it is recorded: a recorded call reads nothing back."""
    known_after(steps, count)
    kept_after(steps, count, knobs.sched_mode)
    factors(steps, knobs.sm_temp_min, knobs.sm_temp_max, knobs.temp_pow, knobs.temp_warmup)


class Logits:
    """Logits of a call's steps, guided or not: what the classes change in the network is worked out once."""

    def __init__(self, network: Network, labels: Tensor, *, guided: bool) -> None:
        self._network = network
        self._labels = torch.cat((labels, torch.full_like(labels, network.config.nclass))) if guided else labels
        self._modulations = network.modulations(self._labels)

    def __call__(
        self, tokens: Tensor, weight: float | None, temperature: float, wanted: Tensor | None = None
    ) -> Tensor:
        """(B, N, V + 1), or at places `wanted` (B, n): with a guidance `weight` from a doubled batch; multiplied."""
        rows = len(tokens) if weight is None else 2 * len(tokens)
        if weight is not None:
            tokens = tokens.repeat(2, 1)
            wanted = None if wanted is None else wanted.repeat(2, 1)
        logits = self._network(self._labels[:rows], tokens, [each[:rows] for each in self._modulations], wanted)
        return (logits if weight is None else mix_guidance(logits, weight)) * temperature


def halton(
    network: Network,
    labels: Tensor,
    sampling: Sampling,
    noise: Noise,
    knobs: Knobs,
    *,
    steps: int,
    shift: Tensor | None = None,
    probe: Probe = NO_PROBE,
) -> tuple[Tensor, int]:
    """Tokens (B, N) in raster order, drawn in Halton order, and how many forward passes they took.

    With `randomize` the order of each sample is rolled by a `shift` (B,) of its own. A mask that is drawn as a token
    stays one for the network, and is clamped to the last code at the end.
    """
    config, batch = network.config, len(labels)
    count, weights = config.tokens, weights_of_steps(sampling.guidance, steps, max(steps - 1, 1))
    guided = steps - weights.count(None)
    order = network.order.expand(batch, -1)
    if knobs.randomize:
        if shift is None:
            shift = (noise.uniform("shift", 1)[:, 0] * count).long()
        places = torch.arange(count, device=labels.device)
        order = order.gather(1, (places - shift.unsqueeze(1)) % count)
    heat = factors(steps, knobs.sm_temp_min, knobs.sm_temp_max, knobs.temp_pow, knobs.temp_warmup)
    tokens = torch.full((batch, count), config.mask, dtype=torch.int64, device=labels.device)
    logits, before = Logits(network, labels, guided=guided > 0), 0
    for step, known in enumerate(known_after(steps, count)):
        with probe("ar" if step else "prefill", index=step, tokens=known - before):
            here = order[:, before:known]
            if here.shape[1]:
                chosen = logits(tokens, weights[step], heat[step], here)
                tokens = tokens.scatter(1, here, draw_tokens(chosen, sampling, noise, "tokens", start=before))
            before = known
    return tokens.clamp(max=config.codebook_size - 1), steps + guided


def confident(
    network: Network,
    labels: Tensor,
    sampling: Sampling,
    noise: Noise,
    knobs: Knobs,
    *,
    steps: int,
    probe: Probe = NO_PROBE,
) -> tuple[Tensor, int, Tensor]:
    """Tokens (B, N), forward passes, and how many tokens of the first sample were masked after each step.

    All tokens are drawn at each step, the surest replace what is there, known ones first: these may change as well.
    """
    config, batch = network.config, len(labels)
    count, weights = config.tokens, weights_of_steps(sampling.guidance, steps, max(steps - 1, 1))
    guided = steps - weights.count(None)
    tokens = torch.full((batch, count), config.mask, dtype=torch.int64, device=labels.device)
    logits, left = Logits(network, labels, guided=guided > 0), []
    for step, kept in enumerate(kept_after(steps, count, knobs.sched_mode)):
        with probe("ar" if step else "prefill", index=step, tokens=count):
            progress = step / max(steps - 1, 1)
            probabilities = token_probabilities(logits(tokens, weights[step], knobs.sm_temp_max), sampling)
            drawn = noise.categorical(probabilities, "tokens", start=step * count)
            sure = probabilities.gather(-1, drawn.unsqueeze(-1)).squeeze(-1)
            if knobs.randomize:
                ramp = knobs.r_temp * (1 - progress)
                sure = sure.log() + ramp * gumbel(noise, "confidence", count, step * count)
            sure = sure.masked_fill(tokens != config.mask, torch.inf)
            least = sure.topk(min(kept, count), dim=-1).values[:, -1:]
            tokens = torch.where(sure >= least, drawn, tokens)
            left.append((tokens[0] == config.mask).sum())
    return tokens.clamp(max=config.codebook_size - 1), steps + guided, torch.stack(left)
