"""Results: a metric is a value with its n, interval, convention and flags, or null with a reason."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple, Self

from pydantic import Field, model_validator

from .base import FileName, Kept
from .sampling import Sampling

SCHEMA_VERSION = 2

Outcome = Literal["ok", "oom", "error", "unsupported", "timeout", "interrupted"]
Direction = Literal["higher", "lower"]
Measure = Literal["quality", "speed", "memory"]
At = str | int | float

OWN = "arbench"
"""The convention of numbers that this harness defines itself: latencies, code use, its own choices."""


class Interval(Kept):
    """An interval. `method` names how it was computed, `level` its coverage, `covers` what it holds so often: the true
    value that the number estimates, or the number of another run of the same kind."""

    low: float
    high: float
    level: float = 0.95
    method: str
    covers: Literal["value", "another run"] = "value"


class ReferenceSet(Kept):
    """What samples were compared with: as it was named, and the digest of its content ("" where unknown)."""

    name: str
    digest: str = ""


class MetricKey(NamedTuple):
    """What a number is. Two numbers of one key may stand in one column; prose is not part of it."""

    name: str
    convention: str
    reference: str
    """Digest of what it was compared with, its name where no digest is known, "" for numbers without a reference."""
    at: tuple[tuple[str, At], ...]

    @property
    def place(self) -> str:
        """`at` in words: "batch 16, decode"; "" where it is empty."""
        return ", ".join(value if isinstance(value, str) else f"{name} {value:g}" for name, value in self.at)


class Metric(Kept):
    """One number and all that is needed to read it. `value` None always comes with a `reason`.

    `name`, `convention`, `reference` and `at` say what it is (`key`). A name means one thing, and carries no
    parameter: the batch size, operation, level or class that a number was measured at is in `at`.
    `measure` says whether it must repeat exactly on a re-run ("quality") or is a timing or memory reading.
    """

    name: str
    value: float | None
    unit: str = ""
    n: int = Field(ge=0)
    """Samples (images, calls) behind the value."""
    interval: Interval | None = None
    direction: Direction | None = None
    convention: str = OWN
    """Id of the convention: "adm", "torch-fidelity", "offline", ...; see `arbench ls conventions`."""
    reference: ReferenceSet | None = None
    at: dict[str, At] = Field(default_factory=dict)
    """What it was measured at, for instance {"batch": 16, "operation": "decode"}."""
    how: str = ""
    """How it was computed, for people: features and weights, estimator, settings. Part of no key."""
    extras: dict[str, float] = Field(default_factory=dict)
    """What belongs to it: the spread that a tool prints beside it, the exact value beside a tool's rounded one."""
    measure: Measure = "quality"
    flags: tuple[str, ...] = ()
    reason: str = ""

    @model_validator(mode="after")
    def _null_has_reason(self) -> Self:
        if self.value is None and not self.reason:
            raise ValueError(f"metric {self.name}: a null value needs a reason")
        return self

    @property
    def key(self) -> MetricKey:
        reference = (self.reference.digest or self.reference.name) if self.reference else ""
        return MetricKey(self.name, self.convention, reference, tuple(sorted(self.at.items())))


class SetSummary(Kept):
    """One of the two sets of images behind a distance, or the only one."""

    source: str
    n: int
    skipped: dict[str, int] = Field(default_factory=dict)
    """Images left out, by reason."""
    converted: dict[str, int] = Field(default_factory=dict)
    """Images that were not 8-bit RGB, by what was done."""
    examples: tuple[str, ...] = ()
    """The first bad ones."""
    sizes: dict[str, int] = Field(default_factory=dict)
    """"256x256" (height x width) -> images."""
    classes: int | None = None
    labels_sorted: bool | None = None
    digest: str = ""
    statistics: str = ""
    """Format of the file of statistics, if that is what the reference is."""


class Remark(Kept):
    """Something about the two sets that changes what the numbers mean."""

    code: str
    text: str


class PhaseTime(Kept):
    """Median time of one phase of a call. `share` is its part of the call's end-to-end time."""

    phase: str
    seconds: float
    share: float
    calls: int
    """How often the phase is entered per call."""


class SpeedRecord(Kept):
    """Phases of one measured configuration, for the stacked bars."""

    batch: int
    seconds: float
    """Median latency of a call in seconds."""
    phases: tuple[PhaseTime, ...]
    operation: str = "sample"


class Provenance(Kept):
    """Where a result comes from: software, machine, weights and data."""

    arbench: str
    git: str = ""
    python: str
    packages: dict[str, str] = Field(default_factory=dict)
    platform: str
    device: str
    executor: Literal["local", "ray"] = "local"
    """What ran the worker that computed the numbers."""
    threads: int | None = None
    """CPU threads that computed the numbers."""
    sampling_threads: int | None = None
    """CPU threads that made the samples, the same for any number of workers; None where nothing was sampled for the
    numbers, where the time or memory of a call was measured, and in results of earlier versions."""
    weights: dict[str, str] = Field(default_factory=dict)
    """Adapter name -> sha256 of the weight file, with "#PART" where a part of it was loaded."""
    data: dict[str, str] = Field(default_factory=dict)
    """Data source -> digest of its content."""
    environment: dict[str, str] = Field(default_factory=dict)


Artifact = Literal["pictures", "sheet", "worst", "worst-lpips", "latency"]
"""What a small file beside a result is: pictures for the report (see `arbench.gallery`), the same as one image, those
that came out worst by PSNR or LPIPS, raw timings."""


class Result(Kept):
    """The outcome of one cell, written once as `cells/<result_id>/result.json`."""

    schema_version: int = SCHEMA_VERSION
    result_id: FileName
    settings_id: str
    adapter: str
    family: str
    kind: Literal["generator", "tokenizer", "images"]
    """"images": a set of images of unknown origin, from `arbench score`."""
    task: str
    parameters: dict[str, Any]
    """The resolved parameters of the task."""
    sampling: Sampling | None = None
    load: dict[str, Any] = Field(default_factory=dict)
    outcome: Outcome
    reason: str = ""
    metrics: tuple[Metric, ...] = ()
    speed: tuple[SpeedRecord, ...] = ()
    samples: SetSummary | None = None
    reference: SetSummary | None = None
    remarks: tuple[Remark, ...] = ()
    """What is odd about samples and reference together."""
    deviation: dict[str, float] = Field(default_factory=dict)
    """Feature recipe -> largest relative deviation of fast from parity mode, on a probe batch."""
    timings: dict[str, float] = Field(default_factory=dict)
    """Seconds by stage."""
    artifacts: dict[str, FileName] = Field(default_factory=dict)
    """What it is (`Artifact`) -> file beside result.json."""
    provenance: Provenance | None = None
    started: str = ""
    """ISO 8601, UTC."""
    wall_seconds: float = 0.0
