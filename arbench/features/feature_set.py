"""Features of one set of images on disk, read by row. Imports no torch."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ..data.stream import Tally
from ..errors import DamagedFile, InputError
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
