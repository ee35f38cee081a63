"""Feature sets side by side in one folder, one per recipe: found again, resumed, merged."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from filelock import FileLock

from ..errors import DamagedFile, InputError
from .feature_set import FeatureSet, Output, is_feature_set, read_header
from .feature_writer import FeatureWriter, merge, no_room

LOCK = ".lock"
NUMBERS = 2
"""Changes whenever the features of an image can change in any digit: those on disk are then not used any more."""
PAIRS = "pairs"
"""Name of the set that holds no vectors but the metrics of image pairs."""


def cache_folder() -> Path:
    """Where features of reference sets are kept: `$ARBENCH_CACHE`, else `~/.cache/arbench/features`."""
    given = os.environ.get("ARBENCH_CACHE")
    return Path(given) if given else Path.home() / ".cache" / "arbench" / "features"


class FeatureFolder:
    """The sets of one source read in one way. `settings` is all that decides which pictures they hold."""

    def __init__(self, folder: Path, source: str, settings: Mapping[str, Any], shard: tuple[int, int] = (0, 1)) -> None:
        self.folder = folder
        self._source = source
        self._settings = dict(settings)
        self._shard = shard

    def place(self, name: str, outputs: Sequence[Output], extra: Mapping[str, Any] | None = None) -> Path:
        """Where the set of these outputs goes: another recipe, weight file, mode or reading has another folder."""
        facts = {
            "numbers": NUMBERS,
            "source": self._source,
            "settings": {**self._settings, **(extra or {})},
            "outputs": [asdict(output) for output in outputs],
            "shard": list(self._shard),
        }
        mark = hashlib.blake2b(json.dumps(facts, sort_keys=True).encode(), digest_size=5).hexdigest()
        return self.folder / f"{name.replace('/', '--')}-{mark}"

    def claim(
        self, name: str, outputs: Sequence[Output], extra: Mapping[str, Any] | None = None
    ) -> FeatureSet | FeatureWriter:
        """The finished set, or a writer that makes it. A process that is making it already is waited for."""
        place = self.place(name, outputs, extra)
        try:
            place.mkdir(parents=True, exist_ok=True)
            lock = FileLock(place / LOCK)  # held by the writer until it closes, freed by the system if it dies
            lock.acquire()
        except OSError as error:
            raise no_room(place, error) from error
        try:
            if is_feature_set(place) and read_header(place)["complete"]:
                finished = FeatureSet(place)
                lock.release()
                return finished
        except DamagedFile as error:
            logging.getLogger(__name__).warning("%s: %s; extracted again", error.what, error.why)
            for file in place.iterdir():
                if file.name != LOCK:
                    file.unlink()
        settings = {**self._settings, **(extra or {})}
        return FeatureWriter(place, self._source, settings, outputs, self._shard, lock)


def sets_in(folder: Path) -> dict[str, FeatureSet]:
    """Recipe (or "pairs") -> finished set below `folder`. Raises `InputError` for none, or one that is not done."""
    found: dict[str, FeatureSet] = {}
    for place in sorted(path.parent for path in folder.glob("*/features.json")):
        one = FeatureSet(place)
        name = next(iter(one.outputs)).partition(":")[0] if one.outputs else PAIRS
        if name in found:
            raise InputError(
                f"{folder} holds two sets of {name}",
                f"{found[name].folder.name} and {place.name}",
                "remove the one that is not meant",
            )
        found[name] = one
    if not found:
        raise InputError(f"no features in {folder}", "", "arbench score SAMPLES --out DIR makes some")
    return found


def merge_folders(parts: Sequence[Path], folder: Path) -> dict[str, FeatureSet]:
    """Joins the shards of every set, in any order of `parts`."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / LOCK):
            return _merged(parts, folder)
    except OSError as error:
        raise no_room(folder, error) from error


def _merged(parts: Sequence[Path], folder: Path) -> dict[str, FeatureSet]:
    if any(path.name != LOCK for path in folder.iterdir()):
        raise InputError(f"{folder} is not empty", "merged features go to a folder of their own", "name another --out")
    by_part = [sets_in(part) for part in parts]
    names = sorted({name for sets in by_part for name in sets})
    for part, sets in zip(parts, by_part, strict=True):
        missing = [name for name in names if name not in sets]
        if missing:
            raise InputError(
                f"{part} has no {', '.join(missing)}", "the other shards do", "score every shard with the same options"
            )
    return {name: merge([sets[name] for sets in by_part], folder / name.replace("/", "--")) for name in names}


def is_features(source: Any) -> bool:
    """Whether a source is a folder of finished features."""
    return isinstance(source, str) and any(Path(source).glob("*/features.json"))
