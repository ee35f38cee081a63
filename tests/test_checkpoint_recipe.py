"""docs/checkpoint.md on the smallest official checkpoint: its commands as they stand there, with the mini's files."""

from __future__ import annotations

import json
import math
import os
import re
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest
import torch
from PIL import Image

from arbench import registry
from arbench.adapters.layers.checkpoint import OfficialNames
from arbench.adapters.next_scale.var.network import official_names as generator_names
from arbench.adapters.tokenizers.var.network import official_names as tokenizer_names
from arbench.data.readers.mnist import mnist5k
from arbench.protocols import LoadSpec
from arbench.weights import find
from tests import forked

PAGE = (Path(__file__).parents[1] / "docs" / "checkpoint.md").read_text(encoding="utf-8")
RUN, REHEARSAL, SWEEP = (
    shlex.split(body) for body in re.findall(r"^```bash\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
)
"""The commands of the page, in order."""
SMALL = {"next_scale/var-d16": "next_scale/var-mini", "tokenizers/var-msvq": "tokenizers/var-mini"}
QUICK = ("n=18", "reference=digits", "batches=[1]", "min_calls=3", "min_seconds=0", "max_seconds=1")


def official(name: str, names: OfficialNames, path: Path, tokenizer: Any = None) -> Any:
    """Writes the mini's weights as a pickle under the keys of the official code; returns the adapter."""
    card = registry.card(name)
    given = (card, LoadSpec(weights=find(card)), *([tokenizer] if tokenizer else []))
    adapter = registry.resolve(card.implementation).load(*given)
    state: dict[str, torch.Tensor] = {}
    for ours, value in adapter.network.state_dict().items():
        keys = names(ours)
        state.update(zip(keys, (part.clone() for part in value.chunk(len(keys))), strict=True))
    torch.save(state, path)
    return adapter


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where a newcomer is: the two official files, and a folder of pictures as reference."""
    folder = tmp_path_factory.mktemp("recipe")
    tokenizer = official(
        "tokenizers/var-mini",
        tokenizer_names(registry.card("tokenizers/var-mini").config),
        folder / "vae_ch160v4096z32.pth",
    )
    official("next_scale/var-mini", generator_names, folder / "var_d16.pth", tokenizer)
    (folder / "digits").mkdir()
    source = mnist5k("heldout")
    for index in range(20):
        Image.fromarray(source.load([index])[0].transpose(1, 2, 0)).save(folder / "digits" / f"{index:03d}.png")
    return folder


def words_of(command: list[str], *more: str) -> list[str]:
    """A command of the page, with the mini in place of VAR-d16, and few samples."""
    line = shlex.join(command).replace("FOLDER", "digits")
    for large, small in SMALL.items():
        line = line.replace(large, small)
    program, *words = shlex.split(line)
    assert program == "arbench"
    return [*words, *(word for change in QUICK for word in ("--set", change)), *more]


def run(folder: Path, command: list[str], inception: Path, *more: str) -> list[dict[str, Any]]:
    """The results of a command of the page."""
    words = words_of(command, "--weights", f"inception={inception}", "--track", "off", *more)
    environment = {**os.environ, "ARBENCH_WEIGHTS": str(folder / "none")}
    done = forked.arbench(*words, cwd=folder, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    out = folder / more[more.index("--out") + 1]
    return [json.loads(path.read_text()) for path in sorted(out.glob("cells/*/result.json"))]


def numbers(results: list[dict[str, Any]]) -> dict[tuple[float, str], float]:
    """Guidance scale and name -> the number of ADM's convention."""
    return {
        (result["sampling"]["guidance"]["scale"], metric["name"]): metric["value"]
        for result in results
        for metric in result["metrics"]
        if metric["convention"] == "adm"
    }


def images(run: Path, results: list[dict[str, Any]]) -> dict[float, bytes]:
    """Guidance scale -> all pixels that the run has drawn with it."""
    drawn = {}
    for result in results:
        if result["task"] == "generate":
            (unit,) = run.glob(f"cells/{result['result_id']}/units/*.npz")
            with np.load(unit) as arrays:
                drawn[result["sampling"]["guidance"]["scale"]] = arrays["images"].tobytes()
    return drawn


def test_one_command_makes_the_row_of_the_table(folder, inception_file):
    few = ("--set", "metrics=[is,precision,recall]")  # the roots of FID and sFID take a minute
    results = run(folder, RUN, inception_file, *few, "--out", "run")
    assert [result["outcome"] for result in results] == ["ok"] * 6
    weights = json.loads((folder / "run" / "run.json").read_text())["plan"]["weights"]
    assert Path(weights["next_scale/var-mini"]).name == "var_d16.pth"
    assert Path(weights["tokenizers/var-mini"]).name == "vae_ch160v4096z32.pth"

    found = numbers(results)
    assert all(math.isfinite(found[scale, "is"]) for scale in (1.0, 2.5))
    table = pandas.read_parquet(folder / "run" / "table.parquet")
    assert len(table) == 2
    assert set(table["adm/is"]) == {found[1.0, "is"], found[2.5, "is"]}
    assert (table["adm/is.low"] < table["adm/is"]).all()
    assert (table["latency[batch=1,operation=sample]"] > 0).all()
    assert (table["peak-memory[batch=1]"] > 0).all()

    own = ("--task", "generate", "--set", "conventions=[offline]")
    shipped = run(folder, RUN[: RUN.index("--weights")], inception_file, *own, "--out", "shipped")
    assert images(folder / "shipped", shipped) == images(folder / "run", results)


def test_the_rehearsal_of_the_page(folder, inception_file):
    own = ("--set", "conventions=[offline]")  # those of the suite are tried above, and take long
    results = run(folder, REHEARSAL, inception_file, "--task", "generate", *own, "--out", "rehearsal")
    assert [result["outcome"] for result in results] == ["ok"] * 2
    assert all("random_weights" in metric["flags"] for result in results for metric in result["metrics"])


def test_the_sweep_of_the_page(folder):
    words = ["show" if word == "run" else word for word in words_of(SWEEP, "--task", "generate", "--json")]
    done = forked.arbench(*words, cwd=folder)
    assert done.returncode == 0, done.stderr
    swept = [cell["swept"] for cell in json.loads(done.stdout)["cells"]]
    assert swept == ["guidance.scale 1", "guidance.scale 2", "guidance.scale 2.5", "guidance.scale 3"]
