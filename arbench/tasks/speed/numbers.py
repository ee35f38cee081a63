"""What the timings of the task `speed` come to: metrics, phases, and raw series for the report."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ...measure import statistics
from ...measure.probe import GAP, ORDER
from ...spec.result import At, Interval, Metric, PhaseTime, SpeedRecord
from ..base import Stored

OVERHEAD_LIMIT = 0.05
CLOSURE_LIMIT = 0.95
SATURATED = 0.95
"""Share of the best throughput from which on a batch size is said to saturate the device."""
SERIES = ("seconds", "on_device", "traced", "steps")
"""Series of a unit that have an entry for each call."""
PERCENTILES = (0.9, 0.95, 0.99)
UNSTEADY = frozenset({"busy", "stolen_time", "device_shared", "throttled", "drift", "warmup_unsettled"})
"""Flags of a process whose machine was not the same all the time, so that the next run may find another."""
REPLAYED = "each call one replayed CUDA graph"


def raw(units: Sequence[Stored], names: Sequence[str]) -> dict[str, NDArray[Any]]:
    """Raw timings for the report and for readers, one row for each batch size and operation, padded with NaN.

    batch, operation: (m,). seconds, warmup, traced: (m, calls). steps: (m, calls, AR steps), of the probe's pass.
    """
    places = [(unit, name) for unit in units for name in names]
    raw = {
        "batch": np.array([int(unit["batch"][0]) for unit, _ in places]),
        "operation": np.array([name for _, name in places]),
    }
    for kind in ("seconds", "warmup", "traced", "steps"):
        rows = [unit[f"{name}_{kind}"] for unit, name in places]
        most = [max(row.shape[axis] for row in rows) for axis in range(rows[0].ndim)]
        raw[kind] = np.stack(
            [
                np.pad(
                    row,
                    [(0, full - own) for full, own in zip(most, row.shape, strict=True)],
                    constant_values=np.nan,
                )
                for row in rows
            ]
        )
    return raw


def merged(units: Sequence[Stored], names: Sequence[str]) -> dict[str, NDArray[Any]]:
    """The units of one batch size, each of another process, as one: series one after the other, all else of the first.

    `NAME_medians` and `NAME_calls` are the median and number of calls of each process.
    """
    first = units[0]
    found = {key: first[key] for key in first}
    for name in names:
        for key in found:
            kind = key.removeprefix(f"{name}_")
            if kind in SERIES or kind.startswith(("phase_", "entries_")):
                found[key] = np.concatenate([unit[key] for unit in units])
        if len(found.get("draw_seconds", ())):
            found["draw_seconds"] = np.concatenate([unit["draw_seconds"] for unit in units])
            found["draw_medians"] = np.array([np.median(unit["draw_seconds"]) for unit in units])
        found[f"{name}_disturbance"] = np.max([unit[f"{name}_disturbance"] for unit in units], axis=0)
        for kind in ("flags", "guard"):
            found[f"{name}_{kind}"] = np.unique(np.concatenate([unit[f"{name}_{kind}"] for unit in units]))
        found[f"{name}_medians"] = np.array([np.median(unit[f"{name}_seconds"]) for unit in units])
        found[f"{name}_calls"] = np.array([len(unit[f"{name}_seconds"]) for unit in units])
    return found


def record(unit: Stored, name: str, batch: int) -> SpeedRecord:
    """Phase medians of the phase pass; shares are of its total time, so that they add up to one."""
    total = float(unit[f"{name}_traced"].sum())
    phases = []
    for phase in (*ORDER, GAP):
        seconds = unit.get(f"{name}_phase_{phase}")
        if seconds is None:
            continue
        calls = unit.get(f"{name}_entries_{phase}", np.ones(1))
        share = float(seconds.sum()) / total if total else 0.0
        phases.append(
            PhaseTime(phase=phase, seconds=float(np.median(seconds)), share=share, calls=int(np.median(calls)))
        )
    return SpeedRecord(
        batch=batch, seconds=statistics.median(unit[f"{name}_seconds"]), phases=tuple(phases), operation=name
    )


def metrics(unit: Stored, name: str, batch: int, device: str) -> list[Metric]:
    """The metrics of one operation at one batch size."""
    seconds = unit[f"{name}_seconds"]
    at: dict[str, At] = {"batch": batch, "operation": name}
    what = {
        "sample": "request to images in memory, decoding included",
        "encode": "images to codes, synthetic images (smooth noise)",
        "decode": "codes to images, codes of synthetic images",
    }[name]
    flags = flags_of(unit, name)
    medians, count = unit[f"{name}_medians"], len(seconds)
    processes = len(medians)
    middle, interval = _middle(medians, seconds, flags)
    if interval is None:
        flags.append("no_interval")

    def metric(label: str, value: float | None, unit_name: str, how: str, **rest: Any) -> Metric:
        return Metric(
            name=label,
            value=value,
            unit=unit_name,
            at=at,
            how=how,
            measure="speed",
            **({"n": count, "direction": "lower"} | rest),
        )

    calls_made = str(unit["calls"][0]) if "calls" in unit else ""
    replayed = calls_made == REPLAYED
    kind = "median of calls" if processes == 1 else f"geometric mean of the medians of {processes} fresh processes"
    timing = f"{kind}, {what}; {device}, host clock after synchronisation"
    timing += f"; {calls_made}" if calls_made else ""
    if len(unit[f"{name}_gpu"]):
        clock, highest, heat, limit = unit[f"{name}_gpu"]
        timing += f"; {clock:.0f} of {highest:.0f} MHz, {heat:.0f} C, power limit {limit:.0f} W"
    others, stolen = (float(each) for each in unit[f"{name}_disturbance"])
    on_device = unit[f"{name}_on_device"]
    traced = statistics.median(unit[f"{name}_traced"])
    calls = len(unit[f"{name}_traced"])
    overhead = traced / middle - 1
    closure = 1 - float(unit[f"{name}_phase_{GAP}"].sum() / unit[f"{name}_traced"].sum())
    eager = f"; the phases are of eager calls, {traced / middle:.3g} times as long as the replayed" if replayed else ""
    return [
        metric("latency", middle, "s", timing, interval=interval, flags=tuple(flags)),
        *(
            metric(
                f"latency-p{100 * q:.0f}",
                statistics.percentile(seconds, q),
                "s",
                f"{100 * q:.0f}th percentile, {what}",
                reason=too_few(count, q),
            )
            for q in PERCENTILES
        ),
        metric(
            "latency-device",
            statistics.median(on_device) if len(on_device) else None,
            "s",
            "median of calls between CUDA events: what the GPU took, the host's part before and after left out",
            n=len(on_device),
            reason="" if len(on_device) else "only a GPU has a clock of its own",
        ),
        metric("latency-spread", statistics.relative_iqr(seconds), "fraction", "interquartile range over median"),
        metric(
            "images-per-second",
            batch / middle,
            "images/s",
            f"batch over median latency, {what}",
            interval=_inverse(batch, interval),
            direction="higher",
            flags=tuple(flags),
        ),
        metric("first-call", float(unit[f"{name}_warmup"][0]), "s", "first call of this batch size", n=1),
        metric("other-load", others, "cores", "processor cores that other processes used while it was timed"),
        metric("stolen-time", stolen, "fraction", "processor time that the host took from this virtual machine"),
        metric(
            "probe-overhead",
            overhead,
            "fraction",
            "median latency with the phase probe over the one without it, less one" + eager,
            n=calls,
            flags=("eager_phases",) if replayed else ("probe_overhead",) if overhead > OVERHEAD_LIMIT else (),
        ),
        metric(
            "phase-closure",
            closure,
            "fraction",
            "share of the call inside any phase; the rest is the gap" + eager,
            n=calls,
            direction="higher",
            flags=(*(("eager_phases",) if replayed else ()), *(("open_phases",) if closure < CLOSURE_LIMIT else ())),
        ),
    ]


def without_decoder(unit: Stored, batch: int) -> list[Metric]:
    """Latency and throughput of the same calls up to their codes."""
    seconds = unit["draw_seconds"]
    at: dict[str, At] = {"batch": batch, "operation": "draw"}
    how = "request to codes, the decoder left out; of the same calls as with it"
    if not len(seconds):
        rest: dict[str, Any] = {"n": 0, "at": at, "how": how, "measure": "speed"}
        rest["reason"] = "it makes images without a decoder of its own"
        return [
            Metric(name="latency", value=None, unit="s", direction="lower", **rest),
            Metric(name="images-per-second", value=None, unit="images/s", direction="higher", **rest),
        ]
    guard = tuple(str(flag) for flag in unit["sample_guard"])
    middle, interval = _middle(unit["draw_medians"], seconds, flags_of(unit, "sample"))
    rest = {"n": len(seconds), "at": at, "how": how, "measure": "speed"}
    rest["flags"] = guard if interval else (*guard, "no_interval")
    return [
        Metric(name="latency", value=middle, unit="s", direction="lower", interval=interval, **rest),
        Metric(
            name="images-per-second",
            value=batch / middle,
            unit="images/s",
            direction="higher",
            interval=_inverse(batch, interval),
            **rest,
        ),
    ]


def saturation(throughput: Mapping[int, float]) -> list[Metric]:
    """The highest throughput of a sweep over batch sizes (batch -> images/s), and from which batch on it is reached."""
    best = max(throughput, key=lambda batch: throughput[batch])
    rest: dict[str, Any] = {"n": len(throughput), "measure": "speed"}
    enough = min(batch for batch, rate in throughput.items() if rate >= SATURATED * throughput[best])
    rising = enough == max(throughput)
    reason = f"still rising at batch {enough}, the largest measured" if rising else ""
    return [
        Metric(
            name="best-throughput",
            value=throughput[best],
            unit="images/s",
            direction="higher",
            how=f"highest of batches {', '.join(map(str, sorted(throughput)))}, at batch {best}",
            **rest,
        ),
        Metric(
            name="saturated-batch",
            value=None if rising else float(enough),
            direction=None,
            how=f"smallest batch with at least {SATURATED:.0%} of the best throughput",
            reason=reason,
            **rest,
        ),
    ]


def too_few(count: int, q: float) -> str:
    """Why so many calls have no q-quantile, or "" if they have one."""
    needed = statistics.needed_for(q)
    calls = "1 call" if count == 1 else f"{count} calls"
    return "" if count >= needed else f"{calls}; a {100 * q:.0f}th percentile needs {needed}"


def flags_of(unit: Stored, name: str) -> list[str]:
    """What is to be said of an operation's calls: as the loop and the guard saw it, and whether they drift."""
    flags = [str(flag) for kind in ("flags", "guard") for flag in unit[f"{name}_{kind}"]]
    processes = np.split(unit[f"{name}_seconds"], np.cumsum(unit[f"{name}_calls"])[:-1])
    if any(statistics.trend(each).drifts for each in processes):
        flags.append("drift")
    return flags


