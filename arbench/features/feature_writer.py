"""Writes the features of one set of images: appended chunk by chunk, resumed, merged from shards. Imports no torch."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from filelock import BaseFileLock
from numpy.typing import NDArray

from ..data.stream import Tally
from ..errors import InputError, StoreError
from ..files import write_atomic
from .feature_set import (
    HEADER,
    PICTURES,
    VERSION,
    FeatureSet,
    Output,
    PictureRecord,
    digest_of,
    is_feature_set,
    read_header,
    read_pictures,
)

NO_ROOM = "check space and permissions; --out DIR names another folder, $ARBENCH_CACHE that of references"


class FeatureWriter:
    """Appends chunks to a folder. What `append` returned from is on disk; an interrupted set is resumed."""

    def __init__(
        self,
        folder: Path,
        source: str,
        settings: Mapping[str, Any],
        outputs: Sequence[Output],
        shard: tuple[int, int] = (0, 1),
        lock: BaseFileLock | None = None,
    ) -> None:
        """`lock` is held, and released with the writer."""
        self.folder = folder
        self._header: dict[str, Any] = {
            "version": VERSION,
            "source": source,
            "settings": dict(settings),
            "outputs": [asdict(output) for output in outputs],
            "shards": [list(shard)],
            "rows": 0,
            "complete": False,
            "tally": asdict(Tally()),
        }
        self._outputs = outputs
        self._lock = lock
        self._files: dict[str, BinaryIO] = {}
        self.done: list[PictureRecord] = []
        """Pictures that an earlier, interrupted call has finished."""
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._recover()
            self._open()
        except OSError as error:
            raise no_room(folder, error) from error

    def _recover(self) -> None:
        if not is_feature_set(self.folder):
            return
        found = read_header(self.folder)
        same = ("source", "settings", "outputs", "shards")
        if found["complete"] or any(found[key] != self._header[key] for key in same):
            raise InputError(
                f"{self.folder} holds other features",
                f"they are of {found['source']}, or of other settings",
                "name another folder with --out, or remove this one",
            )
        # after a power cut the header may tell of rows that never reached the disk
        held = [(self.folder / output.file, output.length * 4) for output in self._outputs]
        whole = [path.stat().st_size // size if path.is_file() else 0 for path, size in held]
        self.done = read_pictures(self.folder, min([found["rows"], *whole]))
        self._header["rows"] = len(self.done)

    def _open(self) -> None:
        rows = self._header["rows"]
        for output in self._outputs:
            path = self.folder / output.file
            path.touch()
            os.truncate(path, rows * output.length * 4)
            self._files[output.name] = path.open("ab")
        path = self.folder / PICTURES
        lines = path.read_bytes().splitlines(keepends=True)[:rows] if path.exists() else []
        path.write_bytes(b"".join(lines))
        self._files[PICTURES] = path.open("ab")
        self._write_header()

    def append(self, pictures: Sequence[PictureRecord], features: Mapping[str, NDArray[np.float32]]) -> None:
        """Adds n pictures and their (n, D) vectors under every output's name."""
        try:
            for output in self._outputs:
                rows = np.ascontiguousarray(features[output.name], dtype=np.float32)
                if rows.shape != (len(pictures), output.length):
                    raise ValueError(f"{output.name}: {rows.shape} for {len(pictures)} pictures")
                self._files[output.name].write(rows.tobytes())
            lines = (json.dumps(asdict(picture), separators=(",", ":")) + "\n" for picture in pictures)
            self._files[PICTURES].write("".join(lines).encode())
            for file in self._files.values():
                file.flush()
            self._header["rows"] += len(pictures)
            self._write_header()
        except OSError as error:
            raise no_room(self.folder, error) from error

    def finish(self, tally: Tally) -> FeatureSet:
        try:
            for file in self._files.values():
                os.fsync(file.fileno())
                file.close()
            names = [*(output.file for output in self._outputs), PICTURES]
            digests = {name: digest_of(self.folder / name) for name in names}
            self._header |= {"complete": True, "tally": asdict(tally), "digests": digests}
            self._write_header()
        except OSError as error:
            raise no_room(self.folder, error) from error
        return FeatureSet(self.folder)

    def close(self) -> None:
        for file in self._files.values():
            file.close()
        if self._lock is not None:
            self._lock.release()

    def _write_header(self) -> None:
        write_atomic(self.folder / HEADER, json.dumps(self._header, indent=1).encode(), NO_ROOM)


def merge(parts: Sequence[FeatureSet], folder: Path) -> FeatureSet:
    """One set of the shards of one source, in the source's order, whatever the order of `parts`.

    Raises `InputError` if a shard is missing or there twice, or if the parts differ in source, settings or recipes.
    """
    shards = [shard for part in parts for shard in part.shards]
    _complete(parts, shards)
    tally = Tally()
    for part in parts:
        tally.read += part.tally.read
        for mine, theirs in ((tally.skipped, part.tally.skipped), (tally.converted, part.tally.converted)):
            for name, count in theirs.items():
                mine[name] = mine.get(name, 0) + count
        tally.examples += part.tally.examples
    records = [(picture, place, row) for place, part in enumerate(parts) for row, picture in enumerate(part.pictures)]
    records.sort(key=lambda entry: entry[0].index)
    outputs = list(parts[0].outputs.values())
    writer = FeatureWriter(folder, parts[0].source, parts[0].settings, outputs)
    chunk = 1024
    for start in range(len(writer.done), len(records), chunk):
        some = records[start : start + chunk]
        places = np.array([place for _, place, _ in some])
        numbers = np.array([row for _, _, row in some])
        features = {}
        for output in outputs:
            rows = np.empty((len(some), output.length), np.float32)
            for place, part in enumerate(parts):
                here = places == place
                if here.any():
                    rows[here] = part.rows(output.name)[numbers[here]]
            features[output.name] = rows
        writer.append([picture for picture, _, _ in some], features)
    return writer.finish(tally)


def _complete(parts: Sequence[FeatureSet], shards: Iterable[tuple[int, ...]]) -> None:
    if not parts:
        raise InputError("nothing to merge", "no folder given", "arbench merge DIR DIR... --out DIR")
    first = parts[0]
    for part in parts[1:]:
        different = [
            what
            for what, mine, theirs in (
                ("source", first.source, part.source),
                ("settings", first.settings, part.settings),
                ("features", first.outputs, part.outputs),
            )
            if mine != theirs
        ]
        if different:
            raise InputError(
                f"{first.folder} and {part.folder} are not shards of one set",
                f"they differ in {', '.join(different)}",
                "merge shards that one command made with --shard I/N",
            )
    found = sorted(shards)
    total = found[0][1]
    missing = [f"{index}/{total}" for index in range(total) if (index, total) not in found]
    if missing or len(found) != total:
        why = f"missing: {', '.join(missing)}" if missing else "a shard is there twice"
        raise InputError(f"the shards do not make a whole of {total}", why, "add what is missing")


def no_room(folder: Path, error: OSError) -> StoreError:
    return StoreError(f"cannot write features to {folder}", error.strerror or str(error), NO_ROOM)
