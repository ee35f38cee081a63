"""Addresses of object stores, `s3://bucket/name`: which are known, the file system of each, and its errors in words."""

from __future__ import annotations

import contextlib
import importlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from ..errors import ArbenchError, InputError, PrerequisiteError, StoreError, UnknownName, UsageError, closest

SCHEMES: Mapping[str, str] = {
    "s3": "s3fs",
    "gs": "gcsfs",
    "gcs": "gcsfs",
    "az": "adlfs",
    "abfs": "adlfs",
    "abfss": "adlfs",
    "sftp": "paramiko",
    "ssh": "paramiko",
    "file": "",
    "memory": "",
}
"""Scheme -> the package that fsspec needs for it, "" for none."""
_ADDRESS = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://(.*)", re.DOTALL)
_COLLAPSED = re.compile(rf"({'|'.join(SCHEMES)}):/[^/].*", re.DOTALL)


def is_address(text: object) -> bool:
    """Whether it is `scheme://...`, of whatever scheme, rather than a path."""
    return isinstance(text, str) and _ADDRESS.fullmatch(text) is not None


@dataclass(frozen=True)
class Place:
    """What an address leads to: fsspec's file system, and the path in it without a slash at its end."""

    address: str
    files: Any
    path: str

    def __truediv__(self, name: str) -> Place:
        return Place(f"{self.address}/{name}", self.files, f"{self.path}/{name}")


def open_place(address: str) -> Place:
    """The place of `address`; nothing need be there.

    Raises `UnknownName` for a scheme that is not known, `UsageError` for an address that is not a place or has a
    password in it, `PrerequisiteError` where a package is missing, `StoreError` where the store cannot be opened.
    """
    found = _ADDRESS.fullmatch(address)
    scheme, rest = (found[1].lower(), found[2].rstrip("/")) if found else ("", "")
    if scheme in ("http", "https"):
        raise UsageError(
            f"{address} is a page of the web", f"arbench reads {_known()}", "download the file, and name its path"
        )
    if scheme not in SCHEMES:
        raise UnknownName("kind of address", scheme, SCHEMES, f"use one of {_known()}, or a path")
    if not rest.strip("/"):
        raise UsageError(f"{address} names no place", "", f"for instance {scheme}://BUCKET/runs/first")
    if re.match(r"[^/@]*:[^/@]*@", rest):
        raise UsageError(
            f"the {scheme} address has a password in it",
            "addresses are written to run.json and to reports",
            "leave it out, and configure it as the store's own tools have it",
        )
    if any(part in ("", ".", "..") for part in rest.lstrip("/").split("/")):
        raise UsageError(f"{address} has an empty part, '.' or '..' in it", "", "write the address without them")
    _require("fsspec", "'arbench[remote]'", scheme)
    if SCHEMES[scheme]:
        _require(SCHEMES[scheme], SCHEMES[scheme], scheme)
    from fsspec.core import url_to_fs

    with told(address, "open"):
        files, path = url_to_fs(f"{scheme}://{rest}")
    return Place(f"{scheme}://{rest}", files, str(path).rstrip("/"))


def refuse_address(text: str) -> str:
    """`text`, a path of this machine. Raises `UsageError` for an address: as a path it would be a folder `s3:`."""
    if is_address(text) or _COLLAPSED.fullmatch(text):
        raise UsageError(f"{text} is an address, and a path of this machine is needed here", "", "name a path")
    return text


def _known() -> str:
    return ", ".join(f"{scheme}://" for scheme in SCHEMES)


def _require(module: str, package: str, scheme: str) -> None:
    try:
        importlib.import_module(module)
    except ImportError as error:
        raise PrerequisiteError(
            f"{scheme}:// needs the package {module}", str(error), f"pip install {package}"
        ) from error


@contextlib.contextmanager
def told(address: str, doing: str) -> Iterator[None]:
    """What a store answers, as an error of ours: not there, no permission, or whatever else it says."""
    try:
        yield
    except ArbenchError:
        raise
    except FileNotFoundError as error:
        raise InputError(
            f"cannot {doing} {address}", f"nothing is there ({_line(error)})", "check the address"
        ) from error
    except Exception as error:  # libraries of stores have exceptions of their own
        if isinstance(error, PermissionError) or re.search(
            r"credential|forbidden|denied|unauthori[sz]ed", repr(error), re.I
        ):
            raise StoreError(
                f"no permission to {doing} {address}",
                _line(error),
                "give this user access, or name other credentials as the store's own tools have it",
            ) from error
        raise StoreError(
            f"cannot {doing} {address}", _line(error), "check the network and the store, and try again"
        ) from error


def _line(error: Exception) -> str:
    first = (str(error).strip().splitlines() or [""])[0]
    return f"{type(error).__name__}: {first}" if first else type(error).__name__


def info(place: Place) -> dict[str, Any]:
    """What the store says of a file or folder. Raises `InputError`, with names that are close, where none is."""
    try:
        with told(place.address, "read"):
            place.files.invalidate_cache()
            found: dict[str, Any] = place.files.info(place.path)
    except InputError as error:
        parent = place.address.rpartition("/")[0]
        close = [f"{parent}/{name}" for name in closest(place.path.rpartition("/")[2], _beside(place))]
        near = f"did you mean {' or '.join(close)}?" if close else error.why
        raise InputError(f"nothing is at {place.address}", near, "check the address") from error
    return found


def exists(place: Place) -> bool:
    with told(place.address, "read"):
        place.files.invalidate_cache()
        return bool(place.files.exists(place.path))


def _beside(place: Place) -> list[str]:
    parent = place.path.rpartition("/")[0]
    with contextlib.suppress(Exception):  # what cannot be listed helps nobody
        return [str(name).rstrip("/").rpartition("/")[2] for name in place.files.ls(parent, detail=False)]
    return []


_MARKS = ("ETag", "etag", "md5Hash", "content_md5", "crc32c", "generation", "checksum")
"""What stores call the mark of a content; the first that is there is enough, and the same in lists and by itself."""
_TIMES = ("LastModified", "last_modified", "mtime", "updated", "created", "ino")


def state(found: Mapping[str, Any]) -> str:
    """Size, and what the store has to tell another content by: its mark, else times. From what `info` returns."""
    facts = [f"{name}={_plain(found[name])}" for name in _MARKS if found.get(name) is not None][:1]
    facts = facts or [f"{name}={_plain(found[name])}" for name in _TIMES if found.get(name) is not None]
    return f"size={found.get('size')} {' '.join(facts)}"


def _plain(value: object) -> str:
    return value.astimezone(UTC).isoformat() if isinstance(value, datetime) else str(value)
