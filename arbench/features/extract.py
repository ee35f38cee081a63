"""Features of a source by recipe: those on disk are opened, the others extracted in one pass over the images."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

from ..data.readers.ahead import AheadStream
from ..data.reading import Open, Reading, Source, fingerprint, name_of
from ..data.sources import open_images
from ..measure.provenance import device_name
from . import recipes
from .extractor import FeatureExtractor, Mode
from .fast_mode import kept_deviation
from .feature_folder import PAIRS, FeatureFolder
from .feature_set import FeatureSet
from .gather import Network, Target, Values, gather, outputs_of
from .weight_files import Weights

MANY = 4000
"""Images for which processes that decode are worth the second in which they start."""
Progress = Callable[[str, int, int | None], None]
"""Told what is read, how many images are done, and of how many (None: unknown)."""


class Networks(Protocol):
    """The networks of all recipes: `Extractors` of this process, or those of other machines."""

    @property
    def executor(self) -> Literal["local", "ray"]: ...

    @property
    def machine(self) -> str:
        """What computes, by name."""
        ...

    @property
    def deviation(self) -> Mapping[str, float]: ...

    def get(self, recipe: str) -> Network: ...

    def expect(self, recipe: str, count: int | None) -> None:
        """Told before a pass over `count` images (None: unknown)."""
        ...


@dataclass(slots=True)
class Extractors:
    """Networks of the recipes, loaded when first asked for and kept."""

    weights: Weights
    device: str
    mode: Mode
    _loaded: dict[str, FeatureExtractor] = field(default_factory=dict)
    deviation: dict[str, float] = field(default_factory=dict)
    """Recipe -> largest relative deviation of this mode from parity: see `fast_mode`."""
    executor: Literal["local", "ray"] = field(default="local", init=False)

    @property
    def machine(self) -> str:
        return device_name(self.device)

    def get(self, recipe: str) -> FeatureExtractor:
        if recipe not in self._loaded:
            self._loaded[recipe] = recipes.load(recipe, self.weights, self.device, self.mode)
        return self._loaded[recipe]

    def expect(self, recipe: str, count: int | None) -> None:
        """Before a pass over `count` images (None: unknown): in fast mode its network may compile itself for many, and
        its deviation is looked up, or measured if this machine has not."""
        if self.mode == "parity":
            return
        extractor = self.get(recipe)
        before = extractor.compiled
        extractor.expect(count)
        if recipe not in self.deviation or extractor.compiled != before:
            found = kept_deviation(extractor, lambda: recipes.load(recipe, self.weights, self.device, "parity"))
            self.deviation[recipe] = max(found, self.deviation.get(recipe, 0.0))


@dataclass(frozen=True, slots=True)
class Job:
    """A source, how it is read, and the folder that keeps its features."""

    source: Source
    reading: Reading
    folder: Path
    shard: tuple[int, int] = (0, 1)
    values: Values | None = None
    values_settings: dict[str, object] = field(default_factory=dict)
    open: Open = open_images
    mark: str | None = None
    """Changes when the images do; None: the fingerprint of the source's files."""

    def store(self) -> FeatureFolder:
        files = fingerprint(self.source) if self.mark is None else self.mark
        settings = {**self.reading.settings(), "files": files}
        return FeatureFolder(self.folder, name_of(self.source), settings, self.shard)


def features_of(
    job: Job, wanted: Sequence[str], extractors: Networks, progress: Progress, timings: dict[str, float] | None = None
) -> dict[str, FeatureSet]:
    """Recipe (and "pairs", if the job has per-image values) -> its finished set."""
    started = time.perf_counter()
    store = job.store()
    found: dict[str, FeatureSet] = {}
    targets: dict[str, Target] = {}
    for recipe in wanted:
        extractor = extractors.get(recipe)
        claimed = store.claim(recipe, outputs_of(extractor))
        if isinstance(claimed, FeatureSet):
            found[recipe] = claimed
        else:
            targets[recipe] = Target(claimed, extractor)
    if job.values is not None:
        claimed = store.claim(PAIRS, (), job.values_settings)
        if isinstance(claimed, FeatureSet):
            found[PAIRS] = claimed
        else:
            targets[PAIRS] = Target(claimed, values=job.values)
    if targets:
        stream = job.open(job.source, job.reading, job.shard)
        name, count = stream.name, stream.count
        progress(name, 0, count)
        networks = [target.extractor for target in targets.values() if target.extractor is not None]
        fast = any(each.ahead for each in networks)  # a device, or many machines: they want more than threads decode
        if fast and (count is None or count >= MANY) and isinstance(stream, AheadStream):
            stream.decode_in_processes()
        for each in networks:
            extractors.expect(each.recipe, count)
        sets = gather(stream, list(targets.values()), lambda done: progress(name, done, count))
        found |= dict(zip(targets, sets, strict=True))
    if timings is not None:
        key = f"features of {name_of(job.source)}"
        timings[key] = timings.get(key, 0.0) + time.perf_counter() - started
    return found
