"""What `arbench score` writes: every number with its convention, settings, error bar and flags. Imports no torch."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from ..spec.base import Frozen
from ..spec.result import Metric, Provenance

SCHEMA_VERSION = 1


class SetSummary(Frozen):
    """One of the two sets of images."""

    source: str
    n: int
    skipped: dict[str, int] = Field(default_factory=dict)
    """Images left out, by reason."""
    converted: dict[str, int] = Field(default_factory=dict)
    """Images that were no 8-bit RGB, by what was done."""
    examples: tuple[str, ...] = ()
    """The first bad ones."""
    sizes: dict[str, int] = Field(default_factory=dict)
    """"256x256" -> images."""
    classes: int | None = None
    labels_sorted: bool | None = None
    digest: str = ""
    statistics: str = ""
    """Format of the file of statistics, if that is what the reference is."""


class Score(Frozen):
    """One number of one convention. `extras` belong to it: what the reference tool prints beside it."""

    convention: str
    metric: Metric
    extras: dict[str, float | None] = Field(default_factory=dict)
    what: str = ""


class Remark(Frozen):
    """Something about the two sets that changes what the numbers mean."""

    code: str
    text: str


class ScoreResult(Frozen):
    """The whole of `score.json`."""

    schema_version: int = SCHEMA_VERSION
    samples: SetSummary
    reference: SetSummary | None = None
    settings: dict[str, Any]
    scores: tuple[Score, ...]
    remarks: tuple[Remark, ...] = ()
    deviation: dict[str, float] = Field(default_factory=dict)
    """Recipe -> largest relative deviation of fast from parity mode, on a probe batch."""
    timings: dict[str, float] = Field(default_factory=dict)
    """Seconds by stage."""
    provenance: Provenance | None = None
    started: str = ""
