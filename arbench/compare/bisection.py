"""Which commit made a number worse: `git bisect` asks, and each commit is measured in turn with the last good one.

Two worktrees of the repository lie beside the answer: `good` keeps the good commit, `tested` goes where git says. A
timing is decided by Student's interval of the log ratios of rounds in turn, as the gate's; a number that repeats
exactly by one reading. The threshold lies halfway between the good and the bad commit. What is found is on disk after
each one.
"""

from __future__ import annotations

import math
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from ..errors import DamagedFile, StoreError, UsageError
from ..files import write_atomic
from ..json_text import parse_json
from ..spec.base import Frozen
from . import screen

LEAST = 3
"""Rounds in turn before a commit can be decided; `screen.MORE` at most."""
FILE = "bisect.json"
FOUND = re.compile(r"^([0-9a-f]{40,64}) is the first '?bad'? commit", re.MULTILINE)

Verdict = Literal["good", "bad", "skipped"]
Measure = Callable[[Path], float]
"""The number as the code in a worktree has it, measured in fresh processes. Raises `StoreError` where it has none."""


class Goal(Frozen):
    """What is looked for: the number, and between which commits it changed."""

    repository: str
    good: str
    bad: str
    adapter: str
    setting: str = ""
    """What tells its settings from others of this adapter in the run."""
    number: str
    exact: bool
    """Whether it repeats exactly: one reading decides, by differences. Else ratios of rounds in turn do."""


class Change(Frozen):
    """Of a commit against the good one: a ratio, or a difference of exact numbers, with its interval."""

    value: float
    low: float
    high: float
    rounds: int


class Step(Frozen):
    """A commit that was tested."""

    commit: str
    subject: str
    verdict: Verdict
    change: Change | None = None
    why: str = ""


class Bisection(Frozen):
    """`bisect.json`: what is known so far. `whole` is the change of the bad commit; `first` are the commits one of
    which is the first bad one, a single one unless some could not be tested."""

    schema_version: int = 1
    goal: Goal
    whole: Change | None = None
    steps: tuple[Step, ...] = ()
    first: tuple[str, ...] = ()
    told_apart: bool = True
    """Whether the good and the bad commit differ at all."""

    @property
    def done(self) -> bool:
        return bool(self.first) or not self.told_apart


def git(place: Path, *words: str) -> str:
    """What git says. Raises `StoreError` where it fails."""
    done = subprocess.run(["git", "-C", str(place), *words], capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr or done.stdout).strip().splitlines()[-1:]
        raise StoreError(f"git {' '.join(words[:2])} failed in {place}", " ".join(last), "git status")
    return done.stdout


def commit_of(repository: Path, revision: str) -> str:
    """Its full name. Raises `UsageError` for a revision that is none."""
    try:
        return git(repository, "rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}").strip()
    except StoreError as error:
        hint = f"git -C {repository} log --oneline"
        raise UsageError(f"{revision!r} is not a commit of {repository}", error.why, hint) from None


def begin(out: Path, goal: Goal) -> Bisection:
    """What `out` knows of this goal already, or nothing yet. Raises `UsageError` if it is about another one."""
    path = out / FILE
    if not path.is_file():
        return Bisection(goal=goal)
    try:
        known = Bisection.model_validate(parse_json(path.read_bytes()))
    except (OSError, ValueError, ValidationError) as error:
        raise DamagedFile(f"cannot read {path}", str(error).splitlines()[0], f"remove {out}") from error
    if known.goal != goal:
        differing = [name for name in Goal.model_fields if getattr(known.goal, name) != getattr(goal, name)]
        raise UsageError(f"{out} is of another search", f"differs: {', '.join(differing)}", "-o ANOTHER")
    return known


def bisect(known: Bisection, out: Path, measure: Measure, tell: Callable[[str], None] = lambda text: None) -> Bisection:
    """Goes on from `known` until the commit is found; `out` has the state and, meanwhile, the worktrees."""
    goal, repository = known.goal, Path(known.goal.repository)
    out.mkdir(parents=True, exist_ok=True)
    good, tested = (_worktree(repository, out.resolve() / name, goal.good) for name in ("good", "tested"))
    if known.whole is None:
        git(tested, "checkout", "--quiet", "--detach", goal.bad)
        whole = measured(measure, good, tested, goal.exact, None)
        apart = whole.low > _same(goal) or whole.high < _same(goal)
        known = _kept(out, known.model_copy(update={"whole": whole, "told_apart": apart}))
        tell(f"the whole change: {words(goal, whole)}" + ("" if apart else ", which is not told from none"))
    assert known.whole is not None
    if known.told_apart and not known.first:
        known = _searched(known, out, measure, good, tested, tell)
    for tree in (good, tested):
        git(repository, "worktree", "remove", "--force", str(tree))
    return known


