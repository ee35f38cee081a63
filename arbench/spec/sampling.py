"""How a generator is asked to sample, in one notation for all families."""

from __future__ import annotations

import math
from typing import Any, Literal

from pydantic import Field

from .base import Frozen


class Guidance(Frozen):
    """Classifier-free guidance in canonical form: `uncond + w(i) * (cond - uncond)` at step i.

    `w` goes from `start` to `scale` by `schedule`; a constant schedule ignores `start`. Guidance is on for the
    first `until` (a fraction) of the steps. `scale` 1 means off: one forward pass, not two.
    """

    scale: float = Field(default=1.0, ge=0)
    start: float = Field(default=1.0, ge=0)
    schedule: Literal["constant", "linear", "cosine_power"] = "constant"
    power: float = Field(default=1.0, gt=0)
    until: float = Field(default=1.0, ge=0, le=1)

    @property
    def on(self) -> bool:
        return self.until > 0 and (self.scale != 1.0 or (self.schedule != "constant" and self.start != 1.0))

    def weight(self, progress: float) -> float:
        """The weight w at `progress` in [0, 1], the position that the family's own schedule defines."""
        if self.schedule == "constant":
            return self.scale
        ramp = progress
        if self.schedule == "cosine_power":
            ramp = (1 - math.cos(math.pi * progress**self.power)) / 2
        return self.start + (self.scale - self.start) * ramp


class Sampling(Frozen):
    """What decides a sample besides weights, condition and seed. None means the family's own default.

    `extra` holds knobs of one family only; a card lists those it accepts.
    """

    guidance: Guidance = Guidance()
    temperature: float = Field(default=1.0, ge=0)
    top_k: int | None = Field(default=None, ge=1)
    top_p: float | None = Field(default=None, gt=0, le=1)
    steps: int | None = Field(default=None, ge=1)
    inner_steps: int | None = Field(default=None, ge=1)
    order: Literal["native", "raster", "random", "halton"] = "native"
    extra: dict[str, Any] = Field(default_factory=dict)
