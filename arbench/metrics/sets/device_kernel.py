"""Sums of kernels over all pairs by torch on a device: what `kernel.HostSums` gives, to the rounding of products."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..rows import Rows
from .kernel import CMMD_SIGMA, KINDS, ON_HOST, AllSums, Kind, PairSums, Sums, part_of
from .neighbour_passes import exact_products

BLOCK = 2048
"""Rows and columns of the part of a kernel matrix that is on the device at a time: 32 MB in float64."""
HELD = 512 * 2**20
"""Bytes of a set that stays on the device while it is summed; of a larger one, blocks are copied as they come."""


def device_sums(device: str) -> DeviceSums | None:
    """None on a CPU, where NumPy has the tools' own digits."""
    where = torch.device(device)
    return None if where.type == "cpu" else DeviceSums(where)


def pair_sums(device: str) -> PairSums:
    """By NumPy on a CPU, else by torch on the device."""
    return device_sums(device) or ON_HOST


@dataclass(frozen=True, slots=True)
class DeviceSums:
    """`PairSums` by torch on any device: kernels in the precision of the rows, no TF32, sums in float64."""

    device: torch.device

    def within(self, rows: Rows, kind: Kind) -> Sums:
        return _within(_Blocks(rows, kind, self.device), kind)

    def across(self, one: Rows, two: Rows, kind: Kind) -> Sums:
        return _across(_Blocks(one, kind, self.device), _Blocks(two, kind, self.device), kind)

    def subsets(
        self, one: Rows, two: Rows, chosen: Iterator[tuple[NDArray[Any], NDArray[Any]]], double: bool
    ) -> Iterator[AllSums]:
        """Of KID's kernel, for each pair of the numbers of rows of `one` and of `two`; in float64 if `double`."""
        first, second = (_Choice(rows, self.device, torch.float64 if double else torch.float32) for rows in (one, two))
        for i, j in chosen:
            x, y = first.taken(i), second.taken(j)
            yield AllSums(_within(x, "polynomial"), _within(y, "polynomial"), _across(x, y, "polynomial"))


class _Blocks:
    """Rows on a device, a block at a time; all of them are kept there if they are few."""

    def __init__(self, rows: Rows, kind: Kind, device: torch.device) -> None:
        self._rows, self._unit, self._device = rows, KINDS[kind][1], device
        self._held: dict[int, Tensor] = {}
        self._keeps = _fits(rows)

    def __len__(self) -> int:
        return len(self._rows)

    def block(self, start: int) -> Tensor:
        """(b, D) from row `start` on."""
        if start in self._held:
            return self._held[start]
        found = torch.tensor(part_of(self._rows, start, BLOCK, self._unit), device=self._device)
        if self._keeps:
            self._held[start] = found
        return found


class _Taken:
    """The same of rows that are on the device already."""

    def __init__(self, rows: Tensor) -> None:
        self._rows = rows

    def __len__(self) -> int:
        return len(self._rows)

    def block(self, start: int) -> Tensor:
        return self._rows[start : start + BLOCK]


class _Choice:
    """Rows to be chosen from again and again: on the device if they fit, else from where they are."""

    def __init__(self, rows: Rows, device: torch.device, dtype: torch.dtype) -> None:
        self._rows, self._device, self._dtype = rows, device, dtype
        self._held = torch.tensor(np.asarray(rows[0 : len(rows)]), device=device) if _fits(rows) else None

    def taken(self, chosen: NDArray[Any]) -> _Taken:
        if self._held is not None:
            found = self._held[torch.from_numpy(chosen).to(self._device)]
        else:
            found = torch.tensor(np.asarray(self._rows[chosen]), device=self._device)
        return _Taken(found.to(self._dtype))


def _fits(rows: Rows) -> bool:
    return len(rows) * rows.shape[1] * np.asarray(rows[:1]).dtype.itemsize <= HELD


def _within(rows: _Blocks | _Taken, kind: Kind) -> Sums:
    n = len(rows)
    first = rows.block(0)
    sums = torch.zeros(n, dtype=torch.float64, device=first.device)
    squares, diagonal = sums.new_zeros(()), sums.new_zeros(())
    for start in range(0, n, BLOCK):
        outer = rows.block(start)
        for begin in range(start, n, BLOCK):
            part = _kernel(outer, outer if begin == start else rows.block(begin), kind)
            if begin == start:
                diagonal += part.diagonal().sum()
                part.fill_diagonal_(0)
                squares += part.square().sum()
            else:
                sums[begin : begin + BLOCK] += part.sum(0)
                squares += 2 * part.square().sum()
            sums[start : start + BLOCK] += part.sum(1)
    found = sums.cpu().numpy()
    return Sums(found, found, float(squares), float(diagonal))


def _across(one: _Blocks | _Taken, two: _Blocks | _Taken, kind: Kind) -> Sums:
    rows = torch.zeros(len(one), dtype=torch.float64, device=one.block(0).device)
    columns, squares = rows.new_zeros(len(two)), rows.new_zeros(())
    for start in range(0, len(one), BLOCK):
        outer = one.block(start)
        for begin in range(0, len(two), BLOCK):
            part = _kernel(outer, two.block(begin), kind)
            rows[start : start + BLOCK] += part.sum(1)
            columns[begin : begin + BLOCK] += part.sum(0)
            squares += part.square().sum()
    return Sums(rows.cpu().numpy(), columns.cpu().numpy(), float(squares))


def _kernel(a: Tensor, b: Tensor, kind: Kind) -> Tensor:
    """As float64, (a, b), by the steps of the host's kernels: less a constant that cancels in every distance."""
    with exact_products():
        products = a @ b.T
    if kind == "gaussian":
        return products.sub_(1).div_(CMMD_SIGMA**2).expm1_().double()
    base = products.div_(a.shape[1])
    return (base + 3).mul_(base).add_(3).mul_(base).double()
