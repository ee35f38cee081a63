"""Recorded calls up to the recording itself: the same call on static tensors gives the same, and reads nothing back."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from arbench import registry, weights
from arbench.adapters.layers.generator import RecordedGenerator
from arbench.adapters.layers.graph import Recorder, StaticCall
from arbench.adapters.layers.host_reads import watched
from arbench.errors import ConfigError
from arbench.protocols import (
    NO_PROBE,
    Card,
    Codes,
    Generated,
    Guidance,
    LoadSpec,
    Noise,
    Probe,
    Recorded,
    Replays,
    Sampling,
)
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
FEW = {"steps": 4, "inner_steps": 4}


class Tape(TorchDispatchMode):
    """On a CPU what a CUDA graph is on a GPU: the operations of a call, run again without any of our Python."""

    def __init__(self) -> None:
        super().__init__()
        self.operations: list[tuple[Any, Any, Any, list[Any]]] = []
        self.result = Generated()
        self.replays, self.freed = 0, False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        self.operations.append((func, args, kwargs or {}, tree_leaves(made)))  # and so all tensors live on
        return made

    def replay(self) -> None:
        """What is not made by the operations, weights and static inputs, is read as it now is."""
        now: dict[int, Any] = {}

        def current(value: Any) -> Any:
            return now.get(id(value), value)

        for func, args, kwargs, made in self.operations:
            again = tree_leaves(func(*tree_map(current, args), **tree_map(current, kwargs)))
            now |= {id(old): new for old, new in zip(made, again, strict=True) if isinstance(old, Tensor)}
        for place in tensors(self.result):
            place.copy_(now[id(place)])
        self.replays += 1

    def reset(self) -> None:
        self.freed = True


class TapeRecorder(Recorder):
    """Records on a CPU."""

    def __init__(self) -> None:
        super().__init__(LoadSpec())
        self.on = True
        self.made: list[Tape] = []

    def _warm_up(self, call: StaticCall) -> None:
        self.look(call)

    def _capture(self, call: StaticCall) -> tuple[Any, Generated]:
        tape = Tape()
        with torch.inference_mode(False), torch.no_grad(), tape:
            tape.result = self.run_as_recorded(call)
        self.made.append(tape)
        return tape, tape.result


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
    short = {name: few for name, few in FEW.items() if name in card.supports}
    native = card.native.model_copy(update=short)
    other: dict[str, Any] = {"temperature": 0.9} if "temperature" in card.supports else {"guidance": Guidance()}
    other |= {"top_k": 20} if "top_k" in card.supports else {}
    other |= {"top_p": 0.9} if "top_p" in card.supports else {}
    return [native, native.model_copy(update=other)]


def tensors(generated: Generated) -> list[Tensor]:
    codes = generated.codes
    assert codes is not None
    return [*codes.ids, *([] if codes.latents is None else [codes.latents])]


def test_there_are_eight_minis() -> None:
    assert len(MINIS) == 8


@pytest.mark.parametrize("name", MINIS)
def test_recorded_calls_draw_the_same_samples(minis: dict[str, Any], name: str) -> None:
    """One recording for a batch size and sampling, replayed for other seeds and labels, without a number read back."""
    model = minis[name]
    assert isinstance(model, Replays)
    plain, model.calls = model.calls, TapeRecorder()
    for batch, sampling in zip((1, 7), settings(model.card), strict=True):
        model.prepare(batch, sampling)
        assert model.recorded(batch, sampling) == Recorded(True)
        tape = model.calls.made[-1]
        for seed, first in ((0, 0), (5, 30)):
            request = measured_request(model.card, range(first, first + batch), seed, "cpu")
            replayed = model.sample(request, sampling)
            assert tape.replays == (2 if seed else 1)
            recorder, model.calls = model.calls, plain
            drawn = model.sample(request, sampling)
            model.calls = recorder
            assert (replayed.outer_steps, replayed.forwards) == (drawn.outer_steps, drawn.forwards)
            for one, other in zip(tensors(replayed), tensors(drawn), strict=True):
                assert torch.equal(one, other)
    model.calls.close()
    model.calls = plain


@pytest.mark.parametrize("name", ["next_scale/var-mini", "random_order/randar-mini", "continuous/mar-mini"])
def test_edits_of_one_shape_are_recorded_when_first_met(minis: dict[str, Any], name: str) -> None:
    model = minis[name]
    sampling = settings(model.card)[0]
    codes = model.sample(measured_request(model.card, range(3), 8, "cpu"), sampling).codes
    side = math.isqrt(codes.ids[-1].shape[1]) if codes.ids else codes.latents.shape[-1]
    mask = torch.arange(side * side).reshape(side, side) % 3 == 0
    plain, model.calls = model.calls, TapeRecorder()
    for seed, where in ((1, mask), (2, mask.flip(0))):
        request = measured_request(model.card, range(3), seed, "cpu")
        replayed = tensors(model.edit(request, codes, where, sampling))
        recorder, model.calls = model.calls, plain
        expected = tensors(model.edit(request, codes, where, sampling))
        model.calls = recorder
        assert all(torch.equal(one, other) for one, other in zip(replayed, expected, strict=True))
    assert [tape.replays for tape in model.calls.made] == [2]
    model.calls.close()
    model.calls = plain


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
    with pytest.raises(ConfigError, match=r"'cpu' records no CUDA graphs"):
        Recorder(LoadSpec(graph="on"))
    card = registry.card("raster/llamagen-mini")
    with pytest.raises(ConfigError, match="leave graph at auto"):
        registry.resolve(card.implementation).load(card, LoadSpec(init="random", graph="on"), None)


# ---- which call is replayed ------------------------------------------------------------------------------------------


def plus(noise: Noise, sampling: Sampling, probe: Probe, x: Tensor) -> Generated:
    drawn = noise.uniform("a", 2).mul(100).long() + x[:, None]
    return Generated(codes=Codes(ids=(drawn,)), outer_steps=2, forwards=3)


def reading(noise: Noise, sampling: Sampling, probe: Probe, x: Tensor) -> Generated:
    return plus(noise, sampling, probe, x) if int(x.sum()) >= 0 else Generated()


def ids(generated: Generated) -> Tensor:
    return tensors(generated)[0]


def test_a_prepared_call_is_replayed_for_other_samples() -> None:
    calls, sampling = TapeRecorder(), Sampling()
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
    calls, sampling, x = TapeRecorder(), Sampling(), torch.zeros(2, dtype=torch.int64)
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
    calls, sampling, x = TapeRecorder(), Sampling(), torch.tensor([1, 2])
    with pytest.warns(RuntimeWarning, match="calls of 2 are not replayed as a CUDA graph: reads a number"):
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


class StopsEarly(RecordedGenerator):
    """An adapter of somebody's own: it looks at each token and stops once all rows have drawn a zero."""

    def draw(self, noise: Noise, sampling: Sampling, probe: Probe, *inputs: Any) -> Generated:
        (labels,) = inputs
        ids, ended = [], torch.zeros_like(labels, dtype=torch.bool)
        for index in range(8):
            ids.append((noise.uniform("tokens", 1, index) * 4).long())
            ended |= ids[-1][:, 0] == 0
            if ended.all().item():
                break
        steps = len(ids)
        drawn = F.pad(torch.cat(ids, dim=1), (0, 8 - steps))
        return Generated(codes=Codes(ids=(drawn + labels[:, None],)), outer_steps=steps, forwards=steps)


