"""The task `count`, definition and work: the mean of every image, and who computed what in the file FARM_CALLS."""

import math
import os
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np

from arbench.spec.result import Interval, Metric
from arbench.spec.task import Effort, MetricInfo, Pick, TaskDefinition, TaskSpec
from arbench.spec.unit import Unit, cut
from arbench.tasks.base import Finished, joined


class Count(TaskSpec):
    task: Literal["count"] = "count"
    n: int = 40
    batch: int = 8
    """Images per unit."""


TASK = TaskDefinition(
    name="count",
    spec=Count,
    work="farm.tasks:CountWork",
    version=1,
    kinds=frozenset({"generator"}),
    group="Counting",
    metrics=(MetricInfo("mean", "1", None, "mean of the images"), MetricInfo("ids", "", None, "sum", column=False)),
    summary=(Pick("mean"),),
    units=lambda spec: cut(spec.n, spec.batch),
    effort=lambda spec, rates: Effort(spec.n * rates.image, spec.batch),
)


class Draw(Count):
    task: Literal["draw"] = "draw"
    size: int = 8
    """Images per unit; `batch` of them at a time."""


DRAW = replace(
    TASK,
    name="draw",
    spec=Draw,
    work="farm.tasks:DrawWork",
    units=lambda spec: cut(spec.n, spec.size),
    transport=frozenset({"batch"}),
)


def _note(*words):
    if "FARM_CALLS" in os.environ:
        with Path(os.environ["FARM_CALLS"]).open("a") as file:
            file.write(" ".join(str(word) for word in words) + "\n")


class CountWork:
    def measure(self, cell, unit, context):
        import torch

        from arbench.protocols import Request
        from arbench.seeds import noise_for

        assert torch.is_inference_mode_enabled()
        _note("unit", cell.adapter, unit.name, os.getpid(), torch.get_num_threads())
        model = context.generator(cell)
        ids = range(unit.start, unit.stop)
        images = model.sample(Request(tuple(ids), noise_for(cell.settings.seed, ids)), cell.sampling).images
        context.progress(len(ids))
        return {"mean": images.double().mean((1, 2, 3)).numpy(), "ids": np.array(ids)}

    def finish(self, cell, units, context):
        _note("finish", cell.adapter, os.getpid())
        means, ids = joined(units, "mean"), joined(units, "ids")
        error = float(means.std() / math.sqrt(len(means)))
        value = float(means.mean())
        metrics = [
            Metric(
                name="mean",
                value=value,
                unit="1",
                n=len(means),
                how="plain",
                interval=Interval(low=value - 2 * error, high=value + 2 * error, method="two standard errors"),
                flags=("small_n", "toy"),
            ),
            Metric(name="ids", value=float(np.dot(ids, np.arange(1, len(ids) + 1))), n=len(ids), how="plain"),
        ]
        if cell.adapter == "farm/nan":
            shape = Metric(name="odd", value=1.0, n=1, how="plain")
            metrics.append(shape.model_copy(update={"value": float("nan")}))  # goes round the model's own checks
        return Finished(metrics=tuple(metrics), files={"means.npy": means.tobytes()})


class DrawWork(CountWork):
    def measure(self, cell, unit, context):
        parts = [
            super(DrawWork, self).measure(cell, part, context)
            for part in (
                Unit(index=0, start=start, stop=min(start + cell.task.batch, unit.stop))
                for start in range(unit.start, unit.stop, cell.task.batch)
            )
        ]
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
