"""Distances between sets of vectors, block by block: the passes that every nearest-neighbour metric shares.

A block is at most BLOCK x BLOCK distances; nothing of size n x n or n x m exists. Block limits depend on the number of
rows alone, so results do not depend on how the rows are stored. On the CPU, GEMM rounds the same pair of vectors the
same way wherever it stands in a block of these sizes (tested), so equal distances stay equal from pass to pass.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

from ...errors import InputError
from ..rows import Rows, blocks

Distance = Literal["float32", "cdist", "float64", "adm"]
"""How a distance is computed and rounded.

- float32: Euclidean; |x|^2 + |y|^2 - 2 x.y about a point near the reference's mean, in float32. Pairs so near that the
  difference would be rounding noise are subtracted first, so copies are at distance 0. The fastest and the default.
- cdist: Euclidean as torch-fidelity has it: `torch.cdist` in float32 about the origin, noise of near pairs included.
- float64: Euclidean, exact: float64 throughout, rounded to float32 where both sets are float32, as scikit-learn and so
  prdc and dgm-eval do.
- adm: squared Euclidean as in ADM's evaluator: float16, see `_adm`.
"""
BLOCK = 1536
"""Rows of a block at most: 9 MB of distances, which stay in the cache of a core's last level for the steps on them."""
LITERAL_BLOCK = 1250
"""The same for cdist and adm; it divides ADM_BLOCK."""
UNIT = 32
SMALLEST = 512
"""Blocks are filled up to a multiple of UNIT rows and to SMALLEST rows: GEMM rounds odd shapes in other ways."""
NEAR = {torch.float32: 1e-6, torch.float64: 1e-13}
"""Squared distances below this share of |x|^2 + |y|^2 keep too few digits and are computed by subtraction."""
FEW_NEAR = 20_000
HELD = 200 * 2**20
"""Bytes: of a set up to this size the blocks are kept from pass to pass; of a larger one none is."""
ADM_BLOCK = 10_000
"""Rows and columns of the blocks in ADM's evaluator: one value that is not finite makes all of its block float32."""


@dataclass(frozen=True, slots=True)
class Block:
    """Rows start .. start + count of a set, (b, D) with b >= count; rows past count are 0. `norms` (b,) are squared.

    For cdist `right` (b, D + 2) has 1 and the norm behind each row, so that one product gives a squared distance.
    """

    start: int
    count: int
    vectors: Tensor
    norms: Tensor
    right: Tensor | None = None

    @property
    def rows(self) -> slice:
        return slice(self.start, self.start + self.count)


