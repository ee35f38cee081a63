"""The MLflow sink against a real database and a real server, alive and dying."""

from __future__ import annotations

import json
import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mlflow.entities import Run
from mlflow.tracking import MlflowClient
from PIL import Image

from arbench import registry
from arbench.cli.main import main
from arbench.gallery import Gallery
from arbench.images import grid, png
from arbench.spec.result import Interval, Metric, PhaseTime, Provenance, ReferenceSet, Result, SpeedRecord
from arbench.spec.sampling import Guidance, Sampling
from arbench.spec.schema1 import upgraded
from arbench.track import record
from arbench.track import target as tracking
from arbench.track.sink import Tracker

OLD_RUN = Path(__file__).parents[1] / "report" / "run-0.1"
RUN: dict[str, Any] = {
    "run_id": "quickstart-0a1b2c",
    "suite": {"suite": "quickstart", "version": 3, "title": "Two families"},
    "argv": ["arbench", "run", "quickstart"],
    "created": "2000-01-01T00:00:00+00:00",
    "plan": {
        "cells": [
            {"cell": {"result_id": f"res-{number:012d}", "swept": f"top_k {swept}"}}
            for number, swept in ((1, 100), (2, 100), (3, 200), (4, 100))
        ]
    },
}


AT: dict[str, Any] = {"batch": 1, "operation": "sample"}
PAIRS = Gallery(
    "Reconstructions", "rows", "", np.arange(3), np.full((2, 3), -1), ("original", ""), (True, False),
    np.stack([np.zeros((3, 3, 8, 8), np.uint8), np.full((3, 3, 8, 8), 255, np.uint8)]),
)  # fmt: skip
WAIT = 300.0
"""Seconds; ample for a busy machine."""


def quality(number: int = 1, outcome: str = "ok", settings: int = 1) -> Result:
    metrics = (
        Metric(
            name="fid@5k (cfg=1.5)", value=12.5, n=1000, direction="lower", convention="adm", flags=("n_small",),
            reference=ReferenceSet(name="mnist5k/heldout", digest="ab" * 32),
            interval=Interval(low=11.5, high=13.5, method="bootstrap"),
        ),
        Metric(name="frechet", value=1 - number / 10, n=1000, direction="lower", how="LeNet"),
        Metric(name="kid", value=None, n=10, convention="adm", reason="fewer samples than a subset"),
    )  # fmt: skip
    return Result(
        result_id=f"res-{number:012d}",
        settings_id=f"set-{settings:012d}",
        adapter="raster/llamagen-mini",
        family="raster",
        kind="generator",
        task="generate",
        parameters={"reference": "mnist5k/heldout", "n": 1000},
        sampling=Sampling(guidance=Guidance(scale=1.5), top_k=100),
        load={"dtype": "float32", "init": "checkpoint"},
        outcome=outcome,
        reason="" if outcome == "ok" else "it broke",
        metrics=metrics if outcome == "ok" else (),
        artifacts={"sheet": "sheet.png", "pictures": "pictures.npz"},
        provenance=Provenance(
            arbench="0",
            git=f"{'c0' * 20}-dirty",
            python="3",
            packages={"torch": "2.11"},
            platform="p",
            device="cpu: x",
            weights={"raster/llamagen-mini": "5f" * 32},
        ),
        started="2000-01-01T00:01:00+00:00",
        wall_seconds=60.0,
    )


def speed() -> Result:
    phases = (
        PhaseTime(phase="ar", seconds=0.3, share=0.75, calls=49),
        PhaseTime(phase="gap", seconds=0.1, share=0.25, calls=1),
    )
    return quality(2).model_copy(
        update={
            "task": "speed",
            "parameters": {"batches": [1, 16]},
            "metrics": (Metric(name="latency", value=0.4, unit="s", n=20, at=AT, how="median", measure="speed"),),
            "speed": (SpeedRecord(batch=1, seconds=0.4, phases=phases),),
            "artifacts": {"pictures": "pictures.npz"},
        }
    )


