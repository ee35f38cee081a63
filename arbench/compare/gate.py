"""The gate: a night's run against a baseline, one verdict per number, and an exit code that means one thing."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Literal

from ..errors import FAILED, INFRASTRUCTURE, OK
from ..report.folders import RunFolder, read_runs
from ..report.repeats import SD, SEEDS
from ..report.rows import differing_settings
from ..report.series import Reading, night, settings_told
from ..spec.result import Metric
from . import screen
from .baseline import Baseline, NightRecord, NumberOfNight, record, seedless
from .difference import EXACT, Differences
from .in_turn import Number, of_row
from .matching import Numbers
from .same_cell import renamed, same_cell
from .samples import References

Verdict = Literal[
    "OK", "IDENTICAL", "IMPROVED", "REGRESSED", "AMBIGUOUS", "SUSPECT", "QUARANTINED", "NO_BASELINE", "NOT_MEASURED",
    "INVALID",
]  # fmt: skip
GOOD = frozenset({"OK", "IDENTICAL", "IMPROVED", "AMBIGUOUS"})
"""Nights with these verdicts are the history of a number."""
UNGATED = frozenset({"NO_BASELINE", "NOT_MEASURED", "INVALID", "QUARANTINED"})
DETAILS = frozenset(
    {
        *("latency-spread", "probe-overhead", "phase-closure", "first-call", "load", "prepare", "latency-p90"),
        *("other-load", "stolen-time"),
    }
)
"""Numbers about a measurement, not of the model: they are in the report and not in the gate."""
IMPOSSIBLE = frozenset({"repeated_output", "random_weights"})
"""Flags that say a reading is of something else."""
GROWTH, LEAK = "memory-growth", "leak"
"""Growth of memory is about 0, so that a ratio means nothing; the flag says that a call leaves memory behind."""
OUTCOME = "outcome"
"""In place of a number: what is said of a whole cell."""
NAN = ("not finite", "NaN", "nan")

Confirm = Callable[[str, frozenset[str]], Mapping[Number, tuple[Sequence[float], Sequence[float]]]]
"""(adapter, tasks) -> readings of the last good and of the new build, run in turn."""


@dataclass(frozen=True)
class Gated:
    """One number of the night and its verdict. `baseline` and `value` are None where a side has none."""

    model: str
    task: str
    metric: str
    verdict: Verdict
    baseline: float | None = None
    value: float | None = None
    unit: str = ""
    why: str = ""
    key: str = ""
    nights: int = 0
    measure: str = "quality"
    settings_id: str = ""
    setting: str = ""
    """What tells it from the model's other numbers of this name, if there are any."""

    @property
    def title(self) -> str:
        """Of the model, with what tells this number from others of it."""
        return f"{self.model} ({self.setting})" if self.setting else self.model

    @property
    def name(self) -> str:
        return f"{self.model} {self.metric}"

    @property
    def change(self) -> float | None:
        """As a share of the baseline."""
        if self.baseline is None or self.value is None or not self.baseline:
            return None
        return self.value / self.baseline - 1


@dataclass(frozen=True)
class Verdicts:
    """What a gate found of a run."""

    baseline: str
    run_id: str
    folder: Path
    started: str
    numbers: tuple[Gated, ...]

    @property
    def counts(self) -> dict[str, int]:
        return dict(Counter(str(each.verdict) for each in self.numbers))

    @property
    def exit_code(self) -> int:
        """1 only for a regression; 3 where a number of the baseline was not measured, or none was gated; else 0."""
        verdicts = {each.verdict for each in self.numbers}
        if "REGRESSED" in verdicts:
            return FAILED
        if verdicts & {"NOT_MEASURED", "INVALID"} or not verdicts - UNGATED:
            return INFRASTRUCTURE
        return OK


