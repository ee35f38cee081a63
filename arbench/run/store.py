"""The folder of a run: where everything lies, and errors that say what to do.

runs/<run_id>/run.json            the suite as resolved, the plan, argv, schema version
              journal.jsonl       what has happened (see `arbench.journal`)
              lock                held by the one supervisor that may write
              cells/<result_id>/  result.json, log.txt, units/<start>-<stop>.npz, artifacts
              results.parquet     every metric of every cell, one row each
              table.parquet       one row per adapter and settings, one column per metric
              report.html, mlflow.db, mlartifacts/
"""

from __future__ import annotations

import re
import shlex
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import ValidationError

from .. import __version__
from ..errors import DamagedFile, InputError, StoreError, UsageError
from ..files import Lock, digest, locked_by, remove_leftovers, write_atomic
from ..json_text import parse_json
from ..remote.cached import cache_folder
from ..spec.base import Frozen
from ..spec.identity import canonical_json
from ..spec.problem import said
from ..spec.result import SCHEMA_VERSION, Result
from ..spec.schema1 import upgraded
from ..spec.suite import Suite
from ..spec.suite_file import SuiteFile
from ..spec.unit import Unit
from .plan import Plan
from .shard import Shard, share_of

LOCK = "lock"
Model = TypeVar("Model", bound=Frozen)


class RunFile(Frozen):
    """`run.json`: all that `arbench resume DIR` needs."""

    schema_version: int = SCHEMA_VERSION
    run_id: str
    arbench: str = __version__
    started: str
    """ISO 8601, UTC."""
    argv: tuple[str, ...]
    suite: Suite
    """As resolved: the file with every `--set` applied."""
    suite_path: str
    origins: tuple[tuple[tuple[str | int, ...], str], ...]
    """Where each value of the suite came from, by location."""
    adapter_globs: tuple[str, ...] = ()
    task_names: tuple[str, ...] = ()
    workers: int | None = None
    executor: Literal["local", "ray"] = "local"
    """With which it began; `address` is of its cluster."""
    address: str | None = None
    track: str | None = None
    shard: Shard | None = None
    """Which of the jobs that share the run this is."""
    mirror: str = ""
    """The address that the run is uploaded to; this folder is then where it is written."""
    plan: Plan
    """Of the whole run, in a shard too: `Store.plan` is what is done here."""

    def suite_file(self) -> SuiteFile:
        return SuiteFile(self.suite, self.suite_path, dict(self.origins))


def new_run_id(suite: str, plan: Plan) -> str:
    """Suite name, 6 hex digits of what is run, and the time (UTC), so that names sort and do not meet."""
    what = digest(canonical_json([cell.cell.result_id for cell in plan.cells]).encode())[:6]
    name = re.sub(r"[^\w.-]+", "-", suite).strip("-.") or "suite"
    return f"{name}-{what}-{datetime.now(UTC):%Y%m%dT%H%M%SZ}"


