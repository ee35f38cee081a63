"""Pictures in order from any reader, decoded ahead in threads or processes, bad ones skipped and counted or refused."""

from __future__ import annotations

import logging
import os
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Protocol, runtime_checkable

from ...errors import ImageError, counted
from ..stream import NOT_READ, OnBad, Picture, Tally
from . import processes
from .budget import Budget
from .decode import BadImage, Decoded
from .processes import DecodeProcesses
from .ready import Ready, Treat, make_ready

IN_FLIGHT = 128
"""Pictures decoded or being decoded before they are asked for: two of the usual batches."""
MOST = 16
"""Threads or processes that decode."""
EXAMPLES = 5
_log = logging.getLogger(__name__)
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
    def portable(self) -> bool:
        """Whether `decode` of its items can be pickled, and does the same in another process."""
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


class AheadStream:
    """The one `ImageStream`: pictures of `reader` in order. `tally` starts again with each iteration."""

    def __init__(
        self,
        reader: Reader,
        shard: Shard,
        on_bad: OnBad,
        workers: int | None = None,
        treat: Treat | None = None,
    ) -> None:
        """`treat` is done to each image where it has been decoded."""
        if on_bad not in ("error", "skip"):
            raise ValueError(f'on_bad is "error" or "skip", not {on_bad!r}')
        self._reader = reader
        self._shard = shard
        self._on_bad = on_bad
        self._workers = workers or threads()
        self._treat = treat
        self._in_processes = False
        self.tally = Tally()

    def decode_in_processes(self) -> None:
        """From the next iteration on, in as many processes as there were threads; the pictures are the same.

        Images that this process holds already (arrays, objects) stay with its threads, as all do where the system is
        not Linux.
        """
        self._in_processes = self._reader.portable and processes.possible()

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
        apart = self._apart()
        size = processes.CHUNK if apart else 1
        most = 3 * self._workers * size if apart else IN_FLIGHT  # one in hand, one waiting and one done for each
        budget = Budget()
        flying: deque[tuple[int, list[Item], Future[list[Ready | Exception]]]] = deque()
        stopped: Exception | None = None
        number = 0

        def fill(room: int) -> None:
            nonlocal stopped, number
            while stopped is None and len(flying) * size < room and (not flying or budget.has_room()):
                chunk: list[Item] = []
                try:
                    while len(chunk) < size:
                        chunk.append(next(items))
                except Exception as error:  # the end, or raised below, after the pictures before it
                    stopped = error
                if chunk:
                    budget.hold(number, sum(item.held for item in chunk))
                    work = partial(self._decoded, chunk, apart)
                    flying.append((number, chunk, pool.submit(budget.decoding, number, work, _size)))
                    number += 1

        try:
            fill(2 * self._workers * size)
            while flying:
                place, chunk, future = flying.popleft()
                results = budget.landed(place, future)
                fill(most)
                for item, result in zip(chunk, results, strict=True):
                    picture = self._landed(item, result)
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
            if apart is not None:
                apart.close()

    def _apart(self) -> DecodeProcesses | None:
        if not self._in_processes:
            return None
        try:
            return DecodeProcesses(self._workers)
        except OSError as error:
            _log.warning("images are decoded in threads, more slowly: no processes could be started (%s)", error)
            return None

    def _decoded(self, chunk: list[Item], apart: DecodeProcesses | None) -> list[Ready | Exception]:
        """The pictures of a chunk, or why they could not be decoded."""
        if apart is None:
            return [self._here(item) for item in chunk]
        decoded = apart.decode([item.decode for item in chunk], self._treat)
        return [ready or self._here(item) for ready, item in zip(decoded, chunk, strict=True)]

    def _here(self, item: Item) -> Ready | Exception:
        try:
            return make_ready(item.decode, self._treat)
        except Exception as error:  # raised where the picture is due
            return error

    def _landed(self, item: Item, result: Ready | Exception) -> Picture | None:
        if isinstance(result, Damaged):
            raise self._damaged(result) from result
        if isinstance(result, BadImage):
            if self._on_bad == "error":
                raise ImageError(
                    f"cannot use image {item.key} of {self.name}",
                    result.reason if result.detail == result.reason else f"{result.reason}: {result.detail}",
                    "repair or remove it, or leave bad images out with --on-bad-image skip",
                ) from result
            self.tally.skipped[result.reason] = self.tally.skipped.get(result.reason, 0) + 1
            if len(self.tally.examples) < EXAMPLES:
                self.tally.examples.append(f"{item.key}: {result.detail}")
            return None
        if isinstance(result, Exception):
            raise result
        for how in result.converted:
            self.tally.converted[how] = self.tally.converted.get(how, 0) + 1
        self.tally.read += 1
        return Picture(item.index, item.key, result.image, item.label, result.digest)

    def _damaged(self, error: Damaged) -> ImageError:
        return ImageError(f"{error} (after {counted(self.tally.read, 'image')})", "", AGAIN)


def _size(results: list[Ready | Exception]) -> int:
    return sum(each.image.nbytes for each in results if isinstance(each, Ready))


def damaged(what: str, error: BaseException) -> Damaged:
    text = str(error)
    return Damaged(f"{what} is damaged: {type(error).__name__}{': ' if text else ''}{text}")


def threads() -> int:
    """How many threads or processes decode: one for each core that this process may use, at most `MOST`."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(MOST, cores)
