"""One evaluation of two sets: the numbers of every convention asked for, with remarks on what does not fit.

What `arbench run` does with the samples that it draws and `arbench score` with images that exist.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from ..data.reading import Open, Reading, Source, fingerprint, is_statistics, name_of
from ..data.sources import open_images
from ..data.statistics import checks, kept, published
from ..data.statistics.checks import Flag, SetIdentity
from ..data.statistics.read import read_statistics
from ..data.stream import Picture
from ..features.extract import Job, Networks, Progress, features_of
from ..features.feature_folder import cache_folder, is_features, sets_in
from ..features.feature_set import Features
from ..features.weight_files import WeightFile, Weights
from ..remote.cached import local
from ..spec.result import Metric, Remark, SetSummary
from .definition import Definition
from .inputs import Inputs
from .known_reference import KnownReference
from .numbers import numbers
from .odd_files import Side, flags_of, more_files
from .question import Question, variants_of, weight_files, why_missing
from .set_identity import identity_of


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What came out. `per_image` holds values of single samples, by column name."""

    metrics: tuple[Metric, ...]
    samples: SetSummary
    reference: SetSummary | None
    remarks: tuple[Remark, ...]
    weights: dict[str, str]
    """Name -> sha256 of the weights behind the features."""
    per_image: dict[str, NDArray[Any]] = field(default_factory=dict)


# ---- the reference ---------------------------------------------------------------------------------------------------


def open_reference(
    source: Source,
    question: Question,
    available: Sequence[str],
    extractors: Networks,
    *,
    reading: Reading | None = None,
    folder: Path | None = None,
    open_source: Open = open_images,
    mark: str | None = None,
    progress: Progress = lambda what, done, count: None,
    timings: dict[str, float] | None = None,
) -> KnownReference:
    """The reference with its features by every recipe in `available`: read from the cache, or extracted and kept there.

    `source` is images, a file of statistics or the name of published ones, or a folder of finished features. `reading`
    says how images are read, if not as the question has it; `folder` is where the features of sources without a name
    are kept; `mark` changes when the images do, where their files do not tell. Originals of pairs that no network sees
    are read for what they are alone: their digest, labels and sizes, which stay in `folder` and need no cache.
    """
    name = name_of(source)
    if is_features(source):
        sets: Mapping[str, Features] = sets_in(Path(source))
        return KnownReference(name, sets, None, identity_of(next(iter(sets.values())), split=question.split))
    statistics, images = None, source
    found = kept.locate(source) if published.is_name(source) else None
    if found is not None:
        statistics = kept.read(found, question.kind)
    elif is_statistics(source):
        statistics = read_statistics(Path(local(str(source))), kind=question.kind)  # type: ignore[arg-type]
    if statistics is not None:
        images = f"npz:{statistics.images}" if statistics.images is not None else ""
    sets = {}
    alone = question.paired and not available and not isinstance(images, Iterator)  # that is read once, by the pairs
    if (not isinstance(images, str) or images) and (available or alone):
        known_as = mark or fingerprint(images)
        place = cache_folder() / f"score-{known_as}"
        if folder is not None and (alone or not known_as):
            place = folder
        reading = reading or Reading(crop=question.crop, size=question.size)
        job = Job(images, reading, place, values=_no_values if alone else None, open=open_source, mark=mark)
        sets = features_of(job, available, extractors, progress, timings)
    if statistics is not None:
        identity = statistics.identity
        if question.split is not None:
            identity = replace(identity, split=question.split)  # type: ignore[arg-type]
        return KnownReference(name, sets, statistics, identity, found)
    any_set = next(iter(sets.values()), None)
    known = identity_of(any_set, crop=question.crop, split=question.split) if any_set else SetIdentity(name)
    return KnownReference(name, sets, None, known)


def _no_values(pictures: Sequence[Picture]) -> list[dict[str, float | None]]:
    return [{} for _ in pictures]


# ---- the numbers -----------------------------------------------------------------------------------------------------