def store(folder: Path, *results: Result) -> Path:
    """The cells of a run folder on disk."""
    for result in results:
        cell = folder / "cells" / result.result_id
        cell.mkdir(parents=True)
        (cell / "result.json").write_text(result.model_dump_json())
        if "sheet" in result.artifacts:
            (cell / "sheet.png").write_bytes(png(grid(np.zeros((4, 3, 8, 8), np.uint8), 2)))
            (cell / "pictures.npz").write_bytes(b"arrays stay in the run folder")
        elif "pictures" in result.artifacts:
            (cell / "pictures.npz").write_bytes(PAIRS.pack())
    return folder


def track(uri: str, folder: Path, *results: Result, report: Path | None = None) -> Tracker:
    tracker = Tracker(tracking.target(uri, folder), folder)
    tracker.start(RUN)
    for result in results:
        tracker.cell(result, folder / "cells" / result.result_id)
    tracker.finish(report, "complete", WAIT)
    return tracker


def runs(uri: str) -> tuple[MlflowClient, Run, list[Run]]:
    """The client, the parent run and its children in the order of their settings."""
    client = MlflowClient(tracking_uri=uri)
    experiment = client.get_experiment_by_name("arbench/quickstart")
    assert experiment is not None
    found = client.search_runs([experiment.experiment_id])
    parents = [run for run in found if "mlflow.parentRunId" not in run.data.tags]
    assert len(parents) == 1
    children = [run for run in found if run.data.tags.get("mlflow.parentRunId") == parents[0].info.run_id]
    return client, parents[0], sorted(children, key=lambda run: run.data.tags["arbench.settings_id"])


def listed(client: MlflowClient, run: Run, folder: str) -> list[str]:
    return sorted(file.path for file in client.list_artifacts(run.info.run_id, folder))


