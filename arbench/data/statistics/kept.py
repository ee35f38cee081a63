"""Published statistics on this machine: where they are kept, and that they stay what they were. Downloads nothing.

Beside what is kept lies a pin, a small JSON file with the digest of each file. No publisher states digests, so the pin
is made when a file is fetched or first used; from then on a file that differs from it is an error.
"""

from __future__ import annotations

import functools
import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from ...errors import DamagedFile, InputError, MissingReference
from ...files import state_of, write_atomic
from ...spec.base import Frozen
from .model import ReferenceStatistics
from .published import Published, known
from .read import read_statistics

State = Literal["not fetched", "fetched", "not used yet", "changed"]


class PinnedFile(Frozen):
    """`modified_ns` lets a list tell an unchanged file without reading it; numbers always go by the digest."""

    sha256: str
    bytes: int
    modified_ns: int


class Pin(Frozen):
    """What was kept. `images`: how many images the file counts, or holds; None if it does not say."""

    reference: str
    origin: str
    """The address or path that it came from."""
    recorded: str
    images: int | None
    files: dict[str, PinnedFile]


@dataclass(frozen=True, slots=True)
class Kept:
    """Files of a reference, checked against their pin. `path` is the one with the moments."""

    reference: Published
    path: Path
    pin: Pin

    @property
    def sha256(self) -> str:
        return self.pin.files[self.path.name].sha256

    @property
    def images(self) -> int | None:
        """As the file says, else as published."""
        return count(self.reference, self.pin)


def count(entry: Published, found: Pin | None) -> int | None:
    """How many images a reference is of, or holds: as its file says, else as published."""
    if found is not None and found.images is not None:
        return found.images
    return entry.images if entry.images is not None else entry.held


def folder() -> Path:
    """`$ARBENCH_REFERENCES`, else `~/.cache/arbench/references`."""
    given = os.environ.get("ARBENCH_REFERENCES")
    return Path(given) if given else Path.home() / ".cache" / "arbench" / "references"


def place(entry: Published) -> Path:
    """The folder that its files and its pin are kept in."""
    return folder() / entry.family


def find(name: str) -> Kept | None:
    """The files of this name, or None if they are not here. What is here for the first time is pinned.

    Raises `UnknownName`, `DamagedFile` for a file that is not what it was, and what `pin` raises.
    """
    entry = known(name)
    here = files_of(entry)
    if not here:
        return None
    found = pin_of(entry)
    if found is not None:
        for file, path in here.items():
            accept(entry, file, _sha256(path), str(path))
        if here.keys() <= found.files.keys():
            return Kept(entry, here[entry.files[0].file], found)
    return pin(entry, found.origin if found else str(here[entry.files[0].file]))


def locate(name: str) -> Kept:
    """As `find`, but raises `MissingReference`, saying how to get it."""
    found = find(name)
    if found is None:
        entry = known(name)
        raise MissingReference(
            f"the reference {name} is not here",
            f"{entry.files[0].file} is not in {place(entry)}; it comes from {entry.files[0].url}",
            f"arbench references fetch {name}, or arbench references add {name} FILE",
        )
    return found


def read(kept: Kept, kind: str | None = None) -> ReferenceStatistics:
    """The statistics, with what their publisher says of the images. `kind` is the format if the user gave one."""
    entry = kept.reference
    if kind not in (None, entry.format):
        raise InputError(
            f"{entry.name} is not of kind {kind}", f"it is published as {entry.format}", "leave out the kind"
        )
    found = read_statistics(kept.path, kind=entry.format)
    identity = replace(
        found.identity,
        name=entry.title,
        n=found.identity.n if found.identity.n is not None else entry.images,
        sizes=((entry.pixels, entry.pixels),),
        split=entry.split,
        expected=entry.expected,
    )
    moments = {
        key: stored if stored.n is not None else replace(stored, n=entry.images)
        for key, stored in found.moments.items()
    }
    return replace(found, identity=identity, moments=moments)


def state(entry: Published) -> tuple[State, Pin | None]:
    """For a list: whether it is here and unchanged. Reads a file only if its size or time is not as pinned."""
    here, found = files_of(entry), pin_of(entry)
    if not here:
        return "not fetched", None
    if found is None:
        return "not used yet", None
    for file, path in here.items():
        pinned = found.files.get(file)
        if pinned is not None and not _untouched(path, pinned) and _sha256(path) != pinned.sha256:
            return "changed", found
    return "fetched", found


# --- The files


