"""How an attempt at a batch size ends in a process of its own, and which errors say that memory ran out."""

import errno
import io
import json
import os
import sys

import pytest

from arbench import registry
from arbench.measure.memory import out_of_memory
from arbench.protocols import Sampling
from arbench.spec.cell import make_cell
from arbench.spec.suite import Settings
from arbench.tasks.memory import Memory, attempt


def attempted(cell, limit, weights=None):
    """Exit status and last words of an attempt, in a fork of this process: torch is imported already."""
    job = {"cell": cell.plain(), "batch": 1, "device": "cpu", "limit": limit, "weights": weights or {}}
    read, write = os.pipe()
    child = os.fork()
    if not child:
        sys.stdin, sys.stderr = io.StringIO(json.dumps(job)), os.fdopen(write, "w", buffering=1)
        os._exit(attempt.main())
    os.close(write)
    with os.fdopen(read) as said:
        told = said.read()
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), told.strip()


@pytest.fixture
def mini():
    card = registry.card("raster/llamagen-mini")
    return make_cell(card, Memory(), Settings(), Sampling(), {}, data={}, machine="here")


def test_less_memory_than_the_code_itself_takes_is_too_little_and_no_error(mini):
    assert attempted(mini, 100_000_000) == (attempt.TOO_LARGE, "")
    assert attempted(mini, None) == (attempt.FITS, "")


def test_an_attempt_that_fails_says_why_in_one_line(mini, tmp_path):
    (tmp_path / "none.safetensors").write_bytes(b"")
    status, told = attempted(mini, None, {"raster/llamagen-mini": str(tmp_path / "none.safetensors")})
    assert status == 1
    assert "none.safetensors" in told
    assert len(told.splitlines()) == 1


def test_a_lack_of_memory_behind_another_error_is_seen():
    lacking = ImportError("no module")
    lacking.__cause__ = MemoryError()
    assert out_of_memory(lacking)
    assert out_of_memory(RuntimeError("unable to mmap 4096 bytes from file <f>: Cannot allocate memory (12)"))
    assert out_of_memory(OSError(errno.ENOMEM, "Cannot allocate memory"))
    assert not out_of_memory(ImportError("no module"))
