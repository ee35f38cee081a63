"""Every error arbench raises on purpose, and the exit code that each one becomes.

    ArbenchError
      UsageError (2)            the command, suite or adapter name is wrong
        ConfigError               a suite file or a --set value
        UnknownName               no adapter, suite, metric ... of that name
        Unsupported               the adapter cannot do what is asked of it
      InputError (2)            a file given by the user cannot be used
        CheckpointError           weights: shape, keys, truncation, unsafe pickle
        ImageError                images: none, broken, mixed sizes
        DamagedFile               a file that arbench wrote has lost or changed bytes
      PrerequisiteError (3)     something outside the command is missing
        MissingWeights            no checkpoint where one is needed
        MissingReference          a reference or other data that is not here
        NoDevice                  the device asked for is not there
      StoreError (3)            results cannot be written or read
      CellError (4)             one cell of a run failed; the others went on

A message has three parts: what is wrong, why, and the next command to type.
"""

from __future__ import annotations

import difflib
import unicodedata
from collections.abc import Iterable

OK = 0
FAILED = 1
USAGE = 2
INFRASTRUCTURE = 3
PARTIAL = 4
INTERRUPTED = 130

FEW = 12
"""Names that an error lists; of more it says which are close."""
CLOSE = 0.6


class ArbenchError(Exception):
    """An error with a message for the user; never shown with a traceback unless `--debug` is given."""

    exit_code = INFRASTRUCTURE

    def __init__(self, what: str, why: str = "", hint: str = "") -> None:
        super().__init__(what, why, hint)
        self.what = what
        self.why = why
        self.hint = hint

    def __str__(self) -> str:
        lines = [self.what]
        if self.why:
            lines.append(f"  why:  {self.why}")
        if self.hint:
            lines.append(f"  next: {self.hint}")
        return "\n".join(lines)


class UsageError(ArbenchError):
    exit_code = USAGE


class ConfigError(UsageError):
    pass


class UnknownName(UsageError):
    """A name that no registry knows, with the closest names that it does know."""

    def __init__(self, kind: str, name: str, known: Iterable[str], hint: str = "") -> None:
        super().__init__(f"unknown {kind}: {name!r}", suggestion(name, known), hint or f"arbench ls {kind}s")
        self.name = name


class Unsupported(UsageError):
    pass


class InputError(ArbenchError):
    exit_code = USAGE


class CheckpointError(InputError):
    pass


class ImageError(InputError):
    pass


class DamagedFile(InputError):
    pass


class PrerequisiteError(ArbenchError):
    exit_code = INFRASTRUCTURE


class MissingWeights(PrerequisiteError):
    pass


class MissingReference(PrerequisiteError):
    pass


class NoDevice(PrerequisiteError):
    pass


class StoreError(ArbenchError):
    exit_code = INFRASTRUCTURE


class CellError(ArbenchError):
    exit_code = PARTIAL


def printable(text: str) -> str:
    """`text` with what a terminal would act on, or could not write, as escapes: names come from files of others."""
    return "".join(
        char if char in "\n\t" or unicodedata.category(char) not in ("Cc", "Cs") else ascii(char)[1:-1] for char in text
    )


def counted(count: int, noun: str) -> str:
    """ "1 image", "3 images"."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def suggestion(name: str, known: Iterable[str]) -> str:
    """What may be meant by a name, or a glob, that none of those known is: the closest, else all if they are few."""
    names = sorted(known)
    close = closest(name, names)
    if close:
        return f"did you mean {' or '.join(close)}?"
    return f"known: {', '.join(names) or 'none'}" if len(names) <= FEW else f"{len(names)} are known, none is close"


def closest(name: str, known: Iterable[str], limit: int = 3) -> list[str]:
    """Names close to `name`, best first; also matches the part after the last slash, and globs."""
    names = list(known)
    if any(sign in name for sign in "*?["):
        return _closest_to_glob(name, names, limit)
    close = difflib.get_close_matches(name, names, n=limit, cutoff=CLOSE)
    tails = {full.rsplit("/", 1)[-1]: full for full in names}
    for tail in difflib.get_close_matches(name.rsplit("/", 1)[-1], list(tails), n=limit, cutoff=CLOSE):
        if tails[tail] not in close:
            close.append(tails[tail])
    return close[:limit]


def _closest_to_glob(glob: str, names: Iterable[str], limit: int) -> list[str]:
    """Names whose whole, beginning to the slash or rest is close to that of the glob without its signs."""

    def rank(name: str) -> tuple[float, float]:
        pairs = zip(_parts(glob), _parts(name), strict=True)
        whole, *parts = (difflib.SequenceMatcher(None, one, other).ratio() for one, other in pairs if one)
        return max(whole, *parts), whole

    ranked = {name: rank(name) for name in names} if _parts(glob)[0] else {}
    near = [name for name in ranked if ranked[name][0] >= CLOSE]
    return sorted(near, key=lambda name: ranked[name], reverse=True)[:limit]


def _parts(name: str) -> tuple[str, str, str]:
    plain = "".join(char for char in name if char not in "*?[]!")
    head, _, tail = plain.partition("/")
    return plain, head, tail
