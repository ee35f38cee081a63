"""Which sample belongs to which reference: by relative path without extension. Imports no torch."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError

Pairs = NDArray[np.int64]
EXTENSION = re.compile(r"\.(png|jpe?g|webp|bmp|tiff?|gif|ppm|npy)$", re.IGNORECASE)
SHOWN = 5


def pair(samples: Sequence[str], references: Sequence[str], by_order: bool = False) -> Pairs:
    """(n, 2) positions of each sample and of its reference, in the order of the samples.

    Names must agree up to the extension of the file. Where all names of both sides are whole numbers ("000017.png",
    "17") they pair as numbers, and if one side counts on from another number (from 0 against from 1), in that order.
    `by_order` pairs the natural orders of both sides ("9" before "10") whatever the names are.

    Raises `InputError` that lists what has no partner, and says what would make the names agree.
    """
    ours, theirs = [EXTENSION.sub("", key) for key in samples], [EXTENSION.sub("", key) for key in references]
    if by_order:
        return _by_order(ours, theirs)
    if all(name.isdecimal() for name in (*ours, *theirs)):
        ours, theirs = [str(int(name)) for name in ours], [str(int(name)) for name in theirs]
        if set(ours) != set(theirs) and len(ours) == len(theirs) and _counting(ours) and _counting(theirs):
            return _by_order(ours, theirs)
    _unique(ours, samples, "sample")
    _unique(theirs, references, "reference")
    place = {name: index for index, name in enumerate(theirs)}
    if set(ours) != place.keys():
        raise _unmatched(ours, theirs)
    return np.array([(index, place[name]) for index, name in enumerate(ours)], dtype=np.int64).reshape(-1, 2)


def natural(name: str) -> tuple[tuple[int, int, str], ...]:
    """A key that sorts digits as numbers: a2 before a10."""
    return tuple(
        (0, int(part), part) if part.isdecimal() else (1, 0, part) for part in re.split(r"(\d+)", name) if part
    )


def _by_order(ours: Sequence[str], theirs: Sequence[str]) -> Pairs:
    if len(ours) != len(theirs):
        raise InputError(
            "pairing by order needs as many samples as references", f"{len(ours)} samples, {len(theirs)} references"
        )
    order = sorted(range(len(ours)), key=lambda index: natural(ours[index]))
    partners = sorted(range(len(theirs)), key=lambda index: natural(theirs[index]))
    found = np.array([order, partners], dtype=np.int64).T
    return found[np.argsort(found[:, 0])]


def _counting(names: Sequence[str]) -> bool:
    """Whether the numbers are a, a + 1, ... without a gap."""
    numbers = {int(name) for name in names}
    return len(numbers) == len(names) and max(numbers, default=0) - min(numbers, default=1) == len(names) - 1


def _unique(names: Sequence[str], keys: Sequence[str], kind: str) -> None:
    first: dict[str, str] = {}
    for name, key in zip(names, keys, strict=True):
        if name in first:
            raise InputError(
                f"two {kind}s are called {name!r}",
                f"{first[name]!r} and {key!r}: the extension does not count",
                "keep one of them",
            )
        first[name] = key


def _unmatched(ours: Sequence[str], theirs: Sequence[str]) -> InputError:
    alone, also_alone = sorted(set(ours) - set(theirs), key=natural), sorted(set(theirs) - set(ours), key=natural)
    lines = [
        f"{len(names)} {kind}: {', '.join(names[:SHOWN])}{', ...' if len(names) > SHOWN else ''}"
        for names, kind in ((alone, "samples without a reference"), (also_alone, "references without a sample"))
        if names
    ]
    hint = _suggestion(ours, theirs) or "give both the same relative paths, or pair them by their order"
    return InputError("samples and references do not pair", "; ".join(lines), hint)


def _suggestion(ours: Sequence[str], theirs: Sequence[str]) -> str:
    """What to change so that all names agree, or ""."""
    if len(ours) != len(theirs):
        return ""
    prefixes, suffixes = (_shared(ours), _shared(theirs)), (_shared(ours, True), _shared(theirs, True))
    changes: tuple[tuple[str, Callable[[str, int], str]], ...] = (
        ("did you mean the same names in other folders?", lambda name, side: name.rsplit("/", 1)[-1]),
        ("did you mean the same names in upper and lower case?", lambda name, side: name.casefold()),
        (
            f"did you mean names that differ in how they begin, {prefixes[0]!r} and {prefixes[1]!r}?",
            lambda name, side: name[len(prefixes[side]) :],
        ),
        (
            f"did you mean names that differ in how they end, {suffixes[0]!r} and {suffixes[1]!r}?",
            lambda name, side: name[: len(name) - len(suffixes[side])],
        ),
    )
    for words, change in changes:
        mine, other = [change(name, 0) for name in ours], [change(name, 1) for name in theirs]
        if len(set(mine)) == len(mine) and set(mine) == set(other):
            return words
    return ""


def _shared(names: Sequence[str], end: bool = False) -> str:
    """The longest beginning (or end) of all names without a digit at its border: "img_0" and "img_1" share "img_"."""
    if end:
        return _shared([name[::-1] for name in names])[::-1]
    first, last = min(names, default=""), max(names, default="")  # whatever these share, all between them do
    length = next((index for index, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), len(first))
    return first[:length].rstrip("0123456789")
