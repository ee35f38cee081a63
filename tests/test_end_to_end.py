"""The product as a user runs it: the shipped minis through `arbench run`, tracked, killed, resumed and repeated."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas
import pytest
from mlflow.tracking import MlflowClient

from arbench.evaluate.conventions import conventions
from arbench.spec.result import OWN
from arbench.spec.task import tasks
from tests import forked

SMALL = [
    *("generate.n=40", "reconstruct.n=40", "memory.batches=[2]"),
    *("speed.min_calls=3", "speed.min_seconds=0.1", "speed.max_seconds=1", "speed.batches=[2]"),
]
CHOSEN = (
    *("raster/*-mini", "random_order/randar-mini", "next_scale/var-mini", "continuous/*-mini", "hybrid/*-mini"),
    "tokenizers/mar-kl-mini",
)
FAMILIES = ("raster", "random_order", "next_scale", "continuous", "hybrid")
SAMPLES = 66
"""Two units of sample ids."""
MINI = "next_scale/var-mini"
GENERATE = f"""suite: repeat
adapters: [raster/llamagen-mini, next_scale/var-mini]
tasks:
  - generate: {{n: {SAMPLES}, reference: mnist5k/heldout}}
"""


def command(*words: object) -> list[str]:
    return [sys.executable, "-m", "arbench", *map(str, words)]


def arbench(*words: object, code: int = 0) -> str:
    result = forked.arbench(*words)
    assert result.returncode == code, result.stdout + result.stderr
    return result.stdout


def sets(changes: list[str]) -> list[str]:
    return [word for change in changes for word in ("--set", change)]


class Server:
    """A real `mlflow server` on loopback, with a database and artifacts of its own."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.uri = f"http://127.0.0.1:{port}"
        words = [
            "--backend-store-uri",
            f"sqlite:///{folder}/server.db",
            "--artifacts-destination",
            str(folder / "files"),
        ]
        words += ["--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
        self.log = (folder / "server.log").open("w")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "mlflow", "server", *words],
            stdout=self.log,
            stderr=self.log,
            start_new_session=True,
            env={**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true"},
        )

    def wait(self) -> None:
        for _ in range(240):
            assert self.process.poll() is None, Path(self.log.name).read_text()
            try:
                with urllib.request.urlopen(f"{self.uri}/health", timeout=1):
                    return
            except OSError:
                time.sleep(0.5)
        pytest.fail("mlflow server did not start: " + Path(self.log.name).read_text())

    def stop(self) -> None:
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            return
        finally:
            self.process.wait()
            self.log.close()


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("server"))
    server.wait()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def tracked(tmp_path_factory, server) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "tracked"
    chosen = [word for name in CHOSEN for word in ("--adapter", name)]
    arbench("run", "quickstart", *chosen, *sets(SMALL), "--out", folder, "--track", server.uri)
    return folder


def table(folder: Path) -> pandas.DataFrame:
    return pandas.read_parquet(folder / "results.parquet")


def values(folder: Path) -> pandas.DataFrame:
    """What must repeat exactly: every quality number with its interval."""
    rows = table(folder)
    columns = [
        "adapter",
        "task",
        "result_id",
        "settings_id",
        "outcome",
        "metric",
        "convention",
        "at",
        "reference_digest",
    ]
    columns += ["value", "n", "low", "high", "flags"]
    return rows[rows.measure == "quality"][columns].reset_index(drop=True)


def shipped(rows: pandas.DataFrame, task: str) -> set[str]:
    """Adapters with results of a task."""
    return set(rows[rows.task == task].adapter)


def units(folder: Path, adapter: str) -> dict[str, np.ndarray]:
    """Tokens and images of an adapter's generate cell, in order of sample id."""
    results = [json.loads(path.read_text()) for path in folder.glob("cells/*/result.json")]
    chosen = [each["result_id"] for each in results if (each["adapter"], each["task"]) == (adapter, "generate")]
    archives = [np.load(path) for path in sorted((folder / "cells" / chosen[0] / "units").glob("*.npz"))]
    return {
        name: np.concatenate([archive[name] for archive in archives]) for name in ("sample_ids", "tokens", "images")
    }


# ---- the quickstart ----


def test_every_cell_is_ok_and_every_number_is_known(tracked):
    rows = table(tracked)
    assert set(rows.outcome) == {"ok"}
    assert set(rows.task) == {"reconstruct", "generate", "speed", "memory"}
    assert set(rows.adapter.str.split("/").str[0]) == {*FAMILIES, "tokenizers"}
    for row in rows.itertuples():
        info = tasks()[row.task].info(row.metric)
        assert info is not None, (row.task, row.metric)
        better = row.direction if isinstance(row.direction, str) else None
        assert (info.unit, info.direction) == (row.unit, better), row.metric
        assert row.convention == OWN or row.convention in conventions()
        assert pandas.notna(row.value) or row.reason


def test_quality_and_speed_of_an_adapter_share_their_settings(tracked):
    assert (table(tracked).groupby("adapter").settings_id.nunique() == 1).all()


def test_memory_is_that_of_a_process_of_its_own(tracked):
    """A forked worker's baseline would lack most pages of torch's libraries, 40 % of the whole."""
    code = "import arbench.tasks.context, arbench.tasks.memory.work, psutil; print(psutil.Process().memory_info().rss)"
    own = int(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)
    rows = table(tracked)
    baselines = rows[rows.metric == "baseline-memory"].value
    assert len(baselines) == len(shipped(rows, "memory")) > 0
    assert ((baselines > 0.95 * own) & (baselines < 1.3 * own)).all(), (own, list(baselines))


