"""Rate and distortion in the report: points, codecs' curves, prefixes, and what has no rate."""

from __future__ import annotations

from pathlib import Path

import pytest
from synthetic_run import make_result, metric, write_cell

from arbench.report.distortion_figure import figure, planes
from arbench.report.folders import Entry, read_runs
from arbench.report.page import render
from arbench.spec.result import Metric, Result

IMAGES = "folder:p, size as in the card, crop none"


def number(name: str, value: float | None, reason: str = "", **at: str | int) -> Metric:
    return metric(name, value, reason=reason).model_copy(update={"at": at, "n": 27})


def rate(name: str, bits: float | None, psnr: float) -> Result:
    codecs = [
        number(f"codec-{kind}", value * scale, codec=codec, quality=quality)
        for codec, scale in (("JPEG", 1.0), ("WEBP", 0.8))
        for quality, size, good in ((95, 4.0, 40.0), (5, 0.5, 20.0))
        for kind, value in (("bits", size), ("psnr", good), ("ssim", good / 50))
    ]
    own = (
        number("bits-per-pixel", bits, "" if bits else "continuous latents have no rate"),
        number("rate-psnr", psnr),
        number("rate-ssim", psnr / 50),
        number("rate-lpips", None, "no weights of alexnet"),
    )
    return made(name, "rate", *own, *codecs)


def made(name: str, task: str, *metrics: Metric) -> Result:
    result = make_result(name, "tokenizer", "tokenizers", task, metrics=metrics, settings_id=name)
    return result.model_copy(update={"parameters": {"data": "folder:p"}, "result_id": f"res-{task}-{name[11:]}"})


@pytest.fixture(scope="module")
def results() -> list[Result]:
    prefixes = [number("prefix-psnr", 10 + 5 * count, prefix=count, tokens=count) for count in (1, 2, 4)]
    others = [number("prefix-psnr", 50.0, prefix=1, tokens=1).model_copy(update={"n": 9})]
    return [
        rate("tokenizers/codes", 2.0, 30.0),
        rate("tokenizers/numbers", None, 35.0),
        made("tokenizers/codes", "prefix", *prefixes, *others),
    ]


def test_points_curves_and_prefixes(results: list[Result]) -> None:
    (plane,) = planes([Entry(each, Path(), "run") for each in results], {})
    (rated,) = plane.rated
    assert (plane.images, plane.n, plane.without) == (IMAGES, 27, ("numbers",))
    assert plane.curves["psnr", "JPEG"] == ((0.5, 20.0), (4.0, 40.0))
    assert plane.curves["ssim", "WEBP"][-1] == pytest.approx((3.2, 0.64))
    assert (rated.name, rated.rate) == ("codes", 2.0)
    assert rated.prefixes == ((0.5, 15.0), (1.0, 20.0), (2.0, 30.0))  # not those of nine images
    drawing = figure(plane)
    assert drawing is not None
    svg = drawing.svg()
    assert "codes: PSNR 30 at 2 bits per pixel" in svg
    assert "codes: SSIM 0.6 at 2 bits per pixel" in svg
    assert "LPIPS" not in svg
    assert "JPEG" in svg
    assert "WebP" in svg


def test_the_page_states_images_and_what_is_not_drawn(results: list[Result], tmp_path: Path) -> None:
    for each in results:
        write_cell(tmp_path, each)
    (tmp_path / "run.json").write_text('{"run_id": "run", "started": "2000-01-01"}')
    page = render(read_runs([tmp_path]))
    assert f"{IMAGES}, n 27." in page
    assert "Continuous latents have no rate: numbers." in page
    assert "Not shown: LPIPS: no weights of alexnet." in page