class Points:
    """Rows as blocks on a device, in the arithmetic of a `Distance`. Of a large set no block is kept."""

    def __init__(self, rows: Rows, distance: Distance, device: str, centre: np.ndarray | None = None) -> None:
        if distance not in get_args(Distance):
            raise InputError(f"no distance is called {distance!r}", f"there are {', '.join(get_args(Distance))}")
        self.rows, self.distance, self.device = rows, distance, torch.device(device)
        self.narrow = np.asarray(rows[:1]).dtype.itemsize <= 4
        self.dtype = torch.float64 if distance == "float64" else torch.float32
        self.centre = centre
        self._norms: dict[int, Tensor] = {}
        self._held: dict[int, Block] = {}
        self._keeps = len(rows) * rows.shape[1] * (8 if distance == "float64" else 4) <= HELD
        self.overflowing: dict[tuple[int, int, int], bool] = {}
        self.size = LITERAL_BLOCK if distance in ("cdist", "adm") else _block_size(len(rows))

    def __len__(self) -> int:
        return len(self.rows)

    def starts(self) -> range:
        return range(0, len(self.rows), self.size)

    def block(self, start: int) -> Block:
        if start in self._held:
            return self._held[start]
        block = self._read(start)
        if self._keeps:
            self._held[start] = block
        return block

    def _read(self, start: int) -> Block:
        read = np.asarray(self.rows[start : start + self.size])
        count = len(read)
        vectors = torch.tensor(read).to(self.device, self.dtype)
        if self.distance == "adm":
            vectors = vectors.half().float()
        elif self.distance != "cdist":
            if self.centre is not None:
                vectors -= torch.from_numpy(self.centre).to(vectors)
            filled = max(SMALLEST, -(-count // UNIT) * UNIT)
            if filled > count:
                vectors = torch.nn.functional.pad(vectors, (0, 0, 0, filled - count))
        if start not in self._norms:
            self._norms[start] = self._squared(vectors)
        if self.distance == "cdist":
            right = torch.cat([vectors, torch.ones_like(vectors[:, :1]), self._norms[start][:, None]], 1)
            return Block(start, count, right[:, :-2], self._norms[start], right)
        return Block(start, count, vectors, self._norms[start])

    def _squared(self, vectors: Tensor) -> Tensor:
        if self.distance == "adm":
            return _norms_in_halves(vectors.half())
        if self.distance == "cdist":
            return vectors.pow(2).sum(1)
        return vectors.square().sum(1, dtype=torch.float64).to(self.dtype)

    def finite(self) -> bool:
        """No NaN, no infinity, and no vectors too long for their squares to be numbers."""
        for start in range(0, len(self.rows), BLOCK):
            read = torch.tensor(np.asarray(self.rows[start : start + BLOCK])).to(self.dtype)
            if not bool(read.square().sum().isfinite()):
                return False
        return True


def centre_of(rows: Rows) -> np.ndarray:
    """(D,) float64: the point that float32 distances are computed about, near the mean.

    A multiple of a power of two no larger than the rows' spread, so that moving the rows there rounds as little as it
    can: rows of whole numbers stay whole numbers, and their equal distances stay equal.
    """
    total, square, n = np.zeros(rows.shape[1]), 0.0, max(1, len(rows))
    for block in blocks(rows):
        total += block.sum(0)
        square += float((block**2).sum())
    mean = total / n
    variance = square / n / len(mean) - float((mean**2).mean())
    if not variance > 0:
        return mean
    step = 2.0 ** math.floor(math.log2(variance) / 2)
    return np.asarray(np.round(mean / step) * step)


@dataclass(frozen=True, slots=True)
class Nearest:
    """The nearest rows of the same set, (n, K), by increasing distance; a row itself is among them."""

    distances: Tensor
    ids: Tensor


def nearest_within(points: Points, count: int) -> Nearest:
    """The `count` smallest distances of every row to the rows of its own set, itself included.

    float32 and float64 compute half of the blocks and read each one by rows and by columns; cdist and adm round d(i, j)
    and d(j, i) differently, as their tools do, and compute all.
    """
    n = len(points)
    count = min(count, n)
    kind = torch.float64 if points.distance == "float64" and not points.narrow else torch.float32
    best = Nearest(
        torch.full((n, count), math.inf, dtype=kind, device=points.device),
        torch.zeros((n, count), dtype=torch.int64, device=points.device),
    )
    halved = points.distance in ("float32", "float64")
    with exact_products():
        for i in points.starts():
            a = points.block(i)
            left = _left(points, a)
            for j in points.starts():
                if halved and j < i:
                    continue
                b = a if i == j else points.block(j)
                distances = between(points, a, points, b, same=i == j, left_side=left)
                _keep(best, a, b, distances)
                if halved and j > i:
                    _keep(best, b, a, distances.T.contiguous())
    return best


def across(a: Points, b: Points) -> Iterator[tuple[Block, Block, Tensor]]:
    """Every block of a with every block of b, and the distances (rows of a, rows of b)."""
    with exact_products():
        for i in a.starts():
            first = a.block(i)
            left = _left(a, first)
            for j in b.starts():
                second = b.block(j)
                yield first, second, between(a, first, b, second, left_side=left)


@contextmanager
def exact_products() -> Iterator[None]:
    """No TF32 and no bfloat16 inside float32 products, whatever the program has set."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def _left(points: Points, block: Block) -> Tensor | None:
    """(b, D + 2): what a block's `right` is multiplied by for cdist, -2 x, |x|^2 and 1; once for a row of blocks."""
    if points.distance != "cdist":
        return None
    return torch.cat([block.vectors * -2, block.norms[:, None], torch.ones_like(block.norms[:, None])], 1)


def between(
    left: Points, a: Block, right: Points, b: Block, same: bool = False, left_side: Tensor | None = None
) -> Tensor:
    """Distances (a.count, b.count) between two blocks; `same` where both are one block of one set.

    `left_side`: `_left` of a, if it is at hand.
    """
    if left.distance == "cdist":
        if max(len(left), len(right)) <= 25:  # cdist subtracts where both sets are this small
            return torch.cdist(a.vectors, b.vectors, compute_mode="donot_use_mm_for_euclid_dist")
        side = _left(left, a) if left_side is None else left_side
        assert side is not None
        assert b.right is not None
        return (side @ b.right.T).clamp_min_(0).sqrt_()  # as torch.cdist does, without its copies for each pair
    if left.distance == "adm":
        return _adm(left, a, right, b)
    squares = _squares(a, b, same)
    if left.narrow and right.narrow:
        squares = squares.float()
    distances = squares.clamp_min_(0).sqrt_()
    return distances.fill_diagonal_(0) if same else distances


def _block_size(n: int) -> int:
    """Rows a block so that all blocks of a set are about as long, at most BLOCK, a multiple of UNIT where it can be."""
    share = -(-n // max(1, -(-n // BLOCK)))
    return max(SMALLEST, min(BLOCK, -(-share // UNIT) * UNIT))


def _squares(a: Block, b: Block, same: bool) -> Tensor:
    products = a.vectors @ b.vectors.T
    squares = (a.norms[:, None] + b.norms).sub_(products, alpha=2)[: a.count, : b.count].contiguous()
    if same:
        squares.fill_diagonal_(math.inf)  # known to be 0; not worth a subtraction
    norms_a, norms_b = a.norms[: a.count], b.norms[: b.count]
    near = NEAR[squares.dtype]
    if float(squares.min()) >= near * float(norms_a.max() + norms_b.max()):
        return squares
    pairs = (squares < near * (norms_a[:, None] + norms_b)).nonzero()
    if len(pairs) > FEW_NEAR:
        return _squares_of_copies(a, b)
    for first in range(0, len(pairs), 2048):
        i, j = pairs[first : first + 2048].unbind(1)
        squares[i, j] = (a.vectors[i] - b.vectors[j]).square().sum(1)
    return squares


def _squares_of_copies(a: Block, b: Block) -> Tensor:
    """Squared distances of blocks full of copies (collapsed samples): float64 about their own mean; copies are at 0."""
    x, y = a.vectors[: a.count].double(), b.vectors[: b.count].double()
    origin = x.mean(0)
    x, y = x - origin, y - origin
    squares = (x.square().sum(1)[:, None] + y.square().sum(1)).sub_(x @ y.T, alpha=2)
    # float32 vectors that differ at all differ by more than this
    floor = 1e-15 * (a.norms[: a.count].double()[:, None] + b.norms[: b.count].double())
    return squares.masked_fill_(squares < floor, 0).to(a.vectors.dtype)


def _adm(left: Points, a: Block, right: Points, b: Block) -> Tensor:
    """Squared distances as ADM's evaluator computes them on a CPU, as float32.

    Inputs float16; products accumulated in float32 and rounded once; then (|x|^2 - 2 x.y) + |y|^2, each step rounded to
    float16, at least 0. A block of ADM_BLOCK x ADM_BLOCK with a value that is not finite is computed again in float32.
    GPUs and other builds of TensorFlow add in another order: precision and recall may differ by 0.005.
    """
    if _overflows(left, a.start, right, b.start):
        x, y = (_wide(points, block) for points, block in ((left, a), (right, b)))
        squares = (x.square().sum(1)[:, None] - 2 * (x @ y.T)) + y.square().sum(1)
        return squares.clamp_min_(0)
    return _halves(a, b).clamp_min_(0).float()


def _norms_in_halves(halves: Tensor) -> Tensor:
    """Squared norms (n, D) -> (n,) as TensorFlow (Eigen) adds float16 on x86: squares and partial sums are float16."""
    return _sum_of_halves(halves * halves).float()


def _sum_of_halves(values: Tensor) -> Tensor:
    """Sums over rows (n, D) of float16, to the bit (compared with TensorFlow 2.21 at D = 64, 1003 and 2048).

    A row of more than 1600 values is cut in two. Four accumulators of eight lanes take turns and are added in order,
    then the rest of the row in eights; the lanes are added in float32, and last come the values that fill no eight.
    """
    n, length = values.shape
    if length > 1600:
        middle = 8 * ((length + 15) // 16)
        return _sum_of_halves(values[:, :middle]) + _sum_of_halves(values[:, middle:])
    turns = length // 32
    sums = torch.zeros((n, 4, 8), dtype=torch.float16, device=values.device)
    for turn in values[:, : 32 * turns].reshape(n, turns, 4, 8).unbind(1):
        sums += turn
    lanes = ((sums[:, 0] + sums[:, 1]) + sums[:, 2]) + sums[:, 3]
    for eight in range(32 * turns, length - 7, 8):
        lanes += values[:, eight : eight + 8]
    rest = torch.zeros(n, dtype=torch.float16, device=values.device)
    for column in range(length - length % 8, length):
        rest += values[:, column]
    return rest + lanes.float().sum(1).half()


def _halves(a: Block, b: Block) -> Tensor:
    products = (a.vectors @ b.vectors.T).half()
    return (a.norms.half()[:, None] - products.mul_(2)).add_(b.norms.half())


def _wide(points: Points, block: Block) -> Tensor:
    return torch.tensor(np.asarray(points.rows[block.rows])).to(points.device, torch.float32)


def _overflows(left: Points, i: int, right: Points, j: int) -> bool:
    """Whether ADM's block that holds this one has a value that is not finite."""
    key = (i // ADM_BLOCK, j // ADM_BLOCK, id(right))
    known = left.overflowing
    if key not in known:
        starts = [[s for s in p.starts() if s // ADM_BLOCK == k // ADM_BLOCK] for p, k in ((left, i), (right, j))]
        longest = [
            max(float(p.block(s).norms.max()) for s in part) for p, part in zip((left, right), starts, strict=True)
        ]
        # no step can leave float16 while (|x| + |y|)^2 stays inside; only then is a look at every value needed
        safe = (math.sqrt(longest[0]) + math.sqrt(longest[1])) ** 2 < 0.99 * torch.finfo(torch.float16).max
        known[key] = not safe and any(
            not bool(_halves(left.block(s), right.block(t)).isfinite().all()) for s in starts[0] for t in starts[1]
        )
    return known[key]


def _keep(best: Nearest, rows: Block, columns: Block, distances: Tensor) -> None:
    """Merge the smallest of a block into the smallest so far."""
    count = best.distances.shape[1]
    small, where = smallest(distances, min(count, columns.count))
    values = torch.cat([best.distances[rows.rows], small], 1)
    ids = torch.cat([best.ids[rows.rows], where + columns.start], 1)
    best.distances[rows.rows], order = values.topk(count, dim=1, largest=False)
    best.ids[rows.rows] = ids.gather(1, order)


def smallest(distances: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The `count` smallest of each row, increasing, and their columns.

    The columns are dealt to groups of 16; the `count` smallest values lie in the `count` groups with the smallest
    minima, and minima over groups are much cheaper than a selection from the whole row.
    """
    deep = 16
    groups = distances.shape[1] // deep
    if groups <= 2 * count:
        small = distances.topk(count, dim=1, largest=False)
        return small.values, small.indices
    minima = distances[:, : deep * groups].reshape(-1, deep, groups).amin(1)  # (n, groups)
    chosen = minima.topk(count, dim=1, largest=False, sorted=False).indices
    steps = torch.arange(deep, device=distances.device) * groups
    columns = (chosen[:, :, None] + steps).flatten(1)
    rest = torch.arange(deep * groups, distances.shape[1], device=distances.device)
    columns = torch.cat([columns, rest.expand(len(columns), -1)], 1)
    values, order = distances.gather(1, columns).topk(count, dim=1, largest=False)
    return values, columns.gather(1, order)


def least(distances: Tensor) -> tuple[Tensor, Tensor]:
    """The smallest of each column and its row: by groups of rows first, since a search for an index is slow."""
    deep = 32
    groups = len(distances) // deep
    rest = torch.arange(deep * groups, len(distances), device=distances.device)[:, None]
    rows = rest.expand(-1, distances.shape[1])
    if groups:
        chosen = distances[: deep * groups].reshape(groups, deep, -1).amin(1).argmin(0)
        rows = torch.cat([chosen * deep + torch.arange(deep, device=distances.device)[:, None], rows])
    values, order = distances.gather(0, rows).min(0)
    return values, rows.gather(0, order[None])[0]
