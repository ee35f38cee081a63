"""Files of images as codes: every byte is a token of 256 codes, and Pillow decodes them."""

from __future__ import annotations

import io
from typing import Self

import numpy as np
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from arbench.errors import InputError
from arbench.images import to_float, to_uint8
from arbench.protocols import NO_PROBE, Card, Codes, LoadSpec, Noise, Probe, TokenSpec

from ...layers.ragged import rows_of, side_by_side
from ...layers.tokenizer import check_range


class ImageFiles:
    """`Tokenizer` of images of any size, with `format` and `quality` of the card's config. Pixels become bytes."""

    def __init__(self, card: Card, spec: TokenSpec) -> None:
        self.card, self.spec = card, spec

    @classmethod
    def load(cls, card: Card, spec: LoadSpec) -> Self:
        if card.tokens is None:
            raise InputError(f"the card {card.name} has no token layout", "`tokens` is empty", "fill it in")
        return cls(card, card.tokens)

    def encode(self, images: Tensor, *, noise: Noise | None = None) -> Codes:
        check_range(self.card, images)
        pixels = to_uint8(images).cpu().numpy().transpose(0, 2, 3, 1)
        files = [np.frombuffer(self._file(Image.fromarray(image)), np.uint8) for image in pixels]
        return side_by_side(files, images.device)

    def _file(self, image: Image.Image) -> bytes:
        file = io.BytesIO()
        image.save(file, str(self.card.config["format"]), quality=self.card.config["quality"])
        return file.getvalue()

    def decode(self, codes: Codes, *, probe: Probe = NO_PROBE) -> Tensor:
        with probe("decode"):
            images = [self._image(row.astype(np.uint8).tobytes()) for row in rows_of(codes, self.card)]
            return to_float(np.stack(images)).to(codes.ids[0].device)

    def _image(self, file: bytes) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
        try:
            with Image.open(io.BytesIO(file)) as image:
                return np.asarray(image.convert("RGB")).transpose(2, 0, 1)
        except (UnidentifiedImageError, OSError, SyntaxError) as error:
            raise InputError(
                f"{self.card.name} cannot decode these codes",
                f"they are not the bytes of a file: {error}",
                "pass what its encoder gives",
            ) from None

    def close(self) -> None:
        """There is nothing to free."""
