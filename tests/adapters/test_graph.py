"""Recorded calls up to the recording itself: the same call on static tensors gives the same, and reads nothing back."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from arbench import registry, weights
from arbench.adapters.layers.graph import Recorder, StaticCall, copied
from arbench.adapters.layers.host_reads import watched
from arbench.errors import UsageError
from arbench.protocols import NO_PROBE, Card, Codes, Generated, LoadSpec, Noise, Probe, Replays, Request, Sampling
from arbench.seeds import Greedy, Philox, noise_for
from arbench.tasks.outputs import measured_request

MINIS = [
    card.name
    for card in registry.cards().values()
    if card.kind == "generator"
    and card.checkpoint
    and card.checkpoint.packaged
    and (weights.find(card) or Path()).is_file()
]
FEW = dict.fromkeys(("steps", "inner_steps"), 4)
MICRO = ("random_order/randar-mini", "continuous/mar-mini")


@pytest.fixture(scope="module")
def minis() -> dict[str, Any]:
    return {name: loaded(registry.card(name)) for name in MINIS}


def loaded(card: Card) -> Any:
    def spec(each: Card) -> LoadSpec:
        return LoadSpec(weights=weights.find(each))

    tokenizer = None
    if card.tokenizer is not None:
        theirs = registry.card(card.tokenizer)
        tokenizer = registry.resolve(theirs.implementation).load(theirs, spec(theirs))
    return registry.resolve(card.implementation).load(card, spec(card), tokenizer)


def settings(card: Card) -> list[Sampling]:
    """Native and another, both of few steps where steps can be chosen."""
    short = {name: few for name, few in FEW.items() if name in card.supports and card.family in MICRO[0] + MICRO[1]}
    native = card.native.model_copy(update=short)
    other: dict[str, Any] = {"temperature": 0.9}
    other |= {"top_k": 20} if "top_k" in card.supports else {}
    other |= {"top_p": 0.9} if "top_p" in card.supports else {}
    return [native, native.model_copy(update=other)]


def tensors(generated: Generated) -> list[Tensor]:
    codes = generated.codes
    assert codes is not None
    return [*codes.ids, *([] if codes.latents is None else [codes.latents])]


def test_there_are_six_minis() -> None:
    assert len(MINIS) == 6


@pytest.mark.parametrize("name", MINIS)
def test_a_call_on_static_tensors_is_the_plain_call(minis: dict[str, Any], name: str) -> None:
    """What is recorded runs again and again over other samples, and gives what the plain call gives of each."""
    model = minis[name]
    card = model.card
    assert isinstance(model, Replays)
    for batch, sampling in ((1, settings(card)[0]), (7, settings(card)[1])):
        model.prepare(batch, sampling)
        call = static_call(model, batch, sampling)
        for seed, first in ((0, 0), (5, 30)):  # other seeds and other labels
            request = measured_request(card, range(first, first + batch), seed, "cpu")
            call.take(request.noise, inputs_of(model, request, sampling))  # type: ignore[arg-type]
            again = tensors(copied(model.calls.run_as_recorded(call)))
            plain = tensors(model.sample(request, sampling))
            assert all(torch.equal(one, other) for one, other in zip(again, plain, strict=True))


def static_call(model: Any, batch: int, sampling: Sampling) -> StaticCall:
    return StaticCall.like(model.draw, batch, sampling, model.example(batch, sampling), torch.device("cpu"))


def inputs_of(model: Any, request: Request, sampling: Sampling) -> tuple[Tensor | None, ...]:
    """What `sample` hands to the recorder."""
    seen: list[tuple[Tensor | None, ...]] = []
    calls = model.calls

    def spy(draw: Any, noise: Noise, sampling: Sampling, probe: Probe, *inputs: Tensor | None) -> Generated:
        seen.append(inputs)
        return Generated()

    model.calls = spy
    try:
        model.sample(request, sampling)
    finally:
        model.calls = calls
    return seen[0]


@pytest.mark.parametrize("name", MINIS)
def test_a_call_reads_nothing_back(minis: dict[str, Any], name: str) -> None:
    model = minis[name]
    for sampling in settings(model.card):
        model.prepare(2, sampling)
        call = static_call(model, 2, sampling)
        with watched() as reads:
            model.calls.run_as_recorded(call)
        assert reads.first == ""


@pytest.mark.parametrize(
    ("read", "said"),
    [
        (lambda x: x.sum().item(), "reads a number off a tensor"),
        (lambda x: int(x[0]), "reads a number off a tensor"),
        (lambda x: bool((x > 0).any()), "reads a number off a tensor"),
        (lambda x: x.tolist(), "reads a tensor into a list"),
        (lambda x: x.numpy(), "hands a tensor to NumPy"),
        (lambda x: x.cpu(), "copies a tensor to the host"),
        (lambda x: x.nonzero(), "are true (`nonzero`)"),
        (lambda x: x[x > 1], "indexing by bool"),
        (lambda x: x.masked_select(x > 1), "`masked_select`"),
        (lambda x: x.unique(), "`unique`"),
        (lambda x: torch.equal(x, x), "`torch.equal`"),
        (lambda x: x.repeat_interleave(x), "`output_size`"),
        (lambda x: x + torch.tensor([1, 2, 3]), "makes a tensor of numbers of the host"),
    ],
)
def test_what_reads_back_is_found_and_named(read: Callable[[Tensor], Any], said: str) -> None:
    x = torch.tensor([1, 2, 3])
    with torch.inference_mode(), watched() as reads:
        read(x)
    assert said in reads.first
    assert "in test_graph.py, line" in reads.first


def test_what_reads_nothing_is_let_be() -> None:
    x = torch.arange(6.0).reshape(2, 3)
    with watched() as reads:
        x[:, 0] = 1
        x[x > 2] = 0
        x = x.masked_fill(x > 1, 0) + torch.zeros(3) + 2.5
        x.topk(2).values.sort().values.cumsum(-1).repeat_interleave(2, dim=0)
        x[torch.arange(2), torch.arange(2)].to(torch.float64)
    assert reads.first == ""


def test_noise_follows_other_noise_in_place() -> None:
    """Its numbers are drawn from the keys at hand, however many were drawn before."""
    own, first, second = Philox([0, 0]), noise_for(3, [1, 2]), noise_for(4, [8, 9])
    key = own._key
    for other in (first, second, first):
        own.follow(other)
        assert torch.equal(own.uniform("a", 5), other.uniform("a", 5))
        assert torch.equal(own.uniform("a", 5, 300), other.uniform("a", 5, 300))
    assert own._key is key
    own._key.copy_(second._key)  # what a replay finds: other keys, and nothing that was kept of the last
    own.forget()
    assert torch.equal(own.uniform("a", 5), second.uniform("a", 5))


def test_a_recording_on_the_cpu_is_one_clear_error() -> None:
    with pytest.raises(UsageError, match=r"'cpu' records no CUDA graphs"):
        Recorder(LoadSpec(graph="on"))
    card = registry.card("raster/llamagen-mini")
    with pytest.raises(UsageError, match="leave graph at auto"):
        registry.resolve(card.implementation).load(card, LoadSpec(init="random", graph="on"), None)


# ---- which call is replayed, with a recording in place of CUDA's -----------------------------------------------------


class Replayed:
    """In place of a CUDA graph: replaying runs the call, and its results go where the first one's went."""

    def __init__(self, run: Callable[[], Generated], result: Generated) -> None:
        self.run, self.result, self.replays, self.freed = run, result, 0, False

    def replay(self) -> None:
        self.replays += 1
        for place, value in zip(tensors(self.result), tensors(self.run()), strict=True):
            place.copy_(value)

    def reset(self) -> None:
        self.freed = True


