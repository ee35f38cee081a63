"""The work of `speed`: a headline pass without the probe, then one with it, at each batch size."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...images import pack
from ...measure import statistics
from ...measure.clock import Clock, WallClock
from ...measure.loop import StopRule, Timed, collector_paused, time_calls
from ...measure.probe import GAP, ORDER, PhaseProbe, Stamps, stamps_for
from ...protocols import (
    NO_PROBE,
    Codes,
    Generated,
    Generator,
    Probe,
    Recorded,
    Replays,
    Request,
    Sampling,
    Tokenizer,
)
from ...spec.cell import Cell
from ...spec.result import At, Interval, Metric, PhaseTime, SpeedRecord
from ...spec.unit import Unit
from ..base import Arrays, Context, Finished, Stored
from ..outputs import (
    check_codes,
    check_generated,
    check_images,
    codes_for,
    measured_request,
    sampling_of,
    synthetic_images,
)
from . import Speed

PHASE_CALLS = 5
"""Calls of the phase pass, fewer where they take longer than the task's `max_seconds`."""

OVERHEAD_LIMIT = 0.05
CLOSURE_LIMIT = 0.95


@dataclass(frozen=True)
class Operation:
    """Something to time: inputs by call number, the call with a probe, and the check of what it returns."""

    name: str
    prepare: Callable[[int], Any]
    call: Callable[[Any, Probe], Any]
    consume: Callable[[Any], bytes]

    def unprobed(self, given: Any) -> Any:
        return self.call(given, NO_PROBE)


class SpeedWork:
    """A unit is one batch size. Generators: sample and decode. Tokenizers: encode and decode apart."""

    def __init__(
        self, clock_for: Callable[[str], Clock] = WallClock, stamps_for: Callable[[str], Stamps] = stamps_for
    ) -> None:
        self._clock_for = clock_for
        self._stamps_for = stamps_for

    def measure(self, cell: Cell, unit: Unit, context: Context) -> Arrays:
        task = cell.task
        assert isinstance(task, Speed)
        limits = StopRule(min_calls=task.min_calls, min_seconds=task.min_seconds, max_seconds=task.max_seconds)
        clock = self._clock_for(context.device)
        batch, start = unit.start, clock.now()
        if cell.kind == "generator":
            context.generator(cell)
        else:
            context.tokenizer(cell)
        arrays: Arrays = {"batch": np.array([batch]), "load_seconds": np.array([clock.now() - start])}
        if cell.kind == "generator":
            calls = _GeneratorCalls(cell, batch, context)
            start = clock.now()
            calls.generator.prepare(batch, calls.sampling)
            arrays["prepare_seconds"] = np.array([clock.now() - start])
            arrays["calls"] = np.array([_calls_of(calls.generator, batch, calls.sampling)])
            operations = [Operation("sample", calls.prepare, calls.call, calls.consume)]
        else:
            operations = _tokenizer_operations(cell, batch, context)
        for operation in operations:
            timed = time_calls(
                operation.unprobed,
                operation.prepare,
                operation.consume,
                clock,
                limits,
                context.progress,
            )
            arrays |= _headline_arrays(operation.name, timed)
            probe = PhaseProbe(self._stamps_for(context.device))
            arrays |= _phase_pass(operation, probe, clock, timed.calls, limits.max_seconds)
        if cell.kind == "generator":
            arrays |= {"outer_steps": np.array([calls.outer_steps]), "forwards": np.array([calls.forwards])}
        return arrays

    def finish(self, cell: Cell, units: Sequence[Stored], context: Context) -> Finished:
        metrics: list[Metric] = [_load_metric(units[0])]
        records: list[SpeedRecord] = []
        names = ["sample"] if cell.kind == "generator" else ["encode", "decode"]
        for unit in units:
            batch = int(unit["batch"][0])
            if cell.kind == "generator":
                metrics.append(_prepare_metric(unit, batch))
            for name in names:
                metrics += _metrics(unit, name, batch, context.device)
                records.append(_record(unit, name, batch))
        if cell.kind == "generator":
            metrics += _work_metrics(units)
        return Finished(tuple(metrics), tuple(records), latency=pack(_raw(units, names)))


def _raw(units: Sequence[Stored], names: Sequence[str]) -> dict[str, NDArray[Any]]:
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


