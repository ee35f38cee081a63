"""`arbench score` against torch-fidelity and clean-fid: time and peak memory on the same images and the same features.

Every measured job is a process of its own, so that its peak memory is its own, and jobs take turns on one machine, so
that its load falls on all of them. Weights are random (made here): timings do not depend on their values.

    python benchmarks/score.py images        the whole job from PNG files
    python benchmarks/score.py statistics    metrics from ready features, n = 10,000, D = 2048
    python benchmarks/score.py memory        ours from features on disk, n = 50,000, D = 2048
    python benchmarks/score.py second        the second FID against one reference, n = 10,000, D = 2048, in one process
    python benchmarks/score.py stages        images/s of each stage, which one binds, resizes (--device, --mode)
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
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median

import numpy as np

SIZE = 256


def make_weights(path: Path) -> Path:
    """A random Inception-2015 file in the layout of pytorch-fid and torch-fidelity."""
    import torch

    from arbench.features.networks.inception import uninitialised

    draw, state = torch.Generator().manual_seed(0), {}
    for name, tensor in uninitialised().state_dict().items():
        normal = torch.randn(tensor.shape, generator=draw) if tensor.ndim else torch.zeros(())
        if name.endswith("conv.weight"):
            state[name] = normal * (2 / tensor[0].numel()) ** 0.5
        elif name.endswith(("bn.weight", "running_var")):
            state[name] = 1 + 0.3 * normal.tanh()
        elif name.endswith("num_batches_tracked"):
            state[name] = torch.tensor(0)
        else:
            state[name] = 0.1 * normal
    torch.save(state, path)
    return path


def make_images(folder: Path, count: int, seed: int) -> Path:
    """Random crops of scikit-image's photographs, SIZE x SIZE."""
    import skimage.data
    from PIL import Image

    photographs = [skimage.data.astronaut(), skimage.data.coffee(), skimage.data.rocket(), skimage.data.chelsea()]
    draw = np.random.default_rng(seed)
    folder.mkdir()
    for index in range(count):
        picture = photographs[index % len(photographs)]
        y, x = (int(draw.integers(0, side - SIZE + 1)) for side in picture.shape[:2])
        Image.fromarray(picture[y : y + SIZE, x : x + SIZE]).save(folder / f"{index:05d}.png")
    return folder


def make_features(folder: Path, count: int, seed: int, outputs: dict[str, int], scale: float) -> Path:
    """Gamma-like features in our format on disk, written block by block."""
    from arbench.data.stream import Tally
    from arbench.features.feature_set import Output, PictureRecord
    from arbench.features.feature_writer import FeatureWriter

    draw = np.random.default_rng(seed)
    named = [Output(f"inception/tf1:{name}", length, "synthetic") for name, length in outputs.items()]
    writer = FeatureWriter(folder / "inception--tf1", f"synthetic {seed}", {}, named)
    for start in range(0, count, 1000):
        some = range(start, min(start + 1000, count))
        records = [PictureRecord(index, str(index), 1, 1, None, f"{index:032x}") for index in some]
        rows = {
            output.name: draw.standard_normal((len(some), output.length), np.float32)
            if "logits" in output.name
            else scale * draw.standard_gamma(0.5, (len(some), output.length), np.float32)
            for output in named
        }
        writer.append(records, rows)
    writer.finish(Tally(read=count))
    return folder


# --- Jobs, each run in a process of its own: "python benchmarks/score.py job NAME ARGUMENTS"


def job_ours(samples: str, reference: str, weights: str, out: str, mode: str, names: str) -> None:
    """The whole command: every metric of these conventions."""
    from arbench.cli.main import main

    options = ["--convention", names, "--weights", f"inception={weights}", "--mode", mode, "--out", out]
    assert main(["score", samples, "--reference", reference, "--kid-subset-size", "50", "--json", *options]) == 0


def job_torch_fidelity(samples: str, reference: str, weights: str, full: str) -> None:
    from torch_fidelity import calculate_metrics

    more = {"isc": True, "kid": True, "prc": True, "kid_subset_size": 50} if full == "full" else {}
    calculate_metrics(
        input1=samples,
        input2=reference,
        fid=True,
        cuda=False,
        cache=False,
        verbose=False,
        feature_extractor="inception-v3-compat",
        feature_extractor_weights_path=weights,
        feature_layer_prc="2048",
        **more,
    )


