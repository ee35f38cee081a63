"""Speed: latency of whole calls at each batch size, and, in a second pass, where the time goes."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from ...spec.task import Batches, Effort, MetricInfo, Pick, Rates, TaskDefinition, TaskSpec, distinct
from ...spec.unit import one_per_batch


class Speed(TaskSpec):
    """Latency of a whole call at each batch size, and its phases. Warm-up ends once three calls agree."""

    task: Literal["speed"] = "speed"
    """Name of the task."""
    batches: Batches = (1, 16)
    """Numbers of images in a call, each measured for itself."""
    processes: int = Field(default=1, ge=1, le=1000)
    """Fresh processes that measure each batch size. From three on the interval is over processes, as a number that is
    compared or gated should have it; otherwise it is over calls."""
    arrivals: Annotated[tuple[Annotated[float, Field(gt=0)], ...], AfterValidator(distinct)] = ()
    """Requests per second to a server that batches them, for generators: response times are simulated from the calls
    that were measured."""
    bound: float | None = Field(default=None, gt=0)
    """Seconds that 95 % of the responses of that server may take: the highest rate that holds it is reported."""
    min_calls: int = Field(default=10, ge=3)
    """Calls that are timed at least, at each batch size."""
    min_seconds: float = Field(default=2.0, ge=0)
    """Calls are timed for this long at least, at each batch size; not given, for `max_seconds` if that is less."""
    interval: float | None = Field(default=0.05, gt=0)
    """Calls are timed until half the 95 % interval of their median is at most this part of it, or for five times
    `min_seconds`; null: whatever it is."""
    max_seconds: float = Field(default=60.0, gt=0)
    """No further call is timed after this long, however few there were."""

    @model_validator(mode="before")
    @classmethod
    def _no_longer_than_the_most(cls, given: Any) -> Any:
        most = given.get("max_seconds") if isinstance(given, dict) else None
        if "min_seconds" in (given or ()) or isinstance(most, bool) or not isinstance(most, int | float):
            return given
        return {**given, "min_seconds": min(most, cls.model_fields["min_seconds"].default)}

    @model_validator(mode="after")
    def _time_enough(self) -> Self:
        if self.min_seconds > self.max_seconds:
            raise ValueError(f"min_seconds: {self.min_seconds:g} is more than max_seconds, {self.max_seconds:g}")
        return self


def _effort(spec: Speed, rates: Rates) -> Effort:
    def seconds(batch: int) -> float:
        call = rates.image * batch
        return rates.warm_up_calls * call + min(max(spec.min_calls * call, spec.min_seconds), spec.max_seconds)

    return Effort(spec.processes * sum(map(seconds, spec.batches)), max(spec.batches))


TASK = TaskDefinition(
    name="speed",
    spec=Speed,
    work="arbench.tasks.speed.work:SpeedWork",
    version=3,
    kinds=frozenset({"generator", "tokenizer"}),
    group="Speed",
    metrics=(
        MetricInfo("latency", "s", "lower", "median time of a call; `draw` is without the decoder"),
        MetricInfo("images-per-second", "images/s", "higher", "batch over median latency"),
        MetricInfo("limit-share", "fraction", "higher", "speed-of-light time over median latency"),
        MetricInfo("latency-p90", "s", "lower", "90th percentile; null below 29 calls", column=False),
        MetricInfo("latency-p95", "s", "lower", "95th percentile; null below 59 calls", column=False),
        MetricInfo("latency-p99", "s", "lower", "99th percentile; null below 299 calls", column=False),
        MetricInfo("latency-device", "s", "lower", "median time of a call by the GPU's own clock", column=False),
        MetricInfo("best-throughput", "images/s", "higher", "highest of the batch sizes", column=False),
        MetricInfo("saturated-batch", "", None, "smallest batch that comes within 5 % of it", column=False),
        MetricInfo("response-p50", "s", "lower", "median response of a batching server, by arrival rate", column=False),
        MetricInfo("response-p95", "s", "lower", "95th percentile of its responses, by arrival rate", column=False),
        MetricInfo("rate-within-bound", "1/s", "higher", "most arrivals at which that holds a bound", column=False),
        MetricInfo("latency-spread", "fraction", "lower", "interquartile range over the median", column=False),
        MetricInfo("first-call", "s", "lower", "the first call of this batch size", column=False),
        MetricInfo("other-load", "cores", "lower", "cores that other processes used while it was timed", column=False),
        MetricInfo("stolen-time", "fraction", "lower", "processor time that the host took meanwhile", column=False),
        MetricInfo("probe-overhead", "fraction", "lower", "what the probe adds to the median latency", column=False),
        MetricInfo("phase-closure", "fraction", "higher", "share of a call inside any phase", column=False),
        MetricInfo("load", "s", "lower", "bringing up the adapter and its tokenizer", column=False),
        MetricInfo("prepare", "s", "lower", "one-off work for a batch size: caches, compilation", column=False),
        MetricInfo("steps", "", "lower", "autoregressive steps per call", column=False),
        MetricInfo("forwards", "", "lower", "backbone calls per call; a guided call counts as two", column=False),
        MetricInfo("tokens", "", None, "tokens drawn for one image, as the adapter marks them", column=False),
        MetricInfo("inner-steps", "", "lower", "of an inner loop (a diffusion head's) in an outer step", column=False),
        MetricInfo("flops", "FLOP", "lower", "matrix products, convolutions and attention of a call", column=False),
        MetricInfo("traffic", "B", "lower", "bytes a call must move: weights each pass, cache each step", column=False),
        MetricInfo("weight-passes", "", "lower", "times that a call reads the weights of a phase", column=False),
        MetricInfo("operations", "", "lower", "tensor operations of a call; views are none", column=False),
        MetricInfo("kernels", "", "lower", "launched on the GPU by a call; null on a CPU", column=False),
        MetricInfo("speed-of-light", "s", "lower", "least time for the FLOP and bytes on this device", column=False),
        MetricInfo("copy-bandwidth", "B/s", "higher", "of a copy on the device, read and written", column=False),
        MetricInfo("matrix-rate", "FLOP/s", "higher", "of a product of square matrices on the device", column=False),
    ),
    summary=(
        Pick("latency", "first", {"operation": "sample"}),
        Pick("images-per-second", "last", {"operation": "sample"}),
        Pick("images-per-second", "last", {"operation": "decode"}),
    ),
    units=lambda spec: one_per_batch(spec.batches, spec.processes),
    fresh_units=lambda spec: spec.processes > 1,
    effort=_effort,
    exclusive=True,
    transport=frozenset({"min_calls", "min_seconds", "max_seconds", "interval"}),
    in_key=frozenset({"batches", "arrivals", "bound"}),
)
