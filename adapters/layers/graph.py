"""A whole call of a generator as one CUDA graph: recorded once for a batch size and sampling, then replayed.

A generator hands over its call as a function of tensors, `draw(noise, sampling, probe, *inputs)`. That it reads nothing
back to the host is what makes a recording of it repeat it; where it does read, calls stay as they were, and say why.
"""

from __future__ import annotations

import warnings
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Self

import torch
from torch import Tensor

from arbench.protocols import NO_PROBE, Codes, Generated, LoadSpec, Noise, Probe, Recorded, Sampling
from arbench.seeds import Philox
from arbench.spec.suite import check_graph

from .host_reads import watched

Draw = Callable[..., Generated]
"""`draw(noise, sampling, probe, *inputs)`; an input is a tensor on the device, or None. What it makes is its own: its
caches are allocated within, never kept from an earlier call, so that a recording owns all that it writes to."""

KEPT = 4
"""Recorded calls that are kept, the last used ones: each holds some hundred bytes for every kernel of the call."""

Inputs = tuple[Tensor | None, ...]
Key = tuple[Any, ...]
Setting = tuple[int, str]
"""Batch size, and the sampling as text."""


@dataclass(frozen=True)
class StaticCall:
    """A call whose inputs have places of their own: `take` fills these, `run` draws from what is there."""

    draw: Draw
    sampling: Sampling
    noise: Philox
    inputs: Inputs

    @classmethod
    def like(cls, draw: Draw, batch: int, sampling: Sampling, inputs: Inputs, device: torch.device) -> Self:
        """A call for `batch` samples on inputs such as these, which are copied."""
        own = tuple(None if each is None else each.to(device).clone() for each in inputs)
        return cls(draw, sampling, Philox([0] * batch, device), own)

    def take(self, noise: Philox, inputs: Inputs) -> None:
        self.noise.follow(noise)
        for own, given in zip(self.inputs, inputs, strict=True):
            if own is not None and given is not None:
                own.copy_(given, non_blocking=True)

    def run(self) -> Generated:
        self.noise.forget()
        return self.draw(self.noise, self.sampling, NO_PROBE, *self.inputs)


@dataclass(frozen=True)
class Graph:
    """A recorded call: replaying it computes `result` anew, from what is then in the places of the inputs."""

    call: StaticCall
    graph: torch.cuda.CUDAGraph
    result: Generated


