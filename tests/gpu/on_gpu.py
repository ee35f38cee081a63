"""Generators with their tokenizers on a GPU, as the tests here load and close them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from arbench import registry, weights
from arbench.protocols import Card, Generator, LoadSpec

GENERATORS = [card for card in registry.cards().values() if card.kind == "generator"]
MINIS = [
    card.name
    for card in GENERATORS
    if card.checkpoint and card.checkpoint.packaged and (weights.find(card) or Path()).is_file()
]


def load(card: Card, **how: Any) -> Generator:
    """With its weights where it has some, else random ones, and so its tokenizer."""

    def spec_of(each: Card) -> LoadSpec:
        path = weights.find(each)
        return LoadSpec(weights=path, init="checkpoint" if path else "random", **how)

    tokenizer = None
    if card.tokenizer is not None:
        theirs = registry.card(card.tokenizer)
        tokenizer = registry.resolve(theirs.implementation).load(theirs, spec_of(theirs))
    model: Generator = registry.resolve(card.implementation).load(card, spec_of(card), tokenizer)
    return model


def close(model: Generator) -> None:
    model.close()
    if model.tokenizer is not None:
        model.tokenizer.close()
