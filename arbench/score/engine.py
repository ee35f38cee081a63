"""`arbench score` from a request to results on disk: the pass over the samples, their numbers, the folder of scores."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from .. import registry
from ..data.prompts import texts
from ..data.readers.objects import shuffled
from ..data.reading import GENERATOR, Reading, Source, name_of
from ..data.statistics import kept, published
from ..data.stream import ImageStream
from ..errors import InputError, MissingWeights, UsageError
from ..evaluate import conventions
from ..evaluate.definition import Definition
from ..evaluate.evaluation import Evaluation, evaluate, open_reference
from ..evaluate.pairs import Pairing, PairMetrics
from ..evaluate.question import Question, available_recipes, variants_of, weights_of
from ..features.extract import Extractors, Job, Networks, Progress, features_of
from ..features.feature_folder import PAIRS, is_features, sets_in
from ..features.feature_set import Features
from ..journal import now
from ..measure.provenance import record
from ..measure.threads import SAMPLING_THREADS, threads
from ..spec.card import Card
from ..spec.cell import make_cell
from ..spec.identity import identity
from ..spec.result import Provenance, Remark, Result
from ..spec.suite import Settings
from ..spec.task import prompts_in, tasks
from ..tasks.compared import Compared, stored_features, stored_prompts
from ..tasks.generate import Generate
from ..weight_parts import notes_of
from .cells import CellStream, SampledCell, cells_of, images_missing, is_run
from .folder import ScoreFolder, per_image_table
from .generated import digests_of, mark_of, opener, origin_of
from .request import ScoreRequest, refuse_option

STANDARD = ("arbench", "adm", "torch-fidelity")
"""Conventions that are reported where the standard Inception weights are here and none are named."""


@dataclass(slots=True)
class _Job:
    """One set of samples: where its features come from, who made it, and how long each stage took."""

    request: ScoreRequest
    question: Question
    source: Source
    origin: Mapping[str, Any]
    """Fields of the result that say whose samples they are."""
    held: Mapping[str, Features] = field(default_factory=dict)
    """Features that are there already, by recipe."""
    cell: SampledCell | None = None
    timings: dict[str, float] = field(default_factory=dict)


def score(
    request: ScoreRequest,
    progress: Progress = lambda what, done, count: None,
    networks: Networks | None = None,
) -> list[Result]:
    """Scores the samples, and writes a result for each set of them: one, or one for each cell of a run.

    `networks` compute the features, if not this process.
    """
    extractors = networks or Extractors(request.weights, request.device, request.mode)
    results = []
    for job in _jobs(request):
        with threads(_threads_of(job.cell)):
            results.append(_scored(job, extractors, progress))
    return results


def _threads_of(cell: SampledCell | None) -> int | None:
    """The thread count that a run's cell was evaluated with: sums in float32 depend on it in their last digits."""
    known = _provenance_of(cell)
    return known.threads if known is not None else None


def _provenance_of(cell: SampledCell | None) -> Provenance | None:
    return cell.result.provenance if cell is not None and cell.result is not None else None


def extract(
    request: ScoreRequest,
    progress: Progress = lambda what, done, count: None,
    networks: Networks | None = None,
) -> Mapping[str, Features]:
    """The features of one shard, and nothing else: `arbench merge` joins them, and `score` takes the whole.

    Raises `UsageError` where no features are to be computed, `MissingWeights` where none can be.
    """
    extractors = networks or Extractors(request.weights, request.device, request.mode)
    jobs = _jobs(request)
    name = name_of(request.samples)
    if len(jobs) > 1:
        cells = ", ".join(job.cell.cell.result_id for job in jobs if job.cell is not None)
        raise UsageError(f"{name} has {len(jobs)} cells with samples", f"a shard is of one: {cells}", f"{name}:CELL")
    (job,) = jobs
    wanted = job.question.definitions()
    available, reasons = available_recipes(conventions.needed_recipes(wanted), request.weights)
    found = _samples(job, available, wanted, extractors, progress)
    computed = {recipe: features for recipe, features in found.items() if features is not job.held.get(recipe)}
    if not computed and job.held:
        refuse_option("--shard", "the features of the samples are there already, of all of them", "leave it out")
    if not computed and reasons:
        raise MissingWeights(f"no features of {name} can be computed", "; ".join(reasons.values()), "")
    return computed


