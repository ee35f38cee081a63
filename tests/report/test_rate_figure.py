"""Quality against bits per pixel, and what changed between two nights."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from synthetic_run import make_result, metric, write_cell

from arbench import registry
from arbench.report.folders import Entry, read_runs
from arbench.report.page import render
from arbench.report.rate_figure import figure, rated
from arbench.report.tables import make_table
from arbench.spec.result import SetSummary


def entry(name: str, quality: float, bits: float | None, sizes: dict[str, int] | None = None) -> Entry:
    numbers = (
        metric("psnr", quality, 0.5, direction="higher", unit="dB"),
        metric("bits-per-image", bits, direction=None, reason="" if bits else "continuous latents have no codebook"),
    )
    family, result_id = "tokenizer", f"res-{name.rsplit('/', 1)[1]}"
    result = make_result(
        name, "tokenizer", family, "reconstruct", metrics=numbers, result_id=result_id, settings_id=name
    )
    if sizes:
        result = result.model_copy(update={"samples": SetSummary(source=name, n=sum(sizes.values()), sizes=sizes)})
    return Entry(result, Path(), "run")


def test_tokenizers_stand_at_their_bits_per_pixel() -> None:
    entries = [
        entry("tokenizers/mar-kl-mini", 27.0, None),
        entry("tokenizers/var-mini", 22.0, 256.0),
        entry("tokenizers/llamagen-mini", 26.0, 512.0),
        entry("tokenizers/of-no-card", 30.0, 512.0),
    ]
    table, cards = make_table(entries, (), "tokenizer"), registry.cards()
    assert table is not None
    found = rated(entries, table, cards)
    assert [(each.name, each.place) for each in found] == [("var-mini", 1), ("llamagen-mini", 2)]
    side = cards["tokenizers/var-mini"].resolution
    assert [each.rate for each in found] == pytest.approx([256 / side**2, 512 / side**2])
    assert found[0].span == (21.5, 22.5)
    drawn = figure(entries, table, cards)
    assert drawn is not None
    assert f"var-mini: psnr (arbench) 22 at {256 / side**2:.3g} bits per pixel" in drawn.svg()
    assert figure(entries[:2], table, {}) is None


def test_the_rate_is_of_the_images_that_were_taken_not_of_the_cards_size() -> None:
    entries = [
        entry("tokenizers/jpeg", 31.0, 6144.0, {"32x32": 2}),
        entry("tokenizers/wavelet", 30.0, 2048.0, {"32x64": 1, "64x64": 1}),
    ]
    table, cards = make_table(entries, (), "tokenizer"), registry.cards()
    assert table is not None
    assert cards["tokenizers/jpeg"].resolution != 32
    assert [each.rate for each in rated(entries, table, cards)] == pytest.approx([6.0, 2048 / 3072])


def test_a_change_between_two_nights_has_a_verdict_where_intervals_tell_them_apart(tmp_path: Path) -> None:
    nights = {"old": (10.0, 20.0, 30.0), "new": (12.0, 20.4, 30.0)}
    for name, (fid, kid, same) in nights.items():
        folder = tmp_path / name
        folder.mkdir()
        (folder / "run.json").write_text(json.dumps({"run_id": name, "started": f"2000-01-0{1 + (name == 'new')}"}))
        numbers = (metric("fid", fid, 0.5), metric("kid", kid, 0.5), metric("density", same, 0.5, direction="higher"))
        write_cell(folder, make_result("raster/a", "generator", "raster", "generate", metrics=numbers))
    page = render(read_runs([tmp_path / "new", tmp_path / "old"]))
    assert '<span class="pill worse">+20.0 % worse</span>' in page
    assert '<td class="num">+2.0 %</td>' in page  # 20 +- 0.5 and 20.4 +- 0.5
    assert '<td class="num">identical</td>' in page
