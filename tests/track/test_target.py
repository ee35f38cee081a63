"""Stores of MLflow: which file an address opens, what is refused before a run, and what a moved one finds."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from mlflow.tracking import MlflowClient
from mlflow.tracking._tracking_service.utils import _artifact_repos_cache

from arbench.errors import ArbenchError, ConfigError, PrerequisiteError, StoreError
from arbench.run.replay import replay
from arbench.spec.result import Metric, Result
from arbench.track import database
from arbench.track import target as tracking
from arbench.track.sink import Tracker
from arbench.track.target import Target

WAIT = 300.0
SUITE = {"suite": "nightly", "version": 1}


def result(number: int) -> Result:
    return Result(
        result_id=f"res-{number:012d}", settings_id="set-1", adapter="raster/llamagen-mini", family="raster",
        kind="generator", task="generate", parameters={}, sampling=None, load={}, outcome="ok",
        metrics=(Metric(name="fid", value=float(number), n=8, convention="adm"),), started="2000-01-01T00:01:00+00:00",
    )  # fmt: skip


def stored(folder: Path, *results: Result) -> Path:
    """A run folder with these results."""
    for each in results:
        cell = folder / "cells" / each.result_id
        cell.mkdir(parents=True, exist_ok=True)
        (cell / "result.json").write_text(each.model_dump_json())
    return folder


def track(store: Target, folder: Path, *results: Result) -> Tracker:
    _artifact_repos_cache.clear()  # by run, for the life of a process; ours here stands for several
    (folder / "report.html").write_text(f"the report of {folder}")
    tracker = Tracker(store, folder)
    tracker.start({"run_id": folder.name, "suite": SUITE})
    for each in results:
        tracker.cell(each, folder / "cells" / each.result_id)
    tracker.finish(folder / "report.html", "complete", WAIT)
    assert tracker.problem is None
    return tracker


def files(store: Target) -> dict[str, list[str]]:
    """Name of each run -> files that MLflow itself finds, whole, by what the database says."""
    client = MlflowClient(tracking_uri=store.uri)
    experiment = client.get_experiment_by_name("arbench/nightly")
    assert experiment is not None
    found = {}
    for run in client.search_runs([experiment.experiment_id]):
        names, waiting = [], client.list_artifacts(run.info.run_id)
        while waiting:
            each = waiting.pop(0)
            waiting += client.list_artifacts(run.info.run_id, each.path) if each.is_dir else []
            names += [] if each.is_dir else [each.path]
        assert all(Path(client.download_artifacts(run.info.run_id, name)).stat().st_size for name in names)
        found[run.info.run_name] = names
    return found


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database that MLflow has just made, which takes it seconds."""
    folder = tmp_path_factory.mktemp("empty")
    tracking.connect(tracking.own(folder))
    return folder / "mlflow.db"


# ---- which file ----


@pytest.mark.parametrize("name", ["plain", "what?", "n#2", "50%20off", "100%", "a b", "a?b=c", "ü+&;'=@:"])
def test_the_database_is_the_file_that_is_named_and_no_other(name: str, tmp_path: Path, empty: Path) -> None:
    folder = stored(tmp_path / name / "run", result(1))
    shutil.copy(empty, folder / "mlflow.db")
    store = tracking.own(folder)
    track(store, folder, result(1))
    assert files(store) == {"run": ["report.html"], "raster/llamagen-mini": ["generate/result.json"]}
    assert [path.name for path in tmp_path.iterdir()] == [name]
    with sqlite3.connect(folder / "mlflow.db") as connection:
        assert connection.execute("SELECT count(*) FROM runs").fetchone() == (2,)
    assert tracking.target(f"sqlite:///{folder}/mlflow.db", tmp_path / "other").database == folder / "mlflow.db"
    assert tracking.target(store.uri, folder) == store  # what the summary says can be given again


def test_an_address_is_relative_to_where_it_was_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert tracking.absolute("sqlite:///nights.db") == f"sqlite:///{tmp_path}/nights.db"
    assert tracking.absolute("sqlite:///nights.db?timeout=60") == f"sqlite:///{tmp_path}/nights.db?timeout=60"
    for address in (None, "off", "http://host:5000", "postgresql://host/db"):
        assert tracking.absolute(address) == address


