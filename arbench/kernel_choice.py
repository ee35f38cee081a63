"""Whether a device uses a kernel, which must agree with the plain path on a probe, or that path, and why."""

from __future__ import annotations

import warnings
from collections.abc import Callable

_CHOICES: dict[tuple[str, str], str] = {}
"""What is computed and for what -> "", or why its kernel is not used."""


def agreed(what: str, setting: str, probe: Callable[[], str], *, now: bool = True) -> bool:
    """Whether the kernel of `what` is used for this setting (device, type, shapes), as its probe found the first time.

    `probe` runs kernel and plain path on the same input and says how they differ, "" if they do not. It is run once in
    a process; if it says something or raises, the plain path is used, and a warning says why. Where none can be run
    `now`, the plain path is used until one was.
    """
    key = what, setting
    if key not in _CHOICES:
        if not now:
            return False
        try:
            _CHOICES[key] = probe()
        except Exception as error:  # whatever a compiler, a driver or a missing package may raise
            said = str(error).strip().split("\n")[0]
            _CHOICES[key] = f"{type(error).__name__}: {said}" if said else type(error).__name__
        if _CHOICES[key]:
            text = f"{what} uses its plain path ({setting}): {_CHOICES[key]}"
            warnings.warn(text, RuntimeWarning, stacklevel=2)
    return not _CHOICES[key]


def choices() -> dict[str, str]:
    """Every choice of this process, for the provenance of a result: "arbench.WHAT (SETTING)" -> which way, and why."""
    return {
        f"arbench.{what} ({setting})": f"plain path: {why}" if why else "Triton kernel"
        for (what, setting), why in _CHOICES.items()
    }
