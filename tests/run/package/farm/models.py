"""Generators whose images are per-sample noise, and who fail in the way their name says."""

import ctypes
import errno
import os
import signal
import sys
import time
from pathlib import Path

import torch

from arbench.errors import Unsupported
from arbench.protocols import NO_PROBE, Generated


def _meet():
    """Waits until as many processes as FARM_MEETS says are at work."""
    until = time.monotonic() + 60.0
    while time.monotonic() < until:
        words = [line.split() for line in Path(os.environ["FARM_CALLS"]).read_text().splitlines()]
        if len({each[3] for each in words if each[:2] == ["unit", "farm/meets"]}) >= int(
            os.environ.get("FARM_MEETS", 1)
        ):
            return
        time.sleep(0.02)


def _blocks(count):
    """So many blocks of 64 KiB, each touched."""
    return [torch.ones(2**16, dtype=torch.uint8) for _ in range(count)]


class Model:
    def __init__(self, card, spec):
        self.card = card
        self.kept = []
        self.spec = spec
        self.tokenizer = None

    @classmethod
    def load(cls, card, spec, tokenizer):
        return cls(card, spec)

    def prepare(self, batch, sampling):
        self.batch = batch

    def sample(self, request, sampling, *, probe=NO_PROBE):
        behaviour = self.card.config["behaviour"]
        last = 15 in request.sample_ids
        if behaviour == "memory" and last:
            raise MemoryError
        if behaviour == "greedy" and len(request.sample_ids) > 3:
            raise MemoryError
        if behaviour == "raises" and last:
            raise ValueError("the secret is 42\nand more")
        if behaviour == "killed" and last:
            os.kill(os.getpid(), signal.SIGKILL)
        if behaviour == "segfault" and last:
            ctypes.string_at(0)
        if behaviour == "hang" and last:
            time.sleep(1000)
        if behaviour == "works" and last:  # as one call of a big model does: at work, and silent
            until = time.process_time() + 6.0
            while time.process_time() < until:
                pass
        if behaviour == "spins" and last:
            while True:
                pass
        if behaviour == "unsupported":
            raise Unsupported("farm/unsupported cannot", "it never could")
        if behaviour == "disk" and last:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        if behaviour == "talks":
            print("said the model")
            print("to stderr it said", file=sys.stderr)
        if behaviour == "slow":
            time.sleep(0.05)
        if behaviour == "meets":
            _meet()
            time.sleep(0.3)
        if behaviour == "needs":
            torch.ones(self.card.config["mib"] << 20, dtype=torch.uint8)
        if behaviour == "keeps":
            self.kept.append(torch.ones(self.card.config["mib"] << 20, dtype=torch.uint8))
        if behaviour == "churns":  # frees all but a last crumb, so that the allocator holds 4 MiB more after each call
            blocks = _blocks(64 * (len(self.kept) + 1))
            self.kept += _blocks(1)
            del blocks
        if behaviour == "naps":
            time.sleep(0.5)
        with probe("ar"):
            images = request.noise.uniform("image", 3 * 8 * 8).float().reshape(-1, 3, 8, 8)
        return Generated(images=images, outer_steps=1, forwards=1)

    def close(self):
        pass