def _middle(
    medians: NDArray[np.float64], seconds: NDArray[np.float64], flags: Collection[str]
) -> tuple[float, Interval | None]:
    """The number and its interval: of the calls of one or two processes, or of what another run of as many finds."""
    k = len(medians)
    middle = float(np.exp(np.log(medians).mean())) if k > 1 else float(medians[0])
    if k < 3:
        method = "order statistics of calls, of these processes alone" if k > 1 else "order statistics of calls"
        return middle, _interval(statistics.median_interval(seconds), method, "value")
    unsteady = not UNSTEADY.isdisjoint(flags)
    method = f"Student's t over {k} processes, for another run of as many"
    method += " on a machine that was not steady" if unsteady else ""
    return middle, _interval(statistics.interval_over_processes(medians, unsteady=unsteady), method, "another run")


def _interval(
    bounds: tuple[float, float] | None, method: str, covers: Literal["value", "another run"]
) -> Interval | None:
    return None if bounds is None else Interval(low=bounds[0], high=bounds[1], method=method, covers=covers)


def _inverse(batch: int, seconds: Interval | None) -> Interval | None:
    """Of images a second, from that of seconds a call."""
    if seconds is None:
        return None
    return _interval((batch / seconds.high, batch / seconds.low), seconds.method, seconds.covers)


