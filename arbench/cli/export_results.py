"""`arbench export` of results: run folders into MLflow, TensorBoard or Weights & Biases."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from arbench.errors import OK, PrerequisiteError, StoreError, UnknownName, UsageError, counted
from arbench.terminal import PlainConsole

if TYPE_CHECKING:
    from arbench.report.folders import RunFolder

WAIT = 3600.0
"""Seconds for MLflow to take one run."""
FORMATS = ("mlflow", "tensorboard", "wandb")


def export_results(folders: Sequence[Path], name: str, out: Path | None, track: str | None) -> int:
    """Sends every run in or below `folders` to the program `name`; what is there already is left alone."""
    from arbench.report.folders import read_runs
    from arbench.report.series import runs_in

    if name not in FORMATS:
        raise UnknownName("format", name, FORMATS, f"--format {FORMATS[0]}")
    runs = read_runs(runs_in(folders))
    if name == "mlflow":
        if out is not None:
            raise UsageError(
                "--out with --format mlflow", "MLflow takes an address", f"--track sqlite:///{out}/runs.db"
            )
        return _to_mlflow(runs, track)
    if track is not None:
        raise UsageError(f"--track with --format {name}", "it writes a folder, and asks no server", "--out DIR")
    if out is None:
        raise UsageError(f"--format {name} writes a folder", "none is named", "--out DIR")
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(f"cannot write {out}", error.strerror or str(error), "name another --out DIR") from error
    if name == "tensorboard":
        from arbench.track.tensorboard import write

        then = f"to see them: tensorboard --logdir {shlex.quote(str(out))}"
    else:
        from arbench.track.wandb import write

        then = f"to send them: wandb sync {shlex.quote(str(out))}/wandb/offline-run-*"
    console = PlainConsole()
    for run in runs:
        count = write(run.run_id, run.run, [(entry.result, entry.folder) for entry in run.entries], out)
        console.print(f"{_told(run, count)} in {out}", soft_wrap=True)
    console.print(then, soft_wrap=True)
    return OK


def _told(run: RunFolder, settings: int) -> str:
    return f"{run.path}: {counted(len(run.entries), 'result')} of {counted(settings, 'setting')}"


def _to_mlflow(runs: Sequence[RunFolder], track: str | None) -> int:
    from arbench.track import target as tracking
    from arbench.track.sink import Tracker

    address = track or tracking.of_environment()
    if not address or address == tracking.OFF:
        raise UsageError("no MLflow to export to", "neither --track nor MLFLOW_TRACKING_URI names one", "--track URI")
    console = PlainConsole()
    for number, run in enumerate(runs):
        store = tracking.target(tracking.absolute(address) or address, run.path)
        if number == 0:
            tracking.check(store, "name another one")
        tracker = Tracker(store, run.path)
        tracker.start(run.run)
        for entry in run.entries:
            tracker.cell(entry.result, entry.folder)
        report = run.path / "report.html"
        whole = not run.missing and all(entry.result.outcome in ("ok", "unsupported") for entry in run.entries)
        tracker.finish(report if report.is_file() else None, "complete" if whole else "partial", WAIT)
        if tracker.problem is not None and len(tracker.tracked) < len(run.entries):
            done = f"{len(tracker.tracked)} of {counted(len(run.entries), 'result')} of {run.path} are there"
            raise PrerequisiteError(tracker.problem, done, "the same command again sends the rest")
        for text in (*tracker.remarks, *([tracker.problem] if tracker.problem else [])):
            console.print(f"tracking: {text}", soft_wrap=True)
        count = len({(entry.result.adapter, entry.result.settings_id) for entry in run.entries})
        console.print(_told(run, count), soft_wrap=True)
    console.print(f"mlflow: {tracking.target(address, Path()).view}", soft_wrap=True)
    return OK