class Recorder:
    """The recorded calls of one generator, in one pool of memory. On other devices than CUDA it records nothing."""

    def __init__(self, spec: LoadSpec) -> None:
        """Raises ConfigError if recordings are asked for on another device than CUDA."""
        self.device = torch.device(spec.device)
        check_graph(spec.graph, spec.device)
        self.on = spec.graph != "off" and self.device.type == "cuda"
        self.recording = False
        """Whether the call that runs now is one that is, or will be, recorded."""
        self._graphs: OrderedDict[Key, Graph] = OrderedDict()
        self._pool: Any = None
        self._stream: torch.cuda.Stream | None = None
        self._refused: dict[Key, str] = {}
        self._prepared: dict[Setting, Key] = {}

    def prepare(self, draw: Draw, batch: int, sampling: Sampling, *inputs: Tensor | None) -> None:
        """Record the call for `batch` samples, unless it is there; `inputs` are an example of what it will be given.

        It runs twice before it is recorded, once to see whether it reads back and once more to compile what is to be
        compiled.
        """
        if self.on:
            key = _key(draw, batch, sampling, inputs)
            self._prepared[_setting(batch, sampling)] = key
            self._ensure(key, draw, batch, sampling, inputs)

    @torch.inference_mode()
    def __call__(
        self, draw: Draw, noise: Noise, sampling: Sampling, probe: Probe, *inputs: Tensor | None, record: bool = False
    ) -> Generated:
        """What `draw` gives: replayed where it is recorded and no phases are asked for.

        With `record` a call that is met for the first time is recorded: for calls that nobody times.
        """
        # other noise than a run's, such as that of parity, has no keys to copy
        if not self.on or probe is not NO_PROBE or type(noise) is not Philox:
            return draw(noise, sampling, probe, *inputs)
        key = _key(draw, noise.batch, sampling, inputs)
        if record:
            self._ensure(key, draw, noise.batch, sampling, inputs)
        found = self._graphs.get(key)
        if found is None:
            return draw(noise, sampling, probe, *inputs)
        self._graphs.move_to_end(key)
        found.call.take(noise, inputs)
        found.graph.replay()
        return copied(found.result)

    def recorded(self, batch: int, sampling: Sampling) -> Recorded:
        """Whether calls of what was prepared are replayed, and what stopped it."""
        key = self._prepared.get(_setting(batch, sampling))
        return Recorded(key in self._graphs, "" if key is None else self._refused.get(key, ""))

    @torch.inference_mode()
    def reads_back(self, draw: Draw, batch: int, sampling: Sampling, *inputs: Tensor | None) -> str:
        """What keeps the call from being recorded, and where; "" if nothing does. Runs it once, on any device."""
        try:
            self.look(StaticCall.like(draw, batch, sampling, inputs, self.device))
        except _ReadsBack as error:
            return str(error)
        return ""

    def close(self) -> None:
        """Free the recordings and their memory; closing twice is fine."""
        while self._graphs:
            self._drop()
        self._prepared.clear()
        self._refused.clear()

    def run_as_recorded(self, call: StaticCall) -> Generated:
        """Runs what a recording of the call holds."""
        self.recording = True
        try:
            return call.run()
        finally:
            self.recording = False

    def _drop(self) -> None:
        """Free the recording that was used longest ago."""
        _, oldest = self._graphs.popitem(last=False)
        oldest.graph.reset()
        if not self._graphs:
            self._pool = None  # torch gives a pool back once the last graph in it is gone

    @torch.inference_mode()
    def _ensure(self, key: Key, draw: Draw, batch: int, sampling: Sampling, inputs: Inputs) -> None:
        if key in self._graphs or key in self._refused:
            return
        while len(self._graphs) >= KEPT:
            self._drop()
        try:
            call = StaticCall.like(draw, batch, sampling, inputs, self.device)
            self._warm_up(call)
            self._graphs[key] = Graph(call, *self._capture(call))
        except (_ReadsBack, RuntimeError) as error:  # RuntimeError: CUDA's, also for lack of memory
            why = str(error).strip().split("\n")[0] or type(error).__name__
            self._refused[key] = why
            warnings.warn(f"calls of {batch} are not replayed as a CUDA graph: {why}", RuntimeWarning, stacklevel=2)

    def look(self, call: StaticCall) -> None:
        """Run the call, uncompiled, and raise `_ReadsBack` if it reads back."""
        with watched() as reads, torch.compiler.set_stance("force_eager"):
            self.run_as_recorded(call)
        if reads.first:
            raise _ReadsBack(reads.first)

    def _warm_up(self, call: StaticCall) -> None:
        """What must be done before a recording, on another stream than the device's own."""
        current = torch.cuda.current_stream(self.device)
        if self._stream is None:
            self._stream = torch.cuda.Stream(self.device)
        self._stream.wait_stream(current)
        with torch.cuda.stream(self._stream):
            self.look(call)
            self.run_as_recorded(call)
        current.wait_stream(self._stream)
        torch.cuda.synchronize(self.device)

    def _capture(self, call: StaticCall) -> tuple[torch.cuda.CUDAGraph, Generated]:
        if self._pool is None:
            self._pool = torch.cuda.graph_pool_handle()
        graph = torch.cuda.CUDAGraph()
        with (
            torch.cuda.device(self.device),
            # the stream of the warm-up, so that the libraries' workspaces are there and not in the pool
            torch.cuda.graph(graph, pool=self._pool, stream=self._stream, capture_error_mode="thread_local"),
        ):
            result = self.run_as_recorded(call)
        call.noise.forget()  # what was drawn is memory of the recording, free for the next one
        return graph, result


class _ReadsBack(Exception):
    """The call would not repeat itself from a recording."""


def copied(result: Generated) -> Generated:
    """The same in memory of its own: a recording writes its next result over this one."""
    codes = result.codes
    if codes is not None:
        codes = Codes(tuple(ids.clone() for ids in codes.ids), _clone(codes.latents), _clone(codes.lengths), codes.grid)
    return replace(result, codes=codes, images=_clone(result.images))


def _clone(tensor: Tensor | None) -> Tensor | None:
    return None if tensor is None else tensor.clone()


def _setting(batch: int, sampling: Sampling) -> Setting:
    return batch, sampling.model_dump_json()


def _key(draw: Draw, batch: int, sampling: Sampling, inputs: Inputs) -> Key:
    forms = tuple(None if each is None else (tuple(each.shape), each.dtype) for each in inputs)
    return getattr(draw, "__func__", draw), *_setting(batch, sampling), forms
