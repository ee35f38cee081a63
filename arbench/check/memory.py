"""Whether an adapter keeps more with every call: a run makes thousands of them."""

from __future__ import annotations

import gc
from collections.abc import Callable
from itertools import pairwise

import torch

CALLS = 3


def bytes_left(call: Callable[[], object]) -> int:
    """Bytes of tensors that the last of a few like calls has left behind, if every one of them left some; else 0."""
    held = []
    for _ in range(CALLS):
        call()
        held.append(_held())
    grown = [after - before for before, after in pairwise(held)]
    return grown[-1] if min(grown) > 0 else 0


def _held() -> int:
    """Bytes of all tensors of this process, each storage once."""
    gc.collect()
    found: dict[int, int] = {}
    for each in gc.get_objects():
        if issubclass(type(each), torch.Tensor) and each.layout == torch.strided:  # isinstance would ask proxies
            storage = each.untyped_storage()
            found[storage._cdata] = storage.nbytes()
    return sum(found.values())
