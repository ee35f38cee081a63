"""Results: a metric is a value with its n, interval, convention and flags, or null with a reason."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import Field, model_validator

from .base import Frozen
from .sampling import Sampling

SCHEMA_VERSION = 1

Outcome = Literal["ok", "oom", "error", "unsupported", "timeout", "interrupted"]
Direction = Literal["higher", "lower"]
Measure = Literal["quality", "speed", "memory"]


class Interval(Frozen):
    """A confidence interval. `method` names how it was computed, `level` its coverage."""

    low: float
    high: float
    level: float = 0.95
    method: str


class Metric(Frozen):
    """One number and all that is needed to read it. `value` None always comes with a `reason`.

    `measure` says whether it must repeat exactly on a re-run ("quality") or is a timing or memory reading.
    """

    name: str
    value: float | None
    unit: str = ""
    n: int = Field(ge=0)
    """Samples (images, calls) behind the value."""
    interval: Interval | None = None
    direction: Direction | None = None
    convention: str
    """How it was computed, short: extractor, variant, estimator."""
    measure: Measure = "quality"
    flags: tuple[str, ...] = ()
    reason: str = ""

    @model_validator(mode="after")
    def _null_has_reason(self) -> Self:
        if self.value is None and not self.reason:
            raise ValueError(f"metric {self.name}: a null value needs a reason")
        return self


class PhaseTime(Frozen):
    """Median time of one phase of a call. `share` is its part of the call's end-to-end time."""

    phase: str
    seconds: float
    share: float
    calls: int
    """How often the phase is entered per call."""


class SpeedRecord(Frozen):
    """Phases of one measured configuration, for the stacked bars."""

    batch: int
    seconds: float
    """Median latency of a call in seconds."""
    phases: tuple[PhaseTime, ...]
    operation: str = "sample"


class Provenance(Frozen):
    """Where a result comes from: software, machine, weights and data."""

    arbench: str
    git: str = ""
    python: str
    packages: dict[str, str] = Field(default_factory=dict)
    platform: str
    device: str
    threads: int | None = None
    weights: dict[str, str] = Field(default_factory=dict)
    """Adapter name -> sha256 of the weight file."""
    data: dict[str, str] = Field(default_factory=dict)
    """Data source -> digest of its content."""
    environment: dict[str, str] = Field(default_factory=dict)


class Result(Frozen):
    """The outcome of one cell, written once as `cells/<result_id>/result.json`."""

    schema_version: int = SCHEMA_VERSION
    result_id: str
    settings_id: str
    adapter: str
    family: str
    kind: Literal["generator", "tokenizer"]
    task: str
    parameters: dict[str, Any]
    """The resolved parameters of the task."""
    sampling: Sampling | None = None
    load: dict[str, Any] = Field(default_factory=dict)
    outcome: Outcome
    reason: str = ""
    metrics: tuple[Metric, ...] = ()
    speed: tuple[SpeedRecord, ...] = ()
    artifacts: dict[str, str] = Field(default_factory=dict)
    """Name -> file beside result.json."""
    provenance: Provenance | None = None
    started: str = ""
    """ISO 8601, UTC."""
    wall_seconds: float = 0.0
