"""`arbench score` from a request to a result: references, the pass over the samples, numbers, files."""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..captions import texts
from ..data.contents import IdentityTally
from ..data.reading import GENERATOR, Reading, Source, fingerprint, is_statistics, name_of
from ..data.statistics import checks as identities
from ..data.statistics.checks import Flag, SetIdentity
from ..data.statistics.read import read_statistics
from ..errors import StoreError, UsageError
from ..evaluate import conventions
from ..evaluate.conventions import Convention, Definition
from ..evaluate.known_reference import Reference
from ..evaluate.numbers import Inputs, score_all, weights_of
from ..evaluate.pairs import Pairing, why_missing
from ..evaluate.score_result import Remark, ScoreResult, SetSummary
from ..features import recipes
from ..features.extract import Extractors, Job, Progress, features_of
from ..features.extractor import Mode
from ..features.feature_folder import PAIRS, cache_folder, is_features, sets_in
from ..features.feature_set import FeatureSet
from ..features.weight_files import WeightFile, Weights
from ..measure.provenance import record
from ..spec.result import Provenance
from .generated import opener

RESULT, SAMPLES = "score.json", "samples.parquet"


@dataclass(frozen=True, slots=True)
class Request:
    """What to score, what with, and how."""

    samples: Source
    reference: Source | None
    weights: Weights
    conventions: tuple[str, ...] = ()
    metrics: tuple[str, ...] = ()
    mode: Mode = "parity"
    device: str = "cpu"
    reading: Reading = field(default_factory=Reading)
    """How the samples are read. The reference is read in the same way, but whole and with its own crop."""
    reference_crop: str = "none"
    reference_size: int | None = None
    reference_kind: str | None = None
    split: str | None = None
    """Which split the reference is: "train" or "val"."""
    paired: bool = False
    error: str = "delta"
    subset_size: int | None = None
    """Of the kernel distances over subsets, if not the convention's own."""
    strict: bool = False
    prompts: tuple[str, ...] = ()
    """For CLIPScore: what each sample was made from, in the order of the source."""
    shard: tuple[int, int] = (0, 1)
    out: Path | None = None

    @property
    def task(self) -> identities.Task:
        return "reconstruct" if self.paired else "generate"


@dataclass(slots=True)
class Run:
    """One request at work."""

    request: Request
    progress: Progress
    extractors: Extractors = field(init=False)
    timings: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.extractors = Extractors(self.request.weights, self.request.device, self.request.mode)


def score(request: Request, progress: Progress = lambda what, done, count: None) -> ScoreResult:
    """Scores, writes `score.json` and `samples.parquet` to the request's folder, and returns the result."""
    started = datetime.now(UTC).isoformat(timespec="seconds")
    run = Run(request, progress)
    chosen = chosen_conventions(request)
    wanted = conventions.definitions(chosen, request.metrics)
    if request.paired is False and all(item.paired for item in wanted):
        raise UsageError(
            "these metrics compare pairs of images", "samples and reference were not said to be pairs", "add --paired"
        )
    available, reasons = available_recipes(request, conventions.needed_recipes(wanted))
    reference = _reference(run, available) if request.reference is not None else None
    samples = _samples(run, available, wanted)
    known = _identity(request, samples)
    files = weight_files(request, wanted)
    flags = _flags(request, files, known, reference)
    if request.strict:
        identities.refuse(flags)
    clock = time.perf_counter()
    inputs = Inputs(
        samples,
        reference,
        reasons,
        error=request.error,
        device=request.device,
        ks=sorted({int(item.settings["k"]) for item in wanted if "k" in item.settings}) or (3,),
        subset_size=request.subset_size,
        flags=[(flag.metrics, flag.code) for flag in flags],
        unofficial={file.name for file in files if not file.official},
        labels_sorted=bool(known.labels_sorted),
        missing_variants=_missing_variants(request, wanted),
        prompts=texts(request.prompts),
        weights=request.weights,
    )
    scores = score_all(wanted, inputs, lambda done: progress("numbers", done, len(wanted)))
    run.timings["statistics"] = time.perf_counter() - clock
    result = ScoreResult(
        samples=_summary(samples, known),
        reference=_reference_summary(reference) if reference is not None else None,
        settings=_settings(request, chosen),
        scores=tuple(scores),
        remarks=tuple(Remark(code=flag.code, text=flag.sentence) for flag in flags),
        deviation=run.extractors.deviation,
        timings={name: round(seconds, 3) for name, seconds in run.timings.items()},
        provenance=_provenance(request, files, reference),
        started=started,
    )
    write(result, samples, inputs.per_image, out_folder(request))
    return result