def job_clean_fid(samples: str, reference: str, weights: str) -> None:
    import cleanfid.inception_pytorch
    import torch
    from cleanfid import fid

    state = torch.load(weights, weights_only=True)
    cleanfid.inception_pytorch.load_state_dict_from_url = lambda *_, **__: state
    network = cleanfid.inception_pytorch.InceptionV3([3], resize_input=False, normalize_input=False).eval()

    def features(pixels: torch.Tensor) -> torch.Tensor:
        with torch.inference_mode():
            return network((pixels - 128) / 128)[0].flatten(1)

    found = [
        fid.get_folder_features(
            folder,
            model=features,
            num_workers=2,
            batch_size=32,
            device=torch.device("cpu"),
            mode="clean",
            verbose=False,
        )
        for folder in (samples, reference)
    ]
    one, two = ((each.mean(0), np.cov(each, rowvar=False)) for each in found)
    fid.frechet_distance(*one, *two)


PARTS = {"fid": ["fid"], "is": ["is"], "kid": ["kid"], "pr": ["precision", "recall"]}
PARTS["set"] = [name for part in PARTS.values() for name in part]
PARTS["all"] = [*PARTS["set"], "density", "coverage"]


def job_statistics_ours(samples: str, reference: str, part: str) -> None:
    from arbench.cli.main import main

    options = ["--convention", "arbench" if part == "all" else "torch-fidelity-2048"]
    for name in PARTS[part]:
        options += ["--metric", name]
    out = tempfile.mkdtemp()
    assert main(["score", samples, "--reference", reference, "--out", out, "--json", *options]) == 0


def job_statistics_torch_fidelity(samples: str, reference: str, part: str) -> None:
    import torch
    from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric
    from torch_fidelity.metric_isc import isc_features_to_metric
    from torch_fidelity.metric_kid import kid_features_to_metric
    from torch_fidelity.metric_prc import prc_features_to_metric

    from arbench.features.feature_folder import sets_in

    sets = [sets_in(Path(path))["inception/tf1"] for path in (samples, reference)]
    one, two = (torch.from_numpy(each.rows("inception/tf1:pool3")[:]) for each in sets)
    if part in ("fid", "set"):
        fid_statistics_to_metric(fid_features_to_statistics(one), fid_features_to_statistics(two), False)
    if part in ("is", "set"):
        logits = torch.from_numpy(sets[0].rows("inception/tf1:logits_unbiased")[:])
        isc_features_to_metric(logits, 10, True, 2020)
    if part in ("kid", "set"):
        options = {"kid_subsets": 100, "kid_subset_size": 1000, "kid_degree": 3, "kid_gamma": None, "kid_coef0": 1}
        kid_features_to_metric(one, two, rng_seed=2020, verbose=False, **options)
    if part in ("pr", "set"):
        prc_features_to_metric(one, two, prc_neighborhood=3, prc_batch_size=10_000, save_cpu_ram=False, verbose=False)


@dataclass(frozen=True)
class Cost:
    """Of one job, the interpreter's start and imports included; `cpu` is user and system time of all its threads."""

    seconds: float
    cpu: float
    peak_mb: float


def run(name: str, *arguments: object) -> Cost:
    with tempfile.TemporaryDirectory() as cache, tempfile.TemporaryFile("w+") as told:
        environment = {**os.environ, "ARBENCH_CACHE": cache}
        command = [sys.executable, __file__, "job", name, *(str(argument) for argument in arguments)]
        started = time.perf_counter()
        process = subprocess.Popen(command, env=environment, stdout=told, stderr=subprocess.STDOUT)
        _, status, used = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        told.seek(0)
        text = told.read()
    if process.returncode:
        sys.exit(f"{name} failed:\n{text}")
    peak = next(json.loads(line)["peak_mb"] for line in reversed(text.splitlines()) if line.startswith('{"peak_mb"'))
    return Cost(seconds, used.ru_utime + used.ru_stime, peak)


