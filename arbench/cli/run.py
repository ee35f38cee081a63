"""`arbench run`: plans a suite, runs it, writes its report."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path


def run(
    suite: str,
    adapters: list[str],
    tasks: list[str],
    sets: list[str],
    weights: list[str],
    out: Path | None,
    device: str | None,
    workers: int | None,
    track: str | None,
) -> int:
    """Runs `suite` in the folder `out` (default `runs/<run id>`); returns the exit code."""
    from rich.console import Console
    from rich.text import Text

    from .. import registry
    from ..features.weight_files import parse_given
    from ..journal import now
    from ..run.display import duration
    from ..run.plan import make_plan
    from ..run.session import Session, slots_for
    from ..run.store import RunFile, Store, new_run_id
    from ..spec.suite import Settings
    from ..spec.suite_file import read

    console = Console(highlight=False, markup=False)
    suite_file = read(suite, sets, parse_given(weights, registry.cards()))
    plan = make_plan(suite_file, adapter_globs=adapters, task_names=tasks, device=device)
    slots_for(Settings(device=plan.device), workers)  # a wrong --workers is told before the folder exists
    track = track or os.environ.get("MLFLOW_TRACKING_URI") or None
    run_id = new_run_id(suite_file.suite.suite, plan)
    folder = out if out is not None else Path("runs") / run_id
    record = RunFile(
        run_id=run_id,
        started=now(),
        argv=tuple(sys.argv),
        suite=suite_file.suite,
        suite_path=suite_file.path,
        origins=tuple(suite_file.origins.items()),
        adapter_globs=tuple(adapters),
        task_names=tuple(tasks),
        workers=workers,
        track=track,
        plan=plan,
    )
    store = Store.create(folder, record)
    console.print(
        Text(
            f"{suite_file.suite.suite}: {len(plan.cells)} cells on {plan.device}, about"
            f" {duration(plan.minutes * 60)}, in {shlex.quote(str(folder))}"
        ),
        soft_wrap=True,
    )
    for note in dict.fromkeys(note for planned in plan.cells for note in planned.notes):
        console.print(Text(f"note: {note}"), soft_wrap=True)
    try:
        return Session(store, console, "run", workers, track).go()
    finally:
        store.close()
