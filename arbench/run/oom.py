"""What to do when memory runs out: whether a killed process was killed for it, and with which batch to continue."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ..spec.cell import Cell
from ..spec.task import tasks
from ..spec.unit import Unit

Counters = Mapping[str, int]
"""Where the kernel counts what it has killed for memory -> the count."""


def kill_counters(root: Path = Path("/")) -> dict[str, int]:
    """The counts that can be read here: of our control group (version 2, or 1), else of the whole machine.

    A group's count is of its own processes, whichever limit was hit, its own or the machine's: with one, that of the
    machine says no more, and would speak of other people's processes too.
    """
    try:
        groups = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        groups = []
    for line in groups:
        _, controllers, place = line.split(":", 2)
        if "memory" in controllers.split(","):
            files = [root / "sys/fs/cgroup/memory" / place.lstrip("/") / "memory.oom_control"]
        elif not controllers:
            files = [root / "sys/fs/cgroup" / place.lstrip("/") / "memory.events", root / "sys/fs/cgroup/memory.events"]
        else:
            continue
        for file in files:
            if (count := _count(file)) is not None:
                return {f"/{file.relative_to(root)}": count}
    count = _count(root / "proc/vmstat")
    return {} if count is None else {"/proc/vmstat": count}


def _count(file: Path) -> int | None:
    """The line "oom_kill N"."""
    try:
        lines = file.read_text().splitlines()
    except OSError:
        return None
    found = [words[1] for line in lines if len(words := line.split()) == 2 and words[0] == "oom_kill"]
    return int(found[0]) if found and found[0].isdecimal() else None


def evidence(before: Counters, now: Counters) -> str:
    """Which counter has risen, in words; "" if none has."""
    risen = [name for name in now if now[name] > before.get(name, now[name])]
    return "; ".join(f"oom_kill in {name} went from {before[name]} to {now[name]}" for name in risen)


def smaller_batch(cell: Cell, unit: Unit) -> int | None:
    """Half of what a unit was drawn at a time; None where the batch is what is measured, or is 1 already.

    Only a batch that is not part of a number's identity may change: what a sample is depends on its seed.
    """
    if "batch" not in tasks()[cell.task.task].transport:
        return None
    batch = min(int(getattr(cell.task, "batch", 1)), unit.stop - unit.start)
    return batch // 2 if batch > 1 else None


def with_batch(cell: Cell, batch: int | None) -> Cell:
    """The cell, of the same identity, at another batch; itself at None."""
    return cell if batch is None else cell.model_copy(update={"task": cell.task.model_copy(update={"batch": batch})})
