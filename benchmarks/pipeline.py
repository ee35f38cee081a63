"""What the harness adds to the work: the pass from files to statistics against its slowest stage, a run against a loop.

    python benchmarks/pipeline.py stages [--n 256] [--repeats 5]
    python benchmarks/pipeline.py overhead [--n 1600] [--repeats 3]

stages: PNG files of 256 x 256 through EfficientNet-Lite0 to a mean and a covariance, as `arbench score` does it, and
each stage by itself: decoding (with digests), extraction from decoded images, statistics from ready vectors.
overhead: `arbench run` of raster/llamagen-mini, and a loop of the same calls (sampling, features of samples and of the
reference, classifier, Frechet distance) without plan, units, journal, tables and report, each in a process of its own
with one thread. The cell's own seconds are told beside those of the whole command.

All arms take turns in one command, so that the load of the machine falls on all of them; ratios are of one turn, and
their median is given with their range. Processor seconds are beside wall seconds: these a shared machine falsifies.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median

import numpy as np
from score import make_images

MODEL = "raster/llamagen-mini"
UNIT = 64
SUITE = """suite: overhead
adapters: [{model}]
settings: {{device: cpu}}
tasks:
  - generate: {{n: {n}, conventions: [offline], metrics: [frechet], reference: mnist5k/heldout}}
