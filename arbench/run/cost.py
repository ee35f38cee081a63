"""What a cell will take, by a simple model that is good to a factor of a few: time, memory and disk.

Time: a network does 2 FLOP per parameter and token position, a guided sample twice that, a parallel decoder once per
step; a convolutional tokenizer works at 1/8 of the resolution on average. A CPU core is taken to give 10 GFLOP/s, a
GPU 20 TFLOP/s. Metrics cost one small feature network per image. A network of unknown size counts as 50 M parameters.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..spec.card import Card
from ..spec.sampling import Sampling
from ..spec.suite import Edit, Generate, Likelihood, Memory, Reconstruct, Settings, Speed, TaskSpec

CPU_CORE_FLOPS = 10e9
GPU_FLOPS = 20e12
UNKNOWN_PARAMETERS = 50_000_000
START_SECONDS = 8.0
"""A worker process comes up and loads weights."""
FEATURE_SECONDS = {"cpu": 0.03, "cuda": 0.001}
WARM_UP_CALLS = 5
BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}


@dataclass(frozen=True)
class Cost:
    """Minutes of the whole cell, GB of peak memory, bytes on disk."""

    minutes: float
    gigabytes: float
    disk_bytes: int


def _image_flops(card: Card, tokenizer: Card | None, sampling: Sampling | None) -> float:
    """FLOP for one image, sampled or encoded and decoded."""
    flops = 0.0
    coder = card if card.kind == "tokenizer" else tokenizer
    if coder is not None:
        flops += 2 * (coder.parameters or UNKNOWN_PARAMETERS) * (coder.resolution / 8) ** 2
    if card.kind == "generator":
        tokens = coder.tokens.tokens if coder is not None and coder.tokens is not None else 256
        steps = (sampling.steps or 1) if sampling and card.family in ("random_order", "continuous") else 1
        passes = 2 if sampling and sampling.guidance.on else 1
        flops += 2 * (card.parameters or UNKNOWN_PARAMETERS) * tokens * steps * passes
    return flops


def estimate(
    card: Card,
    tokenizer: Card | None,
    task: TaskSpec,
    settings: Settings,
    sampling: Sampling | None,
    *,
    cores: int,
) -> Cost:
    """The cost of a cell. `tokenizer` is the card of a generator's tokenizer."""
    kind = "cpu" if settings.device == "cpu" else "cuda"
    rate = CPU_CORE_FLOPS * cores if kind == "cpu" else GPU_FLOPS
    image = _image_flops(card, tokenizer, sampling) / rate
    pixels = 3 * card.resolution**2
    batch, disk = 1, 1_000_000
    if isinstance(task, Reconstruct | Generate):
        n = task.n or 0
        seconds = n * (image + FEATURE_SECONDS[kind])
        batch, disk = task.batch, disk + n * (2 * pixels + 8192)
    elif isinstance(task, Edit):
        n = task.n or 0
        # images are encoded, drawn and decoded; edits and plain reconstructions are decoded, edits are also described
        seconds = n * (2 * image + FEATURE_SECONDS[kind])
        batch, disk = task.batch, disk + n * (2 * pixels + 8192)
    elif isinstance(task, Likelihood):
        seconds = 2 * (task.n or 0) * image  # of the right class and of another
        batch = task.batch
    elif isinstance(task, Speed):
        batch = max(task.batches)
        seconds = sum(
            WARM_UP_CALLS * image * size + min(max(task.min_calls * image * size, task.min_seconds), task.max_seconds)
            for size in task.batches
        )
    else:
        assert isinstance(task, Memory)
        batch = max(task.batches)
        seconds = sum(3 * image * size for size in task.batches)
    parameters = (card.parameters or UNKNOWN_PARAMETERS) + ((tokenizer.parameters or 0) if tokenizer else 0)
    # a convolutional decoder holds about 64 channels at full resolution
    memory = 0.5e9 + parameters * BYTES[settings.dtype] + batch * pixels / 3 * 64 * 4
    return Cost((seconds + START_SECONDS) / 60, memory / 1e9, disk)
