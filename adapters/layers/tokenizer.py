"""What tokenizers share around their networks: the range of pixels, and which sizes can be encoded and decoded."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from arbench.errors import ImageError, InputError
from arbench.protocols import Card, Codes, TokenSpec


class NetworkTokenizer:
    """A card with its token layout, and a network with `encoder` and `decoder`."""

    def __init__(self, card: Card, network: Any) -> None:
        if card.tokens is None:
            raise InputError(f"the card {card.name} has no token layout", "`tokens` is empty", "fill it in")
        self.card = card
        self.spec: TokenSpec = card.tokens
        self.network = network
        self.dtype: torch.dtype = network.encoder.stem.weight.dtype

    def close(self) -> None:
        """Free the weights; closing twice is fine."""
        vars(self).pop("network", None)


class LooksUp(NetworkTokenizer):
    """With `codewords`: the network's `quantize` looks ids up in one table."""

    @torch.inference_mode()
    def codewords(self) -> Tensor:
        """(V, C) float32: the vector of each id."""
        assert self.spec.vocabulary is not None
        ids = torch.arange(self.spec.vocabulary, device=next(self.network.parameters()).device)
        vectors: Tensor = self.network.quantize.lookup(ids)
        return vectors.float()


def to_signed(images: Tensor, dtype: torch.dtype) -> Tensor:
    """Images in [0, 1] -> [-1, 1], what most networks read."""
    return (images * 2 - 1).to(dtype)


def from_signed(images: Tensor) -> Tensor:
    """Images in about [-1, 1] -> float32 in [0, 1], clamped."""
    return ((images.float() + 1) / 2).clamp(0, 1)


SLACK = 1e-3
"""Beyond the range of pixels, for what resizing in float leaves."""


def check_range(card: Card, images: Tensor) -> None:
    """Raise ImageError unless images are float numbers in [0, 1]."""
    if images.is_floating_point() and images.numel():
        least, most = (float(end) for end in images.aminmax())
        if least >= -SLACK and most <= 1 + SLACK:
            return
        found = f"from {least:.4g} to {most:.4g}"
    elif images.is_floating_point():
        return
    else:
        found = f"{images.dtype} numbers".removeprefix("torch.")
    raise ImageError(
        f"{card.name} cannot encode these pixels: {found}",
        "images are float numbers from 0 to 1, as the protocol of tokenizers has them",
        "divide bytes by 255; bring images in [-1, 1] back by (x + 1) / 2",
    )


def check_multiple(card: Card, images: Tensor, factor: int, *, square: bool) -> None:
    """Raise ImageError unless the sides of images (B, 3, H, W) are multiples of `factor`, and equal if `square`.

    Their pixels must be in range as well.
    """
    check_range(card, images)
    height, width = images.shape[-2:]
    if height % factor or width % factor or (square and height != width):
        taken = "squares whose side is a multiple" if square else "sides that are multiples"
        raise ImageError(
            f"{card.name} cannot encode {height} x {width} images",
            f"it takes {taken} of {factor}",
            f"resize to {card.resolution} x {card.resolution}",
        )


def check_grid(card: Card, ids: Tensor) -> None:
    """Raise InputError unless the ids (B, L) fill a square grid."""
    if math.isqrt(ids.shape[1]) ** 2 != ids.shape[1]:
        raise InputError(
            f"{card.name} cannot decode {ids.shape[1]} tokens", "they do not fill a square grid", "pass n x n ids"
        )


def grid_of(card: Card, codes: Codes) -> tuple[int, int]:
    """(rows, columns) of the ids (B, L) of one map: those that the codes say, or a square's.

    Raises InputError unless they fill it.
    """
    (ids,) = codes.ids
    if codes.grid is None:
        check_grid(card, ids)
        return (math.isqrt(ids.shape[1]),) * 2
    if math.prod(codes.grid) != ids.shape[1]:
        grid = "{} x {}".format(*codes.grid)
        raise InputError(
            f"{card.name} cannot decode {ids.shape[1]} tokens", f"their grid is {grid}", "pass all of them"
        )
    return codes.grid


def grid_if_oblong(ids: Tensor) -> tuple[int, int] | None:
    """(rows, columns) of ids (B, rows, columns), None of a square: `Codes.grid`."""
    rows, columns = ids.shape[1:]
    return None if rows == columns else (rows, columns)
