"""How many CPU threads compute: for samples a fixed number, on which their tokens depend in rare cases."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

SAMPLING_THREADS = 1
"""Threads that sample, encode and decode. Two of them sum a matrix product in another order, its last bit differs, and
a draw that falls on the boundary between two tokens goes the other way: so it was with 1 of 64 samples of a mini."""


def use_threads(count: int) -> None:
    """From here on torch, NumPy and SciPy compute with `count` threads, at least 1."""
    import torch
    from threadpoolctl import threadpool_limits

    torch.set_num_threads(count)
    threadpool_limits(count)


@contextmanager
def threads(count: int | None) -> Iterator[None]:
    """As `use_threads`, for a block; None leaves all as it is."""
    if count is None:
        yield
        return
    import torch
    from threadpoolctl import threadpool_limits

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        with threadpool_limits(count):
            yield
    finally:
        torch.set_num_threads(before)
