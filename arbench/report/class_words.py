"""What classes are called: ImageNet's thousand, in the order of their labels."""

from __future__ import annotations

import functools
import importlib.util
from pathlib import Path

from ..spec.card import Card

IMAGENET = 1000


def class_words(card: Card | None) -> tuple[str, ...]:
    """Name by label of the classes that a card's model was trained on; empty where they have none that is known."""
    if card is None or card.classes != IMAGENET or not card.trained_on.lower().startswith("imagenet"):
        return ()
    return imagenet()


@functools.cache
def imagenet() -> tuple[str, ...]:
    """ "tench", "goldfish", ...: the first of each synset's words, from the lists that timm carries. They are read as
    files, since importing timm imports torch. Empty where timm has no such lists.
    """
    found = importlib.util.find_spec("timm")
    for place in (found.submodule_search_locations or ()) if found else ():
        folder = Path(place) / "data" / "_info"
        try:
            ids = (folder / "imagenet_synsets.txt").read_text(encoding="utf-8").split()
            lines = (folder / "imagenet_synset_to_lemma.txt").read_text(encoding="utf-8").splitlines()
        except OSError:
            continue
        words = dict(line.split("\t", 1) for line in lines if "\t" in line)
        if len(ids) == IMAGENET and all(each in words for each in ids):
            return tuple(words[each].split(",")[0].strip() for each in ids)
    return ()