# ---- whose samples ---------------------------------------------------------------------------------------------------


def _jobs(request: ScoreRequest) -> list[_Job]:
    request.refuse_over_input(request.folder, "--out ANOTHER")
    request.refuse_unused()
    request.refuse_unused_of_reference()
    jobs = _found_jobs(request)
    wanted = [definition for job in jobs for definition in job.question.definitions()]
    request.refuse_unasked({each.kind for each in wanted}, {name for each in wanted for name in weights_of(each)})
    return jobs


def _found_jobs(request: ScoreRequest) -> list[_Job]:
    if is_run(request.samples):
        return [_of_cell(request, cell) for cell in cells_of(request.samples)]
    question = replace(request.question, conventions=_chosen(request))
    if isinstance(request.samples, str) and request.samples.startswith(GENERATOR):
        card = registry.card(request.samples.removeprefix(GENERATOR))
        return [_Job(request, question, request.samples, _of_generator(card, request))]
    held = sets_in(Path(request.samples)) if is_features(request.samples) else {}
    name = name_of(request.samples)
    origin = request.origin or {
        "adapter": name,
        "family": "images",
        "kind": "images",
        "load": {"device": request.device},
    }
    return [_Job(request, question, request.samples, origin, held)]


def _chosen(request: ScoreRequest) -> tuple[str, ...]:
    """The conventions asked for; else those whose weights are here, for pairs with the pair metrics before them."""
    if request.question.conventions:
        return request.question.conventions
    standard = request.weights.find("inception") is not None
    if request.question.paired:
        return ("pairs", *STANDARD) if standard else ("pairs", "offline-pairs")
    return STANDARD if standard else ("offline",)


def _of_generator(card: Card, request: ScoreRequest) -> dict[str, Any]:
    """Native sampling and seed 0: the settings of a suite that changes nothing, under the same id."""
    settings = Settings(device=request.device)
    digests = digests_of(card, request.adapters)
    cell = make_cell(card, Generate(), settings, card.native, digests, data={}, machine=request.device)
    return origin_of(cell)


def _of_cell(request: ScoreRequest, cell: SampledCell) -> _Job:
    """A run's cell: its reference, crop and conventions are those of its task, where the request names no others."""
    task = cell.cell.task
    asked, question = request.question, Question(())
    data = [each.source for each in tasks()[task.task].data(task) if each.what == "images"]
    if isinstance(task, Compared):
        question = task.question()
    question = replace(
        question,
        conventions=asked.conventions or question.conventions or _chosen(request),
        metrics=asked.metrics or (() if asked.conventions else question.metrics),
        paired=asked.paired or question.paired,
        error=asked.error if asked.error != "delta" else question.error,
        subset_size=asked.subset_size or question.subset_size,
    )
    reading = Reading()
    if request.reference is not None:
        question = replace(question, crop=asked.crop, size=asked.size, kind=asked.kind, split=asked.split)
        reading = request.reading
    reference = request.reference if request.reference is not None else (data[0] if data else None)
    held = stored_features(cell.cell.adapter, cell.units, paired=question.paired)
    prompts = request.prompts or stored_prompts(cell.units)
    own = replace(request, reference=reference, reading=reading, question=question, prompts=prompts)
    return _Job(own, question, cell.name, origin_of(cell.cell), held, cell)


# ---- features and numbers --------------------------------------------------------------------------------------------