def test_options_of_an_address_stay_options(tmp_path: Path) -> None:
    store = tracking.target(f"sqlite:///{tmp_path}/nights.db?timeout=60", tmp_path / "run")
    assert (store.database, store.artifacts) == (tmp_path / "nights.db", tmp_path / "mlartifacts")
    assert store.uri.endswith("nights.db?timeout=60")


def test_artifacts_are_beside_the_store_and_never_inside_a_run(tmp_path: Path) -> None:
    run = tmp_path / "runs" / "night1"
    assert tracking.target(f"sqlite:///{tmp_path}/nights.db", run).artifacts == tmp_path / "mlartifacts"
    assert tracking.target("postgresql://host/db", run).artifacts == tmp_path / "runs" / "mlartifacts"
    assert tracking.target("http://host:5000", run).artifacts is None
    assert tracking.target(f"sqlite:///{run}/mlflow.db", run) == tracking.own(run)
    assert tracking.own(run).artifacts == run / "mlartifacts"


def test_a_password_is_not_shown(tmp_path: Path) -> None:
    store = tracking.target("postgresql://me:secret@host/db", tmp_path)
    assert store.shown == "postgresql://me:***@host/db"
    assert "secret" not in store.view


# ---- before the run ----


class Answers(BaseHTTPRequestHandler):
    """A web server that is not MLflow's."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"<html>hello")

    do_POST = do_HEAD = do_GET  # noqa: N815

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def web() -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), Answers)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_what_cannot_be_used_is_told_before_anything_is_done(
    tmp_path: Path, web: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("no folder")
    (tmp_path / "text.db").write_text("no database at all, but words " * 200)
    (tmp_path / "folder.db").mkdir()
    with sqlite3.connect(tmp_path / "mine.db") as connection:
        connection.execute("CREATE TABLE recipes (name TEXT)")
    with sqlite3.connect(tmp_path / "half.db") as connection:
        connection.execute("CREATE TABLE experiments (name TEXT)")
    before = sorted(path.name for path in tmp_path.iterdir())
    cases: list[tuple[str, type[ArbenchError], str]] = [
        ("./mlruns", ConfigError, "next: --track sqlite:///"),
        ("nothing-of-the-kind://here", ConfigError, "nothing-of-the-kind"),
        ("sqlite://", ConfigError, "names no file"),
        ("sqlite:///:memory:", ConfigError, "names no file"),
        (f"sqlite:///{tmp_path}/file/x.db", StoreError, "file"),
        (f"sqlite:///{tmp_path}/text.db", StoreError, "not a database"),
        (f"sqlite:///{tmp_path}/folder.db", StoreError, "unable to open"),
        (f"sqlite:///{tmp_path}/mine.db", StoreError, "something else than MLflow"),
        (f"sqlite:///{tmp_path}/half.db", StoreError, "never finished"),
        ("http://127.0.0.1:9", PrerequisiteError, "no answer"),
        (web, PrerequisiteError, "cannot track at"),
    ]
    for address, error, words in cases:
        with pytest.raises(error) as caught:
            tracking.check(tracking.target(address, tmp_path / "run"), "--track off")
        assert type(caught.value) is error, address
        assert words in str(caught.value), address
        assert caught.value.hint, address
    assert sorted(path.name for path in tmp_path.iterdir()) == before
    with sqlite3.connect(tmp_path / "mine.db") as connection:
        assert connection.execute("SELECT name FROM sqlite_master").fetchall() == [("recipes",)]


# ---- half made ----


def test_a_database_is_made_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "new" / "mlflow.db"
    for error in (OSError(28, "No space left on device"), KeyboardInterrupt(), RuntimeError("a migration")):

        def stopped(place: Path, error: BaseException = error) -> None:
            place.write_bytes(b"half")
            Path(f"{place}-journal").write_bytes(b"of it")
            raise error

        with pytest.raises((StoreError, KeyboardInterrupt, RuntimeError)):
            database.make(path, stopped)
        assert list(path.parent.iterdir()) == []
    path.touch()  # as some tools leave it
    database.make(path, lambda place: place.write_bytes(b"whole") and None)  # type: ignore[func-returns-value]
    assert [each.name for each in path.parent.iterdir()] == ["mlflow.db"]
    database.make(path, stopped)  # it is there
    assert path.read_bytes() == b"whole"


KILLED = """
import sys
from pathlib import Path
from arbench.track import target
print("making", flush=True)
target.connect(target.own(Path(sys.argv[1])))
"""


def test_a_process_killed_while_it_makes_one_leaves_none(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(tmp_path)], stdout=subprocess.PIPE)
    try:
        deadline = time.monotonic() + WAIT
        while not any(path.stat().st_size for path in tmp_path.glob(".mlflow.db.*.tmp")):
            assert time.monotonic() < deadline
            assert process.poll() is None
            time.sleep(0.01)
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        assert process.stdout is not None
        process.stdout.close()
    assert not (tmp_path / "mlflow.db").exists()


@pytest.mark.parametrize("state", ["no tables", "some tables", "a version, no experiment"])
def test_a_runs_own_database_that_was_left_half_made_is_made_again(state: str, tmp_path: Path, empty: Path) -> None:
    path = tmp_path / "mlflow.db"
    if state == "a version, no experiment":
        shutil.copy(empty, path)
    with sqlite3.connect(path) as connection:
        if state == "no tables":
            connection.execute("CREATE TABLE alembic_version (version_num TEXT)")
        elif state == "some tables":
            connection.execute("CREATE TABLE experiments (experiment_id INTEGER)")
        else:
            connection.execute("DELETE FROM experiments")
    database.check(path, own=True)
    assert not path.exists()
    shutil.copy(empty, path)
    database.check(path, own=True)
    assert path.exists()


MAKING = """
import os, sys, time
from pathlib import Path
from arbench.track import database
def build(place):
    time.sleep(0.2)
    place.write_text(str(os.getpid()))