def check_whole(uri: str, report: Path) -> None:
    """What `track(uri, folder, *whole, report=report)` must have left behind."""
    client, parent, children = runs(uri)
    assert parent.data.tags["arbench.run_id"] == RUN["run_id"]
    assert parent.data.tags["arbench.suite_version"] == "3"
    assert parent.data.tags["arbench.command"] == "arbench run quickstart"
    assert parent.info.status == "FINISHED"
    note = parent.data.tags["mlflow.note.content"]
    assert "| raster/llamagen-mini | generate | ok | adm fid@5k (cfg=1.5) 12.5, arbench frechet 0.9 |" in note
    assert "| raster/llamagen-mini | speed | oom | it broke |" in note
    assert [file.path for file in client.list_artifacts(parent.info.run_id)] == ["report.html"]
    copy = Path(client.download_artifacts(parent.info.run_id, "report.html"))
    assert copy.read_text() == report.read_text()

    first, second = children  # two settings of a sweep
    assert [child.info.run_name for child in children] == [f"raster/llamagen-mini top_k {k}" for k in (100, 200)]
    assert [child.data.tags["arbench.swept"] for child in children] == ["top_k 100", "top_k 200"]
    best = {"best/raster:llamagen-mini generate:arbench:frechet": 0.7}
    assert parent.data.metrics == {"cells/ok": 3.0, "cells/oom": 1.0, "wall_seconds": 240.0} | best
    assert parent.data.tags[f"arbench.best.{next(iter(best))}"] == "top_k 200"
    # quality and speed in one row, for the page's plots
    assert first.data.metrics == pytest.approx(
        {
            "generate/adm/fid_5k _cfg_1.5_": 12.5,
            "generate/adm/fid_5k _cfg_1.5__lo": 11.5,
            "generate/adm/fid_5k _cfg_1.5__hi": 13.5,
            "generate/arbench/frechet": 0.9,
            "generate/wall_seconds": 60.0,
            "speed/latency/batch 1 sample": 0.4,
            "speed/phases/ar/batch 1 sample": 0.3,
            "speed/phases/gap/batch 1 sample": 0.1,
            "speed/wall_seconds": 60.0,
        }
    )
    assert first.data.params["sampling.guidance.scale"] == "1.5"
    assert first.data.params["sampling.top_k"] == "100"
    assert first.data.params["generate.n"] == "1000"
    assert first.data.params["speed.batches"] == "[1, 16]"
    assert first.data.params["load.dtype"] == "float32"
    tags = first.data.tags
    assert tags["arbench.settings_id"] == "set-000000000001"
    assert tags["arbench.null_metrics.generate"] == "adm kid: fewer samples than a subset"
    assert (tags["arbench.cells.generate"], tags["arbench.tasks"]) == ("res-000000000001 ok", "generate; speed")
    assert (tags["arbench.conventions"], tags["arbench.flags"]) == ("adm; arbench", "n_small")
    assert (tags["arbench.version"], tags["arbench.torch"], tags["arbench.device"]) == ("0", "2.11", "cpu: x")
    assert (tags["arbench.git"], tags["mlflow.source.git.commit"]) == (f"{'c0' * 20}-dirty", "c0" * 20)
    assert tags["arbench.suite"] == "quickstart"
    assert tags["arbench.weights.raster/llamagen-mini"] == "5f" * 32
    assert first.info.end_time - first.info.start_time == 60_000
    inputs = [(each.dataset.name, each.dataset.digest) for each in first.inputs.dataset_inputs]
    assert inputs == [("mnist5k/heldout", "ab" * 18)]
    assert listed(client, first, "generate") == ["generate/result.json", "generate/sheet.png"]

    with Image.open(client.download_artifacts(first.info.run_id, "speed/sheet.png")) as sheet:
        assert sheet.size == (28, 18)  # three pairs of 8 x 8, 2 pixels between them
        assert sheet.getpixel((0, 0)) == (0, 0, 0)
        assert sheet.getpixel((0, 17)) == (255, 255, 255)
    assert (first.data.tags["arbench.outcome"], first.info.status) == ("ok", "FINISHED")
    assert (second.data.tags["arbench.outcome"], second.info.status) == ("oom", "FAILED")
    assert second.data.metrics["generate/arbench/frechet"] == 0.7
    assert second.data.tags["arbench.cells.speed"] == "res-000000000004 oom"
    assert second.data.tags["arbench.reason.speed"] == "it broke"
    (model,) = client.search_logged_models([first.info.experiment_id])  # one system under two settings
    assert (model.name, model.model_type, model.status) == ("raster-llamagen-mini", "generator", "READY")
    assert model.params["weights.raster/llamagen-mini"] == "5f" * 32
    assert model.params["parameters"] == str(registry.card("raster/llamagen-mini").parameters)
    linked = {(metric.run_id, metric.key): metric for metric in model.metrics}
    frechets = [linked[child.info.run_id, "generate/arbench/frechet"].value for child in children]
    assert frechets == [0.9, 0.7]
    fid = linked[first.info.run_id, "generate/adm/fid_5k _cfg_1.5_"]
    assert (fid.dataset_name, fid.dataset_digest) == ("mnist5k/heldout", "ab" * 18)
    for child in children:  # a search leaves these out
        inputs = client.get_run(child.info.run_id).inputs.model_inputs
        assert [each.model_id for each in inputs] == [model.model_id]
    query = "metrics.`generate/adm/fid_5k _cfg_1.5_` < 13 and metrics.`speed/latency/batch 1 sample` < 1"
    found = client.search_runs([first.info.experiment_id], f"{query} and tags.`arbench.flags` LIKE '%n_small%'")
    assert [run.info.run_id for run in found] == [first.info.run_id]


@pytest.fixture
def whole(tmp_path: Path) -> tuple[Path, Path, tuple[Result, ...]]:
    failed = quality(4, "oom", settings=2).model_copy(update={"task": "speed"})
    results = (quality(), speed(), quality(3, settings=2), failed)
    folder = store(tmp_path / "run", *results)
    report = folder / "report.html"
    report.write_text("<p>the report")
    return folder, report, results


# ---- a database ----


