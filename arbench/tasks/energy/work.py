"""The work of `energy`: the device's counter around whole calls and around windows without any."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import numpy as np

from ...measure.clock import Clock, WallClock
from ...measure.energy import Counter, Spent, carbon, counter, spend
from ...measure.guard import Guard, Reading, cores, gpu, read
from ...measure.nvml import Unavailable
from ...metrics.estimate import mean_with_interval
from ...spec.cell import Cell
from ...spec.result import At, Interval, Metric
from ...spec.unit import Unit
from ..base import Arrays, Context, Finished, Stored
from ..calls import whole_call
from . import Energy

WARM_UP = 3
"""Calls before the counter is read."""
IDLE_DIFFERS = 0.1
"""Idle power before and after may differ by this part of their mean."""


class EnergyWork:
    """A unit is one batch size. Nothing is loaded where the device has no counter that may be read."""

    def __init__(
        self,
        clock_for: Callable[[str], Clock] = WallClock,
        counter_for: Callable[[str], AbstractContextManager[Counter]] = counter,
        sleep: Callable[[float], Any] = time.sleep,
        look: Callable[[], Reading] = read,
    ) -> None:
        self._clock_for, self._counter_for, self._sleep, self._look = clock_for, counter_for, sleep, look

    def measure(self, cell: Cell, unit: Unit, context: Context) -> Arrays:
        task, batch = cell.task, unit.start
        assert isinstance(task, Energy)
        try:
            with self._counter_for(context.device) as counted:
                call = whole_call(cell, batch, context)
                guard = Guard(self._look)
                spent = spend(
                    lambda index: call(range(index * batch, (index + 1) * batch)),
                    batch,
                    counted,
                    self._clock_for(context.device),
                    seconds=task.seconds,
                    idle_seconds=task.idle_seconds,
                    warm_up=WARM_UP,
                    sleep=self._sleep,
                    progress=context.progress,
                )
        except Unavailable as error:
            return {"batch": np.array([batch]), "reason": np.array([str(error)])}
        if spent.went_back:
            return {"batch": np.array([batch]), "reason": np.array(["the counter was reset while it was read"])}
        state = gpu(context.device)
        flags = (*guard.disturbance().flags(cores()), *(state.flags if state else ()))
        return {
            "batch": np.array([batch]),
            "reason": np.array([""]),
            "what": np.array([counted.what]),
            "marks": spent.marks,
            "idle": spent.idle,
            "calls": np.array([spent.calls]),
            "guard": np.array(flags, dtype="U24"),
        }

    def finish(self, cell: Cell, units: Sequence[Stored], context: Context) -> Finished:
        assert isinstance(cell.task, Energy)
        return Finished(tuple(metric for unit in units for metric in _metrics(unit, cell.task.intensity)))


def _metrics(unit: Stored, intensity: float | None) -> list[Metric]:
    at: dict[str, At] = {"batch": int(unit["batch"][0])}
    reason = str(unit["reason"][0])
    named = [
        ("energy-per-image", "J", "energy of the calls over images", at),
        ("net-energy-per-image", "J", "the same less the idle power over that time", at),
        ("power", "W", "energy of the calls over their time", at),
        ("idle-power", "W", "mean of a window without calls before and one after them, the model loaded", at),
    ]
    if intensity is not None:
        how = f"energy of the calls over images, at {intensity:g} g of CO2 equivalent a kWh as the suite states"
        named.append(("carbon-per-image", "g", how, {**at, "intensity": intensity}))
    if reason:
        rest: dict[str, Any] = {"n": 0, "direction": "lower", "measure": "speed", "reason": reason}
        return [Metric(name=name, value=None, unit=kind, how=how, at=place, **rest) for name, kind, how, place in named]
    spent = Spent(unit["marks"], unit["idle"], int(unit["calls"][0]))
    flags = tuple(str(flag) for flag in unit["guard"])
    of = f"{spent.calls} whole calls in {spent.seconds:.1f} s, checks of their images included; {unit['what'][0]}"
    blocks = mean_with_interval(spent.blocks)
    gross = spent.gross / spent.images
    interval = None
    if blocks.low is not None and blocks.high is not None and blocks.value is not None:
        low, high = gross + blocks.low - blocks.value, gross + blocks.high - blocks.value
        interval = Interval(low=low, high=high, method=f"Student's t over {len(spent.blocks)} blocks of calls")
    emitted = None
    if interval is not None and intensity is not None:
        low, high = carbon(interval.low, intensity), carbon(interval.high, intensity)
        emitted = Interval(low=low, high=high, method=interval.method)
    differs = abs(float(np.diff(spent.idle)[0])) > IDLE_DIFFERS * float(spent.idle.mean())
    idle: dict[str, Any] = {"flags": (*flags, "idle_differs")} if differs else {}
    found: dict[str, tuple[float, dict[str, Any]]] = {
        "energy-per-image": (gross, {"interval": interval}),
        "net-energy-per-image": (spent.net / spent.images, idle),
        "power": (spent.gross / spent.seconds, {}),
        "idle-power": (
            float(spent.idle.mean()),
            {"n": 2, "extras": {"before": float(spent.idle[0]), "after": float(spent.idle[1])}} | idle,
        ),
        "carbon-per-image": (carbon(gross, intensity or 0.0), {"interval": emitted}),
    }
    plain: dict[str, Any] = {"n": spent.images, "direction": "lower", "measure": "speed", "flags": flags}
    return [
        Metric(name=name, value=found[name][0], unit=kind, how=f"{how}; {of}", at=place, **(plain | found[name][1]))
        for name, kind, how, place in named
    ]
