"""DPM-Solver++ of second order (Lu et al., arXiv:2211.01095) over 1000 linear steps, as ACDiT samples."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate

from torch import Tensor

TRAINED_STEPS = 1000
FIRST_BETA, LAST_BETA = 1e-4, 0.02


@dataclass(frozen=True, slots=True)
class Step:
    """One step from timestep `time`, as coefficients.

    clean = `clean_noisy` x - `clean_noise` eps
    next = `next_noisy` x + `next_clean` clean + `next_before` times the clean one of the step before
    """

    time: int
    clean_noisy: float
    clean_noise: float
    next_noisy: float
    next_clean: float
    next_before: float


@lru_cache(maxsize=8)
def solver_steps(count: int) -> tuple[Step, ...]:
    """`count` steps from the last timestep down, evenly spread, the last to a clean token. First and last step are of
    first order."""
    rise = (LAST_BETA - FIRST_BETA) / (TRAINED_STEPS - 1)
    kept = list(accumulate((1 - FIRST_BETA - rise * i for i in range(TRAINED_STEPS)), lambda a, b: a * b))
    apart = (TRAINED_STEPS - 1) / count  # multiplied as numpy does: its rounding decides between neighbours
    times = [round(i * apart) for i in range(count, 0, -1)]
    signals = [math.sqrt(kept[time]) for time in times]
    noises = [math.sqrt(1 - kept[time]) for time in times]
    half_logs = [math.log(a / s) for a, s in zip(signals, noises, strict=True)]
    steps = []
    for i, (time, signal, noise) in enumerate(zip(times, signals, noises, strict=True)):
        clean_noisy, clean_noise = 1 / signal, noise / signal
        if i == count - 1:
            steps.append(Step(time, clean_noisy, clean_noise, 0.0, 1.0, 0.0))
            continue
        width = half_logs[i + 1] - half_logs[i]
        share = -signals[i + 1] * math.expm1(-width)
        before = 0.5 * share * width / (half_logs[i] - half_logs[i - 1]) if i else 0.0
        steps.append(Step(time, clean_noisy, clean_noise, noises[i + 1] / noise, share + before, -before))
    return tuple(steps)


def advanced(step: Step, x: Tensor, noise: Tensor, before: Tensor | None) -> tuple[Tensor, Tensor]:
    """Tokens (B, n, C) one step on and their clean estimate, from a predicted `noise` and the estimate `before`."""
    clean = step.clean_noisy * x - step.clean_noise * noise
    x = step.next_noisy * x + step.next_clean * clean
    return (x if before is None else x + step.next_before * before), clean
