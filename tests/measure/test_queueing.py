"""The simulated server against queueing theory, and rules that hold for any service."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arbench.measure.queueing import SETTLING, Service, rate_within, serve


def md1_at_most(t, rate, service):
    """P(waiting <= t) of M/D/1 (Erlang, 1909): (1 - rho) sum over k <= t/s of (-x)^k e^x / k!, x = rate (t - k s)."""
    terms = ((k, rate * (t - k * service)) for k in range(int(t / service) + 1))
    return (1 - rate * service) * math.fsum((-x) ** k * math.exp(x) / math.factorial(k) for k, x in terms)


def md1_quantile(q, rate, service):
    low, high = 0.0, 30 * service
    while high - low > 1e-6 * service:
        middle = (low + high) / 2
        low, high = (middle, high) if md1_at_most(middle, rate, service) < q else (low, middle)
    return low


@pytest.mark.parametrize("load", [0.5, 0.7])
def test_a_fixed_service_time_waits_as_queueing_theory_says(load):
    service = 0.05
    waiting = serve(Service({1: [service]}), load / service, 200_000, seed=1).waiting
    assert waiting.mean() == pytest.approx(load * service / (2 * (1 - load)), rel=0.05)  # Pollaczek and Khinchine
    assert np.quantile(waiting, 0.95) == pytest.approx(md1_quantile(0.95, load / service, service), rel=0.05)
    assert (waiting == 0).mean() == pytest.approx(1 - load, rel=0.05)


def test_random_service_times_wait_longer():
    """M/G/1 with times 0.02 and 0.08: the mean waiting is load * E[S^2] / (2 E[S] (1 - load))."""
    waiting = serve(Service({1: [0.02, 0.08]}), 0.5 / 0.05, 200_000, seed=2).waiting
    assert waiting.mean() == pytest.approx(0.5 * 0.0034 / (2 * 0.05 * 0.5), rel=0.05)


@settings(deadline=None, max_examples=30)
@given(
    st.dictionaries(st.integers(1, 9), st.lists(st.floats(0.01, 2), min_size=1, max_size=3), min_size=1, max_size=3),
    st.floats(0.1, 50),
    st.integers(0, 99),
)
def test_the_rules_of_a_batching_server(times, rate, seed):
    """First come, first served; batches are as large as allowed, never overlap, and nobody waits for a free server."""
    requests = 200
    found = serve(Service(times), rate, requests, seed)
    arrivals = np.cumsum(np.random.default_rng(seed).exponential(size=requests)) / rate
    arrivals = arrivals[int(SETTLING * requests) :]
    begun, done = arrivals + found.waiting, arrivals + found.response
    assert (found.waiting >= -1e-9).all()
    assert (np.diff(begun) >= -1e-9).all()
    starts, sizes = np.unique(begun.round(9), return_counts=True)
    assert sizes.max() <= max(times)
    ends = np.array([done[begun.round(9) == start][0] for start in starts])
    assert (starts[1:] >= ends[:-1] - 1e-6).all()
    firsts = np.array([arrivals[begun.round(9) == start][0] for start in starts])
    np.testing.assert_allclose(starts[1:], np.maximum(ends[:-1], firsts[1:]), atol=1e-6)


def test_a_seed_gives_the_same_arrivals():
    service = Service({1: [0.1], 4: [0.2]})
    np.testing.assert_array_equal(serve(service, 8, 500, 3).response, serve(service, 8, 500, 3).response)
    assert (serve(service, 8, 500, 3).response != serve(service, 8, 500, 4).response).any()


def test_the_rate_that_holds_a_bound():
    service, bound = Service({1: [0.05]}), 0.2
    rate = rate_within(service, bound, 20_000, seed=0)
    assert np.quantile(serve(service, rate, 20_000, 0).response, 0.95) <= bound
    assert np.quantile(serve(service, 1.02 * rate, 20_000, 0).response, 0.95) > bound
    waiting = md1_quantile(0.95, rate, 0.05)
    assert waiting + 0.05 == pytest.approx(bound, rel=0.1)


def test_a_bound_that_one_request_breaks_and_one_that_nothing_breaks():
    service = Service({2: [0.1]})
    assert rate_within(service, 0.09, 1000, 0) == 0
    assert rate_within(service, 1e9, 1000, 0) == service.capacity == 20


@pytest.mark.parametrize("times", [{}, {1: []}, {1: [0.0]}])
def test_no_service_without_times(times):
    with pytest.raises(ValueError, match="positive times"):
        Service(times)
