"""Sampling speed of every system: our loop against a plain one, over the same weights, with the same random numbers.

    OMP_NUM_THREADS=1 python benchmarks/adapters.py [--systems VAR MAR] [--batches 1 8] [--repeats 5] [--json FILE]
    python benchmarks/adapters.py --official [--adapters GLOB ...] [--batches 1 64] [--peer FILE.py:NAME]
                                                 official sizes on a GPU, bf16, random weights

A peer is other code that samples the same networks, an official repository's for instance, which need not be here:
NAME(adapter, batch, device, dtype) gives a function without arguments that makes `batch` images, or None for an adapter
that it does not have. Ours and the peer's calls take turns.

One process; the two loops take turns, so that a machine's load falls on both, and medians are shown, of seconds and of
the ratio within each turn, with the interval that holds that median at 95 % from six turns on. What the plain loops
are: `plain_loops.py` and the modules that it names. On one CPU thread the time is that of the processor, which other
programs do not stretch.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

import torch
from cached_loops import Drawn
from clocks_and_tables import clock_of, device_name, median_interval, table, write
from official_sizes import official
from plain_loops import NAMES, System, build
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

ON_CPU = (1, 4)
"""Batch sizes of the small networks, if none are given."""
SAME = 1e-4
"""Largest relative difference of latents at which a sample counts as the same: steps of diffusion add up rounding."""


@dataclass(frozen=True, slots=True)
class Row:
    """One system at one batch size: seconds of a call and what follows from them."""

    system: str
    batch: int
    tokens: int
    ours_s: float
    plain_s: float
    ratio: float
    """How many times as fast ours is: the median over turns, in each of which both ran."""
    interval: tuple[float, float] | None
    """Of that median, at 95 %; None for fewer than six turns."""
    same: int
    """Samples that are the same by both loops: all tokens, and latents but for rounding."""

    def rate(self, seconds: float) -> tuple[float, float]:
        """Tokens and images a second."""
        return self.batch * self.tokens / seconds, self.batch / seconds


def same_samples(one: Drawn, other: Drawn) -> int:
    """How many samples of two batches are the same."""
    same = torch.ones((), dtype=torch.bool)
    for ours, theirs in zip(one, other, strict=True):
        if ours is not None and theirs is not None:
            near = (ours - theirs).flatten(1).double().norm(dim=1) <= SAME * theirs.flatten(1).double().norm(dim=1)
            equal = (ours == theirs).flatten(1).all(1)
            same = same.to(equal.device) & (near if ours.is_floating_point() else equal)
    return int(same.sum())


def against_plain(
    system: System, batch: int, repeats: int, clock: Callable[[], float], tick: Callable[[], object] = lambda: None
) -> Row:
    """Both loops in turn, `repeats` times after a first time that is not counted, one first and then the other.

    `tick` is called after each turn.
    """
    loops = (system.by_ours, system.by_plain)
    seconds: tuple[list[float], list[float]] = ([], [])
    drawn = [loop(system.request(batch)) for loop in loops]
    tick()
    for turn in range(repeats):
        for loop, into in list(zip(loops, seconds, strict=True))[:: -1 if turn % 2 else 1]:
            request = system.request(batch)
            start = clock()
            loop(request)
            into.append(clock() - start)
        tick()
    ours, plain = (median(each) for each in seconds)
    ratios = [theirs / mine for mine, theirs in zip(*seconds, strict=True)]
    same = same_samples(drawn[0], drawn[1])
    return Row(system.name, batch, system.tokens, ours, plain, median(ratios), median_interval(ratios), same)


def compare(arguments: argparse.Namespace) -> None:
    device, clock, rows = arguments.device, clock_of(arguments.device), []
    arguments.batches = arguments.batches or list(ON_CPU)
    total = len(arguments.systems) * len(arguments.batches) * (arguments.repeats + 1)
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        bar = progress.add_task("building", total=total)
        for name in arguments.systems:
            system = build(name, "middle", device, arguments.dtype)
            for batch in arguments.batches:
                progress.update(bar, description=f"{name}, batch {batch}")
                rows.append(against_plain(system, batch, arguments.repeats, clock, lambda: progress.advance(bar)))
            system.model.close()
    timed = "processor time" if clock is time.process_time else "wall time"
    where = f"{device_name(device)}, {arguments.dtype}, torch {torch.__version__}"
    threads = f", {torch.get_num_threads()} thread(s)" if device == "cpu" else ""
    print(f"{where}{threads}; medians of {arguments.repeats} turns, {timed}\n")
    table(
        (
            "system",
            "tokens",
            "batch",
            "tokens/s",
            "plain",
            "images/s",
            "plain",
            "times as fast",
            "95 %",
            "same samples",
        ),
        [
            (
                row.system,
                f"{row.tokens}",
                f"{row.batch}",
                *(f"{row.rate(s)[i]:.{i and 2}f}" for i in (0, 1) for s in (row.ours_s, row.plain_s)),
                f"{row.ratio:.3f}",
                "{:.3f} to {:.3f}".format(*row.interval) if row.interval else "",
                f"{row.same} of {row.batch}",
            )
            for row in rows
        ],
    )
    write(arguments, [asdict(row) for row in rows])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--systems", nargs="+", choices=NAMES, default=list(NAMES), metavar="NAME", help=", ".join(NAMES)
    )
    parser.add_argument("--batches", nargs="+", type=int, help="1 4, or 1 64 with --official")
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--threads", type=int, default=1, help="of torch on the CPU")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the numbers there")
    parser.add_argument("--official", action="store_true", help="official sizes on a CUDA device instead")
    parser.add_argument("--adapters", nargs="+", default=["*"], metavar="GLOB", help="official sizes with such names")
    parser.add_argument("--peer", metavar="FILE.py:NAME", help="other code to measure beside the official sizes")
    arguments = parser.parse_args()
    if arguments.peer and not arguments.official:
        parser.error("--peer stands beside --official; the plain loops are the peers of the small networks")
    torch.set_num_threads(arguments.threads)
    (official if arguments.official else compare)(arguments)


if __name__ == "__main__":
    main()