class Recording(Recorder):
    """Records on the CPU."""

    def __init__(self) -> None:
        super().__init__(LoadSpec())
        self.on = True
        self.made: list[Replayed] = []

    def _capture(self, call: StaticCall) -> tuple[Any, Generated]:
        result = self.run_as_recorded(call)
        self.made.append(Replayed(lambda: self.run_as_recorded(call), result))
        return self.made[-1], result

    def _warm_up(self, call: StaticCall) -> None:
        self.look(call)


def plus(noise: Noise, sampling: Sampling, probe: Probe, x: Tensor) -> Generated:
    drawn = noise.uniform("a", 2).mul(100).long() + x[:, None]
    return Generated(codes=Codes(ids=(drawn,)), outer_steps=2, forwards=3)


def reading(noise: Noise, sampling: Sampling, probe: Probe, x: Tensor) -> Generated:
    return plus(noise, sampling, probe, x) if int(x.sum()) >= 0 else Generated()


def ids(generated: Generated) -> Tensor:
    return tensors(generated)[0]


def test_a_prepared_call_is_replayed_for_other_samples() -> None:
    calls, sampling = Recording(), Sampling()
    calls.prepare(plus, 2, sampling, torch.zeros(2, dtype=torch.int64))
    assert calls.recorded(2, sampling).replayed
    kept = []
    for seed in range(3):
        x, noise = torch.tensor([seed, 7]), noise_for(seed, [1, 2])
        got = calls(plus, noise, sampling, NO_PROBE, x)
        expected = plus(noise, sampling, NO_PROBE, x)
        assert (got.outer_steps, got.forwards) == (2, 3)
        assert torch.equal(ids(got), ids(expected))
        kept.append((ids(got), ids(expected)))
    assert calls.made[0].replays == 3
    assert all(torch.equal(got, expected) for got, expected in kept)  # a replay writes over no earlier result


