"""The one way to disk: a file is whole or unchanged, through a crash or a power cut; locks end with their holder."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from .errors import StoreError

DISK_ERRORS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG})
TEMPORARY = ".*.tmp"
"""Glob of the partial files that a killed process leaves behind."""


def digest(data: bytes) -> str:
    """Hex blake2b (16 bytes) of the content of a file, as the journal keeps it."""
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def state_of(path: Path) -> tuple[int, int, int, int]:
    """Differs once a file was written or replaced, be it by one of the same size whose time was set back.

    Size, time of its content, and what no tool sets: time of the last change, and the number of the file.
    """
    found = path.stat()
    return found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino


@contextlib.contextmanager
def replacing(path: Path, hint: str = "check the path, its space and permissions") -> Iterator[BinaryIO]:
    """A new file that takes the name `path` once the block ends well, and is on the disk then; else `path` stays.

    Folders are made as needed. Raises `StoreError` with `hint` as the next step for whatever the disk refuses.
    """
    # of several machines that share a folder, two may have the same process number
    temporary = path.with_name(f".{path.name[:100]}.{os.getpid()}-{os.urandom(4).hex()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # it is in use: `remove_leftovers` leaves it alone
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        _sync_folder(path.parent)
    except OSError as error:
        raise StoreError(f"cannot write {path}", error.strerror or str(error), hint) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def write_atomic(path: Path, data: bytes, hint: str = "make room or give access, then: arbench resume DIR") -> str:
    """Writes `data` so that `path` holds all of it or is unchanged; returns its digest."""
    with replacing(path, hint) as file:
        file.write(data)
    return digest(data)


def remove_leftovers(folder: Path) -> None:
    """Removes the partial files below `folder` that killed processes have left, and none that is being written."""
    for path in folder.rglob(TEMPORARY):
        with contextlib.suppress(OSError), path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink()


def _sync_folder(folder: Path) -> None:
    """A rename is on the disk only when its folder is."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


class Lock:
    """An exclusive lock on a file, which names its holder; the kernel frees it when the holder ends, however it ends.

    For a folder that only one process may write. Where one may wait for another, `filelock` does.
    """

    def __init__(self, path: Path, hint: str) -> None:
        """Raises `StoreError`, naming the holder, if another process has it."""
        folder = path.parent
        try:
            self._handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise StoreError(f"cannot lock {folder}", error.strerror or str(error), "check its permissions") from error
        try:
            fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = _holder(self._handle)
            os.close(self._handle)
            raise StoreError(
                f"{folder} is in use", f"another arbench (process {holder or 'unknown'}) is running it", hint
            ) from error
        os.ftruncate(self._handle, 0)
        os.pwrite(self._handle, f"{os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        os.close(self._handle)


def locked_by(path: Path) -> int | None:
    """The process that holds the `Lock` on `path` (0 if it cannot be told), or None."""
    try:
        handle = os.open(path, os.O_RDONLY)
    except OSError:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        holder = _holder(handle)
        return int(holder) if holder.isdigit() else 0
    finally:
        os.close(handle)
    return None


def _holder(handle: int) -> str:
    return os.pread(handle, 32, 0).decode(errors="replace").strip()
