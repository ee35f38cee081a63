"""The verbs `show`, `run`, `resume` and `status` on the built-in adapters: what they print, and their errors."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from arbench.cli.main import main
from arbench.run import device as devices
from arbench.run import pace, plan

SUITE = """suite: small
tokenizers: [tokenizers/var-mini]
settings:
  device: cpu
tasks:
  - reconstruct: {n: 64, batch: 16}
"""


@pytest.fixture
def suite(tmp_path: Path) -> str:
    path = tmp_path / "small.yaml"
    path.write_text(SUITE)
    return str(path)


@pytest.fixture
def no_gpu(monkeypatch):
    monkeypatch.setattr(devices, "cuda_devices", lambda: 0)


def test_show_as_json_has_every_value_with_its_origin(suite, capsys):
    assert main(["show", suite, "--set", "reconstruct.batch=8", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    (cell,) = document["cells"]
    values = {item["name"]: (item["value"], item["origin"]) for item in cell["values"]}
    assert values["task.n"] == (64, f"{suite}:6")
    assert values["task.batch"] == (8, "--set reconstruct.batch=8")
    assert values["task.data"] == ("mnist5k/heldout", "default")
    assert values["settings.device"] == ("cpu", f"{suite}:4")
    assert values["settings.seed"] == (0, "default")
    assert cell["units"] == 1
    assert cell["minutes"] > 0
    assert cell["outcome"] is None
    assert list(cell["weights"]) == ["tokenizers/var-mini"]
    assert list(cell["data"]) == ["mnist5k/heldout"]


def test_show_says_which_numbers_will_be_null_and_what_to_do(suite, capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("ARBENCH_WEIGHTS", str(tmp_path / "weights"))
    monkeypatch.setenv("COLUMNS", "400")
    arguments = ["show", suite, "--set", "reconstruct.conventions=[offline-pairs, pairs]"]
    note = (
        "reconstruct: no weights of alexnet, so these will be null: pairs lpips-alex "
        "(arbench weights fetch alexnet, or --weights alexnet=PATH)"
    )
    assert main(arguments) == 0
    assert f"note: {note}" in capsys.readouterr().out.splitlines()
    assert main([*arguments, "--json"]) == 0
    (cell,) = json.loads(capsys.readouterr().out)["cells"]
    assert note in cell["notes"]
    assert cell["outcome"] is None
    file = tmp_path / "alex.pth"
    file.write_bytes(b"not looked into before the run")
    assert main([*arguments, "--weights", f"alexnet={file}", "--json"]) == 0
    (cell,) = json.loads(capsys.readouterr().out)["cells"]
    assert note not in cell["notes"]
    assert set(cell["weights"]) == {"tokenizers/var-mini", "alexnet"}


def test_show_for_people(suite, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "140")
    assert main(["show", suite, "--resolved", "--adapter", "tokenizers/llamagen-mini"]) == 0
    out = capsys.readouterr().out
    assert "tokenizers/llamagen-mini" in out
    assert "var-mini" not in out
    assert "images in" not in out
    assert "task.data" in out
    assert "1 cell, about" in out


@pytest.mark.parametrize(("minutes", "told"), [(0.5, "30 s"), (90, "1 h 30 min"), (1440, "24 h 0 min")])
def test_show_tells_time_in_its_unit(suite, capsys, monkeypatch, minutes, told):
    monkeypatch.setenv("COLUMNS", "140")
    estimate = plan.estimate
    monkeypatch.setattr(
        plan, "estimate", lambda *words, **named: replace(estimate(*words, **named), minutes=float(minutes))
    )
    monkeypatch.setattr(pace.Pace, "factor", lambda of, cell: None)
    assert main(["show", suite]) == 0
    out = capsys.readouterr().out
    assert f"1 cell, about {told}, " in out
    assert out.count(told) == 2


def test_show_of_the_packaged_suite(capsys):
    assert main(["show", "quickstart", "--adapter", "tokenizers/*-mini", "--json"]) == 0
    cells = json.loads(capsys.readouterr().out)["cells"]
    minis = [f"tokenizers/{name}-mini" for name in ("hart", "llamagen", "mar-kl", "titok", "var")]
    assert [(cell["task"], cell["adapter"]) for cell in cells][:5] == [("reconstruct", name) for name in minis]
    assert {cell["task"] for cell in cells} == {"reconstruct", "speed", "memory"}


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["show", "quickstrat"], 2, ["unknown suite: 'quickstrat'", "quickstart"]),
        (["run", "SUITE", "--adapter", "tokenizers/var-mni"], 2, ["unknown adapter", "tokenizers/var-mini"]),
        (["run", "SUITE", "--set", "reconstruct.m=3"], 2, ["--set reconstruct.m=3", "unknown key 'm'"]),
        (["run", "SUITE", "--set", "reconstruct.n=5000"], 2, ["reconstruct.n is 5000", "1000 images"]),
        (["run", "SUITE", "--device", "cuda"], 3, ["no CUDA device", "--device cpu"]),
        (["run", "SUITE", "--device", "tpu"], 2, ["unknown device 'tpu'", "cuda:N"]),
        (["status", "/"], 2, ["/ is not the folder of a run"]),
        (["resume", "/"], 2, ["/ is not the folder of a run"]),
    ],
)
@pytest.mark.usefixtures("no_gpu")
def test_mistakes(suite, tmp_path, monkeypatch, capsys, arguments, code, words):
    monkeypatch.chdir(tmp_path)
    assert main([suite if word == "SUITE" else word for word in arguments]) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("arbench: ")
    assert "Traceback" not in err
    for word in words:
        assert word in err
    assert not (tmp_path / "runs").exists()  # a mistake leaves nothing behind


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--adapter", "rastr/*"], ["did you mean raster/", "next: arbench ls adapters"]),
        (["--adapter", "zzzz*"], ["are known, none is close", "next: arbench ls adapters"]),
        (["--adapter", "tokenizrs/*"], ["did you mean tokenizers/", "next: arbench ls tokenizers"]),
        (["--set", "adapters=['next_scal/*']"], ["did you mean next_scale/", "next: arbench ls adapters"]),
        (["--set", 'sampling."*/lamagen-mni*".top_k=3'], ["did you mean raster/llamagen-mini", "ls adapters"]),
        (["--set", 'sampling."zzzz*".top_k=3'], ["are known, none is close", "next: arbench ls adapters"]),
        (["--set", "speed.adapters=['rastr/*']"], ["did you mean raster/", "ls adapters"]),
        (["--adapter", "tokenizers/*", "--task", "generate"], ["tokenizers/", "more with generate"]),
    ],
)
def test_a_glob_that_picks_nothing_is_answered_with_a_few_names(capsys, arguments, words):
    assert main(["show", "quickstart", *arguments]) == 2
    told = capsys.readouterr().err
    assert all(word in told for word in words)
    assert len(told) < 800, "a list of all names helps nobody"


def test_a_run_of_a_real_tokenizer(suite, tmp_path, monkeypatch, capsys):
    """Everything at once, in the folder that is made by default: real model, metrics, report."""
    monkeypatch.chdir(tmp_path)
    assert main(["run", suite, "--workers", "1", "--track", "off"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    (run,) = (tmp_path / "runs").iterdir()
    assert run.name.startswith("small-")
    assert (run / "report.html").stat().st_size > 10_000
    (file,) = run.glob("cells/*/result.json")
    result = json.loads(file.read_text())
    assert result["outcome"] == "ok"
    assert result["artifacts"] == {"pictures": "pictures.npz", "sheet": "pictures.png", "worst": "worst.npz"}
    assert all((file.parent / name).stat().st_size > 1000 for name in result["artifacts"].values())
    assert (result["samples"]["n"], result["reference"]["n"]) == (64, 64)
    assert result["reference"]["source"] == "mnist5k/heldout"
    psnr = next(metric for metric in result["metrics"] if metric["name"] == "psnr")
    assert (psnr["convention"], psnr["at"]) == ("offline-pairs", {})
    assert psnr["reference"]["digest"] == result["reference"]["digest"]
    assert psnr["interval"]["low"] < psnr["value"] < psnr["interval"]["high"]
    assert f"{psnr['value']:.4g}" in out
    assert main(["status", str(run.relative_to(tmp_path)), "--json"]) == 0
    (cell,) = json.loads(capsys.readouterr().out)["cells"]
    assert (cell["outcome"], cell["units_done"]) == ("ok", 1)


def test_two_tasks_of_a_model_are_told_apart(suite, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "400")
    text = SUITE.replace("n: 64,", "n: 16,") + "  - reconstruct: {n: 16, batch: 8, data: mnist5k/train}\n"
    Path(suite).write_text(text)
    settings = ["data mnist5k/heldout", "data mnist5k/train"]
    assert main(["show", suite]) == 0
    shown = capsys.readouterr().out
    assert all(shown.count(setting) == 1 for setting in settings)
    assert "batch" not in shown  # no result depends on it
    run = tmp_path / "run"
    assert main(["run", suite, "--workers", "1", "--track", "off", "--out", str(run)]) == 0
    printed = capsys.readouterr().out
    for setting in settings:
        assert f"start  reconstruct tokenizers/var-mini ({setting}): " in printed
        assert f"ok     reconstruct tokenizers/var-mini ({setting}) after " in printed
    assert main(["status", str(run)]) == 0
    status = capsys.readouterr().out
    assert all(status.count(setting) == 1 for setting in settings)


def test_the_tracking_store_of_the_environment_is_used(suite, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mine.db")
    assert main(["run", suite, "--workers", "1", "--out", str(tmp_path / "run")]) == 0
    assert f"sqlite:///{tmp_path}/mine.db" in capsys.readouterr().out
    assert (tmp_path / "mine.db").stat().st_size > 0
    assert not (tmp_path / "run" / "mlflow.db").exists()


def test_a_store_that_mlflow_refuses_is_told_before_the_run(suite, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for store in ("nothing-of-the-kind://here", "./mlruns"):
        assert main(["run", suite, "--workers", "1", "--out", "run", "--track", store]) == 2
        assert "MLflow cannot track in" in capsys.readouterr().err
    assert list(tmp_path.glob("run")) == []


def test_a_resumed_run_says_that_it_stays_where_it_began(suite, tmp_path, monkeypatch, capsys):
    assert main(["run", suite, "--workers", "1", "--out", str(tmp_path / "run"), "--track", "off"]) == 0
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mine.db")
    assert main(["resume", str(tmp_path / "run")]) == 0
    assert "mlflow" not in capsys.readouterr().out  # it was told to be off
    assert not (tmp_path / "mine.db").exists()
