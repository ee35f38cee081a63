"""Features of one set of images on disk: appended chunk by chunk, read by row, merged from shards. Imports no torch."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import numpy as np
from filelock import BaseFileLock
from numpy.typing import NDArray

from ..data.stream import Tally
from ..errors import DamagedFile, InputError, StoreError
from ..files import write_atomic
from ..json_text import parse_json
from .vectors import FeatureFile, Vectors

VERSION = 1
HEADER = "features.json"
PICTURES = "pictures.jsonl"
FACTS = {
    **{"source": str, "settings": dict, "outputs": list, "shards": list},
    **{"rows": int, "complete": bool, "tally": dict},
}
"""What a header always has."""
NO_ROOM = "check space and permissions; --out DIR names another folder, $ARBENCH_CACHE that of references"


@dataclass(frozen=True, slots=True)
class PictureRecord:
    """What is kept of an image beside its features. `digest` is blake2b over shape and pixels."""

    index: int
    key: str
    height: int
    width: int
    label: int | None
    digest: str
    values: dict[str, float | None] = field(default_factory=dict)
    """Per-image metrics, for instance of the pair that it forms with a reference image."""


@dataclass(frozen=True, slots=True)
class Output:
    """One file of vectors. `name` is "recipe:output"; `convention` names all that decides the numbers."""

    name: str
    length: int
    convention: str

    @property
    def file(self) -> str:
        return self.name.replace("/", "--").replace(":", "--") + ".f32"


class Features(Protocol):
    """Finished features of one set of images, wherever they lie: a `FeatureSet`, or the units of a run's cell."""

    @property
    def source(self) -> str: ...

    @property
    def outputs(self) -> Mapping[str, Output]: ...

    @property
    def tally(self) -> Tally: ...

    @property
    def pictures(self) -> Sequence[PictureRecord]: ...

    @property
    def labels(self) -> NDArray[np.int64] | None: ...

    def __len__(self) -> int: ...

    def rows(self, output: str) -> Vectors: ...


class FeatureSet:
    """A finished set, opened for reading. Rows are in the order of the source.

    Raises `InputError` if it is not finished, `DamagedFile` if its files are not those that were written.
    """

    def __init__(self, folder: Path) -> None:
        header = read_header(folder)
        if not header["complete"]:
            raise InputError(
                f"the features in {folder} are not complete",
                f"{header['rows']} images are done",
                "run the same command again; it resumes where it stopped",
            )
        _check_whole(folder, header)
        self.folder = folder
        self.source: str = header["source"]
        self.settings: dict[str, Any] = header["settings"]
        self.tally = Tally(**header["tally"])
        self.outputs = {entry["name"]: Output(**entry) for entry in header["outputs"]}
        self.shards = [tuple(shard) for shard in header["shards"]]
        self.digests: Mapping[str, str] = header.get("digests", {})
        """File -> blake2b of its bytes; sets of version 0.1 have none."""
        self._count: int = header["rows"]
        self._pictures: list[PictureRecord] | None = None

    def __len__(self) -> int:
        return self._count

    @property
    def pictures(self) -> list[PictureRecord]:
        if self._pictures is None:
            self._pictures = read_pictures(self.folder, self._count)
        return self._pictures

    @property
    def labels(self) -> NDArray[np.int64] | None:
        """(n,) class ids, or None if any image has none."""
        return labels_of(self.pictures)

    def rows(self, output: str) -> FeatureFile:
        """Vectors of "recipe:output", in the order of the source."""
        found = self.outputs[output]
        return FeatureFile(self.folder / found.file, len(self), found.length)


def labels_of(pictures: Sequence[PictureRecord]) -> NDArray[np.int64] | None:
    """(n,) class ids, or None if any image has none."""
    found = [picture.label for picture in pictures]
    if not found or any(label is None for label in found):
        return None
    return np.array(found, dtype=np.int64)


