"""MLflow's sqlite database as a file: made whole or not at all, and pointed at artifacts that have moved with it."""

from __future__ import annotations

import os
import secrets
import sqlite3
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

from ..errors import StoreError

COMPANIONS = ("", "-journal", "-wal", "-shm")
"""Ends of the names of the files that are one database."""
WAIT_SECONDS = 30.0
OTHER = "name another database with --track"


def check(path: Path, *, own: bool) -> None:
    """Raises `StoreError` for a file that is not a database of MLflow's, or one whose making was interrupted.

    A run's own database that was left half made holds nothing yet, and is removed so that it is made again.
    """
    if not path.exists() or not (path.is_dir() or path.stat().st_size):
        return
    try:
        tables, experiments = _content(path)
    except sqlite3.Error as error:
        raise StoreError(f"cannot track in {path}", str(error), OTHER) from error
    if "experiments" in tables and experiments:
        return
    if tables - {"alembic_version"} and "experiments" not in tables:
        raise StoreError(f"cannot track in {path}", "it is a database of something else than MLflow", OTHER)
    if not own:
        why = "its tables were never finished: MLflow is making it just now, or was stopped while it did"
        raise StoreError(f"cannot track in {path}", why, f"wait, or remove it; or {OTHER}")
    for companion in COMPANIONS:
        path.with_name(path.name + companion).unlink(missing_ok=True)


def _content(path: Path) -> tuple[set[str], int]:
    """Names of the tables, and the number of experiments: MLflow adds the first one when all tables are there."""
    with closing(sqlite3.connect(path, timeout=WAIT_SECONDS)) as connection:
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if "experiments" not in tables:
            return tables, 0
        (count,) = connection.execute("SELECT count(*) FROM experiments").fetchone()
        return tables, int(count)


def make(path: Path, build: Callable[[Path], None]) -> None:
    """Has `build` make the database beside `path`, unless one is there: no interruption leaves half of one.

    Of several processes that do so at once, one's file is kept, and the others use it.
    """
    if path.exists() and path.stat().st_size:
        return
    temporary = path.with_name(f".{path.name[:100]}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        build(temporary)
        if path.exists() and not path.stat().st_size:
            path.unlink()
        try:
            os.link(temporary, path)  # unlike a rename, it never takes the place of another's
        except FileExistsError:
            return
        except OSError:  # a file system without links
            temporary.replace(path)
    except OSError as error:
        raise StoreError(f"cannot make {path}", error.strerror or str(error), OTHER) from error
    finally:
        for companion in COMPANIONS:
            with suppress(OSError):
                temporary.with_name(temporary.name + companion).unlink()


def repoint(path: Path, artifacts: Path, *, own: bool) -> int:
    """Has our experiments keep their files in `artifacts`, the folder beside the database, and finds those of runs
    that were moved there with it. Returns how many runs were pointed elsewhere.

    A run's files are looked for here if they are here, or nowhere else. A database of the run's `own` is always
    meant with what lies beside it: it may be a copy, and the first one still be where it was.
    """
    moved = 0
    with closing(sqlite3.connect(path, timeout=WAIT_SECONDS)) as connection, connection:
        query = "SELECT experiment_id, artifact_location FROM experiments WHERE name LIKE 'arbench/%'"
        for experiment, location in connection.execute(query).fetchall():
            place = _local(location)
            if place is None or place.name != artifacts.name:
                continue  # somebody chose another place for it
            if place != artifacts:
                connection.execute(
                    "UPDATE experiments SET artifact_location = ? WHERE experiment_id = ?",
                    (artifacts.as_uri(), experiment),
                )
            runs = connection.execute("SELECT run_uuid, artifact_uri FROM runs WHERE experiment_id = ?", (experiment,))
            for run, uri in runs.fetchall():
                old = _local(uri)
                if old is None or old.parts[-3:-2] != (artifacts.name,):
                    continue
                new = artifacts.joinpath(*old.parts[-2:])
                if new != old and (own or new.exists() or not old.exists()):
                    connection.execute("UPDATE runs SET artifact_uri = ? WHERE run_uuid = ?", (new.as_uri(), run))
                    moved += 1
    return moved


def _local(address: str | None) -> Path | None:
    """The path of a place on this machine, None for any other."""
    parts = urlsplit(address or "")
    if not address or parts.scheme not in ("", "file"):
        return None
    return Path(url2pathname(parts.path) if parts.scheme else address)