def test_a_database_gets_everything_and_nothing_is_said(
    whole: tuple[Path, Path, tuple[Result, ...]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    folder, report, results = whole
    (tmp_path / "cwd").mkdir()
    monkeypatch.chdir(tmp_path / "cwd")
    uri = f"sqlite:///{folder}/mlflow.db"
    begin = time.monotonic()
    tracker = Tracker(tracking.target(uri, folder), folder)
    tracker.start(RUN)
    for result in results:
        tracker.cell(result, folder / "cells" / result.result_id)
    assert time.monotonic() - begin < 2  # importing MLflow alone takes longer: it happens in the background
    assert tracker.tracked == []
    tracker.finish(report, "complete", WAIT)
    assert tracker.problem is None
    assert tracker.tracked == [result.result_id for result in results]
    captured = capfd.readouterr()
    assert captured.out + captured.err == ""
    check_whole(uri, report)
    assert list((tmp_path / "cwd").iterdir()) == []  # no ./mlruns, no ./mlflow.db
    assert (folder / "mlartifacts").is_dir()


def test_a_resumed_run_goes_on_with_its_own(tmp_path: Path) -> None:
    failed, other = quality(1, "error"), speed()
    folder = store(tmp_path / "run", failed, other)
    uri = f"sqlite:///{folder}/mlflow.db"
    track(uri, folder, failed, other)
    _, _, (before,) = runs(uri)
    assert (before.data.tags["arbench.outcome"], before.info.status) == ("error", "FAILED")
    assert before.data.tags["arbench.reason.generate"] == "it broke"
    repaired, again = quality(1), quality(4)  # and a repetition with another seed
    store(folder, again)
    (folder / "cells" / repaired.result_id / "result.json").write_text(repaired.model_dump_json())
    tracker = track(uri, folder, repaired, again)
    assert (tracker.problem, tracker.tracked) == (None, [repaired.result_id, again.result_id])
    client, parent, (after,) = runs(uri)
    assert after.info.run_id == before.info.run_id
    assert (after.data.tags["arbench.outcome"], after.info.status) == ("ok", "FINISHED")
    assert after.data.tags["arbench.reason.generate"] == ""
    assert after.data.tags["arbench.cells.generate"] == "res-000000000001 ok, res-000000000004 ok"
    assert listed(client, after, "generate/res-000000000004")[0].endswith("result.json")
    assert "| speed | ok |" in parent.data.tags["mlflow.note.content"]  # of the first session
    track(uri, folder, repaired)
    steps = client.get_metric_history(after.info.run_id, "generate/arbench/frechet")
    assert [(each.step, each.value) for each in steps] == [(0, 0.9), (1, 0.6)]


def test_hold_keeps_the_machine_quiet(tmp_path: Path) -> None:
    folder = store(tmp_path / "run", quality())
    tracker = Tracker(tracking.own(folder), folder)
    tracker.start(RUN)
    deadline = time.monotonic() + WAIT
    while tracker.seconds == 0 and time.monotonic() < deadline:  # until the parent run is open
        time.sleep(0.05)
    tracker.hold()
    tracker.cell(quality(), folder / "cells" / quality().result_id)
    used = tracker.seconds
    time.sleep(0.5)
    assert (tracker.tracked, tracker.seconds) == ([], used)
    tracker.finish(None, "complete", WAIT)
    assert tracker.tracked == [quality().result_id]


def test_a_place_that_cannot_be_written_is_a_problem_not_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    tracker = track(f"sqlite:///{tmp_path}/file/mlflow.db", store(tmp_path / "run", quality()), quality())
    assert tracker.problem is not None
    assert "mlflow.db" in tracker.problem
    assert tracker.tracked == []


def test_finish_without_start_returns(tmp_path: Path) -> None:
    tracker = Tracker(tracking.target("sqlite:///nowhere.db", tmp_path), tmp_path)
    tracker.finish(None, "complete")
    assert tracker.tracked == []


def test_importing_the_sink_imports_no_mlflow() -> None:
    code = "import sys, arbench.track.sink; print([m for m in ('mlflow', 'torch', 'requests') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# ---- a server ----


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    port, home = free_port(), tmp_path / "server"
    home.mkdir()
    command = [
        *(sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"),
        *("--backend-store-uri", f"sqlite:///{home}/mlflow.db", "--artifacts-destination", str(home / "artifacts")),
    ]
    log = (home / "log").open("wb")
    environment = os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}  # not needed here, and slow to start
    process = subprocess.Popen(command, cwd=home, env=environment, stdout=log, stderr=log, start_new_session=True)
    uri = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + WAIT
        while not healthy(uri):
            assert process.poll() is None, (home / "log").read_text()
            assert time.monotonic() < deadline, (home / "log").read_text()
            time.sleep(0.2)
        yield uri, process
    finally:
        kill(process)
        log.close()


def healthy(uri: str) -> bool:
    try:
        with urllib.request.urlopen(f"{uri}/health", timeout=2) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def kill(process: subprocess.Popen[bytes]) -> None:
    """The server and its workers, which share a session of their own."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def check_replay(uri: str) -> None:
    """Folders are sent afterwards; sent twice, nothing is there twice."""
    for _ in range(2):
        assert main(["export", str(OLD_RUN), "--format", "mlflow", "--track", uri]) == 0
    client = MlflowClient(tracking_uri=uri)
    run_id = json.loads((OLD_RUN / "run.json").read_bytes())["run_id"]
    experiments = [each.experiment_id for each in client.search_experiments()]
    (parent,) = client.search_runs(experiments, f"tags.`arbench.run_id` = '{run_id}'")
    children = client.search_runs(experiments, f"tags.`mlflow.parentRunId` = '{parent.info.run_id}'")
    assert len(children) == 3
    query = "metrics.`generate/offline/frechet` > 1 and metrics.`memory/peak-memory/batch 1` > 1"
    (mar, _) = client.search_runs(experiments, query, order_by=["metrics.`generate/offline/frechet`"])
    assert mar.data.tags["arbench.tasks"] == "generate; speed; memory"
    assert len(client.get_metric_history(mar.info.run_id, "generate/offline/frechet")) == 1


def test_a_server_gets_everything_and_its_death_costs_seconds(
    whole: tuple[Path, Path, tuple[Result, ...]], server: tuple[str, subprocess.Popen[bytes]], tmp_path: Path
) -> None:
    folder, report, results = whole
    uri, process = server
    tracker = track(uri, folder, *results, report=report)
    assert tracker.problem is None
    assert tracker.tracked == [result.result_id for result in results]
    check_whole(uri, report)
    assert not (folder / "mlartifacts").exists()  # the server keeps them
    check_replay(uri)

    later = [quality(number) for number in range(4, 8)]
    folder = store(tmp_path / "second", *later)
    tracker = Tracker(tracking.target(uri, folder), folder)
    tracker.start({**RUN, "run_id": "second"})
    tracker.cell(later[0], folder / "cells" / later[0].result_id)
    deadline = time.monotonic() + WAIT
    while not tracker.tracked and time.monotonic() < deadline:
        time.sleep(0.05)
    kill(process)
    begin = time.monotonic()
    for result in later[1:]:
        tracker.cell(result, folder / "cells" / result.result_id)
    tracker.finish(report, "complete")
    assert time.monotonic() - begin < 15
    assert tracker.problem is not None
    assert uri in tracker.problem
    assert tracker.tracked == [later[0].result_id]


def test_a_server_that_was_never_there(tmp_path: Path) -> None:
    begin = time.monotonic()
    folder = store(tmp_path / "run", quality())
    tracker = track(f"http://127.0.0.1:{free_port()}", folder, quality(), report=folder / "report.html")
    assert time.monotonic() - begin < 15
    assert tracker.problem is not None
    assert "no answer" in tracker.problem
    assert tracker.tracked == []


def test_a_server_that_accepts_and_never_answers(tmp_path: Path) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        begin = time.monotonic()
        folder = store(tmp_path / "run", quality())
        tracker = track(f"http://127.0.0.1:{silent.getsockname()[1]}", folder, quality())
        assert time.monotonic() - begin < 15
    assert tracker.problem is not None


# ---- what is written ----


def number(name: str, **rest: Any) -> Metric:
    return Metric(name=name, value=1.0, n=1, **rest)


def test_names_are_what_mlflow_allows_and_distinct() -> None:
    timed = {"measure": "speed", "at": {"batch": 16, "operation": "sample"}}
    metrics = [
        number("fid", convention="adm"), number("fid", convention="clean-fid"), number("frechet"),
        number("latency", **timed), number("codebook-used", at={"level": 2}), number("load", measure="speed"),
        number("a@b", convention="x"), number("a#b", convention="x"), number("../..//c/.", convention="x"),
    ]  # fmt: skip
    keys = record.metric_keys(metrics, "task")
    assert keys == [
        "task/adm/fid", "task/clean-fid/fid", "task/arbench/frechet", "task/latency/batch 16 sample",
        "task/arbench/codebook-used/level 2", "task/load", "task/x/a_b", "task/x/a_b-2", "task/x/c",
    ]  # fmt: skip
    long = record.metric_keys([number("m" * 400, convention="x")], "generate")[0]
    assert len(f"{long}_lo") <= record.KEY_LIMIT


def test_a_key_names_the_reference_only_where_there_are_several() -> None:
    several = [number("fid", convention="adm", reference=ReferenceSet(name=name)) for name in ("train", "val")]
    assert record.metric_keys(several, "score") == ["score/adm/fid/train", "score/adm/fid/val"]
    assert record.metric_keys(several[:1], "score") == ["score/adm/fid"]


def test_keys_do_not_depend_on_what_else_was_measured() -> None:
    one, other = number("fid", convention="adm"), number("fid", convention="clean-fid")
    assert record.metric_keys([one], "generate")[0] == record.metric_keys([other, one], "generate")[1]


def test_params_leave_out_what_is_not_set() -> None:
    found = record.params(quality())
    assert "sampling.top_p" not in found
    assert json.loads(found["sampling.extra"]) == {}
    assert found["adapter"] == "raster/llamagen-mini"


def test_damaged_pictures_make_no_sheet_and_no_problem(tmp_path: Path) -> None:
    folder = store(tmp_path / "run", speed())
    (folder / "cells" / speed().result_id / "pictures.npz").write_bytes(b"no archive")
    uri = f"sqlite:///{folder}/mlflow.db"
    assert track(uri, folder, speed()).problem is None
    client, _, (child,) = runs(uri)
    assert listed(client, child, "speed") == ["speed/result.json"]


def test_a_cell_of_arbench_0_1_is_sent_with_its_sheet(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(OLD_RUN, folder)
    cell = folder / "cells" / "res-5ad71f3af0f9"
    result = Result.model_validate(upgraded(json.loads((cell / "result.json").read_bytes())))
    uri = f"sqlite:///{folder}/mlflow.db"
    assert track(uri, folder, result).problem is None
    client, parent, (child,) = runs(uri)
    assert child.data.metrics["reconstruct/offline-pairs/psnr"] == pytest.approx(21.680139963604525)
    assert listed(client, child, "reconstruct") == ["reconstruct/result.json", "reconstruct/sheet.png"]
    note = parent.data.tags["mlflow.note.content"]  # of all cells in the folder
    assert "| continuous/mar-mini | generate | ok | offline frechet 36.75, offline kid 0.0224" in note


def test_a_long_note_is_cut_between_lines() -> None:
    note = record.note(RUN, [quality(number) for number in range(400)], "complete")
    assert len(note) <= record.TAG_LIMIT
    assert note.endswith("more in report.html")
    assert note.splitlines()[-3].endswith("|")


def test_quiet_loggers_do_not_silence_others() -> None:
    assert logging.getLogger("arbench").level == logging.NOTSET
