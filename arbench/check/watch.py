"""What an adapter must leave as it was, the state of the process and what it is given, and which call did not."""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path

import numpy as np
import torch

from .given import Given
from .verdict import Broken


def snapshot() -> dict[str, object]:
    """What it is called -> its value now, comparable with ==."""
    numpy = np.random.get_state(legacy=False)
    words = numpy["state"]
    found: dict[str, object] = {
        "torch's random state": torch.get_rng_state().numpy().tobytes(),
        "numpy's random state": (words["key"].tobytes(), words["pos"], numpy["has_gauss"], numpy["gauss"]),
        "Python's random state": random.getstate(),
        "torch's default dtype": torch.get_default_dtype(),
        "torch's default device": torch.get_default_device(),
        "torch's grad mode": torch.is_grad_enabled(),
        "torch's inference mode": torch.is_inference_mode_enabled(),
        "torch's thread counts": (torch.get_num_threads(), torch.get_num_interop_threads()),
        "torch's deterministic algorithms": (
            torch.are_deterministic_algorithms_enabled(),
            torch.is_deterministic_algorithms_warn_only_enabled(),
        ),
        "torch's matmul precision": torch.get_float32_matmul_precision(),
        "cuDNN's flags": (
            torch.backends.cudnn.enabled,
            torch.backends.cudnn.benchmark,
            torch.backends.cudnn.deterministic,
        ),
        "torch's attention kernels": (
            torch.backends.cuda.flash_sdp_enabled(),  # type: ignore[no-untyped-call]
            torch.backends.cuda.mem_efficient_sdp_enabled(),  # type: ignore[no-untyped-call]
            torch.backends.cuda.math_sdp_enabled(),  # type: ignore[no-untyped-call]
        ),
        "torch's autocast": (torch.is_autocast_enabled("cpu"), torch.is_autocast_enabled("cuda")),
        "the working directory": Path.cwd(),
    }
    if torch.cuda.is_available() and torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        found["CUDA's random state"] = tuple(state.numpy().tobytes() for state in torch.cuda.get_rng_state_all())
    return found


RANDOM = frozenset({"torch's random state", "numpy's random state", "Python's random state", "CUDA's random state"})


class Watch:
    """`with watch("sample", request=request): ...` around every call of an adapter; `verdict()` tells what of the
    process the calls changed, `inputs()` what of their arguments.

    Loading may draw from global generators: constructors do, and the checkpoint's numbers take the place of theirs.
    `drew` says that it did, so that it can be seen whether the same comes of it every time.
    """

    def __init__(self) -> None:
        self._touched: dict[str, str] = {}
        self._overwritten: dict[str, str] = {}
        self.drew = False

    @contextmanager
    def __call__(self, call: str, **arguments: object) -> Iterator[None]:
        given, before = Given(arguments), snapshot()
        try:
            with redirect_stdout(sys.stderr):  # standard output is for the verdicts
                yield
        finally:
            after = snapshot()
            for what in given.changed():
                self._overwritten.setdefault(what, call)
            for what, value in before.items():
                if after[what] == value:
                    continue
                if call == "load" and what in RANDOM:
                    self.drew = True
                else:
                    self._touched.setdefault(what, call)

    def verdict(self) -> str:
        """A note if nothing was touched. Raises `Broken`."""
        if self._touched:
            raise Broken(", ".join(f"`{call}` changes {what}" for what, call in self._touched.items()))
        return "random states, dtype, grad mode, threads, flags and the working directory are as before"

    def inputs(self) -> str:
        """A note if every call left its arguments alone. Raises `Broken`."""
        if self._overwritten:
            told = ", ".join(f"`{call}` changes `{what}`" for what, call in self._overwritten.items())
            raise Broken(f"{told}, which the caller uses again: work on a copy")
        return "requests, codes, images and the card are the same after every call"
