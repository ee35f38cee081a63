"""Metrics of what a call computes and must read, and how near its time comes to what this device allows."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...measure import statistics
from ...measure.counts import OUTSIDE, Counts, Span
from ...measure.device_rates import Rates
from ...measure.kernels import Launched
from ...spec.result import At, Metric
from ..base import Arrays, Stored

_FIELDS = ("tokens", "flops", "weights", "cache", "operations")


def arrays(name: str, counts: Counts) -> Arrays:
    """Counts of one call of an operation, as arrays of a unit."""
    spans = {
        f"{name}_span_{field}": np.array([getattr(span, field) for span in counts.spans], dtype=np.int64)
        for field in _FIELDS
    }
    return spans | {
        f"{name}_span_phase": np.array([span.phase for span in counts.spans], dtype="U16"),
        f"{name}_passes_phase": np.array(list(counts.passes), dtype="U16"),
        f"{name}_passes": np.array(list(counts.passes.values()), dtype=np.int64),
    }


def kernel_arrays(name: str, found: Launched) -> Arrays:
    """Kernels of one call of an operation, as arrays of a unit; -1 for none counted."""
    numbers = [-1 if found.kernels is None else found.kernels, found.copies]
    return {
        f"{name}_kernels": np.array(numbers, dtype=np.int64),
        f"{name}_kernels_reason": np.array([found.reason]),
    }


def counts_of(unit: Stored, name: str) -> Counts:
    """The counts that `arrays` stored."""
    phases = unit[f"{name}_span_phase"].tolist()
    rows = zip(*(unit[f"{name}_span_{field}"].tolist() for field in _FIELDS), strict=True)
    spans = tuple(Span(phase, *row) for phase, row in zip(phases, rows, strict=True))
    passes = zip(unit[f"{name}_passes_phase"].tolist(), unit[f"{name}_passes"].tolist(), strict=True)
    return Counts(spans, dict(passes))


def speed_of_light(counts: Counts, rates: Rates) -> float:
    """Seconds that a call takes at least. Entries of phases follow each other, so their least times add up."""
    return sum(rates.least(span.flops, span.traffic) for span in counts.spans)


def metrics(unit: Stored, name: str, batch: int, rates: Rates) -> list[Metric]:
    """What was counted of one operation at one batch size, with the time that it takes at least."""
    counts = counts_of(unit, name)
    at: dict[str, At] = {"batch": batch, "operation": name}
    seconds = unit[f"{name}_seconds"]

    def number(label: str, unit_name: str, how: str, field: str) -> Metric:
        by_phase = {phase: float(counts.total(field, phase)) for phase in counts.phases}
        value = float(counts.total(field))
        return Metric(name=label, value=value, unit=unit_name, n=1, direction="lower", how=how, at=at, extras=by_phase)

    weights, cache = float(counts.total("weights")), float(counts.total("cache"))
    least = speed_of_light(counts, rates)
    share = least / statistics.median(seconds)
    limits = f"{rates.matrix / 1e12:.3g} TFLOP/s and {rates.bandwidth / 1e9:.3g} GB/s as measured on this device"
    timed: dict[str, Any] = {"n": len(seconds), "at": at, "measure": "speed"}
    return [
        number(
            "flops",
            "FLOP",
            "matrix products, convolutions and attention over what is in the cache, two a multiplication and addition",
            "flops",
        ),
        Metric(
            name="traffic",
            value=weights + cache,
            unit="B",
            n=1,
            direction="lower",
            how="weights at each reading, and what steps keep for later steps; activations within a step count none",
            at=at,
            extras={"weights": weights, "cache": cache},
        ),
        number(
            "operations",
            "",
            "tensor operations of an eager call; on a GPU each launches a kernel or more",
            "operations",
        ),
        *(
            Metric(
                name="weight-passes",
                value=float(times),
                n=1,
                direction="lower",
                how="times that most of the phase's weights are read; a guided call on a doubled batch reads once",
                at={**at, "phase": phase},
            )
            for phase, times in counts.passes.items()
            if times and phase != OUTSIDE
        ),
        _kernels(unit, name, at),
        Metric(
            name="speed-of-light",
            value=least,
            unit="s",
            direction="lower",
            how=f"the longer of computing and moving, summed over the steps; {limits}",
            **timed,
        ),
        Metric(
            name="limit-share",
            value=share,
            unit="fraction",
            direction="higher",
            how=f"least time for the call's FLOP and bytes over its median time; {limits}",
            flags=("above_limit",) if share > 1 else (),
            **timed,
        ),
    ]


def _kernels(unit: Stored, name: str, at: dict[str, At]) -> Metric:
    launched, copies = (int(each) for each in unit[f"{name}_kernels"])
    return Metric(
        name="kernels",
        value=float(launched) if launched >= 0 else None,
        n=1,
        direction="lower",
        how="kernels that ran on the GPU in a call of its own, by torch's profiler; those of a replayed CUDA graph too",
        at=at,
        extras={"copies": float(copies)} if launched >= 0 else {},
        reason=str(unit[f"{name}_kernels_reason"][0]),
    )


def tokens(unit: Stored) -> Metric:
    """Tokens of one image, as the marks of `prefill` and `ar` say."""
    found = counts_of(unit, "sample").tokens
    reason = "" if found else "the adapter marks none"
    how = "tokens that the phases prefill and ar say they draw, for one image"
    return Metric(name="tokens", value=float(found) if found else None, n=1, how=how, reason=reason)


def inner_steps(unit: Stored) -> list[Metric]:
    """Steps of the inner loop within one outer step, of models that have one: passes over its weights."""
    counts = counts_of(unit, "sample")
    entered = sum(span.phase == "inner" for span in counts.spans)
    if not entered:
        return []
    how = "passes over the inner network's weights for each time that it is entered"
    return [Metric(name="inner-steps", value=counts.passes.get("inner", 0) / entered, n=1, direction="lower", how=how)]


def device_metrics(rates: Rates, dtype: str) -> list[Metric]:
    """What the limits are made of."""
    text = "best of repeated calls, measured once for this device and kept"
    return [
        Metric(name=name, value=value, unit=unit, n=1, direction="higher", measure="speed", how=f"{what}, {text}")
        for name, value, unit, what in (
            ("copy-bandwidth", rates.bandwidth, "B/s", "copy of a large tensor, bytes read and written"),
            ("matrix-rate", rates.matrix, "FLOP/s", f"product of two square matrices in {dtype}"),
        )
    ]
