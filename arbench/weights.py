"""Where an adapter's weights are: given by path, shipped in the package, or in the weights folder."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path

from .errors import InputError, MissingWeights
from .spec.card import Card


def folder() -> Path:
    """`$ARBENCH_WEIGHTS`, else `~/.cache/arbench/weights`."""
    given = os.environ.get("ARBENCH_WEIGHTS")
    return Path(given) if given else Path.home() / ".cache" / "arbench" / "weights"


def find(card: Card, given: Mapping[str, str] | None = None) -> Path | None:
    """The weight file of `card`, or None if it is nowhere (or if the adapter needs none)."""
    path = (given or {}).get(card.name)
    if path is not None:
        if not Path(path).is_file():
            raise InputError(f"no weight file at {path}", f"given for {card.name}", "check the path")
        return Path(path)
    if card.checkpoint is None:
        return None
    if card.checkpoint.packaged:
        return Path(str(files("arbench.adapters") / "weights" / card.checkpoint.file))
    candidate = folder() / card.checkpoint.file
    return candidate if candidate.is_file() else None


def locate(card: Card, given: Mapping[str, str] | None = None) -> Path | None:
    """As `find`, but a checkpoint that is needed and not there is an error that says where to get it."""
    path = find(card, given)
    if path is None and card.checkpoint is not None:
        raise MissingWeights(
            f"no weights for {card.name}",
            f"the official file is {card.checkpoint.file} from {card.checkpoint.source} "
            f"(licence of the weights: {card.weights_licence})",
            f"put it at {folder() / card.checkpoint.file}, or name it under `weights:` in the suite",
        )
    return path


def sha256(path: Path) -> str:
    """Hex sha256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
