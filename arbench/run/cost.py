"""What a cell will take, by a simple model that is good to a factor of a few: time, memory and disk.

Time: a network does 2 FLOP per parameter and token position, a guided sample twice that, a network without a cache once
per step; a convolutional tokenizer works at 1/8 of the resolution on average. A CPU core is taken to give 20 GFLOP/s, a
GPU 20 TFLOP/s. Feature networks cost their own FLOP per image. A network of unknown size counts as 50 M parameters.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..spec.card import Card
from ..spec.sampling import Sampling
from ..spec.suite import Settings
from ..spec.task import Rates, TaskSpec, tasks

CPU_CORE_FLOPS = 20e9
GPU_FLOPS = 20e12
UNKNOWN_PARAMETERS = 50_000_000
START_SECONDS = 2.0
"""A worker process, or one that waits already, loads weights."""
BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}


@dataclass(frozen=True)
class Cost:
    """Minutes of the whole cell, GB of peak memory, bytes on disk."""

    minutes: float
    gigabytes: float
    disk_bytes: int


NO_COST = Cost(0.0, 0.0, 0)


def _coder_flops(card: Card, tokenizer: Card | None) -> float:
    """FLOP to encode and decode one image of the card's size."""
    coder = card if card.kind == "tokenizer" else tokenizer
    if coder is None:
        return 0.0
    parameters = UNKNOWN_PARAMETERS if coder.parameters is None else coder.parameters  # a codec has none
    return 2 * parameters * (card.resolution / 8) ** 2


def _image_flops(card: Card, tokenizer: Card | None, sampling: Sampling | None) -> float:
    """FLOP for one image, sampled or encoded and decoded."""
    flops = _coder_flops(card, tokenizer)
    if card.kind == "generator":
        spec = card.tokens or (tokenizer.tokens if tokenizer is not None else None)
        tokens = spec.tokens if spec is not None else 256
        steps = (sampling.steps or 1) if sampling and card.family == "continuous" else 1
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
    missing: frozenset[str] = frozenset(),
) -> Cost:
    """The cost of a cell. `tokenizer` is the card of a generator's tokenizer, `missing` weights of feature networks."""
    rate = CPU_CORE_FLOPS * cores if settings.device == "cpu" else GPU_FLOPS
    pixels = 3 * card.resolution**2
    kept = None if settings.keep_images is None else settings.keep_images * 1_000_000
    coded = _coder_flops(card, tokenizer) / rate
    rates = Rates(_image_flops(card, tokenizer, sampling) / rate, rate, pixels, kept, missing, coded=coded)
    found = tasks()[task.task].effort(task, rates)
    parameters = (card.parameters or UNKNOWN_PARAMETERS) + ((tokenizer.parameters or 0) if tokenizer else 0)
    # a convolutional decoder holds about 64 channels at full resolution
    memory = 0.5e9 + parameters * BYTES[settings.dtype] + found.batch * pixels / 3 * 64 * 4
    return Cost((found.seconds + START_SECONDS) / 60, memory / 1e9, 1_000_000 + found.disk_bytes)
