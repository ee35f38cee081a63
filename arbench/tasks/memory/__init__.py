"""Memory: what the weights take on disk and once loaded, and the peak of a call at each batch size. All in bytes."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from ...spec.task import Batches, Effort, MetricInfo, Pick, TaskDefinition, TaskSpec
from ...spec.unit import Unit, one_per_batch


class Memory(TaskSpec):
    """Weights and peak memory of a call at each batch size."""

    task: Literal["memory"] = "memory"
    """Name of the task."""
    batches: Batches = (1, 16)
    """Numbers of images in a call, each measured for itself."""
    largest: int | None = Field(default=None, ge=1)
    """Search for the largest batch that fits, up to this one, each tried in a process of its own; null: no search."""
    limit: float | None = Field(default=None, gt=0)
    """Gigabytes that a process of this search may take; null: on a CPU 80 % of the free memory, on a GPU all of its."""

    @model_validator(mode="after")
    def _limit_of_a_search(self) -> Self:
        if self.limit is not None and self.largest is None:
            raise ValueError(
                "limit: it holds for the search that `largest` asks for: give that too, as in `largest: 64`"
            )
        return self


def _units(spec: Memory) -> tuple[Unit, ...]:
    """One for each batch size; the search is that of batch 0."""
    search = () if spec.largest is None else (Unit(index=len(spec.batches), start=0, stop=spec.largest),)
    return (*one_per_batch(spec.batches), *search)


TASK = TaskDefinition(
    name="memory",
    spec=Memory,
    work="arbench.tasks.memory.work:MemoryWork",
    version=4,
    kinds=frozenset({"generator", "tokenizer"}),
    group="Memory",
    metrics=(
        MetricInfo("peak-memory", "B", "lower", "peak over calls: resident set on CPU, max_memory_allocated on CUDA"),
        MetricInfo("weights-memory", "B", "lower", "what loading adds: resident set on CPU, allocated bytes on CUDA"),
        MetricInfo("weights-file", "B", "lower", "the weight files as stored", column=False),
        MetricInfo("baseline-memory", "B", "lower", "CPU: resident set before anything is loaded", column=False),
        MetricInfo("peak-memory-load", "B", "lower", "the most while loading", column=False),
        MetricInfo(
            "call-memory", "B", "lower", "the peak less what was held before, file pages left out", column=False
        ),
        MetricInfo("largest-batch", "", "higher", "the largest batch that fits, to 5 %", column=False),
        MetricInfo("memory-growth", "B", "lower", "what each further call leaves behind", column=False),
        MetricInfo("reserved-memory", "B", "lower", "CUDA: what the allocator holds, used or not", column=False),
        MetricInfo("process-memory", "B", "lower", "CUDA: the process by NVML, libraries included", column=False),
    ),
    summary=(Pick("peak-memory", "last"),),
    units=_units,
    effort=lambda spec, rates: Effort(sum(5 * rates.image * batch for batch in spec.batches), max(spec.batches)),
    exclusive=True,
    own_process=True,  # the resident set of a fork lacks the pages of libraries that only its parent has touched
    transport=frozenset(),
    in_key=frozenset({"batches"}),
)
