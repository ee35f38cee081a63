"""The digits that the minis learn: MNIST-5k, shifted a little for training, as they are for measuring."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from arbench.data.readers.mnist import mnist5k
from arbench.images import to_float

SHIFT = 2
"""Largest shift in pixels of a training digit, each way; the digits stay inside the picture."""
PICTURES = "MNIST-5k training split (4000 digits, 32 x 32), shifted by up to 2 pixels"


def mnist_batches(
    batch: int, seed: int, device: torch.device, *, flat: bool = False
) -> Callable[[int], tuple[Tensor, Tensor]]:
    """step -> (images (B, 3, 32, 32) in [0, 1], labels (B,)) of MNIST-5k's training split, each digit once an epoch.

    Digits are shifted by up to `SHIFT` pixels each way, unless `flat`.
    """
    source = mnist5k("train")
    everything = source.load(range(len(source)))
    labels = source.labels
    assert labels is not None
    padded = np.pad(everything, ((0, 0), (0, 0), (SHIFT, SHIFT), (SHIFT, SHIFT)))
    side, per_epoch = everything.shape[-1], len(source) // batch

    def load(step: int) -> tuple[Tensor, Tensor]:
        epoch, position = divmod(step, per_epoch)
        order = np.random.default_rng([seed, epoch]).permutation(len(source))
        chosen = order[position * batch : (position + 1) * batch]
        shifts = np.random.default_rng([seed, epoch, position]).integers(0, 2 * SHIFT + 1, size=(batch, 2))
        if flat:
            shifts[:] = SHIFT
        pictures = np.stack(
            [padded[i, :, y : y + side, x : x + side] for i, (y, x) in zip(chosen, shifts, strict=True)]
        )
        return to_float(pictures).to(device), torch.from_numpy(labels[chosen]).to(device)

    return load


def training_count() -> int:
    return len(mnist5k("train"))


def training_digits(count: int) -> Tensor:
    """(count, 3, 32, 32) in [0, 1]: the first training digits, as they are."""
    return to_float(mnist5k("train").load(range(count)))


def heldout_digits(count: int | None = None) -> tuple[Tensor, Tensor]:
    """Images (N, 3, 32, 32) in [0, 1] and labels (N,) of the held-out digits, all or the first ones."""
    source = mnist5k("heldout")
    assert source.labels is not None
    count = count or len(source)
    return to_float(source.load(range(count))), torch.from_numpy(source.labels[:count])