def files_of(entry: Published) -> dict[str, Path]:
    """The files that are here, by name: in our folder, else in the one that clean-fid itself downloads to."""
    for where in (place(entry), *_of_clean_fid(entry)):
        if (where / entry.files[0].file).is_file():
            return {each.file: where / each.file for each in entry.files if (where / each.file).is_file()}
    return {}


def _of_clean_fid(entry: Published) -> tuple[Path, ...]:
    spec = find_spec("cleanfid") if entry.format == "clean-fid" else None
    return (Path(spec.origin).parent / "stats",) if spec is not None and spec.origin else ()


def accept(entry: Published, file: str, sha256: str, source: str) -> None:
    """Raises `DamagedFile` if what `source` holds is not the file that is published, or that was kept before."""
    published = next((each.sha256 for each in entry.files if each.file == file), "")
    if published and sha256 != published:
        raise DamagedFile(
            f"{source} is not {file} of {entry.name}",
            f"its sha256 begins {sha256[:12]}, the published one {published[:12]}",
            f"arbench references fetch {entry.name}",
        )
    pinned = found.files.get(file) if (found := pin_of(entry)) is not None else None
    if pinned is not None and sha256 != pinned.sha256:
        raise DamagedFile(
            f"{source} is not the {file} that was kept as {entry.name}",
            f"its sha256 begins {sha256[:12]}, that of the kept file {pinned.sha256[:12]}: "
            "numbers against it would not compare with those before",
            f"arbench references fetch {entry.name}; to accept another file, delete {pin_path(entry)}",
        )


# --- The pin


def pin_path(entry: Published) -> Path:
    return place(entry) / f"{entry.name.partition(':')[2]}.json"


def pin_of(entry: Published) -> Pin | None:
    path = pin_path(entry)
    try:
        return Pin.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValidationError) as error:
        raise DamagedFile(
            f"cannot read {path}", "it says what was kept", f"delete it, then: arbench references fetch {entry.name}"
        ) from error


def pin(entry: Published, origin: str) -> Kept:
    """Reads the files that are here as what `entry` says they are, and records their digests.

    Raises `InputError` if they hold something else, `StoreError` if the folder cannot be written.
    """
    here = files_of(entry)
    first = here[entry.files[0].file]
    images = _checked(entry, first)
    files = {}
    for file, path in here.items():
        accept(entry, file, _sha256(path), str(path))
        stat = path.stat()
        files[file] = PinnedFile(sha256=_sha256(path), bytes=stat.st_size, modified_ns=stat.st_mtime_ns)
    recorded = datetime.now(UTC).isoformat(timespec="seconds")
    made = Pin(reference=entry.name, origin=origin, recorded=recorded, images=images, files=files)
    text = made.model_dump_json(indent=1).encode() + b"\n"
    write_atomic(pin_path(entry), text, "set ARBENCH_REFERENCES to a folder that can be written")
    return Kept(entry, first, made)


def _checked(entry: Published, path: Path) -> int | None:
    """How many images the statistics count, or hold. Raises `InputError` if they are not those of `entry`."""
    found = read_statistics(path, kind=entry.format)
    missing = [output for output in entry.outputs if output not in found.moments]
    if missing:
        held = ", ".join(found.moments) or "no moments"
        raise InputError(f"{path} is not {entry.name}", f"it holds {held}, and not {', '.join(missing)}")
    if found.images is None and entry.held is not None:
        raise InputError(f"{path} is not {entry.name}", f"it holds moments alone, without {entry.held} images")
    if found.images is None:
        return _counted(found)
    from ..readers.arrays import NpzReader

    reader = NpzReader(path.name, found.images)
    if reader.layout.size != (entry.pixels, entry.pixels):
        height, width = reader.layout.size
        raise InputError(f"{path} is not {entry.name}", f"its images are {height}x{width}, not of {entry.pixels}")
    return reader.count


def _counted(found: ReferenceStatistics) -> int | None:
    counts: Mapping[str, int | None] = {key: stored.n for key, stored in found.moments.items()}
    return next((n for n in counts.values() if n is not None), None)


def _untouched(path: Path, pinned: PinnedFile) -> bool:
    stat = path.stat()
    return (stat.st_size, stat.st_mtime_ns) == (pinned.bytes, pinned.modified_ns)


def _sha256(path: Path) -> str:
    """Computed once in a process for as long as the file stays what it is."""
    return _digest(path.resolve(), state_of(path))


@functools.lru_cache(maxsize=64)
def _digest(path: Path, state: tuple[int, ...]) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