sys.stdin.read()
database.make(Path(sys.argv[1]), build)
"""


def test_of_several_that_make_one_at_once_all_use_the_same(tmp_path: Path) -> None:
    command = [sys.executable, "-c", MAKING, str(tmp_path / "nights.db")]
    processes = [subprocess.Popen(command, stdin=subprocess.PIPE) for _ in range(4)]
    for process in processes:
        assert process.stdin is not None
        process.stdin.close()
    assert [process.wait(WAIT) for process in processes] == [0] * 4
    assert [path.name for path in tmp_path.iterdir()] == ["nights.db"]
    assert int((tmp_path / "nights.db").read_text()) in [process.pid for process in processes]


# ---- moved ----


@pytest.mark.parametrize("how", ["moved", "copied", "moved twice"])
def test_a_run_folder_finds_its_files_where_it_is(how: str, tmp_path: Path, empty: Path) -> None:
    old, new = stored(tmp_path / "old" / "run", result(1)), tmp_path / "new" / "run"
    shutil.copy(empty, old / "mlflow.db")
    track(tracking.own(old), old, result(1))
    content = {path: path.read_bytes() for path in old.rglob("*") if path.is_file()}
    if how == "copied":
        shutil.copytree(old, new)
    else:
        new.parent.mkdir()
        old.rename(new)
        if how == "moved twice":
            track(tracking.own(new), new)
            (tmp_path / "third").mkdir()
            new = new.rename(tmp_path / "third" / "run")
    stored(new, result(2))
    tracker = track(tracking.own(new), new, result(1), result(2))
    assert ["has moved" in text for text in tracker.remarks] == [True]
    assert old.exists() == (how == "copied")
    assert {path: path.read_bytes() for path in content if path.exists()} == (content if how == "copied" else {})
    found = files(tracking.own(new))
    assert sorted(name for names in found.values() for name in names) == [
        *("generate/res-000000000002/result.json", "generate/result.json", "report.html")
    ]
    assert len(list((new / "mlartifacts").iterdir())) == 2  # the run and its settings
    assert track(tracking.own(new), new).remarks == []


def test_nights_that_share_a_store_keep_nothing_in_each_others_folders(tmp_path: Path, empty: Path) -> None:
    shutil.copy(empty, tmp_path / "nights.db")
    for night in ("night1", "night2"):
        folder = stored(tmp_path / "runs" / night, result(1))
        track(tracking.target(f"sqlite:///{tmp_path}/nights.db", folder), folder, result(1))
    shutil.rmtree(tmp_path / "runs" / "night1")
    store = tracking.target(f"sqlite:///{tmp_path}/nights.db", tmp_path / "runs" / "night2")
    assert files(store)["night1"] == files(store)["night2"] == ["report.html"]
    assert not (tmp_path / "runs" / "night1").exists()
    # the store is moved, with what is beside it
    (tmp_path / "elsewhere").mkdir()
    for name in ("nights.db", "mlartifacts"):
        (tmp_path / name).rename(tmp_path / "elsewhere" / name)
    store = tracking.target(f"sqlite:///{tmp_path}/elsewhere/nights.db", tmp_path / "runs" / "night2")
    track(store, tmp_path / "runs" / "night2")
    assert files(store)["night1"] == files(store)["night2"] == ["report.html"]
    assert not (tmp_path / "mlartifacts").exists()


def test_a_store_of_an_earlier_version_goes_on_beside_itself(tmp_path: Path, empty: Path) -> None:
    """It kept all nights' files in the folder of the first: they are found there as long as that is there."""
    shutil.copy(empty, tmp_path / "nights.db")
    first, second = (stored(tmp_path / name, result(1)) for name in ("night1", "night2"))
    uri = tracking.sqlite_uri(tmp_path / "nights.db")
    client = MlflowClient(tracking_uri=uri)
    experiment = client.create_experiment("arbench/nightly", artifact_location=(first / "mlartifacts").as_uri())
    run = client.create_run(experiment, run_name="night1")
    client.log_artifact(run.info.run_id, str(first / "cells" / result(1).result_id / "result.json"))
    store = tracking.target(f"sqlite:///{tmp_path}/nights.db", second)
    track(store, second, result(1))
    assert files(store)["night1"] == ["result.json"]
    assert files(store)["night2"] == ["report.html"]
    assert len(list((first / "mlartifacts").iterdir())) == 1


