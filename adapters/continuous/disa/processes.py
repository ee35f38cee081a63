"""The diffusion processes that DiSA's fork of MAR chooses from: ancestral, DDIM and a first-order solver."""

from __future__ import annotations

import math
from bisect import bisect_left
from itertools import pairwise
from typing import Literal

from arbench.errors import UsageError

from ...layers.diffusion_head import TRAINED_STEPS, Step, cosine_alphas, reverse_steps, spaced

Sampler = Literal["ancestral", "ddim", "dpm-solver"]
CLIPPED, DDIM_CLIPPED = 950, 980
"""Timesteps above these are replaced by them, and then run once."""
SOLVER_START = 0.95


def annealed_steps(iterations: int, first: int, last: int, annealing: str) -> list[int]:
    """Diffusion steps asked for in each iteration. There are at least two iterations."""
    top, found = iterations - 1, []
    for step in range(iterations):
        if annealing == "linear":
            share = (top - step) / top
        elif annealing == "cosine":
            share = (math.cos(math.pi * step / top) + 1) / 2
        else:
            share = float(annealing == "two-stage" and step < top / 2)
        found.append(last + int(share * (first - last)))
    return found


def process(sampler: Sampler, count: int) -> tuple[Step, ...]:
    """What a sampler does when asked for `count` steps; it may take fewer."""
    if sampler == "ancestral":
        return reverse_steps(sorted({min(time, CLIPPED) for time in spaced(count)}))
    if sampler == "ddim":
        times = sorted({min(time, DDIM_CLIPPED) for time in strided(count)})
        kept = [cosine_alphas()[time] for time in times]
        steps = [_silent(*step) for step in zip(times, kept, [1.0, *kept[:-1]], strict=True)]
        return tuple(reversed(steps))
    return solver_steps(count)


def strided(count: int) -> range:
    """`count` timesteps an equal whole number apart, of the most of all timesteps that allow it (DDIM's spacing)."""
    for total in range(TRAINED_STEPS, 1, -1):
        for stride in range(1, total):
            if len(range(0, total, stride)) == count:
                return range(0, total, stride)
    raise UsageError(f"no {count} evenly spaced timesteps", f"of {TRAINED_STEPS} there are none", "use other steps")


def _silent(time: float, now: float, after: float) -> Step:
    """A step without noise from one signal power to another, at which the estimate of the noise is kept."""
    clean_noisy, clean_noise = math.sqrt(1 / now), math.sqrt(1 / now - 1)
    kept = math.sqrt(1 - after) / clean_noise
    return Step(
        time=time,
        clean_noisy=clean_noisy,
        clean_noise=clean_noise,
        mean_clean=math.sqrt(after) - kept,
        mean_noisy=kept * clean_noisy,
        least=0.0,
        most=0.0,
        last=True,
    )


def solver_steps(count: int) -> tuple[Step, ...]:
    """DPM-Solver of first order (++ is the same there) on even times from 0.95, which stands for the clipped end."""
    kept = cosine_alphas()[: CLIPPED + 1]
    grid = [SOLVER_START * (index + 1) / len(kept) for index in range(len(kept))]
    logs = [0.5 * math.log(power) for power in kept]

    def power_at(time: float) -> float:
        right = min(max(bisect_left(grid, time), 1), len(grid) - 1)
        left = right - 1
        share = (time - grid[left]) / (grid[right] - grid[left])
        return math.exp(2 * (logs[left] + share * (logs[right] - logs[left])))

    end = 1 / len(kept)
    times = [SOLVER_START + (end - SOLVER_START) * index / count for index in range(count + 1)]
    return tuple(_silent(now * TRAINED_STEPS, power_at(now), power_at(after)) for now, after in pairwise(times))
