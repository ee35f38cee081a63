"""The audit in a report: cards, faults in words, small multiples with crop, size and n, and what does not apply."""

from __future__ import annotations

from pathlib import Path

import pytest

from arbench.report.audit_sheets import findings, sheets
from arbench.report.folders import Entry
from arbench.report.page import environment
from arbench.spec.card import Card, TokenSpec
from arbench.spec.result import Interval, Metric, Result

CARD = Card(
    name="tokenizers/small",
    kind="tokenizer",
    family="tokenizers",
    implementation="none:None",
    summary="small",
    resolution=32,
    tokens=TokenSpec.grid(8, 256),
)


def number(name: str, value: float | None, n: int = 50, **at: str | float) -> Metric:
    interval = Interval(low=value - 0.01, high=value + 0.01, method="t") if value else None
    return Metric(name=name, value=value, n=n, at=at, interval=interval, reason="" if value is not None else "no codes")


def result(task: str, *metrics: Metric) -> Result:
    return Result(
        result_id=f"res-{task}",
        settings_id="set-1",
        adapter=CARD.name,
        family="tokenizers",
        kind="tokenizer",
        task=task,
        parameters={"data": "folder:photographs", "crop": "adm-center-crop-v1", "size": 64},
        outcome="ok",
        metrics=metrics,
    )


def audited() -> list[Result]:
    detail = [number("spectrum-ratio", 1 - f, frequency=f) for f in (0.1, 0.2, 0.4)]
    regions = [number("region-error", value, region=name) for name, value in (("flat", 3.0), ("edges", 20.0))]
    seen = [number("codebook-seen", share, images, images=images) for images, share in ((1, 0.2), (8, 0.5), (64, 0.5))]
    return [
        result("reconstruct", number("psnr", 24.0)),
        result("detail", *regions, *detail, number("displacement", 0.5, axis="right"), number("blocking", None)),
        result("codes", *seen, number("bits-carried", 0.8)),
        result("stability", number("deterministic", 0.4), number("token-agreement", 0.7, round=1)),
    ]


@pytest.fixture(scope="module")
def results() -> list[Result]:
    return audited()


def shown(results: list[Result]) -> str:
    """The part of the page, as HTML."""
    (sheet,) = sheets([Entry(each, Path(), "run-1") for each in results], {CARD.name: CARD})
    return str(environment().get_template("parts.html").module.audit(sheet))  # type: ignore[attr-defined]


@pytest.fixture(scope="module")
def page(results: list[Result]) -> str:
    return shown(results)


def test_a_figure_states_crop_size_and_n(results: list[Result]) -> None:
    (sheet,) = sheets([Entry(each, Path(), "run-1") for each in results], {CARD.name: CARD})
    assert [panel.title for panel in sheet.panels] == ["Error by region", "Power kept by frequency", "Codes seen"]
    what = "folder:photographs, 64 × 64, crop adm-center-crop-v1"
    assert [panel.images for panel in sheet.panels] == [f"{what}, n 50", f"{what}, n 50", f"{what}, n 1 to 64"]
    assert {tile.name: tile.value for tile in sheet.tiles} == {
        "Tokens an image": "64",
        "PSNR": "24.000",
        "Error at edges": "20.000",
        "Bits carried, of log2(codes)": "0.800",
        "Codes that come back": "0.700",
        "Codes seen": "50 %",
    }
    assert [(line.name, line.value, line.reason) for line in sheet.lines] == [
        ("psnr", "24.000", ""),
        ("displacement (right)", "0.500", ""),
        ("blocking", "", "no codes"),
        ("bits-carried", "0.800", ""),
        ("deterministic", "0.400", ""),
        ("token-agreement (round 1)", "0.700", ""),
    ]


def test_what_does_not_apply_says_why(page: str) -> None:
    assert "not applicable: no codes" in page
    assert page.count("<svg") == 3
    assert "#0072b2" not in page  # ink alone, so that it reads in grey


def test_a_reconstruction_alone_is_no_audit(results: list[Result]) -> None:
    assert sheets([Entry(results[0], Path(), "run-1")], {}) == []


def test_faults_are_told_in_words(results: list[Result], page: str) -> None:
    found = findings({each.task: each.metrics for each in results})
    assert found == [
        "Not deterministic: 40 % of the images have the same codes and pixels twice.",
        "Reconstructions are moved by 0.5 pixels to the right.",
        "Unused codes: 64 images show 50 % of the codebook, the first 8 of them 99 % of it.",
    ]
    assert all(text in page for text in found)


FAULTS = {
    "channels": ("detail", [number("channels-in-order", 0.1)], "Channels are exchanged: only 10 %"),
    "range": (
        "detail",
        [number("channel-gain", 0.5, channel="red"), number("channel-offset", 127.5, channel="red")],
        "Value range: red is 0.5 × the original's +128 levels.",
    ),
    "up": ("detail", [number("displacement", -0.5, axis="down")], "moved by 0.5 pixels to the top"),
    "order": ("prefix", [number("prefix-monotone", 0.2)], "Order: longer prefixes make 80 % of the images worse"),
    "far": (
        "detail",
        [
            number("channel-gain", 0.3, channel="red").model_copy(update={"extras": {"correlation": 0.4}}),
            number("channel-offset", 90.0, channel="red"),
            number("channels-in-order", 0.2),
        ],
        "Reconstructions hardly follow their images: pixels correlate by 0.4 at most",
    ),
    "growing": ("codes", [number("codebook-seen", share, n, images=n) for n, share in ((10, 0.2), (20, 0.4))], ""),
    "sound": ("detail", [number("channels-in-order", 1.0), number("displacement", 0.05, axis="down")], ""),
}


@pytest.mark.parametrize(("task", "metrics", "told"), FAULTS.values(), ids=FAULTS)
def test_each_fault(task: str, metrics: list[Metric], told: str) -> None:
    found = findings({task: metrics})
    assert len(found) == bool(told)
    assert told in "".join(found)


@pytest.mark.parametrize(
    ("distance", "agreement", "fails"), [(31.8, 0.71, True), (90.0, 0.81, False), (31.8, 1.0, False)]
)
def test_a_distance_that_falls_while_fewer_keep_their_class_is_no_predictor(
    distance: float, agreement: float, fails: bool
) -> None:
    found = findings(
        {
            "reconstruct": [number("frechet", 35.7), number("class-agreement", 0.98)],
            "perturb": [number("frechet", distance, codes="40 %"), number("class-agreement", agreement, codes="40 %")],
        }
    )
    assert len(found) == fails
    if fails:
        assert "frechet goes from 35.7 to 31.8" in found[0]
        assert "98 % and then 71 % of the images keep their class" in found[0]
