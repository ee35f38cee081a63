"""Interruptions of every kind: what is finished is kept, what is damaged is made again, the values are the same."""

from __future__ import annotations

import json
import os
import random
import signal
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from arbench.errors import InputError
from arbench.journal import now
from arbench.run.plan import make_plan
from arbench.run.replan import replan
from arbench.run.replay import replay
from arbench.run.store import RunFile, Store
from arbench.spec.suite_file import parse

WEIGHTY = "suite: s\nadapters: [farm/weighty]\nsettings: {device: cpu}\ntasks:\n  - generate: {n: 8}\n"
KILLS = 2
OPTIONS = ("--track", "off", "--workers", "1")


def wait_for(condition, seconds: float = 500.0):
    """What `condition` says once it is true."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)
    return found


def alive(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False


def unit_workers(farm, since: int) -> list[int]:
    """Processes that have begun units, the latest last."""
    return list(dict.fromkeys(int(words[3]) for words in farm.called()[since:] if words[0] == "unit"))


def journaled_units(farm, run) -> list[tuple[str, str]]:
    if not (run / "journal.jsonl").exists():
        return []
    lines = (run / "journal.jsonl").read_text().splitlines()
    found = [json.loads(line) for line in lines if line.endswith("}")]
    return [(record["cell"], record["unit"]) for record in found if record["kind"] == "unit"]


def test_killed_again_and_again_it_ends_as_if_nothing_had_happened(farm):
    suite = farm.suite(["slow", "steady"], n=80)
    whole, run = farm.folder / "whole", farm.folder / "run"
    assert farm.arbench("run", suite, "--out", whole, *OPTIONS)[0] == 0
    calls_of_whole = len(farm.called())

    moments = random.Random(5)
    process = farm.start("run", suite, "--out", run, "--track", "off", "--workers", 2)
    for kill in range(KILLS):
        while process.poll() is None and len(journaled_units(farm, run)) < 4 * (kill + 1):
            time.sleep(0.02)
        time.sleep(moments.random() * 0.2)
        if kill == 1:  # a worker first: its cell has failed, and is tried again
            living = wait_for(lambda: [pid for pid in unit_workers(farm, calls_of_whole) if alive(pid)])
            os.kill(living[-1], signal.SIGKILL)
            time.sleep(moments.random() * 0.1)
        process.kill()
        process.communicate()
        workers = unit_workers(farm, calls_of_whole)
        wait_for(lambda pids=workers: not any(alive(pid) for pid in pids), 60.0)
        process = farm.start("resume", run)
    _, err = process.communicate(timeout=500)
    assert (process.returncode, err) == (0, "")
    assert farm.values(run) == farm.values(whole)
    units = Counter(journaled_units(farm, run))
    assert len(units) == 20
    assert set(units.values()) == {1}  # no journaled unit was computed again
    finished = [r["cell"] for r in farm.records(run) if r["kind"] == "finished" and r["outcome"] == "ok"]
    assert len(finished) == len(set(finished)) == 2
    # at most the two units at work and one finishing are lost with each kill
    assert len(farm.called()) - calls_of_whole <= calls_of_whole + 3 * KILLS


def test_asked_to_stop_it_stops_and_says_how_to_go_on(farm):
    run = farm.folder / "run"
    process = farm.start("run", farm.suite(["naps", "steady"], n=40), "--out", run, *OPTIONS)
    wait_for(lambda: len(journaled_units(farm, run)) >= 2)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=500)
    assert process.returncode == 130
    assert err == ""
    assert out.splitlines()[-1] == f"interrupted; to resume: arbench resume {run}"
    assert farm.records(run)[-1]["kind"] == "interrupted"
    stored = {path.stem for path in run.glob("cells/*/units/*.npz")}
    assert stored == {unit for _, unit in journaled_units(farm, run)}  # running units finished
    rows = farm.values(run)
    assert "interrupted" in {row["outcome"] for row in rows}
    assert "resume" in farm.arbench("status", run)[1]

    before = journaled_units(farm, run)
    code, out, err = farm.arbench("resume", run)
    assert (code, err) == (0, "")
    assert {row["outcome"] for row in farm.values(run)} == {"ok"}
    after = journaled_units(farm, run)
    assert after[: len(before)] == before
    assert len(after) == len(set(after)) == 10


def test_damage_is_mended_failures_are_tried_again_and_weights_are_found(farm):
    run = farm.folder / "run"
    suite = farm.suite(["weighty", "steady", "other", "raises"], n=24)
    code, out, _ = farm.arbench("run", suite, "--out", run, *OPTIONS)
    assert code == 4
    assert "error: count farm/weighty: no weights for farm/weighty" in out
    values = farm.values(run)
    results = farm.results(run)
    cells = {name: run / "cells" / result["result_id"] for name, result in results.items()}
    (cells["steady"] / "result.json").write_text("{}")
    flipped = bytearray((cells["steady"] / "units" / "000008-000016.npz").read_bytes())
    flipped[-100] ^= 1
    (cells["steady"] / "units" / "000008-000016.npz").write_bytes(flipped)
    (cells["other"] / "means.npy").unlink()
    (cells["raises"] / "units" / "000000-000008.npz").unlink()
    with (run / "journal.jsonl").open("a") as journal:
        journal.write('{"kind": "fini')
    weights = farm.folder / "weights" / "farm-weighty.bin"
    weights.parent.mkdir()
    weights.write_bytes(b"hay")

    before = len(farm.called())
    code, out, _ = farm.arbench("resume", run)
    assert code == 4
    assert "2 of 4 cells to do" in out
    assert "note: count farm/weighty: its weights are there now" in out
    assert "is incomplete (14 bytes) and was dropped" in out
    assert "count farm/steady: its result is missing or damaged and is made again" in out
    assert "count farm/steady: unit 000008-000016 is missing or damaged and is computed again" in out
    assert "count farm/other: its result is missing or damaged" in out
    assert "count farm/raises: unit 000000-000008 is missing" in out
    again = {(words[1], words[2]) for words in farm.called()[before:] if words[0] == "unit"}
    kept = {name for name, _ in again} - {"farm/weighty", "farm/raises"}
    assert kept == {"farm/steady"}
    assert {unit for name, unit in again if name == "farm/steady"} == {"000008-000016"}
    assert ("farm/raises", "000000-000008") in again
    assert not cells["weighty"].exists()
    assert farm.results(run)["weighty"]["outcome"] == "ok"
    rows = farm.values(run)
    assert [row for row in rows if row["adapter"] != "farm/weighty"] == values[1:]
    assert [row["metric"] for row in rows if row["adapter"] == "farm/weighty"] == ["mean", "ids"]


@pytest.fixture
def planned(registered, tmp_path):
    """A store with the plan of a suite, nothing done yet."""
    stores = []

    def make(text):
        suite_file = parse(text, "s.yaml")
        plan = make_plan(suite_file)
        run = RunFile(
            run_id="s-1", started=now(), argv=(), suite=suite_file.suite, suite_path="s.yaml",
            origins=tuple(suite_file.origins.items()), plan=plan,
        )  # fmt: skip
        stores.append(Store.create(tmp_path / "run", run))
        return stores[-1], plan

    yield make
    for store in stores:
        store.close()


def test_each_setting_of_a_sweep_is_found_again(planned):
    store, plan = planned(
        "suite: s\nadapters: [farm/steady]\nsettings: {device: cpu}\ntasks:\n  - count: {n: 8}\n"
        "sampling: {farm/steady: {temperature: [0.5, 0.7]}}\n"
    )
    assert len(plan.cells) == 2
    assert replan(store, replay(plan.cells, [])) == (plan, [])


def test_a_cell_to_do_must_be_what_was_planned(planned, tmp_path):
    weights = tmp_path / "weights" / "farm-weighty.bin"
    weights.parent.mkdir()
    weights.write_bytes(b"hay")
    store, plan = planned(WEIGHTY)
    state = replay(plan.cells, [])
    assert replan(store, state) == (plan, [])
    weights.write_bytes(b"straw")
    with pytest.raises(InputError, match="generate farm/weighty no longer matches its plan") as caught:
        replan(store, state)
    assert caught.value.why == "its weight files have changed"
    finished = [{"kind": "finished", "cell": plan.cells[0].cell.result_id, "outcome": "ok", "digest": "", "reason": ""}]
    assert replan(store, replay(plan.cells, finished)) == (plan, [])  # a finished cell needs its weights no more


def test_units_of_different_code_are_never_mixed(planned, monkeypatch):
    store, plan = planned(WEIGHTY.replace("weighty", "steady"))
    (cell,) = plan.cells
    assert cell.code
    monkeypatch.setattr("arbench.run.plan.code_of", lambda card: "other code")
    unit = store.unit(cell.cell.result_id, cell.units[0])
    unit.parent.mkdir(parents=True)
    unit.write_bytes(b"samples")
    with pytest.raises(InputError, match="generate farm/steady no longer matches its plan") as caught:
        replan(store, replay(plan.cells, []))
    assert caught.value.why == "the code of its adapter has changed since 1 of its 1 units were computed"
    assert f"rm -r {unit.parent}" in caught.value.hint
    unit.unlink()
    again, notes = replan(store, replay(plan.cells, []))
    assert [each.code for each in again.cells] == ["other code"]
    assert notes == ["generate farm/steady: the code of its adapter has changed since it was planned"]


@pytest.mark.parametrize("change", ["another file", "one more"])
def test_units_of_different_feature_weights_are_never_mixed(planned, tmp_path, change):
    file = tmp_path / "weights" / "classify_image_graph_def.pb"  # of which no digest is published
    file.parent.mkdir()
    if change == "another file":
        file.write_bytes(b"hay")
    text = WEIGHTY.replace("weighty", "steady").replace("{n: 8}", "{n: 8, conventions: [offline, adm]}")
    store, plan = planned(text)
    state = replay(plan.cells, [])
    assert replan(store, state) == (plan, [])
    (cell,) = state.values()
    cell.units["000000-000008"] = "digest"
    file.write_bytes(b"straw")
    with pytest.raises(InputError, match="generate farm/steady no longer matches its plan") as caught:
        replan(store, state)
    assert caught.value.why == "the weights of its feature networks have changed"


def test_feature_weights_that_have_come_before_the_first_unit_are_used(planned, tmp_path):
    text = WEIGHTY.replace("weighty", "steady").replace("{n: 8}", "{n: 8, conventions: [offline, adm]}")
    store, plan = planned(text)
    state = replay(plan.cells, [])
    file = tmp_path / "weights" / "classify_image_graph_def.pb"
    file.parent.mkdir()
    file.write_bytes(b"straw")
    again, notes = replan(store, state)
    assert notes == ["generate farm/steady: its weights are there now"]
    assert list(again.cells[0].cell.features_sha256) == ["inception"]
    assert again.weights["inception"] == str(file)


def test_a_reference_that_has_come_is_used(planned, tmp_path, monkeypatch):
    monkeypatch.setenv("ARBENCH_REFERENCES", str(tmp_path / "references"))
    text = WEIGHTY.replace("weighty", "steady").replace("{n: 8}", "{n: 8, reference: 'clean-fid:cat2dog-256-test'}")
    store, plan = planned(text + "  - count: {n: 8, batch: 8}\n")
    state = replay(plan.cells, [])
    assert [cell.outcome for cell in plan.cells] == ["error", None]
    file = tmp_path / "references" / "clean-fid" / "cat2dog_clean_test_256.npz"
    file.parent.mkdir(parents=True)
    np.savez_compressed(file, mu=np.zeros(2048), sigma=np.eye(2048))
    again, notes = replan(store, state)
    assert notes == ["generate farm/steady: its reference is there now"]
    assert [cell.outcome for cell in again.cells] == [None, None]


def test_a_cell_whose_data_has_changed(planned, tmp_path):
    images = tmp_path / "tiny.npz"
    np.savez(images, arr_0=np.zeros((4, 8, 8, 3), dtype=np.uint8))
    text = WEIGHTY.replace("weighty", "steady").replace("{n: 8}", f"{{n: 8, reference: 'npz:{images}'}}")
    store, plan = planned(text)
    state = replay(plan.cells, [])
    np.savez(images, arr_0=np.ones((4, 8, 8, 3), dtype=np.uint8))
    with pytest.raises(InputError, match="no longer matches its plan") as caught:
        replan(store, state)
    assert caught.value.why == "its data has changed"
    assert "put it back" in caught.value.hint


def test_a_run_in_use_cannot_be_resumed(farm):
    run = farm.folder / "run"
    process = farm.start("run", farm.suite(["naps"], n=800), "--out", run, *OPTIONS)
    wait_for(lambda: len(journaled_units(farm, run)) >= 1)
    code, _, err = farm.arbench("resume", run)
    assert code == 3
    assert f"process {process.pid}" in err
    out = farm.arbench("status", run)[1]
    assert "running" in out
    assert f"process {process.pid} is at work" in out
    process.terminate()
    process.terminate()
    process.communicate(timeout=500)
    assert process.returncode == 130
