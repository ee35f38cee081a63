"""The one pass over a set of images: decoded once, through every extractor, on disk chunk by chunk."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from ..data.stream import ImageStream, Picture
from ..errors import InputError
from ..images import digest
from ..limits import max_bytes
from .extractor import FeatureExtractor
from .feature_set import FeatureSet, FeatureWriter, Output, PictureRecord

CHUNK = 64
"""Pictures between two writes: a multiple of every extractor's batch on CPU."""

Values = Callable[[Sequence[Picture]], list[dict[str, float | None]]]
"""Per-image metrics of a chunk, one dictionary a picture."""


@dataclass(frozen=True, slots=True)
class Target:
    """A set in the making: where it goes, the extractor that fills it, and per-image metrics, if any."""

    writer: FeatureWriter
    extractor: FeatureExtractor | None = None
    values: Values | None = None


def outputs_of(extractor: FeatureExtractor) -> list[Output]:
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
    done = 0
    try:
        for chunk in _chunks(stream, CHUNK):
            records = [_record(picture) for picture in chunk]
            for target in targets:
                _append(chunk, records, target, done)
            done += len(chunk)
            progress(done)
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


def _append(chunk: Sequence[Picture], records: Sequence[PictureRecord], target: Target, start: int) -> None:
    known = target.writer.done[start : start + len(chunk)]
    for before, now in zip(known, records, strict=False):
        if (before.index, before.digest) != (now.index, now.digest):
            raise InputError(
                f"{now.key} is not what it was when this pass was interrupted",
                f"its pixels differ from those recorded for {before.key}",
                AFRESH,
            )
    rest, records = chunk[len(known) :], records[len(known) :]
    if not rest:
        return
    if target.values is not None:
        records = [replace(record, values=found) for record, found in zip(records, target.values(rest), strict=True)]
    features = {}
    if target.extractor is not None:
        computed = target.extractor([picture.image for picture in rest])
        features = {f"{target.extractor.recipe}:{name}": rows for name, rows in computed.items()}
    target.writer.append(records, features)


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