def read_header(folder: Path) -> dict[str, Any]:
    path = folder / HEADER
    try:
        header: dict[str, Any] = parse_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputError(f"no features in {folder}", f"{HEADER} is missing", "check the path") from error
    except (OSError, ValueError) as error:
        raise DamagedFile(f"cannot read {path}", str(error), "extract the features again") from error
    if not isinstance(header, dict):
        raise DamagedFile(f"cannot read {path}", "it is not a JSON object", "extract the features again")
    if header.get("version") != VERSION:
        raise InputError(
            f"features in {folder} are of version {header.get('version')}",
            f"this arbench reads version {VERSION}",
            "extract them again",
        )
    lost = [name for name, kind in FACTS.items() if not isinstance(header.get(name), kind)]
    if lost or not _is_sound(header):
        why = f"it lacks {', '.join(lost)}" if lost else "its values are not those of a set of features"
        raise DamagedFile(f"cannot read {path}", why, "extract the features again")
    return header


def _is_sound(header: Mapping[str, Any]) -> bool:
    """Whether a header that has all its facts can be one that was written."""
    try:
        outputs = [Output(**entry) for entry in header["outputs"]]
        tally = Tally(**header["tally"])
    except TypeError:
        return False
    counts = (tally.skipped, tally.converted)
    return (
        all(isinstance(o.name, str) and isinstance(o.convention, str) and _is_count(o.length) for o in outputs)
        and all(
            isinstance(shard, list) and len(shard) == 2 and all(map(_is_count, shard)) for shard in header["shards"]
        )
        and _is_count(header["rows"])
        and _is_count(tally.read)
        and all(isinstance(found, dict) and all(map(_is_count, found.values())) for found in counts)
        and isinstance(tally.examples, list)
        and all(isinstance(example, str) for example in tally.examples)
        and isinstance(header.get("digests", {}), dict)
    )


def _is_count(value: object) -> bool:
    return isinstance(value, int) and value >= 0


def is_feature_set(path: Path) -> bool:
    return (path / HEADER).is_file()


def read_pictures(folder: Path, count: int) -> list[PictureRecord]:
    """The first `count` records, or as many as are whole."""
    found: list[PictureRecord] = []
    try:
        lines = (folder / PICTURES).read_text(encoding="utf-8").splitlines()[:count]
        for line in lines:
            found.append(_record(parse_json(line)))
    except (OSError, ValueError, TypeError):
        return found
    return found


def _record(facts: Any) -> PictureRecord:
    """Raises ValueError or TypeError for what is not a record of a picture."""
    found = PictureRecord(**facts)
    numbers = (found.index, found.height, found.width, 0 if found.label is None else found.label)
    texts = (found.key, found.digest)
    if not all(type(number) is int for number in numbers) or not all(isinstance(text, str) for text in texts):
        raise TypeError("a fact of another kind")
    if len(bytes.fromhex(found.digest)) != 16 or not isinstance(found.values, dict):
        raise ValueError("no digest of a picture")
    return found


def digest_of(path: Path) -> str:
    """blake2b of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


def _check_whole(folder: Path, header: Mapping[str, Any]) -> None:
    """Raises `DamagedFile` unless every file has the bytes that the header of a finished set tells.

    Sets of version 0.1 have no digests: of those the sizes are compared.
    """
    sizes = {entry.file: header["rows"] * entry.length * 4 for entry in _outputs(folder, header)}
    digests: Mapping[str, str] = header.get("digests", {})
    for name in (*sizes, PICTURES):
        path = folder / name
        if not path.is_file():
            why = "it is missing"
        elif name in sizes and path.stat().st_size != sizes[name]:
            why = f"it has {path.stat().st_size} bytes where {sizes[name]} were written"
        elif name in digests and digest_of(path) != digests[name]:
            why = "its bytes are not those that were written"
        elif name == PICTURES and name not in digests and len(read_pictures(folder, header["rows"])) < header["rows"]:
            why = f"it does not hold the {header['rows']} records that were written"
        else:
            continue
        raise DamagedFile(f"{path} is damaged", why, f"remove {folder} and run the same command again")


def _outputs(folder: Path, header: Mapping[str, Any]) -> list[Output]:
    try:
        return [Output(**entry) for entry in header["outputs"]]
    except TypeError as error:
        raise DamagedFile(f"cannot read {folder / HEADER}", str(error), "extract the features again") from error


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
