"""Whole calls as CUDA graphs: the samples of eager calls, flat memory, and the reason where a call is not captured."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from on_gpu import MINIS, close, load
from torch import Tensor

from arbench import registry
from arbench.adapters.layers.generator import RecordedGenerator
from arbench.adapters.layers.graph import KEPT, Recorder
from arbench.measure.probe import EventStamps, PhaseProbe
from arbench.protocols import NO_PROBE, Codes, Generated, Generator, LoadSpec, Noise, Probe, Recorded, Sampling
from arbench.seeds import noise_for
from arbench.tasks.outputs import measured_request

pytestmark = [pytest.mark.gpu, pytest.mark.usefixtures("exact")]

FEW = {"steps": 8, "inner_steps": 8}
SLACK = 64 * 2**20
"""Bytes of a driver that count as no growth."""


def settings(model: Generator) -> list[Sampling]:
    """Native, and with filters and another temperature; few steps where they can be chosen."""
    supports = model.card.supports
    short = {name: few for name, few in FEW.items() if name in supports and model.card.family == "continuous"}
    native = model.card.native.model_copy(update=short)
    other = {"temperature": 0.9, "top_k": 50, "top_p": 0.95}
    return [native, native.model_copy(update={name: value for name, value in other.items() if name in supports})]


def drawn(model: Generator, first: int, count: int, seed: int, sampling: Sampling) -> list[Tensor]:
    codes = model.sample(measured_request(model.card, range(first, first + count), seed, "cuda"), sampling).codes
    assert codes is not None
    return [*codes.ids, *([] if codes.latents is None else [codes.latents])]


@pytest.mark.parametrize("name", MINIS)
def test_graph_and_eager_calls_draw_the_same(name: str) -> None:
    card = registry.card(name)
    eager, graph = load(card, device="cuda", graph="off"), load(card, device="cuda", graph="on")
    for batch in (1, 7, 64):
        for sampling in settings(eager):
            eager.prepare(batch, sampling)
            graph.prepare(batch, sampling)
            assert graph.recorded(batch, sampling) == Recorded(True)  # type: ignore[attr-defined]
            for seed, first in ((0, 0), (0, 3), (1, 0)):  # labels follow the sample's id
                wanted = drawn(eager, first, batch, seed, sampling)
                for got, expected in zip(drawn(graph, first, batch, seed, sampling), wanted, strict=True):
                    if got.is_floating_point():
                        torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4)
                    else:
                        assert torch.equal(got, expected)
    close(eager)
    close(graph)


@pytest.mark.parametrize("name", MINIS)
def test_a_replay_waits_for_nothing_and_writes_over_no_earlier_result(name: str) -> None:
    model = load(registry.card(name), device="cuda")
    sampling = settings(model)[0]
    model.prepare(2, sampling)
    first = drawn(model, 0, 2, 0, sampling)
    kept = [each.clone() for each in first]
    request = measured_request(model.card, range(2, 4), 0, "cuda")
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        model.sample(request, sampling)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert all(torch.equal(one, other) for one, other in zip(first, kept, strict=True))
    close(model)


@pytest.mark.parametrize("name", ["next_scale/var-mini", "random_order/randar-mini", "continuous/mar-mini"])
def test_edits_are_replayed_for_other_masks_of_as_many_tokens(name: str) -> None:
    card = registry.card(name)
    eager, graph = load(card, device="cuda", graph="off"), load(card, device="cuda", graph="on")
    sampling = settings(eager)[0]
    request = measured_request(card, range(3), 8, "cuda")
    codes = eager.sample(request, sampling).codes
    assert codes is not None
    side = math.isqrt(codes.ids[-1].shape[1]) if codes.latents is None or codes.ids else codes.latents.shape[-1]
    mask = torch.arange(side * side, device="cuda").reshape(side, side) % 3 == 0
    for where in (mask, mask.flip(0)):
        got, wanted = (each.edit(request, codes, where, sampling).codes for each in (graph, eager))  # type: ignore[attr-defined]
        if card.family == "continuous":
            torch.testing.assert_close(got.latents, wanted.latents, rtol=1e-4, atol=1e-4)
        else:
            assert all(torch.equal(one, other) for one, other in zip(got.ids, wanted.ids, strict=True))
    assert len(graph.calls._graphs) == 1  # type: ignore[attr-defined]
    close(eager)
    close(graph)


def test_memory_is_flat_over_replays_and_settings() -> None:
    model = load(registry.card("next_scale/var-mini"), device="cuda")
    sampling = settings(model)[0]
    model.prepare(8, sampling)
    drawn(model, 0, 8, 0, sampling)
    torch.cuda.synchronize()
    allocated, reserved = torch.cuda.memory_allocated(), torch.cuda.memory_reserved()
    for seed in range(200):
        drawn(model, 0, 8, seed, sampling)
    torch.cuda.synchronize()
    assert torch.cuda.memory_allocated() == allocated
    assert torch.cuda.memory_reserved() == reserved
    free = []
    for index in range(10):
        other = sampling.model_copy(update={"temperature": 1 + index / 10})
        model.prepare(8, other)
        drawn(model, 0, 8, 0, other)
        torch.cuda.synchronize()
        free.append(torch.cuda.mem_get_info()[0])
    assert free[KEPT] - free[-1] < SLACK
    close(model)


def test_closing_frees_the_recordings() -> None:
    torch.cuda.empty_cache()
    before = torch.cuda.memory_allocated()
    model = load(registry.card("raster/llamagen-mini"), device="cuda")
    for batch in (1, 64):
        model.prepare(batch, model.card.native)
    close(model)
    del model
    torch.cuda.empty_cache()
    assert torch.cuda.memory_allocated() - before < 2**20 + SLACK // 2  # workspaces of the libraries stay


def test_phases_are_of_an_eager_call_with_the_same_samples() -> None:
    model = load(registry.card("raster/llamagen-mini"), device="cuda")
    sampling = model.card.native
    model.prepare(2, sampling)
    probe = PhaseProbe(EventStamps("cuda"))
    request = measured_request(model.card, range(2), 0, "cuda")
    probe.start()
    probed = model.sample(request, sampling, probe=probe).codes
    assert probe.finish().entries()["ar"] == 63
    assert probed is not None
    assert torch.equal(probed.ids[0], drawn(model, 0, 2, 0, sampling)[0])
    close(model)


def plain(noise: Noise, sampling: Sampling, probe: Probe, labels: Tensor) -> Generated:
    return Generated(codes=Codes(ids=(labels[:, None] + noise.uniform("a", 3).mul(100).long(),)))


def reads_back(noise: Noise, sampling: Sampling, probe: Probe, labels: Tensor) -> Generated:
    return plain(noise, sampling, probe, labels) if labels.sum().item() >= 0 else Generated()


def from_the_host(noise: Noise, sampling: Sampling, probe: Probe, labels: Tensor) -> Generated:
    return plain(noise, sampling, probe, labels + torch.tensor([0, 0], device="cuda"))


@pytest.mark.parametrize(
    ("draw", "why"), [(reads_back, "reads a number off a tensor"), (from_the_host, "of numbers of the host")]
)
def test_what_cannot_be_recorded_works_eagerly_and_says_why(draw: Any, why: str) -> None:
    calls, sampling = Recorder(LoadSpec(device="cuda")), Sampling()
    labels, noise = torch.tensor([1, 2], device="cuda"), noise_for(0, [0, 1], "cuda")
    with pytest.warns(RuntimeWarning, match=why):
        calls.prepare(draw, 2, sampling, labels)
    told = calls.recorded(2, sampling)
    assert not told.replayed
    assert why in told.reason
    got, expected = calls(draw, noise, sampling, NO_PROBE, labels), plain(noise, sampling, NO_PROBE, labels)
    assert got.codes is not None
    assert expected.codes is not None
    assert torch.equal(got.codes.ids[0], expected.codes.ids[0])
    calls.prepare(plain, 2, sampling, labels)  # a recording after one that failed
    assert calls.recorded(2, sampling).replayed
    again = calls(plain, noise, sampling, NO_PROBE, labels).codes
    assert again is not None
    assert torch.equal(again.ids[0], expected.codes.ids[0])
    calls.close()


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
        drawn = torch.nn.functional.pad(torch.cat(ids, dim=1), (0, 8 - steps))
        return Generated(codes=Codes(ids=(drawn + labels[:, None],)), outer_steps=steps, forwards=steps)


def test_an_adapter_of_ones_own_that_reads_back_samples_and_says_what_stopped_it() -> None:
    card = registry.card("raster/llamagen-mini")  # of which it has the classes
    model, sampling = StopsEarly(card, None, None, LoadSpec(device="cuda")), Sampling()
    plainly = StopsEarly(card, None, None, LoadSpec(device="cuda", graph="off"))
    with pytest.warns(RuntimeWarning, match=r"not replayed as a CUDA graph: reads a number .*\(draw\)"):
        model.prepare(3, sampling)
    assert not model.recorded(3, sampling).replayed
    assert "test_graph_gpu.py" in model.recorded(3, sampling).reason
    for first in (0, 3, 6):
        assert torch.equal(drawn(model, first, 3, 0, sampling)[0], drawn(plainly, first, 3, 0, sampling)[0])
    model.close()