def _searched(
    known: Bisection, out: Path, measure: Measure, good: Path, tested: Path, tell: Callable[[str], None]
) -> Bisection:
    goal, whole = known.goal, known.whole
    assert whole is not None
    git(tested, "bisect", "reset")
    said = git(tested, "bisect", "start", goal.bad, goal.good)
    while True:
        first = FOUND.search(said)
        if first:
            return _kept(out, known.model_copy(update={"first": (first.group(1),)}))
        commit = git(tested, "rev-parse", "HEAD").strip()
        step = next((each for each in known.steps if each.commit == commit), None)
        if step is None:
            step = _tested(goal, whole, commit, measure, good, tested)
            known = _kept(out, known.model_copy(update={"steps": (*known.steps, step)}))
            told = words(goal, step.change) if step.change else step.why
            tell(f"{step.commit[:10]} {step.verdict}: {told}  {step.subject}")
        try:
            said = git(tested, "bisect", "skip" if step.verdict == "skipped" else step.verdict)
        except StoreError:
            left = git(tested, "bisect", "log").split("# only skipped commits left to test", 1)
            if len(left) == 1:
                raise
            found = re.findall(r"^# possible first bad commit: \[([0-9a-f]+)\]", left[1], re.MULTILINE)
            return _kept(out, known.model_copy(update={"first": tuple(found)}))


def _tested(goal: Goal, whole: Change, commit: str, measure: Measure, good: Path, tested: Path) -> Step:
    subject = git(tested, "log", "-1", "--format=%s").strip()
    try:
        change = measured(measure, good, tested, goal.exact, whole)
    except StoreError as error:
        return Step(commit=commit, subject=subject, verdict="skipped", why=f"{error.what}: {error.why}")
    side = decided(change, whole, goal.exact)
    verdict: Verdict = "skipped" if side is None else "bad" if side else "good"
    why = "cannot be told" if side is None else ""
    return Step(commit=commit, subject=subject, verdict=verdict, change=change, why=why)


def measured(measure: Measure, good: Path, tested: Path, exact: bool, whole: Change | None) -> Change:
    """Of the code in `tested` against that in `good`: one reading of an exact number, else rounds in turn until it is
    decided by `whole` (None: until it is not 1 for certain), `screen.MORE` at most."""
    if exact:
        value = measure(tested) - measure(good)
        return Change(value=value, low=value, high=value, rounds=1)
    readings: tuple[list[float], list[float]] = ([], [])
    while True:
        rounds = len(readings[0])
        sides = [(good, readings[0]), (tested, readings[1])]
        for tree, values in sides if rounds % 2 == 0 else sides[::-1]:
            values.append(measure(tree))
        if rounds + 1 < LEAST:
            continue
        if min(map(min, readings)) <= 0:
            raise StoreError("a reading of 0 or below", "ratios are of positive numbers", "choose another metric")
        ratio = screen.confirmed(*readings)
        found = Change(value=float(ratio.ratio), low=float(ratio.low), high=float(ratio.high), rounds=rounds + 1)
        enough = not found.low <= 1 <= found.high if whole is None else decided(found, whole, exact) is not None
        if enough or rounds + 1 >= screen.MORE:
            return found


def decided(change: Change, whole: Change, exact: bool) -> bool | None:
    """Whether a commit is on the bad side of half the whole change; None where its interval holds the middle."""
    if exact:
        return abs(change.value) >= abs(whole.value) / 2 and change.value * whole.value > 0
    low, high, half = (math.log(each) for each in (change.low, change.high, whole.value**0.5))
    if half < 0:
        low, high, half = -high, -low, -half
    return True if low > half else False if high < half else None


def words(goal: Goal, change: Change) -> str:
    """ "+5.1 % [+4.7, +5.4] in 3 rounds", or "+2" of an exact number."""
    if goal.exact:
        return f"{change.value:+.4g}"
    value, low, high = (100 * (each - 1) for each in (change.value, change.low, change.high))
    return f"{value:+.1f} % [{low:+.1f}, {high:+.1f}] in {change.rounds} rounds"


def _same(goal: Goal) -> float:
    return 0.0 if goal.exact else 1.0


def _worktree(repository: Path, place: Path, commit: str) -> Path:
    if not (place / ".git").exists():
        git(repository, "worktree", "prune")
        git(repository, "worktree", "add", "--quiet", "--force", "--detach", str(place), commit)
    return place


def _kept(out: Path, known: Bisection) -> Bisection:
    write_atomic(out / FILE, (known.model_dump_json(indent=1) + "\n").encode(), "-o ANOTHER")
    return known
