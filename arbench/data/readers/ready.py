"""A picture made ready in a thread or in a process apart: decoded, cropped if that is asked for, with its digest."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...images import digest
from .decode import Decoded

Treat = Callable[[NDArray[np.uint8]], NDArray[np.uint8]]
"""What is done to every image once it is decoded."""


@dataclass(frozen=True, slots=True)
class Ready:
    image: NDArray[np.uint8]
    """(3, H, W) RGB."""
    converted: tuple[str, ...]
    digest: str


def make_ready(decode: Callable[[], Decoded], treat: Treat | None) -> Ready:
    """All that can be done to a picture apart from the others. Raises what `decode` raises."""
    decoded = decode()
    image = decoded.image if treat is None else treat(decoded.image)
    return Ready(image, decoded.converted, digest(image))
