"""Sampling speed of every system: our loop against a plain one, over the same weights, with the same random numbers.

    OMP_NUM_THREADS=1 python benchmarks/adapters.py [--systems VAR MAR] [--batches 1 8] [--repeats 5] [--json FILE]
    python benchmarks/adapters.py --official [--adapters GLOB ...] [--batches 1 64] [--peer FILE.py:NAME]
                                                 official sizes on a GPU, bf16, random weights

A peer is other code that samples the same networks, an official repository's for instance, which need not be here:
NAME(adapter, batch, device, dtype) gives a function without arguments that makes `batch` images, or None for an adapter
that it does not have. Ours and the peer's calls take turns.

One process; the two loops take turns, so that a machine's load falls on both, and medians are shown. What the plain
loop is: `plain_loops.py`. On one CPU thread the time is that of the processor, which other programs do not stretch.
"""

from __future__ import annotations

import argparse
import gc
import importlib.util
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from fnmatch import fnmatch
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, Literal

import torch
from plain_loops import PLAIN, Drawn, System, build
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from arbench import registry
from arbench.protocols import Card, LoadSpec
from arbench.tasks.outputs import measured_request

ON_CPU = (1, 4)
"""Batch sizes of the small networks, if none are given."""
ON_GPU = (1, 64)
"""Those of the official networks."""
BYTES = {"float32": 4, "bfloat16": 2}
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
    peer_per_second: float | None = None
    """Images a second of the peer."""
    forwards: int = 0
    """Passes of the generator through its network in a call."""
    kernels: float | None = None
    """Launched on the GPU in a call, decoding too, for each of these passes."""
    bandwidth_share: float | None = None
    """The time in which the device could read the generator's weights once a pass, over the time of a call."""

    @property
    def ratio(self) -> float | None:
        """How many times as fast as the peer ours is."""
        both = self.images_per_second and self.peer_per_second
        return self.images_per_second / self.peer_per_second if both else None  # type: ignore[operator]


Call = Callable[[], object]
Peer = Callable[[str, int, str, str], Call | None]


def peer_of(text: str) -> Peer:
    """The function behind FILE.py:NAME. Raises `ValueError` that says what is wrong."""
    path, sign, name = text.rpartition(":")
    if not sign or not Path(path).is_file():
        raise ValueError(f"{text!r} is not FILE.py:NAME of a file that exists")
    about = importlib.util.spec_from_file_location("peer", path)
    if about is None or about.loader is None:
        raise ValueError(f"{path} is not a Python file")
    module = importlib.util.module_from_spec(about)
    about.loader.exec_module(module)
    found: Peer | None = getattr(module, name, None)
    if found is None:
        raise ValueError(f"{path} has no {name!r}")
    return found


def copy_rate(device: str, size: int = 1 << 30) -> float:
    """Bytes a second, read and written, of copies within the device's memory."""
    one = torch.empty(size, dtype=torch.uint8, device=device)
    other, clock, seconds = torch.empty_like(one), clock_of(device), []
    for _ in range(10):
        start = clock()
        other.copy_(one)
        seconds.append(clock() - start)
    return 2 * size / median(seconds)


def launched(call: Call) -> int:
    """Kernels that a call launches on the GPU."""
    with profile(activities=[ProfilerActivity.CUDA]) as seen:
        call()
        torch.cuda.synchronize()
    return sum(event.device_type == DeviceType.CUDA for event in seen.events())


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
    peer: Peer | None = None,
    bandwidth: float | None = None,
) -> list[Measured]:
    """Images a second from request to pixels, and the peak of torch's allocator, weights included, per batch size.

    The peak is of our calls, before the peer is there. `bandwidth`: bytes a second that the device can move.
    """
    cuda, spec = device.startswith("cuda"), LoadSpec(init="random", device=device, dtype=dtype)
    found, clock = [], clock_of(device)
    theirs = registry.card(card.tokenizer) if card.tokenizer else None
    try:
        tokenizer = registry.resolve(theirs.implementation).load(theirs, spec) if theirs else None
        model = registry.resolve(card.implementation).load(card, spec, tokenizer)
    except torch.OutOfMemoryError:
        return [Measured(card.name, card.parameters, batch, problem="out of memory") for batch in batches]

    def images(batch: int, index: int) -> int:
        made = model.sample(measured_request(card, range(index * batch, (index + 1) * batch), 0, device), card.native)
        if tokenizer is not None:
            tokenizer.decode(made.codes)
        return int(made.forwards)

    for batch in batches:
        try:
            model.prepare(batch, card.native)
            if cuda:
                torch.cuda.reset_peak_memory_stats(device)
            forwards = images(batch, 0)
            peak = torch.cuda.max_memory_allocated(device) if cuda else None
            theirs_call = peer(card.name, batch, device, dtype) if peer else None
            if theirs_call is not None:
                theirs_call()
            seconds: dict[str, list[float]] = {"ours": [], "peer": []}
            for index in range(calls):
                for who, call in (("ours", partial(images, batch, index + 1)), ("peer", theirs_call)):
                    if call is not None:
                        start = clock()
                        call()
                        seconds[who].append(clock() - start)
            taken, weights = median(seconds["ours"]), (card.parameters or 0) * BYTES[dtype]
            found.append(
                Measured(
                    card.name,
                    card.parameters,
                    batch,
                    batch / taken,
                    peak,
                    peer_per_second=batch / median(seconds["peer"]) if seconds["peer"] else None,
                    forwards=forwards,
                    kernels=launched(partial(images, batch, 0)) / max(forwards, 1) if cuda else None,
                    bandwidth_share=weights * forwards / bandwidth / taken if bandwidth and weights else None,
                )
            )
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
    peer = peer_of(arguments.peer) if arguments.peer else None
    cards = [card for card in official_cards() if any(fnmatch(card.name, glob) for glob in arguments.adapters)]
    if not cards:
        sys.exit(f"--adapters {' '.join(arguments.adapters)}: no official size has such a name (arbench ls adapters)")
    batches, rows, bandwidth = arguments.batches or ON_GPU, [], copy_rate(device)
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        bar = progress.add_task("", total=len(cards) * len(batches))
        for card in cards:
            progress.update(bar, description=card.name)
            rows += measure(card, batches, device, tick=lambda: progress.advance(bar), peer=peer, bandwidth=bandwidth)
            gc.collect()
            torch.cuda.empty_cache()
    print(
        f"{device_name(device)}, bfloat16, torch {torch.__version__}; random weights, native sampling, decoding too;"
        f" copies move {bandwidth / 1e12:.2f} TB/s\n"
    )
    table(
        (
            "adapter",
            "parameters",
            "batch",
            "images/s",
            "peer's images/s",
            "times as fast",
            "kernels a pass",
            "share of the bandwidth limit",
            "peak memory",
        ),
        [
            (
                row.adapter,
                f"{(row.parameters or 0) / 1e6:.0f}M",
                f"{row.batch}",
                row.problem or f"{row.images_per_second:.3g}",
                *(
                    "" if value is None else f"{value:{form}}"
                    for value, form in (
                        (row.peer_per_second, ".3g"),
                        (row.ratio, ".2f"),
                        (row.kernels, ".0f"),
                        (row.bandwidth_share, ".1%"),
                    )
                ),
                "" if row.peak_bytes is None else f"{row.peak_bytes / 2**30:.2f} GiB",
            )
            for row in rows
        ],
    )
    write(arguments, [asdict(row) | {"ratio": row.ratio} for row in rows])


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
    parser.add_argument("--batches", nargs="+", type=int, help="1 4, or 1 64 with --official")
    parser.add_argument("--repeats", type=int, default=5)
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
