"""Exit codes of what a user gets wrong, against the table in the README."""

from __future__ import annotations

from pathlib import Path

import pytest

from arbench.cli.main import main

RUN = ["run", "quickstart", "--adapter", "raster/llamagen-mini", "--task", "memory", "--track", "off"]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("taken", "broken", "full"):
        (tmp_path / name).mkdir()
    (tmp_path / "taken" / "run.json").write_text("{}")
    (tmp_path / "broken" / "run.json").write_text("{")
    (tmp_path / "full" / "thesis.tex").write_text("x")
    (tmp_path / "file").write_text("x")
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([*RUN, "--out", "taken"], "holds a run already"),
        ([*RUN, "--out", "full"], "is not empty"),
        ([*RUN, "--out", "file/r"], "cannot make the run's folder"),
        ([*RUN, "--set", "sampling.'raster/*'.top_k=0", "--out", "new"], "write null"),
        ([*RUN, "--weights", "raster/llamagen-mini=none.pt", "--out", "new"], "no weight file"),
        ([*RUN, "--weights", "inception=none.pth", "--out", "new"], "no weight file at none.pth"),
        (["score", "full", "--reference", "full", "--weights", "inception=none.pth"], "no weight file at none.pth"),
        (["score", "full", "-c", "offline", "--weights", "raster/llamagen-mini=no.pt"], "no weight file at no.pt"),
        (["stats", "full", "-o", "new.npz", "--weights", "vgg16=full"], "no weight file at full"),
        (["check", "raster/llamagen-mini", "--weights", "inception=none.pth"], "no weight file at none.pth"),
        (["show", "quickstart", "--weights", "alexnet=none.pth"], "no weight file at none.pth"),
        (["resume", "full"], "is not the folder of a run"),
        (["resume", "nothing"], "is not the folder of a run"),
        (["resume", "broken"], "damaged"),
        (["status", "full"], "is not the folder of a run"),
        (["status", "broken"], "damaged"),
        (["report", "full"], "is not the folder of a run"),
        (["report", "nothing"], "no folder"),
        (["resume", "nothing"], "it does not exist"),
        (["verify", "file"], "it is a file"),
        (["report", "broken"], "damaged"),
        (["report", "broken"], "cannot be resumed"),
        (["leaderboard", "broken", "-o", "site"], "cannot be resumed"),
        (["history", "file"], "file is not a folder"),
        (["export", "broken", "--images", "i"], "damaged"),
        (["export", "nothing", "--images", "i"], "it does not exist"),
        (["export", "full", "--images", "i"], "is not the folder of a run"),
        (["score", "nothing", "--reference", "full"], "nothing"),
    ],
)
def test_usage_and_input_errors_are_2(arguments, message, place, capsys):
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error
