"""A run folder as a run leaves it: real models, real npz files, four generators (one out of memory), two tokenizers."""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from arbench.files import digest
from arbench.gallery import Gallery
from arbench.images import pack
from arbench.spec.identity import identity
from arbench.spec.result import Interval, Metric, PhaseTime, Provenance, ReferenceSet, Result, SetSummary, SpeedRecord
from arbench.spec.sampling import Guidance, Sampling

DEVICE = "cpu: 2 threads of an example processor"
PROVENANCE = Provenance(
    arbench="0.1.0",
    git="0123abc",
    python="3.12.3",
    packages={"torch": "2.15.0", "numpy": "2.3.1"},
    platform="Linux-6.1-x86_64",
    device=DEVICE,
    threads=2,
    weights={"raster/llamagen-mini": "5f" * 32},
    data={"mnist5k/heldout": "ab" * 16},
    environment={"OMP_NUM_THREADS": "2"},
)
HELDOUT = ReferenceSet(name="mnist5k/heldout", digest="cd" * 16)
NO_INCEPTION = "no weights of inception: arbench weights fetch inception, or --weights inception=PATH"
GENERATORS = {
    # name: (family, frechet, half width, class agreement, seconds at batch 1, seconds at batch 16)
    "raster/llamagen-mini": ("raster", 12.84, 0.62, 0.911, 0.412, 0.951),
    "next_scale/var-mini": ("next_scale", 9.71, 0.55, 0.948, 0.0441, 0.187),
    "random_order/maskgit-mini": ("random_order", 10.02, 0.58, 0.941, 0.0913, 0.402),
    "continuous/mar-mini": ("continuous", 15.2, 0.9, 0.871, 1.31, 4.02),
}
TOKENIZERS = {"tokenizers/llamagen-mini": (23.41, 0.12, 9), "tokenizers/var-mini": (25.02, 0.14, 5)}


def digits(ids: np.ndarray, seed: int, side: int = 28) -> np.ndarray:
    """(k, 3, side, side) uint8 pictures of `id % 10`, a little different for each seed."""
    rng = np.random.default_rng(seed)
    images = []
    for number in ids:
        picture = Image.new("L", (side, side), 0)
        spot = (side * 0.28 + rng.integers(-2, 3), side * 0.05 + rng.integers(-2, 3))
        ImageDraw.Draw(picture).text(spot, str(number % 10), fill=int(rng.integers(170, 256)), font_size=side * 0.78)
        noisy = np.asarray(picture, dtype=np.int16) + rng.integers(-14, 15, (side, side))
        images.append(np.repeat(noisy.clip(0, 255).astype(np.uint8)[None], 3, axis=0))
    return np.stack(images)


def interval(value: float, half: float, method: str = "bootstrap over samples") -> Interval:
    return Interval(low=value - half, high=value + half, method=method)


def metric(name: str, value: float | None, half: float | None = None, **rest: Any) -> Metric:
    fields = {"n": 1000, "direction": "lower"} | rest
    span = interval(value, half) if value is not None and half is not None else None
    return Metric(name=name, value=value, interval=span, **fields)


def write_cell(folder: Path, result: Result, files: dict[str, bytes] | None = None) -> None:
    cell = folder / "cells" / result.result_id
    cell.mkdir(parents=True)
    for name, data in (files or {}).items():
        (cell / name).write_bytes(data)
    (cell / "result.json").write_text(result.model_dump_json(indent=1))


def make_result(adapter: str, kind: str, family: str, task: str, **rest: Any) -> Result:
    sampling = Sampling(guidance=Guidance(scale=2.0), top_k=100) if kind == "generator" else None
    shared = {"adapter": adapter, "dtype": "float32"}
    parameters = {
        "generate": {"reference": "mnist5k/heldout", "n": 1000},
        "reconstruct": {"data": "mnist5k/heldout", "n": 1000},
    }
    fields: dict[str, Any] = {
        "result_id": identity([adapter, task, rest.get("parameters")], "res"),
        "settings_id": identity(shared, "set"),
        "adapter": adapter,
        "family": family,
        "kind": kind,
        "task": task,
        "parameters": parameters.get(task, {"batches": [1, 16]}),
        "sampling": sampling,
        "load": {"dtype": "float32", "init": "checkpoint", "compile": False, "seed": 0},
        "outcome": "ok",
        "samples": SetSummary(source=adapter, n=1000) if task in parameters else None,
        "provenance": PROVENANCE,
        "started": "2000-01-01T00:00:00+00:00",
        "wall_seconds": 12.5,
    }
    return Result(**(fields | rest))