"""

Times = tuple[float, float]
"""Seconds of wall and of the processor."""


def timed(job: Callable[[], object]) -> Times:
    """Of a call in this process."""
    wall, cpu = time.perf_counter(), time.process_time()
    job()
    return time.perf_counter() - wall, time.process_time() - cpu


def in_turn(jobs: Mapping[str, Callable[[], Times]], repeats: int) -> dict[str, list[Times]]:
    """Each job in turn, `repeats` times; every other turn backwards."""
    found: dict[str, list[Times]] = {name: [] for name in jobs}
    for turn in range(repeats):
        for name in list(jobs)[:: 1 if turn % 2 == 0 else -1]:
            found[name].append(jobs[name]())
            wall, cpu = found[name][-1]
            print(f"turn {turn + 1}: {name}: {wall:.2f} s, processor {cpu:.2f} s", file=sys.stderr, flush=True)
    return found


def show(found: Mapping[str, Sequence[Times]], ratios: Mapping[str, Sequence[Times]]) -> None:
    print("| | wall, s (range) | processor, s (range) |\n|---|---:|---:|")
    for name, times in found.items():
        print(f"| {name} | {_spread([wall for wall, _ in times], 2)} | {_spread([cpu for _, cpu in times], 2)} |")
    print("\n| ratio | wall (range) | processor (range) |\n|---|---:|---:|")
    for name, times in ratios.items():
        print(f"| {name} | {_spread([wall for wall, _ in times], 3)} | {_spread([cpu for _, cpu in times], 3)} |")


def _spread(values: Sequence[float], digits: int) -> str:
    return f"{median(values):.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"


def over(above: Sequence[Times], below: Sequence[Times]) -> list[Times]:
    return [(a[0] / b[0], a[1] / b[1]) for a, b in zip(above, below, strict=True)]


# ---- stages ----------------------------------------------------------------------------------------------------------


def stages(root: Path, n: int, repeats: int) -> None:
    from arbench.data.reading import PLAIN
    from arbench.data.sources import open_images
    from arbench.features.extract import Extractors, Job, features_of
    from arbench.features.weight_files import Weights
    from arbench.metrics.sets.moments import moments

    recipe, output = "efficientnet-lite0", "efficientnet-lite0:pooled"
    folder = make_images(root / "images", n, 0)
    extractors = Extractors(Weights({}, root), "cpu", "parity")
    network = extractors.get(recipe)
    images = [picture.image for picture in open_images(str(folder))]
    vectors = network(images)["pooled"]
    outs = iter(range(10_000))
    kept: dict[str, np.ndarray] = {}

    def extract() -> None:
        for start in range(0, n, UNIT):
            network(images[start : start + UNIT])

    def whole() -> None:
        job = Job(str(folder), PLAIN, root / f"out{next(outs)}")
        rows = features_of(job, [recipe], extractors, lambda *_: None)[recipe].rows(output)
        kept["mean"] = moments(rows).mean

    jobs = {
        "decode": lambda: timed(lambda: list(open_images(str(folder)))),
        "extraction": lambda: timed(extract),
        "statistics": lambda: timed(lambda: moments(vectors)),
        "the whole pass": lambda: timed(whole),
    }
    whole()
    if not np.array_equal(kept["mean"], moments(vectors).mean):
        raise SystemExit("the pass gives other numbers than its stages")
    found = in_turn(jobs, repeats)
    alone = list(found)[:-1]
    slowest = max(alone, key=lambda name: median(wall for wall, _ in found[name]))
    print(f"{n} PNG files of 256 x 256, {os.cpu_count()} cores\n")
    show(found, {f"the whole pass over {slowest} alone": over(found["the whole pass"], found[slowest])})


# ---- overhead --------------------------------------------------------------------------------------------------------


def bare(n: int) -> None:
    """The calls of a run of n samples, and nothing else."""
    import arbench
    from arbench.data.sources import open_images
    from arbench.features.extract import Extractors
    from arbench.features.weight_files import Weights
    from arbench.images import digests
    from arbench.metrics.classifier import DigitClassifier
    from arbench.metrics.sets.frechet import frechet

    network = Extractors(Weights({}, Path()), "cpu", "parity").get("efficientnet-lite0")
    model, classifier = arbench.load(MODEL, device="cpu"), DigitClassifier()
    begin = time.perf_counter(), time.process_time()
    pixels = model.sample(n, batch=UNIT).array
    features = []
    for start in range(0, n, UNIT):
        part = pixels[start : start + UNIT]
        digests(part)
        features.append(network(list(part))["pooled"])
        classifier.predict(part)
    reference = network([picture.image for picture in open_images("mnist5k/heldout")])["pooled"]
    assert frechet(np.concatenate(features), reference).value is not None
    print(json.dumps([time.perf_counter() - begin[0], time.process_time() - begin[1]]))


def child(words: Sequence[object], folder: Path) -> tuple[Times, str]:
    """A process of one thread to its end: what it took, and what it said last."""
    before, begin = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(
        [sys.executable, *map(str, words)],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise SystemExit(done.stdout + done.stderr)
    wall, after = time.perf_counter() - begin, resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return (wall, cpu), (done.stdout.strip().splitlines() or [""])[-1]


def overhead(root: Path, n: int, repeats: int) -> None:
    (root / "suite.yaml").write_text(SUITE.format(model=MODEL, n=n))
    outs = iter(range(10_000))
    inner: dict[str, list[float]] = {"loop, inside": [], "cell": []}

    def run() -> Times:
        out = root / f"run{next(outs)}"
        words = ["-m", "arbench", "run", "suite.yaml", "--out", out.name, "--track", "off", "--workers", 1]
        times, _ = child(words, root)
        (result,) = [json.loads(path.read_text()) for path in out.glob("cells/*/result.json")]
        inner["cell"].append(result["wall_seconds"])
        return times

    def loop() -> Times:
        times, said = child([Path(__file__).resolve(), "bare", "--n", n], root)
        wall, _ = json.loads(said)
        inner["loop, inside"].append(wall)
        return times

    child(
        ["-m", "arbench", "run", "suite.yaml", "--set", f"generate.n={UNIT}", "--track", "off"], root
    )  # the reference
    found = in_turn({"arbench run": run, "loop": loop}, repeats)
    print(f"{n} samples of {MODEL}, {os.cpu_count()} cores, one thread\n")
    show(found, {"the whole command over the loop's process": over(found["arbench run"], found["loop"])})
    ratios = [cell / loop for cell, loop in zip(inner["cell"], inner["loop, inside"], strict=True)]
    print(f"\nThe cell's wall seconds over those of the loop without its start: {_spread(ratios, 3)}.")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["stages", "overhead", "bare"])
    parser.add_argument("--n", type=int)
    parser.add_argument("--repeats", type=int)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        if given.what == "bare":
            bare(given.n or UNIT)
        elif given.what == "stages":
            stages(Path(name), given.n or 256, given.repeats or 5)
        else:
            overhead(Path(name), given.n or 1600, given.repeats or 3)
    return 0


if __name__ == "__main__":
    sys.exit(main())
