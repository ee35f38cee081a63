"""50,000 samples through `arbench run` and `arbench score` on a CPU: memory over time, and time by number of samples.

    python benchmarks/fifty_thousand.py [--n 500 5000 50000] [--repeats 3] [--out docs] > docs/fifty-thousand.md

A toy generator and a toy feature network (`benchmarks/toy`), so that the time is mostly the harness's own; the features
are 64 numbers of an image of 32 x 32. Each command is a process of its own; memory is that of it and all its workers,
twice a second. One run that is not counted comes first; all n but the largest are done `repeats` times.

Whether time is linear is told by what is written down of each unit: the seconds that the worker took for it (sampling,
features, writing), and when it was in the journal; the first of a run, which loads the model too, is left out. Whole
commands are shown too; starting is most of those of few samples.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from statistics import median

from watched import Watched, watched

SUITE = """suite: fifty-thousand
adapters: [other/toy]
settings: {{device: cpu}}
tasks:
  - generate: {{n: {n}, conventions: [toy], metrics: [frechet, kid], reference: mnist5k/heldout, size: 32}}
"""

HEAD = """# {most:,} samples on a CPU

`python benchmarks/fifty_thousand.py > docs/fifty-thousand.md`: a toy generator and a toy feature network of a few
convolutions, images of 32 x 32 and 64 features of each, Frechet distance and KID against `mnist5k/heldout`. It is
`arbench run` with {workers} worker, then `arbench score` of that run, each a process of its own, on {cores} cores of a
CPU, after one run that is not counted. In the quarter of an hour before the end {busy:.1f} jobs a core were at work
there, this one among them: above 1, wall seconds tell mostly of the others.

## Is time linear?

The seconds of each unit of 64 samples are its worker's, as the journal has them: sampling, features and the file. The
first unit of a run, which loads the model too, is left out.
"""

COMMANDS = """
## Whole commands