def _scored(job: _Job, extractors: Networks, progress: Progress) -> Result:
    started, begin, request = now(), time.perf_counter(), job.request
    wanted = job.question.definitions()
    needed = conventions.needed_recipes(wanted)
    if published.is_name(request.reference):
        kept.locate(str(request.reference))  # before the pass over the samples
    available, reasons = available_recipes(needed, request.weights)
    available = [recipe for recipe in needed if recipe in job.held or recipe in available]
    if job.held and job.cell is None:
        available = [recipe for recipe in needed if recipe in job.held]
        reasons = {name: f"{job.source} holds no features of {name}" for name in needed if name not in job.held}
    reasons = {name: why for name, why in reasons.items() if name not in available}
    samples = _samples(job, available, wanted, extractors, progress)
    reference = None
    if request.reference is not None:
        reference = open_reference(
            request.reference,
            job.question,
            available,
            extractors,
            reading=_originals_reading(job, samples) if not available else _reference_reading(job),
            folder=request.kept / "reference",
            open_source=opener(request.device, request.adapters),
            mark=mark_of(request.reference, request.adapters),
            progress=progress,
            timings=job.timings,
        )
    clock = time.perf_counter()
    found = evaluate(
        wanted,
        samples,
        reference,
        job.question,
        request.weights,
        reasons=reasons,
        name=job.origin["adapter"],
        crop=request.reading.crop,
        device=request.device,
        strict=request.strict,
        prompts=texts(request.prompts[: request.reading.limit]),
        progress=lambda done: progress("numbers", done, len(wanted)),
    )
    job.timings["statistics"] = time.perf_counter() - clock
    result = _result(job, found, extractors, started, time.perf_counter() - begin)
    folder = ScoreFolder(request.folder, f"Scores of {name_of(request.samples)}", request.argv)
    folder.add(result, per_image_table(samples, found.per_image, PAIRS))
    return result


def _reference_reading(job: _Job) -> Reading:
    """As the run read it: of reconstructions only the images that were reconstructed."""
    if job.cell is not None and job.question.paired:
        return Reading(limit=job.cell.count, crop=job.question.crop, size=job.question.size)
    return job.request.reference_reading


def _originals_reading(job: _Job, samples: Mapping[str, Features]) -> Reading:
    """Of pairs that no network sees: all, so that what has no partner is told; of a limit no more than samples."""
    reading, pairs = _reference_reading(job), samples.get(PAIRS)
    if pairs is None or not len(pairs) or job.request.reading.limit is None:
        return reading
    return replace(reading, limit=pairs.pictures[-1].index + 1)


def _samples(
    job: _Job, available: Sequence[str], wanted: Sequence[Definition], extractors: Networks, progress: Progress
) -> Mapping[str, Features]:
    request = job.request
    if job.held and job.cell is None:
        return job.held
    pairing = _pairing(job, wanted)
    missing = [recipe for recipe in available if recipe not in job.held]
    known = set(job.held[PAIRS].pictures[0].values) if PAIRS in job.held and len(job.held[PAIRS]) else set()
    if job.cell is not None and pairing is not None and set(pairing.metrics.available) <= known:
        pairing = None  # the run has measured these pairs
    if job.cell is not None and not missing and pairing is None:
        return job.held
    if job.cell is not None and job.cell.images_kept < job.cell.count:
        raise images_missing(job.cell)
    task = Job(
        job.source,
        request.reading,
        request.kept / "features",
        request.shard,
        open=_opener(job),
        mark=job.cell.mark if job.cell is not None else mark_of(job.source, request.adapters),
    )
    if pairing is not None:
        task = replace(task, values=pairing, values_settings=pairing.settings())
    return {**job.held, **features_of(task, missing, extractors, progress, job.timings)}


def _pairing(job: _Job, wanted: Sequence[Definition]) -> Pairing | None:
    request = job.request
    variants, opened = variants_of(wanted), _opener(job)
    if not job.question.paired or request.reference is None or not variants:
        return None
    for source in (job.source, request.reference):
        if shuffled(source):
            raise InputError(f"{name_of(source)} is shuffled", "its pairs would be chance", "DataLoader(shuffle=False)")
    return Pairing(
        request.reference,
        _reference_reading(job),
        PairMetrics(variants, request.weights, request.device),
        request.shard,
        opener(request.device, request.adapters),
        opened(job.source, request.reading, request.shard).count if isinstance(job.source, str) else None,
        mark_of(request.reference, request.adapters),
    )