def test_what_was_not_prepared_or_is_probed_or_greedy_is_not_replayed() -> None:
    calls, sampling, x = Recording(), Sampling(), torch.zeros(2, dtype=torch.int64)
    calls.prepare(plus, 2, sampling, x)
    probed: Any = lambda *given, **named: NO_PROBE(*given, **named)  # noqa: E731
    calls(plus, noise_for(0, [0, 1]), sampling, probed, x)
    calls(plus, Greedy(2), sampling, NO_PROBE, x)
    calls(plus, noise_for(0, [0, 1, 2]), sampling, NO_PROBE, torch.zeros(3, dtype=torch.int64))
    calls(plus, noise_for(0, [0, 1]), Sampling(temperature=0.5), NO_PROBE, x)
    calls(plus, noise_for(0, [0, 1]), sampling, NO_PROBE, x.int())
    assert [each.replays for each in calls.made] == [0]
    calls(plus, noise_for(0, [0, 1]), Sampling(temperature=0.5), NO_PROBE, x, record=True)
    assert [each.replays for each in calls.made] == [0, 1]


def test_a_call_that_reads_back_works_and_is_told_what_stopped_it() -> None:
    calls, sampling, x = Recording(), Sampling(), torch.tensor([1, 2])
    calls.prepare(reading, 2, sampling, x)
    told = calls.recorded(2, sampling)
    assert not told.replayed
    assert told.reason.startswith("reads a number off a tensor")
    assert "in test_graph.py, line" in told.reason
    assert "(reading)" in told.reason
    noise = noise_for(0, [0, 1])
    got, expected = calls(reading, noise, sampling, NO_PROBE, x), plus(noise, sampling, NO_PROBE, x)
    assert torch.equal(ids(got), ids(expected))
    assert calls.made == []


def test_few_recordings_are_kept_and_closing_frees_them() -> None:
    calls, x = Recording(), torch.zeros(1, dtype=torch.int64)
    samplings = [Sampling(temperature=1 + index / 10) for index in range(10)]
    for sampling in samplings:
        calls.prepare(plus, 1, sampling, x)
        calls.prepare(plus, 1, sampling, x)  # is there
        calls(plus, noise_for(0, [0]), samplings[0], NO_PROBE, x)  # stays: it is used
    assert len(calls.made) == 10
    assert [each.freed for each in calls.made] == [False, *[True] * 6, *[False] * 3]
    assert not calls.recorded(1, samplings[1]).replayed
    calls.close()
    calls.close()
    assert all(each.freed for each in calls.made)
    assert not calls.recorded(1, samplings[0]).replayed
