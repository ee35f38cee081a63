"""`arbench audit`: the suite `tokenizer-audit` on the tokenizers that are named, with one report."""

from __future__ import annotations

from pathlib import Path

from arbench.errors import UsageError

SUITE = "tokenizer-audit"
CROP = "adm-center-crop-v1"
"""What makes images of any size those of a tokenizer, unless another is named."""


def audit(
    names: list[str],
    data: str | None,
    crop: str | None,
    n: int | None,
    sets: list[str],
    weights: list[str],
    out: Path | None,
    device: str | None,
    workers: int | None,
    track: str | None,
) -> int:
    """Audits `names` (or globs of them) on `data`, cropped to their resolution; returns the exit code of the run."""
    from .. import registry
    from ..spec.suite_file import read
    from .run import run

    cards = registry.matching(names)
    other = next((card.name for card in cards if card.kind != "tokenizer"), None)
    if other is not None:
        raise UsageError(f"{other} is a generator", "an audit is of tokenizers", "arbench ls tokenizers")
    sides = {card.resolution for card in cards}
    changes = [] if data is None else [f"data={data}", f"crop={crop or CROP}"]
    if data is None and crop is not None:
        raise UsageError("--crop is of images that --data names", "the suite's own data need none", "add --data SOURCE")
    if len(sides) > 1 and data is not None:
        found = ", ".join(f"{card.name} ({card.resolution})" for card in cards)
        raise UsageError(
            "these tokenizers take images of different sizes",
            found,
            "audit those of one size together: numbers of different images do not compare",
        )
    own = {registry.card(name).resolution for name in read(SUITE).suite.tokenizers}
    if data is None and sides - own:
        raise UsageError(
            f"{cards[0].name} takes {cards[0].resolution} x {cards[0].resolution} images",
            f"the suite's own data are {min(own)} x {min(own)} digits",
            "name images: --data FOLDER",
        )
    if data is not None and sides:
        changes.append(f"size={sides.pop()}")
    if n is not None or data is not None:
        changes.append(f"n={'null' if n is None else n}")
    return run(SUITE, names, [], [*changes, *sets], weights, out, device, workers, track)
