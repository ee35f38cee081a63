"""How fast images are decoded for a device, in threads and in processes, and what that takes of who feeds the device.

    OMP_NUM_THREADS=1 python benchmarks/decoding.py [--n 4000] [--repeats 5] [--workers 1,2]

PNG and JPEG files of 32 x 32 and 256 x 256 (crops of a photograph) are read to the end by turns. At 32 x 32 pixels
take next to nothing, so that what is left is Python's: of threads only one at a time can do it. "Owner" is the
processor time of the process that would feed the device, "others" that of its processes, their start included.
"""

from __future__ import annotations

import argparse
import itertools
import resource
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np
import skimage.data
from PIL import Image
from rich.console import Console

from arbench.data.sources import open_stream

SIZES, FORMATS, WAYS = (32, 256), ("png", "jpg"), ("threads", "processes")


@dataclass(frozen=True, slots=True)
class Reading:
    """Of one set, read once: images a second after the first, its delay, and milliseconds of processors an image."""

    rate: float
    first: float
    owner: float
    others: float


def write(folder: Path, count: int, size: int, suffix: str) -> Path:
    draw, photograph = np.random.default_rng(0), skimage.data.astronaut()
    folder.mkdir()
    for index in range(count):
        y, x = draw.integers(0, 512 - size, 2)
        Image.fromarray(photograph[y : y + size, x : x + size]).save(folder / f"{index}.{suffix}")
    return folder


def read(folder: Path, way: str, workers: int) -> Reading:
    stream = open_stream(folder, workers=workers)
    if way == "processes":
        stream.decode_in_processes()
    owner, others, started = time.process_time(), of_children(), time.perf_counter()
    pictures, count = iter(stream), 1
    next(pictures)
    first = time.perf_counter()
    for _ in pictures:
        count += 1
    rate = (count - 1) / (time.perf_counter() - first)
    taken = time.process_time() - owner, of_children() - others
    return Reading(rate, first - started, *(1e3 * each / count for each in taken))


def of_children() -> float:
    """Processor seconds of the processes that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=4000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--workers", type=lambda text: [int(each) for each in text.split(",")], default=[1, 2])
    given = parser.parse_args()
    print("| images | decoded in | images/s | range | first after, s | owner, ms/image | others, ms/image |")
    print("|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as root, Console(stderr=True).status("") as shown:
        for suffix, size in itertools.product(FORMATS, SIZES):
            shown.update(f"writing {given.n} files, {suffix} of {size}")
            folder = write(Path(root) / f"{suffix}{size}", given.n, size, suffix)
            ways = list(itertools.product(given.workers, WAYS))
            found: dict[tuple[int, str], list[Reading]] = {way: [] for way in ways}
            for turn in range(given.repeats):
                for workers, way in ways:
                    shown.update(f"{suffix} of {size}, turn {turn + 1} of {given.repeats}: {workers} {way}")
                    found[workers, way].append(read(folder, way, workers))
            for (workers, way), several in found.items():
                rates = [each.rate for each in several]
                rest = (median(part) for part in zip(*((s.first, s.owner, s.others) for s in several), strict=True))
                cells = [f"{suffix} {size}", f"{workers} {way}", f"{median(rates):,.0f}"]
                cells += [f"{min(rates):,.0f} to {max(rates):,.0f}", *(f"{each:.3f}" for each in rest)]
                print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
