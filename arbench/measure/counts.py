"""What a call computes and what it must read, counted operation by operation: exact, and the same on any machine."""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from ..protocols import Phase, Probe

OUTSIDE = "outside"
"""Phase of what happens between marks."""

COMPOSITE = torch._C.DispatchKey.CompositeImplicitAutograd
_ATTENTION = "scaled_dot_product"
_GATHERS = frozenset({"embedding", "index", "index_select", "gather", "take", "take_along_dim"})
"""Operations that read only the rows they return."""
_NEW = frozenset({"lift_fresh", "empty_like", "new_empty", "zeros_like"})
"""Operations that read no values of their arguments and return a tensor of the call's own."""
_SILENT = _NEW | {"detach", "alias", "_local_scalar_dense"}
"""Operations that read no values of their arguments."""


@dataclass(slots=True)
class Span:
    """One entry of a phase, without the phases inside it.

    flops: of matrix products, convolutions and attention, a multiplication and an addition being two; other operations
    count none, nor do rows that a batch is filled up with. weights: bytes read of tensors that were there before the
    call and that it does not change. cache: bytes read of what an earlier phase entry has made, and read or written of
    tensors that live from call to call. operations: those that compute; views do not.
    """

    phase: str
    tokens: int = 0
    flops: int = 0
    weights: int = 0
    cache: int = 0
    operations: int = 0

    @property
    def traffic(self) -> int:
        """Bytes that must move."""
        return self.weights + self.cache


@dataclass(frozen=True)
class Counts:
    """The spans of one call in order of entry, and by phase how often its weights are read."""

    spans: tuple[Span, ...]
    passes: Mapping[str, int]

    def total(self, name: str, phase: str | None = None) -> int:
        """Sum of a field of the spans, of one phase or of all."""
        return sum(int(getattr(span, name)) for span in self.spans if phase in (None, span.phase))

    @property
    def phases(self) -> tuple[str, ...]:
        """In order of their first entry, those in which nothing was computed left out."""
        return tuple(dict.fromkeys(span.phase for span in self.spans if span.operations))

    @property
    def tokens(self) -> int:
        """Tokens of one sample, as the adapter marks them in `prefill` and `ar`."""
        return sum(span.tokens for span in self.spans if span.phase in ("prefill", "ar"))


def count(call: Callable[[Probe], object]) -> Counts:
    """Makes `call` once, giving it the probe that tells phases apart, and counts. Compiled parts run uncompiled."""
    counter = _Counter()
    with _uncompiled(), counter:
        call(counter.mark)
    return counter.counts()


def _uncompiled() -> AbstractContextManager[object]:
    """Compiled parts run as they were written, for a block. Where nothing is compiled, the compiler stays unloaded."""
    return torch.compiler.set_stance("force_eager") if "torch._dynamo" in sys.modules else nullcontext()


def extent(tensor: Tensor) -> int:
    """Bytes that a tensor's values take in memory: dimensions that repeat the same values count once."""
    distinct = 1
    for size, stride in zip(tensor.shape, tensor.stride(), strict=True):
        distinct *= size if stride else min(size, 1)
    return distinct * tensor.element_size()


@dataclass(slots=True)
class _Reads:
    """How often one weight was read in a phase, and its bytes."""

    times: int = 0
    size: int = 0


@dataclass(frozen=True, slots=True)
class _Kind:
    """What is to be known of an operation, found out once.

    composite: made of others, which are counted in its place. silent: moves no data. new: silent, and returns a tensor
    of the call's own. written: place and name of the arguments that it changes. gathers: reads only what it returns.
    fills: adds rows or columns of one value.
    """

    composite: bool
    silent: bool
    new: bool
    attention: bool
    formula: Callable[..., int] | None
    written: tuple[tuple[int, str], ...]
    gathers: bool
    fills: bool

    @classmethod
    def of(cls, func: Any) -> _Kind:
        name = func._schema.name.removeprefix("aten::")
        attention = name.startswith((_ATTENTION, f"_{_ATTENTION}"))
        formula = flop_registry.get(func._overloadpacket)
        return cls(
            composite=formula is None and not attention and func.has_kernel_for_dispatch_key(COMPOSITE),
            silent=func.is_view or name in _SILENT,
            new=name in _NEW,
            attention=attention,
            formula=formula,
            written=tuple(
                (place, argument.name)
                for place, argument in enumerate(func._schema.arguments)
                if argument.alias_info is not None and argument.alias_info.is_write
            ),
            gathers=name in _GATHERS,
            fills=name == "constant_pad_nd",
        )


def _argument(args: Sequence[Any], kwargs: Mapping[str, Any], place: int, name: str) -> Any:
    return args[place] if place < len(args) else kwargs.get(name)


def _tensors(given: Any) -> Iterator[Tensor]:
    """The tensors in an operation's arguments or results: themselves, or in sequences."""
    if isinstance(given, Tensor):
        yield given
    elif isinstance(given, Iterable) and not isinstance(given, str):
        for each in given:
            yield from _tensors(each)