def test_samples_are_the_digits_asked_for(tracked):
    rows = table(tracked)
    agreement = rows[(rows.task == "generate") & (rows.metric == "class-agreement")]
    assert len(agreement) == len(shipped(table(tracked), "generate"))
    assert (agreement.value >= 0.85).all(), agreement[["adapter", "value"]]  # of 40; test_minis asks for 0.9 of 200
    assert (agreement.low < agreement.value).all()


def test_the_server_has_parent_children_metrics_pictures_and_report(tracked, server):
    client = MlflowClient(server.uri)
    experiment = client.get_experiment_by_name("arbench/quickstart")
    runs = client.search_runs([experiment.experiment_id], max_results=100)
    parents = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
    assert len(parents) == 1
    children = [run for run in runs if run.data.tags.get("mlflow.parentRunId") == parents[0].info.run_id]
    assert len(children) == table(tracked).settings_id.nunique()
    for run in children:  # quality, speed and memory in one row
        measured = {name.split("/")[0] for name in run.data.metrics}
        assert measured == {*run.data.tags["arbench.tasks"].split("; ")}
        assert {"speed", "memory"} < measured
        assert run.data.tags["mlflow.source.git.commit"] in run.data.tags["arbench.git"]
    assert "report.html" in {item.path for item in client.list_artifacts(parents[0].info.run_id)}
    quality = [(run.info.run_id, task) for run in children for task in run.data.tags["arbench.tasks"].split("; ")[:1]]
    sheets = [item.path for run, task in quality for item in client.list_artifacts(run, task)]
    assert any(path.endswith(".png") for path in sheets)


def test_a_server_that_dies_halfway_costs_nothing_but_its_copy(tmp_path):
    server = Server(tmp_path)
    server.wait()
    folder = tmp_path / "run"
    run = subprocess.Popen(
        command("run", "quickstart", "--adapter", MINI, *sets(SMALL), "--out", folder, "--track", server.uri),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    wait_for_journal(folder, run, "finished")
    server.stop()
    output, _ = run.communicate(timeout=600)
    assert run.returncode == 0, output
    assert "MLflow" in output
    assert set(table(folder).outcome) == {"ok"}
    assert (folder / "report.html").stat().st_size > 10_000


# ---- the same samples, however they are run ----


def wait_for_journal(folder: Path, run: subprocess.Popen[str], kind: str, count: int = 1) -> None:
    """Waits until the journal of a running command holds `count` records of a kind."""
    for _ in range(3000):
        path = folder / "journal.jsonl"
        if path.is_file() and path.read_text().count(f'"kind":"{kind}"') >= count:
            return
        assert run.poll() is None, run.stdout.read() if run.stdout else ""
        time.sleep(0.1)
    pytest.fail(f"no {kind} in the journal")


@pytest.fixture(scope="module")
def suite(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("suite") / "repeat.yaml"
    path.write_text(GENERATE)
    return path


@pytest.fixture(scope="module")
def whole(tmp_path_factory, suite) -> Path:
    folder = tmp_path_factory.mktemp("whole") / "run"
    arbench("run", suite, "--out", folder, "--workers", 1, "--track", "off")
    return folder


def assert_same_samples(folder: Path, other: Path) -> None:
    """At least 99.9 % of samples have the same tokens; where tokens agree, images do, to the bit.

    A draw can land within the last bit of a matrix product of the boundary between two tokens; 1 of 1,000 samples is
    what we promise, so of these few hundred at most one may differ.
    """
    differing = 0
    for adapter in ("raster/llamagen-mini", "next_scale/var-mini"):
        ours, theirs = units(folder, adapter), units(other, adapter)
        assert np.array_equal(ours["sample_ids"], np.arange(SAMPLES))
        assert np.array_equal(theirs["sample_ids"], np.arange(SAMPLES))
        same = (ours["tokens"] == theirs["tokens"]).all(1)
        assert np.array_equal(ours["images"][same], theirs["images"][same])
        differing += int((~same).sum())
    assert differing <= 1


def test_batch_size_and_processes_do_not_change_a_sample(tmp_path, suite, whole):
    batch, workers = 7, 3  # single samples: test_minis
    folder = tmp_path / "run"
    arbench("run", suite, "--set", f"generate.batch={batch}", "--workers", workers, "--out", folder, "--track", "off")
    assert_same_samples(whole, folder)


def test_killed_and_resumed_is_the_same_as_uninterrupted(tmp_path, suite, whole):
    folder = tmp_path / "run"
    words = command("run", suite, "--out", folder, "--workers", 1, "--track", "off")
    run = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    wait_for_journal(folder, run, "unit", count=2)
    run.send_signal(signal.SIGKILL)
    run.wait()
    before = {path: path.stat().st_mtime_ns for path in folder.glob("cells/*/units/*.npz")}
    done = {record["unit"] for record in journal(folder) if record["kind"] == "unit"}
    assert done
    arbench("resume", folder, "--workers", 1, "--track", "off")
    for path, changed in before.items():
        if path.stem in done:
            assert path.stat().st_mtime_ns == changed, "a finished unit was computed again"
    pandas.testing.assert_frame_equal(values(folder), values(whole))
    assert_same_samples(whole, folder)


def journal(folder: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (folder / "journal.jsonl").read_text().splitlines()]


def test_resuming_a_finished_run_does_nothing(tracked):
    before = values(tracked)
    stamps = {path: path.stat().st_mtime_ns for path in tracked.glob("cells/*/units/*")}
    output = arbench("resume", tracked, "--track", "off")
    assert "report" in output
    assert {path: path.stat().st_mtime_ns for path in tracked.glob("cells/*/units/*")} == stamps
    pandas.testing.assert_frame_equal(values(tracked), before)
