"""A plain loop of a diffusion head, which draws the tokens of MAR and its kin."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from arbench.adapters.layers.diffusion_head import DiffusionHead, Step, previous, step_noise
from arbench.protocols import Noise


def diffused(
    head: DiffusionHead,
    steps: Sequence[Step],
    states: Tensor,
    noise: Noise,
    stream: str,
    weight: float,
    temperature: float = 1.0,
    *,
    clip: bool = False,
    embed: Callable[[Tensor], Tensor] | None = None,
) -> Tensor:
    """Tokens (B, n, C) given states (2B, n, Z): time and state are embedded anew in every step, for every token.

    `embed` replaces the head's embedding of a state.
    """
    rows, count, _ = states.shape
    states, shape = states.flatten(0, 1).type_as(head.state_in.weight), (count, head.channels)
    x, added = noise.normal(f"{stream}/start", shape), step_noise(noise, stream, len(steps) - 1, shape)
    for step in steps:
        times = torch.full((rows * count,), step.time, device=states.device)
        condition = head.time(times) + (embed or head.state_in)(states)
        prediction = head.denoise(torch.cat((x, x)).flatten(0, 1), condition).float().unflatten(0, (rows, count))
        eps, variance = prediction.chunk(2, dim=-1)
        conditional, free = eps.chunk(2)
        mixed = torch.cat((free + weight * (conditional - free), variance.chunk(2)[0]), dim=-1)
        x = previous(step, x, mixed, None if step.last else temperature * next(added), clip=clip)
    return x
