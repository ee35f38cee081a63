"""What the gate says of adapters that went wrong, end to end: a toy package, real commands in real processes.

    python benchmarks/gate_scenarios.py [exact] [slower] [week] [--write docs/gate-scenarios.md] [--keep DIR]

`exact`: a sampler that has changed, NaN, another name, what never ran: no timing decides. `slower`: a loop on the host
of 5 % of a call, against eight nights of the good build, then in turn with it. `week`: seven nights in a repository of
seven commits, the fifth of which draws each image twice. Timings want a quiet machine; there each part takes at most
9 minutes. The exit status is 1 where something is not as it should be.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path

from arbench import registry, weights

MINI = "next_scale/var-mini"
SYSTEM = """
from arbench.adapters.next_scale.var.cards import MINI
from arbench.protocols import System

CARD = MINI.derive(name="next_scale/{name}", implementation="toy.model:Toy")
SYSTEM = System(name="toy", cards=(CARD,))
"""
MODEL = """
from arbench.adapters.next_scale.var.adapter import VAR
from arbench.protocols import NO_PROBE


class Toy(VAR):
    def sample(self, request, sampling, *, probe=NO_PROBE):
        {before}
        made = super().sample(request, sampling, probe=probe)
        {after}
        return made
"""
UNFILTERED = "sampling = sampling.model_copy(update={'temperature': 4.0, 'top_k': None, 'top_p': None})"
BROKEN = (
    "decode = type(self.tokenizer).decode; "
    "self.tokenizer.decode = lambda *given, **more: decode(self.tokenizer, *given, **more) * float('nan')"
)
TWICE = "super().sample(request, sampling, probe=probe)"
LOOP = "sum(range({count}))"
SPEED = "speed: {batches: [4], min_calls: 10, min_seconds: 0.5, max_seconds: 8, interval: null}"
THRICE = "speed: {batches: [4], processes: 3, min_calls: 20, min_seconds: 1, max_seconds: 8, interval: null}"
"""Numbers over three fresh processes, for changes as small as a process differs from the next."""
GENERATE = "generate: {n: 64, reference: mnist5k/heldout, conventions: [offline]}"
SHARE = 0.05
NIGHTS = 8
TEXT = """# The gate's verdicts, end to end

A package with one adapter, a mini in other clothes, is changed as the first column says. Each line is a real command in
a process of its own; `as it should be` holds verdict and exit code against what the case deserves.