def test_a_place_that_somebody_chose_for_an_experiment_is_left_alone(tmp_path: Path, empty: Path) -> None:
    shutil.copy(empty, tmp_path / "nights.db")
    client = MlflowClient(tracking_uri=tracking.sqlite_uri(tmp_path / "nights.db"))
    chosen = (tmp_path / "big-disk").as_uri()
    client.create_experiment("arbench/nightly", artifact_location=chosen)
    client.create_experiment("mine", artifact_location=(tmp_path / "old" / "mlartifacts").as_uri())
    assert database.repoint(tmp_path / "nights.db", tmp_path / "mlartifacts", own=False) == 0
    places = {name: client.get_experiment_by_name(name) for name in ("arbench/nightly", "mine")}
    assert places["arbench/nightly"] is not None
    assert places["arbench/nightly"].artifact_location == chosen
    assert places["mine"] is not None
    assert places["mine"].artifact_location.endswith("old/mlartifacts")


def test_a_result_tracked_in_one_store_is_not_taken_for_tracked_in_another() -> None:
    planned: Any = type("Planned", (), {"cell": type("Cell", (), {"result_id": "res-1"})})
    records: list[dict[str, Any]] = [{"kind": "finished", "cell": "res-1", "outcome": "ok", "digest": "", "reason": ""}]
    for record, store in (({}, "?"), ({"store": "own"}, "own"), ({"store": "http://host"}, "http://host")):
        state = replay([planned], [*records, {"kind": "tracked", "cells": ["res-1"], **record}])
        assert state["res-1"].tracked == store


def test_an_address_that_mlflow_does_not_know_is_no_folder(tmp_path):
    with pytest.raises(ConfigError, match="nonsense://x") as caught:
        tracking.check(tracking.target("nonsense://x", tmp_path), "--track off")
    assert caught.value.hint == "--track off"
