"""Runs as offline folders of Weights & Biases: a run of it per settings, grouped by the run folder."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from ..errors import PrerequisiteError
from .settings import Cell, SettingsRecord, records


def write(run_id: str, run: Mapping[str, Any], cells: Sequence[Cell], out: Path) -> int:
    """Offline runs in `out`/wandb, for `wandb sync`; returns how many. Nothing is sent.

    Ids come from the run and its settings: a run that is exported and sent twice is one run there. Raises
    `PrerequisiteError` without the package `wandb`.
    """
    try:
        import wandb
    except ImportError as error:
        raise PrerequisiteError("--format wandb needs the package wandb", str(error), "pip install wandb") from error
    suite = run.get("suite")
    project = f"arbench-{suite.get('suite', 'unnamed') if isinstance(suite, dict) else 'unnamed'}"
    out.mkdir(parents=True, exist_ok=True)
    found = records(run, cells)
    try:
        for own in found:
            _write(own, run_id, project, out)
    finally:
        wandb.teardown()  # its service writes the last of the files when it ends
    return len(found)


def _write(own: SettingsRecord, run_id: str, project: str, out: Path) -> None:
    import wandb

    identity = hashlib.sha256(f"{run_id} {own.adapter} {own.settings_id}".encode()).hexdigest()[:16]
    session = wandb.init(
        mode="offline", dir=str(out), project=project, group=run_id, id=identity, name=own.name,
        job_type=own.tags.get("arbench.kind", ""), config={**own.params, **own.tags}, save_code=False,
        tags=[text[:64] for text in own.tags.get("arbench.tasks", "").split("; ") if text],
        settings=wandb.Settings(
            silent=True, console="off", disable_git=True, x_disable_meta=True, x_disable_stats=True
        ),
    )  # fmt: skip
    for step, metrics in enumerate(own.metrics):
        opened = {f"{task}/samples": Image.open(io.BytesIO(sheet)) for task, sheet in own.sheets.items()}
        sheets = {name: wandb.Image(image) for name, image in opened.items()} if step == 0 else {}
        session.log({**metrics, **sheets}, step=step)
    session.finish(exit_code=0 if own.tags.get("arbench.outcome") in ("ok", "unsupported") else 1)
