"""Sampling speed of every system: our loop against a plain one, over the same weights, with the same random numbers.

    OMP_NUM_THREADS=1 python benchmarks/adapters.py [--systems VAR MAR] [--batches 1 8] [--repeats 5] [--json FILE]
    python benchmarks/adapters.py --official     every official size on a GPU, bf16, random weights

One process; the two loops take turns, so that a machine's load falls on both, and medians are shown. What the plain
loop is: `plain_loops.py`. On one CPU thread the time is that of the processor, which other programs do not stretch.
"""

from __future__ import annotations

import argparse
import gc
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any, Literal

import torch
from plain_loops import PLAIN, Drawn, System, build
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from torch import Tensor

from arbench import registry
from arbench.protocols import Card, LoadSpec
from arbench.tasks.outputs import measured_request

ON_GPU = (1, 64)
"""Batch sizes of the official networks."""
SAME = 1e-4
"""Largest relative difference of latents at which a sample counts as the same: steps of diffusion add up rounding."""

Dtype = Literal["float32", "bfloat16"]

# ---- ours against plain ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Row:
    """One system at one batch size: seconds of a call and what follows from them."""

    system: str
    batch: int
    tokens: int
    ours_s: float
    plain_s: float
    same: int
    """Samples that are the same by both loops: all tokens, and latents but for rounding."""

    @property
    def ratio(self) -> float:
        """How many times as fast ours is."""
        return self.plain_s / self.ours_s

    def rate(self, seconds: float) -> tuple[float, float]:
        """Tokens and images a second."""
        return self.batch * self.tokens / seconds, self.batch / seconds


def clock_of(device: str) -> Callable[[], float]:
    """Seconds: of the processor where one thread does all, else of the clock on the wall once the device is done."""
    if device == "cpu":
        return time.process_time if torch.get_num_threads() == 1 else time.perf_counter

    def waited() -> float:
        torch.cuda.synchronize(device)
        return time.perf_counter()

    return waited


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
    """Both loops in turn, `repeats` times after a first time that is not counted; `tick` is called after each turn."""
    loops = (system.by_ours, system.by_plain)
    seconds: tuple[list[float], list[float]] = ([], [])
    drawn = [loop(system.request(batch)) for loop in loops]
    tick()
    for _ in range(repeats):
        for loop, into in zip(loops, seconds, strict=True):
            request = system.request(batch)
            start = clock()
            loop(request)
            into.append(clock() - start)
        tick()
    ours, plain = (median(each) for each in seconds)
    return Row(system.name, batch, system.tokens, ours, plain, same_samples(drawn[0], drawn[1]))


def compare(arguments: argparse.Namespace) -> None:
    device, clock, rows = arguments.device, clock_of(arguments.device), []
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
        ("system", "tokens", "batch", "tokens/s", "plain", "images/s", "plain", "times as fast", "same samples"),
        [
            (
                row.system,
                f"{row.tokens}",
                f"{row.batch}",
                *(f"{row.rate(s)[i]:.{i and 2}f}" for i in (0, 1) for s in (row.ours_s, row.plain_s)),
                f"{row.ratio:.2f}",
                f"{row.same} of {row.batch}",
            )
            for row in rows
        ],
    )
    write(arguments, [asdict(row) | {"ratio": row.ratio} for row in rows])


# ---- official sizes --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Measured:
    """A network of official size at one batch size; `problem` says why there are no numbers."""

    adapter: str
    parameters: int | None
    batch: int
    images_per_second: float | None = None
    peak_bytes: int | None = None
    problem: str = ""


def official_cards() -> list[Card]:
    """Generators as they were published, small to large within a family."""
    cards = [card for card in registry.cards().values() if card.kind == "generator" and not shipped(card)]
    families = list(dict.fromkeys(card.family for card in cards))
    return sorted(cards, key=lambda card: (families.index(card.family), card.parameters or 0))


def shipped(card: Card) -> bool:
    return card.checkpoint is not None and card.checkpoint.packaged