REPLAYED = "each call one replayed CUDA graph"


def _calls_of(generator: Generator, batch: int, sampling: Sampling) -> str:
    """How the calls are made, in words; "" where there is nothing to say."""
    recorded = generator.recorded(batch, sampling) if isinstance(generator, Replays) else Recorded(False)
    if recorded.replayed:
        return REPLAYED
    return f"no CUDA graph: {recorded.reason}" if recorded.reason else ""


class _GeneratorCalls:
    """Calls of a generator, from request to images: sampling and, where there is a tokenizer, decoding."""

    def __init__(self, cell: Cell, batch: int, context: Context) -> None:
        self.generator = context.generator(cell)
        self.card = self.generator.card
        self.sampling = sampling_of(cell, self.card)
        self.outer_steps = 0
        self.forwards = 0
        self._batch = batch
        self._seed = cell.settings.seed
        self._device = context.device

    def prepare(self, index: int) -> Request:
        ids = range(index * self._batch, (index + 1) * self._batch)
        return measured_request(self.card, ids, self._seed, self._device)

    def call(self, request: Request, probe: Probe) -> tuple[Request, Generated, Tensor | None]:
        generated = self.generator.sample(request, self.sampling, probe=probe)
        tokenizer, images = self.generator.tokenizer, generated.images
        if tokenizer is not None and generated.codes is not None:
            try:
                images = tokenizer.decode(generated.codes, probe=probe)
            except RuntimeError:
                check_generated(self.generator, generated, len(request.sample_ids))  # the clearer error, if it is one
                raise
        return request, generated, images

    def consume(self, output: tuple[Request, Generated, Tensor | None]) -> bytes:
        request, generated, images = output
        check_generated(self.generator, generated, len(request.sample_ids))
        assert images is not None  # checked just before
        self.outer_steps, self.forwards = generated.outer_steps, generated.forwards
        return fingerprint(check_images(images, request.sample_ids, self.card.resolution, self.card.name))


def _tokenizer_operations(cell: Cell, batch: int, context: Context) -> list[Operation]:
    tokenizer = context.tokenizer(cell)
    card, spec = tokenizer.card, tokenizer.spec

    def images(index: int) -> Tensor:
        ids = range(index * batch, (index + 1) * batch)
        return synthetic_images(cell.settings.seed, ids, card.resolution, context.device)

    def encoded(given: Tensor, probe: Probe) -> Codes:
        with probe("encode"):
            return tokenizer.encode(given)

    def consume_codes(codes: Codes) -> bytes:
        check_codes(codes, spec, batch, card.name)
        tensors = [*codes.ids, *([] if codes.latents is None else [codes.latents])]
        return b"".join(fingerprint(tensor) for tensor in tensors)

    def consume_images(output: Tensor) -> bytes:
        return fingerprint(check_images(output, range(batch), card.resolution, card.name))

    return [
        Operation("encode", images, encoded, consume_codes),
        Operation("decode", lambda index: codes_for(tokenizer, images(index)), _decode_call(tokenizer), consume_images),
    ]


def _decode_call(tokenizer: Tokenizer) -> Callable[[Codes, Probe], Tensor]:
    return lambda codes, probe: tokenizer.decode(codes, probe=probe)


def fingerprint(tensor: Tensor) -> bytes:
    """A digest of all values."""
    values = tensor.detach().to("cpu", torch.float64 if tensor.is_floating_point() else torch.int64)
    return hashlib.blake2b(values.contiguous().numpy().tobytes(), digest_size=16).digest()


def _headline_arrays(name: str, timed: Timed) -> Arrays:
    return {
        f"{name}_seconds": timed.seconds,
        f"{name}_warmup": timed.warmup,
        f"{name}_flags": np.array(timed.flags, dtype="U24"),
    }


