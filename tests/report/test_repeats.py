"""Several seeds, and several trainings of one system, in one row: value, interval, and how far they lie apart."""

from __future__ import annotations

import io
import statistics
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from arbench.report import board_files, export, latex
from arbench.report.boards import measured_boards
from arbench.report.folders import Entry
from arbench.report.repeats import covers, spread_words, together
from arbench.report.tables import make_table
from arbench.spec.result import Interval, Metric, Result
from arbench.table import wide_table

VALUES = {0: [3.0, 3.1, 3.4], 1: [3.6, 3.5, 3.3], 2: [3.2, 3.0, 2.9]}
"""Training -> FID by seed."""


def result(training: int, seed: int, **changes: object) -> Result:
    fid = Metric(
        name="fid", value=VALUES[training][seed], n=100, interval=Interval(low=2.9, high=3.3, method="leave-one-out")
    )
    timing = Metric(name="latency", value=1.0, n=9, measure="speed")
    fields = {
        "result_id": f"res-{training}{seed}", "settings_id": f"set-{training}", "adapter": "raster/a",
        "family": "raster", "kind": "generator", "task": "generate", "parameters": {"n": 100}, "outcome": "ok",
        "load": {"seed": 7 + seed, "seeds": 3, "replicate": training, "replicates": 3}, "metrics": (fid, timing),
    }  # fmt: skip
    return Result(**(fields | changes))


def test_seeds_keep_the_first_ones_value_and_tell_their_spread():
    (one,) = together([result(0, seed, load={"seed": 7 + seed, "seeds": 3}) for seed in (2, 0, 1)])
    fid, timing = one.metrics
    assert (one.result_id, fid.value, fid.interval.method) == ("res-00", 3.0, "leave-one-out")
    assert fid.extras["seeds_mean"] == pytest.approx(statistics.fmean(VALUES[0]))
    assert spread_words(fid) == f"sd {statistics.stdev(VALUES[0]):.2g} of 3 seeds"
    assert "another training" in covers(fid, "generator")
    assert spread_words(timing) == ""


def test_trainings_are_their_mean_with_an_interval_of_trainings():
    (one,) = together([result(training, seed) for training in (0, 1, 2) for seed in (0, 1, 2)])
    fid = one.metrics[0]
    firsts = [values[0] for values in VALUES.values()]
    assert fid.value == pytest.approx(statistics.fmean(firsts))
    assert fid.interval.high - fid.value == pytest.approx(4.302653 * statistics.stdev(firsts) / 3**0.5)
    assert fid.extras["trainings"] == 3
    assert spread_words(fid) == f"sd 0.21 of 3 seeds, sd {statistics.stdev(firsts):.2g} of 3 trainings"
    assert covers(fid, "generator") == "covers other trainings and other samples"


def test_what_is_no_repetition_stays_apart():
    apart = [
        result(0, 0), result(0, 1, outcome="error", reason="x", metrics=()),
        result(0, 0, adapter="raster/b"), result(0, 0, load={"seed": 0}), result(0, 1, load={"seed": 1}),
    ]  # fmt: skip
    assert together(apart) == apart


def test_leaderboard_and_tables_have_the_spread_with_the_number_of_seeds(tmp_path: Path) -> None:
    shared = {"settings_id": "set-a", "started": "2000-01-01T00:00:00+00:00"}
    results = [result(0, seed, load={"seed": 7 + seed, "seeds": 3}, **shared) for seed in (0, 1, 2)]
    fids = [each.metrics[0].model_copy(update={"direction": "lower"}) for each in results]
    results = [each.model_copy(update={"metrics": (fid,)}) for each, fid in zip(results, fids, strict=True)]
    sd = statistics.stdev(VALUES[0])
    entries = [Entry(each, tmp_path, "run") for each in results]
    boards = measured_boards(entries, {})
    (row,) = (row for board in boards for row in board.rows)
    assert row.cells[1].spread == "sd 0.21 of 3 seeds"
    told = pq.read_table(io.BytesIO(board_files.to_parquet(boards))).to_pylist()
    (fid,) = [each for each in told if each["number"].startswith("fid")]
    assert (fid["sd"], fid["repeats"], fid["repeated"]) == (pytest.approx(sd), 3, "seeds")
    assert ",3,seeds," in board_files.to_csv(boards)
    written = [board_files.to_markdown(boards), board_files.to_latex(boards)]
    table = make_table(entries, [], "generator")
    assert table is not None
    header, line = export.to_csv(table).splitlines()
    assert header.endswith("n,fid (arbench) ↓ sd,fid (arbench) ↓ seeds")
    assert line.endswith(",3")
    written += [export.to_markdown(table), latex.to_latex(table, "Model", "tab:x")]
    assert ["sd 0.21 of 3 seeds" in text for text in written] == [True] * 4
    wide = wide_table("run", results).to_pylist()
    assert [(each["fid.sd"], each["fid.repeats"]) for each in wide] == [(pytest.approx(sd), 3)]
