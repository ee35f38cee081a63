"""What a report says of each audited tokenizer: a summary card, what was found, small multiples and a table."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from ..spec.card import Card
from ..spec.result import At, Metric, Result
from ..spec.task import tasks
from . import number
from .audit_images import first, images_of, side_of
from .audit_panels import Panel, panels
from .folders import Entry
from .rows import names
from .tables import bounds

TASKS = ("reconstruct", "rate", "detail", "objects", "text", "codes", "stability", "prefix", "predict", "perturb")
"""In the order of the table. Any but the first makes an audit."""
MOVED, GAIN, OFFSET, ORDER, USED, MONOTONE = 0.25, 0.3, 16.0, 0.9, 0.75, 0.5
FOLLOWS, GROWN = 0.7, 1.05
"""From where on something is told as found: pixels that images are moved by, distance of a channel's gain from 1 and of
its offset from 0 (levels), and the least share of images with channels in order, of codes in use, of images that
longer prefixes never make worse; the least correlation of some channel with the original's; how many times the codes of
half of the images all may show, for the others to count as unused."""


@dataclass(frozen=True)
class Tile:
    """A number of the summary card; `reason` where there is none."""

    name: str
    value: str
    note: str
    reason: str = ""


@dataclass(frozen=True)
class Line:
    """A row of the table. `value` is "" where a number does not apply, for `reason`."""

    section: str
    name: str
    value: str
    interval: str
    n: str
    reason: str = ""


@dataclass(frozen=True)
class Sheet:
    """One tokenizer. `data`: of each section, what its images are."""

    name: str
    anchor: str
    data: tuple[tuple[str, str], ...]
    tiles: tuple[Tile, ...]
    found: tuple[str, ...]
    panels: tuple[Panel, ...]
    lines: tuple[Line, ...]


def sheets(entries: Iterable[Entry], cards: Mapping[str, Card]) -> list[Sheet]:
    """One for each tokenizer and settings that a task of an audit was done with."""
    own = [entry.result for entry in entries if entry.result.kind == "tokenizer" and entry.result.task in TASKS]
    called = names(own)
    grouped: dict[tuple[str, str], list[Result]] = {}
    for result in own:
        grouped.setdefault((result.adapter, result.settings_id), []).append(result)
    return [
        _sheet(called[key], results, cards.get(key[0]))
        for key, results in grouped.items()
        if {result.task for result in results} - {"reconstruct"}
    ]


def _sheet(name: str, results: Sequence[Result], card: Card | None) -> Sheet:
    ordered = sorted(results, key=lambda result: TASKS.index(result.task))
    metrics = {result.task: result.metrics for result in ordered}  # the latest of several
    images = {result.task: images_of(result, card) for result in ordered}
    drawn = panels(metrics, images)
    return Sheet(
        name,
        "audit-" + "".join(letter if letter.isalnum() else "-" for letter in name),
        tuple(images.items()),
        tuple(_tiles(metrics, card, side_of(ordered[0], card))),
        tuple(findings(metrics)),
        tuple(drawn),
        tuple(_lines(ordered, {(panel.task, panel.metric, panel.along) for panel in drawn})),
    )


CARD: tuple[tuple[str, str, str, Mapping[str, At]], ...] = (
    ("PSNR", "reconstruct", "psnr", {}),
    ("Error at edges", "detail", "region-error", {"region": "edges"}),
    ("High frequencies kept", "detail", "high-frequency-ratio", {}),
    ("Over JPEG at its own bits", "rate", "over-codec", {"codec": "JPEG"}),
    ("Error in boxes around objects", "objects", "box-error", {}),
    ("Likeness of faces", "objects", "face-similarity", {}),
    ("Characters read wrong", "text", "cer", {}),
    ("Bits carried, of log2(codes)", "codes", "bits-carried", {}),
    ("Codes that come back", "stability", "token-agreement", {"round": 1}),
    ("Codes changed by a pixel's shift", "stability", "token-change", {"perturbation": "shift by a pixel"}),
    ("Latents changed by a pixel's shift", "stability", "latent-change", {"perturbation": "shift by a pixel"}),
    ("Effective rank", "codes", "effective-rank", {}),
    ("Noise that takes 1 dB", "codes", "noise-tolerance", {}),
    ("Tokens needed", "prefix", "prefix-needed", {}),
    ("Predictor's bits, of log2(codes)", "predict", "probe-share", {}),
    ("Class kept by perturbed codes", "perturb", "class-agreement", {}),
)
"""Heading, task, metric and place of the numbers of the summary card; those that no task has are left out."""


def _tiles(metrics: Mapping[str, Sequence[Metric]], card: Card | None, side: int | None) -> Iterable[Tile]:
    if card is not None and card.tokens is not None:
        yield _size(card, side)
    for heading, task, name, at in CARD:
        metric = first(metrics.get(task, ()), name, at)
        if metric is None:
            continue
        value, interval, unit = _printed(metric)
        if metric.value is None:
            yield Tile(heading, "–", "not applicable", metric.reason)
        else:
            notes = [part for part in (interval, f"n {metric.n:,}") if part]
            yield Tile(heading, f"{value} {unit}".strip(), ", ".join(notes))
    seen = [
        metric for metric in metrics.get("codes", ()) if metric.name == "codebook-seen" and set(metric.at) == {"images"}
    ]
    if seen and seen[-1].value is not None:
        yield Tile("Codes seen", f"{100 * seen[-1].value:.3g} %", f"in {seen[-1].n:,} images")


def _size(card: Card, side: int | None) -> Tile:
    """How many tokens an image of this side has, of what, and bits a pixel."""
    assert card.tokens is not None
    tokens = card.tokens_at(side, side) if side and card.takes(side, side) else card.tokens
    what = f"{tokens.vocabulary:,} codes" if tokens.vocabulary else f"{tokens.channels or '?'} numbers each"
    if tokens.variable_length:
        return Tile("Tokens an image", "differ", what)
    bits = "" if tokens.bits is None else f", {tokens.bits / (side or card.resolution) ** 2:.3g} bits a pixel"
    return Tile("Tokens an image", f"{tokens.tokens:,}", f"{what}{bits}")


def findings(metrics: Mapping[str, Sequence[Metric]]) -> list[str]:
    """Faults that the numbers show, in words, with the number."""
    return [*_of_images(metrics), *_of_codes(metrics), *_of_the_predictor(metrics)]


def _of_images(metrics: Mapping[str, Sequence[Metric]]) -> Iterable[str]:
    detail = metrics.get("detail", ())
    latents = first(metrics.get("codes", ()), "latent-deviation") is not None
    same = first(metrics.get("stability", ()), "deterministic")
    if same and same.value is not None and same.value < 1:
        yield f"Not deterministic: {_percent(same.value)} of the images have the same codes and pixels twice."
    gains = [metric for metric in detail if metric.name == "channel-gain"]
    alike = [metric.extras["correlation"] for metric in gains if "correlation" in metric.extras]
    if alike and max(alike) < FOLLOWS:
        yield (
            f"Reconstructions hardly follow their images: pixels correlate by {max(alike):.2g} at most in a channel."
            " Whether they are moved, their channels exchanged or their range wrong cannot be told."
        )
        return
    for axis, words in (("right", ("right", "left")), ("down", ("bottom", "top"))):
        moved = first(detail, "displacement", {"axis": axis})
        if moved and moved.value is not None and abs(moved.value) >= MOVED:
            yield f"Reconstructions are moved by {abs(moved.value):.2g} pixels to the {words[moved.value < 0]}."
    order = first(detail, "channels-in-order")
    if order and order.value is not None and order.value < ORDER:
        yield f"Channels are exchanged: only {_percent(order.value)} of the images have them in their order."
        return  # a channel against another one says nothing of their range
    for channel in ("red", "green", "blue"):
        gain, offset = (first(detail, f"channel-{part}", {"channel": channel}) for part in ("gain", "offset"))
        if gain is None or offset is None or gain.value is None or offset.value is None:
            continue
        if abs(gain.value - 1) > GAIN or abs(offset.value) > OFFSET:
            scale = " A scaling factor of the latents that is left out looks the same." if latents else ""
            yield f"Value range: {channel} is {gain.value:.3g} × the original's {offset.value:+.3g} levels.{scale}"


def _seen(metrics: Mapping[str, Sequence[Metric]]) -> list[tuple[int, float]]:
    """(images, share of the codebook that so many show), of all levels together."""
    seen = (metric for metric in metrics.get("codes", ()) if metric.name == "codebook-seen")
    return [(metric.n, metric.value) for metric in seen if set(metric.at) == {"images"} and metric.value is not None]


def _of_codes(metrics: Mapping[str, Sequence[Metric]]) -> Iterable[str]:
    known = _seen(metrics)
    if known and known[-1][1] < USED:
        n, last = known[-1]
        half = max((value for count, value in known if 2 * count <= n), default=0.0)
        settled = min(count for count, value in known if value >= 0.99 * last)
        if last <= GROWN * half:
            share = _percent(last)
            yield f"Unused codes: {n:,} images show {share} of the codebook, the first {settled:,} of them 99 % of it."
    rising = first(metrics.get("prefix", ()), "prefix-monotone")
    if rising and rising.value is not None and rising.value < MONOTONE:
        yield f"Order: longer prefixes make {_percent(1 - rising.value)} of the images worse somewhere on the way."


def _of_the_predictor(metrics: Mapping[str, Sequence[Metric]]) -> Iterable[str]:
    """Where perturbed codes leave the distance within its error, or lower it, while fewer images keep their class."""
    before, after = (first(metrics.get(task, ()), "class-agreement") for task in ("reconstruct", "perturb"))
    for name in ("rfid", "frechet"):
        plain, moved = (first(metrics.get(task, ()), name) for task in ("reconstruct", "perturb"))
        if not (plain and moved and before and after) or plain.convention != moved.convention or plain.n != moved.n:
            continue
        distance, other, agreed, agrees = (_span(metric) for metric in (plain, moved, before, after))
        if distance and other and agreed and agrees and other[0] <= distance[1] and agrees[1] < agreed[0]:
            yield (
                f"The distance of perturbed codes fails here: {name} goes from {plain.value:.3g} to {moved.value:.3g},"
                f" no worse than its error, while {_percent(before.value or 0.0)} and then"
                f" {_percent(after.value or 0.0)} of the images keep their class."
            )


def _span(metric: Metric) -> tuple[float, float] | None:
    """The limits of a value, itself without an interval."""
    return None if metric.value is None else bounds(metric) or (metric.value, metric.value)


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"


def _lines(results: Sequence[Result], drawn: set[tuple[str, str, str]]) -> Iterable[Line]:
    """Every number but those of a curve that is drawn; null ones of one reason and section together."""
    for result in results:
        definition = tasks().get(result.task)
        section = definition.group if definition and result.task != "reconstruct" else "Reconstruction"
        if result.outcome != "ok":
            yield Line(section, "all", "", "", "", f"{result.outcome}: {result.reason}")
        nothing: dict[str, list[str]] = {}
        for metric in result.metrics:
            if any((result.task, metric.name, along) in drawn for along in metric.at):
                continue
            place = metric.key.place
            called = f"{metric.name} ({place})" if place else metric.name
            if metric.value is None:
                nothing.setdefault(metric.reason, []).append(called)
                continue
            value, interval, unit = _printed(metric)
            yield Line(section, called, f"{value} {unit}".strip(), interval, f"{metric.n:,}")
        for reason, called_ in nothing.items():
            yield Line(section, ", ".join(dict.fromkeys(called_)), "", "", "", reason)


def _printed(metric: Metric) -> tuple[str, str, str]:
    """Value, interval and unit."""
    if metric.value is None:
        return "", "", ""
    unit = "" if metric.unit == "fraction" else metric.unit
    low, high = bounds(metric) or (None, None)
    value, interval = number.with_interval(metric.value, low, high)
    return value, interval, unit
