"""Copies of what lies at an address, in a cache folder: made once, and again when the store has another content."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from ..errors import InputError, StoreError
from ..files import replacing, write_atomic
from .address import Place, exists, info, is_address, open_place, state, told

MANIFEST = ".remote.json"
"""In a copied folder: the state of each file in the store when it was copied, or uploaded."""
FIRST = "journal.jsonl"
"""Copied before all else, as it is uploaded after: then no record that is read lacks its files."""
Wanted = Callable[[str], bool]


def everything(name: str) -> bool:
    return True


def without_units(name: str) -> bool:
    """What reads results needs no samples."""
    return "/units/" not in f"/{name}"


def cache_folder() -> Path:
    """Where copies are kept: `$ARBENCH_REMOTE`, else `~/.cache/arbench/remote`."""
    given = os.environ.get("ARBENCH_REMOTE")
    return Path(given) if given else Path.home() / ".cache" / "arbench" / "remote"


def local(text: str) -> str:
    """The path of a copy of what lies at an address, a file or a folder; a text that is not an address, as it is."""
    return str(fetch(text)) if is_address(text) else text


def local_folder(text: str | Path, wanted: Wanted = everything) -> Path:
    """The folder itself, or a copy of the one at an address, of the files that are `wanted` by their name in it."""
    return fetch(text, wanted) if isinstance(text, str) and is_address(text) else Path(text)


def fetch(address: str, wanted: Wanted = everything) -> Path:
    """A copy of the file or folder at `address`, as it is now.

    A file has a place of its own for each state of the store; a folder has one, in which what has changed is copied
    again. Raises `InputError` where nothing is there, `StoreError` where the store or the disk refuses.
    """
    place = open_place(address)
    found = info(place)
    if found.get("type") == "directory":
        return _fetch_folder(place, wanted)
    if place.path.endswith(".json"):  # an index of weights: its shards lie beside it
        name = place.path.rpartition("/")[2]
        parent = Place(place.address.rpartition("/")[0], place.files, place.path.rpartition("/")[0])
        index = _fetch_file(place, found)
        if shards := _shards(index):
            return _fetch_folder(parent, lambda each: each == name or each in shards) / name
        return index
    return _fetch_file(place, found)


def copied_to(address: str) -> Path:
    """Where the copy of the folder at `address` is, or would be."""
    place = open_place(address)
    return cache_folder() / _mark(place.address) / PurePosixPath(place.path).name


def _mark(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def _fetch_file(place: Place, found: Mapping[str, Any]) -> Path:
    path = cache_folder() / _mark(f"{place.address} {state(found)}") / place.path.rpartition("/")[2]
    if path.is_file() and path.stat().st_size == found.get("size"):
        return path
    with _locked(path.parent):
        if not path.is_file() or path.stat().st_size != found.get("size"):
            download(place, path, found)
    return path


def _shards(index: Path) -> frozenset[str]:
    """Names of the files that an index of weights speaks of; none where it is not one."""
    try:
        content = json.loads(index.read_bytes())
        return frozenset(str(name) for name in content["weight_map"].values())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return frozenset()


def _fetch_folder(place: Place, wanted: Wanted) -> Path:
    folder = cache_folder() / _mark(place.address) / PurePosixPath(place.path).name
    with _locked(folder.parent):
        pull(place, folder, wanted)
    return folder


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Another process that copies the same is waited for."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        from filelock import FileLock  # needed by none who reads local files, and takes 15 ms

        lock = FileLock(folder / ".lock")
        lock.acquire()
    except OSError as error:
        hint = "name another folder for copies: ARBENCH_REMOTE=DIR"
        raise StoreError(f"cannot write {folder}", error.strerror or str(error), hint) from error
    try:
        yield
    finally:
        lock.release()


def pull(place: Place, folder: Path, wanted: Wanted = everything) -> None:
    """Makes `folder` hold the files at `place`: copies what it lacks or has in another state, the journal first.

    A file that the store has no longer is deleted, if it was copied from there. Others in the folder are left alone.
    """
    known = read_manifest(folder)
    if wanted(FIRST) and exists(place / FIRST):
        _bring(place, folder, FIRST, info(place / FIRST), known)
    there = {name: each for name, each in listed(place).items() if wanted(name)}
    for name in sorted(there.keys() - {FIRST}):
        _bring(place, folder, name, there[name], known)
    for name in [name for name in known if wanted(name) and name not in there]:
        (folder / name).unlink(missing_ok=True)
        del known[name]
    write_manifest(folder, known)


def _bring(place: Place, folder: Path, name: str, found: Mapping[str, Any], known: dict[str, str]) -> None:
    if known.get(name) != state(found) or not (folder / name).is_file():
        known[name] = download(place / name, folder / name, found)


def listed(place: Place) -> dict[str, dict[str, Any]]:
    """Name in the folder -> what the store says of it, of every file at `place` and below.

    Raises `InputError` for a name that would lie outside of it on disk.
    """
    with told(place.address, "list"):
        place.files.invalidate_cache()
        found = place.files.find(place.path, detail=True)
    names = {str(path).removeprefix(place.path).lstrip("/"): each for path, each in found.items()}
    for name in names:
        if name and (".." in PurePosixPath(name).parts or "\\" in name or "\0" in name):
            raise InputError(
                f"{place.address} has a file named {name!r}", "it would lie outside of the folder", "remove it"
            )
    return {
        name: each
        for name, each in names.items()
        if name and not name.endswith("/") and not PurePosixPath(name).name.startswith(".")
    }


def download(place: Place, path: Path, found: Mapping[str, Any]) -> str:
    """Copies a file, whole or not at all; returns its state, which is that of `found` unless it was replaced since."""
    for _ in range(3):
        with replacing(path, "make room, or name another folder for copies: ARBENCH_REMOTE=DIR") as file:
            with told(place.address, "read"), place.files.open(place.path, "rb") as there:
                while block := there.read(1 << 22):
                    file.write(block)
            size = file.tell()
        after = info(place)
        if size == after.get("size") and state(after) == state(found):
            return state(after)
        found = after
    path.unlink(missing_ok=True)
    raise StoreError(f"{place.address} changes while it is read", "", "wait until its writer is done, and try again")


def read_manifest(folder: Path) -> dict[str, str]:
    try:
        content = json.loads((folder / MANIFEST).read_bytes())
    except (OSError, ValueError):
        return {}
    return {str(name): str(each) for name, each in content.items()} if isinstance(content, dict) else {}


def write_manifest(folder: Path, known: Mapping[str, str]) -> None:
    write_atomic(folder / MANIFEST, json.dumps(known, indent=0).encode(), "make room or give access")
