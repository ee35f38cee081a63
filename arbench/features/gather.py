"""The one pass over a set of images: decoded once, through every extractor, on disk chunk by chunk."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ..data.stream import ImageStream, Picture
from ..errors import InputError
from ..images import digest
from ..limits import max_bytes
from .feature_set import FeatureSet, Output, PictureRecord
from .feature_writer import FeatureWriter

CHUNK = 64
"""Pictures between two writes: a multiple of every extractor's batch on CPU."""

Values = Callable[[Sequence[Picture]], list[dict[str, float | None]]]
"""Per-image metrics of a chunk, one dictionary a picture."""


class Pending(Protocol):
    """Vectors that are being computed."""

    def result(self) -> Mapping[str, NDArray[np.float32]]:
        """{output: (n, D)}, once they are there."""
        ...


class Network(Protocol):
    """What computes the vectors of one recipe: a `FeatureExtractor` here, or those of other machines."""

    @property
    def recipe(self) -> str: ...

    @property
    def outputs(self) -> Mapping[str, int]: ...

    @property
    def convention(self) -> str: ...

    @property
    def ahead(self) -> int:
        """Calls that may be begun while earlier ones still run."""
        ...

    def begin(self, images: Sequence[NDArray[np.uint8]]) -> Pending: ...


@dataclass(frozen=True, slots=True)
class Target:
    """A set in the making: where it goes, the extractor that fills it, and per-image metrics, if any."""

    writer: FeatureWriter
    extractor: Network | None = None
    values: Values | None = None


def outputs_of(extractor: Network) -> list[Output]:
    return [
        Output(f"{extractor.recipe}:{name}", length, extractor.convention) for name, length in extractor.outputs.items()
    ]


def gather(
    stream: ImageStream,
    targets: Sequence[Target],
    progress: Callable[[int], None] = lambda done: None,
) -> list[FeatureSet]:
    """Fills every target from one reading of `stream`. `progress` is told how many pictures are done.

    Pictures that an interrupted call has finished are not computed again; if they are not the same any more, that is an
    error.
    """
    begun = done = 0
    running: deque[tuple[int, list[_Begun]]] = deque()

    def finish(most: int) -> None:
        """Until no more than `most` chunks are with the device."""
        nonlocal done
        while len(running) > most:
            count, chunk = running.popleft()
            for each in chunk:
                each.append()
            done += count
            progress(done)

    try:
        for chunk in _chunks(stream, CHUNK):
            records = [_record(picture) for picture in chunk]
            running.append((len(chunk), [_begin(chunk, records, target, begun) for target in targets]))
            begun += len(chunk)
            finish(max((target.extractor.ahead for target in targets if target.extractor is not None), default=0))
        finish(0)
        if any(len(target.writer.done) > done for target in targets):
            raise InputError(
                f"{stream.name} has fewer images than when this pass was interrupted", f"{done} now", AFRESH
            )
        if not done:
            raise InputError(
                f"no images in {stream.name}", "; ".join(stream.tally.examples) or "it is empty", "check the path"
            )
        return [target.writer.finish(stream.tally) for target in targets]
    finally:
        for target in targets:
            target.writer.close()


AFRESH = "name another folder with --out to start afresh"


@dataclass(frozen=True, slots=True)
class _Begun:
    """What is new of a chunk of pictures, for one target."""

    target: Target
    records: Sequence[PictureRecord]
    running: Pending | None

    def append(self) -> None:
        if not self.records:
            return
        features: dict[str, NDArray[Any]] = {}
        extractor = self.target.extractor
        if self.running is not None and extractor is not None:
            features = {f"{extractor.recipe}:{name}": rows for name, rows in self.running.result().items()}
        self.target.writer.append(self.records, features)


def _begin(chunk: Sequence[Picture], records: Sequence[PictureRecord], target: Target, start: int) -> _Begun:
    known = target.writer.done[start : start + len(chunk)]
    for before, now in zip(known, records, strict=False):
        if (before.index, before.digest) != (now.index, now.digest):
            raise InputError(
                f"{now.key} is not what it was when this pass was interrupted",
                f"its pixels differ from those recorded for {before.key}",
                AFRESH,
            )
    rest, records = chunk[len(known) :], records[len(known) :]
    if rest and target.values is not None:
        records = [replace(record, values=found) for record, found in zip(records, target.values(rest), strict=True)]
    running = target.extractor.begin([picture.image for picture in rest]) if rest and target.extractor else None
    return _Begun(target, records, running)


def _chunks(stream: ImageStream, size: int) -> Iterator[list[Picture]]:
    """Of `size` pictures, or fewer that take as much memory as one file may."""
    chunk: list[Picture] = []
    taken, most = 0, max_bytes()
    for picture in stream:
        chunk.append(picture)
        taken += picture.image.nbytes
        if len(chunk) == size or taken >= most:
            yield chunk
            chunk, taken = [], 0
    if chunk:
        yield chunk


def _record(picture: Picture) -> PictureRecord:
    _, height, width = picture.image.shape
    mark = picture.digest or digest(picture.image)
    return PictureRecord(picture.index, picture.key, height, width, picture.label, mark)
