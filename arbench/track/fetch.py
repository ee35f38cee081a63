"""Runs that an MLflow store keeps, brought back as run folders: what reads nights in a folder reads them too."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from ..errors import ArbenchError, InputError
from ..json_text import parse_json
from ..remote.address import SCHEMES
from ..spec.result import SCHEMA_VERSION, Result
from ..spec.schema1 import upgraded
from . import target

if TYPE_CHECKING:
    from mlflow.entities import Run
    from mlflow.tracking import MlflowClient

PAGE = 1000
"""Runs that one call asks for."""


def is_store(text: str) -> bool:
    """Whether it is the address of a store of MLflow, and not a folder or the address of one."""
    scheme, address, rest = text.partition("://")
    if scheme == "file":
        return any(Path(rest).glob("*/meta.yaml"))
    return text.startswith("sqlite:") or (address != "" and scheme.lower() not in SCHEMES)


def fetch(address: str, into: Path, progress: Callable[[int, int], None] = lambda done, count: None) -> list[Path]:
    """The runs of every arbench experiment at `address`, each a folder in `into` with run.json and its results.

    `progress` is told how many runs of how many are here. Raises `InputError` where there is none, and what
    `arbench.track.target.check` raises where the store gives no answer.
    """
    store = target.target(target.absolute(address) or address, Path())
    if store.database is not None and not store.database.exists():
        raise InputError(f"no database {store.database}", "", "name the address that the runs were tracked at")
    target.check(store, "name folders of runs")
    client = target.connect(store)
    try:
        experiments = client.search_experiments(filter_string="name LIKE 'arbench/%'")
        ids = [str(experiment.experiment_id) for experiment in experiments]
        parents = [*_search(client, ids, "tags.`arbench.level` = 'run'")]
        folders = []
        for done, parent in enumerate(parents):
            folder = into / str(done)  # its id is the server's word
            if _fetch_run(client, ids, parent, folder):
                folders.append(folder)
            progress(done + 1, len(parents))
    except ArbenchError:
        raise
    except Exception as error:
        why = target.reason(error)
        raise InputError(f"cannot read runs from {store.shown}", why, "ask the server again") from error
    if not folders:
        kept = f"it has {len(parents)} runs without results" if parents else "it has no experiment of arbench"
        raise InputError(f"no results in {store.shown}", kept, f"arbench export runs --format mlflow --track {address}")
    return folders


def _fetch_run(client: MlflowClient, experiments: list[str], parent: Run, folder: Path) -> bool:
    """Whether the run has results; a store may keep numbers alone."""
    found, started = False, list[str]()
    for child in _search(client, experiments, f"tags.`arbench.parent` = '{parent.info.run_id}'"):
        for path in _result_files(client, child.info.run_id):
            (folder / "fetched").mkdir(parents=True, exist_ok=True)
            file = Path(client.download_artifacts(child.info.run_id, path, str(folder / "fetched")))
            result = Result.model_validate(upgraded(parse_json(file.read_bytes())))
            cell = folder / "cells" / result.result_id
            cell.mkdir(parents=True, exist_ok=True)
            file.replace(cell / "result.json")
            found, started = True, [*started, *([result.started] if result.started else [])]
    if found:
        tags = parent.data.tags
        own = datetime.fromtimestamp(parent.info.start_time / 1000, UTC).isoformat()
        began = min([*started, own])  # a run that was exported without its own time has that of the export
        suite = {"suite": tags.get("arbench.suite", ""), "version": tags.get("arbench.suite_version", "")}
        run = {"schema_version": SCHEMA_VERSION, "run_id": tags["arbench.run_id"], "started": began, "suite": suite}
        (folder / "run.json").write_text(json.dumps(run), encoding="utf-8")
    return found


def _result_files(client: MlflowClient, run: str, folder: str | None = None) -> Iterator[str]:
    for each in client.list_artifacts(run, folder):
        if ".." in PurePosixPath(each.path).parts or PurePosixPath(each.path).is_absolute():
            raise InputError(
                f"the store has a file {each.path!r}", "its path leads elsewhere", "ask who runs the server"
            )
        if each.is_dir:
            yield from _result_files(client, run, each.path)
        elif each.path.endswith("/result.json"):
            yield each.path


def _search(client: MlflowClient, experiments: list[str], query: str) -> Iterator[Run]:
    token = None
    while experiments:
        page = client.search_runs(experiments, query, max_results=PAGE, page_token=token)
        yield from page
        token = page.token
        if not token:
            return
