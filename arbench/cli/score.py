"""`arbench score`: metrics of images that exist already, conventions side by side."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from arbench.errors import INFRASTRUCTURE, OK, InputError, UnknownName, UsageError

if TYPE_CHECKING:
    from rich.console import Console

    from arbench.evaluate.score_result import Score, ScoreResult
    from arbench.features.extract import Progress
    from arbench.score.engine import Request

ARROWS = {"higher": "\u2191", "lower": "\u2193", None: ""}


def parse_shard(text: str) -> tuple[int, int]:
    """(index, total) of "0/3"."""
    index, _, total = text.partition("/")
    if index.isdecimal() and total.isdecimal() and int(index) < int(total):
        return int(index), int(total)
    raise UsageError(f"--shard {text} is no shard", "shards are counted from 0: 0/3, 1/3, 2/3", "--shard 0/3")


def parse_names(values: Sequence[str]) -> tuple[str, ...]:
    """Names given one by one or with commas."""
    return tuple(name.strip() for value in values for name in value.split(",") if name.strip())


def read_prompts(path: Path | None) -> tuple[str, ...]:
    """The lines of a text file, empty ones at its end left out."""
    if path is None:
        return ()
    try:
        return tuple(path.read_text(encoding="utf-8").rstrip().splitlines())
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"cannot read the prompts in {path}", str(error), "give a UTF-8 text, a prompt a line"
        ) from error


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
    **others: Any,
) -> Request:
    """The request of these options, checked."""
    from arbench.data.crops import CROPS
    from arbench.data.reading import GENERATOR, Reading
    from arbench.features.weight_files import Weights, parse_given
    from arbench.run.device import resolve_device
    from arbench.score.engine import Request
    from arbench.weights import folder as weights_folder

    _one_of("--mode", mode, ("parity", "fast"))
    _one_of("--on-bad-image", on_bad, ("error", "skip"))
    for option, value in (("--crop", crop), ("--reference-crop", others.get("reference_crop", "none"))):
        _one_of(option, value, tuple(CROPS))
    if others.get("split") is not None:
        _one_of("--split", others["split"], ("train", "val"))
    made_of = others.get("prompts", ()) if samples.startswith(GENERATOR) else ()
    return Request(
        samples,
        reference,
        Weights(parse_given(weights), weights_folder()),
        mode=mode,  # type: ignore[arg-type]
        device=resolve_device(device),
        reading=Reading(on_bad, limit, crop, size, column, made_of),  # type: ignore[arg-type]
        **others,
    )


def _one_of(option: str, value: str, known: Sequence[str]) -> None:
    if value not in known:
        raise UnknownName(f"value of {option}", value, known, f"{option} {known[0]}")


def score(request: Request, json_output: bool = False) -> int:
    """Scores and prints a table, or with `json_output` the result as JSON. 3 if not one number could be computed."""
    from rich.console import Console

    from arbench.score.engine import out_folder

    console = Console(highlight=False)
    errors = Console(stderr=True, highlight=False)
    if request.shard[1] > 1:
        from arbench.score.engine import extract

        with progress_bar(errors) as progress:
            found = extract(request, progress)
        count = len(next(iter(found.values()))) if found else 0
        console.print(
            f"shard {request.shard[0]}/{request.shard[1]}: features of {count} images in {out_folder(request)}\n"
            "when all shards are there: arbench merge SHARD... --out WHOLE, then arbench score WHOLE --reference ...",
            soft_wrap=True,
        )
        return OK
    from arbench.score.engine import score as run

    with progress_bar(errors) as progress:
        result = run(request, progress)
    if json_output:
        sys.stdout.write(json.dumps(result.plain(), indent=2, allow_nan=False) + "\n")
    else:
        show(result, console, out_folder(request))
    return OK if any(entry.metric.value is not None for entry in result.scores) else INFRASTRUCTURE


class progress_bar:  # noqa: N801, used as a function
    """A bar for each set of images that is read; nothing where stderr is no terminal."""

    def __init__(self, console: Console) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        self._bars = Progress(
            TextColumn("{task.description}"),
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


def show(result: ScoreResult, console: Console, folder: Path) -> None:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    for line in header(result):
        console.print(Text(line), soft_wrap=True)
    names = list(dict.fromkeys(entry.convention for entry in result.scores))
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("metric", no_wrap=True)
    for name in names:
        table.add_column(name, justify="right", no_wrap=True)
    for metric in dict.fromkeys(entry.metric.name for entry in result.scores):
        row = {entry.convention: entry for entry in result.scores if entry.metric.name == metric}
        direction = next(iter(row.values())).metric.direction
        cells = [cell(row[name]) if name in row else "" for name in names]
        table.add_row(Text(f"{metric} {ARROWS[direction]}"), *(Text(text) for text in cells))
    console.print(table)
    for line in notes(result):
        console.print(Text(line), soft_wrap=True)
    console.print(Text(f"details: {folder / 'score.json'}, per image: {folder / 'samples.parquet'}"), soft_wrap=True)


def header(result: ScoreResult) -> list[str]:
    lines = [f"samples    {_set(result.samples)}"]
    if result.reference is not None:
        lines.append(f"reference  {_set(result.reference)}")
    for name, deviation in result.deviation.items():
        lines.append(f"fast mode  {name}: features differ from parity mode by {deviation:.1e} (relative, at most)")
    return lines


def _set(summary: object) -> str:
    from arbench.evaluate.score_result import SetSummary

    assert isinstance(summary, SetSummary)
    parts = [f"{summary.source}: {summary.n} images"]
    if summary.sizes:
        sizes = list(summary.sizes)
        parts.append(sizes[0] if len(sizes) == 1 else f"{len(sizes)} sizes, mostly {sizes[0]}")
    if summary.statistics:
        parts.append(f"{summary.statistics} statistics")
    if summary.skipped:
        parts.append("left out: " + ", ".join(f"{count} {reason}" for reason, count in summary.skipped.items()))
    if summary.converted:
        parts.append("converted: " + ", ".join(f"{count} {kind}" for kind, count in summary.converted.items()))
    return ", ".join(parts)


def cell(entry: Score) -> str:
    """ "12.34 ±0.56", or "-" for a null value."""
    metric = entry.metric
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


def notes(result: ScoreResult) -> list[str]:
    """Why numbers are missing, what flags say, and what is odd about the two sets; each once."""
    lines = []
    reasons: dict[str, list[str]] = {}
    flagged: dict[str, list[str]] = {}
    for entry in result.scores:
        name = f"{entry.convention} {entry.metric.name}"
        if entry.metric.value is None:
            reasons.setdefault(entry.metric.reason, []).append(name)
        for flag in entry.metric.flags:
            flagged.setdefault(flag, []).append(name)
    known = {remark.code: remark.text for remark in result.remarks}
    lines += [f"- {_names(names)}: {reason}" for reason, names in reasons.items()]
    lines += [
        f"* {flag}: {known.get(flag) or FLAGS.get(flag, '')} ({_names(names)})" for flag, names in flagged.items()
    ]
    lines += [f"! {code}: {text}" for code, text in known.items() if code not in flagged]
    return lines


FLAGS = {
    "rank_deficient": "fewer images than dimensions, so the covariance is singular",
    "small_n": "fewer than 10 images a dimension: the value is biased upwards and compares at equal n only",
    "unofficial_weights": "the weight file is none of those in circulation, so no published number compares",
    "tool_has_no_root": "the tool itself fails on these covariances; this is the exact distance",
    "exact": "too many vectors for the tool's own float32 matrices; this is the exact value",
    "no_interval": "no error bar belongs to this estimator",
    "extrapolated": "not a distance at any number of samples",
    "sorted_labels": "the samples are sorted by class, and this score depends on their order",
    "data_range_2": "this convention's SSIM assumes a range twice as large as the data's",
}


def _names(names: Sequence[str]) -> str:
    return ", ".join(names) if len(names) <= 4 else f"{', '.join(names[:3])} and {len(names) - 3} more"
