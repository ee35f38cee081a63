"""`arbench.run`: a suite as a name, a file or data, through the session of the command."""

from __future__ import annotations

import signal
import subprocess
import sys

import pandas
import pytest
import yaml
from pandas.testing import assert_frame_equal

import arbench
from arbench.errors import ConfigError, UnknownName, UsageError

SUITE = {
    "suite": "small",
    "settings": {"device": "cpu"},
    "adapters": ["raster/llamagen-mini", "random_order/rar-mini"],
    "tasks": [{"generate": {"n": 16, "conventions": ["offline"], "metrics": ["vendi"]}}, {"speed": {"batches": [1]}}],
}


def test_a_suite_as_data(here, capsys):
    before = yaml.safe_dump(SUITE)
    run = arbench.run(
        SUITE, adapters="raster/*-mini", tasks=["generate"], set={"generate.n": 20}, out="run", track="off",
        progress=False,
    )  # fmt: skip
    assert yaml.safe_dump(SUITE) == before
    assert capsys.readouterr() == ("", "")
    assert run.outcome == "complete"
    assert run.report.stat().st_size > 10_000
    assert [(result.adapter, result.task) for result in run.results] == [("raster/llamagen-mini", "generate")]
    assert_frame_equal(run.frame(), pandas.read_parquet("run/results.parquet"))
    assert_frame_equal(run.table(), pandas.read_parquet("run/table.parquet").drop(columns="run_id"))
    value = run.table()["offline/vendi"].item()
    for text in (repr(run), run._repr_html_()):
        assert "class-agreement (fraction)" in text
        assert "1 more column: .frame()" in text
        assert "report.html" in text
    assert run.results[0].parameters["n"] == 20
    score = arbench.score("run", conventions="offline", metrics="vendi", device="cpu")
    assert score["vendi"].value == value
    assert len(arbench.compare(run, score).frame()) == 1  # one row: these are samples of one model and setting
    with pytest.raises(UsageError, match="holds a run already"):
        arbench.run(SUITE, out="run", progress=False)


def test_a_file_and_failed_cells(here, capsys):
    (here / "mine.yaml").write_text(yaml.safe_dump(SUITE))
    run = arbench.run(
        here / "mine.yaml", adapters=["raster/llamagen-mini"], tasks="generate", set={'sampling."*".steps': 5},
        out="run", track="off",
    )  # fmt: skip
    assert run.outcome == "nothing"
    assert "unsupported: generate raster/llamagen-mini" in repr(run)
    assert "it does not honour steps" in run._repr_html_()
    assert "unsupported" in capsys.readouterr().err


def test_an_interrupt_says_how_to_resume(here):
    code = f"""
import arbench
arbench.run({SUITE!r}, tasks="generate", set={{"generate.n": 2000}}, out="run", track="off")
"""
    process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True)
    lines = [process.stderr.readline()]
    assert lines[0].startswith("start"), lines
    process.send_signal(signal.SIGINT)
    lines += process.stderr.readlines()
    assert process.wait() != 0
    assert lines[-1] == "KeyboardInterrupt: to resume: arbench resume run\n"
    assert set(pandas.read_parquet("run/results.parquet").outcome) == {"interrupted"}


def test_mistakes(here):
    with pytest.raises(UnknownName, match="did you mean quickstart"):
        arbench.run("quickstrt")
    with pytest.raises(ConfigError, match=r"unknown key 'nn'\n.*did you mean n"):
        arbench.run({**SUITE, "tasks": [{"generate": {"nn": 3}}]})
    with pytest.raises(ConfigError, match=r"unknown key 'generat'\n.*did you mean generate"):
        arbench.run(SUITE, set={"generat.n": 3})
    with pytest.raises(ConfigError, match="a task is written"):
        arbench.run({**SUITE, "tasks": [3]})
    assert not list(here.iterdir())