def measure(
    card: Card,
    batches: Sequence[int],
    device: str,
    dtype: Dtype = "bfloat16",
    *,
    calls: int = 3,
    tick: Callable[[], object] = lambda: None,
) -> list[Measured]:
    """Images a second from request to pixels, and the peak of torch's allocator, weights included, per batch size."""
    cuda, spec = device.startswith("cuda"), LoadSpec(init="random", device=device, dtype=dtype)
    found, clock = [], clock_of(device)
    theirs = registry.card(card.tokenizer) if card.tokenizer else None
    try:
        tokenizer = registry.resolve(theirs.implementation).load(theirs, spec) if theirs else None
        model = registry.resolve(card.implementation).load(card, spec, tokenizer)
    except torch.OutOfMemoryError:
        return [Measured(card.name, card.parameters, batch, problem="out of memory") for batch in batches]

    def images(batch: int, index: int) -> Tensor:
        made = model.sample(measured_request(card, range(index * batch, (index + 1) * batch), 0, device), card.native)
        return made.images if tokenizer is None else tokenizer.decode(made.codes)

    for batch in batches:
        try:
            model.prepare(batch, card.native)
            if cuda:
                torch.cuda.reset_peak_memory_stats(device)
            images(batch, 0)
            seconds = []
            for index in range(calls):
                start = clock()
                images(batch, index + 1)
                seconds.append(clock() - start)
            peak = torch.cuda.max_memory_allocated(device) if cuda else None
            found.append(Measured(card.name, card.parameters, batch, batch / median(seconds), peak))
        except torch.OutOfMemoryError:
            found.append(Measured(card.name, card.parameters, batch, problem="out of memory"))
        tick()
    model.close()
    if tokenizer is not None:
        tokenizer.close()
    return found


def official(arguments: argparse.Namespace) -> None:
    if not torch.cuda.is_available():
        sys.exit("--official needs a CUDA device: torch finds none on this machine")
    device = "cuda" if arguments.device == "cpu" else arguments.device
    cards, rows = official_cards(), []
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        bar = progress.add_task("", total=len(cards) * len(ON_GPU))
        for card in cards:
            progress.update(bar, description=card.name)
            rows += measure(card, ON_GPU, device, tick=lambda: progress.advance(bar))
            gc.collect()
            torch.cuda.empty_cache()
    print(
        f"{device_name(device)}, bfloat16, torch {torch.__version__}; random weights, native sampling, decoding too\n"
    )
    table(
        ("adapter", "parameters", "batch", "images/s", "peak memory"),
        [
            (
                row.adapter,
                f"{(row.parameters or 0) / 1e6:.0f}M",
                f"{row.batch}",
                row.problem or f"{row.images_per_second:.3g}",
                "" if row.peak_bytes is None else f"{row.peak_bytes / 2**30:.2f} GiB",
            )
            for row in rows
        ],
    )
    write(arguments, [asdict(row) for row in rows])


# ---- output ----------------------------------------------------------------------------------------------------------


def device_name(device: str) -> str:
    return torch.cuda.get_device_name(device) if device.startswith("cuda") else "CPU"


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Markdown where the output goes to a file, columns on a terminal."""
    if not sys.stdout.isatty():
        print("| " + " | ".join(heads) + " |\n|" + "---|" * len(heads))
        print("\n".join("| " + " | ".join(row) + " |" for row in rows))
        return
    shown = Table(box=None, pad_edge=False)
    for index, head in enumerate(heads):
        shown.add_column(head, justify="right" if index else "left")
    for row in rows:
        shown.add_row(*row)
    Console().print(shown)


def write(arguments: argparse.Namespace, rows: list[dict[str, Any]]) -> None:
    if arguments.json:
        about = {"torch": torch.__version__, "threads": torch.get_num_threads(), "command": sys.argv[1:]}
        arguments.json.write_text(json.dumps(about | {"rows": rows}, indent=2) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--systems", nargs="+", choices=PLAIN, default=list(PLAIN), metavar="NAME", help=", ".join(PLAIN)
    )
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 4])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--threads", type=int, default=1, help="of torch on the CPU")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the numbers there")
    parser.add_argument("--official", action="store_true", help="every official size on a CUDA device instead")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    (official if arguments.official else compare)(arguments)


if __name__ == "__main__":
    main()
