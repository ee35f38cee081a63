"""Pictures in order from any reader, decoded ahead in threads, bad ones skipped and counted or refused."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from ...errors import ImageError, counted
from ...images import digest
from ..stream import NOT_READ, OnBad, Picture, Tally
from .budget import Budget
from .decode import BadImage, Decoded

IN_FLIGHT = 128
"""Pictures decoded or being decoded before they are asked for: two of the usual batches."""
MOST = 16
"""Threads that decode."""
EXAMPLES = 5
AGAIN = "create or copy the file again"
"""The next step for a damaged file."""


class Damaged(Exception):
    """An archive or table (not one picture of it) cannot be read on; the text says which and why."""


@dataclass(frozen=True, slots=True)
class Shard:
    """Which places of the source are wanted: index % of == place, and start <= index < limit."""

    place: int = 0
    of: int = 1
    limit: int | None = None
    start: int = 0

    def __post_init__(self) -> None:
        if self.of < 1 or not 0 <= self.place < self.of:
            raise ValueError(f"shard ({self.place}, {self.of}): the first must be in 0..n-1")
        if self.limit is not None and self.limit < 0:
            raise ValueError(f"limit {self.limit} is negative")
        if self.start < 0:
            raise ValueError(f"start {self.start} is negative")

    @property
    def whole(self) -> bool:
        return self.of == 1 and self.limit is None and not self.start

    def wants(self, index: int) -> bool:
        return index >= self.start and index % self.of == self.place and not self.past(index)

    def past(self, index: int) -> bool:
        """No picture from `index` on is wanted."""
        return self.limit is not None and index >= self.limit

    def indices(self, count: int, first: int = 0) -> range:
        """The wanted places from `first` to `count`."""
        first = max(first, self.start)
        end = count if self.limit is None else min(count, self.limit)
        return range(first + (self.place - first) % self.of, end, self.of)


@dataclass(frozen=True, slots=True)
class Item:
    """One picture not yet decoded; `decode` runs in a thread and raises `BadImage` or `Damaged`."""

    index: int
    key: str
    decode: Callable[[], Decoded]
    label: int | None = None
    held: int = 0
    """Bytes that it has in memory already."""


@dataclass(frozen=True, slots=True)
class Header:
    """What is known of one picture without decoding it."""

    key: str
    label: int | None = None
    size: tuple[int, int] | None = None
    """Height and width; None if that takes decoding, or if it is bad."""
    bad: str = ""
    """Why it cannot be read, as far as its header shows that."""


class Reader(Protocol):
    """Finds the pictures of one source; `items` runs in the consumer's thread, a little ahead of it."""

    @property
    def name(self) -> str: ...

    @property
    def count(self) -> int | None: ...

    @property
    def classes(self) -> Mapping[int, str]:
        """Label -> name, in the order of the labels; empty for a source without names."""
        ...

    @property
    def passed_over(self) -> Mapping[str, int]:
        """Suffix -> count of files beside the images that may be images too; known once `items` has ended."""
        ...

    def items(self, shard: Shard) -> Iterator[Item]: ...


@runtime_checkable
class IndexedReader(Reader, Protocol):
    """A reader whose pictures stay what they are, and can be read again from any place."""

    @property
    def seeks(self) -> bool:
        """Whether `items` begins at any `start` at once; else what lies before is read and passed over."""
        ...

    def headers(self, limit: int | None) -> Iterator[Header]:
        """Of every picture below `limit`, in order. Raises `ImageError` if they are not a set with one label each."""
        ...


@dataclass(frozen=True, slots=True)
class _Ready:
    image: NDArray[np.uint8]
    converted: tuple[str, ...]
    digest: str


