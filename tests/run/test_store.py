"""The run's folder: whole files or none, one supervisor at a time, and errors that say what to do."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from arbench.errors import DamagedFile, InputError, StoreError, UsageError
from arbench.run.plan import Plan
from arbench.run.store import RunFile, Store, parse_result, read_run, running
from arbench.spec.result import SCHEMA_VERSION, Result
from arbench.spec.suite_file import parse


def run_file(disk_bytes: int = 0) -> RunFile:
    suite_file = parse("suite: s\ntasks:\n  - speed\n", "s.yaml", ["settings.seed=3"])
    return RunFile(
        run_id="s-1",
        started="2000-01-01T00:00:00+00:00",
        argv=("arbench", "run", "s"),
        suite=suite_file.suite,
        suite_path=suite_file.path,
        origins=tuple(suite_file.origins.items()),
        plan=Plan(device="cpu", machine="m", weights={}, cells=()),
    )


def test_run_json_brings_back_suite_and_origins(tmp_path):
    Store.create(tmp_path / "r", run_file()).close()
    back = read_run(tmp_path / "r")
    assert back == run_file()
    assert back.suite_file().origins["settings", "seed"] == "--set settings.seed=3"
    assert back.suite_file().origins["tasks", 0] == "s.yaml:3"


def test_a_used_folder_is_refused(tmp_path):
    Store.create(tmp_path / "r", run_file()).close()
    with pytest.raises(UsageError, match="holds a run already") as caught:
        Store.create(tmp_path / "r", run_file())
    assert "arbench resume" in caught.value.hint
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").write_text("x")
    with pytest.raises(UsageError, match="not empty"):
        Store.create(tmp_path / "full", run_file())
    (tmp_path / "file").write_text("x")
    with pytest.raises(UsageError, match="cannot make the run's folder"):
        Store.create(tmp_path / "file" / "r", run_file())


def test_no_permission_is_a_store_error(tmp_path):
    """As root, who may write everywhere, the same answer comes from a file system that nobody may write to."""
    if os.geteuid() == 0:
        folder = Path("/proc/arbench-run")
    else:
        (tmp_path / "locked").mkdir(mode=0o500)
        folder = tmp_path / "locked" / "r"
    with pytest.raises(StoreError, match="cannot make the run's folder"):
        Store.create(folder, run_file())


def test_not_a_run_a_newer_one_and_a_damaged_one(tmp_path):
    with pytest.raises(InputError, match="is not the folder of a run"):
        read_run(tmp_path)
    path = tmp_path / "run.json"
    path.write_text(json.dumps({**run_file().plain(), "schema_version": SCHEMA_VERSION + 1, "future": 1}))
    with pytest.raises(DamagedFile, match="newer arbench") as caught:
        read_run(tmp_path)
    assert str(SCHEMA_VERSION + 1) in caught.value.why
    path.write_text(run_file().model_dump_json()[:-20])
    with pytest.raises(DamagedFile, match="damaged"):
        read_run(tmp_path)
    path.write_text("{}")
    with pytest.raises(DamagedFile, match="run_id"):
        read_run(tmp_path)


def test_a_locked_run_names_its_holder_and_is_free_after_its_death(tmp_path):
    Store.create(tmp_path / "r", run_file()).close()
    code = (
        "import sys, time; from pathlib import Path; from arbench.run.store import Store\n"
        "store = Store.resume(Path(sys.argv[1])); print('held', flush=True); time.sleep(60)"
    )
    holder = subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "r")], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    with pytest.raises(StoreError, match="is in use") as caught:
        Store.resume(tmp_path / "r")
    assert f"process {holder.pid}" in caught.value.why
    assert running(tmp_path / "r") == holder.pid
    holder.kill()
    holder.wait()
    holder.stdout.close()
    assert running(tmp_path / "r") is None
    Store.resume(tmp_path / "r").close()


def test_leftovers_of_a_crash_are_swept(tmp_path):
    Store.create(tmp_path / "r", run_file()).close()
    leftover = tmp_path / "r" / "cells" / "res-1" / "units" / ".000000-000008.npz.123.tmp"
    leftover.parent.mkdir(parents=True)
    leftover.write_bytes(b"half")
    Store.resume(tmp_path / "r").close()
    assert not leftover.exists()


def test_too_little_space_is_said_before_anything_starts(tmp_path, monkeypatch):
    run = run_file()
    monkeypatch.setattr(Plan, "disk_bytes", property(lambda self: 10**18))
    with pytest.raises(StoreError, match="not enough disk space") as caught:
        Store.create(tmp_path / "r", run)
    assert "1000000000.00 GB" in caught.value.why
    assert not (tmp_path / "r" / "run.json").exists()


def test_a_damaged_result_names_the_file(tmp_path):
    result = Result(
        result_id="res-1", settings_id="set-1", adapter="a", family="other", kind="generator", task="generate",
        parameters={}, outcome="ok",
    )  # fmt: skip
    path = tmp_path / "result.json"
    path.write_text(result.model_dump_json())
    assert parse_result(path) == result
    path.write_text(result.model_dump_json().replace('"ok"', '"fine"'))
    with pytest.raises(StoreError, match="outcome"):
        parse_result(path)
