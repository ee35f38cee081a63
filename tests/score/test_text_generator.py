"""A text-to-image generator is scored from caption files, in the order of the prompts."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from arbench import registry
from arbench.captions import Features, texts, write
from arbench.score.generated import GeneratedStream

PAINTER = '''
from arbench.adapters.layers.captions import request_captions
from arbench.protocols import NO_PROBE, Card, Generated

CARDS = (Card(name="pictures/painter", kind="generator", family="other", implementation="pictures:Painter",
              summary="one shade", resolution=16, condition="text", captions=(2, 3)),)


class Painter:
    """Paints a caption's first number, as grey."""

    tokenizer = None

    def __init__(self, card):
        self.card = card

    @classmethod
    def load(cls, card, spec, tokenizer):
        return cls(card)

    def prepare(self, batch, sampling): ...

    def sample(self, request, sampling, *, probe=NO_PROBE):
        features, mask = request_captions(self.card, request, 2, 3, "cpu")
        grey = features[:, 0, 0].reshape(-1, 1, 1, 1)
        return Generated(images=grey.expand(-1, 3, 16, 16), outer_steps=1, forwards=1)

    def close(self): ...
'''


@pytest.fixture(autouse=True)
def painter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    site = tmp_path / "site"
    info = site / "pictures-1.0.dist-info"
    info.mkdir(parents=True)
    (site / "pictures.py").write_text(PAINTER)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: pictures\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[arbench.adapters]\npictures = pictures:CARDS\n")
    monkeypatch.syspath_prepend(site)
    registry._load.cache_clear()
    yield
    registry._load.cache_clear()
    sys.modules.pop("pictures", None)


def shade(prompt: str) -> Features:
    """Features that stand for the number a prompt holds."""
    return Features(torch.full((2, 3), int(prompt.split()[-1]) / 255), torch.ones(2, dtype=torch.int64), cut=False)


def encoded(folder: Path, count: int) -> tuple[Path, list[str]]:
    prompts = [f"grey number {value}" for value in range(10, 10 + count)]
    return write(prompts, folder, shade, {}).prompts, prompts


def test_each_sample_is_made_of_the_prompt_of_its_line(tmp_path: Path) -> None:
    listed, prompts = encoded(tmp_path / "captions", 70)  # more than a batch
    lines = listed.read_text().splitlines()
    assert texts([*lines, "a cat", "gone.safetensors"]) == (*prompts, "a cat", "gone.safetensors")
    stream = GeneratedStream("pictures/painter", 70, "cpu", prompts=lines)
    shades = [int(picture.image.mean()) for picture in stream]
    assert shades == list(range(10, 80))
    second = GeneratedStream("pictures/painter", 70, "cpu", shard=(1, 3), prompts=lines)
    assert [int(picture.image.mean()) for picture in second] == list(range(11, 80, 3))


def test_the_score_command_takes_as_many_images_as_there_are_prompts(digits, arbench, scored, tmp_path) -> None:
    listed, _ = encoded(tmp_path / "captions", 20)
    given = ("generator:pictures/painter", "--reference", digits["reference"], "--metric", "frechet", "--out", "out")
    first = scored(*given, "--prompts", listed)
    assert first["samples"]["n"] == 20
    value = first["by"]["offline frechet"]["value"]
    assert np.isfinite(value)
    # the same paths with other features in them are another set of samples
    write(["grey number 250"] * 20, tmp_path / "captions", shade, {})
    assert scored(*given, "--prompts", listed)["by"]["offline frechet"]["value"] != value
    fewer = scored(*given, "--prompts", listed, "--limit", 16)
    assert fewer["samples"]["n"] == 16


def test_a_text_to_image_generator_without_captions_is_a_clear_error(digits, arbench, tmp_path) -> None:
    given = ("score", "generator:pictures/painter", "--reference", digits["reference"])
    said = arbench(*given, "--limit", 4, code=2).stderr
    assert "pictures/painter needs prompts" in said
    assert "arbench captions pictures/painter" in said
    listed, _ = encoded(tmp_path / "captions", 3)
    assert "4 images of 3 prompts" in arbench(*given, "--prompts", listed, "--limit", 4, code=2).stderr
    (tmp_path / "plain.txt").write_text("a cat\na " + "very " * 80 + "long dog\n")
    said = arbench(*given, "--prompts", tmp_path / "plain.txt", code=2).stderr
    assert "cannot read the caption features 'a cat'" in said
    assert "arbench captions writes" in said
