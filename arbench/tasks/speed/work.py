"""The work of `speed`: at each batch size a headline pass without the probe, one with it, and one that counts."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...images import pack
from ...measure import statistics
from ...measure.clock import Clock, WallClock
from ...measure.counts import count
from ...measure.device_rates import Rates, rates
from ...measure.guard import Disturbance, GpuState, Guard, Reading, cores, gpu, read
from ...measure.kernels import Launched, launched
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
from ...spec.result import Metric, SpeedRecord
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
from . import Speed, counted, numbers, served

PHASE_CALLS = 5
"""Calls of the phase pass, fewer where they take longer than the task's `max_seconds`."""


PATIENCE = 5.0
"""Calls are added for a narrow interval until there are so many times the task's `min_seconds`."""


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
        self,
        clock_for: Callable[[str], Clock] = WallClock,
        stamps_for: Callable[[str], Stamps] = stamps_for,
        rates_for: Callable[[str, str], Rates] = rates,
        look: Callable[[], Reading] = read,
        kernels_of: Callable[[Callable[[], object], str], Launched] = launched,
    ) -> None:
        self._clock_for = clock_for
        self._stamps_for = stamps_for
        self._rates_for = rates_for
        self._look = look
        self._kernels_of = kernels_of

    def measure(self, cell: Cell, unit: Unit, context: Context) -> Arrays:
        task = cell.task
        assert isinstance(task, Speed)
        limits = StopRule(
            min_calls=task.min_calls,
            min_seconds=task.min_seconds,
            interval=task.interval,
            interval_seconds=PATIENCE * task.min_seconds,
            max_seconds=task.max_seconds,
        )
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
            if cell.settings.compile:  # what is not compiled yet, the decoder for one, is so in a first call
                calls.call(calls.prepare(-1), NO_PROBE)
                clock.now()
            arrays["prepare_seconds"] = np.array([clock.now() - start])
            arrays["calls"] = np.array([_calls_of(calls.generator, batch, calls.sampling)])
            operations = [Operation("sample", calls.prepare, calls.call, calls.consume)]
        else:
            operations = _tokenizer_operations(cell, batch, context)
        for operation in operations:
            stamps = self._stamps_for(context.device)
            if cell.kind == "generator":
                calls.stamps = stamps
            guard = Guard(self._look)
            timed = time_calls(
                operation.unprobed,
                operation.prepare,
                operation.consume,
                clock,
                limits,
                context.progress,
                stamps,
            )
            arrays |= _guarded(operation.name, guard.disturbance(), gpu(context.device))
            calls_end = timed.marks if context.device.startswith("cuda") else np.zeros((0, 1))
            arrays |= _headline_arrays(operation.name, timed) | {f"{operation.name}_on_device": calls_end[:, -1]}
            if cell.kind == "generator":
                calls.stamps = None
                arrays["draw_seconds"] = timed.marks[:, 0] if timed.marks.shape[1] > 1 else np.zeros(0)
            probe = PhaseProbe(self._stamps_for(context.device))
            arrays |= _phase_pass(operation, probe, clock, timed.calls, limits.max_seconds)
            if unit.stop == unit.start:  # the first round; counts are the same in every process
                given = operation.prepare(timed.calls + len(arrays[f"{operation.name}_traced"]))
                arrays |= counted.arrays(operation.name, count(partial(operation.call, given)))
                found = self._kernels_of(partial(operation.unprobed, given), context.device)
                arrays |= counted.kernel_arrays(operation.name, found)
        if cell.kind == "generator":
            arrays |= {"outer_steps": np.array([calls.outer_steps]), "forwards": np.array([calls.forwards])}
        return arrays

    def finish(self, cell: Cell, units: Sequence[Stored], context: Context) -> Finished:
        assert isinstance(cell.task, Speed)
        fresh = cell.task.processes > 1
        metrics: list[Metric] = [numbers.load_metric(units if fresh else units[:1])]
        records: list[SpeedRecord] = []
        names = ["sample"] if cell.kind == "generator" else ["encode", "decode"]
        rates = self._rates_for(context.device, cell.settings.dtype)
        by_batch: dict[int, list[Stored]] = {}
        for unit in units:
            by_batch.setdefault(int(unit["batch"][0]), []).append(unit)
        together = [numbers.merged(found, names) for found in by_batch.values()]
        for batch, unit in zip(by_batch, together, strict=True):
            if cell.kind == "generator":
                metrics.append(numbers.prepare_metric(unit, batch))
                metrics += numbers.without_decoder(unit, batch)
            for name in names:
                metrics += numbers.metrics(unit, name, batch, context.device)
                metrics += counted.metrics(unit, name, batch, rates)
                records.append(numbers.record(unit, name, batch))
        if cell.kind == "generator":
            seconds = {batch: unit["sample_seconds"] for batch, unit in zip(by_batch, together, strict=True)}
            metrics += numbers.saturation({batch: batch / statistics.median(each) for batch, each in seconds.items()})
            metrics += served.metrics(seconds, cell.task.arrivals, cell.task.bound, cell.settings.seed)
            metrics += numbers.work_metrics(units)
            metrics += [counted.tokens(units[0]), *counted.inner_steps(units[0])]
        else:
            metrics += served.without(cell.task.arrivals, cell.task.bound)
        metrics += counted.device_metrics(rates, cell.settings.dtype)
        return Finished(tuple(metrics), tuple(records), latency=pack(numbers.raw(together, names)))


def _calls_of(generator: Generator, batch: int, sampling: Sampling) -> str:
    """How the calls are made, in words; "" where there is nothing to say."""
    recorded = generator.recorded(batch, sampling) if isinstance(generator, Replays) else Recorded(False)
    if recorded.replayed:
        return numbers.REPLAYED
    return f"no CUDA graph: {recorded.reason}" if recorded.reason else ""


class _GeneratorCalls:
    """Calls of a generator, from request to images: sampling and, where there is a tokenizer, decoding."""

    def __init__(self, cell: Cell, batch: int, context: Context) -> None:
        self.generator = context.generator(cell)
        self.card = self.generator.card
        self.sampling = sampling_of(cell, self.card)
        self.outer_steps = 0
        self.forwards = 0
        self.stamps: Stamps | None = None
        """Where the moment between sampling and decoding is marked."""
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
            if self.stamps is not None:
                self.stamps.stamp()
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


def _guarded(name: str, found: Disturbance, state: GpuState | None) -> Arrays:
    """What disturbed an operation's calls."""
    flags = (*found.flags(cores()), *(state.flags if state else ()))
    numbers = [state.clock, state.highest_clock, state.temperature, state.power_limit] if state else []
    return {
        f"{name}_disturbance": np.array([found.cores, found.stolen]),
        f"{name}_guard": np.array(flags, dtype="U24"),
        f"{name}_gpu": np.array(numbers, dtype=np.float64),
    }


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
