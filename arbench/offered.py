"""What installed packages offer by entry points: a package that is broken is named on stderr and left out."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import entry_points
from types import FrameType
from typing import Any, TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Broken:
    """A package whose entry point could not be used, and why."""

    origin: str
    why: str


class Failed(Exception):
    """Other people's code did not do what it was called for; the cause is what it raised."""


_broken: dict[str, list[Broken]] = {}


def offers(group: str, read: Callable[[Any, str], T]) -> Iterator[tuple[str, T]]:
    """Origin and value of each entry point in a group, in the order of their names. `read` makes what is wanted of
    what was loaded and the entry point's name, and raises anything for what it is not.
    """
    _broken[group] = []
    for point in sorted(entry_points(group=group), key=lambda point: point.name):
        origin = point.dist.name if point.dist else point.value
        try:
            with guarded():
                value = read(point.load(), point.name)
        except Failed as error:
            leave_out(group, origin, f"{point.value}: {error}")
        else:
            yield origin, value


def leave_out(group: str, origin: str, why: str) -> None:
    """Notes a package as broken, and says so, once."""
    entry = Broken(origin, why)
    told = any(entry in found for found in _broken.values())
    _broken.setdefault(group, []).append(entry)
    if not told:
        print(f"note: package {origin!r} is broken and left out: {why}", file=sys.stderr, flush=True)


def hint(group: str, otherwise: str) -> str:
    """The next step for a name that nobody offers: it may be one of a package that is broken."""
    found = [f"{entry.origin!r} ({entry.why})" for entry in _broken.get(group, ())]
    repair = f"repair the broken package {', '.join(found)}" if found else ""
    return "; or ".join(part for part in (otherwise, repair) if part)


# ---- other people's code ---------------------------------------------------------------------------------------------


@contextlib.contextmanager
def guarded() -> Iterator[None]:
    """Runs imports of other people's code: what it prints goes to stderr, and whatever it raises, to leave the
    process too, is a `Failed`. Only a Ctrl-C of the user's own is let through.
    """
    with _interrupts() as interrupted, _stdout_to_stderr():
        try:
            yield
        except BaseException as error:
            if interrupted.is_set() or isinstance(error, GeneratorExit | MemoryError):
                raise
            text = " ".join(str(error).split())
            name = type(error).__name__
            raise Failed(f"{name}: {text:.300}" if text else name) from error


@contextlib.contextmanager
def _interrupts() -> Iterator[threading.Event]:
    """Set by a SIGINT, to tell it from a KeyboardInterrupt that a module raises."""
    seen = threading.Event()
    before = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(before):
        yield seen
        return

    def handler(number: int, frame: FrameType | None) -> None:
        seen.set()
        before(number, frame)

    signal.signal(signal.SIGINT, handler)
    try:
        yield seen
    finally:
        if signal.getsignal(signal.SIGINT) is handler:
            signal.signal(signal.SIGINT, before)


@contextlib.contextmanager
def _stdout_to_stderr() -> Iterator[None]:
    """For Python and for C code alike: standard output belongs to the verb, and may be JSON."""
    ours, theirs = sys.stdout, sys.stderr
    with contextlib.suppress(OSError, ValueError, AttributeError):
        ours.flush()
    try:
        kept = os.dup(1)
        os.dup2(2, 1)
    except OSError:  # one of them is closed
        kept = None
    sys.stdout = theirs
    try:
        yield
    finally:
        sys.stdout, sys.stderr = ours, theirs
        if kept is not None:
            os.dup2(kept, 1)
            os.close(kept)