def gate(folder: Path, baseline: Baseline, confirm: Confirm | None = None) -> Verdicts:
    """The verdicts of the run in `folder`, which are recorded among the baseline's nights.

    Exact numbers first, then timings and memory by the nights before, confirmed by `confirm` if it is given, and
    quality by the samples of both where they are still on disk.
    """
    (run,) = read_runs([folder])
    tonight, known = night(run), baseline.readings()
    made = Differences(References([run.path, baseline.folder]), {})
    every = {**known, **tonight.readings}
    settings = settings_told(every.values())
    found = [_one(key, known.get(key), tonight.readings.get(key), baseline, made) for key in every]
    gated = [replace(each, setting=settings[each.key]) for each in found if each is not None]
    cells = _cells(run, baseline)
    told = {_cell(each) for each in cells if each.metric.startswith(OUTCOME)}
    gated = [each for each in gated if each.verdict != "NOT_MEASURED" or _cell(each) not in told] + cells
    if confirm is not None:
        gated = _confirmed(gated, confirm)
    gated = [_quarantined(each, baseline) for each in gated]
    numbers = {
        each.key: NumberOfNight(value=each.value, verdict=each.verdict)
        for each in gated
        if each.key and each.value is not None
    }
    record(
        baseline,
        NightRecord(run_id=run.run_id, started=tonight.started, git=tonight.git, folder=str(run.path), numbers=numbers),
    )
    return Verdicts(baseline.file.name, run.run_id, run.path, tonight.started, tuple(_sorted(gated)))


def timings(baseline: Baseline) -> dict[str, Reading]:
    """Its numbers by key that are screened, by nights or by A/A sessions: timings and memory that are not exact."""
    return {
        key: each
        for key, each in baseline.readings().items()
        if each.metric.measure in screen.EFFECT
        and each.metric.value is not None
        and each.metric.direction is not None
        and each.metric.name not in DETAILS | EXACT | {GROWTH}
    }


def _sorted(gated: Sequence[Gated]) -> list[Gated]:
    order = ["REGRESSED", "INVALID", "NOT_MEASURED", "SUSPECT", "AMBIGUOUS", "IMPROVED", "OK", "IDENTICAL"]
    return sorted(gated, key=lambda each: order.index(each.verdict) if each.verdict in order else len(order))


def _one(
    key: str, known: Reading | None, tonight: Reading | None, baseline: Baseline, made: Differences
) -> Gated | None:
    """The verdict of one number; None for numbers that are not gated."""
    either = tonight or known
    assert either is not None  # the key is one of theirs
    if either.metric.name in DETAILS or (either.metric.direction is None and either.metric.name not in EXACT):
        return None
    before = known.metric.value if known is not None else None
    result = either.entry.result
    blank = Gated(
        result.adapter,
        result.task,
        either.words,
        "OK",
        before,
        tonight.metric.value if tonight is not None else None,
        either.metric.unit,
        key=key,
        measure=either.metric.measure,
        settings_id=result.settings_id,
    )
    if known is None or before is None:
        if blank.value is None:
            return None  # neither has it
        return replace(blank, verdict="NO_BASELINE", why="the baseline has no such number under these settings")
    if tonight is None:
        return replace(blank, verdict="NOT_MEASURED", why="the run has no such number under these settings")
    if tonight.metric.value is None:
        reason = tonight.metric.reason
        invalid = any(word in reason for word in NAN)
        return replace(blank, verdict="INVALID" if invalid else "NOT_MEASURED", why=reason)
    if not math.isfinite(tonight.metric.value):
        return replace(blank, verdict="INVALID", why="the value is not finite")
    wrong = sorted((set(tonight.metric.flags) & IMPOSSIBLE) - set(known.metric.flags))
    if wrong:
        return replace(blank, verdict="INVALID", why=f"flag {wrong[0]}")
    if tonight.metric.name in EXACT:
        return _exact(blank, known, tonight)
    if tonight.metric.name == GROWTH:
        return _growth(blank, known.metric, tonight.metric)
    if tonight.metric.measure == "quality":
        return _quality(blank, known, tonight, baseline, made)
    return _timing(blank, tonight.metric, baseline)


def _exact(blank: Gated, known: Reading, tonight: Reading) -> Gated:
    """A count: equal, better or worse; one that has no better side is a regression whichever way it went."""
    if blank.value == blank.baseline:
        return replace(blank, verdict="IDENTICAL")
    made = [each.entry.result.provenance for each in (known, tonight)]
    before, now = (each.packages.get("torch", "") if each else "" for each in made)
    why = "an exact number has changed" + (f", and torch from {before} to {now}" if before != now else "")
    more = (blank.value or 0) > (blank.baseline or 0)
    verdict: Verdict = "REGRESSED" if tonight.metric.direction is None else _side(tonight.metric, more)
    return replace(blank, verdict=verdict, why=why)