def _opener(job: _Job) -> Any:
    """Opens the images of the job: those of its cell, or what `opener` knows."""
    cell = job.cell
    if cell is None:
        return opener(job.request.device, job.request.adapters)

    def open_cell(source: Source, reading: Reading, shard: tuple[int, int] = (0, 1)) -> ImageStream:
        return CellStream(cell, shard, reading.limit)

    return open_cell


# ---- the result ------------------------------------------------------------------------------------------------------


def _result(job: _Job, found: Evaluation, extractors: Networks, started: str, seconds: float) -> Result:
    request, question = job.request, job.question
    parameters: dict[str, Any] = {
        "samples": name_of(job.source),
        "reference": None if request.reference is None else name_of(request.reference),
        "n": found.samples.n,
        "conventions": list(question.conventions),
        "metrics": list(question.metrics),
        "paired": question.paired,
        "mode": request.mode,
        "error": question.error,
        "kid_subset_size": question.subset_size,
        "crop": question.crop,
        "size": question.size,
        "kind": question.kind,
        "reading": request.reading.settings(),
        "cell": job.cell.cell.task.plain() if job.cell is not None else None,
    }
    if request.reference_column is not None:
        parameters["reference_column"] = request.reference_column
    digests = {"samples": found.samples.digest, "reference": found.reference.digest if found.reference else ""}
    origin = dict(job.origin)
    if "settings_id" not in origin:
        origin["settings_id"] = identity({"samples": found.samples.digest, "adapter": origin["adapter"]}, "set")
    of_cell = job.cell.cell.result_id if job.cell is not None else ""
    data = {}
    if request.reference is not None:
        data[name_of(request.reference)] = _data_digest(job, digests["reference"])
    if job.cell is not None:
        data |= prompts_in(job.cell.cell.data)
    weights = {**(job.cell.cell.weights_sha256 if job.cell is not None else {}), **found.weights}
    return Result(
        **origin,
        result_id=identity({"score": parameters, "digests": digests, "weights": weights, "cell": of_cell}, "res"),
        task="score",
        parameters=parameters,
        outcome="ok" if any(metric.value is not None for metric in found.metrics) else "error",
        reason="" if any(metric.value is not None for metric in found.metrics) else "not one number could be computed",
        metrics=found.metrics,
        samples=found.samples,
        reference=found.reference,
        remarks=(*found.remarks, *_chosen_weights(job)),
        deviation=dict(extractors.deviation),
        timings={name: round(value, 3) for name, value in job.timings.items()},
        artifacts={"per-image": "samples.parquet"} if found.samples.n else {},
        provenance=record(request.device, weights, data, sampling_threads=_sampling_threads(job)).model_copy(
            update={"executor": extractors.executor, "device": extractors.machine}
        ),
        started=started,
        wall_seconds=round(seconds, 3),
    )


def _chosen_weights(job: _Job) -> list[Remark]:
    """Which of the weights in their files a generator was given."""
    if not (isinstance(job.source, str) and job.source.startswith(GENERATOR)):
        return []
    notes = notes_of(registry.card(job.source.removeprefix(GENERATOR)), job.request.adapters)
    return [Remark(code="weights_part", text="; ".join(notes))] if notes else []


def _sampling_threads(job: _Job) -> int | None:
    """Of samples that a run or this process has drawn; None for images of unknown origin."""
    if job.cell is not None:
        known = _provenance_of(job.cell)
        return known.sampling_threads if known is not None else None
    return None if job.origin["kind"] == "images" else SAMPLING_THREADS


def _data_digest(job: _Job, fallback: str) -> str:
    """As a run's provenance has it, where the reference is the one of the run's cell; else the reference's own."""
    if job.cell is not None and isinstance(job.request.reference, str):
        known = job.cell.cell.data.get(job.request.reference)
        if known is not None:
            return known
    return fallback
