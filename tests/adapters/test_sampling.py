"""Filters, guidance and the refusal of unknown knobs, against brute-force references."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from arbench.adapters.layers import sampling
from arbench.adapters.layers.sampling import (
    check_supported,
    guided_steps,
    keep_top_k,
    keep_top_p,
    mix_guidance,
    token_probabilities,
    weights_of_steps,
)
from arbench.adapters.raster.llamagen.cards import MINI as LLAMAGEN_MINI
from arbench.errors import Unsupported
from arbench.protocols import Guidance, Sampling
from arbench.seeds import noise_for

# Halves of small integers tie often and keep every sum of probabilities away from the thresholds used below.
LOGITS = st.lists(st.integers(-6, 6).map(lambda n: n / 2), min_size=2, max_size=12)


def kept(logits: torch.Tensor) -> set[int]:
    return set(torch.isfinite(logits).nonzero().flatten().tolist())


@given(LOGITS, st.integers(1, 14))
@settings(max_examples=80, deadline=None)
def test_top_k_keeps_the_k_largest_and_their_ties(values: list[float], k: int) -> None:
    threshold = sorted(values, reverse=True)[min(k, len(values)) - 1]
    filtered = keep_top_k(torch.tensor(values), k)
    assert kept(filtered) == {index for index, value in enumerate(values) if value >= threshold}


@given(st.permutations([0.0, 0.7, 1.3, 2.1, 2.9, 4.2]), st.floats(0.02, 0.999))
@settings(max_examples=80, deadline=None)
def test_nucleus_keeps_up_to_and_with_the_first_token_above_p(values: list[float], p: float) -> None:
    total = sum(math.exp(value) for value in values)
    expected, mass = set(), 0.0
    for index in sorted(range(len(values)), key=lambda i: -values[i]):
        expected.add(index)
        mass += math.exp(values[index]) / total
        if mass > p:
            break
    for reach in (False, True):
        assert kept(keep_top_p(torch.tensor(values), p, reach=reach)) == expected


def test_nucleus_rules_differ_where_the_mass_equals_p() -> None:
    four = torch.zeros(4)  # masses 1/4, 1/2, 3/4, 1 are exact
    assert kept(keep_top_p(four, 0.5)) == {0, 1, 2}
    assert kept(keep_top_p(four, 0.5, reach=True)) == {0, 1}


def test_filters_apply_temperature_first_then_top_k_then_nucleus() -> None:
    logits = torch.tensor([[3.0, 2.0, 1.0, 0.0]])
    got = token_probabilities(logits, Sampling(temperature=2.0, top_k=3, top_p=0.7))
    # of the three left, exp(1.5) : exp(1) : exp(0.5) = 0.506 : 0.307 : 0.186, the first two reach 0.7
    weights = [math.exp(1.5), math.exp(1.0), 0.0, 0.0]
    expected = torch.tensor([[weight / sum(weights) for weight in weights]])
    torch.testing.assert_close(got, expected)


def test_temperature_zero_is_greedy_and_finite() -> None:
    probabilities = token_probabilities(torch.tensor([[0.1, 0.3, 0.2]]), Sampling(temperature=0.0))
    assert probabilities.tolist() == [[0.0, 1.0, 0.0]]


def test_probabilities_leave_the_logits_alone() -> None:
    logits = torch.tensor([[1.0, 2.0, 3.0]])
    token_probabilities(logits, Sampling(top_k=1, top_p=0.1))
    assert logits.tolist() == [[1.0, 2.0, 3.0]]


@pytest.mark.parametrize("at_once", [1, 2**24])
def test_tokens_are_the_same_whether_drawn_in_parts_or_at_once(monkeypatch: pytest.MonkeyPatch, at_once: int) -> None:
    logits = torch.randn(3, 7, 11, generator=torch.Generator().manual_seed(0))
    noise, chosen = noise_for(1, range(3)), Sampling(top_k=6, top_p=0.9)
    expected = noise.categorical(token_probabilities(logits, chosen), "stream", start=5)
    monkeypatch.setattr(sampling, "DRAWN_AT_ONCE", at_once)
    assert torch.equal(sampling.draw_tokens(logits, chosen, noise, "stream", start=5), expected)


def test_guidance_mixes_the_two_halves() -> None:
    logits = torch.tensor([[1.0, 2.0], [5.0, 7.0], [0.0, 1.0], [4.0, 3.0]])
    assert mix_guidance(logits, 3.0).tolist() == [[3.0, 4.0], [7.0, 15.0]]


@pytest.mark.parametrize(
    ("guidance", "steps", "expected"),
    [
        (Guidance(), 10, 0),
        (Guidance(scale=2.0), 10, 10),
        (Guidance(scale=2.0, until=0.3), 10, 3),
        (Guidance(scale=2.0, until=0.01), 10, 1),
        (Guidance(scale=2.0, until=0.0), 10, 0),
        (Guidance(scale=1.0, start=1.0, schedule="linear"), 10, 0),
        (Guidance(scale=1.0, start=2.0, schedule="linear"), 10, 10),
    ],
)
def test_guided_steps(guidance: Guidance, steps: int, expected: int) -> None:
    assert guided_steps(guidance, steps) == expected


@pytest.mark.parametrize(
    ("guidance", "expected"),
    [
        (Guidance(scale=5.0, start=1.0, schedule="linear"), [None, 2.0, 3.0, 4.0]),
        (Guidance(scale=5.0, start=1.0, schedule="linear", until=0.5), [None, 2.0, None, None]),
        (Guidance(scale=1.0, start=3.0, schedule="linear"), [3.0, 2.5, 2.0, 1.5]),
        (Guidance(scale=3.0), [3.0] * 4),
        (Guidance(), [None] * 4),
    ],
)
def test_a_step_of_weight_one_needs_no_half_without_a_condition(
    guidance: Guidance, expected: list[float | None]
) -> None:
    assert weights_of_steps(guidance, 4, 4) == expected


@given(st.integers(1, 600), st.integers(1, 600))
@settings(max_examples=60, deadline=None)
def test_any_whole_number_of_guided_steps_can_be_asked_for(steps: int, guided: int) -> None:
    guided = min(guided, steps)
    assert guided_steps(Guidance(scale=2.0, until=guided / steps), steps) == guided


@pytest.mark.parametrize(
    "knob",
    [{"steps": 5}, {"inner_steps": 3}, {"order": "random"}, {"extra": {"smooth": True}}],
)
def test_a_knob_the_card_does_not_name_is_refused(knob: dict[str, Any]) -> None:
    with pytest.raises(Unsupported) as caught:
        check_supported(LLAMAGEN_MINI, Sampling(**knob))
    name = next(iter(knob.get("extra", knob)))
    assert name in caught.value.what
    assert "top_k" in caught.value.why


def test_guidance_schedules_outside_the_family_are_refused() -> None:
    linear = Sampling(guidance=Guidance(scale=2.0, schedule="linear"))
    with pytest.raises(Unsupported, match=r"guidance.schedule linear \(has constant\)"):
        check_supported(LLAMAGEN_MINI, linear)
    check_supported(LLAMAGEN_MINI.model_copy(update={"choices": {}}), linear)


def test_knobs_in_the_card_pass() -> None:
    check_supported(LLAMAGEN_MINI, Sampling(guidance=Guidance(scale=3.0), temperature=0.5, top_k=5, top_p=0.9))
    without = LLAMAGEN_MINI.model_copy(update={"supports": frozenset({"temperature"})})
    with pytest.raises(Unsupported, match="guidance, top_k"):
        check_supported(without, Sampling(guidance=Guidance(scale=3.0), top_k=5))
