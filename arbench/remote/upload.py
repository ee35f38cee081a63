"""Uploads of a folder's files to an address: whole files, each once for every content, what tells of them last."""

from __future__ import annotations

import contextlib
import io
import secrets
from collections.abc import Iterable, Iterator
from pathlib import Path

from ..errors import ArbenchError, DamagedFile, InputError, StoreError
from ..files import state_of
from .address import Place, exists, info, is_address, open_place, state, told
from .cached import FIRST, copied_to, fetch, listed, read_manifest, write_manifest

WHOLE_AT_ONCE = frozenset({"s3", "gs", "gcs", "abfs", "az", "memory"})
"""fsspec's names of stores that show a file only once it is written."""
LEFT_OUT = frozenset({"lock", "cache"})
"""Of a run's folder: of this machine, or made again where it is needed."""


class Upload:
    """What of `folder` is at `place`, remembered in the folder itself, so that a later process continues."""

    def __init__(self, folder: Path, place: Place) -> None:
        self.folder = folder
        self.place = place
        self._there = read_manifest(folder)
        self._sent: dict[str, tuple[int, int, int, int]] = {}
        """Name -> `state_of` what this process has uploaded."""

    def send(self, names: Iterable[str]) -> None:
        """Uploads the files of these names that are in the folder, unless this process has and they are the same."""
        for name in names:
            path = self.folder / name
            if not path.resolve().is_relative_to(self.folder.resolve()):
                raise DamagedFile(
                    f"{path} lies outside of {self.folder}", "its journal names it", "ask who made the run"
                )
            try:
                mark = state_of(path)
            except FileNotFoundError:
                continue
            if self._sent.get(name) != mark:
                self._there[name] = put_file(self.place / name, path)
                self._sent[name] = mark

    def send_all(self) -> None:
        """Uploads every file that the store lacks, or has in another size, or that has changed here; no journal."""
        there = {name: found.get("size") for name, found in listed(self.place).items()}
        for name in files_in(self.folder):
            if name == FIRST:
                continue
            same = there.get(name) == (self.folder / name).stat().st_size and name in self._there
            if not same or not name.endswith(".npz"):  # others are written again in place
                self.send([name])

    def send_journal(self, data: bytes) -> None:
        """Replaces the journal in the store by `data`, which continues it.

        Raises `StoreError` where the store has a journal that `data` does not continue: another process writes there.
        """
        where = self.place / FIRST
        if exists(where):
            if state(info(where)) != self._there.get(FIRST) and not data.startswith(get(where)):
                raise StoreError(
                    f"another process has written to {self.place.address}",
                    f"its journal is not that of {self.folder}",
                    "stop one of them, and give the other an address of its own",
                )
        elif FIRST in self._there:
            raise StoreError(f"{where.address} is gone", "something else has deleted it", "name another address")
        self._there[FIRST] = put(where, data)

    def remember(self) -> None:
        write_manifest(self.folder, self._there)


def files_in(folder: Path) -> list[str]:
    """Names of the files of a run's or score's folder that belong in a store: no locks, caches or hidden files."""
    found = []
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder)
        hidden = any(part.startswith(".") for part in name.parts)
        if not hidden and name.parts[0] not in LEFT_OUT and path.is_file() and not path.is_symlink():
            found.append(name.as_posix())
    return found


def get(place: Place) -> bytes:
    with told(place.address, "read"):
        return bytes(place.files.cat_file(place.path))


def put(place: Place, data: bytes) -> str:
    """Writes a file whole; returns the state that the store then has of it."""
    return _put(place, io.BytesIO(data), len(data))


def put_file(place: Place, path: Path) -> str:
    with path.open("rb") as file:
        return _put(place, file, path.stat().st_size)


def _put(place: Place, file: io.BufferedIOBase, size: int) -> str:
    """An object store shows a file once it is whole; any other file system gets it under a passing name first."""
    files, path = place.files, place.path
    folder, _, name = path.rpartition("/")
    own = not WHOLE_AT_ONCE.isdisjoint([files.protocol] if isinstance(files.protocol, str) else files.protocol)
    target = path if own else f"{folder}/.{name}.{secrets.token_hex(4)}.tmp"
    with told(place.address, "write"):
        if not own:
            files.makedirs(folder, exist_ok=True)
        with files.open(target, "wb") as there:
            while block := file.read(1 << 22):
                there.write(block)
        if not own:
            files.mv(target, path)
    found = info(place)
    if found.get("size") != size:
        raise StoreError(
            f"{place.address} is not whole after its upload", f"{found.get('size')} of {size} bytes", "try again"
        )
    return state(found)


def push_folder(folder: Path, place: Place) -> None:
    """Uploads a folder that is finished, its journal last."""
    upload = Upload(folder, place)
    upload.send_all()
    if (folder / FIRST).is_file():
        upload.send_journal((folder / FIRST).read_bytes())
    upload.remember()


@contextlib.contextmanager
def uploading(out: str | Path | None) -> Iterator[Path | None]:
    """The folder to write in for `out`: itself; for an address the copy of what is there, uploaded at the end.

    Where the upload fails, `StoreError` names the folder, which has everything.
    """
    if not isinstance(out, str) or not is_address(out):
        yield None if out is None else Path(out)
        return
    place, folder = open_place(out), copied_to(out)
    with contextlib.suppress(InputError):  # nothing is there yet
        info(place)
        folder = fetch(out)
    yield folder
    try:
        push_folder(folder, place)
    except ArbenchError as error:
        hint = f"nothing is lost, it is in {folder}; copy it, or try again"
        raise StoreError(f"not uploaded to {place.address}: {error.what}", error.why, hint) from error
