"""50,000 samples through `arbench run` and `arbench score` on a CPU: memory over time, and time by number of samples.

    python benchmarks/fifty_thousand.py [--n 500 5000 50000] [--workers 1] [--out docs] > docs/fifty-thousand.md

A toy generator and a toy feature network (`benchmarks/toy`), so that the time is mostly the harness's own; the features
are 64 numbers of an image of 32 x 32. Each command is a process of its own; memory is that of it and all its workers,
twice a second. The first n is for what a command takes whatever n is, which is taken off for the ratio.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path

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
CPU. In the quarter of an hour before the end {busy:.1f} jobs a core were at work there, this one among them: above 1,
wall seconds tell mostly of the others.

RSS is summed over the command and its workers, which counts what they share (torch's libraries) in each; PSS counts it
once. What {start:,} samples take is mostly starting, the same for any number; the ratios without it are scaled so that
10 is proportional. `arbench score` reads the features that the run has kept, so that starting is most of its time.
"""


def measured(n: int, workers: int, root: Path) -> dict[str, Watched]:
    """The verbs "run" and "score" of n samples."""
    folder = root / str(n)
    folder.mkdir()
    (folder / "suite.yaml").write_text(SUITE.format(n=n))
    run = ["run", "suite.yaml", "--out", "run", "--track", "off", "--workers", workers]
    score = ["score", "run", "-c", "toy", "--out", "score", "--track", "off"]
    return {"run": watched(run, folder), "score": watched(score, folder)}


def figure(found: dict[int, dict[str, Watched]], out: Path) -> None:
    """Memory over time of the largest n, and of the one before it, as SVG and PNG."""
    from matplotlib.figure import Figure

    drawing = Figure(figsize=(7.6, 3.4), layout="constrained")
    for axes, verb in zip(drawing.subplots(1, 2, sharey=True), ("run", "score"), strict=True):
        for n, color in zip(sorted(found, reverse=True), ("#0072b2", "#d55e00", "#009e73"), strict=False):
            samples = found[n][verb].samples
            x = [seconds / found[n][verb].seconds for seconds, _, _ in samples]
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


def rows(found: dict[int, dict[str, Watched]]) -> list[str]:
    """A row per verb and n, then the ratios of the largest n to the one before it."""
    lines = ["| | samples | wall, s | processor, s | peak RSS, MB | peak PSS, MB |", "|---|---:|---:|---:|---:|---:|"]
    for verb in ("run", "score"):
        for n, each in found.items():
            own = each[verb]
            pss = "not told" if own.peak_shared_once is None else f"{own.peak_shared_once:,.0f}"
            lines.append(f"| {verb} | {n:,} | {own.seconds:.1f} | {own.cpu:.1f} | {own.peak:,.0f} | {pss} |")
    start, less, more = sorted(found)[0], *sorted(found)[-2:]
    lines += ["", f"| {more:,} samples over {less:,} | wall | processor |", "|---|---:|---:|"]
    for verb in ("run", "score"):
        a, b, c = (found[n][verb] for n in (start, less, more))
        lines.append(f"| {verb} | {c.seconds / b.seconds:.2f} | {c.cpu / b.cpu:.2f} |")
        if start < less:
            scale = (less - start) / (more - start) * more / less  # of a line through the origin, exactly more / less
            wall, cpu = ((c.seconds - a.seconds) / (b.seconds - a.seconds), (c.cpu - a.cpu) / (b.cpu - a.cpu))
            lines.append(f"| {verb}, without what {start:,} take | {wall * scale:.2f} | {cpu * scale:.2f} |")
    return lines


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, nargs="+", default=[500, 5000, 50_000])
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("docs"))
    given = parser.parse_args()
    found = {}
    with tempfile.TemporaryDirectory() as name:
        for n in sorted(given.n):
            found[n] = measured(n, given.workers, Path(name))
            for verb, own in found[n].items():
                print(f"{verb} {n}: {own.seconds:.1f} s, {own.cpu:.1f} s, {own.peak:.0f} MB", file=sys.stderr)
        figure(found, given.out)
    busy = os.getloadavg()[2] / (os.cpu_count() or 1)
    print(HEAD.format(most=max(given.n), cores=os.cpu_count(), busy=busy, workers=given.workers, start=min(given.n)))
    print("\n".join(rows(found)))
    print("\n![Memory over time](fifty-thousand.png)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
