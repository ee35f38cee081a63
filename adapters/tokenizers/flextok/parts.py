"""FlexTok's finite scalar quantiser, and its rectified-flow sampler with normalised guidance."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from arbench.errors import ConfigError, InputError

ROOM = 1e-3
"""By so much the outer levels can be passed before rounding."""
MOMENTUM = -0.5
"""Of the guided difference, from step to step."""
LONGEST = 2.5
"""To this norm over a sample the difference is cut."""

Velocity = Callable[[Tensor, float], Tensor]
"""(B, C, h, w) of latents (B, C, h, w) at a time, 1 being noise."""


class FiniteScalars:
    """One of some levels on each channel (Mentzer et al., arXiv:2309.15505); the first channel counts least."""

    def __init__(self, levels: Sequence[int]) -> None:
        self.levels = tuple(levels)

    def _tensor(self, numbers: Sequence[float], like: Tensor) -> Tensor:
        return torch.tensor(numbers, dtype=like.dtype, device=like.device)

    def codes(self, latents: Tensor) -> Tensor:
        """(..., channels) in [-1, 1], rounded to their levels."""
        levels = self._tensor(self.levels, latents)
        half = (levels - 1) * (1 + ROOM) / 2
        offset = torch.where(levels % 2 == 0, 0.5, 0.0)
        bounded = (latents + (offset / half).atanh()).tanh() * half - offset
        return bounded.round() / (levels // 2)

    def ids(self, codes: Tensor) -> Tensor:
        """(...) int64 of codes (..., channels)."""
        half = self._tensor(self.levels, codes) // 2
        basis = [math.prod(self.levels[:index]) for index in range(len(self.levels))]
        return ((codes * half + half).round().long() * torch.tensor(basis, device=codes.device)).sum(-1)

    def lookup(self, ids: Tensor) -> Tensor:
        """(..., channels) float32 codes of ids (...)."""
        basis = torch.tensor([math.prod(self.levels[:i]) for i in range(len(self.levels))], device=ids.device)
        levels = torch.tensor(self.levels, device=ids.device)
        half = (levels // 2).float()
        return ((ids.unsqueeze(-1) // basis) % levels - half) / half


def orthogonal(update: Tensor, to: Tensor) -> Tensor:
    """The part of `update` (B, C, h, w) that is orthogonal to `to` in each sample."""
    direction = F.normalize(to.double(), dim=[-1, -2, -3])
    along = (update.double() * direction).sum(dim=[-1, -2, -3], keepdim=True) * direction
    return (update.double() - along).to(update.dtype)


def flow_sample(
    noise: Tensor, conditional: Velocity, unconditional: Velocity, *, steps: int, scale: float, normalised: bool
) -> Tensor:
    """Latents after so many Euler steps from time 1 to 0.

    Guidance of `scale` adds the difference of the two velocities; `normalised` cuts it to a norm, gives it a momentum
    and leaves out what is along the conditional velocity (Sadat et al., arXiv:2410.02416). Scale 1: none.
    """
    latents, running = noise, torch.zeros_like(noise)
    for step in range(steps, 0, -1):
        time = step / steps
        velocity = conditional(latents, time)
        if scale != 1:
            null = unconditional(latents, time)
            if normalised:
                running = velocity - null + MOMENTUM * running
                norm = running.norm(p=2, dim=[-1, -2, -3], keepdim=True)
                cut = running * (LONGEST / norm).clamp(max=1)
                velocity = velocity + (scale - 1) * orthogonal(cut, velocity)
            else:
                velocity = null + scale * (velocity - null)
        latents = latents - velocity / steps
    return latents


def replay(
    config: Mapping[str, Any],
    state: dict[str, Tensor],
    tokenizer: tuple[Mapping[str, Any], dict[str, Tensor]] | None = None,
) -> Callable[[str, Mapping[str, Any], Mapping[str, Tensor]], dict[str, Tensor]]:
    """A function that repeats a recorded probe (name, settings, inputs); recordings of the parts have no weights."""
    if strange := sorted(config.keys() - {"class", "levels"}) or sorted(state):
        raise ConfigError(f"FlexTok's parts do not know {', '.join(strange)}", "known: levels", "")
    scalars = FiniteScalars(config["levels"])

    @torch.inference_mode()
    def call(probe: str, settings: Mapping[str, Any], inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        if probe == "quantize":
            codes = scalars.codes(inputs["latents"])
            return {"ids": scalars.ids(codes), "latents": codes}
        if probe == "dequantize":
            return {"latents": scalars.lookup(inputs["ids"])}
        if probe == "flow_sample":
            # the velocity fields of the recording's note
            sampled = flow_sample(
                inputs["noise"],
                lambda x, time: -0.3 * x + (0.2 + time) * inputs["cond"],
                lambda x, time: 0.5 * x + (0.2 + time) * inputs["uncond"],
                steps=settings["timesteps"],
                scale=settings["guidance_scale"],
                normalised=settings["perform_norm_guidance"],
            )
            return {"latents": sampled}
        raise InputError(f"no probe {probe!r} for FlexTok's parts", "known: quantize, dequantize, flow_sample", "")

    return call
