"""One job's share of a run that is spread over many: which units it does, by their numbers alone."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import Field

from ..errors import UsageError
from ..spec.base import Frozen
from .plan import Plan, PlannedCell

SLURM = "slurm"
"""`--shard slurm`: index and number of shards are those of the job's array."""


class Shard(Frozen):
    """Shard `index` of `total`, counted from 0."""

    index: int = Field(ge=0)
    total: int = Field(ge=1)

    def __str__(self) -> str:
        return f"{self.index}/{self.total}"


def parse_shard(text: str, environment: Mapping[str, str]) -> Shard:
    """The shard of "0/3", or that of "slurm" by the variables of a Slurm array. Raises UsageError."""
    if text == SLURM:
        return _of_slurm(environment)
    index, _, total = text.partition("/")
    if index.isdecimal() and total.isdecimal() and int(index) < int(total):
        return Shard(index=int(index), total=int(total))
    raise UsageError(
        f"invalid --shard {text!r}: expected I/N or {SLURM}", "shards are counted from 0: 0/3, 1/3, 2/3", "--shard 0/3"
    )


def _of_slurm(environment: Mapping[str, str]) -> Shard:
    """Of an array of any first index and step, `sbatch --array=1-9:2`; one with gaps does not tell who does what."""
    found = {}
    for name in ("ID", "MIN", "MAX", "COUNT"):
        value = environment.get(f"SLURM_ARRAY_TASK_{name}", "")
        if not value.isdecimal():
            raise UsageError(
                f"--shard {SLURM}: no SLURM_ARRAY_TASK_{name} in the environment",
                "this is not a job of a Slurm array",
                "sbatch --array=0-7 SCRIPT, or --shard 0/8",
            )
        found[name] = int(value)
    step = int(environment.get("SLURM_ARRAY_TASK_STEP") or 1)
    place, rest = divmod(found["ID"] - found["MIN"], max(step, 1))
    if rest or (found["MAX"] - found["MIN"]) // max(step, 1) + 1 != found["COUNT"]:
        raise UsageError(
            f"--shard {SLURM}: the job's array has gaps, so its shards cannot be told",
            f"{found['COUNT']} jobs from {found['MIN']} to {found['MAX']}",
            "--shard I/N with the N of the first array",
        )
    return Shard(index=place, total=found["COUNT"])


def share_of(plan: Plan, shard: Shard | None) -> Plan:
    """What a shard does of a plan: every `total`-th unit, and every `total`-th cell that is measured alone.

    Units are counted through all cells, so that shards do alike, whatever the machine: its speed has no say. A cell
    that it does only in part is marked so, and has no result before `arbench merge`.
    """
    if shard is None:
        return plan
    cells: list[PlannedCell] = []
    units = alone = 0
    for planned in plan.cells:
        if planned.outcome is not None:
            cells.append(planned)
        elif planned.exclusive:
            if alone % shard.total == shard.index:
                cells.append(planned)
            alone += 1
        else:
            own = tuple(unit for place, unit in enumerate(planned.units, units) if place % shard.total == shard.index)
            units += len(planned.units)
            if own:
                cells.append(_part(planned, own))
    return plan.model_copy(update={"cells": tuple(cells)})


def _part(planned: PlannedCell, own: tuple[object, ...]) -> PlannedCell:
    if len(own) == len(planned.units):
        return planned
    share = len(own) / len(planned.units)
    return planned.model_copy(
        update={
            "units": own,
            "partial": True,
            "minutes": planned.minutes * share,
            "modelled": None if planned.modelled is None else planned.modelled * share,
            "disk_bytes": int(planned.disk_bytes * share),
        }
    )
