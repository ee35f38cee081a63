"""Memory: what the weights take on disk and once loaded, and the peak of a call at each batch size. All in bytes."""

from __future__ import annotations

from typing import Literal

from ...spec.task import Effort, MetricInfo, Pick, TaskDefinition, TaskSpec
from ...spec.unit import one_per_batch


class Memory(TaskSpec):
    """Weights and peak memory of a call at each batch size."""

    task: Literal["memory"] = "memory"
    """Name of the task."""
    batches: tuple[int, ...] = (1, 16)
    """Numbers of images in a call, each measured for itself."""


TASK = TaskDefinition(
    name="memory",
    spec=Memory,
    work="arbench.tasks.memory.work:MemoryWork",
    version=3,
    kinds=frozenset({"generator", "tokenizer"}),
    group="Memory",
    metrics=(
        MetricInfo("peak-memory", "B", "lower", "peak over calls: resident set on CPU, max_memory_allocated on CUDA"),
        MetricInfo("weights-memory", "B", "lower", "what loading adds: resident set on CPU, allocated bytes on CUDA"),
        MetricInfo("weights-file", "B", "lower", "the weight files as stored", column=False),
        MetricInfo("baseline-memory", "B", "lower", "CPU: resident set before anything is loaded", column=False),
        MetricInfo("peak-memory-load", "B", "lower", "the most while loading", column=False),
        MetricInfo("call-memory", "B", "lower", "the peak less what was held before the calls", column=False),
        MetricInfo("memory-growth", "B", "lower", "what each further call leaves behind", column=False),
        MetricInfo("reserved-memory", "B", "lower", "CUDA: what the allocator holds, used or not", column=False),
        MetricInfo("process-memory", "B", "lower", "CUDA: the process by NVML, libraries included", column=False),
    ),
    summary=(Pick("peak-memory", "last"),),
    units=lambda spec: one_per_batch(spec.batches),
    effort=lambda spec, rates: Effort(sum(5 * rates.image * batch for batch in spec.batches), max(spec.batches)),
    exclusive=True,
    own_process=True,  # the resident set of a fork lacks the pages of libraries that only its parent has touched
    transport=frozenset(),
    in_key=frozenset({"batches"}),
)
