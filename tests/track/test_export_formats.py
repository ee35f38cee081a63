"""Runs as folders of TensorBoard and of Weights & Biases, read back by these packages."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from arbench.cli.main import main
from arbench.spec.result import Result
from arbench.spec.schema1 import upgraded
from arbench.track.settings import records

RUN = Path(__file__).parents[1] / "report" / "run-0.1"
MAR = "set-da8ebbdd4d01"


def cells() -> list[tuple[Result, Path]]:
    files = sorted(RUN.glob("cells/*/result.json"))
    return [(Result.model_validate(upgraded(json.loads(file.read_bytes()))), file.parent) for file in files]


def test_a_record_has_all_tasks_of_its_settings() -> None:
    found = {own.settings_id: own for own in records({}, cells())}
    assert len(found) == 3
    (metrics,) = found[MAR].metrics
    assert {name.split("/")[0] for name in metrics} == {"generate", "speed", "memory"}
    assert found[MAR].tags["arbench.outcome"] == "ok"
    assert found[MAR].params["sampling.inner_steps"] == "15"
    assert [*found[MAR].sheets] == ["generate"]
    assert found[MAR].sheets["generate"].startswith(b"\x89PNG")


def test_a_repeated_task_is_a_further_step() -> None:
    own = [(result, folder) for result, folder in cells() if result.settings_id == MAR]
    generate = next(result for result, _ in own if result.task == "generate")
    again = generate.model_copy(update={"result_id": "res-again"})
    (found,) = records({}, [*own, (again, RUN)])
    assert [len(step) > 0 for step in found.metrics] == [True, True]
    assert set(found.metrics[1]) == {name for name in found.metrics[0] if name.startswith("generate/")}


def test_tensorboard_reads_scalars_pictures_and_settings(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    assert main(["export", str(RUN), "--format", "tensorboard", "--out", str(tmp_path)]) == 0
    assert f"tensorboard --logdir {tmp_path}" in capsys.readouterr().out
    (folder,) = tmp_path.glob("*/*continuous_mar-mini")
    read = events.EventAccumulator(str(folder))
    read.Reload()
    own = next(own for own in records({}, cells()) if own.settings_id == MAR)
    assert set(read.Tags()["scalars"]) == set(own.metrics[0])
    (frechet,) = read.Scalars("generate/offline/frechet")
    assert frechet.value == pytest.approx(own.metrics[0]["generate/offline/frechet"], rel=1e-6)
    assert read.Images("generate/samples")[0].encoded_image_string == own.sheets["generate"]
    content = read.summary_metadata["_hparams_/session_start_info"].plugin_data.content
    assert b"sampling.inner_steps" in content
    assert main(["export", str(RUN), "--format", "tensorboard", "--out", str(tmp_path)]) == 2
    assert "is not empty" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["tensorboard", "wandb"])
@pytest.mark.parametrize("out", ["file", "file/below"])
def test_an_out_that_is_no_folder_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, out: str
) -> None:
    (tmp_path / "file").touch()
    assert main(["export", str(RUN), "--format", name, "--out", str(tmp_path / out)]) == 3
    assert "name another --out DIR" in capsys.readouterr().err


def test_wandb_has_an_offline_run_of_each_settings(tmp_path: Path) -> None:
    pytest.importorskip("wandb")
    folder = tmp_path / "run"  # one settings: each takes a second
    folder.mkdir()
    (folder / "run.json").write_bytes((RUN / "run.json").read_bytes())
    for result, cell in cells():
        if result.settings_id == MAR and result.task != "memory":
            (folder / "cells").mkdir(exist_ok=True)
            (folder / "cells" / cell.name).symlink_to(cell)
    assert main(["export", str(folder), "--format", "wandb", "--out", str(tmp_path / "out")]) == 0
    (offline,) = (tmp_path / "out" / "wandb").glob("offline-run-*")
    (file,) = offline.glob("*.wandb")
    content = file.read_bytes()
    for text in (b"generate/offline/frechet", b"speed/latency/batch 1 sample", b"sampling.inner_steps", MAR.encode()):
        assert text in content
    assert len(list(offline.rglob("*.png"))) == 1


@pytest.mark.parametrize("name", ["tensorboard", "wandb"])
def test_a_package_that_is_not_installed_is_named(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    assert main(["export", str(RUN), "--format", name, "--out", str(tmp_path)]) == 3
    assert f"pip install {name}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--format", "mlflw"], "did you mean mlflow"),
        (["--format", "mlflow"], "no MLflow to export to"),
        (["--format", "mlflow", "--out", "x"], "MLflow takes an address"),
        (["--format", "wandb"], "none is named"),
        (["--format", "wandb", "--track", "x"], "asks no server"),
        (["--figures", "f", "--npz", "x.npz"], "one of --images"),
        (["--images", "x", "--out", "y"], "go with --format"),
        ([str(RUN), "--images", "x"], "several runs"),
    ],
)
def test_what_does_not_go_together_is_told(
    words: list[str], told: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert main(["export", str(RUN), *words]) == 2
    assert told in capsys.readouterr().err
