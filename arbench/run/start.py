"""The start of a run: a plan of its suite and a folder of its own, whoever asked for it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from ..journal import now
from ..spec.suite import Settings
from ..spec.suite_file import SuiteFile
from .plan import make_plan
from .session import slots_for
from .store import RunFile, Store, new_run_id


def start(
    suite_file: SuiteFile,
    *,
    adapters: Sequence[str] = (),
    tasks: Sequence[str] = (),
    out: Path | None = None,
    device: str | None = None,
    workers: int | None = None,
    track: str | None = None,
    argv: tuple[str, ...] = (),
) -> Store:
    """The run in its new folder, `out` or `runs/<run id>`; a `Session` does the work.

    `adapters`, `tasks` and `device` as for `make_plan`; `track` is an MLflow URI, by default that of the environment.
    """
    plan = make_plan(suite_file, adapter_globs=adapters, task_names=tasks, device=device)
    slots_for(Settings(device=plan.device), workers)  # a wrong --workers is told before the folder exists
    run_id = new_run_id(suite_file.suite.suite, plan)
    record = RunFile(
        run_id=run_id,
        started=now(),
        argv=argv,
        suite=suite_file.suite,
        suite_path=suite_file.path,
        origins=tuple(suite_file.origins.items()),
        adapter_globs=tuple(adapters),
        task_names=tuple(tasks),
        workers=workers,
        track=track or os.environ.get("MLFLOW_TRACKING_URI") or None,
        plan=plan,
    )
    return Store.create(out if out is not None else Path("runs") / run_id, record)
