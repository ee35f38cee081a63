"""What a check says: a line with its name, its outcome and why. Imports no torch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from ..errors import ArbenchError

Outcome = Literal["ok", "FAIL", "not applicable"]
Check = tuple[str, Callable[[], str]]
"""A name, and what returns a note if the contract holds and raises `Broken` or `NotApplicable` if not."""


@dataclass(frozen=True, slots=True)
class Verdict:
    adapter: str
    name: str
    outcome: Outcome
    why: str = ""


class Broken(Exception):
    """The adapter does not keep its contract; the message says in what."""


class NotApplicable(Exception):
    """There is nothing to check here; the message says why."""


def verdicts(adapter: str, checks: Iterable[Check]) -> Iterator[Verdict]:
    """One verdict a check, in order. Whatever an adapter raises, `SystemExit` too, is a
    failure of that check, not of the command."""
    for name, check in checks:
        try:
            outcome: Outcome = "ok"
            why = check()
        except NotApplicable as error:
            outcome, why = "not applicable", str(error)
        except Broken as error:
            outcome, why = "FAIL", str(error)
        except (Exception, SystemExit) as error:
            outcome, why = "FAIL", describe(error)
        yield Verdict(adapter, name, outcome, why)


def describe(error: BaseException) -> str:
    """One line for an error of any kind."""
    if isinstance(error, ArbenchError):
        text = f"{error.what} ({error.why})" if error.why else error.what
    else:
        text = (str(error).strip().splitlines() or [""])[0]
    return f"{type(error).__name__}: {text}"