{tables}
Made by `python benchmarks/gate_scenarios.py {parts}`.{rest}
"""
QUIET = """ Not shown: {parts}. These decide by timings, for which
the machine was too busy; an idle one takes a few minutes for each:
`python benchmarks/gate_scenarios.py {command}`."""


@dataclass(frozen=True)
class Line:
    """A command of a case: what it should and did say, and both exit codes. `codes`: those that are right."""

    case: str
    command: str
    wanted: str
    seen: str
    codes: tuple[int, ...]
    code: int
    right: bool


@dataclass
class Theatre:
    """A folder with builds of the toy package, runs and baselines; what was seen so far is in `lines`."""

    folder: Path
    lines: list[Line] = field(default_factory=list)

    def build(self, name: str, before: str = "", after: str = "", called: str = "toy") -> Path:
        """A folder that holds the package, as pip leaves it, and a Python that knows it. Returns it."""
        place = self.folder / name
        package, info = place / "toy", place / "toy-1.0.dist-info"
        (package / "weights").mkdir(parents=True, exist_ok=True)
        info.mkdir(exist_ok=True)
        path = weights.locate(registry.card(MINI))
        assert path is not None
        shutil.copy(path, package / "weights")
        (package / "__init__.py").write_text("")
        (package / "system.py").write_text(SYSTEM.format(name=called))
        (package / "model.py").write_text(MODEL.format(before=before or "pass", after=after or "pass"))
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: toy\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text("[arbench.adapters]\ntoy = toy.system:SYSTEM\n")
        python = self.folder / f"python-{name}"
        python.write_text(f'#!/bin/sh\nPYTHONPATH={place} exec {sys.executable} "$@"\n')
        python.chmod(0o755)
        return place

    def suite(self, name: str, adapters: Sequence[str], *tasks: str) -> str:
        rows = "".join(f"  - {task}\n" for task in tasks)
        text = f"suite: {name}\nadapters: [{', '.join(adapters)}]\nsettings: {{device: cpu}}\ntasks:\n{rows}"
        (self.folder / f"{name}.yaml").write_text(text)
        return f"{name}.yaml"

    def arbench(self, build: Path, *words: str) -> subprocess.CompletedProcess[str]:
        """A command in a process of its own, with this build of the package."""
        started = time.monotonic()
        environment = {**os.environ, "PYTHONPATH": str(build), "OMP_NUM_THREADS": "1", "COLUMNS": "200"}
        command = [sys.executable, "-m", "arbench", *words]
        done = subprocess.run(
            command, cwd=self.folder, env=environment, capture_output=True, text=True, check=False, timeout=1500
        )
        print(f"{time.monotonic() - started:6.1f} s  {done.returncode}  arbench {' '.join(words)}", file=sys.stderr)
        return done

    def run(self, build: Path, suite: str, out: str, *words: str) -> None:
        """A run below `runs`; one that is there from an earlier time is kept."""
        if not (self.folder / "runs" / out / "report.html").is_file():
            self.arbench(build, "run", suite, "--out", f"runs/{out}", "--track", "off", *words)

    def see(
        self,
        case: str,
        build: Path,
        words: Sequence[str],
        wanted: str,
        codes: Sequence[int],
        judge: Callable[[subprocess.CompletedProcess[str]], tuple[str, bool]],
    ) -> None:
        """Runs a command and notes whether it said and returned what it should."""
        done = self.arbench(build, *words)
        seen, right = judge(done)
        shown = " ".join(word for word in words if word not in ("--json", "--track", "off"))
        line = Line(
            case, f"arbench {shown}", wanted, seen, tuple(codes), done.returncode, right and done.returncode in codes
        )
        self.lines.append(line)
        print(f"{'' if line.right else 'NOT '}as it should be: {seen}", file=sys.stderr, flush=True)

    def gate(
        self,
        case: str,
        build: Path,
        run: str,
        wanted: Mapping[str, str],
        codes: Sequence[int],
        *words: str,
        baseline: str = "main",
    ) -> None:
        """`wanted`: glob of a number -> the verdicts, any of which is right ("OK IDENTICAL")."""
        told = "; ".join(f"{glob}: {' or '.join(verdicts.split())}" for glob, verdicts in wanted.items())
        command = ["gate", f"runs/{run}", "--baseline", baseline, *words, "--json"]
        self.see(case, build, command, told, codes, lambda done: _of_gate(done, wanted))


def _of_gate(done: subprocess.CompletedProcess[str], wanted: Mapping[str, str]) -> tuple[str, bool]:
    """The verdicts of the numbers that are asked for with a word of why, and whether each is right."""
    if not done.stdout.startswith("{"):
        return (done.stderr.strip().splitlines() or ["nothing"])[0], not wanted
    numbers = json.loads(done.stdout)["numbers"]
    seen, right = [], True
    for glob, verdicts in wanted.items():
        own = [each for each in numbers if fnmatchcase(each["metric"], glob)]
        right &= bool(own) and all(each["verdict"] in verdicts.split() for each in own)
        for verdict in dict.fromkeys(each["verdict"] for each in own):
            those = [each for each in own if each["verdict"] == verdict]
            names = those[0]["metric"] if len(those) == 1 else f"{len(those)} numbers"
            seen.append(f"{verdict} {names}" + (f" ({those[0]['why']})" if those[0]["why"] else ""))
    return "; ".join(dict.fromkeys(seen)), right


# ---- the parts -------------------------------------------------------------------------------------------------------


def exact(at: Theatre) -> None:
    """Cases that no clock decides."""
    good = at.build("good")
    suite = at.suite("toy", ["next_scale/toy"], GENERATE, SPEED)
    at.run(good, suite, "good")
    at.arbench(good, "baseline", "set", "main", "runs/good")
    at.run(good, suite, "again")
    exact_numbers = dict.fromkeys(("image digests*", "frechet*", "flops*", "traffic*", "steps*"), "IDENTICAL")
    at.gate("the same build again", good, "again", {**exact_numbers, "latency*": "OK SUSPECT IMPROVED"}, [0])

    sampler = at.build("sampler", before=UNFILTERED)
    at.run(sampler, suite, "sampler")
    wanted = {"image digests*": "AMBIGUOUS", "class-agreement*": "REGRESSED", "steps*": "IDENTICAL"}
    wanted["frechet*"] = "REGRESSED AMBIGUOUS"  # 64 images are few for it
    at.gate("a sampler that has changed: temperature 4, no filters", sampler, "sampler", wanted, [1])

    broken = at.build("broken", after=BROKEN)
    shutil.rmtree(at.folder / "runs" / "broken", ignore_errors=True)
    words = ["run", suite, "--out", "runs/broken", "--track", "off"]
    at.see("NaN in the images", broken, words, "cells that failed", [3], _last_note)
    at.gate("NaN in the images", broken, "broken", {"outcome of*": "INVALID"}, [3])

    renamed = at.build("renamed", called="toy-new")
    at.run(renamed, at.suite("renamed", ["next_scale/toy-new"], GENERATE, SPEED), "renamed")
    wanted = {"outcome of*": "NOT_MEASURED", "flops*": "NO_BASELINE"}
    at.gate("another name", renamed, "renamed", wanted, [3])

    at.run(good, suite, "speed-only", "--task", "speed")
    at.gate(
        "a task that was never run",
        good,
        "speed-only",
        {"outcome of generate": "NOT_MEASURED", "flops*": "IDENTICAL"},
        [3],
    )
    pair = at.suite("pair", ["next_scale/toy", "raster/llamagen-mini"], GENERATE)
    at.run(good, pair, "pair")
    at.arbench(good, "baseline", "set", "pair", "runs/pair")
    at.run(good, pair, "half", "--adapter", "raster/*")
    wanted = {"outcome of generate": "NOT_MEASURED", "image digests*": "IDENTICAL"}
    at.gate("an adapter that was never run", good, "half", wanted, [3], baseline="pair")
    at.gate("no run at all", good, "nothing", {}, [2])


def _last_note(done: subprocess.CompletedProcess[str]) -> tuple[str, bool]:
    said = [line.strip() for line in (done.stdout + done.stderr).splitlines()]
    failed = [line for line in said if "not finite" in line]
    return (failed or said[-1:] or ["nothing"])[0], bool(failed)


def slower(at: Theatre) -> None:
    """A call of the toy, and a loop on the host that takes a twentieth of its time."""
    good = at.build("good")
    count = _loop_of(good, at)
    slow = at.build("slow", after=LOOP.format(count=count))
    suite = at.suite("timed", ["next_scale/toy"], THRICE)
    at.run(good, suite, "night-0")
    at.arbench(good, "baseline", "set", "timed", "runs/night-0")
    for night in range(1, NIGHTS):
        at.run(good, suite, f"night-{night}")
        at.arbench(good, "gate", f"runs/night-{night}", "--baseline", "timed")
    at.run(slow, suite, "slow")
    case = f"{SHARE:.0%} slower: a loop of {count} on the host"
    same = {"flops*": "IDENTICAL", "operations*": "IDENTICAL"}
    sample = "latency (batch 4, sample)"
    at.gate(case, slow, "slow", {**same, sample: "SUSPECT"}, [0], baseline="timed")
    at.gate(
        case,
        slow,
        "slow",
        {**same, sample: "REGRESSED"},
        [1],
        "--good",
        str(at.folder / "python-good"),
        baseline="timed",
    )
    _in_turn(at, case, slow, ["runs/night-0", "runs/slow"], "worse")


def _loop_of(good: Path, at: Theatre) -> int:
    """How long a loop is a twentieth of a call, by processor time, which other processes change least."""
    program = (
        "import json, time; import torch; torch.set_num_threads(1);"
        "from arbench import registry, weights; from arbench.protocols import LoadSpec, Request;"
        "from arbench.seeds import noise_for; card = registry.card('next_scale/toy');"
        "load = lambda card, *rest: registry.resolve(card.implementation).load("
        "card, LoadSpec(weights=weights.locate(card)), *rest);"
        "toy = load(card, load(registry.card(card.tokenizer))); ids = tuple(range(4));"
        "request = Request(ids, noise_for(0, ids), labels=torch.arange(4));"
        "timed = lambda call: (-time.process_time(), call(), time.process_time());"
        "took = lambda call: (lambda found: found[0] + found[2])(timed(call));"
        "draw = lambda: toy.tokenizer.decode(toy.sample(request, card.native).codes);"
        "print(json.dumps([(took(draw), took(lambda: sum(range(1000000)))) for _ in range(15)]))"
    )
    environment = {**os.environ, "PYTHONPATH": str(good)}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True, cwd=at.folder
    )
    pairs = json.loads(done.stdout)[3:]
    call, loop = (statistics.median(pair[side] for pair in pairs) for side in (0, 1))
    return round(SHARE * call / loop * 1e6)


def week(at: Theatre) -> None:
    """Seven commits and a night after each."""
    place = at.build("week")
    suite = at.suite("week", ["next_scale/toy"], SPEED)
    _git(place, "init", "-q")
    (place / ".gitignore").write_text("__pycache__/\n")
    for day in range(1, 8):
        (place / "NOTES").write_text(f"day {day}\n")
        if day == 5:
            at.build("week", before=TWICE)
        _git(place, "add", ".")
        _git(place, "commit", "-q", "-m", f"day {day}")
        _git(place, "tag", f"day-{day}")
        at.run(place, suite, f"week/day-{day}")
    case = "a week, its fifth commit draws each image twice"
    for metric in ("flops", "latency"):
        words = ["history", "runs/week", "--metric", metric, "--json"]
        at.see(case, place, words, "one step, on day-5", [0], _of_history)
    words = ["bisect", "runs/week/day-7", "--repository", "week", "--good", "day-1", "--metric", "flops"]
    at.see(case, place, words, "the commit of day 5", [0], _of_bisect)
    worktree = at.folder / "day-4"
    _git(place, "worktree", "add", "-q", str(worktree), "day-4")
    python = at.folder / "python-good"
    python.write_text(f'#!/bin/sh\nPYTHONPATH={worktree} exec {sys.executable} "$@"\n')
    python.chmod(0o755)
    _in_turn(at, case, place, ["runs/week/day-4", "runs/week/day-7"], "worse")


def _in_turn(at: Theatre, case: str, build: Path, runs: Sequence[str], wanted: str) -> None:
    words = ["compare", *runs, "--ab", "--old-python", "./python-good", "--fail-on", "latency"]
    words += ["--tolerance", "latency=2%", "--json"]
    at.see(case, build, words, f"latency {wanted}", [1], lambda done: _of_comparison(done, wanted))


def _of_comparison(done: subprocess.CompletedProcess[str], wanted: str) -> tuple[str, bool]:
    if not done.stdout.startswith("{"):
        return (done.stderr.strip().splitlines() or ["nothing"])[-1], False
    numbers = [each for model in json.loads(done.stdout)["models"] for each in model["differences"]]
    wanted_at = {"batch": 4, "operation": "sample"}
    (one,) = [each for each in numbers if each["metric"] == "latency" and each["at"] == wanted_at]
    limits = f" ({one['low']:.3f} to {one['high']:.3f})" if one["low"] is not None else ""
    ratio = f": new/old {one['change']:.3f}{limits}, {one['method']}" if one["change"] is not None else ""
    return f"{one['verdict']}{ratio}", one["verdict"] == wanted


def _of_history(done: subprocess.CompletedProcess[str]) -> tuple[str, bool]:
    series = [each for each in json.loads(done.stdout or "[]") if each["number"].endswith("batch 4, sample)")]
    values = [night["value"] for each in series for night in each["nights"]]
    steps = [step for each in series for step in each["steps"]]
    first = [night["run_id"] for night in series[0]["nights"]][4] if series else ""
    shown = ", ".join(f"{value / values[0]:.2f}" for value in values)
    told = "; ".join(f"{step['told']}, first in {step['first_night']}" for step in steps) or "no step"
    return f"{shown} of the first night: {told}", [step["first_night"] for step in steps] == [first]


def _of_bisect(done: subprocess.CompletedProcess[str]) -> tuple[str, bool]:
    said = " ".join(done.stdout.split())
    return said or done.stderr.strip().splitlines()[-1], said.endswith("day 5") and "the first bad commit" in said


def _git(place: Path, *words: str) -> None:
    author = {f"GIT_{role}_{what}": "toy" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    subprocess.run(["git", "-C", str(place), *words], check=True, env={**os.environ, **author}, stdout=sys.stderr)


# ---- the table -------------------------------------------------------------------------------------------------------

PARTS: dict[str, Callable[[Theatre], None]] = {"exact": exact, "slower": slower, "week": week}


def table(lines: Sequence[Line], folder: Path) -> str:
    rows = ["| case | command | verdict it deserves | seen | exit code | seen | as it should be |"]
    rows.append("|---|---|---|---|---|---|---|")
    for each in lines:
        codes = " or ".join(map(str, each.codes))
        cells = [each.case, f"`{each.command}`", each.wanted, each.seen, codes, str(each.code)]
        cells.append("yes" if each.right else "**no**")
        text = " | ".join(cell.replace("|", "\\|").replace(f"{folder}/", "") for cell in cells)
        rows.append(f"| {text} |")
    return "\n".join(rows) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("parts", nargs="*", metavar="exact|slower|week")
    parser.add_argument("--write", type=Path)
    parser.add_argument("--keep", type=Path, help="do it here, leave all, and reuse the runs")
    given = parser.parse_args()
    if set(given.parts) - set(PARTS):
        parser.error(f"parts are {', '.join(PARTS)}")
    parts = given.parts or list(PARTS)
    tables, right = [], True
    for part in parts:
        with tempfile.TemporaryDirectory() as temporary:
            folder = (given.keep / part if given.keep else Path(temporary)).resolve()
            folder.mkdir(parents=True, exist_ok=True)
            before = os.getloadavg()[0]
            theatre = Theatre(folder)
            PARTS[part](theatre)
            load = f"load of the machine {before:.1f} before and {os.getloadavg()[0]:.1f} after, {os.cpu_count()} cores"
            tables.append(f"## {part}\n\n{table(theatre.lines, folder)}\n{load}.\n")
            right &= all(line.right for line in theatre.lines)
            print(tables[-1], flush=True)
    left = [part for part in PARTS if part not in parts]
    rest = QUIET.format(parts=" and ".join(left), command=" ".join(left)) if left else ""
    text = TEXT.format(tables="\n".join(tables), parts=" ".join(parts), rest=rest)
    if given.write:
        given.write.write_text(text, encoding="utf-8")
    sys.exit(0 if right else 1)


if __name__ == "__main__":
    main()
