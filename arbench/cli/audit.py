"""`arbench audit`: the suite `tokenizer-audit` on the tokenizers that are named, with one report."""

from __future__ import annotations

from collections.abc import Sequence

from arbench.errors import UsageError
from arbench.spec.card import Card

SUITE = "tokenizer-audit"
MIXED = "these tokenizers take images of different sizes"
CROP = "adm-center-crop-v1"
"""What makes images of any size those of a tokenizer, unless another is named."""


def audit(
    names: list[str],
    data: str | None,
    crop: str | None,
    size: int | None,
    n: int | None,
    sets: list[str],
    weights: list[str],
    out: str | None,
    device: str | None,
    workers: int | None,
    track: str | None,
) -> int:
    """Audits `names` (or globs) on `data`, cropped to `size` or their resolution; returns the run's exit code."""
    from .. import registry
    from ..spec.suite_file import read
    from .run import run

    cards = registry.matching(names)
    other = next((card.name for card in cards if card.kind != "tokenizer"), None)
    if other is not None:
        raise UsageError(f"{other} is a generator", "an audit is of tokenizers", "arbench ls tokenizers")
    changes = [] if data is None else [f"data={data}", f"crop={crop or CROP}"]
    for flag, given in (("--crop", crop), ("--size", size)):
        if data is None and given is not None:
            raise UsageError(
                f"{flag} is of images that --data names", "the suite's own data need none", "add --data SOURCE"
            )
    if data is None:
        own = {registry.card(name).resolution for name in read(SUITE).suite.tokenizers}
        strange = next((card for card in cards if not all(card.takes(side, side) for side in own)), None)
        if strange is not None:
            raise UsageError(
                f"{strange.name} takes {strange.resolution} x {strange.resolution} images",
                f"the suite's own data are {min(own)} x {min(own)} digits",
                "name images: --data FOLDER",
            )
    else:
        changes.append(f"size={_side(cards, size)}")
    if n is not None or data is not None:
        changes.append(f"n={'null' if n is None else n}")
    return run(SUITE, names, [], [*changes, *sets], weights, out, device, workers, track)


def _side(cards: Sequence[Card], asked: int | None) -> int:
    """The side of the images that all tokenizers take: the one that is asked for, else their own.

    Raises UsageError, naming sizes, unless there is such a side.
    """
    fixed = [card.resolution for card in cards if card.multiple is None]
    side = asked or (fixed[0] if fixed else max(card.resolution for card in cards))
    if all(card.takes(side, side) for card in cards):
        return side
    raise UsageError(
        f"no images of {side} x {side} for all of these tokenizers" if asked else MIXED,
        ", ".join(f"{card.name} ({_taken(card)})" for card in cards),
        "audit those of one size together: numbers of different images do not compare",
    )


def _taken(card: Card) -> str:
    if card.multiple is None:
        return str(card.resolution)
    return "any size" if card.multiple == 1 else f"multiples of {card.multiple}"
