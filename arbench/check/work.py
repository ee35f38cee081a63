"""How much work a call of a generator is: the numbers that go into the layers of its networks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from torch import Tensor, nn

from ..protocols import Phase, Probe


def work_of(networks: Sequence[nn.Module], call: Callable[[Probe], object]) -> int:
    """Numbers that go into layers of `networks` while `call` samples with the probe it is given, decoding left out.

    0 for a network without such layers.
    """
    counted = decoding = 0

    @contextmanager
    def phases(phase: Phase, *, index: int = 0, tokens: int = 0) -> Iterator[None]:
        nonlocal decoding
        decoding += phase == "decode"
        yield
        decoding -= phase == "decode"

    def count(layer: nn.Module, given: tuple[object, ...]) -> None:
        nonlocal counted
        if not decoding:
            counted += sum(one.numel() for one in given[:1] if isinstance(one, Tensor))

    layers = [layer for network in networks for layer in network.modules() if layer._parameters]
    hooks = [layer.register_forward_pre_hook(count) for layer in layers]
    try:
        call(phases)
    finally:
        for hook in hooks:
            hook.remove()
    return counted