def _single(name: str, seconds: float, how: str, at: dict[str, At] | None = None) -> Metric:
    return Metric(name=name, value=seconds, unit="s", n=1, direction="lower", how=how, at=at or {}, measure="speed")


def load_metric(units: Sequence[Stored]) -> Metric:
    text = "weights and networks of the adapter and its tokenizer, files perhaps in the system's cache"
    return _single("load", max(float(unit["load_seconds"][0]) for unit in units), text)


def prepare_metric(unit: Stored, batch: int) -> Metric:
    text = "one-off work for this batch size: caches, compilation, recording of the CUDA graph"
    return _single("prepare", float(unit["prepare_seconds"][0]), text, {"batch": batch})


def work_metrics(units: Sequence[Stored]) -> list[Metric]:
    """Counts that repeat exactly; null if they differ between batch sizes or the adapter does not count."""
    metrics = []
    for name, key, text in (
        ("steps", "outer_steps", "autoregressive steps per call, as the adapter counts them"),
        ("forwards", "forwards", "backbone calls per call, a guided call counting as two"),
    ):
        found = sorted({int(unit[key][0]) for unit in units})
        alike = len(found) == 1 and found[0] > 0
        reason = "" if alike else ("the adapter does not count them" if found == [0] else f"differ: {found}")
        value = float(found[0]) if alike else None
        metrics.append(Metric(name=name, value=value, n=len(units), how=text, direction="lower", reason=reason))
    return metrics
