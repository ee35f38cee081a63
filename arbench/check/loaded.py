"""What loading made: how many parameters, and whether loading again makes the same."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

from .returned import networks_of
from .verdict import Broken, NotApplicable

SHOWN = 3


def parameters(model: object, tokenizer: object, stated: int | None) -> str:
    """Compares the card's number with the model's own. Raises `Broken`, `NotApplicable`."""
    found = {id(p): p.numel() for network in networks_of(model, outside=tokenizer) for p in network.parameters()}
    for network in networks_of(tokenizer):
        for parameter in network.parameters():
            found.pop(id(parameter), None)
    count = sum(found.values())
    if not count:
        raise NotApplicable("it holds no torch modules with parameters")
    if stated is None:
        raise NotApplicable(f"the card does not say; the model has {count:,}")
    if stated != count:
        raise Broken(f"`parameters` of the card says {stated:,}, the loaded model has {count:,}")
    return f"{count:,}, as the card says"


def fingerprint(model: object, tokenizer: object) -> dict[str, str]:
    """Name -> digest of each tensor that the networks of a model hold."""
    found = {}
    for place, network in enumerate(networks_of(model, outside=tokenizer)):
        for name, tensor in (*network.named_parameters(), *network.named_buffers()):
            data = tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes()
            found[f"{name}" if not place else f"{place}.{name}"] = hashlib.blake2b(data, digest_size=16).hexdigest()
    return found


def check_same(before: dict[str, str], after: dict[str, str]) -> str:
    """Raises `Broken` if two loads of one file gave other tensors."""
    changed = [name for name in before if after.get(name) != before[name]]
    if changed:
        more = f" and {len(changed) - SHOWN} more" if len(changed) > SHOWN else ""
        raise Broken(
            f"{', '.join(changed[:SHOWN])}{more} differ when it is loaded again: drawn from a global generator, and not"
            " in the checkpoint; seed what is drawn"
        )
    return "loading draws from a global generator, and the same weights come of it"


@contextmanager
def other_random_state() -> Iterator[None]:
    """Within it, global generators stand elsewhere; their states are put back afterwards."""
    numpy, python = np.random.get_state(), random.getstate()
    with torch.random.fork_rng():
        torch.manual_seed(torch.initial_seed() + 1)
        np.random.seed(1)
        random.seed(1)
        try:
            yield
        finally:
            np.random.set_state(numpy)
            random.setstate(python)
