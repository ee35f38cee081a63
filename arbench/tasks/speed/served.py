"""The server scenario: response times at given arrival rates, and the rate that holds a bound."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...measure.queueing import Service, rate_within, serve
from ...spec.result import Metric

REQUESTS = 20_000
"""Simulated for each rate."""


def metrics(
    seconds: Mapping[int, NDArray[np.float64]], arrivals: Sequence[float], bound: float | None, seed: int
) -> list[Metric]:
    """Of a server whose calls take what was measured: `seconds` of calls by batch size."""
    if not arrivals and bound is None:
        return []
    service = Service(seconds)
    sizes = ", ".join(map(str, sorted(seconds)))
    how = f"{REQUESTS} Poisson arrivals, all that wait go as one batch, filled up to {sizes}; seed {seed}; simulated"
    rest: dict[str, Any] = {"n": REQUESTS, "measure": "speed", "how": how}
    found = []
    for rate in arrivals:
        endless = rate >= service.capacity
        reason = f"the queue grows without end: {service.capacity:.4g} images/s are served" if endless else ""
        response = None if endless else serve(service, rate, REQUESTS, seed).response
        for q in (0.5, 0.95):
            value = None if response is None else float(np.quantile(response, q))
            name = f"response-p{100 * q:.0f}"
            at = {"rate": rate}
            found.append(Metric(name=name, value=value, unit="s", direction="lower", at=at, reason=reason, **rest))
    if bound is not None:
        highest = rate_within(service, bound, REQUESTS, seed)
        reason = "" if highest else f"one request alone takes longer than {bound:g} s"
        value = highest or None
        name = "rate-within-bound"
        at = {"bound": bound}
        found.append(Metric(name=name, value=value, unit="1/s", direction="higher", at=at, reason=reason, **rest))
    return found


def without(arrivals: Sequence[float], bound: float | None) -> list[Metric]:
    """The same numbers of a tokenizer, which samples nothing: null."""
    reason, how = "a server is asked for images: for generators", "simulated from calls"
    rest: dict[str, Any] = {"value": None, "n": 0, "measure": "speed", "how": how, "reason": reason}
    found = [
        Metric(name=name, unit="s", direction="lower", at={"rate": rate}, **rest)
        for rate in arrivals
        for name in ("response-p50", "response-p95")
    ]
    if bound is not None:
        found.append(Metric(name="rate-within-bound", unit="1/s", direction="higher", at={"bound": bound}, **rest))
    return found