def speed_parts(
    name: str, seconds: float, batch: int, steps: int
) -> tuple[list[Metric], SpeedRecord, dict[str, np.ndarray]]:
    rest: dict[str, Any] = {
        "measure": "speed",
        "n": 20,
        "how": "median of calls, request to images in memory",
        "at": {"batch": batch, "operation": name},
    }
    metrics = [
        metric("latency", seconds, 0.03 * seconds, unit="s", **rest),
        metric(
            "images-per-second", batch / seconds, 0.03 * batch / seconds, unit="images/s",
            **rest | {"direction": "higher"},
        ),
        metric("latency-p90", None, unit="s", reason="20 calls; a 90th percentile needs 30", **rest),
    ]  # fmt: skip
    shares = {"condition": 0.01, "prefill": 0.05, "ar": 0.7, "decode": 0.19, "gap": 0.05}
    if name != "sample":
        shares = {name: 0.96, "gap": 0.04}
    phases = tuple(PhaseTime(phase=p, seconds=s * seconds, share=s, calls=1) for p, s in shares.items())
    rng = np.random.default_rng(batch)
    curve = 0.7 * seconds / steps * (0.8 + 0.4 * np.arange(steps) / steps)
    raw = {"batch": np.array(batch), "operation": np.array(name), "seconds": np.full(20, seconds)}
    raw |= {"warmup": np.full(3, seconds), "traced": np.full(5, seconds)}
    raw["steps"] = curve * (1 + 0.03 * rng.standard_normal((5, steps)))
    record = SpeedRecord(batch=batch, seconds=seconds, phases=phases, operation=name)
    return metrics, record, raw


