"""`arbench status`: the outcome of every cell of a run, and how far it is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def status(folder: Path, json_output: bool) -> int:
    """Prints what the journal in `folder` says, of a running run too; returns the exit code."""
    from ..run.session import state_of
    from ..run.store import Store, running

    store = Store.read(folder)
    state = state_of(store)
    holder = running(folder)
    cells: list[dict[str, Any]] = [
        {
            "task": cell.planned.cell.task.task,
            "adapter": cell.planned.cell.adapter,
            "swept": cell.planned.cell.swept,
            "outcome": cell.outcome or ("done" if cell.done else _at_work(cell.started, holder)),
            "units_done": len(cell.units),
            "units": len(cell.planned.units),
            "seconds": round(cell.seconds, 3),
            "reason": cell.reason if cell.outcome else "",
            "result_id": cell.id,
        }
        for cell in state.values()
    ]
    document = {
        "run_id": store.run.run_id,
        "suite": store.run.suite.suite,
        "folder": str(folder),
        "resume": store.resumed_as,
        "process": holder,
        "cells": cells,
    }
    if json_output:
        print(json.dumps(document, indent=1))
    else:
        _print(document)
    return 0


def _at_work(started: str, holder: int | None) -> str:
    return "running" if started and holder is not None else "waiting"


def _print(document: dict[str, Any]) -> None:
    from rich.text import Text

    from arbench.terminal import PlainConsole

    from ..terminal import Column, print_table

    console = PlainConsole()
    swept = any(cell["swept"] for cell in document["cells"])
    columns = [Column("task", whole=True), Column("adapter", keep=True), *([Column("setting")] if swept else [])]
    columns += [Column("outcome", keep=True), Column("units", right=True, whole=True), Column("reason")]
    rows = []
    for cell in document["cells"]:
        row = [cell["task"], cell["adapter"], *([cell["swept"]] if swept else [])]
        rows.append([*row, cell["outcome"], f"{cell['units_done']}/{cell['units']}", cell["reason"]])
    console.print(Text(document["run_id"]), soft_wrap=True)
    print_table(console, columns, rows, rule=True)
    counts: dict[str, int] = {}
    for cell in document["cells"]:
        counts[cell["outcome"]] = counts.get(cell["outcome"], 0) + 1
    words = ", ".join(f"{count} {outcome}" for outcome, count in counts.items())
    at_work = document["process"]
    console.print(Text(words + (f"; process {at_work} is at work" if at_work is not None else "")), soft_wrap=True)
    left = [cell for cell in document["cells"] if cell["outcome"] not in ("ok", "unsupported", "done")]
    if left and at_work is None:
        console.print(Text(f"to resume: arbench resume {document['resume']}"), soft_wrap=True)
