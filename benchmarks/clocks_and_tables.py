"""What the benchmarks of the adapters share: the clock of a device, and how numbers are shown and kept."""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from rich.console import Console
from rich.table import Table

Dtype = Literal["float32", "bfloat16"]


def clock_of(device: str) -> Callable[[], float]:
    """Seconds: of the processor where one thread does all, else of the clock on the wall once the device is done."""
    if device == "cpu":
        return time.process_time if torch.get_num_threads() == 1 else time.perf_counter

    def waited() -> float:
        torch.cuda.synchronize(device)
        return time.perf_counter()

    return waited


def device_name(device: str) -> str:
    return torch.cuda.get_device_name(device) if device.startswith("cuda") else "CPU"


def median_interval(values: Sequence[float]) -> tuple[float, float] | None:
    """Bounds that hold the median of what `values` are drawn from at 95 % or more; None for fewer than six.

    The k-th from either end, whatever the distribution is: half of all draws lie below its median.
    """
    count, below, k = len(values), 0, 0
    while (below := below + math.comb(count, k)) <= 0.025 * 2**count:
        k += 1
    ordered = sorted(values)
    return (ordered[k - 1], ordered[-k]) if k else None


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
