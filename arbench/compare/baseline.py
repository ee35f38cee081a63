"""Baselines: a good run that later ones are held against, the nights since, and why it was changed. One folder each.

STORE/NAME/baseline.json   the accepted runs with time and reason, and what is in quarantine
           results.jsonl   the results of the accepted run, one a line
           seeds.jsonl     numbers of further runs of it under other seeds: how far these lie apart
           nights.jsonl    one line per gated run: each number with its value and verdict
           calibration.json  how far its timings scatter where nothing has changed, if that was measured
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from glob import escape
from pathlib import Path
from typing import Any

from filelock import FileLock
from pydantic import Field, ValidationError

from ..errors import DamagedFile, InputError, StoreError, UnknownName, UsageError
from ..files import digest, write_atomic
from ..journal import now
from ..json_text import parse_json
from ..report.folders import Entry, RunFolder, read_runs
from ..report.series import Reading, night, readings
from ..spec.base import Kept
from ..spec.result import Result
from . import calibration as calibrations
from .calibration import Calibration, Noise

STORE = Path("baselines")
HINT = "check the folder of --store"
VERSION = 1


class Accepted(Kept):
    """A run that became the baseline."""

    run_id: str
    folder: str
    time: str
    reason: str
    started: str = ""
    """When the run was made: nights from then on are its history."""
    git: str = ""


class Quarantined(Kept):
    """Numbers (globs of "ADAPTER METRIC", or of "ADAPTER (SETTING) METRIC") that are reported and not gated."""

    glob: str
    reason: str
    time: str
    calibrated: bool = False
    """Put there by a calibration, and taken out by the next."""
    key: str = ""
    """Of the one number that it is about, where a calibration has measured it; "": all that the glob matches."""


class BaselineFile(Kept):
    """`baseline.json`."""

    schema_version: int = VERSION
    name: str
    accepted: tuple[Accepted, ...]
    """Oldest first; the last one counts."""
    quarantine: tuple[Quarantined, ...] = ()
    seeds: int = 0
    """Runs under other seeds."""
    results_digest: str = ""
    """Digest of results.jsonl; "" in one that was written before there was any."""


class NumberOfNight(Kept):
    """One number of a gated night."""

    value: float | None
    verdict: str


class NightRecord(Kept):
    """A line of nights.jsonl."""

    run_id: str
    started: str
    git: str = ""
    folder: str = ""
    numbers: dict[str, NumberOfNight] = Field(default_factory=dict)


@dataclass(frozen=True)
class Baseline:
    """A baseline as it is on disk. `seeds`: key -> values under other seeds."""

    place: Path
    file: BaselineFile
    results: tuple[Result, ...]
    nights: tuple[NightRecord, ...]
    seeds: dict[str, tuple[float, ...]]
    calibration: Calibration | None = None

    @property
    def folder(self) -> Path:
        """Of the accepted run; it may have been removed since."""
        return Path(self.file.accepted[-1].folder)

    def readings(self) -> dict[str, Reading]:
        """Its numbers by key. Their entries are in the run's folder, whether or not that is still there."""
        return readings(
            Entry(result, self.folder / "cells" / result.result_id, self.file.accepted[-1].run_id)
            for result in self.results
        )

    def history(self, key: str, good: frozenset[str]) -> list[float]:
        """Values of a number on the nights since the accepted run whose verdict was `good`, oldest first."""
        since = self.file.accepted[-1].started
        found = [
            each.numbers[key].value
            for each in self.nights
            if each.started >= since
            and key in each.numbers
            and each.numbers[key].verdict in good
            and each.run_id != self.file.accepted[-1].run_id
        ]
        own = self.readings().get(key)
        first = [own.metric.value] if own is not None and own.metric.value is not None else []
        return [*first, *(value for value in found if value is not None)]


def names(store: Path) -> list[str]:
    return sorted(path.parent.name for path in store.glob("*/baseline.json"))


def read(store: Path, name: str) -> Baseline:
    """Raises `UnknownName` for one that is not there, `DamagedFile` for one that cannot be read."""
    place = store / name
    if not (place / "baseline.json").is_file():
        raise UnknownName(f"baseline in {store}", name, names(store), f"arbench baseline set {name} DIR")
    file = _file(place)
    try:
        if file.results_digest and digest((place / "results.jsonl").read_bytes()) != file.results_digest:
            raise DamagedFile(
                f"{place / 'results.jsonl'} was changed after it was accepted",
                "its digest is not the one in baseline.json",
                f"arbench baseline accept {name} DIR --reason ... accepts the run again",
            )
        results = tuple(Result.model_validate(each) for each in _lines(place / "results.jsonl"))
        nights = tuple(NightRecord.model_validate(each) for each in _lines(place / "nights.jsonl"))
        calibration = calibrations.read(place)
        spread: dict[str, list[float]] = {}
        for each in _lines(place / "seeds.jsonl"):
            for key, value in each.items():
                spread.setdefault(key, []).append(float(value))
    except (OSError, ValueError, TypeError, AttributeError, ValidationError) as error:
        raise DamagedFile(f"cannot read the baseline {place}", f"{type(error).__name__}: {error}", HINT) from error
    seeds = {key: tuple(values) for key, values in spread.items()}
    return Baseline(place, file, results, tuple(sorted(nights, key=lambda night: night.started)), seeds, calibration)


