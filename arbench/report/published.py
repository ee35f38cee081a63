"""Published figures beside ours: the same metric, its convention, and every setting in which the two differ."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ..spec.card import Card, Claim
from ..spec.result import Metric, Result
from . import number
from .columns import images
from .tables import bounds

ALIASES = {"inception-score": "is"}
"""What papers and cards call a metric, where we call it otherwise."""
DTYPES = {"bf16": "bfloat16", "fp16": "float16", "fp32": "float32"}
SIZE = ("image_size_eval", "image_size")
"""Settings of a claim that say the side of the images that were evaluated, the first that is there."""


@dataclass(frozen=True)
class Published:
    """A published figure and ours. `convention` is that of our number, `missing` says why there is none."""

    adapter: str
    claim: Claim
    claimed: str
    settings: str
    convention: str = ""
    measured: str = "–"
    title: str = ""
    difference: str = ""
    differing: tuple[str, ...] = ()
    missing: str = ""


def published(results: Sequence[Result], known: Mapping[str, Card]) -> list[Published]:
    """Claims of the cards beside our numbers of the same metric; one that we did not measure has the reason."""
    rows = []
    for adapter in dict.fromkeys(result.adapter for result in results):
        card = known.get(adapter)
        own = [result for result in results if result.adapter == adapter]
        rows += [_row(own, card, claim) for claim in card.published] if card else []
    return rows


def metric_name(claim: Claim) -> str:
    """Our name of what a claim is of."""
    name = claim.metric.lower().replace("_", "-")
    return ALIASES.get(name, name)


def evaluator(claim: Claim) -> str:
    """The convention that its settings name: "ADM" is "adm", "torch-fidelity (fork)" is "torch-fidelity"."""
    return next(iter(str(claim.settings.get("evaluator", "")).lower().split()), "")


def _row(results: Sequence[Result], card: Card, claim: Claim) -> Published:
    settings = ", ".join(f"{key} {value}" for key, value in claim.settings.items())
    found = _measured(results, card, claim)
    row = Published(card.name, claim, f"{claim.value:g}", settings)
    if found is None:
        return replace(row, missing=f"no metric named {metric_name(claim)!r} in these results")
    result, metric = found
    if metric.value is None:
        return replace(row, convention=metric.convention, missing=metric.reason)
    text, interval = number.with_interval(metric.value, *(bounds(metric) or (None, None)))
    return replace(
        row,
        convention=metric.convention,
        measured=f"{text} [{interval}]" if interval else text,
        title="; ".join(part for part in (f"n = {metric.n:,}", metric.how) if part),
        difference=f"{metric.value - claim.value:+.3g}",
        differing=tuple(_differing(result, metric, card, claim)),
    )


def _measured(results: Sequence[Result], card: Card, claim: Claim) -> tuple[Result, Metric] | None:
    """The number to compare: one with a value, of the claim's convention, at the native sampling, of many images."""
    wanted = metric_name(claim)
    found = [
        (result, metric)
        for result in results
        for metric in result.metrics
        if metric.name.lower() == wanted and not metric.at
    ]

    def rank(item: tuple[Result, Metric]) -> tuple[bool, bool, bool, int]:
        result, metric = item
        native = result.sampling is None or result.sampling == card.native
        return metric.value is not None, metric.convention == evaluator(claim), native, images(result) or 0

    return max(found, key=rank, default=None)


def _differing(result: Result, metric: Metric, card: Card, claim: Claim) -> Iterator[str]:
    """In words, each setting in which our number and the published one differ, as far as both are stated."""
    stated = claim.settings
    if evaluator(claim) not in ("", metric.convention):
        yield f"convention {metric.convention}, published by {stated['evaluator']}"
    count = images(result)
    if count is not None and stated.get("images") not in (None, count):
        yield f"{count:,} images, published {stated['images']:,}"
    data = stated.get("data")
    if metric.reference and data and _plain(data) != _plain(metric.reference.name):
        yield f"reference {metric.reference.name}, published {data}"
    side = next((stated[name] for name in SIZE if name in stated), None)
    sizes = list(result.samples.sizes) if result.samples else []
    sizes = sizes or [f"{card.resolution}x{card.resolution}"]
    if side is not None and sizes != [f"{side}x{side}"]:
        yield f"{', '.join(sizes)} pixels, published {side}x{side}"
    dtype, theirs = result.load.get("dtype"), str(stated.get("precision", ""))
    if dtype and theirs and DTYPES.get(theirs, theirs) != dtype:
        yield f"{dtype}, published {theirs}"
    yield from _sampling(result, card, stated)
    yield from _other_settings(card, stated)


def _sampling(result: Result, card: Card, stated: Mapping[str, Any]) -> Iterator[str]:
    """Ours against the card's native sampling: the published one in our notation, unless the claim states another."""
    if result.sampling is None:
        return
    official = card.upstream_settings
    native_claim = all(stated.get(name) == value for name, value in official.items() if name in stated)
    theirs = "published" if native_claim else "native"
    ours, native = _flat(result.sampling.plain()), _flat(card.native.plain())
    for name in ours | native:
        if ours.get(name) != native.get(name):
            yield f"{name} {_shown(ours.get(name))}, {theirs} {_shown(native.get(name))}"


def _other_settings(card: Card, stated: Mapping[str, Any]) -> Iterator[str]:
    """Where the claim is not of the card's native settings, in the official code's own terms."""
    official = card.upstream_settings
    if not official.keys() & stated.keys():
        return
    for name, value in official.items():
        if name not in stated:
            yield f"{name} {value}, published without stating it"
        elif stated[name] != value:
            yield f"{name} {value}, published {stated[name]}"


def _flat(value: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, item in value.items():
        flat |= _flat(item, f"{prefix}{name}.") if isinstance(item, Mapping) else {f"{prefix}{name}": item}
    return flat


def _shown(value: Any) -> str:
    return "none" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def _plain(text: Any) -> str:
    return "".join(letter for letter in str(text).lower() if letter.isalnum())