def evaluate(
    wanted: Sequence[Definition],
    samples: Mapping[str, Features],
    reference: KnownReference | None,
    question: Question,
    weights: Weights,
    *,
    reasons: Mapping[str, str],
    name: str,
    crop: str = "none",
    device: str = "cpu",
    strict: bool = False,
    prompts: Sequence[str] = (),
    progress: Callable[[int], None] = lambda done: None,
) -> Evaluation:
    """Every definition as a metric; one that cannot be computed is null with the reason.

    `samples` are their features by recipe, and the metrics of image pairs under "pairs"; `reasons` says of the other
    recipes why they are not there. `name` and `crop` are those of the samples. With `strict` a reference that does not
    fit raises `InputError`.
    """
    any_set = next(iter(samples.values()), None)
    known = identity_of(any_set, crop=crop) if any_set is not None else SetIdentity(name)
    files = weight_files(wanted, weights)
    flags = _flags(question, files, known, reference)
    if strict:
        checks.refuse(flags)
    flags = (*flags, *_odd_files(any_set, reference))
    theirs = next(iter(reference.sets.values()), None) if reference is not None else None
    sides: dict[Side, Features | None] = {"samples": any_set, "reference": theirs}
    more = more_files((item.convention for item in wanted), sides)
    inputs = Inputs(
        samples,
        reference,
        reasons,
        paired=question.paired,
        error=question.error,
        device=device,
        ks=sorted({int(item.settings["k"]) for item in wanted if "k" in item.settings}) or (3,),
        subset_size=question.subset_size,
        flags=[(flag.metrics, flag.code) for flag in flags],
        unofficial={file.name for file in files if not file.official},
        labels_sorted=bool(known.labels_sorted),
        missing_variants={key: why for key in variants_of(wanted) if (why := why_missing(key, weights))},
        prompts=prompts,
        weights=weights,
    )
    return Evaluation(
        metrics=tuple(numbers(wanted, inputs, progress)),
        samples=_summary(any_set, known),
        reference=_reference_summary(reference, len(any_set or ())) if reference is not None else None,
        remarks=tuple(Remark(code=flag.code, text=flag.sentence) for flag in (*flags, *more)),
        weights={file.name: file.sha256 for file in files},
        per_image=inputs.per_image,
    )


def _flags(
    question: Question, files: Sequence[WeightFile], known: SetIdentity, reference: KnownReference | None
) -> tuple[Flag, ...]:
    if reference is None:
        return ()
    flags = checks.check_identity(known, reference.identity, question.task)
    if reference.statistics is not None and reference.statistics.weights:
        used = {file.name: file.sha256 for file in files}
        flags += checks.check_weights(reference.statistics.weights, used)
    return flags


def _odd_files(samples: Features | None, reference: KnownReference | None) -> list[Flag]:
    """Each code once, of the samples if both sets have it."""
    found: dict[str, Flag] = {}
    sets: list[tuple[Features | None, Side]] = [(samples, "samples")]
    if reference is not None:
        sets.append((next(iter(reference.sets.values()), None), "reference"))
    for one, side in sets:
        for flag in flags_of(one, side) if one is not None else ():
            found.setdefault(flag.code, flag)
    return list(found.values())


def _summary(one: Features | None, known: SetIdentity) -> SetSummary:
    if one is None:
        return SetSummary(source=known.name, n=0)
    sizes = Counter(f"{picture.height}x{picture.width}" for picture in one.pictures)
    return SetSummary(
        source=one.source,
        n=len(one),
        skipped=one.tally.skipped,
        converted=one.tally.converted,
        examples=tuple(one.tally.examples),
        sizes=dict(sizes.most_common(10)),
        classes=known.labels.classes if known.labels else None,
        labels_sorted=known.labels_sorted,
        digest=known.digest,
    )


def _reference_summary(reference: KnownReference, pairs: int) -> SetSummary:
    """`pairs`: how many samples were compared each with its original, where that is all that was read of them."""
    form = reference.statistics.format if reference.statistics is not None else ""
    if reference.sets:
        found = _summary(next(iter(reference.sets.values())), reference.identity)
        return found.model_copy(update={"source": reference.name, "statistics": form, "digest": reference.digest})
    held = reference.kept.images if reference.kept is not None else None
    return SetSummary(
        source=reference.name,
        n=reference.identity.n or held or (0 if form else pairs),
        sizes={f"{height}x{width}": reference.identity.n or 0 for height, width in reference.identity.sizes},
        digest=reference.digest,
        statistics=form,
    )