def turns(jobs: dict[str, Callable[[], Cost]], repeats: int, peers: dict[str, str] | None = None) -> None:
    """Each job in turn, `repeats` times; medians, and the processor time of its peer (else the first) over its own."""
    found: dict[str, list[Cost]] = {label: [] for label in jobs}
    for turn in range(repeats):
        for label, job in jobs.items():
            cost = job()
            found[label].append(cost)
            print(
                f"  turn {turn + 1}: {label}: {cost.seconds:.1f} s, {cost.cpu:.1f} s of processor time",
                file=sys.stderr,
                flush=True,
            )
    processor = {label: median(cost.cpu for cost in costs) for label, costs in found.items()}
    print("| job | median s | range s | processor s | peer / it | peak MB |\n|---|---|---|---|---|---|")
    for label, costs in found.items():
        times, used = sorted(cost.seconds for cost in costs), processor[label]
        peer = processor[(peers or {}).get(label, next(iter(found)))]
        print(
            f"| {label} | {median(times):.1f} | {times[0]:.1f} to {times[-1]:.1f} | {used:.1f} "
            f"| {peer / used:.2f} | {max(cost.peak_mb for cost in costs):.0f} |"
        )


JOBS: dict[str, Callable[..., None]] = {
    name.removeprefix("job_"): function for name, function in list(globals().items()) if name.startswith("job_")
}
PART_LABELS = {"fid": "FID", "is": "IS", "kid": "KID", "pr": "precision and recall", "set": "all of these"}
OUTPUTS = {"pool3": 2048, "spatial": 2023, "logits_unbiased": 1008}


def main() -> None:
    if sys.argv[1:2] == ["job"]:
        JOBS[sys.argv[2]](*sys.argv[3:])
        own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        status = Path("/proc/self/status")
        marks = (
            [line for line in status.read_text().splitlines() if line.startswith("VmHWM")] if status.exists() else []
        )
        peak = int(marks[0].split()[1]) / 1024 if marks else own  # ru_maxrss starts at the parent's
        print("\n" + json.dumps({"peak_mb": peak}))
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    whats = ["images", "statistics", "memory", "second", "stages"]
    parser.add_argument("what", choices=whats, nargs="?", default="statistics")
    parser.add_argument("--n", type=int, help="images or vectors a side; default 100, 10,000, 50,000, 10,000 or 128")
    parser.add_argument("--device", default="cpu", help="of stages: cpu, cuda, cuda:1, ...")
    parser.add_argument("--mode", choices=["parity", "fast"], default="parity", help="of stages")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--part", choices=list(PART_LABELS), action="append", help="of statistics: these alone")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        if given.what == "statistics":
            statistics(root, given.n, given.repeats, given.part or list(PART_LABELS))
        elif given.what == "stages":
            from score_stages import stages

            weights, folder = make_weights(root / "weights.pth"), make_images(root / "images", given.n or 128, 0)
            stages(weights, folder, root, given.repeats, given.device, given.mode)
        else:
            {"images": images, "memory": memory, "second": second}[given.what](root, given.n, given.repeats)


def images(root: Path, n: int | None, repeats: int) -> None:
    n = n or 100
    weights = make_weights(root / "weights.pth")
    samples, reference = make_images(root / "samples", n, 0), make_images(root / "reference", n, 1)
    full = "arbench,adm,torch-fidelity-2048"
    outs = iter(range(1000))

    def ours(mode: str, names: str) -> Callable[[], Cost]:
        return lambda: run("ours", samples, reference, weights, root / f"out{next(outs)}", mode, names)

    print(f"{n} + {n} PNG files of {SIZE} x {SIZE}, {os.cpu_count()} cores\n")
    jobs: dict[str, Callable[[], Cost]] = {
        "torch-fidelity, FID alone": lambda: run("torch_fidelity", samples, reference, weights, "fid"),
        "torch-fidelity, FID IS KID P/R": lambda: run("torch_fidelity", samples, reference, weights, "full"),
        "clean-fid, FID alone": lambda: run("clean_fid", samples, reference, weights),
        "arbench parity, FID sFID IS KID P/R D/C": ours("parity", full),
        "arbench fast, FID sFID IS KID P/R D/C": ours("fast", full),
    }
    turns(jobs, repeats)