def _phase_pass(operation: Operation, probe: PhaseProbe, clock: Clock, first: int, max_seconds: float) -> Arrays:
    """Calls with the probe: seconds of the call, of each phase alone and of the gap, and of each AR step."""
    totals: list[float] = []
    phases: list[dict[str, float]] = []
    entries: list[dict[str, int]] = []
    gaps: list[float] = []
    steps: list[NDArray[np.float64]] = []
    with collector_paused():
        while len(totals) < PHASE_CALLS and (not totals or sum(totals) < max_seconds):
            given = operation.prepare(first + len(totals))
            probe.start()
            start = clock.now()
            output = operation.call(given, probe)
            totals.append(clock.now() - start)
            trace = probe.finish()
            operation.consume(output)
            phases.append(trace.exclusive())
            entries.append(trace.entries())
            gaps.append(totals[-1] - trace.covered())
            steps.append(trace.by_index("ar"))
    seen = [phase for phase in ORDER if any(phase in call for call in phases)]
    width = max(len(curve) for curve in steps)
    padded = [np.pad(curve, (0, width - len(curve)), constant_values=np.nan) for curve in steps]
    name = operation.name
    arrays: Arrays = {
        f"{name}_traced": np.array(totals),
        f"{name}_phase_{GAP}": np.array(gaps),
        f"{name}_steps": np.stack(padded),
    }
    for phase in seen:
        arrays[f"{name}_phase_{phase}"] = np.array([call.get(phase, 0.0) for call in phases])
        arrays[f"{name}_entries_{phase}"] = np.array([call.get(phase, 0) for call in entries])
    return arrays


def _record(unit: Stored, name: str, batch: int) -> SpeedRecord:
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


def _metrics(unit: Stored, name: str, batch: int, device: str) -> list[Metric]:
    """The metrics of one operation at one batch size."""
    seconds = unit[f"{name}_seconds"]
    at: dict[str, At] = {"batch": batch, "operation": name}
    what = {
        "sample": "request to images in memory, decoding included",
        "encode": "images to codes, synthetic images (smooth noise)",
        "decode": "codes to images, codes of synthetic images",
    }[name]
    flags = [str(flag) for flag in unit[f"{name}_flags"]]
    if statistics.trend(seconds).drifts:
        flags.append("drift")
    middle, count = statistics.median(seconds), len(seconds)
    bounds = statistics.median_interval(seconds)
    if bounds is None:
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
    timing = f"median of calls, {what}; {device}, host clock after synchronisation"
    timing += f"; {calls_made}" if calls_made else ""
    interval = _interval(bounds)
    ninetieth = statistics.percentile(seconds, 0.9)
    needed = f"{count} calls; a 90th percentile needs {statistics.needed_for(0.9)}"
    throughput = None if bounds is None else (batch / bounds[1], batch / bounds[0])
    traced = statistics.median(unit[f"{name}_traced"])
    calls = len(unit[f"{name}_traced"])
    overhead = traced / middle - 1
    closure = 1 - float(unit[f"{name}_phase_{GAP}"].sum() / unit[f"{name}_traced"].sum())
    eager = f"; the phases are of eager calls, {traced / middle:.3g} times as long as the replayed" if replayed else ""
    return [
        metric("latency", middle, "s", timing, interval=interval, flags=tuple(flags)),
        metric(
            "latency-p90", ninetieth, "s", f"90th percentile, {what}", reason="" if ninetieth is not None else needed
        ),
        metric("latency-spread", statistics.relative_iqr(seconds), "fraction", "interquartile range over median"),
        metric(
            "images-per-second",
            batch / middle,
            "images/s",
            f"batch over median latency, {what}",
            interval=_interval(throughput),
            direction="higher",
            flags=tuple(flags),
        ),
        metric("first-call", float(unit[f"{name}_warmup"][0]), "s", "first call of this batch size", n=1),
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


def _interval(bounds: tuple[float, float] | None) -> Interval | None:
    return None if bounds is None else Interval(low=bounds[0], high=bounds[1], method="order statistics")


def _single(name: str, seconds: float, how: str, at: dict[str, At] | None = None) -> Metric:
    return Metric(name=name, value=seconds, unit="s", n=1, direction="lower", how=how, at=at or {}, measure="speed")


def _load_metric(unit: Stored) -> Metric:
    text = "weights and networks of the adapter and its tokenizer, files perhaps in the system's cache"
    return _single("load", float(unit["load_seconds"][0]), text)


def _prepare_metric(unit: Stored, batch: int) -> Metric:
    text = "one-off work for this batch size: caches, compilation, recording of the CUDA graph"
    return _single("prepare", float(unit["prepare_seconds"][0]), text, {"batch": batch})


def _work_metrics(units: Sequence[Stored]) -> list[Metric]:
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
