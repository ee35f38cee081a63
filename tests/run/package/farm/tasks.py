"""A light stand-in for `generate`: the mean of every image, and who computed what in the file FARM_CALLS."""

import math
import os
from pathlib import Path

import numpy as np
import torch

from arbench.protocols import Request
from arbench.seeds import noise_for
from arbench.spec.result import Interval, Metric
from arbench.tasks.base import Finished, joined


def _note(*words):
    if "FARM_CALLS" in os.environ:
        with Path(os.environ["FARM_CALLS"]).open("a") as file:
            file.write(" ".join(str(word) for word in words) + "\n")


class Count:
    def measure(self, cell, unit, context):
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
                convention="plain",
                interval=Interval(low=value - 2 * error, high=value + 2 * error, method="two standard errors"),
                flags=("small_n", "toy"),
            ),
            Metric(name="ids", value=float(np.dot(ids, np.arange(1, len(ids) + 1))), n=len(ids), convention="plain"),
        ]
        if cell.adapter == "farm/nan":
            shape = Metric(name="odd", value=1.0, n=1, convention="plain")
            metrics.append(shape.model_copy(update={"value": float("nan")}))  # goes round the model's own checks
        return Finished(metrics=tuple(metrics), artifacts={"means.npy": means.tobytes()})
