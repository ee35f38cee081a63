"""How near the systems come to what the device allows, as one table: measured by `arbench run speed`, or of such a run.

    python benchmarks/limits.py [--run DIR] [--adapters 'raster/*' ...] [--max-params N] [--write FILE.md]

Official sizes with random weights in bfloat16, of every family, batches 1 and 64: latency with its interval, FLOP and
bytes of a call, kernels, the speed-of-light time, and the share of it that is reached. Without --run it needs a GPU.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

SUITE = """
suite: limits
adapters: {adapters}
settings: {{init: random, dtype: bfloat16, device: cuda, max_params: {most}}}
tasks:
  - speed: {{batches: [1, 64], processes: 3, min_seconds: 2, max_seconds: 30}}
"""
FAMILIES = ("raster/*", "next_scale/*", "random_order/*", "continuous/*", "hybrid/*")
HEADS = (
    *("adapter", "batch", "latency [ms]", "95 % interval", "GFLOP", "GB", "kernels", "speed of light [ms]"),
    *("share reached", "flags"),
)


def measured(adapters: Sequence[str], most: int, folder: Path) -> Path:
    """The folder of a run of this on the GPU."""
    suite, out = folder / "suite.yaml", folder / "run"
    suite.write_text(SUITE.format(adapters=json.dumps(list(adapters)), most=most), encoding="utf-8")
    subprocess.run(
        [sys.executable, "-m", "arbench", "run", str(suite), "--out", str(out), "--track", "off"], check=True
    )
    return out


def rows_of(run: Path) -> list[tuple[str, ...]]:
    """A row for each system and batch size of a run, as texts; "-" for what is null."""
    frame = pd.read_parquet(run / "results.parquet")
    places = [json.loads(text or "{}") for text in frame["at"]]
    frame["batch"] = [place.get("batch") if place.get("operation") == "sample" else None for place in places]
    rows = []
    for (adapter, batch), found in frame.dropna(subset="batch").groupby(["adapter", "batch"], sort=False):
        numbers = found.drop_duplicates("metric").set_index("metric")

        def shown(name: str, scale: float, form: str, of: pd.DataFrame = numbers) -> str:
            value: Any = of["value"].get(name)
            return "-" if value is None or pd.isna(value) else f"{value * scale:{form}}"

        latency = numbers.loc["latency"]
        ends = "-" if pd.isna(latency["low"]) else f"{1e3 * latency['low']:.3g} to {1e3 * latency['high']:.3g}"
        rows.append(
            (
                str(adapter),
                f"{batch:.0f}",
                shown("latency", 1e3, ".4g"),
                ends,
                shown("flops", 1e-9, ".4g"),
                shown("traffic", 1e-9, ".4g"),
                shown("kernels", 1, ".0f"),
                shown("speed-of-light", 1e3, ".3g"),
                shown("limit-share", 100, ".1f") + " %",
                ", ".join(str(latency["flags"] or "").split()),
            )
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--run", type=Path, help="a folder of `arbench run speed`; nothing is measured then")
    parser.add_argument("--adapters", nargs="+", default=FAMILIES)
    parser.add_argument("--max-params", type=int, default=1_000_000_000)
    parser.add_argument("--write", type=Path, help="a file for the table, in Markdown")
    given = parser.parse_args()
    if given.run is not None:
        rows = rows_of(given.run)
    else:
        import torch

        if not torch.cuda.is_available():
            sys.exit("torch finds no CUDA device on this machine; --run DIR shows a run of another one")
        with tempfile.TemporaryDirectory() as folder:
            rows = rows_of(measured(given.adapters, given.max_params, Path(folder)))
    lines = ["| " + " | ".join(row) + " |" for row in (HEADS, ("---",) * len(HEADS), *rows)]
    print("\n".join(lines))
    if given.write:
        given.write.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
