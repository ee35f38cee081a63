"""What generators share around their networks: whether a tokenizer fits, labels, recorded calls, caches."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, TypeVar

import torch
from torch import Tensor

from arbench.errors import InputError, UsageError
from arbench.protocols import (
    NO_PROBE,
    Card,
    Generated,
    LoadSpec,
    Noise,
    Probe,
    Recorded,
    Request,
    Sampling,
    Tokenizer,
)

from .attention import KVCache
from .graph import Recorder
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


# ---- the network, its recorded calls and its caches ------------------------------------------------------------------


class RecordedGenerator(ABC):
    """A card, a network and a tokenizer, and the calls of `draw` that are recorded as CUDA graphs.

    `spec` is what the network was loaded by; without one nothing is recorded.
    """

    def __init__(self, card: Card, network: Any, tokenizer: Any, spec: LoadSpec | None = None) -> None:
        self.card = card
        self.tokenizer = tokenizer
        self.network = network
        self.calls = Recorder(spec or LoadSpec(graph="off"))

    def check(self, sampling: Sampling) -> None:
        """Raise `Unsupported` or UsageError for settings that this generator would have to ignore or cannot take."""
        check_supported(self.card, sampling)

    @torch.inference_mode()
    def sample(self, request: Request, sampling: Sampling, *, probe: Probe = NO_PROBE) -> Generated:
        """`draw` of what `given` makes of the request: by default for models of classes."""
        self.check(sampling)
        return self.calls(self.draw, request.noise, sampling, probe, *self.given(request, sampling))

    def given(self, request: Request, sampling: Sampling) -> tuple[Tensor | None, ...]:
        """Inputs of `draw`, on the device: by default labels."""
        return (class_labels(self.card, request),)

    @abstractmethod
    def draw(self, noise: Noise, sampling: Sampling, probe: Probe, *inputs: Any) -> Generated:
        """A whole call on tensors of the device, which reads nothing back; see `Recorder`."""

    def example(self, batch: int, sampling: Sampling) -> tuple[Tensor | None, ...]:
        """Inputs of `draw` for so many samples: by default labels."""
        return (torch.zeros(batch, dtype=torch.int64, device=self.calls.device),)

    def prepare(self, batch: int, sampling: Sampling) -> None:
        """Record the call for this batch size and sampling where calls are recorded."""
        self.check(sampling)
        self.calls.prepare(self.draw, batch, sampling, *self.example(batch, sampling))

    def recorded(self, batch: int, sampling: Sampling) -> Recorded:
        return self.calls.recorded(batch, sampling)

    def reads_back(self, batch: int, sampling: Sampling) -> str:
        """What keeps a call from being recorded, and where; "" if nothing does. Runs one call, on any device."""
        self.check(sampling)
        return self.calls.reads_back(self.draw, batch, sampling, *self.example(batch, sampling))

    def close(self) -> None:
        """Free weights and recordings; closing twice is fine."""
        self.calls.close()
        vars(self).pop("network", None)


class CachedGenerator(RecordedGenerator):
    """A generator whose network has `allocate(rows)`, the caches being kept from batch to batch."""

    def __init__(self, card: Card, network: Any, tokenizer: Any, spec: LoadSpec | None = None) -> None:
        super().__init__(card, network, tokenizer, spec)
        self._caches: list[KVCache] = []

    def copies(self, sampling: Sampling) -> int:
        """Of the batch in one pass: conditional, and with guidance unconditional."""
        return 2 if sampling.guidance.on else 1

    def prepare(self, batch: int, sampling: Sampling) -> None:
        """Record the call, or allocate its caches, for this batch size and sampling, unless they are there."""
        if self.calls.on:
            self._caches = []  # recorded calls have their own; those of the old ones are freed first
        super().prepare(batch, sampling)
        if not self.recorded(batch, sampling).replayed:
            self._allocate(batch * self.copies(sampling))

    def caches(self, batch: int, sampling: Sampling) -> list[KVCache]:
        """Caches with at least the rows that a batch needs: those at hand if they do, new ones for a recorded call."""
        rows = batch * self.copies(sampling)
        if self.calls.recording:
            made: list[KVCache] = self.network.allocate(rows)
            return made
        if not self._caches or self._caches[0].rows < rows:
            self._allocate(rows)
        return self._caches

    def close(self) -> None:
        """Free weights, recordings and caches; closing twice is fine."""
        self._caches = []
        super().close()

    def _allocate(self, rows: int) -> None:
        if not self._caches or self._caches[0].rows != rows:
            self._caches = []  # the old ones are freed first
            self._caches = self.network.allocate(rows)
