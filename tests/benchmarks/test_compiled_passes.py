"""Compiled passes: whole ones, without a graph break, compiled once for all steps, and with the same tokens."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch._dynamo.utils import counters

from arbench.adapters.layers import checkpoint
from arbench.adapters.layers.checkpoint import compile_passes
from arbench.adapters.layers.diffusion_head import DiffusionHead, reverse_steps, sample_tokens, spaced
from arbench.protocols import LoadSpec
from arbench.registry import resolve
from arbench.seeds import Philox, noise_for

FOLDER = Path(__file__).parents[2] / "benchmarks"
COMPILED = LoadSpec(init="random", compile=True)


@pytest.fixture
def traced(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What the compiler makes graphs of runs as plain operations, which takes no time to compile."""
    monkeypatch.setattr(checkpoint, "BACKEND", "eager")
    torch.compiler.reset()
    counters.clear()
    yield
    torch.compiler.reset()


@pytest.mark.usefixtures("traced")
@pytest.mark.parametrize(("name", "graphs"), [("LlamaGen", 3), ("RandAR", 5)])
def test_a_pass_is_one_graph_for_all_steps(name: str, graphs: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """`graphs`: of the pass, one of the first step and one for all others, and of the head; twice if guidance ends."""
    monkeypatch.syspath_prepend(FOLDER)
    monkeypatch.delitem(sys.modules, "plain_loops", raising=False)
    import plain_loops

    system = plain_loops.build(name, "tiny")
    card, _, sampling = plain_loops.card_of(name, "tiny")
    model = resolve(card.implementation).load(card, COMPILED, None)
    model.network.load_state_dict(system.model.network.state_dict())
    request = system.request(3, noise_for(3, range(3)))
    ids = model.sample(request, sampling).codes.ids[0]
    assert torch.equal(ids, system.model.sample(request, sampling).codes.ids[0])
    assert len(ids.unique()) > 3
    assert not counters["graph_break"]
    assert counters["stats"]["unique_graphs"] <= graphs


@pytest.mark.usefixtures("traced")
def test_a_step_of_diffusion_is_one_graph_for_all_steps() -> None:
    """Of the first of eight steps, of the last without noise, and of all between: their coefficients are inputs."""
    torch.manual_seed(0)
    head = DiffusionHead(3, 5, 16, 1).requires_grad_(False)
    steps, states = reverse_steps(spaced(8)), torch.randn(4, 2, 16)
    plain = sample_tokens(head, steps, states, Philox(range(2)), "x", weight=2.5)
    compile_passes(COMPILED, head.reverse, dynamic=True)
    assert torch.equal(sample_tokens(head, steps, states, Philox(range(2)), "x", weight=2.5), plain)
    assert not counters["graph_break"]
    assert counters["stats"]["unique_graphs"] <= 3
