"""DiSA on MAR (arXiv:2505.20297): later iterations denoise their tokens in fewer steps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from arbench.errors import Unsupported
from arbench.protocols import Sampling

from ...layers.diffusion_head import Step
from ..mar.adapter import DIFFUSION_STEPS, MAR, iterations
from .processes import annealed_steps, process


class DiSAMAR(MAR):
    """MAR's `Generator` and `Edits` with another diffusion process in every iteration."""

    def processes(self, sampling: Sampling) -> Sequence[tuple[Step, ...]]:
        def knob(name: str, default: Any) -> Any:
            return sampling.extra.get(name, self.card.native.extra.get(name, default))

        sampler = knob("sampler", "ancestral")
        if sampler == "dpm-solver" and sampling.guidance.on:
            raise Unsupported(
                f"{self.card.name} does not guide the dpm-solver", "upstream's has no guidance", "guidance: off"
            )
        first = sampling.inner_steps or DIFFUSION_STEPS
        counts = annealed_steps(
            iterations(sampling), first, min(knob("last_inner_steps", first), first), knob("annealing", "linear")
        )
        made = {count: process(sampler, count) for count in set(counts)}
        return [made[count] for count in counts]