@dataclass
class _Counter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Sees every operation below it. A tensor is known by its storage, which all of its views share."""

    spans: list[Span] = field(default_factory=lambda: [Span(OUTSIDE)])
    open: list[int] = field(default_factory=lambda: [0])
    made: dict[int, int] = field(default_factory=dict)
    """Storage -> the span in which its last values were made."""
    lasting: set[int] = field(default_factory=set)
    """Storages of before the call that it writes to: caches."""
    filled: dict[int, float] = field(default_factory=dict)
    """Storage of rows that were filled up with others -> the share of those that were there."""
    kinds: dict[Any, _Kind] = field(default_factory=dict)
    reads: dict[str, dict[tuple[int, int], _Reads]] = field(default_factory=lambda: defaultdict(dict))
    known: dict[int, StorageWeakRef] = field(default_factory=dict)
    """Of each storage that was seen, so that no later one gets its number; its memory is freed all the same."""

    def __post_init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]

    __hash__ = object.__hash__

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """False leaves the dispatch function bare: wrapped, its first call would load the compiler for a second."""
        return False

    def mark(self, phase: Phase, *, index: int = 0, tokens: int = 0) -> AbstractContextManager[None]:
        return self._entered(phase, tokens)

    @contextmanager
    def _entered(self, phase: str, tokens: int) -> Iterator[None]:
        self.open.append(len(self.spans))
        self.spans.append(Span(phase, tokens))
        try:
            yield
        finally:
            self.open.pop()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        kind = self.kinds.get(func) or self.kinds.setdefault(func, _Kind.of(func))
        if kind.composite:
            with self:
                whole = func.decompose(*args, **kwargs)
            if whole is not NotImplemented:
                return whole
        out = func(*args, **kwargs)
        now = self.open[-1]
        if kind.new:
            self.made[self._storage(out)] = now
        if kind.silent:
            return out
        span = self.spans[now]
        span.operations += 1
        if kind.attention:
            span.flops += attention_flops(*args[:3])
        elif kind.formula is not None:
            span.flops += round(kind.formula(*args, **kwargs, out_val=out) * self._there(args))
        results = list(_tensors(out))
        written = [each for place, name in kind.written for each in _tensors(_argument(args, kwargs, place, name))]
        changed = {id(each) for each in written}
        there = self._there(args)
        for tensor in results:
            self.filled.pop(self._storage(tensor), None)
            if there < 1:  # the result has rows for those that fill up
                self.filled[self._storage(tensor)] = there
        if kind.fills and args[1][-2:] != [0, 0] and not any(args[1][:-2]):
            self.filled[self._storage(out)] = args[0].shape[0] / out.shape[0]
        for tensor in (*_tensors(args), *_tensors(kwargs.values())):
            if id(tensor) not in changed:
                self._read(span, now, tensor, results if kind.gathers else None)
        for tensor in written:
            self._write(span, now, tensor)
        for tensor in results:
            if id(tensor) not in changed:
                self.made[self._storage(tensor)] = now
        return out

    def _there(self, args: Sequence[Any]) -> float:
        """Of the rows of the whole tensors among `args`, the share that were there before some were filled up."""
        if not self.filled:
            return 1.0
        whole = (each for each in _tensors(args) if extent(each) == each.untyped_storage().nbytes())
        return min((self.filled.get(self._storage(each), 1.0) for each in whole), default=1.0)

    def _storage(self, tensor: Tensor) -> int:
        reference = StorageWeakRef(tensor.untyped_storage())  # type: ignore[no-untyped-call]
        return int(self.known.setdefault(int(reference.cdata), reference).cdata)

    def _read(self, span: Span, now: int, tensor: Tensor, rows: list[Tensor] | None) -> None:
        storage = self._storage(tensor)
        size = extent(tensor)
        if rows is not None:
            size = min(size, sum(map(extent, rows)))
        if storage in self.lasting or self.made.get(storage, now) != now:
            span.cache += size
        elif storage not in self.made:
            span.weights += size
            if rows is None:
                seen = self.reads[span.phase].setdefault((storage, int(tensor.storage_offset())), _Reads())
                seen.times, seen.size = seen.times + 1, max(seen.size, size)

    def _write(self, span: Span, now: int, tensor: Tensor) -> None:
        storage = self._storage(tensor)
        if storage not in self.made:
            self.lasting.add(storage)
            span.cache += extent(tensor)
        else:
            self.made[storage] = now

    def counts(self) -> Counts:
        passes = {phase: _most_common(reads.values()) for phase, reads in self.reads.items()}
        return Counts(tuple(self.spans), passes)


def _most_common(reads: Any) -> int:
    """How often most bytes of the weights were read."""
    by_times: dict[int, int] = defaultdict(int)
    for each in reads:
        by_times[each.times] += each.size
    return max(by_times, key=lambda times: by_times[times], default=0)


def attention_flops(query: Tensor, key: Tensor, value: Tensor) -> int:
    """Of both products of softmax attention, (..., L, D) over (..., S, D) and (..., S, E): 2 L S (D + E) a query head.

    S is what the call is given: of a cache, the part that is used. A mask takes nothing off.
    """
    *outer, length, width = query.shape
    rows = 1
    for size in outer:
        rows *= int(size)
    return 2 * rows * int(length) * int(key.shape[-2]) * (int(width) + int(value.shape[-1]))
