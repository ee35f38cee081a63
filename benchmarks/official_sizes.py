"""Speed and memory of adapters of official size on a GPU, alone or beside other code that samples the same networks."""

from __future__ import annotations

import argparse
import gc
import importlib.util
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from fnmatch import fnmatch
from functools import partial
from pathlib import Path
from statistics import median

import torch
from clocks_and_tables import Dtype, clock_of, device_name, table, write
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from arbench import registry
from arbench.measure.kernels import launched
from arbench.protocols import Card, LoadSpec
from arbench.tasks.outputs import measured_request

ON_GPU = (1, 64)
"""Batch sizes, if none are given."""
BYTES = {"float32": 4, "bfloat16": 2}


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
            kernels = launched(partial(images, batch, 0), device).kernels
            found.append(
                Measured(
                    card.name,
                    card.parameters,
                    batch,
                    batch / taken,
                    peak,
                    peer_per_second=batch / median(seconds["peer"]) if seconds["peer"] else None,
                    forwards=forwards,
                    kernels=None if kernels is None else kernels / max(forwards, 1),
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