def stacked(rows: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """The arrays of a latency.npz from its rows."""
    return {name: np.stack([row[name] for row in rows]) for name in rows[0]}


def samples_gallery(ids: np.ndarray, images: np.ndarray) -> Gallery:
    """As `generate` shows them."""
    lead = "The first sample ids that all models share, not selected."
    return Gallery("Samples", "sheet", lead, ids, (ids % 10)[None], ("",), (False,), images[None])


def pairs_gallery(ids: np.ndarray, before: np.ndarray, after: np.ndarray) -> Gallery:
    """As `reconstruct` shows them."""
    difference = (np.abs(before.astype(np.int16) - after) * 4).clip(0, 255).astype(np.uint8)
    return Gallery(
        "Reconstructions of mnist5k/heldout", "rows", "The first images, not selected.", ids,
        np.full((3, len(ids)), -1), ("original", "", "|difference| × 4"), (True, False, False),
        np.stack([before, after, difference]),
    )  # fmt: skip


def write_generator(folder: Path, name: str, seed: int) -> list[Result]:
    family, frechet, half, agreement, *latencies = GENERATORS[name]
    ids = np.arange(40)
    shown = samples_gallery(ids, digits(ids, seed))
    ours = {"convention": "offline", "reference": HELDOUT, "how": "EfficientNet-Lite0, 1000 samples"}
    standard = {"convention": "adm", "reference": HELDOUT, "how": "Inception", "reason": NO_INCEPTION, "n": 0}
    results = [
        make_result(
            name, "generator", family, "generate",
            metrics=(
                metric("frechet", frechet, half, flags=("small_n",), **ours),
                metric("kid", frechet / 1e4, half / 1e4, **ours)
                if name != "continuous/mar-mini"
                else metric("kid", None, reason="fewer samples than a subset", **ours),
                metric("precision", 0.8 + seed / 100, 0.02, **ours | {"direction": "higher"}),
                metric("density", 0.9 + seed / 100, 0.02, **ours | {"direction": "higher"}),
                metric("fid", None, **standard),
                metric("is", None, **standard | {"reference": None, "direction": "higher"}),
                metric("class-agreement", agreement, 0.017, direction="higher", how="LeNet of 99.1 % accuracy"),
                metric("tokens", 49.0, direction=None, how="count"),
            ),
            artifacts={"pictures": "pictures.npz", "sheet": "sheet.png"},
        )
    ]  # fmt: skip
    write_cell(folder, results[0], {"pictures.npz": shown.pack(), "sheet.png": shown.sheet()})
    if name == "random_order/maskgit-mini":
        speed = make_result(
            name, "generator", family, "speed", outcome="oom", reason="batch 16 needs 3.1 GB, 2.0 GB are free"
        )
        write_cell(folder, speed)
    else:
        steps = {"raster/llamagen-mini": 49, "next_scale/var-mini": 5, "continuous/mar-mini": 16}[name]
        parts = [
            speed_parts("sample", seconds, batch, steps) for seconds, batch in zip(latencies, (1, 16), strict=True)
        ]
        speed = make_result(
            name, "generator", family, "speed",
            metrics=tuple(m for metrics, _, _ in parts for m in metrics),
            speed=tuple(record for _, record, _ in parts),
            artifacts={"latency": "latency.npz"},
        )  # fmt: skip
        write_cell(folder, speed, {"latency.npz": pack(stacked([raw for *_, raw in parts]))})
    return [*results, speed, _memory(folder, name, "generator", family, seed)]


def _memory(folder: Path, name: str, kind: str, family: str, seed: int) -> Result:
    rest = {"measure": "memory", "unit": "B", "n": 2, "how": "peak resident set of the worker"}
    metrics = (
        metric("weights-memory", 9.1e6 + 1e6 * seed, **rest),
        metric("peak-memory", 4.1e8 + 1e7 * seed, at={"batch": 1}, **rest),
        metric("peak-memory", 6.3e8 + 3e7 * seed, at={"batch": 16}, flags=("peak_of_process",), **rest),
    )
    result = make_result(name, kind, family, "memory", metrics=metrics)
    write_cell(folder, result)
    return result


def write_tokenizer(folder: Path, name: str, seed: int) -> list[Result]:
    psnr, half, levels = TOKENIZERS[name]
    ids = np.arange(24)
    before = digits(ids, 0)
    rng = np.random.default_rng(seed)
    after = (before + rng.integers(-12 * levels, 12 * levels, before.shape) / 3).clip(0, 255).astype(np.uint8)
    ours = {"convention": "offline-pairs", "reference": HELDOUT}
    higher = {"direction": "higher", "how": "per image, peak 1.0, mean over images", **ours}
    result = make_result(
        name, "tokenizer", "tokenizers", "reconstruct",
        metrics=(
            metric("psnr", psnr, half, unit="dB", **higher),
            metric("ssim", 0.9 + seed / 100, 0.003, **higher),
            metric("frechet", 3.1 - seed / 10, 0.4, **ours),
            metric("codebook-used", 0.71, 0.02, direction="higher", how="share of codes used"),
            metric("codebook-used", 0.51, 0.02, direction="higher", how="of the first level", at={"level": 0}),
        ),
        artifacts={"pictures": "pictures.npz"},
    )  # fmt: skip
    write_cell(folder, result, {"pictures.npz": pairs_gallery(ids, before, after).pack()})
    parts = [
        speed_parts(op, t * b**0.7 * seed, b, 2) for b in (1, 16) for op, t in (("encode", 0.004), ("decode", 0.006))
    ]
    speed = make_result(
        name, "tokenizer", "tokenizers", "speed",
        metrics=tuple(m for metrics, _, _ in parts for m in metrics),
        speed=tuple(record for _, record, _ in parts),
    )  # fmt: skip
    write_cell(folder, speed)
    return [result, speed, _memory(folder, name, "tokenizer", "tokenizers", seed)]


SMALL = {
    "generators": ("raster/llamagen-mini", "next_scale/var-mini"),
    "tokenizers": ("tokenizers/var-mini",),
}


def write_run(
    folder: Path,
    missing: bool = True,
    generators: Collection[str] = tuple(GENERATORS),
    tokenizers: Collection[str] = tuple(TOKENIZERS),
) -> Path:
    """The run folder; with one planned cell that has no result."""
    folder.mkdir(parents=True)
    results = [r for seed, name in enumerate(generators) for r in write_generator(folder, name, seed)]
    results += [r for seed, name in enumerate(tokenizers, 1) for r in write_tokenizer(folder, name, seed)]
    cells = [{"adapter": r.adapter, "task": {"task": r.task}, "result_id": r.result_id} for r in results]
    if missing:
        cells.append({"adapter": "raster/late-mini", "task": {"task": "generate"}, "result_id": "res-000000000000"})
    run = {
        "schema_version": 2,
        "run_id": folder.name,
        "suite": {"suite": "quickstart", "version": 1, "title": "Two families on MNIST-5k", "tasks": []},
        "argv": ["arbench", "run", "quickstart", "--set", "generate.n=1000"],
        "created": "2000-01-01T00:00:00+00:00",
        "cells": cells,
    }
    (folder / "run.json").write_text(json.dumps(run))
    times = [("session", "00:00:00"), ("ended", "00:01:40"), ("session", "05:00:00"), ("ended", "05:00:20")]
    lines = [json.dumps({"kind": kind, "time": f"2000-01-01T{time}+00:00"}) for kind, time in times]
    (folder / "journal.jsonl").write_text("\n".join(lines) + '\n{"kind": "torn')
    return folder


def seal(folder: Path) -> None:
    """Writes a journal that knows the results as they are."""
    lines = [
        {
            "kind": "finished",
            "cell": path.parent.name,
            "outcome": "ok",
            "digest": digest(path.read_bytes()),
            "reason": "",
        }
        for path in folder.glob("cells/*/result.json")
    ]
    (folder / "journal.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
