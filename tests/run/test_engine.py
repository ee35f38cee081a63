"""Whole runs with real worker processes: what comes out, whatever the number of workers, and every kind of failure."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mlflow.tracking import MlflowClient

from arbench.errors import CellError, Unsupported, UsageError
from arbench.run import slots as places
from arbench.run.executor import Slot
from arbench.run.results import failed_result
from arbench.run.session import verdict
from arbench.run.slots import slots_for
from arbench.run.worker import classify
from arbench.seeds import noise_for
from arbench.spec.cell import Cell
from arbench.spec.suite import Settings
from arbench.tasks.generate import Generate

CELL = Cell(
    adapter="a", kind="generator", family="other", task=Generate(), settings=Settings(), sampling=None,
    weights_sha256={}, settings_id="set-1", result_id="res-1",
)  # fmt: skip

FAILING = ["steady", "memory", "raises", "killed", "segfault", "hang", "works", "spins", "nan", "unsupported", "talks"]
IMPATIENT = "Limits(silence=5.0, factor=0.01, busy=3.0, kill_after=2.0)"


def digest(path: Path) -> str:
    return hashlib.blake2b(path.read_bytes(), digest_size=16).hexdigest()


def test_a_run_from_suite_to_table_report_and_mlflow(farm):
    run = farm.folder / "run"
    server = "http://127.0.0.1:9"  # nobody answers there
    suite = farm.suite(["steady"], n=20)
    code, out, err = farm.arbench("run", suite, "--out", run, "--track", server, "--workers", 1, report=True)
    assert (code, run.exists(), farm.called()) == (3, False, [])
    assert f"cannot track at {server}" in err
    assert "--track off" in err
    code, out, err = farm.arbench("run", suite, "--out", run, "--track", "off", "--workers", 1, report=True)
    assert (code, err) == (0, "")
    assert "start  count farm/steady: 3 units" in out
    assert re.search(r"^ok     count farm/steady after", out, re.MULTILINE)
    assert "mlflow" not in out
    assert str(run / "report.html") in out
    assert (run / "report.html").stat().st_size > 10_000

    result = farm.results(run)["steady"]
    expected = noise_for(0, range(20)).uniform("image", 192).float().double().mean(1).numpy()
    stored = np.frombuffer((run / "cells" / result["result_id"] / "means.npy").read_bytes())
    np.testing.assert_allclose(stored, expected, rtol=1e-12)  # sums in another order
    mean, ids = result["metrics"]
    assert mean["value"] == stored.mean()
    assert ids["value"] == sum(index * (index + 1) for index in range(20))  # units were joined in order
    assert result["provenance"]["threads"] == 1
    rows = farm.values(run)
    assert [row["metric"] for row in rows] == ["mean", "ids"]
    assert (rows[0]["value"], rows[0]["low"], rows[0]["n"]) == (mean["value"], mean["interval"]["low"], 20)

    records = farm.records(run)
    kinds = [record["kind"] for record in records]
    assert kinds == ["session", "planned", "started", "unit", "unit", "unit", "finished", "ended"]
    for record in records:
        if record["kind"] == "unit":
            assert record["digest"] == digest(run / "cells" / record["cell"] / "units" / f"{record['unit']}.npz")
            assert record["samples"] in (8, 4)
        if record["kind"] == "finished":
            assert record["digest"] == digest(run / "cells" / record["cell"] / "result.json")
    assert result["started"] == next(record["time"] for record in records if record["kind"] == "started")

    code, out, _ = farm.arbench("status", run)
    assert code == 0
    assert "1 ok" in out

    uri = f"sqlite:///{run}/mlflow.db"
    code, out, err = farm.arbench("resume", run, "--track", uri)  # computes nothing, but tracks what was not
    assert (code, err) == (0, "")
    assert "0 of 1 cell to do" in out
    assert f"mlflow:  1 of 1 results are tracked: mlflow ui --backend-store-uri {uri}" in out
    assert len(farm.called()) == 4
    client = MlflowClient(tracking_uri=uri)
    experiment = client.get_experiment_by_name("arbench/farmed")
    assert experiment is not None
    tracked = client.search_runs([experiment.experiment_id])
    assert sorted(found.data.tags.get("arbench.adapter", "") for found in tracked) == ["", "farm/steady"]
    assert [r["cells"] for r in farm.records(run) if r["kind"] == "tracked"] == [[result["result_id"]]]


def test_the_number_of_workers_changes_nothing_but_who_works(farm):
    suite = farm.suite(["naps", "other"], n=30)
    farm.threads = None
    runs = [farm.folder / "one", farm.folder / "two"]
    calls = []
    for workers, run in zip((1, 2), runs, strict=True):
        before = len(farm.called())
        code, _, err = farm.arbench("run", suite, "--out", run, "--track", "off", "--workers", workers)
        assert (code, err) == (0, "")
        calls.append([words for words in farm.called()[before:] if words[0] == "unit"])
    one, two = ({(r["cell"], r["unit"]): r["digest"] for r in farm.records(run) if r["kind"] == "unit"} for run in runs)
    assert one == two
    assert len(one) == 8
    assert farm.values(runs[0]) == farm.values(runs[1])
    assert len({words[3] for words in calls[0]}) == 1
    assert len({words[3] for words in calls[1]}) > 1
    assert {words[4] for part in calls for words in part} == {"1"}  # on any number of cores


def test_the_number_of_workers_changes_no_sample(farm):
    """Sample 62 of this model has other tokens where two threads compute, as one worker of two cores once had."""
    suite = farm.folder / "digits.yaml"
    suite.write_text(
        "suite: digits\nversion: 1\nadapters: [raster/llamagen-mini]\n"
        "tasks:\n  - generate: {n: 64, reference: mnist5k/heldout, conventions: [adm]}\n"
    )
    farm.threads = None
    digests = []
    for workers in (1, 2):
        run = farm.folder / f"run-{workers}"
        code, _, err = farm.arbench("run", suite, "--out", run, "--track", "off", "--workers", workers)
        assert (code, err) == (0, "")
        (unit,) = run.glob("cells/*/units/*.npz")
        with np.load(unit) as arrays:
            digests.append({name: hashlib.sha256(arrays[name].tobytes()).hexdigest() for name in arrays.files})
        (result,) = (json.loads(path.read_text()) for path in run.glob("cells/*/result.json"))
        assert result["provenance"]["sampling_threads"] == 1
    assert digests[0] == digests[1]
    assert {"images", "tokens"} <= digests[0].keys()


def test_every_failure_is_an_outcome_and_stops_nothing_else(farm):
    run = farm.folder / "run"
    suite = farm.suite(FAILING, n=20)
    code, out, _ = farm.arbench("run", suite, "--out", run, "--track", "off", "--workers", 2, limits=IMPATIENT)
    assert code == 4, out
    results = farm.results(run)
    assert {name: result["outcome"] for name, result in results.items()} == {
        "steady": "ok",
        "memory": "oom",
        "raises": "error",
        "killed": "error",
        "segfault": "error",
        "hang": "timeout",
        "works": "ok",
        "spins": "timeout",
        "nan": "ok",
        "unsupported": "unsupported",
        "talks": "ok",
    }
    assert results["raises"]["reason"] == "ValueError: the secret is 42"
    assert "SIGSEGV" in results["segfault"]["reason"]
    assert "nothing shows that it was for memory" in results["killed"]["reason"]
    assert re.fullmatch(
        r"nothing heard for [56] s, and it did no work; see log.txt for the stack", results["hang"]["reason"]
    )
    assert re.fullmatch(r"nothing heard for 1[56] s, though it was at work; .*", results["spins"]["reason"])
    assert results["unsupported"]["reason"] == "farm/unsupported cannot; it never could"
    odd = results["nan"]["metrics"][2]
    assert odd["value"] is None
    assert "not finite" in odd["reason"]

    def log(name: str) -> str:
        return (run / "cells" / results[name]["result_id"] / "log.txt").read_text()

    assert "and more" in log("raises")
    assert "Traceback" not in out
    assert "time.sleep(1000)" in log("hang") or "models.py" in log("hang")  # the stack, dumped on SIGTERM
    assert "Segmentation fault" in log("segfault")
    assert "said the model\n" in log("talks")
    assert "to stderr it said\n" in log("talks")
    assert "said" not in log("steady") + out
    rows = farm.values(run)
    assert [row["adapter"].removeprefix("farm/") for row in rows if row["metric"] is None] == [
        name for name in FAILING if results[name]["outcome"] not in ("ok",)
    ]


def test_a_full_disk_stops_the_run_and_says_how_to_go_on(farm):
    run = farm.folder / "run"
    suite = farm.suite(["disk", "steady"], n=20)
    code, _, err = farm.arbench("run", suite, "--out", run, "--track", "off", "--workers", 1)
    assert code == 3
    assert "No space left on device" in err
    assert f"arbench resume {run}" in err
    assert [r["unit"] for r in farm.records(run) if r["kind"] == "unit"] == ["000000-000008"]
    code, out, _ = farm.arbench("status", run, "--json")
    assert code == 0
    assert '"units_done": 1' in out


def test_speed_cells_run_after_the_others_each_in_its_own_worker(farm):
    run = farm.folder / "run"
    more = "  - speed: {batches: [2, 3], min_calls: 3, min_seconds: 0}\n"
    suite = farm.suite(["naps"], n=8, more=more)
    code, _, err = farm.arbench("run", suite, "--out", run, "--track", "off", "--workers", 2)
    assert (code, err) == (0, "")
    rows = farm.values(run)
    tasks = {row["result_id"]: row["task"] for row in rows}
    order = [(r["kind"], tasks[r["cell"]]) for r in farm.records(run) if r["kind"] in ("started", "finished")]
    assert order == [
        ("started", "count"),
        ("finished", "count"),
        ("started", "speed"),
        ("finished", "speed"),
    ]
    units = [r["unit"] for r in farm.records(run) if r["kind"] == "unit"]
    assert units == ["000000-000008", "000002-000002", "000003-000003"]
    latency = [row["value"] for row in rows if row["metric"] == "latency" and '"sample"' in row["at"]]
    assert len(latency) == 2
    assert min(latency) > 0.1  # seconds a call: the model sleeps half a second in each call of 2 or 3


@pytest.mark.parametrize(
    ("error", "outcome", "reason"),
    [
        (MemoryError(), "oom", "MemoryError"),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate"), "oom", "OutOfMemoryError: CUDA out of"),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling"), "oom", "RuntimeError: CUDA error"),
        (RuntimeError("shapes do not match\nat all"), "error", "RuntimeError: shapes do not match"),
        (Unsupported("no", "never"), "unsupported", "no; never"),
        (CellError("bad images", "NaN"), "error", "bad images; NaN"),
    ],
)
def test_outcome_of_an_exception(error, outcome, reason):
    found = classify(error)
    assert found[0] == outcome
    assert found[1].startswith(reason)
    assert "\n" not in found[1]


def test_torch_on_the_cpu_out_of_memory():
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**58)
    assert classify(caught.value)[0] == "oom"


def test_exit_codes():
    def ended(*outcomes):
        return verdict([failed_result(CELL, outcome, "") for outcome in outcomes])

    assert ended("ok", "unsupported") == ("complete", 0)
    assert ended("ok", "oom") == ended("ok", "timeout", "unsupported") == ended("error", "ok") == ("partial", 4)
    assert ended("unsupported") == ended("error") == ended() == ("nothing", 3)


def test_slots(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(places, "cores", lambda: 12)
    for workers in (1, 2, 20):
        slots, alone = slots_for(Settings(device="cpu"), workers)
        assert slots == [Slot("cpu", 3)] * workers
        assert alone == Slot("cpu", 12)
    assert len(slots_for(Settings(device="cpu"), None)[0]) == 8
    slots, alone = slots_for(Settings(device="cuda:1"), None)
    assert slots == [alone] == [Slot("cuda:1", 12)]
    monkeypatch.setattr(places, "cores", lambda: 2)
    assert slots_for(Settings(device="cpu"), None) == ([Slot("cpu", 1)] * 2, Slot("cpu", 2))
    free = SimpleNamespace(available=10e9)
    monkeypatch.setattr(places.psutil, "virtual_memory", lambda: free)
    monkeypatch.setattr(places, "cores", lambda: 12)
    assert [len(slots_for(Settings(device="cpu"), None, size)[0]) for size in (0.5, 2.0, 3.0, 50.0)] == [8, 4, 2, 1]
    assert len(slots_for(Settings(device="cpu"), 5, 50.0)[0]) == 5  # who asks for them gets them
    with pytest.raises(UsageError, match="--workers 0"):
        slots_for(Settings(device="cpu"), 0)
