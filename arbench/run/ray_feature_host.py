"""What computes features on a node of a Ray cluster: networks in a process of their own."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..errors import ArbenchError

if TYPE_CHECKING:
    from ..features.extract import Extractors
    from ..features.extractor import Mode


@dataclass(frozen=True)
class Facts:
    """Of a recipe: outputs with their lengths, and what decides the numbers."""

    outputs: Mapping[str, int]
    convention: str


@dataclass(frozen=True)
class Rows:
    """(n, D) vectors by output, what decides them, and in fast mode how far they are from parity at most."""

    rows: Mapping[str, NDArray[np.float32]]
    convention: str
    deviation: float | None
    host: str


@dataclass(frozen=True)
class Refused:
    """An `ArbenchError` of the node."""

    what: str
    why: str
    hint: str
    host: str


class FeatureHost:
    """An actor of Ray, whose calls come one after the other. `given` are weight files by name; `environment` holds the
    driver's variables that are arbench's."""

    def __init__(self, device: str, mode: Mode, given: Mapping[str, str], environment: Mapping[str, str]) -> None:
        os.environ.update(environment)
        self._device, self._mode, self._given = device, mode, given
        self._loaded: Extractors | None = None
        self._counts: dict[str, int | None] = {}
        self._threads = 0

    def ready(self) -> bool:
        return True

    def facts(self, recipe: str, threads: int) -> Facts | Refused:
        try:
            extractor = self._extractors(threads).get(recipe)
        except ArbenchError as error:
            return _refused(error)
        return Facts(dict(extractor.outputs), extractor.convention)

    def features(
        self, recipe: str, images: Sequence[NDArray[np.uint8]], count: int | None, threads: int
    ) -> Rows | Refused:
        """Of n pictures (3, H, W), of a pass over `count`."""
        try:
            extractors = self._extractors(threads)
            if self._counts.get(recipe, -1) != count:
                extractors.expect(recipe, count)
                self._counts[recipe] = count
            extractor = extractors.get(recipe)
            rows = extractor(images)
        except ArbenchError as error:
            return _refused(error)
        return Rows(rows, extractor.convention, extractors.deviation.get(recipe), socket.gethostname())

    def _extractors(self, threads: int) -> Extractors:
        """The networks, computing with as many threads as the driver would: sums depend on it in their last digits."""
        from ..features.extract import Extractors
        from ..features.weight_files import feature_weights
        from ..measure.threads import use_threads

        if self._threads != threads:
            use_threads(threads)
            self._threads = threads
        if self._loaded is None:
            self._loaded = Extractors(feature_weights(self._given), self._device, self._mode)
        return self._loaded


def _refused(error: ArbenchError) -> Refused:
    return Refused(error.what, error.why, error.hint, socket.gethostname())
