"""What generators share around their networks: whether a tokenizer fits, class labels, key-value caches."""

from __future__ import annotations

from typing import Any, TypeVar

import torch
from torch import Tensor

from arbench.errors import InputError, UsageError
from arbench.protocols import Card, Request, Sampling, Tokenizer

from .attention import KVCache
from .sampling import check_supported

T = TypeVar("T", bound=Tokenizer)

# ---- the tokenizer ---------------------------------------------------------------------------------------------------


def check_vocabulary(card: Card, tokenizer: Tokenizer | None, codes: int) -> None:
    """Raise InputError if there is a tokenizer and its codebook has not the `codes` that the generator was made for."""
    if tokenizer is not None and tokenizer.spec.vocabulary != codes:
        raise InputError(
            f"{card.name} cannot use {tokenizer.card.name}",
            f"it has {tokenizer.spec.vocabulary} codes, the generator knows {codes}",
            f"use {card.tokenizer}",
        )


def of_kind(card: Card, tokenizer: Tokenizer | None, kind: type[T], what: str) -> T:
    """The tokenizer, if it is of the `kind` whose network the generator works with. Raises InputError otherwise."""
    if not isinstance(tokenizer, kind):
        given = tokenizer.card.name if tokenizer is not None else "none"
        raise InputError(f"{card.name} needs {what}", f"given: {given}", f"use {card.tokenizer}")
    return tokenizer


def check_form(card: Card, tokenizer: Tokenizer, what: str, theirs: tuple[Any, ...], ours: tuple[Any, ...]) -> None:
    """Raise InputError unless the numbers of a tokenizer are those the generator was made for; `what` names them."""
    if theirs != ours:
        raise InputError(
            f"{card.name} cannot use {tokenizer.card.name}",
            f"its {what} are {theirs}, the generator was made for {ours}",
            f"use {card.tokenizer}",
        )


# ---- the request -----------------------------------------------------------------------------------------------------


def class_labels(card: Card, request: Request) -> Tensor:
    """(B,) class ids. Raises UsageError for a request without them."""
    if request.labels is None:
        raise UsageError(
            f"{card.name} needs class labels", "the request has none", "choose a class-conditional data source"
        )
    return request.labels


def check_mask(card: Card, mask: Tensor, side: int) -> None:
    """Raise InputError unless an edit's mask is bool (side, side) and true somewhere."""
    fits = mask.dtype == torch.bool and mask.shape == (side, side)
    if not fits or not bool(mask.any()):
        shown = "true nowhere" if fits else f"{mask.dtype} {tuple(mask.shape)}".removeprefix("torch.")
        raise InputError(
            f"{card.name} cannot edit within this mask",
            f"it is {shown}; wanted is bool {(side, side)}, true where tokens are to be drawn",
            "give one mask for the whole batch, on the tokenizer's finest grid",
        )


# ---- the network and its caches --------------------------------------------------------------------------------------


class CachedGenerator:
    """A card, a tokenizer, and a network with `allocate(rows)`, whose caches are kept from batch to batch."""

    def __init__(self, card: Card, network: Any, tokenizer: Any) -> None:
        self.card = card
        self.tokenizer = tokenizer
        self.network = network
        self._caches: list[KVCache] = []

    def check(self, sampling: Sampling) -> None:
        """Raise `Unsupported` or UsageError for settings that this generator would have to ignore or cannot take."""
        check_supported(self.card, sampling)

    def copies(self, sampling: Sampling) -> int:
        """Of the batch in one pass: conditional, and with guidance unconditional."""
        return 2 if sampling.guidance.on else 1

    def prepare(self, batch: int, sampling: Sampling) -> None:
        """Allocate caches for this batch size and sampling, unless they are there."""
        self.check(sampling)
        rows = batch * self.copies(sampling)
        if not self._caches or self._caches[0].rows != rows:
            self._caches = []  # the old ones are freed first
            self._caches = self.network.allocate(rows)

    def caches(self, batch: int, sampling: Sampling) -> list[KVCache]:
        """Caches with at least the rows that a batch needs: those at hand if they do."""
        if not self._caches or self._caches[0].rows < batch * self.copies(sampling):
            self.prepare(batch, sampling)
        return self._caches

    def close(self) -> None:
        """Free weights and caches; closing twice is fine."""
        self._caches = []
        vars(self).pop("network", None)
