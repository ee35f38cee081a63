"""How the seconds that work takes here compare with those planned for it: of this run, and kept from runs before it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from ..errors import StoreError
from ..files import write_atomic
from ..spec.cell import Cell

LEAST_SECONDS = 5.0
"""Shorter cells are not kept: they show how long a start takes, not how long the work."""
START = 1.0
"""Seconds that a cell counts as planned for at least: one of 0.01 s that took 5 does not make an hour of a minute."""
FORGET = 0.5
"""What older sums count against a new run's."""
BOUNDS = (0.01, 100.0)
"""Of a factor: a ratio beyond them says nothing about this work."""

Sums = tuple[float, float]
"""Planned and seen seconds."""


@dataclass(frozen=True, slots=True)
class Seen:
    """Work that is done: what it was planned to take and what it took, in seconds."""

    cell: Cell
    planned: float
    seconds: float


def groups(cell: Cell) -> tuple[str, ...]:
    """Names of what a cell is like, the closest first: its task on its adapter, on its family, on any; all work."""
    task, settings = cell.task.task, cell.settings
    how = f"{settings.dtype}{' compiled' if settings.compile else ''}"
    return f"{task} {cell.adapter} {how}", f"{task} {cell.family} {how}", f"{task} {how}", "all"


class Pace:
    """Seconds seen and planned by group. Factors are those of the closest group in which anything was seen."""

    def __init__(self, sums: Mapping[str, Sums] | None = None) -> None:
        self._sums = dict(sums or {})

    @classmethod
    def of(cls, work: Iterable[Seen]) -> Pace:
        found: dict[str, Sums] = {}
        for each in work:
            for name in groups(each.cell):
                planned, seconds = found.get(name, (0.0, 0.0))
                found[name] = planned + max(each.planned, START), seconds + each.seconds
        return cls(found)

    def __bool__(self) -> bool:
        return bool(self._sums)

    def factor(self, cell: Cell) -> float | None:
        """Seconds that a planned second takes, or None where nothing was seen."""
        for name in groups(cell):
            planned, seconds = self._sums.get(name, (0.0, 0.0))
            if planned > 0 and seconds > 0:
                return min(max(seconds / planned, BOUNDS[0]), BOUNDS[1])
        return None

    def after(self, later: Pace) -> dict[str, Sums]:
        """The sums with those of a later run, which count more."""
        found = dict(self._sums)
        for name, (planned, seconds) in later._sums.items():
            before, took = found.get(name, (0.0, 0.0))
            found[name] = planned + FORGET * before, seconds + FORGET * took
        return found


# ---- kept between runs -----------------------------------------------------------------------------------------------


def kept_file() -> Path:
    """`pace.json` in `$ARBENCH_CACHE`, else in `~/.cache/arbench`."""
    given = os.environ.get("ARBENCH_CACHE")
    return (Path(given) if given else Path.home() / ".cache" / "arbench") / "pace.json"


def learned(machine: str) -> Pace:
    """What runs on `machine` have shown: of its plan's `machine`, a processor or GPU by name. Damaged is as absent."""
    sums = _read().get(machine, {})
    return Pace({name: (float(planned), float(seconds)) for name, (planned, seconds) in sums.items()})


def keep(machine: str, work: Iterable[Seen]) -> None:
    """Adds what was seen, against the estimates of the cost model alone. A folder that cannot be written keeps none."""
    shown = Pace.of(each for each in work if each.seconds >= LEAST_SECONDS)
    found = {**_read(), machine: learned(machine).after(shown)}
    try:
        kept_file().parent.mkdir(parents=True, exist_ok=True)
        write_atomic(kept_file(), json.dumps(found, sort_keys=True).encode())
    except (OSError, StoreError):
        pass  # the next plan is then as rough as this one's was


def _read() -> dict[str, dict[str, Sums]]:
    try:
        found = json.loads(kept_file().read_text(encoding="utf-8"))
        return {
            str(machine): {str(name): (float(planned), float(seconds)) for name, (planned, seconds) in sums.items()}
            for machine, sums in found.items()
        }
    except (OSError, ValueError, TypeError, AttributeError):
        return {}