def _file(place: Path) -> BaselineFile:
    try:
        return BaselineFile.model_validate(parse_json((place / "baseline.json").read_bytes()))
    except (OSError, ValueError) as error:
        raise DamagedFile(f"cannot read the baseline {place}", f"{type(error).__name__}: {error}", HINT) from error


def _lines(path: Path) -> Iterator[Any]:
    if path.is_file():
        for line in path.read_bytes().splitlines():
            yield parse_json(line)


def accept(store: Path, name: str, folder: Path, reason: str, seeds: Sequence[Path] = ()) -> Baseline:
    """Makes a run the baseline `name`, new or known; earlier ones stay on record. `seeds`: the same suite under other
    seeds. Raises `UsageError` for a run without a number."""
    if not reason.strip():
        raise UsageError("a baseline is accepted for a reason", "", '--reason "faster attention, #123"')
    if "/" in name or name.startswith(".") or not name:
        raise UsageError(f"{name!r} cannot be the name of a baseline", "it is the name of a folder", "name it main")
    run, *others = read_runs([folder, *seeds])
    results = [entry.result for entry in run.entries if any(m.value is not None for m in entry.result.metrics)]
    if not results:
        raise InputError(f"{folder} has no number", "none of its cells went well", f"arbench status {folder}")
    place = store / name
    known = _file(place) if (place / "baseline.json").is_file() else BaselineFile(name=name, accepted=())
    git = next((each.provenance.git for each in results if each.provenance), "")
    one = Accepted(
        run_id=run.run_id,
        folder=str(run.path),
        time=now(),
        reason=reason.strip(),
        started=night(run).started,
        git=git,
    )
    text = _text(json.loads(each.model_dump_json()) for each in results)
    changes = {"accepted": (*known.accepted, one), "seeds": len(others), "results_digest": digest(text)}
    file = known.model_copy(update=changes)
    write_atomic(place / "results.jsonl", text, HINT)
    write_atomic(place / "seeds.jsonl", _text(_of_seed(each) for each in [run, *others] if others), HINT)
    write_atomic(place / "baseline.json", (file.model_dump_json(indent=1) + "\n").encode(), HINT)
    return read(store, name)


def seedless(key: str) -> str:
    """A number's key without the seed in its protocol."""
    *parts, protocol = json.loads(key)
    return json.dumps([*parts, {name: value for name, value in json.loads(protocol).items() if name != "seed"}])


def _of_seed(run: RunFolder) -> dict[str, float]:
    found = readings(run.entries)
    return {seedless(key): each.metric.value for key, each in found.items() if each.metric.value is not None}


def quarantine(store: Path, name: str, glob: str, reason: str) -> Baseline:
    """Takes numbers out of the gate."""
    known = read(store, name)
    one = Quarantined(glob=glob, reason=reason, time=now())
    file = known.file.model_copy(update={"quarantine": (*known.file.quarantine, one)})
    write_atomic(known.place / "baseline.json", (file.model_dump_json(indent=1) + "\n").encode(), HINT)
    return read(store, name)


def calibrate(baseline: Baseline, numbers: Mapping[str, Noise], sessions: int) -> Baseline:
    """Keeps what A/A sessions found of its numbers by key, and puts those in quarantine that are not stable."""
    calibrations.write(baseline.place, numbers.items(), sessions, HINT)
    found = [
        Quarantined(
            glob=escape(f"{each.adapter} {each.metric}"), reason=each.unstable, time=now(), calibrated=True, key=key
        )
        for key, each in numbers.items()
        if each.unstable
    ]
    kept = [each for each in baseline.file.quarantine if not each.calibrated]
    file = baseline.file.model_copy(update={"quarantine": (*kept, *found)})
    write_atomic(baseline.place / "baseline.json", (file.model_dump_json(indent=1) + "\n").encode(), HINT)
    return read(baseline.place.parent, baseline.file.name)


def record(baseline: Baseline, one: NightRecord) -> None:
    """Adds a night; one that was gated before is replaced. Another process that adds one is waited for."""
    path = baseline.place / "nights.jsonl"
    try:
        with FileLock(baseline.place / "lock"):
            known = [NightRecord.model_validate(each) for each in _lines(path)]
            lines = sorted([*(each for each in known if each.run_id != one.run_id), one], key=lambda each: each.started)
            write_atomic(path, _text(each.model_dump() for each in lines), HINT)
    except OSError as error:
        raise StoreError(f"cannot write {path}", error.strerror or str(error), HINT) from error


def _text(lines: Any) -> bytes:
    return "".join(json.dumps(line, separators=(",", ":")) + "\n" for line in lines).encode()