def extract(request: Request, progress: Progress = lambda what, done, count: None) -> dict[str, FeatureSet]:
    """The features of one shard, and nothing else: `arbench merge` joins them, and `score` takes the whole."""
    run = Run(request, progress)
    wanted = conventions.definitions(chosen_conventions(request), request.metrics)
    available, _ = available_recipes(request, conventions.needed_recipes(wanted))
    return _samples(run, available, wanted)


def chosen_conventions(request: Request) -> list[Convention]:
    """Those asked for; else the ones whose weights are here, for pairs with the pair metrics before them."""
    if request.conventions:
        return conventions.select(request.conventions)
    standard = request.weights.find("inception") is not None
    names = ["arbench", "adm", "torch-fidelity"] if standard else ["offline"]
    return conventions.select(["pairs", *names] if request.paired else names)


def available_recipes(request: Request, needed: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """Recipes whose weights are here, and for each of the others the reason why its numbers are null."""
    held = sets_in(Path(request.samples)) if is_features(request.samples) else None
    found, reasons = [], {}
    for name in needed:
        missing = [weight for weight in recipes.find(name).weights if request.weights.find(weight) is None]
        if held is not None and name not in held:
            reasons[name] = f"{request.samples} holds no features of {name}"
        elif missing and held is None:
            names = " ".join(missing)
            reasons[name] = f"no weights of {names}: arbench weights fetch {names}, or --weights {missing[0]}=PATH"
        else:
            found.append(name)
    return found, reasons


def weight_files(request: Request, wanted: Sequence[Definition]) -> list[WeightFile]:
    """The files behind these numbers, as far as they are here."""
    names = dict.fromkeys(name for definition in wanted for name in weights_of(definition))
    return [file for name in names if (file := request.weights.find(name)) is not None]


def out_folder(request: Request) -> Path:
    if request.out is not None:
        return request.out
    name = name_of(request.samples).removeprefix(GENERATOR).rstrip("/").replace(":", "-").replace(" ", "-")
    slug = "-".join(part for part in Path(name).parts[-2:] if part not in ("/", "..", "."))
    shard = f"-{request.shard[0]}of{request.shard[1]}" if request.shard[1] > 1 else ""
    return Path("scores") / f"{slug or 'images'}{shard}"


def _samples(run: Run, available: Sequence[str], wanted: Sequence[Definition]) -> dict[str, FeatureSet]:
    request = run.request
    if is_features(request.samples):
        return sets_in(Path(request.samples))
    job = Job(
        request.samples,
        request.reading,
        out_folder(request) / "features",
        request.shard,
        open=opener(request.device),
    )
    if request.paired and request.reference is not None:
        variants = [str(item.settings["variant"]) for item in wanted if item.paired]
        pairing = Pairing(
            request.reference,
            _reference_reading(request),
            variants,
            request.weights,
            request.device,
            request.shard,
            opener(request.device),
        )
        job = replace(job, values=pairing, values_settings=pairing.settings())
    return features_of(job, available, run.extractors, run.progress, run.timings)


def _reference_reading(request: Request) -> Reading:
    reading = request.reading
    return Reading(reading.on_bad, None, request.reference_crop, request.reference_size, reading.column)


def _reference(run: Run, available: Sequence[str]) -> Reference:
    request = run.request
    assert request.reference is not None
    source, name = request.reference, name_of(request.reference)
    if is_features(source):
        sets = sets_in(Path(source))
        return Reference(name, sets, None, identity_of(next(iter(sets.values())), split=request.split))
    statistics, images = None, source
    if is_statistics(source):
        statistics = read_statistics(Path(source), kind=request.reference_kind)  # type: ignore[arg-type]
        images = f"npz:{statistics.images}" if statistics.images is not None else ""
    sets = {}
    if not isinstance(images, str) or images:
        reading = _reference_reading(request)
        mark = fingerprint(images)
        folder = cache_folder() / f"score-{mark}" if mark else out_folder(request) / "reference"
        sets = features_of(
            Job(images, reading, folder, open=opener(request.device)),
            available,
            run.extractors,
            run.progress,
            run.timings,
        )
    if statistics is not None:
        return Reference(name, sets, statistics, statistics.identity)
    any_set = next(iter(sets.values()), None)
    known = identity_of(any_set, crop=request.reference_crop, split=request.split) if any_set else SetIdentity(name)
    return Reference(name, sets, None, known)


def identity_of(one: FeatureSet, crop: str = "none", split: str | None = None) -> SetIdentity:
    """What the pictures of a set are."""
    tally = IdentityTally.from_arrays(
        {
            "index": np.array([picture.index for picture in one.pictures], dtype=np.int64),
            "label": np.array(
                [np.iinfo(np.int64).min if picture.label is None else picture.label for picture in one.pictures]
            ),
            "size": np.array([(picture.height, picture.width) for picture in one.pictures], dtype=np.int32),
            "digest": np.frombuffer(bytes.fromhex("".join(p.digest for p in one.pictures)), np.uint8).reshape(-1, 16),
        }
    )
    return identities.identity(
        one.source,
        tally.result(),
        crop=identities.UNKNOWN if crop == "none" else crop,
        split=split,  # type: ignore[arg-type]
    )


def _identity(request: Request, samples: dict[str, FeatureSet]) -> SetIdentity:
    if not samples:
        return SetIdentity(name_of(request.samples))
    return identity_of(next(iter(samples.values())), crop=request.reading.crop)


def _flags(
    request: Request, files: Sequence[WeightFile], known: SetIdentity, reference: Reference | None
) -> tuple[Flag, ...]:
    if reference is None:
        return ()
    flags = identities.check_identity(known, reference.identity, request.task)
    if reference.statistics is not None and reference.statistics.weights:
        used = {file.name: file.sha256 for file in files}
        flags += identities.check_weights(reference.statistics.weights, used)
    return flags


def _missing_variants(request: Request, wanted: Sequence[Definition]) -> dict[str, str]:
    variants = [str(item.settings["variant"]) for item in wanted if item.paired]
    return {name: why for name in variants if (why := why_missing(name, request.weights))}


def _summary(samples: dict[str, FeatureSet], known: SetIdentity) -> SetSummary:
    if not samples:
        return SetSummary(source=known.name, n=0)
    one = next(iter(samples.values()))
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


def _reference_summary(reference: Reference) -> SetSummary:
    if reference.sets:
        found = _summary(reference.sets, reference.identity)
        return found.model_copy(update={"source": reference.name, "statistics": _format(reference)})
    return SetSummary(
        source=reference.name,
        n=reference.identity.n or 0,
        sizes={f"{height}x{width}": reference.identity.n or 0 for height, width in reference.identity.sizes},
        digest=reference.identity.digest,
        statistics=_format(reference),
    )


def _format(reference: Reference) -> str:
    return reference.statistics.format if reference.statistics is not None else ""


def _settings(request: Request, chosen: Sequence[Convention]) -> dict[str, object]:
    return {
        "conventions": [convention.name for convention in chosen],
        "metrics": list(request.metrics),
        "mode": request.mode,
        "device": request.device,
        "paired": request.paired,
        "error": request.error,
        "subset_size": request.subset_size,
        "samples": request.reading.settings(),
        "reference": {"crop": request.reference_crop, "size": request.reference_size, "kind": request.reference_kind},
    }


def _provenance(request: Request, files: Sequence[WeightFile], reference: Reference | None) -> Provenance:
    weights = {file.name: file.sha256 for file in files}
    data = {"reference": reference.identity.digest} if reference is not None and reference.identity.digest else {}
    return record(request.device, weights, data)


def write(
    result: ScoreResult, samples: dict[str, FeatureSet], per_image: Mapping[str, NDArray[Any]], folder: Path
) -> None:
    """`score.json`, and a row for each image in `samples.parquet`."""
    import pandas

    try:
        folder.mkdir(parents=True, exist_ok=True)
        text = json.dumps(result.plain(), indent=1, allow_nan=False)
        _replace(folder / RESULT, text.encode())
        one = samples.get(PAIRS) or next(iter(samples.values()), None)
        if one is None:
            return
        rows = [
            {
                "index": picture.index,
                "key": picture.key,
                "label": picture.label,
                "height": picture.height,
                "width": picture.width,
                "digest": picture.digest,
                **picture.values,
            }
            for picture in one.pictures
        ]
        partial = folder / f"{SAMPLES}.tmp"
        table = pandas.DataFrame(rows).astype({"label": "Int64"}).assign(**per_image)
        table.to_parquet(partial)
        partial.replace(folder / SAMPLES)
    except OSError as error:
        raise StoreError(
            f"cannot write results to {folder}", error.strerror or str(error), "check space and permissions"
        ) from error


def _replace(path: Path, content: bytes) -> None:
    partial = path.with_suffix(".tmp")
    with partial.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
