"""The head of the page: what ran, where, and how it ended."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from . import number
from .folders import RunFolder

OUTCOMES = ("ok", "oom", "error", "timeout", "unsupported", "interrupted")


@dataclass(frozen=True)
class Verdict:
    """The head of the page for one run."""

    title: str
    run_id: str
    suite: str
    version: str
    device: str
    platform: str
    packages: str
    outcomes: tuple[tuple[str, int], ...]
    failures: tuple[tuple[str, str, str, str], ...]
    """(outcome, task, adapter, reason)"""
    command: str
    started: str
    duration: str
    cell_time: str
    cells: int
    flags: tuple[tuple[str, int], ...]
    """Flags with how many of the numbers have them, the commonest first."""
    numbers: int


def verdict(run: RunFolder) -> Verdict:
    results = [entry.result for entry in run.entries]
    counts = Counter[str](result.outcome for result in results)
    shown = [(outcome, counts[outcome]) for outcome in OUTCOMES if counts[outcome]]
    if run.missing:
        shown.append(("not run", len(run.missing)))
    bad: list[tuple[str, str, str, str]]
    bad = [(r.outcome, r.task, r.adapter, r.reason or "no reason given") for r in results if r.outcome != "ok"]
    bad += [("not run", cell.task, cell.adapter, "the run ended before this cell") for cell in run.missing]
    metrics = [metric for result in results for metric in result.metrics if metric.value is not None]
    flags = Counter(flag for metric in metrics for flag in metric.flags)
    known = [result.provenance for result in results if result.provenance]
    packages = known[0].packages if known else {}
    suite = run.suite
    name = str(suite.get("suite", "unnamed suite"))
    return Verdict(
        title=str(suite.get("title") or name),
        run_id=run.run_id,
        suite=name,
        version=str(suite.get("version", "")),
        device=", ".join(dict.fromkeys(p.device for p in known)) or _planned_for(run) or "unknown device",
        platform=", ".join(dict.fromkeys(p.platform for p in known)),
        packages=", ".join(
            [f"arbench {known[0].arbench}", f"Python {known[0].python}"]
            + [f"torch {version}" for name, version in packages.items() if name == "torch"]
            if known
            else [f"arbench {run.run['arbench']}"]
            if run.run.get("arbench")
            else []
        ),
        outcomes=tuple(shown),
        failures=tuple(dict.fromkeys(bad)),  # tasks of a suite may fail for one reason
        command=_command(run.run.get("argv") or ()),
        started=_minute(str(run.run.get("started") or run.run.get("created") or "")),
        duration=number.duration(run.seconds) if run.seconds is not None else "",
        cell_time=number.duration(sum(result.wall_seconds for result in results)),
        cells=len(results) + len(run.missing),
        flags=tuple(flags.most_common()),
        numbers=len(metrics),
    )


def _planned_for(run: RunFolder) -> str:
    """The device and machine of the plan: results of cells that failed do not say theirs."""
    plan = run.run.get("plan")
    named = [plan.get("device"), plan.get("machine")] if isinstance(plan, dict) else []
    return ": ".join(str(name) for name in named if name)


def _minute(iso: str) -> str:
    """An ISO 8601 time to the minute, in UTC where it says its zone; as it is where it is not such a time."""
    try:
        time = datetime.fromisoformat(iso)
    except ValueError:
        return iso
    return f"{time.astimezone(UTC):%Y-%m-%d %H:%M} UTC" if time.tzinfo else f"{time:%Y-%m-%d %H:%M}"


def _command(argv: Sequence[Any]) -> str:
    words = [str(word) for word in argv]
    if not words:
        return "unknown"
    if words[0].rsplit("/", 1)[-1] in ("arbench", "__main__.py"):
        words = words[1:]
    return shlex.join(["arbench", *words])
