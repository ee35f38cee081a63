"""A server with dynamic batching, simulated: requests arrive at random, and wait until those before them are served."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

SETTLING = 0.1
"""Share of the requests that come first and are not counted: the queue is empty when they come."""


class Service:
    """How long a batch takes: one of the times that were measured at its size, or at the next size above.

    times: batch size -> seconds of calls. A batch of a size between is filled up, as recorded calls must be.
    """

    def __init__(self, times: Mapping[int, ArrayLike]) -> None:
        self._sizes = np.array(sorted(times))
        self._times = [np.asarray(times[int(size)], dtype=np.float64) for size in self._sizes]
        if not len(self._sizes) or any(not len(each) or (each <= 0).any() for each in self._times):
            raise ValueError("a service has at least one batch size, each with positive times")

    @property
    def largest(self) -> int:
        return int(self._sizes[-1])

    @property
    def capacity(self) -> float:
        """Requests per second beyond which the queue grows without end: all batches are then the largest."""
        return float(self._sizes[-1] / self._times[-1].mean())

    def seconds(self, size: int, draw: float) -> float:
        """Seconds that a batch of `size` takes, `draw` in [0, 1) choosing among those measured."""
        times = self._times[int(np.searchsorted(self._sizes, size))]
        return float(times[int(draw * len(times))])


@dataclass(frozen=True)
class Served:
    """Of each counted request, in order of arrival: seconds until it was begun, and until it was done."""

    waiting: NDArray[np.float64]
    response: NDArray[np.float64]


def serve(service: Service, rate: float, requests: int, seed: int) -> Served:
    """Serves Poisson arrivals, `rate` a second, one batch at a time.

    When the server is free it takes all that wait, at most `service.largest`; it never waits for more to come. The same
    seed gives the same arrivals at every rate, only faster or slower, so that two rates differ in nothing else.
    """
    if rate <= 0 or requests < 1:
        raise ValueError(f"a rate above 0 and at least one request are needed, got {rate:g} and {requests}")
    random = np.random.default_rng(seed)
    arrivals = np.cumsum(random.exponential(size=requests)) / rate
    draws = random.random(requests)
    begun, done = np.empty(requests), np.empty(requests)
    first, free = 0, 0.0
    while first < requests:
        start = max(free, float(arrivals[first]))
        waiting = int(np.searchsorted(arrivals, start, side="right"))
        last = min(waiting, first + service.largest)
        free = start + service.seconds(last - first, float(draws[first]))
        begun[first:last], done[first:last] = start, free
        first = last
    counted = slice(int(SETTLING * requests), None)
    return Served(begun[counted] - arrivals[counted], done[counted] - arrivals[counted])


def rate_within(
    service: Service, bound: float, requests: int, seed: int, *, q: float = 0.95, tolerance: float = 0.01
) -> float:
    """The highest rate at which the q-quantile of response times is at most `bound`, to a fraction of `tolerance`.

    0.0 where no rate holds it: one request alone takes longer.
    """

    def holds(rate: float) -> bool:
        return float(np.quantile(serve(service, rate, requests, seed).response, q)) <= bound

    low, high = service.capacity * 1e-4, service.capacity
    if not holds(low):
        return 0.0
    if holds(high):
        return high
    while high / low > 1 + tolerance:
        middle = float(np.sqrt(low * high))
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low
