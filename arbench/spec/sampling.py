"""How a generator is asked to sample, in one notation for all families."""

from __future__ import annotations

import math
from typing import Any, Literal

from pydantic import Field, field_validator

from .base import Written


class Guidance(Written):
    """Classifier-free guidance in canonical form: `uncond + w(i) * (cond - uncond)` at step i.

    `w` goes from `start` to `scale` by `schedule`; a constant schedule has no `start`. Guidance is on for the
    first `until` (a fraction) of the steps, rounded to whole steps and at least one unless `until` is 0. `scale` 1
    means off: one forward pass, not two.
    """

    scale: float = Field(default=1.0, ge=0)
    """Weight w in `uncond + w (cond - uncond)`; with a schedule, that of the last step. 1 is off."""
    start: float = Field(default=1.0, ge=0)
    """Weight of the first step; a constant schedule has none."""
    schedule: Literal["constant", "linear", "cosine_power"] = "constant"
    """How the weight goes from `start` to `scale`."""
    power: float = Field(default=1.0, gt=0)
    """Exponent of `cosine_power`; other schedules have none."""
    until: float = Field(default=1.0, ge=0, le=1)
    """Guidance is on for this fraction of the steps, from the first one on; 0 is off."""

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


class Sampling(Written):
    """What decides a sample besides weights, condition and seed. None means the family's own default.

    `extra` holds knobs of one family only; a card lists those it accepts.
    """

    guidance: Guidance = Field(default_factory=Guidance)
    """Classifier-free guidance: a mapping of the keys below, or `off`."""
    temperature: float = Field(default=1.0, ge=0)
    """What logits are divided by; 0 takes the most likely token, other values below 0.00001 are refused."""
    top_k: int | None = Field(default=None, ge=1)
    """Draw from the k most likely tokens only; null: the adapter's default, which for most is all."""
    top_p: float | None = Field(default=None, gt=0, le=1)
    """Draw from the most likely tokens that together have this probability; null: the adapter's default, which for
    most is all."""
    steps: int | None = Field(default=None, ge=1)
    """Autoregressive steps, for models that draw several tokens at once; null: the adapter's own number."""
    inner_steps: int | None = Field(default=None, ge=1)
    """Diffusion steps inside an autoregressive step, for continuous tokens; null: the adapter's own number."""
    order: Literal["native", "raster", "random", "halton"] = "native"
    """Order in which a random-order model draws the places of an image."""
    extra: dict[str, Any] = Field(default_factory=dict)
    """Knob of one family only -> value; an unknown one is answered with those that the adapter has."""

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
