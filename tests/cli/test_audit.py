"""`arbench audit` as a user types it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import diffusers
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

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


def test_too_many_images_are_told_for_all_tasks(tmp_path, capsys):
    Image.new("RGB", (32, 32)).save(tmp_path / "one.png")
    assert main(["audit", "tokenizers/var-mini", "--data", str(tmp_path), "-n", "5"]) == 2
    assert "--set n=1, or null for all" in capsys.readouterr().err


class Encoder(nn.Module):
    """Mean grey of blocks of 2 x 2 in 16 levels, of which every other one is dead; those in a corner are drawn."""

    def forward(self, x: Tensor) -> Tensor:
        ids = (functional.avg_pool2d(x.mean(1), 2) * 7).round().long() * 2
        corner = torch.arange(16)[:, None] + torch.arange(16) > 28
        return torch.where(corner, (torch.rand(ids.shape) * 8).floor().long() * 2, ids)


class Decoder(nn.Module):
    """Their blocks, a pixel too low."""

    def forward(self, x: Tensor) -> Tensor:
        grey = (x.float() / 14).repeat_interleave(2, 1).repeat_interleave(2, 2).roll(1, 1)
        return grey.unsqueeze(1).expand(-1, 3, -1, -1)


def with_faults(folder: Path) -> None:
    """A pair of exported networks with three planted faults."""
    folder.mkdir()
    torch.jit.save(torch.jit.trace(Encoder(), torch.rand(2, 3, 32, 32), check_trace=False), folder / "encode.pt")
    torch.jit.save(torch.jit.trace(Decoder(), torch.zeros(2, 16, 16, dtype=torch.int64)), folder / "decode.pt")
    (folder / "tokenizer.json").write_text('{"resolution": 32, "pixels": [0, 1], "vocabulary": 16}')


def test_a_folder_of_pictures_to_a_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures of any size, cropped to the tokenizers': one of ours, a folder of diffusers, an exported pair."""
    monkeypatch.chdir(tmp_path)
    blocks = {"down_block_types": ("DownEncoderBlock2D",) * 2, "up_block_types": ("UpDecoderBlock2D",) * 2}
    diffusers.AutoencoderKL(**blocks, block_out_channels=(8, 8), norm_num_groups=4).save_pretrained("kl")
    Path("pictures").mkdir()
    for index, image in enumerate(mnist5k("heldout").load(range(17))):
        Image.fromarray(image.transpose(1, 2, 0)).resize((40 + index, 50)).save(f"pictures/{index}.png")
    with_faults(Path("pair"))
    names = ["tokenizers/var-mini", "diffusers:./kl", "torch:./pair"]
    words = ["--data", "pictures", "--out", "out", "--track", "off", "--workers", "1", "--set", "text.size=33"]
    words += ["--set", "rate.qualities=[10,90]"]
    assert main(["audit", *names, *words]) == 0
    every = [json.loads(path.read_text()) for path in Path("out").glob("cells/*/result.json")]
    results, *others = ([each for each in every if each["adapter"] == name] for name in names)
    assert {result["outcome"] for result in every if result["task"] != "text"} == {"ok"}
    assert {result["outcome"] for result in every if result["task"] == "text"} == {"unsupported"}  # and no OCR runs
    asked = {cell.task for cell in read("tokenizer-audit").suite.tasks}
    assert all({result["task"] for result in each} == asked for each in (results, *others))
    assert {metric["n"] for result in results for metric in result["metrics"] if metric["name"] == "deterministic"} == {
        17
    }
    numbers = {metric["name"]: metric["value"] for result in results for metric in result["metrics"]}
    assert 0 < numbers["token-agreement"] < 1
    assert numbers["deterministic"] == 1
    report = Path("out/report.html").read_text().replace("<wbr>", "")
    assert "prefix-needed" in report
    assert "diffusers:./kl" in report
    (sheet,) = (each for each in report.split('<article class="audit"')[1:] if "<h3>pair</h3>" in each)
    assert re.search(r"Not deterministic: [\d.]+ % of the images", sheet)
    assert "Reconstructions are moved by 1 pixels to the bottom." in sheet
    assert "Unused codes: 17 images show 50 % of the codebook" in sheet
