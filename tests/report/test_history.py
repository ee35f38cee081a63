"""Numbers of many nights as series, the steps in them, the verb and the page's section."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from arbench.cli.main import main
from arbench.report import history
from arbench.report.folders import read_runs
from arbench.report.page import render
from arbench.report.series import nights
from arbench.spec.result import Metric

from .synthetic_run import make_result, write_cell

WEEK = (0.100, 0.101, 0.0995, 0.1002, 0.1055, 0.106, 0.1052)


def make_nights(folder: Path) -> list[Path]:
    found = []
    for day, seconds in enumerate(WEEK):
        run = folder / f"night-{day}"
        run.mkdir(parents=True)
        (run / "run.json").write_text(json.dumps({"schema_version": 2, "run_id": run.name, "suite": {"suite": "toy"}}))
        at = {"batch": 1, "operation": "sample"}
        metric = Metric(name="latency", value=seconds, unit="s", n=20, direction="lower", at=at, measure="speed")
        result = make_result("next_scale/toy", "generator", "next_scale", "speed", metrics=(metric,))
        started = f"2000-01-{day + 1:02d}T00:00:00+00:00"
        write_cell(run, result.model_copy(update={"started": started}))
        found.append(run)
    return found


def test_a_week_with_a_change_on_day_five(tmp_path, capsys):
    folders = make_nights(tmp_path / "runs")
    (series,) = history.series_of(nights(folders[::-1]))
    assert [night.run_id for night in series.nights] == [folder.name for folder in folders]
    assert series.values == WEEK
    (step,) = series.steps
    assert step.at == 4
    assert step.ratio == pytest.approx(1.053, abs=0.005)
    assert series.told(step) == "+5.4 % on 2000-01-05"
    assert series.better(step) is False
    assert main(["history", str(tmp_path / "runs")]) == 0
    assert "+5.4 % on 2000-01-05" in capsys.readouterr().out
    page = render(read_runs(folders))
    assert '<section id="history">' in page
    assert "+5.4 % on 2000-01-05" in page
    assert page.count("<circle") >= len(WEEK)


def test_steps_are_few_in_noise_and_one_bad_night_is_none():
    draw = np.random.default_rng(0)
    noise = [np.exp(0.01 * draw.normal(size=30)) for _ in range(100)]
    assert sum(bool(history.steps(values.tolist())) for values in noise) <= 3
    bad = noise[0].copy()
    bad[12] *= 1.3
    assert history.steps(bad.tolist()) == []
    both = noise[1].copy()
    both[10:20] *= 1.1
    assert [step.at for step in history.steps(both.tolist())] == pytest.approx([10, 20], abs=1)
    assert history.steps([1.0, 2.0]) == []
    assert history.steps([0.0, 1.0, 1.0, 1.0, 1.0]) == []


def test_what_is_missing_leaves_a_gap(tmp_path, capsys):
    folders = make_nights(tmp_path / "runs")
    path = next(folders[2].glob("cells/*/result.json"))
    document = json.loads(path.read_text())
    document["metrics"][0] |= {"value": None, "reason": "no"}
    path.write_text(json.dumps(document))
    (series,) = history.series_of(nights(folders))
    assert series.values[2] is None
    assert history.bars((1.0, None, 2.0)) == "▁ █"
    assert history.bars((2.0, 2.0)) == "▄▄"
    assert main(["history", *map(str, folders), "--json", "--metric", "lat*"]) == 0
    (found,) = json.loads(capsys.readouterr().out)
    assert [night["value"] for night in found["nights"]][:3] == [0.1, 0.101, None]
    assert main(["history", *map(str, folders), "--metric", "latencie"]) == 2
    assert "unknown number of these nights: 'latencie'\n  why:  did you mean latency?" in capsys.readouterr().err
    assert main(["history", *map(str, folders), "--adapter", "nope/*"]) == 2
    assert "unknown adapter of these nights: 'nope/*'" in capsys.readouterr().err
    assert main(["history", str(folders[0])]) == 3
    assert main(["history", str(tmp_path / "none")]) == 2


def test_nights_of_a_store_are_those_of_the_folders(tmp_path, capsys):
    folders, store = make_nights(tmp_path / "runs")[3:6], f"sqlite:///{tmp_path}/nights.db"
    assert main(["history", store]) == 2
    assert "no database" in capsys.readouterr().err
    assert main(["export", *map(str, folders), "--format", "mlflow", "--track", store]) == 0
    capsys.readouterr()
    assert main(["history", *map(str, folders), "--json"]) == 0
    expected = json.loads(capsys.readouterr().out)
    assert main(["history", store, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == expected
    assert len(expected[0]["nights"]) == 3
