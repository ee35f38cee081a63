"""What a command writes: never into the folder of a run, over a suite, or over what it reads."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from arbench.cli.main import main


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with one of each thing that must stay."""
    (tmp_path / "run" / "cells" / "res-1").mkdir(parents=True)
    (tmp_path / "run" / "run.json").write_text('{"run_id": "a", "plan": {"cells": []}}')
    (tmp_path / "run" / "journal.jsonl").write_text("")
    (tmp_path / "suite.yaml").write_text("suite: mine\ntasks: [speed]\n")
    (tmp_path / "images").mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (4, 28, 28, 3), dtype=np.uint8)
    for number, image in enumerate(pixels):
        Image.fromarray(image).save(tmp_path / "images" / f"{number}.png")
    np.savez(tmp_path / "images.npz", arr_0=pixels)
    (tmp_path / "prompts.txt").write_text("a dog\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def content(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


OF_A_RUN = "is the folder of a run"
IN_A_RUN = "is in the folder of a run"
OTHER = "is there, and is not a file that this command writes"
READ = "is what is read"
MAR = "continuous/mar-mini"


@pytest.mark.parametrize(
    ("command", "why"),
    [
        ("leaderboard -o run", OF_A_RUN),
        ("leaderboard -o run/cells", IN_A_RUN),
        ("leaderboard run -o run/cells/res-1/site", IN_A_RUN),
        ("export run --images run", OF_A_RUN),
        ("export run --images run/cells/res-1", IN_A_RUN),
        ("export run --figures run", OF_A_RUN),
        ("export run --format tensorboard --out run", OF_A_RUN),
        ("export run --npz run/cells/res-1/units.npz", IN_A_RUN),
        ("export run --npz suite.yaml", OTHER),
        ("captions t2i/any prompts.txt --encoder e -o run", OF_A_RUN),
        ("bisect run --repository . --good a --bad b --metric latency -o run", OF_A_RUN),
        ("baseline set main run --store run", OF_A_RUN),
        ("report run -o suite.yaml", OTHER),
        ("report run -o run/run.json", OTHER),
        ("compare run run -o suite.yaml", OTHER),
        ("gate run --baseline main --junit suite.yaml", OTHER),
        ("gate run --baseline main --markdown run/journal.jsonl", OTHER),
        ("score images --reference images.npz --out images --device cpu", READ),
        ("score images.npz --reference images --out images --device cpu", READ),
        ("score images --reference images.npz --out run --device cpu", OF_A_RUN),
        ("stats images.npz -o images.npz --recipe efficientnet-lite0 --device cpu", READ),
        ("stats images -o suite.yaml --device cpu", OTHER),
        ("stats npz:images.npz -o ./images.npz --recipe efficientnet-lite0 --device cpu", READ),
    ],
)
def test_nothing_is_written_over(place, capsys, command, why):
    before = content(place)
    assert main(command.split()) == 2
    told = capsys.readouterr().err
    assert why in told
    assert "next: " in told
    assert content(place) == before


@pytest.mark.parametrize("output", ["site", "run/site", "images/site"])
def test_a_folder_of_ones_own_is_written(place, output):
    assert main(["leaderboard", "-o", output]) == 0
    assert (place / output / "index.html").is_file()
    assert main(["leaderboard", "-o", output]) == 0  # again, over its own