def _side(metric: Metric, more: bool) -> Verdict:
    return "IMPROVED" if more == (metric.direction == "higher") else "REGRESSED"


def _quality(blank: Gated, known: Reading, tonight: Reading, baseline: Baseline, made: Differences) -> Gated:
    """By two-sided bands: an unexpectedly better number is mostly a changed protocol, and is told all the same."""
    found = made.of(blank.model, Numbers(tonight.column, (known.entry, known.metric), (tonight.entry, tonight.metric)))
    same = blank.value == blank.baseline and known.entry.result.result_id == tonight.entry.result.result_id
    if same or found.verdict == "identical":
        return replace(blank, verdict="IDENTICAL")
    change = found.change
    sd, origin = _seed_spread(known, baseline)
    if change is None or change.width is None or sd is None:
        return replace(blank, verdict="AMBIGUOUS", why="no interval to judge the change by")
    side = int(screen.beyond_seeds(change.value, change.width / 3.92, sd, found.paired))
    told = f"{change.value:+.3g} {'by the same samples' if found.paired else 'of other samples'}, {origin} {sd:.2g}"
    if side in (1, -1):
        return replace(blank, verdict=_side(tonight.metric, side == 1), why=told)
    return replace(blank, verdict="OK" if side == 0 else "AMBIGUOUS", why=told)


def _seed_spread(known: Reading, baseline: Baseline) -> tuple[float | None, str]:
    """The standard deviation between seeds: measured under five and more, else that of the number's own interval."""
    import numpy as np

    values = baseline.seeds.get(seedless(known.key), ())
    if len(values) >= 5:
        return float(np.std(values, ddof=1)), f"sd of {len(values)} seeds"
    if known.metric.extras.get(SEEDS, 0) >= 5:
        return known.metric.extras[SEEDS + SD], f"sd of {known.metric.extras[SEEDS]:.0f} seeds"
    interval = known.metric.interval
    return (None, "") if interval is None else ((interval.high - interval.low) / 3.92, "sd by the interval")


def _growth(blank: Gated, known: Metric, tonight: Metric) -> Gated:
    """By the flag, which all of ten calls must earn: what a call leaves behind is 0, or some pages to either side."""
    before, now = LEAK in known.flags, LEAK in tonight.flags
    if before == now:
        return replace(blank, why=f"flag {LEAK} on both sides" if now else "")
    why = f"flag {LEAK}" if now else f"the baseline has the flag {LEAK}"
    return replace(blank, verdict="REGRESSED" if now else "IMPROVED", why=why)


def _timing(blank: Gated, metric: Metric, baseline: Baseline) -> Gated:
    """By the nights before; a night beyond them is suspect, and only two builds run in turn make it a regression."""
    assert blank.value is not None
    assert blank.baseline is not None
    history = baseline.history(blank.key, GOOD)
    effect = screen.EFFECT[metric.measure]
    if min([blank.value, *history]) <= 0:
        return replace(blank, verdict="INVALID", why="a reading of 0 or below")
    known = baseline.calibration.numbers.get(blank.key) if baseline.calibration is not None else None
    if len(history) < screen.LEAST and known is None:
        ratio = blank.value / blank.baseline
        side = (ratio > 1 + screen.PROVISIONAL) - (ratio < 1 / (1 + screen.PROVISIONAL))
        why = f"provisional: {100 * screen.PROVISIONAL:g} % of the baseline, {len(history)} of {screen.LEAST} nights"
    else:
        found = screen.band(history, None if known is None else (known.spread, len(known.readings)))
        if float(found.spread) > screen.UNSTABLE:
            why = f"nights lie {100 * float(found.spread):.0f} % apart"
            return replace(blank, verdict="QUARANTINED", why=why, nights=len(history))
        side = int(found.beyond(blank.value, effect))
        low, high = (100 * (float(each) - 1) for each in (found.low, found.high))
        nights = "the baseline" if len(history) == 1 else f"the median of {len(history)} nights"
        why = f"predicted {low:+.1f} to {high:+.1f} % of {nights}"
        why += f", A/A noise {100 * known.spread:.1f} % in {len(known.readings)} sessions" if known else ""
    if side == 0:
        return replace(blank, verdict="OK", why=why, nights=len(history))
    better = _side(metric, side == 1) == "IMPROVED"
    return replace(blank, verdict="IMPROVED" if better else "SUSPECT", why=why, nights=len(history))


