"""Weight files of feature extractors: known names and digests, where a file is and how to get it. Imports no torch."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class WeightFile:
    """A file that was found. `official` is the name of the registered file with this digest, or "" for any other."""

    name: str
    path: Path
    sha256: str
    official: str = ""


@dataclass(frozen=True, slots=True)
class Weights:
    """Where to look: `given` maps registry names to paths (from `--weights NAME=PATH`), then the cache folder."""

    given: Mapping[str, Path]
    cache: Path

    def find(self, name: str) -> WeightFile | None:
        """The file of this name, or None if it is nowhere. Raises `InputError` for a given path that is no file."""
        raise NotImplementedError

    def locate(self, name: str) -> WeightFile:
        """As `find`, but raises `MissingWeights`, saying where to get it."""
        raise NotImplementedError


def cache_folder() -> Path:
    """`$ARBENCH_WEIGHTS`, else `~/.cache/arbench/weights`."""
    given = os.environ.get("ARBENCH_WEIGHTS")
    return Path(given) if given else Path.home() / ".cache" / "arbench" / "weights"


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