def statistics(root: Path, n: int | None, repeats: int, parts: list[str]) -> None:
    n = n or 10_000
    samples = make_features(root / "samples", n, 0, OUTPUTS, 0.8)
    reference = make_features(root / "reference", n, 1, OUTPUTS, 0.85)
    print(f"features {n} x 2048 a side, {os.cpu_count()} cores\n")
    jobs: dict[str, Callable[[], Cost]] = {}
    peers = {}
    for part in parts:
        label = PART_LABELS[part]
        for tool, name in (("torch-fidelity", "statistics_torch_fidelity"), ("arbench", "statistics_ours")):
            jobs[f"{tool}, {label}"] = partial(run, name, samples, reference, part)
            peers[f"{tool}, {label}"] = f"torch-fidelity, {label}"
    turns(jobs, repeats, peers)


def memory(root: Path, n: int | None, repeats: int) -> None:
    n = n or 50_000
    samples = make_features(root / "samples", n, 0, OUTPUTS, 0.8)
    reference = make_features(root / "reference", 10_000, 1, OUTPUTS, 0.85)
    print(f"features {n} x 2048 against 10,000 on disk, {os.cpu_count()} cores\n")
    turns({"arbench, FID sFID IS KID P/R D/C": lambda: run("statistics_ours", samples, reference, "all")}, 1)


def second(root: Path, n: int | None, repeats: int) -> None:
    """FID of new samples against a reference that has been met before, and what a further convention adds.

    All in this process, by turns. Wall and processor time, so that a shared machine's wall time can be told.
    """
    import torch
    from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric

    from arbench.evaluate.built_in_conventions import BUILT_IN
    from arbench.evaluate.inputs import Inputs
    from arbench.evaluate.known_reference import KnownReference
    from arbench.evaluate.numbers import numbers
    from arbench.features.feature_folder import sets_in

    n, recipe, output = n or 10_000, "inception/tf1", "inception/tf1:pool3"
    paths = [make_features(root / name, n, seed, {"pool3": 2048}, 0.8) for seed, name in enumerate(("a", "b", "c"))]
    reference, *samples = (sets_in(path)[recipe] for path in paths)
    fid = {name: [each for each in BUILT_IN[name].definitions if each.metric == "fid"] for name in ("arbench", "adm")}
    theirs = fid_features_to_statistics(torch.from_numpy(reference.rows(output)[:]))
    times: dict[str, list[tuple[float, float]]] = {}

    def timed(label: str, job: Callable[[], object]) -> None:
        wall, processor = time.perf_counter(), time.process_time()
        job()
        times.setdefault(label, []).append((time.perf_counter() - wall, time.process_time() - processor))

    def peer(which: int, known: bool) -> None:
        one = fid_features_to_statistics(torch.from_numpy(samples[which].rows(output)[:]))
        two = theirs if known else fid_features_to_statistics(torch.from_numpy(reference.rows(output)[:]))
        fid_statistics_to_metric(one, two, False)

    for turn in range(repeats):
        for kept in reference.folder.glob("computed--*"):
            kept.unlink()
        fresh = [Inputs({recipe: one}, KnownReference("r", {recipe: reference}), {}) for one in samples]
        timed("arbench, first FID", partial(numbers, fid["arbench"], fresh[0]))
        timed("arbench, second FID", partial(numbers, fid["arbench"], fresh[1]))
        timed("arbench, a further convention", partial(numbers, fid["adm"], fresh[1]))
        timed("torch-fidelity, FID", partial(peer, turn % 2, known=False))
        timed("torch-fidelity, FID, reference's statistics kept", partial(peer, turn % 2, known=True))
    print(f"{n} x 2048 a side, {os.cpu_count()} cores, {torch.get_num_threads()} threads, {repeats} turns\n")
    print("| job | median s | range s | processor s | of torch-fidelity's processor s |\n|---|---|---|---|---|")
    base = median(used for _, used in times["torch-fidelity, FID"])
    for label, costs in times.items():
        walls, used = sorted(wall for wall, _ in costs), median(used for _, used in costs)
        print(f"| {label} | {median(walls):.2f} | {walls[0]:.2f} to {walls[-1]:.2f} | {used:.2f} | {used / base:.2f} |")


if __name__ == "__main__":
    main()
