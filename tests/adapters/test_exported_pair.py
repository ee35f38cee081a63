"""Pairs of exported networks as tokenizers: TorchScript and torch.export, latents and ids, against the networks."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from arbench import registry, weights
from arbench.check import adapter
from arbench.errors import ArbenchError
from arbench.protocols import LoadSpec, Tokenizer


class Down(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 2, 4, stride=4)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)


class Up(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.ConvTranspose2d(2, 3, 4, stride=4)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)


class ToIds(nn.Module):
    """Mean of blocks of 4 x 4 in 8 levels."""

    def forward(self, x: Tensor) -> Tensor:
        return (functional.avg_pool2d(x.mean(1), 4) * 7).round().long()


class FromIds(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        grey = (x.float() / 7).repeat_interleave(4, 1).repeat_interleave(4, 2)
        return grey.unsqueeze(1).expand(-1, 3, -1, -1)


def saved(folder: Path, parts: dict[str, nn.Module], inputs: dict[str, Tensor], kind: str, **told: object) -> Path:
    folder.mkdir()
    for name, module in parts.items():
        if kind == ".pt":
            torch.jit.save(torch.jit.trace(module, inputs[name]), folder / f"{name}.pt")
        else:
            sizes = {0: torch.export.Dim.DYNAMIC}
            program = torch.export.export(module, (inputs[name],), dynamic_shapes=(sizes,))
            torch.export.save(program, folder / f"{name}.pt2")
    (folder / "tokenizer.json").write_text(json.dumps(told))
    return folder


def opened(folder: Path) -> Tokenizer:
    card = registry.card(f"torch:{folder}")
    return registry.resolve(card.implementation).load(card, LoadSpec(weights=weights.locate(card)))


@pytest.mark.parametrize("kind", [".pt", ".pt2"])
def test_latents_are_those_of_the_networks(tmp_path: Path, kind: str) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        parts = {"encode": Down().eval(), "decode": Up().eval()}
    inputs = {"encode": torch.zeros(2, 3, 16, 16), "decode": torch.zeros(2, 2, 4, 4)}
    multiple = {"multiple": 4} if kind == ".pt" else {}
    folder = saved(tmp_path / "pair", parts, inputs, kind, resolution=16, pixels=[-1, 1], **multiple)
    model = opened(folder)
    assert model.spec.model_dump() == {
        "kind": "continuous", "layout": "grid", "levels": ((4, 4),), "vocabulary": None, "codebooks": 1, "channels": 2,
        "variable_length": False,
    }  # fmt: skip
    assert model.card.parameters == sum(each.numel() for part in parts.values() for each in part.parameters())
    for side in (16, 24) if multiple else (16,):
        images = torch.rand(3, 3, side, side, generator=torch.Generator().manual_seed(1))
        codes = model.encode(images)
        with torch.no_grad():
            latents = parts["encode"](images * 2 - 1)
            decoded = (parts["decode"](latents) / 2 + 0.5).clamp(0, 1)
        torch.testing.assert_close(codes.latents, latents)
        torch.testing.assert_close(model.decode(codes), decoded)
    verdicts = list(adapter.check(adapter.plan(model.card)))
    assert [each for each in verdicts if each.outcome == "FAIL"] == []


def test_ids(tmp_path: Path) -> None:
    inputs = {"encode": torch.zeros(2, 3, 16, 16), "decode": torch.zeros(2, 4, 4, dtype=torch.int64)}
    parts = {"encode": ToIds(), "decode": FromIds()}
    told = {"resolution": 16, "pixels": [0, 1], "vocabulary": 8, "multiple": 4}
    model = opened(saved(tmp_path / "pair", parts, inputs, ".pt", **told))
    assert (model.spec.kind, model.spec.levels, model.spec.vocabulary) == ("discrete", ((4, 4),), 8)
    images = torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    codes = model.encode(images)
    torch.testing.assert_close(codes.ids[0], ToIds()(images).flatten(1))
    torch.testing.assert_close(model.decode(codes), FromIds()(codes.ids[0].reshape(3, 4, 4)))
    oblong = model.encode(torch.cat([images, images], dim=3))
    assert oblong.grid == (4, 8)
    torch.testing.assert_close(model.decode(oblong), FromIds()(oblong.ids[0].reshape(3, 4, 8)))
    (tmp_path / "pair" / "tokenizer.json").write_text(json.dumps({"resolution": 16, "pixels": [0, 1]}))
    with pytest.raises(ArbenchError, match=r"gives int64 \(1, 4, 4\)"):
        opened(tmp_path / "pair")


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "is not a pair"),
        ({"encode.pt": "x", "decode.pt": "x"}, "is not a pair"),
        ({"encode.pt": "x", "decode.pt": "x", "tokenizer.json": "{}"}, "cannot use"),
        ({"encode.pt": "x", "decode.pt": "x", "tokenizer.json": '{"resolution": 8, "pixels": [1, 0]}'}, "least, most"),
        ({"encode.pt": "x", "decode.pt": "x", "tokenizer.json": '{"resolution": 8, "pixels": [0, 1]}'}, "cannot load"),
    ],
)
def test_folders_that_are_no_pairs(tmp_path: Path, files: dict[str, str], message: str) -> None:
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(ArbenchError, match=message):
        registry.card(f"torch:{tmp_path}")