class AheadStream:
    """The one `ImageStream`: pictures of `reader` in order. `tally` starts again with each iteration."""

    def __init__(
        self,
        reader: Reader,
        shard: Shard,
        on_bad: OnBad,
        workers: int | None = None,
        treat: Callable[[NDArray[np.uint8]], NDArray[np.uint8]] | None = None,
    ) -> None:
        """`treat` is done to each image in the thread that has decoded it."""
        if on_bad not in ("error", "skip"):
            raise ValueError(f'on_bad is "error" or "skip", not {on_bad!r}')
        self._reader = reader
        self._shard = shard
        self._on_bad = on_bad
        self._workers = workers or threads()
        self._treat = treat
        self.tally = Tally()

    @property
    def name(self) -> str:
        return self._reader.name

    @property
    def classes(self) -> Mapping[int, str]:
        """Label -> name, where the source has names (folders), else empty."""
        return self._reader.classes

    @property
    def count(self) -> int | None:
        total = self._reader.count
        return None if total is None else len(self._shard.indices(total))

    def __iter__(self) -> Iterator[Picture]:
        self.tally.read = 0
        for kept in (self.tally.skipped, self.tally.converted, self.tally.examples):
            kept.clear()
        items = self._reader.items(self._shard)
        pool = ThreadPoolExecutor(self._workers, thread_name_prefix="decode")
        budget = Budget()
        flying: deque[tuple[int, Item, Future[_Ready]]] = deque()
        stopped: Exception | None = None
        number = 0

        def fill(room: int) -> None:
            nonlocal stopped, number
            while stopped is None and len(flying) < room and (not flying or budget.has_room()):
                try:
                    item = next(items)
                except Exception as error:  # the end, or raised below, after the pictures before it
                    stopped = error
                else:
                    budget.hold(number, item.held)
                    flying.append(
                        (number, item, pool.submit(budget.decoding, number, partial(self._ready, item), _size))
                    )
                    number += 1

        try:
            fill(2 * self._workers)
            while flying:
                place, item, future = flying.popleft()
                picture = self._landed(item, partial(budget.landed, place, future))
                fill(IN_FLIGHT)
                if picture is not None:
                    yield picture
            if self._shard.place == 0:  # of several shards one tells
                for suffix, count in self._reader.passed_over.items():
                    self.tally.skipped[suffix + NOT_READ] = count
            if isinstance(stopped, Damaged):
                raise self._damaged(stopped) from stopped
            if stopped is not None and not isinstance(stopped, StopIteration):
                raise stopped
        finally:
            budget.close()
            pool.shutdown(wait=True, cancel_futures=True)

    def _ready(self, item: Item) -> _Ready:
        """All that can be done to a picture apart from the others."""
        decoded = item.decode()
        image = decoded.image if self._treat is None else self._treat(decoded.image)
        return _Ready(image, decoded.converted, digest(image))

    def _landed(self, item: Item, result: Callable[[], _Ready]) -> Picture | None:
        try:
            ready = result()
        except Damaged as error:
            raise self._damaged(error) from error
        except BadImage as error:
            if self._on_bad == "error":
                raise ImageError(
                    f"cannot use image {item.key} of {self.name}",
                    error.reason if error.detail == error.reason else f"{error.reason}: {error.detail}",
                    "repair or remove it, or leave bad images out with --on-bad-image skip",
                ) from error
            self.tally.skipped[error.reason] = self.tally.skipped.get(error.reason, 0) + 1
            if len(self.tally.examples) < EXAMPLES:
                self.tally.examples.append(f"{item.key}: {error.detail}")
            return None
        for how in ready.converted:
            self.tally.converted[how] = self.tally.converted.get(how, 0) + 1
        self.tally.read += 1
        return Picture(item.index, item.key, ready.image, item.label, ready.digest)

    def _damaged(self, error: Damaged) -> ImageError:
        return ImageError(f"{error} (after {counted(self.tally.read, 'image')})", "", AGAIN)


def _size(ready: _Ready) -> int:
    return ready.image.nbytes


def damaged(what: str, error: BaseException) -> Damaged:
    text = str(error)
    return Damaged(f"{what} is damaged: {type(error).__name__}{': ' if text else ''}{text}")


def threads() -> int:
    """How many threads decode: one for each core that this process may use, at most `MOST`.

    Threads, not processes: Pillow, NumPy's copies and blake2b let other threads run. Of the 1.65 ms of a core that a
    PNG of 256 x 256 takes, 0.13 ms hold the interpreter (0.09 of 0.41 ms for a JPEG): a dozen threads decode side by
    side, and nothing is carried from process to process.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(MOST, cores)
