"""What is computed of a reference alone, once for all samples compared with it, and is kept beside its features."""

from __future__ import annotations

import hashlib
import json
import logging
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

from ..errors import InputError, StoreError
from ..features.feature_set import Features, FeatureSet
from ..files import replacing
from ..measure.provenance import device_name, packages
from ..npy_files import NPZ_DAMAGE, NpzArrays

NUMBERS = 1
"""Changes whenever what is kept can change in any digit: what is on disk is then not used any more."""
LOCK = ".computed.lock"

Arrays = Mapping[str, NDArray[Any]]
Built = TypeVar("Built")


def kept(
    features: Features | None,
    output: str,
    what: str,
    settings: Mapping[str, Any],
    device: str,
    compute: Callable[[], Arrays],
    build: Callable[[Arrays], Built],
) -> Built:
    """`build(compute())`, with the arrays read from disk where they were computed before.

    `what` and `settings` are all that decides them beside the vectors of `output`, the software and the machine, on
    which last digits depend. A set that is not on disk by itself, or in a folder that cannot be written, has nothing
    kept. A process that is computing the same is waited for; a damaged file is computed again, and the log says so.
    """
    path = place(features, output, what, settings, device)
    if path is None:
        return build(compute())
    if (found := _read(path, build)) is not None:
        return found
    try:
        with FileLock(path.parent / LOCK):
            if (found := _read(path, build)) is not None:
                return found
            arrays = compute()
            try:
                _write(path, arrays)
            except StoreError as error:
                logging.getLogger(__name__).info("%s: %s; it will be computed again", error.what, error.why)
            return build(arrays)
    except OSError:  # no lock: the folder cannot be written
        return build(compute())


def place(features: Features | None, output: str, what: str, settings: Mapping[str, Any], device: str) -> Path | None:
    """The file that keeps it: other vectors, settings, software or hardware have another; None if nothing is kept."""
    if not isinstance(features, FeatureSet) or not (digest := features.digests.get(features.outputs[output].file)):
        return None
    import torch

    facts = {
        "numbers": NUMBERS,
        "vectors": [digest, *features.rows(output).shape],
        "what": what,
        "settings": dict(settings),
        "device": device_name(device),
        "threads": torch.get_num_threads(),
        "packages": dict(packages(("torch", "numpy", "scipy"))),
    }
    mark = hashlib.blake2b(json.dumps(facts, sort_keys=True).encode(), digest_size=8).hexdigest()
    return features.folder / f"computed--{what}--{mark}.npz"


def _write(path: Path, arrays: Arrays) -> None:
    with replacing(path) as file:
        np.savez(file, **dict(arrays))  # type: ignore[arg-type]


def _read(path: Path, build: Callable[[Arrays], Built]) -> Built | None:
    """None if it is not there, or damaged: the members of an npz have checksums."""
    try:
        with zipfile.ZipFile(path) as archive:
            return build(NpzArrays(archive, path.name))
    except FileNotFoundError:
        return None
    except (*NPZ_DAMAGE, InputError) as error:
        logging.getLogger(__name__).warning("%s is damaged: %s; computed again", path, error)
        return None
