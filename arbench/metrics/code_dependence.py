"""How token ids depend on their position and on each other. No torch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Ids = NDArray[Any]


def entropy(ids: Ids) -> float:
    """Plug-in entropy of the histogram, in bits; biased low where codes outnumber ids."""
    _, counts = np.unique(ids, return_counts=True)
    share = counts / counts.sum()
    return float(-(share * np.log2(share)).sum())


def entropies_by_position(ids: Ids) -> NDArray[np.float64]:
    """(T,) bits of the codes that the images (N, T) show at each position; at most log2 N."""
    return np.array([entropy(column) for column in ids.T])


def mutual_information(one: Ids, other: Ids) -> float:
    """Bits that a code tells of another code of the same image more than of that code in the next image.

    `one` and `other` (N, M) are pairs of ids at M places of N images, N above 1. The plug-in mutual information of few
    pairs is far too high, and so is that of pairs across images, which share nothing but their places: the difference
    of the two is what is in the image. It is a difference of joint entropies, as single codes have the same ones.
    """
    x, y = (np.unique(each, return_inverse=True)[1].reshape(each.shape).astype(np.int64) for each in (one, other))
    codes = int(y.max()) + 1
    return entropy(x * codes + np.roll(y, 1, axis=0)) - entropy(x * codes + y)


def pairs(ids: Ids, shape: Sequence[int]) -> Iterator[tuple[int, Ids, Ids]]:
    """(distance, ids, ids that far away) of maps (N, h w) along rows and columns, or of (N, T) sequences along T.

    Distances are 1, 2, 4, ... below the side.
    """
    maps = ids.reshape(len(ids), *shape)
    distance = 1
    while distance < max(shape):
        near, far = [], []
        for axis, side in enumerate(shape, start=1):
            if distance < side:
                near.append(np.take(maps, range(side - distance), axis).reshape(len(ids), -1))
                far.append(np.take(maps, range(distance, side), axis).reshape(len(ids), -1))
        yield distance, np.concatenate(near, axis=1), np.concatenate(far, axis=1)
        distance *= 2
