"""Memory of pictures that are decoded side by side: each asks for what it will take, known from its header, and waits.

The picture that the consumer waits for is never kept waiting, so one that is larger than the whole budget is decoded
alone, and nothing can stand still.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

from ...limits import IN_FLIGHT, max_bytes

Landed = TypeVar("Landed")


class Closed(Exception):
    """The stream has ended while a picture of it waited for memory; nobody will see this."""


class Budget:
    """Bytes taken by each picture in flight, by its number; numbers ascend in the order of the stream."""

    def __init__(self) -> None:
        self._limit = IN_FLIGHT * max_bytes()
        self._taken: dict[int, int] = {}
        self._awaited = -1
        self._closed = False
        self._changed = threading.Condition()

    def has_room(self) -> bool:
        """Whether another picture may be begun."""
        with self._changed:
            return sum(self._taken.values()) < self._limit

    def hold(self, number: int, size: int) -> None:
        """Bytes that are there already, such as those of a member of an archive."""
        with self._changed:
            self._taken[number] = size

    def decoding(self, number: int, work: Callable[[], Landed], size: Callable[[Landed], int]) -> Landed:
        """Runs `work` in this thread, where `reserve` takes from this budget; afterwards the result's size is taken."""
        _here.budget, _here.number = self, number
        try:
            result = work()
        except BaseException:
            self._set(number, 0)
            raise
        finally:
            _here.budget = None
        self._set(number, size(result))
        return result

    def landed(self, number: int, future: Future[Landed]) -> Landed:
        """The result of `number`, the first in flight; what it took is free again."""
        with self._changed:
            self._awaited = number
            self._changed.notify_all()
        try:
            return future.result()
        finally:
            with self._changed:
                self._taken.pop(number, None)
                self._changed.notify_all()

    def close(self) -> None:
        """Whoever waits is sent away."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def take(self, number: int, size: int) -> None:
        """Waits until `size` more bytes are free, or `number` is the picture that is waited for."""

        def may() -> bool:
            fits = sum(self._taken.values()) + size <= self._limit
            return fits or self._closed or number <= self._awaited

        with self._changed:
            self._changed.wait_for(may)
            if self._closed:
                raise Closed
            self._taken[number] = self._taken.get(number, 0) + size

    def _set(self, number: int, size: int) -> None:
        with self._changed:
            if number in self._taken or size:
                self._taken[number] = size
            self._changed.notify_all()


class _Here(threading.local):
    """The budget of the picture that this thread decodes."""

    budget: Budget | None = None
    number: int = 0


_here = _Here()


def reserve(size: int) -> None:
    """Called before `size` bytes are allocated for a picture: waits until the budget has them, if there is one."""
    if _here.budget is not None:
        _here.budget.take(_here.number, size)


class _Small(Budget):
    """Never waits: who asks for more than `bound` at once is refused."""

    def __init__(self, bound: int) -> None:
        super().__init__()
        self._bound = bound

    def take(self, number: int, size: int) -> None:
        if size > self._bound:
            raise MemoryError(f"{size} bytes; the bound is {self._bound}")


def only_small(bound: int) -> None:
    """From now on `reserve` raises MemoryError beyond `bound` in this thread: processes do not share a budget."""
    _here.budget = _Small(bound)
