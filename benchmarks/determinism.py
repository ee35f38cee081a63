"""Are samples the same at any batch size and in any number of processes? Tokens and images, compared bitwise.

python benchmarks/determinism.py [--n 1000]
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

ADAPTERS = ("raster/llamagen-mini", "next_scale/var-mini")
RUNS = {"batch 64, 1 process": (64, 1), "batch 7, 1 process": (7, 1), "batch 1, 3 processes": (1, 3)}


def generate(folder: Path, n: int, batch: int, workers: int) -> None:
    suite = folder.with_suffix(".yaml")
    suite.write_text(
        f"suite: repeat\nadapters: [{', '.join(ADAPTERS)}]\ntasks:\n  - generate: {{n: {n}, batch: {batch}}}\n"
    )
    words = ["run", str(suite), "--out", str(folder), "--workers", str(workers), "--track", "off"]
    subprocess.run([sys.executable, "-m", "arbench", *words], check=True, stdout=subprocess.DEVNULL)


def samples(folder: Path, adapter: str) -> tuple[np.ndarray, np.ndarray]:
    """Tokens (n, L) and images (n, 3, H, W) of a run."""
    for path in folder.glob("cells/*/result.json"):
        if json.loads(path.read_text())["adapter"] == adapter:
            units = [np.load(unit) for unit in sorted((path.parent / "units").glob("*.npz"))]
            return tuple(np.concatenate([unit[name] for unit in units]) for name in ("tokens", "images"))
    raise SystemExit(f"no cell of {adapter} in {folder}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, default=1000)
    n = parser.parse_args().n
    with tempfile.TemporaryDirectory() as root:
        folders = {name: Path(root) / str(index) for index, name in enumerate(RUNS)}
        for name, (batch, workers) in RUNS.items():
            generate(folders[name], n, batch, workers)
        first, *others = RUNS
        print(f"| adapter | run | samples with the same tokens as {first} | of these, same images |\n|---|---|---|---|")
        for adapter in ADAPTERS:
            tokens, images = samples(folders[first], adapter)
            for name in others:
                other_tokens, other_images = samples(folders[name], adapter)
                same = (tokens == other_tokens).all(1)
                equal = (images == other_images)[same].all((1, 2, 3)).sum()
                print(f"| {adapter} | {name} | {same.sum()} of {n} | {equal} of {same.sum()} |")


if __name__ == "__main__":
    main()
