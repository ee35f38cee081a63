"""Energy: what the device takes for an image at each batch size, by its own counter, and what that emits."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from ...spec.task import Batches, Effort, MetricInfo, Pick, Rates, TaskDefinition, TaskSpec
from ...spec.unit import one_per_batch


class Energy(TaskSpec):
    """Joules of an image at each batch size, in all and beyond what the idle device takes."""

    task: Literal["energy"] = "energy"
    """Name of the task."""
    batches: Batches = (1, 16)
    """Numbers of images in a call, each measured for itself."""
    seconds: float = Field(default=10.0, ge=10)
    """Calls are made for this long at least, at each batch size. Counters are refreshed too seldom for shorter ones."""
    idle_seconds: float = Field(default=3.0, ge=2)
    """Length of the window without calls before and after them, whose power is the idle device's."""
    intensity: float | None = Field(default=None, gt=0)
    """Grams of CO2 equivalent that a kilowatt hour of electricity emits where the machine stands; null: no emissions
    are reported."""


def _effort(spec: Energy, rates: Rates) -> Effort:
    fixed = spec.seconds + 2 * spec.idle_seconds
    return Effort(sum(fixed + 3 * rates.image * batch for batch in spec.batches), max(spec.batches))


TASK = TaskDefinition(
    name="energy",
    spec=Energy,
    work="arbench.tasks.energy.work:EnergyWork",
    version=1,
    kinds=frozenset({"generator", "tokenizer"}),
    group="Energy",
    metrics=(
        MetricInfo("energy-per-image", "J", "lower", "what the device took during calls, for each image"),
        MetricInfo("net-energy-per-image", "J", "lower", "the same beyond what it takes when idle"),
        MetricInfo("carbon-per-image", "g", "lower", "CO2 equivalent of `energy-per-image` at `intensity`"),
        MetricInfo("power", "W", "lower", "what the device took during calls, on average", column=False),
        MetricInfo("idle-power", "W", "lower", "what it took before and after them", column=False),
    ),
    summary=(Pick("energy-per-image", "last"),),
    units=lambda spec: one_per_batch(spec.batches),
    effort=_effort,
    exclusive=True,
    transport=frozenset({"seconds", "idle_seconds"}),
    in_key=frozenset({"batches"}),
)
