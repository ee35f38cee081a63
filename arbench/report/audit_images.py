"""What the images of an audit's numbers are, and the number at a place."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ..spec.card import Card
from ..spec.result import At, Metric, Result


def images_of(result: Result, card: Card | None) -> str:
    """What the images of a task are: "mnist5k/heldout, 32 × 32, crop none"."""
    side = side_of(result, card)
    size = f"{side} × {side}" if side else "size as in the card"
    drawn = {"text": "cards with text", "objects": "packaged photographs"}.get(result.task, "unknown images")
    data = result.parameters.get("data") or result.parameters.get("images") or drawn
    return f"{data}, {size}, crop {result.parameters.get('crop', 'none')}"


def side_of(result: Result, card: Card | None) -> int | None:
    """The side of a task's images, None where neither its parameters nor a card say it."""
    return result.parameters.get("size") or (card.resolution if card else None)


def first(metrics: Iterable[Metric], name: str, at: Mapping[str, At] | None = None) -> Metric | None:
    """The first of a name at a place: one with a value rather than a null."""
    known = [metric for metric in metrics if metric.name == name and (at or {}).items() <= metric.at.items()]
    return next((metric for metric in known if metric.value is not None), known[0] if known else None)
