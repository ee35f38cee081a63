"""Minis run with `floor: true`: the digits are those of `arbench score` on reconstructions made by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from arbench import registry, weights
from arbench.images import to_float, to_uint8
from arbench.protocols import LoadSpec
from arbench.report.columns import columns_of
from arbench.spec.result import Result
from tests import forked

MINI, TOKENIZER = "next_scale/var-mini", "tokenizers/var-mini"
SUITE = """suite: floors
adapters: [{adapters}]
tasks:
  - generate: {{reference: {reference}, conventions: [offline], metrics: [{metrics}], n: 32, floor: true}}
"""
METRICS = ("frechet", "kid", "precision", "recall")
AGAINST, OF = "samples to reconstructions", "reconstructions to reference"


def reconstruct(name: str, source: Path, target: Path) -> Path:
    """Every image of a folder through a tokenizer, under its own name."""
    card = registry.card(name)
    tokenizer = registry.resolve(card.implementation).load(card, LoadSpec(weights=weights.find(card, {})))
    for path in sorted(source.rglob("*.png")):
        pixels = np.asarray(Image.open(path).convert("RGB")).transpose(2, 0, 1)
        with torch.inference_mode():
            # a batch of equal images: rows of another batch size may round differently
            codes = tokenizer.encode(to_float(np.repeat(pixels[None], 16, 0)))
            image = to_uint8(tokenizer.decode(codes.without_latents()))[0].numpy()
        file = target / path.relative_to(source)
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image.transpose(1, 2, 0)).save(file)
    return target


def places(result: Result, name: str) -> dict[str, float | None]:
    return {str(metric.at.get("sets", "")): metric.value for metric in result.metrics if metric.name == name}


def test_the_digits_are_those_of_score_on_reconstructions_made_by_hand(digits, arbench, scored, tmp_path) -> None:
    suite = tmp_path / "floors.yaml"
    suite.write_text(
        SUITE.format(
            adapters=f"{MINI}, raster/llamagen-mini", reference=digits["reference"], metrics=", ".join(METRICS)
        )
    )
    assert "will be null" not in arbench("show", suite).stdout
    done = forked.arbench("run", suite, "--out", "out", "--track", "off")
    assert done.returncode == 0, done.stdout + done.stderr
    results = [Result.model_validate_json(path.read_bytes()) for path in Path("out").glob("cells/*/result.json")]
    found = {result.adapter: result for result in results}
    assert {result.outcome for result in results} == {"ok"}
    by_hand = reconstruct(TOKENIZER, digits["reference"], tmp_path / "by-hand")
    arbench("export", f"out:{MINI}", "--images", "samples")
    for place, samples, reference in ((AGAINST, "samples", by_hand), (OF, by_hand, digits["reference"])):
        out = ("--out", place.replace(" ", "-"))
        other = scored(samples, "--reference", reference, "--convention", "offline", *out)
        for name in METRICS:
            value = other["by"][f"offline {name}"]["value"]
            assert places(found[MINI], name)[place] == pytest.approx(value, rel=1e-9), (place, name)

    # one column for each distance, whatever the tokenizer, and the floor's beside it
    columns, _ = columns_of(results)
    frechet = [column for column in columns if column.name == "frechet"]
    assert [column.below for column in frechet] == ["", OF, AGAINST]
    assert all(column.shown for column in frechet)
    assert [column.shown for column in columns if column.name == "recall"] == [True, False, False]
    page = Path("out/report.html").read_text()
    assert OF in page
    assert "as reconstructed by tokenizers/var-mini" in page
    again = scored(f"out:{MINI}", "--out", "scores")
    for name in METRICS:
        assert again["by"][f"offline {name}"]["value"] == places(found[MINI], name)[""]
