"""Features of a reference source, extracted once per run and kept on disk."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ..data.indexed import ImageSource
from ..errors import StoreError

CHUNK = 64


class Extractor(Protocol):
    """What `EfficientNetLite0` offers; `convention` names all that decides the features."""

    @property
    def name(self) -> str: ...

    @property
    def convention(self) -> str: ...

    @property
    def dimension(self) -> int: ...

    def __call__(self, images: NDArray[np.uint8]) -> NDArray[np.float32]: ...


def reference_features(
    source: ImageSource,
    extractor: Extractor,
    folder: Path | None = None,
    progress: Callable[[int], None] = lambda done: None,
) -> NDArray[np.float32]:
    """(N, D) features of all images of the source.

    With `folder` (made if need be) they are kept there under the source's digest and the extractor's convention, and
    read back the next time. A file that cannot be used is written anew. `progress` is told how many images are done.
    """
    if folder is None:
        return _extracted(source, extractor, progress)
    key = f"{source.digest()}:{extractor.convention}"
    path = folder / f"features-{hashlib.blake2b(key.encode(), digest_size=8).hexdigest()}.npz"
    shape = (len(source), extractor.dimension)
    kept = _read(path, key, shape)
    if kept is not None:
        return kept
    with _alone(folder):
        kept = _read(path, key, shape)  # another process may have been at it
        if kept is not None:
            return kept
        features = _extracted(source, extractor, progress)
        _write(path, key, features)
    return features


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """While one process is inside, others that need features wait; the kernel lets go of the folder if it dies.

    A folder that cannot be made is no reason to stop here: `_write` says so.
    """
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
            held = os.open(folder, os.O_RDONLY)
            stack.callback(os.close, held)
            fcntl.flock(held, fcntl.LOCK_EX)
        yield


def _extracted(source: ImageSource, extractor: Extractor, progress: Callable[[int], None]) -> NDArray[np.float32]:
    features = np.empty((len(source), extractor.dimension), dtype=np.float32)
    for start in range(0, len(source), CHUNK):
        stop = min(start + CHUNK, len(source))
        features[start:stop] = extractor(source.load(range(start, stop)))
        progress(stop)
    return features


def _read(path: Path, key: str, shape: tuple[int, int]) -> NDArray[np.float32] | None:
    try:
        with np.load(path, allow_pickle=False) as archive:
            features: NDArray[np.float32] = archive["features"]
            if str(archive["key"]) == key and features.shape == shape and features.dtype == np.float32:
                return features
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        pass
    return None


def _write(path: Path, key: str, features: NDArray[np.float32]) -> None:
    """Whole or not at all, so that two workers may write the same file."""
    partial = path.with_suffix(f".{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("wb") as file:
            np.savez(file, allow_pickle=False, features=features, key=np.array(key))
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            partial.unlink()
        raise StoreError(
            f"cannot keep reference features at {path}", error.strerror or str(error), "check space and permissions"
        ) from error
