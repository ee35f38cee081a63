"""What `arbench score` is asked: samples, a reference, conventions, and where the result goes."""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from .. import registry
from ..data.reading import GENERATOR, Reading, Source, is_statistics, name_of
from ..data.sources import takes_column
from ..errors import UsageError
from ..evaluate.question import Question
from ..features.extractor import Mode
from ..features.feature_folder import is_features
from ..features.weight_files import WEIGHTS, Weights
from .cells import is_run


@dataclass(frozen=True, slots=True)
class ScoreRequest:
    """What to score, what with, and how.

    question: `conventions` may be empty: then those that the weights here allow. reading: how the samples are read; the
    reference is read in the same way, but whole and with its own crop. adapters: weight files of generators, by name.
    prompts: for CLIPScore, what each sample was made from, in the order of the source. origin: fields of the result
    that say who made these samples, where that is known. features: where features go, if not to the folder of the
    results: those of an object, which may hold other images the next time, must not be found again. argv: the command,
    for the record.
    """

    samples: Source
    reference: Source | None
    question: Question
    weights: Weights
    adapters: Mapping[str, str] = field(default_factory=dict)
    mode: Mode = "parity"
    device: str = "cpu"
    reading: Reading = field(default_factory=Reading)
    reference_column: str | None = None
    strict: bool = False
    prompts: tuple[str, ...] = ()
    shard: tuple[int, int] = (0, 1)
    out: Path | None = None
    origin: Mapping[str, Any] = field(default_factory=dict)
    features: Path | None = None
    argv: tuple[str, ...] = ()

    @property
    def folder(self) -> Path:
        """Where results go: `out`, else `scores/<name of the samples>`."""
        if self.out is not None:
            return self.out
        name = name_of(self.samples).removeprefix(GENERATOR).rstrip("/").replace(":", "-").replace(" ", "-")
        slug = "-".join(part for part in Path(name).parts[-2:] if part not in ("/", "..", "."))
        shard = f"-{self.shard[0]}of{self.shard[1]}" if self.shard[1] > 1 else ""
        return Path("scores") / f"{slug or 'images'}{shard}"

    @property
    def kept(self) -> Path:
        """Where features go."""
        return self.features or self.folder

    def refuse_unused(self) -> None:
        """Raises `UsageError` for an option that nothing here would heed: who gave it takes the numbers for others."""
        held = is_run(self.samples) or is_features(self.samples)
        images = [each for each in (self.samples, self.reference) if each is not None and not is_statistics(each)]
        if self.question.size is not None and self.question.crop == "none":
            refuse_option("--size", "it is that of a crop of the reference", "add --reference-crop adm-center-crop-v1")
        if self.reading.size is not None and self.reading.crop == "none":
            refuse_option("--size", "it is that of a crop", "add --crop adm-center-crop-v1")
        if self.question.kind is not None and not is_statistics(self.reference):
            refuse_option("--reference-kind", "the reference is not a file of statistics", "leave it out")
        if self.reading.column is not None and not held and not any(map(takes_column, images)):
            refuse_option("--column", "neither set of images is a table", "leave it out")
        if self.reading.limit is not None and held:
            refuse_option("--limit", "the features of the samples are there already, of all of them", "leave it out")

    def refuse_over_input(self, place: Path, hint: str) -> None:
        """Raises `UsageError` where what is written to `place` would lie in a run, or among or over the images."""
        if is_run(str(place)):
            raise UsageError(f"{place} is the folder of a run", "scores go to a folder of their own", hint)
        for source in (self.samples, self.reference):
            if not isinstance(source, str) or is_run(source) or is_features(source):
                continue
            given = Path(source.removeprefix("npz:"))
            if given.exists() and place.exists() and given.samefile(place):
                raise UsageError(f"{place} is what is read", "it would be written into, or over", hint)

    def refuse_unused_of_reference(self) -> None:
        """Likewise for an option of the reference, where none is named or it holds no images to prepare."""
        column = self.reference_column is not None
        given = {
            "--reference-crop": self.question.crop != "none",
            "--split": self.question.split is not None,
            "--reference-column": column,
        }
        if self.reference is None:
            if not is_run(self.samples):
                given["--paired"] = self.question.paired
            for option in (option for option, value in given.items() if value):
                refuse_option(option, "no reference is named", "add --reference REF, or leave it out")
        elif given["--reference-crop"] and (is_statistics(self.reference) or is_features(self.reference)):
            refuse_option("--reference-crop", "the reference was prepared when its features were taken", "leave it out")
        elif column and (is_statistics(self.reference) or not takes_column(self.reference)):
            refuse_option("--reference-column", "the reference is not a table", "leave it out")

    def refuse_unasked(self, kinds: Set[str], networks: Set[str]) -> None:
        """Likewise for an option of a metric, where none of these `kinds` heeds it, and for weights of which no number
        is: those of other feature networks than these, and of adapters that make neither set."""
        asked = networks | self._generators()
        for name in (name for name in (*self.weights.given, *self.adapters) if name not in asked):
            why = "no metric asked for uses this network" if name in WEIGHTS else "neither set of images is its samples"
            refuse_option(f"--weights {name}=...", why, "leave it out, or check its name")
        if self.question.subset_size is not None and "kid-subsets" not in kinds:
            why = "no metric asked for is over subsets; the KID of `arbench` and `offline` is over all pairs"
            refuse_option("--kid-subset-size", why, "leave it out, or take a convention with subsets: -c clean-fid")
        generated = isinstance(self.samples, str) and self.samples.startswith(GENERATOR)
        if self.prompts and not generated and "clip-score" not in kinds:
            refuse_option("--prompts", "no metric asked for compares with texts", "leave it out, or add -c clip-score")

    def _generators(self) -> set[str]:
        """Adapters that sample as they are scored, and their tokenizers."""
        sources = [each for each in (self.samples, self.reference) if isinstance(each, str)]
        names = [each.removeprefix(GENERATOR) for each in sources if each.startswith(GENERATOR)]
        return {each for name in names for each in (name, registry.card(name).tokenizer) if each is not None}

    @property
    def reference_reading(self) -> Reading:
        reading, question = self.reading, self.question
        return Reading(reading.on_bad, None, question.crop, question.size, self.reference_column or reading.column)


def refuse_option(option: str, why: str, hint: str) -> NoReturn:
    """Raises `UsageError` for an option that nothing would heed."""
    raise UsageError(f"{option} would change nothing here", why, hint)
