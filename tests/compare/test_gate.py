"""Baselines and the gate: each verdict and the exit code that it deserves, and what is written for others."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

import arbench
from arbench.cli.main import main
from arbench.compare import baseline as baselines
from arbench.compare import gate_output, in_turn, screen
from arbench.compare.calibration import noise, noises
from arbench.compare.gate import gate, timings
from arbench.errors import StoreError, UnknownName, UsageError


@pytest.fixture
def nights(runs, tmp_path):
    """A store with the baseline "main" and the nights that follow it; `nights(name, ...)` gates another."""
    store = tmp_path / "store"
    baselines.accept(store, "main", runs("n0", started="2100-01-01T00:00:00+00:00"), "first")

    def tonight(name, confirm=None, **changes):
        folder = runs(name, started=f"2100-01-02T00:00:{len(list(tmp_path.iterdir())):02d}+00:00", **changes)
        return gate(folder, baselines.read(store, "main"), confirm)

    return tonight


def verdicts(found):
    return {each.metric.partition(" ")[0]: each.verdict for each in found.numbers}


def change(folder, cell, function):
    path = folder / "cells" / f"res-{cell}" / "result.json"
    document = json.loads(path.read_text())
    function(document)
    path.write_text(json.dumps(document))


def test_the_same_build_is_identical(nights):
    found = nights("a", latency=0.101)
    assert verdicts(found) == {
        "frechet": "IDENTICAL", "kid": "IDENTICAL", "precision": "IDENTICAL", "class-agreement": "IDENTICAL",
        "nats-per-token": "IDENTICAL", "latency": "OK", "steps": "IDENTICAL", "peak-memory": "OK", "image": "IDENTICAL",
        "tokens": "IDENTICAL", "flops": "IDENTICAL", "weight-passes": "IDENTICAL",
    }  # fmt: skip
    assert found.exit_code == 0


def test_slower_is_suspect_until_both_builds_ran_in_turn(nights):
    for number, latency in enumerate(np.linspace(0.0995, 0.1005, 8)):
        nights(f"n{number + 1}", latency=float(latency))
    assert verdicts(nights("slow", latency=0.105))["latency"] == "SUSPECT"
    asked = []

    def measured(ratio):
        def confirm(adapter, tasks):
            asked.append((adapter, sorted(tasks)))
            good = 0.1 + 1e-4 * np.arange(7)
            return {("speed", "latency (batch 1, sample)", ""): (good.tolist(), (ratio * good).tolist())}

        return confirm

    slower = nights("again", confirm=measured(1.05), latency=0.105)
    assert (verdicts(slower)["latency"], slower.exit_code) == ("REGRESSED", 1)
    (number,) = [each for each in slower.numbers if each.verdict == "REGRESSED"]
    assert "7 rounds in turn: +5.0 %" in number.why
    fine = nights("bad-night", confirm=measured(1.0), latency=0.105)
    assert (verdicts(fine)["latency"], fine.exit_code) == ("OK", 0)
    assert asked == [("next_scale/toy", ["speed"])] * 2
    assert verdicts(nights("fast", latency=0.09))["latency"] == "IMPROVED"


def test_another_sampler_is_seen_in_steps_and_quality(nights, runs):
    found = nights("b", changed=1.0)
    assert verdicts(found)["nats-per-token"] == "REGRESSED"
    assert verdicts(found)["image"] == "AMBIGUOUS"
    assert found.exit_code == 1


@pytest.mark.parametrize(
    ("name", "factor", "verdict"),
    [
        ("steps", 1.1, "REGRESSED"), ("flops", 1.0001, "REGRESSED"), ("flops", 0.9999, "IMPROVED"),
        ("weight-passes", 2.0, "REGRESSED"), ("tokens", 0.5, "REGRESSED"), ("tokens", 2.0, "REGRESSED"),
    ],
)  # fmt: skip
def test_an_exact_number_that_changes_is_a_regression(nights, runs, tmp_path, name, factor, verdict):
    folder = runs("c", started="2100-02-01T00:00:00+00:00")

    def scale(document):
        (metric,) = [each for each in document["metrics"] if each["name"] == name]
        metric.update(value=factor * metric["value"])
        document["provenance"]["packages"] = {"torch": "9.0"}

    change(folder, "speed", scale)
    found = gate(folder, baselines.read(tmp_path / "store", "main"))
    assert (verdicts(found)[name], found.exit_code) == (verdict, int(verdict == "REGRESSED"))
    (one,) = [each for each in found.numbers if each.verdict == verdict]
    assert one.why.endswith("and torch from  to 9.0")


def test_nan_failure_rename_and_what_never_ran(nights, runs, tmp_path):
    known = baselines.read(tmp_path / "store", "main")
    broken = runs("nan", started="2100-02-01T00:00:00+00:00")

    def fail(document):
        document.update(outcome="error", reason="pixels are not finite", metrics=[])

    change(broken, "generate", fail)
    found = gate(broken, known)
    assert verdicts(found)["outcome"] == "INVALID"
    assert found.exit_code == 3
    other = gate(runs("renamed", adapter="next_scale/new", started="2100-02-02T00:00:00+00:00"), known)
    assert (
        set(verdicts(other).values()) == {"NOT_MEASURED", "NO_BASELINE"} or "NOT_MEASURED" in verdicts(other).values()
    )
    assert other.exit_code == 3
    assert any("renamed?" in each.why for each in other.numbers)
    partial = runs("partial", started="2100-02-03T00:00:00+00:00")
    shutil.rmtree(partial / "cells" / "res-speed")
    found = gate(partial, known)
    assert [each.metric for each in found.numbers if each.verdict == "NOT_MEASURED"] == ["outcome of speed"]
    assert found.exit_code == 3


@pytest.mark.parametrize("cell", ["generate", "generate-b"])
def test_a_cell_of_a_sweep_that_failed_is_told_whatever_the_others_did(swept, tmp_path, cell):
    store = tmp_path / "store"
    baselines.accept(store, "main", swept("before"), "first")
    assert gate(swept("same"), baselines.read(store, "main")).exit_code == 0
    broken = swept("broken")
    change(broken, cell, lambda document: document.update(outcome="error", reason="not finite", metrics=[]))
    found = gate(broken, baselines.read(store, "main"))
    (one,) = [each for each in found.numbers if each.verdict == "INVALID"]
    assert one.title == f"next_scale/toy ({'default temperature' if cell == 'generate' else 'temperature 0.5'})"
    assert (one.why, found.exit_code) == ("error: not finite", 3)
    assert any(each.metric.startswith("image digests") and each.verdict == "IDENTICAL" for each in found.numbers)


def test_a_failure_under_other_settings_is_not_that_of_a_cell(swept, runs, tmp_path):
    """The night has temperatures 1 and 0.25 in place of 1 and 0.5, and 0.25 failed: nothing is known of 0.5."""
    store = tmp_path / "store"
    baselines.accept(store, "main", swept("before"), "first")
    night = swept("night", second=0.25)

    def fail(document):
        document.update(outcome="error", reason="not finite", metrics=[], result_id="res-other")

    change(night, "generate-b", fail)
    found = gate(night, baselines.read(store, "main"))
    assert not [each for each in found.numbers if each.verdict == "INVALID"]
    lost = {each.metric: each for each in found.numbers if each.verdict == "NOT_MEASURED" and each.task == "generate"}
    assert "frechet (offline)" in lost
    assert {each.title for each in lost.values()} == {"next_scale/toy (temperature 0.5)"}
    shutil.rmtree(night / "cells" / "res-generate")
    found = gate(night, baselines.read(store, "main"))
    whys = {each.title: each.why for each in found.numbers if each.metric == "outcome of generate"}
    assert whys["next_scale/toy (temperature 0.5)"] == "not under these settings; under others error: not finite"


def test_weights_are_others_and_a_cell_failed(swept, tmp_path):
    """Ids are others then; the cell is known by its settings."""
    store = tmp_path / "store"
    baselines.accept(store, "main", swept("before"), "first")
    night = swept("night")
    for path in (night / "cells").glob("*/result.json"):
        change(night, path.parent.name.removeprefix("res-"), lambda document: document.update(settings_id="set-new"))
    reason = {"outcome": "error", "reason": "not finite", "metrics": []}
    change(night, "generate", lambda document: document.update(reason, result_id="res-1"))
    change(night, "generate-b", lambda document: document.update(result_id="res-2"))
    found = gate(night, baselines.read(store, "main"))
    (one,) = [each for each in found.numbers if each.verdict == "INVALID"]
    assert one.title == "next_scale/toy (default temperature)"


def test_a_setting_that_is_still_to_run_is_told_as_such(swept, tmp_path):
    store = tmp_path / "store"
    baselines.accept(store, "main", swept("before"), "first")
    night = swept("night")
    shutil.rmtree(night / "cells" / "res-generate-b")
    cell = {"adapter": "next_scale/toy", "task": {"task": "generate"}, "result_id": "res-generate-b"}
    run = json.loads((night / "run.json").read_text())
    (night / "run.json").write_text(json.dumps(run | {"plan": {"cells": [cell]}}))
    found = gate(night, baselines.read(store, "main"))
    lost = [each for each in found.numbers if each.verdict == "NOT_MEASURED"]
    assert [(each.metric, each.why) for each in lost] == [("outcome of generate", "planned and not run")]
    assert lost[0].title == "next_scale/toy (temperature 0.5)"


def test_numbers_of_a_sweep_say_of_which_settings_they_are(swept, tmp_path, capsys):
    store = tmp_path / "store"
    baselines.accept(store, "main", swept("before"), "first")
    found = gate(swept("after"), baselines.read(store, "main"))
    titles = [(each.title, each.metric) for each in found.numbers]
    assert len(titles) == len(set(titles))
    assert {title for title, _ in titles} == {
        "next_scale/toy (default temperature)",
        "next_scale/toy (temperature 0.5)",
    }
    names = [
        (case.get("classname"), case.get("name"))
        for case in ElementTree.fromstring(gate_output.junit(found)).iter("testcase")
    ]
    assert len(names) == len(set(names))
    assert main(["history", str(tmp_path / "before"), str(tmp_path / "after"), "--metric", "frechet"]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if " frechet" in line]
    assert len(lines) == 2
    assert sum("temperature 0.5" in line for line in lines) == 1


def test_a_suspect_of_a_sweep_is_decided_by_rounds_of_its_own_settings(swept, tmp_path):
    store = tmp_path / "store"
    baselines.accept(store, "main", swept("before"), "first")
    slower = swept("slower")
    for cell in ("speed", "speed-b"):
        change(slower, cell, lambda document: document["metrics"][0].update(value=0.11))
    good = (0.1 + 1e-4 * np.arange(7)).tolist()

    def confirm(adapter, tasks):
        words = "latency (batch 1, sample)"
        ratios = {"set-1.0": 1.1, "set-0.5": 1.0}
        return {("speed", words, key): (good, [ratio * value for value in good]) for key, ratio in ratios.items()}

    found = gate(slower, baselines.read(store, "main"), confirm)
    latency = {each.settings_id: each.verdict for each in found.numbers if each.metric.startswith("latency")}
    assert latency == {"set-1.0": "REGRESSED", "set-0.5": "OK"}


def test_a_build_is_read_by_settings(swept, tmp_path):
    folder = swept("r")
    change_cells = {"speed": 0.2, "speed-b": 0.3}
    for cell, value in change_cells.items():
        change(folder, cell, lambda document, value=value: document["metrics"][0].update(value=value))
    document = json.loads((folder / "run.json").read_text())
    suite = {"suite": "toy", "tasks": [{"task": "speed", "batches": [1]}]}
    (folder / "run.json").write_text(json.dumps(document | {"plan": {"cells": []}, "suite": suite}))
    python = tmp_path / "python"  # in place of a run: its folder as it would be
    python.write_text(f'#!/bin/sh\nwhile [ "$1" != --out ]; do shift; done\ncp -r {folder} "$2"\n')
    python.chmod(0o755)
    tasks = frozenset({"speed"})
    name = "speed", "latency (batch 1, sample)"
    every = in_turn.Build(str(python), folder).measure("next_scale/toy", tasks)
    assert (every[*name, "set-1.0"], every[*name, "set-0.5"]) == (0.2, 0.3)
    assert in_turn.Build(str(python), folder, "set-0.5").measure("next_scale/toy", tasks)[*name, ""] == 0.3
    assert in_turn.Build(str(python), folder, "set-9").measure("next_scale/toy", tasks) == {}


def test_quarantine_and_flags(nights, runs, tmp_path):
    store = tmp_path / "store"
    baselines.quarantine(store, "main", "*/toy nats-*", "under repair")
    found = nights("b", changed=1.0)
    assert verdicts(found)["nats-per-token"] == "QUARANTINED"
    folder = runs("flagged", started="2100-02-01T00:00:00+00:00")
    change(folder, "speed", lambda document: document["metrics"][0].update(flags=["repeated_output"]))
    found = gate(folder, baselines.read(store, "main"))
    assert (verdicts(found)["latency"], found.exit_code) == ("INVALID", 3)


def grown(folder, value, *flags):
    """The run, whose calls leave `value` bytes behind."""

    def add(document):
        peak = next(metric for metric in document["metrics"] if metric["name"] == "peak-memory")
        document["metrics"].append({**peak, "name": "memory-growth", "value": value, "flags": list(flags)})

    change(folder, "memory", add)
    return folder


def test_calls_that_leave_nothing_behind_are_fine_and_a_new_leak_is_a_regression(runs, tmp_path):
    store = tmp_path / "store"
    baselines.accept(store, "main", grown(runs("n0", started="2100-01-01T00:00:00+00:00"), 0.0), "first")
    known = baselines.read(store, "main")

    def tonight(name, *growth, of=known):
        found = gate(grown(runs(name, started="2100-01-02T00:00:00+00:00"), *growth), of)
        return verdicts(found)["memory-growth"], found.exit_code

    assert tonight("none", 0.0) == ("OK", 0)
    assert tonight("pages", 4096.0) == ("OK", 0)
    assert tonight("fewer", -4096.0) == ("OK", 0)
    assert tonight("leaking", 2.0**21, "leak") == ("REGRESSED", 1)
    assert "memory-growth" not in {reading.metric.name for reading in timings(known).values()}

    baselines.accept(store, "leaky", grown(runs("n1", started="2100-01-01T00:00:00+00:00"), 2.0**21, "leak"), "first")
    leaky = baselines.read(store, "leaky")
    assert tonight("still", 2.0**21, "leak", of=leaky) == ("OK", 0)
    assert tonight("mended", 0.0, of=leaky) == ("IMPROVED", 0)


def test_a_regressed_night_is_no_history_and_a_night_gated_twice_counts_once(nights, tmp_path):
    assert verdicts(nights("slow", latency=0.12))["latency"] == "SUSPECT"
    found = nights("a", latency=0.1)
    (latency,) = [each for each in found.numbers if each.metric.startswith("latency")]
    known = baselines.read(tmp_path / "store", "main")
    assert known.history(latency.key, frozenset({"OK"})) == [0.1, 0.1]
    gate(tmp_path / "a", known)
    assert len(baselines.read(tmp_path / "store", "main").nights) == 2


def test_fields_that_a_later_version_has_written_are_kept(runs, tmp_path):
    folder, store = runs("a"), tmp_path / "store"

    def later(document):
        document.update(mood={"good": True})
        document["metrics"][0].update(weather="fine")
        document["provenance"].update(room=3)

    change(folder, "speed", later)
    baselines.accept(store, "main", folder, "first")
    lines = map(json.loads, (store / "main" / "results.jsonl").read_text().splitlines())
    (speed,) = [each for each in lines if each["task"] == "speed"]
    assert (speed["mood"], speed["provenance"]["room"]) == ({"good": True}, 3)
    assert speed["metrics"][0]["weather"] == "fine"
    path = store / "main" / "baseline.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"owner": "night shift"}))
    known = baselines.quarantine(store, "main", "* latency*", "noisy")
    assert json.loads(path.read_text())["owner"] == "night shift"
    assert gate(runs("b"), known).exit_code == 0


def test_seeds_tell_the_spread(runs, tmp_path):
    folders = [runs(f"s{seed}", changed=0.02 * seed, load={"seed": seed}) for seed in range(6)]
    known = baselines.accept(tmp_path / "store", "main", folders[0], "seeds", folders[1:])
    assert known.file.seeds == 5
    found = gate(runs("t", changed=0.05), known)
    assert any("sd of 6 seeds" in each.why for each in found.numbers)


def test_the_commands_and_their_files(runs, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    old, new = str(runs("old")), str(runs("new", changed=1.0, started="2100-01-01T00:00:00+00:00"))
    assert main(["gate", new, "--baseline", "main"]) == 2
    assert main(["baseline", "set", "main", old]) == 0
    assert main(["baseline", "set", "main", old]) == 2
    assert "accept main" in capsys.readouterr().err
    files = ["--junit", "gate.xml", "--markdown", "gate.md"]
    assert main(["gate", new, "--baseline", "main", *files]) == 1
    assert "REGRESSED" in capsys.readouterr().out
    root = ElementTree.parse(tmp_path / "gate.xml").getroot()
    failures = [case.get("name") for case in root.iter("testcase") if case.find("failure") is not None]
    assert "nats-per-token (arbench)" in failures
    assert sum(int(suite.get("failures")) for suite in root.iter("testsuite")) == len(failures)
    assert "| ❌ REGRESSED | next_scale/toy | nats-per-token" in (tmp_path / "gate.md").read_text()
    assert main(["gate", new, "--baseline", "main", "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["exit_code"] == 1
    assert main(["baseline", "accept", "main", new]) == 2
    assert main(["baseline", "accept", "main", new, "--reason", "meant"]) == 0
    assert main(["gate", new, "--baseline", "main"]) == 0
    capsys.readouterr()
    assert main(["baseline", "list"]) == 0
    assert "meant" in capsys.readouterr().out
    with pytest.raises(UnknownName):
        baselines.read(tmp_path / "baselines", "mian")
    with pytest.raises(UsageError, match="name of a folder"):
        baselines.accept(tmp_path / "baselines", "../x", tmp_path / "old", "no")


def test_a_calibration_tells_the_noise_and_what_is_too_noisy(runs, tmp_path):
    store, draw, seen = tmp_path / "store", np.random.default_rng(5), []
    known = baselines.accept(store, "main", runs("n0"), "first")
    words = {each.metric.name: (each.entry.result.task, each.words, "") for each in timings(known).values()}
    assert set(words) == {"latency", "peak-memory"}

    def measure(memory):
        def measured(adapter, tasks):
            seen.append((adapter, tasks))
            latency, peak = np.exp([0.004, memory] * draw.normal(size=2))
            return {words["latency"]: 0.1 * float(latency), words["peak-memory"]: 1e8 * float(peak)}

        return measured

    assert verdicts(gate(runs("before", latency=0.1049), known))["latency"] == "OK"
    told: list[str] = []
    found = noises(measure(0.3), timings(known), 14, told.append)
    assert seen == [("next_scale/toy", frozenset({"speed", "memory"}))] * 14
    assert told[13] == "next_scale/toy: session 14 of 14"
    known = baselines.calibrate(known, found, 14)
    (wild,) = [each for each in known.file.quarantine if each.calibrated]
    assert wild.glob.startswith("next_scale/toy peak-memory")
    assert wild.reason.startswith("A/A: sessions lie ")
    after = gate(runs("after", latency=0.1049), known)
    assert (verdicts(after)["latency"], verdicts(after)["peak-memory"]) == ("SUSPECT", "QUARANTINED")
    assert any("A/A noise 0." in each.why for each in after.numbers if each.verdict == "SUSPECT")
    again = baselines.calibrate(known, noises(measure(0.001), timings(known), 14, told.append), 14)
    assert again.file.quarantine == ()
    with pytest.raises(UsageError, match="too few sessions: 13"):
        noises(measure(0.1), timings(known), 13, told.append)


def test_a_noisy_setting_of_a_sweep_puts_no_other_in_quarantine(swept, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    draw = np.random.default_rng(5)
    spread = {"set-1.0": 0.3, "set-0.5": 0.001}
    words = "latency (batch 1, sample)"

    def measured(build, adapter, tasks):
        return {("speed", words, key): 0.1 * float(np.exp(sd * draw.normal())) for key, sd in spread.items()}

    monkeypatch.setattr(in_turn.Build, "measure", measured)
    assert main(["baseline", "set", "main", str(swept("before"))]) == 0
    assert main(["baseline", "calibrate", "main", "before", "--sessions", "14"]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if words in line]
    assert {"temperature 0.5" in line: "quarantine: A/A" in line for line in lines} == {True: False, False: True}
    slower = swept("slower")
    for cell in ("speed", "speed-b"):
        change(slower, cell, lambda document: document["metrics"][0].update(value=0.11))

    def latencies():
        found = gate(slower, baselines.read(Path("baselines"), "main"))
        return {each.settings_id: each.verdict for each in found.numbers if each.metric == words}

    assert latencies() == {"set-1.0": "QUARANTINED", "set-0.5": "SUSPECT"}
    glob = "next_scale/toy (temperature 0.5) latency*"
    assert main(["baseline", "quarantine", "main", glob, "--reason", "noisy"]) == 0
    assert latencies() == {"set-1.0": "QUARANTINED", "set-0.5": "QUARANTINED"}


def test_baselines_are_listed_by_name(runs, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    folder = str(runs("n0"))
    for name in ("main", "nightly"):
        assert main(["baseline", "set", name, folder]) == 0
    capsys.readouterr()
    assert main(["baseline", "list", "nightly", "--json"]) == 0
    assert [each["name"] for each in json.loads(capsys.readouterr().out)] == ["nightly"]
    assert main(["baseline", "list", "nigtly"]) == 2


def test_calibrating_by_command(runs, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = str(runs("n0"))
    readings = {("speed", "latency (batch 1, sample)", ""): 0.1, ("memory", "peak-memory (batch 1)", ""): 1e8}
    monkeypatch.setattr(in_turn.Build, "measure", lambda build, adapter, tasks: readings)
    assert main(["baseline", "set", "main", folder]) == 0
    assert main(["baseline", "calibrate", "main", folder, "--sessions", "15"]) == 0
    said = capsys.readouterr()
    assert "baseline main: 2 numbers of 15 sessions, 0 in quarantine" in said.out
    assert "next_scale/toy: session 15 of 15" in said.err
    assert main(["baseline", "calibrate", "main", folder, "--sessions", "3"]) == 2
    kept = json.loads((tmp_path / "baselines" / "main" / "calibration.json").read_text())
    assert {each["metric"] for each in kept["numbers"].values()} == {words for _, words, _ in readings}


def test_the_shares_of_false_alarms_of_a_series():
    draw = np.random.default_rng(0)
    calm = [noise("a", "latency", np.exp(0.01 * draw.normal(size=14)), 0.02) for _ in range(40)]
    assert 0 < np.mean([each.screened for each in calm]) < 0.05
    assert max(each.confirmed for each in calm) < 0.01
    apart = noise(
        "a", "latency", [1.0, 1.1] * 7, 0.02
    )  # every second session is slower: what a turn would call a change
    assert apart.confirmed == 1 / 128
    assert noise("a", "rate", [1.0] * 13 + [0.5], 0.02, higher_is_better=True).screened == 1 / 14
    assert noise("a", "rate", [1.0] * 13 + [0.5], 0.02).screened == 0


def test_from_python(runs, tmp_path):
    store = tmp_path / "store"
    folders = [runs(f"n{day}", latency=0.1 + 0.001 * day, started=f"2100-01-0{day + 1}T00:00") for day in range(3)]
    baselines.accept(store, "main", folders[0], "first")
    found = arbench.gate(folders[1], "main", store=store)
    assert found.exit_code == 0
    assert "IDENTICAL" in repr(found)
    assert set(found.frame()["verdict"]) == {"OK", "IDENTICAL"}
    series = arbench.history(*folders)
    frame = series.frame()
    values = frame[frame["number"] == "latency (batch 1, sample)"]["value"]
    assert values.tolist() == pytest.approx([0.1, 0.101, 0.102])
    assert "▁" in repr(series)
    assert "next_scale/toy" in arbench.leaderboard(folders[0], out=tmp_path / "site").read_text()


def test_builds_take_turns_and_stop_when_it_is_decided():
    order: list[str] = []
    draw = np.random.default_rng(0)

    def build(name, seconds, noise=0.001):
        def measure(adapter, tasks):
            order.append(name)
            return {("speed", "latency (batch 1)", ""): seconds * float(np.exp(noise * draw.normal()))}

        return measure

    tasks = frozenset({"speed"})
    found = in_turn.in_turn(build("good", 1.0), build("new", 1.05), "x", tasks)
    assert "".join(name[0] for name in order) == "gnnggnnggnnggn"
    assert len(found["speed", "latency (batch 1)", ""][0]) == screen.ROUNDS
    order.clear()
    in_turn.in_turn(build("good", 1.0, 0.5), build("new", 1.0, 0.5), "x", tasks)
    assert len(order) == 2 * screen.MORE


def test_a_build_that_fails_says_so(runs):
    folder = runs("r")
    document = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(
        json.dumps(
            document | {"plan": {"cells": []}, "suite": {"suite": "toy", "tasks": [{"task": "speed", "batches": [1]}]}}
        )
    )
    with pytest.raises(StoreError, match="could not be run again"):
        in_turn.Build("/bin/false", folder).measure("x", frozenset({"speed"}))
    with pytest.raises(StoreError, match="cannot start"):
        in_turn.Build("/no/python", folder).measure("x", frozenset({"speed"}))
