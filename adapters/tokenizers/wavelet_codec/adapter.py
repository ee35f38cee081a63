"""The wavelet codec: colours apart, biorthogonal wavelets of PyWavelets, and their bit planes as tokens."""

from __future__ import annotations

from types import ModuleType
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from arbench.errors import InputError, PrerequisiteError
from arbench.images import to_uint8
from arbench.protocols import NO_PROBE, Card, Codes, LoadSpec, Noise, Probe, TokenSpec

from ...layers.ragged import rows_of, side_by_side
from ...layers.tokenizer import check_range
from . import zerotree

HEADER = 18
"""Tokens before the planes: height and width in 8 digits of base 4 each, the highest plane in 2."""
LARGEST = 4**8 - 1
COLOURS = np.array([[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]])
"""RGB -> Y, Cb, Cr of JFIF, without the offset of the last two."""
Array = NDArray[np.float64]


class Wavelet:
    """`Tokenizer` and `Prefix` of images of any size; sides are filled up to a multiple of 2^levels with their edge."""

    def __init__(self, card: Card, spec: TokenSpec, pywt: ModuleType) -> None:
        self.card, self.spec, self._pywt = card, spec, pywt
        self._name, self._levels = str(card.config["wavelet"]), int(card.config["levels"])
        self._step = float(card.config["step"])

    @classmethod
    def load(cls, card: Card, spec: LoadSpec) -> Self:
        try:
            import pywt
        except ImportError as error:
            raise PrerequisiteError(
                f"{card.name} needs PyWavelets", str(error), "pip install 'arbench[wavelet]'"
            ) from None
        if card.tokens is None:
            raise InputError(f"the card {card.name} has no token layout", "`tokens` is empty", "fill it in")
        return cls(card, card.tokens, pywt)

    def encode(self, images: Tensor, *, noise: Noise | None = None) -> Codes:
        check_range(self.card, images)
        if max(images.shape[-2:]) > LARGEST:
            raise InputError(
                f"{self.card.name} takes sides up to {LARGEST}", f"found {tuple(images.shape[-2:])}", "crop them"
            )
        pixels = to_uint8(images).cpu().numpy().astype(np.float64)
        return side_by_side([self._tokens(image) for image in pixels], images.device)

    def decode(self, codes: Codes, *, probe: Probe = NO_PROBE) -> Tensor:
        with probe("decode"):
            return self._images([(row, row[HEADER:]) for row in rows_of(codes, self.card)], codes)

    def decode_prefix(self, codes: Codes, count: int) -> Tensor:
        """Of the first `count` tokens; the size of the image is known in any case."""
        return self._images([(row, row[HEADER : max(count, HEADER)]) for row in rows_of(codes, self.card)], codes)

    def close(self) -> None:
        """There is nothing to free."""

    def _tokens(self, image: Array) -> NDArray[np.int64]:
        height, width = image.shape[1:]
        tall, wide = self._filled(height, width)
        colours = np.tensordot(COLOURS, image, 1)
        colours[0] -= 128
        filled = np.pad(colours, ((0, 0), (0, tall - height), (0, wide - width)), mode="edge")
        bands: list[Array] = []
        for _ in range(self._levels):
            filled, details = self._pywt.dwt2(filled, self._name, "periodization")
            bands.insert(0, np.concatenate(details))
        bands.insert(0, filled)
        top = zerotree.highest(bands, self._step)
        header = [*_digits(height, 8), *_digits(width, 8), *_digits(top, 2)]
        return np.concatenate([header, zerotree.encode(bands, top, self._step)]).astype(np.int64)

    def _images(self, rows: list[tuple[NDArray[np.int64], NDArray[np.int64]]], codes: Codes) -> Tensor:
        images = np.stack([self._image(whole[:HEADER], planes) for whole, planes in rows])
        return torch.from_numpy(images).float().to(codes.ids[0].device)

    def _image(self, header: NDArray[np.int64], tokens: NDArray[np.int64]) -> Array:
        """(3, H, W) in [0, 1]."""
        if len(header) < HEADER:
            raise InputError(
                f"{self.card.name} decodes rows of {HEADER} tokens and more", f"found {len(header)}", "pass its codes"
            )
        height, width, top = _number(header[:8]), _number(header[8:16]), _number(header[16:])
        tall, wide = self._filled(height, width)
        sides = [(tall >> level, wide >> level) for level in range(self._levels, 0, -1)]
        shapes = [(3, *sides[0]), *((9, *side) for side in sides)]
        averages, *bands = zerotree.decode(tokens, shapes, top, self._step)
        for band in bands:
            averages = self._pywt.idwt2((averages, tuple(np.split(band, 3))), self._name, "periodization")
        colours = averages[:, :height, :width]
        colours[0] += 128
        rgb: Array = np.tensordot(np.linalg.inv(COLOURS), colours, 1)
        return rgb.clip(0, 255) / 255

    def _filled(self, height: int, width: int) -> tuple[int, int]:
        block = 1 << self._levels
        return -(-height // block) * block, -(-width // block) * block


def _digits(number: int, count: int) -> list[int]:
    """In base 4, the highest first."""
    return [number >> 2 * place & 3 for place in range(count - 1, -1, -1)]


def _number(digits: NDArray[np.int64]) -> int:
    return int("".join(map(str, digits.tolist())), 4)
