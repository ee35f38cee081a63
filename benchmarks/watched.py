"""Runs a command in a process of its own with the toy package installed, and watches the memory of its whole tree."""

from __future__ import annotations

import contextlib
import os
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

BESIDE = Path(__file__).parent
ENTRY_POINTS = """[arbench.adapters]
toy = toy.system:SYSTEM
[arbench.conventions]
toy = toy.features:CONVENTION
"""


@dataclass(frozen=True)
class Watched:
    """`seconds` of wall, `cpu` of user and system time of the tree; samples of (s, RSS in MB, PSS in MB or None), RSS
    summed over processes, which counts what they share in each of them; PSS counts it once.
    """

    seconds: float
    cpu: float
    samples: tuple[tuple[float, float, float | None], ...]
    said: str

    @property
    def peak(self) -> float:
        """MB of RSS."""
        return max((rss for _, rss, _ in self.samples), default=0.0)

    @property
    def peak_shared_once(self) -> float | None:
        """MB of PSS."""
        return max((pss for _, _, pss in self.samples if pss is not None), default=None)


def environment(folder: Path) -> dict[str, str]:
    """Of a process that finds the toy package as pip would leave it; writes its metadata below `folder`."""
    info = folder / "site" / "toy-1.0.dist-info"
    info.mkdir(parents=True, exist_ok=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: toy\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(ENTRY_POINTS)
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(BESIDE), str(info.parent)])}


def watched(words: Sequence[object], folder: Path, every: float = 0.5) -> Watched:
    """`python -m arbench WORDS` in `folder`, to its end. Raises RuntimeError where it fails."""
    command = [sys.executable, "-m", "arbench", *map(str, words)]
    before, begin = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    found: list[tuple[float, float, float | None]] = []
    with (folder / "said.txt").open("w+") as said:
        process = subprocess.Popen(
            command, cwd=folder, env=environment(folder), stdout=said, stderr=subprocess.STDOUT, text=True
        )
        while process.poll() is None:
            found.append((time.monotonic() - begin, *memory(process.pid)))
            time.sleep(every)
        seconds, used = time.monotonic() - begin, resource.getrusage(resource.RUSAGE_CHILDREN)
        said.seek(0)
        text = said.read()
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}:\n{text}")
    cpu = used.ru_utime + used.ru_stime - before.ru_utime - before.ru_stime
    return Watched(seconds, cpu, tuple(found), text)


def memory(pid: int) -> tuple[float, float | None]:
    """MB of RSS and PSS of a process and its descendants; PSS is None where the system does not tell it."""
    rss, pss = 0.0, 0.0
    told = True
    with contextlib.suppress(psutil.Error):
        root = psutil.Process(pid)
        for process in (root, *root.children(recursive=True)):
            with contextlib.suppress(psutil.Error):
                rss += process.memory_info().rss / 1e6
                own = getattr(process.memory_full_info(), "pss", None)
                told, pss = told and own is not None, pss + (own or 0) / 1e6
    return rss, pss if told else None
