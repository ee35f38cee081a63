"""Results from what a run knows: the fields that name a cell, results of failed cells, finite and flagged metrics."""

from __future__ import annotations

import math
from typing import Any

from ..spec.cell import Cell
from ..spec.result import Metric, Outcome, Result

RANDOM_WEIGHTS = "random_weights"
SMALLER_BATCH = "smaller_batch"


def identity_fields(cell: Cell) -> dict[str, Any]:
    """The fields of `Result` that come from the cell."""
    parameters = cell.task.plain()
    task = parameters.pop("task")
    settings = cell.settings
    several = {"replicate": cell.replicate, "replicates": cell.replicates} if cell.replicates > 1 else {}
    return {
        "result_id": cell.result_id,
        "settings_id": cell.settings_id,
        "adapter": cell.adapter,
        "family": cell.family,
        "kind": cell.kind,
        "task": task,
        "parameters": parameters,
        "sampling": cell.sampling,
        "load": settings.plain() | several,
    }


def failed_result(cell: Cell, outcome: Outcome, reason: str, started: str = "", seconds: float = 0.0) -> Result:
    """The result of a cell that came to nothing."""
    return Result(**identity_fields(cell), outcome=outcome, reason=reason, started=started, wall_seconds=seconds)


def flagged(metric: Metric, cell: Cell, *, halved: bool = False) -> Metric:
    """`metric`, flagged `random_weights` where the cell was run with such: only shapes and work are real there.

    With `halved` it is flagged too that memory ran out at the batch that was asked for.
    """
    flags = (
        *((RANDOM_WEIGHTS,) if cell.settings.init == "random" else ()),
        *((SMALLER_BATCH,) if halved else ()),
    )
    return metric.model_copy(update={"flags": (*metric.flags, *flags)}) if flags else metric


def finite(metric: Metric) -> Metric:
    """`metric`, or, if its value or interval is NaN or infinite, the same with null and a reason.

    `Metric` refuses such numbers when it is built in the ordinary way; `model_construct` does not look.
    """
    changes: dict[str, Any] = {}
    if metric.value is not None and not math.isfinite(metric.value):
        changes = {"value": None, "reason": metric.reason or f"the value is not finite ({metric.value})"}
    interval = metric.interval
    if interval is not None and (changes or not (math.isfinite(interval.low) and math.isfinite(interval.high))):
        changes["interval"] = None
    return Metric.model_validate({**metric.__dict__, **changes})