Medians of {repeats}, but {most:,} samples were done once. RSS is summed over the command and its workers, which counts
what they share (torch's libraries) in each; PSS counts it once. Starting, the reference and the report take the same
for any number of samples. `arbench score` reads the features that the run has kept: starting is most of its time.
"""


@dataclass(frozen=True)
class Turn:
    """One run of n samples and its score. `units` are of the run, in order and without the first: (samples, seconds of
    the worker, when it was in the journal, in seconds of the clock)."""

    verbs: dict[str, Watched]
    units: tuple[tuple[int, float, float], ...]

    @property
    def thousand(self) -> float:
        """Seconds of the workers for 1,000 samples."""
        return 1000 * sum(seconds for _, seconds, _ in self.units) / sum(samples for samples, _, _ in self.units)


def measured(n: int, workers: int, folder: Path) -> Turn:
    """The verbs "run" and "score" of n samples."""
    folder.mkdir()
    (folder / "suite.yaml").write_text(SUITE.format(n=n))
    run = ["run", "suite.yaml", "--out", "run", "--track", "off", "--workers", workers]
    score = ["score", "run", "-c", "toy", "--out", "score", "--track", "off"]
    verbs = {"run": watched(run, folder), "score": watched(score, folder)}
    records = map(json.loads, (folder / "run" / "journal.jsonl").read_text().splitlines())
    return Turn(verbs, tuple(_unit(record) for record in records if record["kind"] == "unit")[1:])


def _unit(record: dict[str, object]) -> tuple[int, float, float]:
    at = datetime.fromisoformat(str(record["time"])).timestamp()
    return int(str(record["samples"])), float(str(record["seconds"])), at


def figure(found: dict[int, Turn], out: Path) -> None:
    """Memory over time of the largest n, and of the one before it, as SVG and PNG."""
    from matplotlib.figure import Figure

    drawing = Figure(figsize=(7.6, 3.4), layout="constrained")
    for axes, verb in zip(drawing.subplots(1, 2, sharey=True), ("run", "score"), strict=True):
        for n, color in zip(sorted(found, reverse=True), ("#0072b2", "#d55e00", "#009e73"), strict=False):
            own = found[n].verbs[verb]
            samples = own.samples
            x = [seconds / own.seconds for seconds, _, _ in samples]
            axes.plot(x, [rss for _, rss, _ in samples], color=color, label=f"{n:,}, RSS")
            if all(pss is not None for _, _, pss in samples):
                axes.plot(x, [pss or 0 for _, _, pss in samples], color=color, linestyle=":", label=f"{n:,}, PSS")
        axes.axhline(2000, color="#5b6672", linewidth=0.8, linestyle="--")
        axes.set_title(f"arbench {verb}", loc="left", fontsize=10)
        axes.set_xlabel("part of the command's time")
        axes.set_ylim(0, 2200)
        axes.grid(True, linewidth=0.4)
    drawing.axes[0].set_ylabel("memory of all processes, MB")
    drawing.axes[1].legend(fontsize=8, ncols=2, loc="center right")
    drawing.savefig(out / "fifty-thousand.svg", metadata={"Date": None})
    drawing.savefig(out / "fifty-thousand.png", dpi=110, metadata={"Software": None})


def linear(found: dict[int, list[Turn]], part: int) -> list[str]:
    """The ratio of the workers' seconds, and each `part` samples of the largest n by themselves."""
    less, more = sorted(found)[-2:]
    turns, whole = found[less], found[more][0]
    few = median(turn.thousand for turn in turns)
    spread = ", ".join(f"{turn.thousand:.3f}" for turn in turns)
    ratio = whole.thousand / few * more / less
    lines = [
        f"1,000 of {less:,} samples took {few:.3f} s (the median of {spread}), 1,000 of {more:,} took"
        f" {whole.thousand:.3f} s: {more:,} samples take **{ratio:.2f} times** as long as {less:,}.\n",
        f"The {more:,} samples, {part:,} after {part:,} (to the next whole unit):\n",
        "| samples | seconds of the worker, per 1,000 | wall seconds between journal records, per 1,000 |",
        "|---:|---:|---:|",
    ]
    own: list[float] = []
    total = sum(samples for samples, _, _ in whole.units)
    done, since, first, seconds = 0, whole.units[0][2] - whole.units[0][1], 0, 0.0
    for samples, took, at in whole.units:
        done, seconds = done + samples, seconds + took
        if done == total or (done - first >= part and total - done >= part // 2):
            own.append(1000 * seconds / (done - first))
            lines.append(f"| {first:,} to {done:,} | {own[-1]:.3f} | {1000 * (at - since) / (done - first):.3f} |")
            since, first, seconds = at, done, 0.0
    return [*lines, f"\nThe last took {own[-1] / own[0]:.2f} times what the first took, by the worker's seconds."]


def rows(found: dict[int, list[Turn]]) -> list[str]:
    """A row per verb and n."""
    lines = ["| | samples | wall, s | processor, s | peak RSS, MB | peak PSS, MB |", "|---|---:|---:|---:|---:|---:|"]
    for verb in ("run", "score"):
        for n, turns in found.items():
            own = [turn.verbs[verb] for turn in turns]
            wall, cpu = median(each.seconds for each in own), median(each.cpu for each in own)
            shared = [each.peak_shared_once for each in own if each.peak_shared_once is not None]
            pss = f"{max(shared):,.0f}" if shared else "not told"
            peak = max(each.peak for each in own)
            lines.append(f"| {verb} | {n:,} | {wall:.1f} | {cpu:.1f} | {peak:,.0f} | {pss} |")
    return lines


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, nargs="+", default=[500, 5000, 50_000])
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("docs"))
    given = parser.parse_args()
    numbers = sorted(given.n)
    if len(numbers) < 2:
        parser.error("--n: at least two numbers, for the largest is held against the one before it")
    found: dict[int, list[Turn]] = {n: [] for n in numbers}
    with tempfile.TemporaryDirectory() as name:
        measured(numbers[0], given.workers, Path(name) / "warming")
        for turn in range(given.repeats):
            for n in numbers if turn == 0 else numbers[:-1]:
                found[n].append(measured(n, given.workers, Path(name) / f"{n}-{turn}"))
                for verb, own in found[n][-1].verbs.items():
                    print(f"{verb} {n}: {own.seconds:.1f} s, {own.cpu:.1f} s, {own.peak:.0f} MB", file=sys.stderr)
        figure({n: turns[0] for n, turns in found.items()}, given.out)
    busy = os.getloadavg()[2] / (os.cpu_count() or 1)
    print(HEAD.format(most=numbers[-1], cores=os.cpu_count(), busy=busy, workers=given.workers))
    print("\n".join(linear(found, numbers[-2])))
    print(COMMANDS.format(repeats=given.repeats, most=numbers[-1]))
    print("\n".join(rows(found)))
    print("\n![Memory over time](fifty-thousand.png)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
