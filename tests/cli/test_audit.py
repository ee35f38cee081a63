"""`arbench audit` as a user types it."""

from __future__ import annotations

import json
from pathlib import Path

import diffusers
import pytest
from PIL import Image

from arbench.cli.main import main
from arbench.data.readers.mnist import mnist5k
from arbench.spec.suite_file import read


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["raster/llamagen-mini"], "raster/llamagen-mini is a generator"),
        (["tokenizers/var-mni"], "did you mean tokenizers/var-mini"),
        (["tokenizers/llamagen-vq-16"], "name images: --data FOLDER"),
        (["tokenizers/var-mini", "tokenizers/llamagen-vq-16", "--data", "x"], "images of different sizes"),
        (["tokenizers/var-mini", "--crop", "none"], "add --data SOURCE"),
        (["tokenizers/jpeg", "--size", "48"], "add --data SOURCE"),
        (
            ["tokenizers/var-mini", "tokenizers/jpeg", "--data", "x", "--size", "48"],
            "var-mini (32), tokenizers/jpeg (any",
        ),
        (["tokenizers/mar-kl-mini", "--data", "x", "--size", "50"], "tokenizers/mar-kl-mini (multiples of 8)"),
        (["tokenizers/var-mini", "--data", "no-such-folder"], "no-such-folder"),
    ],
)
def test_what_cannot_be_audited(words, message, capsys):
    assert main(["audit", *words]) == 2
    assert message in capsys.readouterr().err


def test_a_folder_of_pictures_to_a_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures of any size, cropped to the tokenizers': one of ours, and a folder of diffusers."""
    monkeypatch.chdir(tmp_path)
    blocks = {"down_block_types": ("DownEncoderBlock2D",) * 2, "up_block_types": ("UpDecoderBlock2D",) * 2}
    diffusers.AutoencoderKL(**blocks, block_out_channels=(8, 8), norm_num_groups=4).save_pretrained("kl")
    Path("pictures").mkdir()
    for index, image in enumerate(mnist5k("heldout").load(range(17))):
        Image.fromarray(image.transpose(1, 2, 0)).resize((40 + index, 50)).save(f"pictures/{index}.png")
    names = ["tokenizers/var-mini", "diffusers:./kl"]
    words = ["--data", "pictures", "--out", "out", "--track", "off", "--workers", "1", "--set", "text.size=33"]
    assert main(["audit", *names, *words]) == 0
    every = [json.loads(path.read_text()) for path in Path("out").glob("cells/*/result.json")]
    foreign = {result["task"]: result for result in every if result["adapter"] == "diffusers:./kl"}
    results = [result for result in every if result["task"] not in foreign or result["adapter"] != "diffusers:./kl"]
    assert {result["outcome"] for result in every if result["task"] != "text"} == {"ok"}
    assert {result["outcome"] for result in every if result["task"] == "text"} == {"unsupported"}  # and no OCR runs
    assert foreign.keys() == {result["task"] for result in results}
    assert {result["task"] for result in results} == {cell.task for cell in read("tokenizer-audit").suite.tasks}
    assert {metric["n"] for result in results for metric in result["metrics"] if metric["name"] == "deterministic"} == {
        17
    }
    numbers = {metric["name"]: metric["value"] for result in results for metric in result["metrics"]}
    assert 0 < numbers["token-agreement"] < 1
    assert numbers["deterministic"] == 1
    report = Path("out/report.html").read_text().replace("<wbr>", "")
    assert "prefix-needed" in report
    assert "diffusers:./kl" in report
