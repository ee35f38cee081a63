"""Samples of a generator as uint8 images: what the tasks draw, and what `arbench score generator:NAME` scores."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from ..images import to_uint8
from ..protocols import Codes, Generated, Generator, Request
from ..spec.sampling import Sampling
from .outputs import check_generated, check_images, decode, join


def sampled(
    generator: Generator,
    ids: range,
    size: int,
    sampling: Sampling,
    request: Callable[[range], Request],
    progress: Callable[[int], None] = lambda done: None,
) -> tuple[NDArray[np.uint8], Codes]:
    """Images (n, 3, H, W) of these sample ids, drawn `size` at a time, and their codes (empty without a tokenizer).

    `request` makes the request of some of the ids; `progress` is told how many are done. Raises `CellError` for outputs
    that are not what the card says.
    """
    parts: list[tuple[Generated, range]] = []
    prepared = 0
    for start in range(0, len(ids), size):
        rows = ids[start : start + size]
        if len(rows) != prepared:
            prepared = len(rows)
            generator.prepare(prepared, sampling)
        parts.append((check_generated(generator, generator.sample(request(rows), sampling), prepared), rows))
        progress(start + prepared)
    if generator.tokenizer is None:
        images = torch.cat([_direct(generator, part, rows) for part, rows in parts])
        return images.numpy(), Codes()
    codes = join([part.codes for part, _ in parts if part.codes is not None])
    return decode(generator.tokenizer, codes, ids, generator.card.resolution).numpy(), codes


def _direct(generator: Generator, generated: Generated, rows: range) -> torch.Tensor:
    """uint8 images of a model without a tokenizer."""
    assert generated.images is not None  # check_generated has seen to it
    card = generator.card
    return to_uint8(check_images(generated.images, rows, card.resolution, card.name)).cpu()
