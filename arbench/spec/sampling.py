"""How a generator is asked to sample, in one notation for all families."""

from __future__ import annotations

import math
from typing import Any, Literal

from pydantic import Field, field_validator

from .base import Frozen


class Guidance(Frozen):
    """Classifier-free guidance in canonical form: `uncond + w(i) * (cond - uncond)` at step i.

    `w` goes from `start` to `scale` by `schedule`; a constant schedule has no `start`. Guidance is on for the
    first `until` (a fraction) of the steps, rounded to whole steps and at least one unless `until` is 0. `scale` 1
    means off: one forward pass, not two.
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


COLDEST = 1e-5
"""Dividing logits by less than this is as good as taking the most likely token, which is temperature 0."""

HOW_OFF = {
    "top_k": "write null for the adapter's default, which for most is off: papers' 0 and -1",
    "top_p": "write null for the adapter's default, which for most is off, or 1.0 for off",
    "temperature": f"0 takes the most likely token; otherwise it is at least {COLDEST:g}, and 1 changes nothing",
    "steps": "write null for the adapter's own number",
    "inner_steps": "write null for the adapter's own number",
    "guidance.scale": "1 is off, 0 samples without the condition",
    "guidance.until": "a share of the steps, 0 to 1: 0 is off",
}
"""What to write in place of a value that is refused, by dotted field."""


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

    def flat(self) -> dict[str, Any]:
        """Every value by dotted name, for instance "guidance.scale"."""
        found: dict[str, Any] = {}
        for name, value in self.plain().items():
            inner = value if isinstance(value, dict) else {"": value}
            found |= {f"{name}.{part}" if part else name: one for part, one in inner.items()}
        return found

    @field_validator("temperature")
    @classmethod
    def _not_clamped(cls, value: float) -> float:
        if 0 < value < COLDEST:
            raise ValueError(f"is too small to divide by: 0 or at least {COLDEST:g}")
        return value
