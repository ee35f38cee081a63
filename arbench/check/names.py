"""The names of the checks, in their order, and which of them `--only` runs. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

from ..errors import UnknownName

LOADING = ("load", "same weights", "parameters")
GENERATOR = (
    "protocol", "sample", "codes", "images", "same seeds", "batch", "other seeds", "condition", "prepare",
    "recording", "native settings", "unsupported knobs", "supported knobs", "guidance", "guidance off", "probe",
    "scores", "edit", "rare draws", "memory", "close", "inputs", "global state",
)  # fmt: skip
TOKENIZER = (
    "protocol", "encode", "decode", "ids alone", "all codes", "same images", "batch", "seeds", "prefix", "probe",
    "memory", "close", "inputs", "global state",
)  # fmt: skip
OWN = {"generator": GENERATOR, "tokenizer": TOKENIZER}
NEEDED = {"generator": ("sample",), "tokenizer": ("encode", "decode")}
"""What makes the samples that the other checks look at."""
ALONE = frozenset({*LOADING, "protocol", "native settings", "close", "inputs", "global state"})
"""They need no sample."""


def parse(values: Iterable[str]) -> tuple[str, ...]:
    """Names of checks, one by one or with commas. Raises `UnknownName`."""
    known = list(dict.fromkeys((*LOADING, *GENERATOR, *TOKENIZER)))
    found = [name.strip() for value in values for name in value.split(",") if name.strip()]
    for name in found:
        if name not in known:
            raise UnknownName("check", name, known, f"--only {', '.join(known)}")
    return tuple(found)


def chosen(kind: Literal["generator", "tokenizer"], only: Sequence[str]) -> tuple[str, ...]:
    """The checks to run: all, or loading and those of `only` with what they need."""
    names = (*LOADING, *OWN[kind])
    if not only:
        return names
    wanted = {"load", *only}
    if wanted - ALONE:
        wanted |= set(NEEDED[kind])
    return tuple(name for name in names if name in wanted)
