"""`arbench score`: metrics of images that exist already, conventions side by side."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from arbench.errors import INFRASTRUCTURE, OK, UnknownName, UsageError, counted

if TYPE_CHECKING:
    from rich.console import Console

    from arbench.features.extract import Networks, Progress
    from arbench.run.ray_features import RayNetworks
    from arbench.score.request import ScoreRequest
    from arbench.spec.result import Metric, Result, SetSummary
    from arbench.track.target import Target

ARROWS = {"higher": "\u2191", "lower": "\u2193", None: ""}


def parse_shard(text: str) -> tuple[int, int]:
    """(index, total) of "0/3"."""
    index, _, total = text.partition("/")
    if index.isdecimal() and total.isdecimal() and int(index) < int(total):
        return int(index), int(total)
    raise UsageError(
        f"invalid --shard {text!r}: expected I/N", "shards are counted from 0: 0/3, 1/3, 2/3", "--shard 0/3"
    )


def parse_names(values: Sequence[str]) -> tuple[str, ...]:
    """Names given one by one or with commas."""
    return tuple(name.strip() for value in values for name in value.split(",") if name.strip())


def request_of(
    samples: str,
    reference: str | None,
    *,
    weights: Sequence[str],
    mode: str,
    device: str,
    on_bad: str,
    limit: int | None = None,
    crop: str = "none",
    size: int | None = None,
    column: str | None = None,
    reference_column: str | None = None,
    reference_crop: str = "none",
    reference_size: int | None = None,
    reference_kind: str | None = None,
    split: str | None = None,
    conventions: Sequence[str] = (),
    metrics: Sequence[str] = (),
    paired: bool = False,
    error: str = "delta",
    subset_size: int | None = None,
    prompts: tuple[str, ...] = (),
    **others: Any,
) -> ScoreRequest:
    """The request of these options, checked."""
    from arbench import registry
    from arbench.data.crops import CROPS
    from arbench.data.reading import GENERATOR, Reading
    from arbench.evaluate.question import Question
    from arbench.features.weight_files import WEIGHTS, feature_weights, parse_given, refuse_missing
    from arbench.run.device import resolve_device
    from arbench.score.request import ScoreRequest

    _one_of("--mode", mode, ("parity", "fast"))
    _one_of("--on-bad-image", on_bad, ("error", "skip"))
    _one_of("--error", error, ("delta", "jackknife"))
    for option, value in (("--crop", crop), ("--reference-crop", reference_crop)):
        _one_of(option, value, tuple(CROPS))
    if split is not None:
        _one_of("--split", split, ("train", "val"))
    given = parse_given(weights, registry.cards())
    refuse_missing(given)
    question = Question(
        tuple(conventions), tuple(metrics), paired, reference_crop, reference_size, reference_kind, split, error,
        subset_size,
    )  # fmt: skip
    return ScoreRequest(
        samples,
        reference,
        question,
        feature_weights(given),
        {name: path for name, path in given.items() if name not in WEIGHTS},
        mode=mode,  # type: ignore[arg-type]
        device=resolve_device(device),
        reading=Reading(on_bad, limit, crop, size, column, prompts if samples.startswith(GENERATOR) else ()),  # type: ignore[arg-type]
        reference_column=reference_column,
        prompts=prompts,
        argv=tuple(sys.argv),
        **others,
    )


@contextmanager
def networks_of(
    executor: str, address: str | None, device: str, weights: Sequence[str], mode: str
) -> Iterator[RayNetworks | None]:
    """What computes features on the cluster of these options; None where this process does."""
    if executor == "local" and address is None:
        yield None
        return
    from arbench.run.ray_features import ray_networks

    with ray_networks(executor, address, device, weights, mode) as networks:
        yield networks


def _one_of(option: str, value: str, known: Sequence[str]) -> None:
    if value not in known:
        raise UnknownName(f"value of {option}", value, known, f"{option} {known[0]}")


def score(
    request: ScoreRequest, json_output: bool = False, track: str | None = None, networks: Networks | None = None
) -> int:
    """Scores and prints a table, or with `json_output` the results as JSON. 3 if not one number could be computed.

    `networks` compute the features, if not this process.
    """

    from arbench.terminal import PlainConsole

    console = PlainConsole()
    errors = PlainConsole(stderr=True)
    if request.shard[1] > 1:
        from arbench.score.engine import extract

        with progress_bar(errors) as progress:
            found = extract(request, progress, networks)
        count = len(next(iter(found.values()))) if found else 0
        console.print(
            f"shard {request.shard[0]}/{request.shard[1]}: features of {counted(count, 'image')} in {request.folder}\n"
            "when all shards are there: arbench merge SHARD... --out WHOLE, then arbench score WHOLE --reference ...",
            soft_wrap=True,
        )
        return OK
    from arbench.score.engine import score as run
    from arbench.track import target as tracking

    address = track or tracking.of_environment()
    store = tracking.target(address, request.folder) if address and address != tracking.OFF else None
    if store is not None:
        tracking.check(store, "--track off")
    with progress_bar(errors) as progress:
        results = run(request, progress, networks)
    if store is not None:
        _track(results, request.folder, store, errors)
    if json_output:
        documents = [result.plain() for result in results]
        sys.stdout.write(json.dumps(documents[0] if len(documents) == 1 else documents, indent=2) + "\n")
    else:
        for result in results:
            show(result, console, request.folder, many=len(results) > 1)
    measured = any(metric.value is not None for result in results for metric in result.metrics)
    return OK if measured else INFRASTRUCTURE


def _track(results: Sequence[Result], folder: Path, store: Target, console: Console) -> None:
    """Logs the results to MLflow and says so; losing it loses nothing."""
    from arbench.track.sink import Tracker

    tracker = Tracker(store, folder)
    tracker.start(json.loads((folder / "run.json").read_bytes()))
    for result in results:
        tracker.cell(result, folder / "cells" / result.result_id)
    tracker.finish(None, "complete")
    for text in (*tracker.remarks, *([tracker.problem] if tracker.problem else [])):
        console.print(f"tracking: {text}", soft_wrap=True)
    console.print(f"mlflow: {len(tracker.tracked)} of {len(results)} results are tracked: {store.view}", soft_wrap=True)


class progress_bar:  # noqa: N801, used as a function
    """A bar for each set of images that is read; nothing where stderr is not a terminal."""

    def __init__(self, console: Console) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        self._bars = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._tasks: dict[str, int] = {}

    def __enter__(self) -> Progress:
        self._bars.start()
        return self._tell

    def __exit__(self, *_: object) -> None:
        self._bars.stop()

    def _tell(self, what: str, done: int, count: int | None) -> None:
        from rich.progress import TaskID

        if what not in self._tasks:
            self._tasks[what] = int(self._bars.add_task(what, total=count))
        self._bars.update(TaskID(self._tasks[what]), completed=done, total=count)


def show(result: Result, console: Console, folder: Path, many: bool = False) -> None:
    """One row per metric, one column per convention, then what is missing and why."""
    from rich.text import Text

    from arbench.terminal import Column, print_table

    if many:
        console.print(Text(f"{result.adapter} ({result.settings_id})"), soft_wrap=True)
    for line in header(result):
        console.print(Text(line), soft_wrap=True)
    names = list(dict.fromkeys(metric.convention for metric in result.metrics))
    columns = [Column("metric", whole=True), *(Column(name, right=True, whole=True) for name in names)]
    rows = []
    for name in dict.fromkeys(metric.name for metric in result.metrics):
        row = {metric.convention: metric for metric in result.metrics if metric.name == name}
        direction = next(iter(row.values())).direction
        cells = [cell(row[convention]) if convention in row else "" for convention in names]
        rows.append([f"{name} {ARROWS[direction]}".rstrip(), *cells])
    print_table(console, columns, rows, rule=True)
    for line in notes(result):
        console.print(Text(line), soft_wrap=True)
    here = folder / "cells" / result.result_id
    console.print(Text(f"details: {here / 'result.json'}, per image: {here / 'samples.parquet'}"), soft_wrap=True)


def header(result: Result) -> list[str]:
    lines = [f"samples    {_set(result.samples)}"] if result.samples is not None else []
    if result.reference is not None:
        lines.append(f"reference  {_set(result.reference)}")
    for name, deviation in result.deviation.items():
        lines.append(f"fast mode  {name}: features differ from parity mode by {deviation:.1e} (relative, at most)")
    return lines


def _set(summary: SetSummary) -> str:
    unknown = summary.statistics and not summary.n
    count = "number of images not stated" if unknown else counted(summary.n, "image") if summary.n else "not read"
    parts = [f"{summary.source}: {count}"]
    if summary.sizes:
        sizes = list(summary.sizes)
        parts.append(sizes[0] if len(sizes) == 1 else f"{len(sizes)} sizes, mostly {sizes[0]}")
    if summary.statistics:
        parts.append(f"{summary.statistics} statistics" + (f" {summary.digest[:12]}" if summary.digest else ""))
    if summary.skipped:
        parts.append("left out: " + ", ".join(f"{count} {reason}" for reason, count in summary.skipped.items()))
    if summary.converted:
        parts.append("converted: " + ", ".join(f"{count} {kind}" for kind, count in summary.converted.items()))
    return ", ".join(parts)


def cell(metric: Metric) -> str:
    """ "12.34 ±0.56", or "-" for a null value."""
    if metric.value is None:
        return "-"
    mark = "*" if metric.flags else ""
    interval = metric.interval
    if interval is None:
        return f"{metric.value:.5g}{mark}"
    half = (interval.high - interval.low) / 2
    digits = 5 if half == 0 else max(0, min(8, 1 - _exponent(half)))
    return f"{metric.value:.{digits}f} \u00b1{half:.{digits}f}{mark}"


def _exponent(value: float) -> int:
    import math

    return math.floor(math.log10(abs(value)))


def notes(result: Result) -> list[str]:
    """Why numbers are missing, what flags say, and what is odd about the two sets; each once."""
    from arbench.spec.flags import FLAGS

    lines = []
    reasons: dict[str, list[str]] = {}
    flagged: dict[str, list[str]] = {}
    for metric in result.metrics:
        name = f"{metric.convention} {metric.name}"
        if metric.value is None:
            reasons.setdefault(metric.reason, []).append(name)
        for flag in metric.flags:
            flagged.setdefault(flag, []).append(name)
    known = {remark.code: remark.text for remark in result.remarks}
    lines += [f"- {_names(names)}: {reason}" for reason, names in reasons.items()]
    lines += [
        f"* {flag}: {known.get(flag) or FLAGS.get(flag, '')} ({_names(names)})" for flag, names in flagged.items()
    ]
    lines += [f"! {code}: {text}" for code, text in known.items() if code not in flagged]
    return lines


def _names(names: Sequence[str]) -> str:
    return ", ".join(names) if len(names) <= 4 else f"{', '.join(names[:3])} and {len(names) - 3} more"