def test_an_adapter_of_ones_own_that_reads_back_samples_and_says_what_stopped_it() -> None:
    card = Card(
        name="own/stops-early",
        kind="generator",
        family="other",
        implementation="own:StopsEarly",
        summary="",
        resolution=16,
        condition="class",
        classes=5,
    )
    model, sampling = StopsEarly(card, None, None), Sampling()
    assert isinstance(model, Replays)
    eager = [model.sample(measured_request(card, range(first, first + 3), 0, "cpu"), sampling) for first in (0, 3, 6)]
    assert len({each.outer_steps for each in eager}) > 1  # a recording would repeat the steps of its own call
    place = r"in test_graph\.py, line \d+ \(draw\)"
    assert re.fullmatch(rf"reads a number off a tensor .*, {place}", model.reads_back(3, sampling))
    model.calls = TapeRecorder()
    with pytest.warns(RuntimeWarning, match=rf"calls of 3 are not replayed as a CUDA graph: reads a number .*{place}"):
        model.prepare(3, sampling)
    told = model.recorded(3, sampling)
    assert not told.replayed
    assert re.search(place, told.reason)
    for first, expected in zip((0, 3, 6), eager, strict=True):
        got = model.sample(measured_request(card, range(first, first + 3), 0, "cpu"), sampling)
        assert torch.equal(ids(got), ids(expected))
        assert got.outer_steps == expected.outer_steps
    model.close()


def test_few_recordings_are_kept_and_closing_frees_them() -> None:
    calls, x = TapeRecorder(), torch.zeros(1, dtype=torch.int64)
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


def test_cuda_is_asked_for_one_pool_and_one_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    """The path of CUDA itself, with a tape where CUDA would record."""
    made: list[tuple[Tape, Any, Any]] = []
    stream = SimpleNamespace(wait_stream=lambda other: None)
    handles = iter("ab")

    @contextmanager
    def graph(tape: Tape, *, pool: Any, stream: Any, capture_error_mode: str) -> Iterator[None]:
        made.append((tape, pool, stream))
        with torch.inference_mode(False), torch.no_grad(), tape:
            yield

    for name, stand_in in {
        "Stream": lambda device: stream,
        "current_stream": lambda device: stream,
        "stream": lambda which: nullcontext(),
        "device": lambda which: nullcontext(),
        "synchronize": lambda device: None,
        "graph_pool_handle": lambda: next(handles),
        "CUDAGraph": Tape,
        "graph": graph,
    }.items():
        monkeypatch.setattr(torch.cuda, name, stand_in)
    calls = Recorder(LoadSpec())
    calls.on = True
    for batch in (1, 2):
        calls.prepare(plus, batch, Sampling(), torch.zeros(batch, dtype=torch.int64))
        made[-1][0].result = calls._graphs[next(reversed(calls._graphs))].result
        x, noise = torch.arange(batch), noise_for(4, range(batch))
        got, expected = calls(plus, noise, Sampling(), NO_PROBE, x), plus(noise, Sampling(), NO_PROBE, x)
        assert torch.equal(ids(got), ids(expected))
    calls.close()
    assert all(tape.freed for tape, _, _ in made)
    calls.prepare(plus, 1, Sampling(), torch.zeros(1, dtype=torch.int64))
    assert [(pool, on) for _, pool, on in made] == [("a", stream), ("a", stream), ("b", stream)]