class Store:
    """A run's folder, held by one live supervisor (`create` and `resume`) or only read (`read`)."""

    def __init__(self, folder: Path, run: RunFile, lock: Lock | None = None) -> None:
        self.folder = folder
        self.run = run
        self._lock = lock

    @classmethod
    def create(cls, folder: Path, run: RunFile) -> Store:
        """A new run in `folder`, which must not exist or be empty."""
        if (folder / "run.json").exists():
            raise UsageError(f"{folder} holds a run already", "", f"arbench resume {folder}, or choose another --out")
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if any(folder.iterdir()):
                raise UsageError(f"{folder} is not empty", "a run has a folder of its own", "choose another --out")
            (folder / "cells").mkdir()
        except OSError as error:
            wrong = isinstance(error, FileExistsError | NotADirectoryError)
            raise (UsageError if wrong else StoreError)(
                f"cannot make the run's folder {folder}", error.strerror or str(error), "choose another --out"
            ) from error
        _check_space(folder, share_of(run.plan, run.shard).disk_bytes)
        lock = _lock(folder)
        write_atomic(folder / "run.json", _json(run))
        return cls(folder, run, lock)

    @classmethod
    def read(cls, folder: Path) -> Store:
        """The run in `folder`, to look at."""
        return cls(folder, read_run(folder))

    @classmethod
    def hold(cls, folder: Path) -> Store:
        """The run in `folder`, which no other process may be running, or run until it is closed."""
        return cls(folder, read_run(folder), _lock(folder))

    @classmethod
    def resume(cls, folder: Path) -> Store:
        """The run in `folder`, to resume: no other process may be running it."""
        store = cls.hold(folder)
        remove_leftovers(folder)
        return store

    def close(self) -> None:
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    @property
    def plan(self) -> Plan:
        """What is done in this folder: the run's plan, or a shard's share of it."""
        return share_of(self.run.plan, self.run.shard)

    @property
    def resumed_as(self) -> str:
        """What `arbench resume` is to be given, quoted for a shell: the folder, or where it was copied from."""
        copied = self.run.mirror and self.folder.resolve().is_relative_to(cache_folder().resolve())
        return shlex.quote(self.run.mirror if copied else str(self.folder))

    @property
    def journal(self) -> Path:
        return self.folder / "journal.jsonl"

    def cell(self, result_id: str) -> Path:
        return self.folder / "cells" / result_id

    def log(self, result_id: str) -> Path:
        return self.cell(result_id) / "log.txt"

    def result(self, result_id: str) -> Path:
        return self.cell(result_id) / "result.json"

    def unit(self, result_id: str, unit: Unit) -> Path:
        return self.cell(result_id) / "units" / f"{unit.name}.npz"

    def replace_run(self, run: RunFile) -> None:
        write_atomic(self.folder / "run.json", _json(run))
        self.run = run

    def write_result(self, result: Result) -> str:
        return write_atomic(self.result(result.result_id), _json(result))

    def read_result(self, result_id: str) -> Result:
        """The stored result of a cell; a `StoreError` if it is not there, damaged or of a newer schema."""
        return parse_result(self.result(result_id))

    def read_whole(self, path: Path, wanted: str) -> bytes | None:
        """The content of `path`, or None if it is missing or not what it was."""
        try:
            data = path.read_bytes()
        except OSError:
            return None
        return data if digest(data) == wanted else None


def _json(model: Frozen) -> bytes:
    return (model.model_dump_json(indent=1) + "\n").encode()


def parse_result(path: Path) -> Result:
    """A `result.json`; a `StoreError` if it is missing, damaged or of a newer schema."""
    return _parse(path, Result, "the file is damaged", "arbench resume DIR writes it again")


def read_run(folder: Path) -> RunFile:
    """The `run.json` of `folder`, with an error for a folder that is not a run or comes from a newer arbench."""
    if not (folder / "run.json").is_file():
        why = "it has no run.json" if folder.is_dir() else "it is a file" if folder.exists() else "it does not exist"
        raise InputError(f"{folder} is not the folder of a run", why, "arbench ls runs")
    if is_scores(folder):
        raise InputError(
            f"{folder} holds scores, not a run", "`arbench score` wrote it in one go", f"arbench report {folder}"
        )
    path, hint = folder / "run.json", "start a new run: arbench run SUITE"
    return _parse(path, RunFile, "the file is damaged", hint, DamagedFile)


def is_scores(folder: Path) -> bool:
    """Whether a folder is one that `arbench score` has written: its run.json has no plan."""
    try:
        value = parse_json((folder / "run.json").read_bytes())
    except (OSError, ValueError):
        return False
    return isinstance(value, dict) and "run_id" in value and "plan" not in value


def _parse(
    path: Path, model: type[Model], why: str, hint: str, wrong: type[StoreError | DamagedFile] = StoreError
) -> Model:
    try:
        value: Any = parse_json(path.read_bytes())
    except (OSError, ValueError) as error:
        raise wrong(f"cannot read {path}", f"{why}: {error}", hint) from error
    version = value.get("schema_version") if isinstance(value, dict) else None
    value = upgraded(value) if model is Result and version == 1 else value
    if isinstance(version, int) and version > SCHEMA_VERSION:
        raise wrong(
            f"{path} was written by a newer arbench",
            f"its schema is {version}, this version reads up to {SCHEMA_VERSION}",
            "pip install --upgrade arbench",
        )
    try:
        return model.model_validate(value)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        if "unknown task" in first["msg"]:
            raise wrong(
                f"cannot read {path}", first["msg"].removeprefix("Value error, "), "install the package that offers it"
            ) from error
        raise wrong(f"cannot read {path}", f"{why}: {place}: {said(first)}", hint) from error


def _lock(folder: Path) -> Lock:
    return Lock(folder / LOCK, f"wait for it, or stop it; arbench status {folder} shows how far it is")


def running(folder: Path) -> int | None:
    """The process that is running `folder`, or None."""
    return locked_by(folder / LOCK)


def _check_space(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise StoreError(
            f"not enough disk space for the run in {folder}",
            f"it needs about {needed / 1e9:.2f} GB, {free / 1e9:.2f} GB are free",
            "choose another --out, or make n smaller: --set generate.n=1000",
        )