def _cell(each: Gated) -> tuple[str, str, str]:
    return each.model, each.task, each.settings_id


def _cells(run: RunFolder, baseline: Baseline) -> list[Gated]:
    """Of cells of the baseline, once each: that they failed or were not run, and whether their images are the same."""
    results = [entry.result for entry in run.entries]
    planned = {cell.result_id for cell in run.missing}
    names = {(cell.adapter, cell.task) for cell in run.missing}
    settings = differing_settings(baseline.results)
    found = []
    for result in baseline.results:
        own = [each for each in results if (each.adapter, each.task) == (result.adapter, result.task)]
        tonight = same_cell(result, own)
        metric, why = f"{OUTCOME} of {result.task}", ""
        verdict: Verdict = "NOT_MEASURED"
        if result.result_id in planned or (not own and (result.adapter, result.task) in names):
            why = "planned and not run"
        elif tonight is not None and tonight.outcome != "ok":
            verdict = "INVALID" if tonight.outcome in ("error", "oom") else "NOT_MEASURED"
            why = f"{tonight.outcome}: {tonight.reason}"
        elif not own:
            why = renamed(result.adapter, run, baseline)
        elif tonight is None and all(each.outcome != "ok" for each in own):
            why = f"not under these settings; under others {own[0].outcome}: {own[0].reason}"
        elif (
            tonight
            and tonight.result_id == result.result_id
            and tonight.samples
            and result.samples
            and result.samples.digest
        ):
            alike = tonight.samples.digest == result.samples.digest
            metric, verdict = f"image digests of {result.task}", "IDENTICAL" if alike else "AMBIGUOUS"
            why = "" if alike else "under the same settings the samples are others: their quality decides"
        else:
            continue
        one = Gated(result.adapter, result.task, metric, verdict, why=why, settings_id=result.settings_id)
        found.append(replace(one, setting=settings[result.adapter, result.settings_id]))
    return list({(*_cell(each), each.metric, each.verdict, each.why): each for each in found}.values())


def _quarantined(each: Gated, baseline: Baseline) -> Gated:
    for rule in baseline.file.quarantine:
        names = each.name, f"{each.title} {each.metric}"
        meant = rule.key == each.key if rule.key else any(fnmatchcase(name, rule.glob) for name in names)
        if meant and each.verdict not in ("NO_BASELINE",):
            return replace(each, verdict="QUARANTINED", why=f"{rule.reason} ({each.verdict})")
    return each


def _confirmed(gated: Sequence[Gated], confirm: Confirm) -> list[Gated]:
    """Suspects after both builds have run in turn: a regression, fine, or still not told."""
    wanted: dict[str, set[str]] = {}
    for each in gated:
        if each.verdict == "SUSPECT":
            wanted.setdefault(each.model, set()).add(each.task)
    measured = {model: confirm(model, frozenset(tasks)) for model, tasks in wanted.items()}
    found = []
    for each in gated:
        pairs = None
        if each.verdict == "SUSPECT":
            pairs = of_row(measured[each.model], each.task, each.metric, each.settings_id)
        if pairs is None:
            found.append(each)
            continue
        good, new = pairs
        if each.metric.startswith("images-per-second"):  # the more the better
            good, new = [1 / value for value in good], [1 / value for value in new]
        one = screen.confirmed(good, new)
        decision = str(one.decision(screen.EFFECT[each.measure]))
        verdict: Verdict = {"slower": "REGRESSED", "same": "OK"}.get(decision, "AMBIGUOUS")  # type: ignore[assignment]
        low, high = (100 * (float(limit) - 1) for limit in (one.low, one.high))
        why = f"{len(good)} rounds in turn: {100 * (float(one.ratio) - 1):+.1f} % [{low:+.1f}, {high:+.1f}]; {each.why}"
        found.append(replace(each, verdict=verdict, why=why))
    return found
