"""What a process that decodes does: chunks of pictures from its pipe, their pixels into memory that its owner maps too.

What the owner sends are functions and what they take, by `multiprocessing`'s pipes, which no one else can write to;
answers are JSON, for what decodes images of strangers tells its owner numbers and nothing else.
"""

from __future__ import annotations

import json
import mmap
from collections.abc import Callable
from multiprocessing.connection import Connection

import numpy as np

from . import budget
from .decode import WORKING_BYTES, Decoded
from .ready import Treat, make_ready

MOST_PIXELS = 1 << 20
"""Of a picture that is decoded here: a larger one waits for memory that all share, with the owner."""


def main(pipe_number: int, memory_number: int) -> None:
    """Works until the owner closes its end, or has died."""
    budget.only_small(WORKING_BYTES * MOST_PIXELS)
    with Connection(pipe_number) as pipe, mmap.mmap(memory_number, 0) as memory:
        while True:
            try:
                treat, jobs = pipe.recv()
            except (EOFError, ConnectionError):
                return
            pipe.send_bytes(json.dumps(_answers(jobs, treat, memory)).encode())


def _answers(jobs: list[Callable[[], Decoded]], treat: Treat | None, memory: mmap.mmap) -> list[list[object] | None]:
    """Of each picture its shape, conversions and digest; None for one that the owner is to decode, or to refuse."""
    answers: list[list[object] | None] = []
    used = 0
    for decode in jobs:
        try:
            ready = make_ready(decode, treat)
        except Exception:  # the owner meets the same, and says it
            answers.append(None)
            continue
        if used + ready.image.nbytes > len(memory):
            answers.append(None)
            continue
        np.frombuffer(memory, np.uint8, ready.image.nbytes, used)[:] = ready.image.reshape(-1)
        used += ready.image.nbytes
        answers.append([ready.image.shape, ready.converted, ready.digest])
    return answers
