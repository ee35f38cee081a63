"""Which part of a weight file is loaded, as of one with `ema` beside `model`, and the digest that tells files apart."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from . import registry
from .checkpoints import parts
from .checkpoints.listing import Listing, list_tensors, shards_of
from .errors import CheckpointError
from .files import state_of
from .spec.card import Card
from .weights import find, sha256


@dataclass(frozen=True, slots=True)
class Part:
    """What is loaded of a weight file. `name` is "" for a file that is one state dict; `note` says what else it has."""

    name: str = ""
    note: str = ""


def part_of(card: Card, path: Path, given: Mapping[str, str] | None = None) -> Part:
    """The part of `path` that is loaded for `card`: the one that is named, else one of those that are the same network
    twice, such as `ema` beside `model`. Which, the card's checkpoint says; else averaged weights go first.

    Raises `CheckpointError` if the part that is named is not there.
    """
    if card.checkpoint is not None and card.checkpoint.folder:
        return Part()
    _, asked = parts.split((given or {}).get(card.name, ""))
    if not asked and card.checkpoint is not None and card.checkpoint.packaged and card.name not in (given or {}):
        return Part()
    if asked:
        name = parts.find(_listing(path), asked)
        return Part(name, f"weights of {card.name}: {name or 'the whole'} of {path.name}")
    system = next((system for system in registry.systems() if card.name in {each.name for each in system.cards}), None)

    def fits(names: Collection[str]) -> bool:
        return system is not None and any(file.fits(names) for file in system.files)

    try:
        listing = _listing(path)
        twins = parts.twins(listing, card.checkpoint.wrapper if card.checkpoint else (), fits)
        unread = parts.unread(listing)
    except CheckpointError:
        return Part()  # perhaps of a format of the adapter's own, which loads it or says what is wrong
    own = [each for each in twins if fits(each.names)]
    chosen = next(iter(own or twins), None)
    if chosen is None:
        lost = f"weights of {card.name}: {' and '.join(unread)} of {path.name}, averaged weights, cannot be read"
        return Part(note=f"{lost}: not under the names of the network") if unread else Part()
    first, *others = chosen.parts
    named = " and ".join(other or "the rest" for other in others)
    another = parts.join(path, others[0] or parts.WHOLE)
    return Part(
        first,
        f"weights of {card.name}: {first or 'the rest'} of {path.name} is loaded, and {named} is there too"
        f" (--weights {card.name}={another})",
    )


def notes_of(card: Card, given: Mapping[str, str] | None = None) -> list[str]:
    """Which parts of the files of `card` and of its tokenizer are loaded, where there is a choice; none for others."""
    notes = []
    for each in [card] if card.tokenizer is None else [card, registry.card(card.tokenizer)]:
        path = find(each, given)
        if path is not None and (note := part_of(each, path, given).note):
            notes.append(note)
    return notes


def digest_of(path: Path, part: str = "") -> str:
    """The sha256 of a weight file, of an index with its shards; with "#PART" where a part of it is loaded.

    Of a folder it is that of the names and digests of its files, hidden ones left out.
    """
    if path.is_dir():
        files = sorted(each for each in path.iterdir() if each.is_file() and not each.name.startswith("."))
        return hashlib.sha256("\n".join(f"{each.name} {sha256(each)}" for each in files).encode()).hexdigest()
    if path.suffix == ".json":
        digests = [sha256(each) for each in (path, *shards_of(path))]
        return parts.join(Path(hashlib.sha256(" ".join(digests).encode()).hexdigest()), part)
    return parts.join(Path(sha256(path)), part)


def _listing(path: Path) -> Listing:
    return _listed(path, state_of(path) if path.is_file() else None)


@functools.lru_cache(maxsize=8)
def _listed(path: Path, state: tuple[int, int, int, int] | None) -> Listing:
    return list_tensors(path)
