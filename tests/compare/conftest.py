"""Run folders as a run leaves them, small: units with features, hits, likelihoods and images, and a kept reference."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from arbench.data.stream import Tally
from arbench.evaluate.set_identity import identity_of
from arbench.features.feature_set import FeatureSet, Output, PictureRecord
from arbench.features.feature_writer import FeatureWriter
from arbench.files import digest as digest_of
from arbench.images import digests, pack
from arbench.metrics.estimate import around, mean_with_interval, share
from arbench.metrics.sets.frechet import frechet
from arbench.metrics.sets.kernel import kid
from arbench.metrics.sets.moments import Factored
from arbench.spec.result import Interval, Metric, Provenance, ReferenceSet, Result, SetSummary
from arbench.spec.sampling import Sampling

N, DIMENSION = 120, 6
OUTPUT = "efficientnet-lite0:pooled"
CONVENTION = "a network of the tests"


def reference(folder: Path) -> tuple[np.ndarray, ReferenceSet]:
    rows = np.random.default_rng(9).normal(size=(200, DIMENSION)).astype(np.float32)
    place = folder / "cache" / "score-x" / "set"
    writer = FeatureWriter(place, "mnist5k/heldout", {}, [Output(OUTPUT, DIMENSION, CONVENTION)])
    writer.append([PictureRecord(i, f"{i}.png", 8, 8, i % 10, f"{i:032x}") for i in range(len(rows))], {OUTPUT: rows})
    writer.finish(Tally())
    return rows, ReferenceSet(name="mnist5k/heldout", digest=identity_of(FeatureSet(place)).digest)


def make_run(
    folder: Path, *, changed: float = 0.0, temperature: float = 1.0, latency: float = 0.1, n: int = N, **rest: Any
) -> Path:
    """`changed`: this share of the samples is drawn anew. `rest` are fields of every result."""
    folder.mkdir()
    run = {"schema_version": 2, "run_id": folder.name, "suite": {"suite": "toy", "version": 1}}
    (folder / "run.json").write_text(json.dumps(run))
    real, named = reference(folder)
    draw, fresh = np.random.default_rng(1), np.random.default_rng(2)
    rows, other = (each.normal(size=(n, DIMENSION)).astype(np.float32) * 1.2 for each in (draw, fresh))
    images, others = (each.integers(0, 255, (n, 3, 8, 8), dtype=np.uint8) for each in (draw, fresh))
    hits, missed = draw.random(n) < 0.9, fresh.random(n) < 0.9
    anew = np.arange(n) < changed * n
    rows, images = np.where(anew[:, None], other, rows), np.where(anew[:, None, None, None], others, images)
    hits = np.where(anew, missed, hits)
    nats = np.random.default_rng(3).normal(60, 8, n) + changed
    labels = np.arange(n) % 10
    ids = np.arange(n)
    digest = digests(images)

    def result(name: str, task: str, metrics: list[Metric], **more: Any) -> Path:
        cell = folder / "cells" / f"res-{name}"
        (cell / "units").mkdir(parents=True)
        fields: dict[str, Any] = {
            "result_id": f"res-{name}", "settings_id": f"set-{temperature}", "adapter": "next_scale/toy",
            "family": "next_scale", "kind": "generator", "task": task, "parameters": {"n": n}, "outcome": "ok",
            "sampling": Sampling(temperature=temperature), "load": {"seed": 0, "dtype": "float32"}, "metrics": metrics,
            "provenance": Provenance(arbench="0.2", python="3.12", platform="Linux", device="cpu: toy"),
            "started": "2000-01-01T00:00:00+00:00",
        }  # fmt: skip
        (cell / "result.json").write_text(Result(**(fields | more | rest)).model_dump_json())
        return cell

    shared = {"convention": "offline", "reference": named}
    metrics = [
        frechet(rows, Factored.of(real)).metric("frechet", "", "", "lower", **shared),
        kid(rows, real).metric("kid", "", "", "lower", **shared),
        around(0.5, 0.05, "wilson", n).metric("precision", "", "", "higher", **shared),
        share(int(hits.sum()), n).metric("class-agreement", "", "fraction", "higher"),
    ]
    summary = SetSummary(source="toy", n=n, digest=digest_of("".join(digest).encode()))
    cell = result("generate", "generate", metrics, samples=summary)
    predicted = np.where(hits, labels, (labels + 1) % 10)
    halves = np.array_split(ids, 2)
    for half in halves:
        arrays = {
            "sample_ids": ids[half], "labels": labels[half], "digests": np.array(digest)[half],
            "keys": np.array([f"sample-{i:06d}" for i in half]), "size": np.array([8, 8]), "images": images[half],
            "predicted": predicted[half], f"features:{OUTPUT}": rows[half],
            f"convention:{OUTPUT}": np.array(CONVENTION),
        }  # fmt: skip
        (cell / "units" / f"{half[0]:06d}-{half[-1] + 1:06d}.npz").write_bytes(pack(arrays))
    cell = result(
        "likelihood", "likelihood", [mean_with_interval(nats / 30).metric("nats-per-token", "", "nats", "lower")]
    )
    (cell / "units" / "000000-000120.npz").write_bytes(pack({"image_ids": ids, "nats": nats}))
    at = {"batch": 1, "operation": "sample"}
    span = Interval(low=0.99 * latency, high=1.01 * latency, method="order statistics")
    timing = Metric(
        name="latency", value=latency, unit="s", n=20, interval=span, direction="lower", at=at, measure="speed"
    )
    steps = Metric(name="steps", value=10.0, n=0, direction="lower")
    counted = [
        Metric(name="tokens", value=16.0, n=1),
        Metric(name="flops", value=2e9, unit="FLOP", n=1, direction="lower", at=at),
        Metric(name="weight-passes", value=10.0, n=1, direction="lower", at={**at, "phase": "ar"}),
    ]
    peak = Metric(name="peak-memory", value=1e8, unit="B", n=1, direction="lower", at={"batch": 1}, measure="memory")
    load = Metric(name="other-load", value=10 * latency, n=1, unit="cores", direction="lower", at=at, measure="speed")
    result("speed", "speed", [timing, steps, *counted, load], parameters={"batches": [1]})
    result("memory", "memory", [peak], parameters={"batches": [1]})
    return folder


@pytest.fixture
def runs(tmp_path: Path) -> Any:
    """Makes a run in a folder of this name."""
    return lambda name, **changes: make_run(tmp_path / name, **changes)


@pytest.fixture
def swept(runs: Any) -> Callable[..., Path]:
    """Makes a run of two settings, temperature 1 and another."""

    def make(name: str, second: float = 0.5) -> Path:
        folder, other = (
            runs(name + end, temperature=t, started="2100-02-01T00:00:00+00:00")
            for end, t in (("", 1.0), ("-b", second))
        )
        for cell in (other / "cells").iterdir():
            copy = folder / "cells" / f"{cell.name}-b"
            shutil.copytree(cell, copy)
            document = json.loads((copy / "result.json").read_text())
            document["result_id"] += "-b"
            (copy / "result.json").write_text(json.dumps(document))
        return folder

    return make
