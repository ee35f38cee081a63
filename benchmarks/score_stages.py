"""The stages of `arbench score` one by one: images a second of each, which one binds, and the whole against it."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from statistics import median

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from torch import Tensor

from arbench.data.readers.ahead import threads
from arbench.data.reading import PLAIN
from arbench.data.sources import open_images, open_stream
from arbench.data.stream import Tally
from arbench.features.extract import Extractors, Job, features_of
from arbench.features.extractor import FeatureExtractor, Mode
from arbench.features.feature_set import PictureRecord
from arbench.features.feature_writer import FeatureWriter
from arbench.features.gather import CHUNK, outputs_of
from arbench.features.networks import clip, pil_resize, resize
from arbench.features.to_device import Copies
from arbench.features.weight_files import Weights
from arbench.images import digest
from arbench.metrics.sets.device_moments import moments_on

RECIPE = "inception/tf1"
CHUNKS = 20
"""Written to disk, of the size that a pass writes at a time."""
RESIZES: dict[str, Callable[[Tensor], Tensor]] = {
    "TF1 bilinear: ADM, torch-fidelity": resize.tf1_bilinear,
    "PIL bicubic in float: clean-fid": resize.pil_bicubic,
    "half-pixel bilinear: pytorch-fid": resize.half_pixel_bilinear,
    "bilinear with antialias: torchmetrics": resize.antialias_bilinear,
    "affine grid: EDM2, StyleGAN": resize.grid_sample_bilinear,
    "PIL bicubic of bytes, 224: dgm-eval": lambda images: clip.resized(images, (224, 224)),
    "PIL bicubic and crop, 224: clean-fid's CLIP": lambda images: clip.shorter_side_then_crop(images, 224),
    "PIL Lanczos 256, then 224: LlamaGen's CLIP": lambda images: clip.as_llamagen(images, 224),
    "crop and PIL bicubic, 336: CMMD": lambda images: clip.crop_then_resize(images, 336),
}
"""Convention -> its way from uint8 (n, 3, H, W) to the network's grid."""


@contextmanager
def as_on_a_device() -> Iterator[None]:
    """Inside, what Pillow does on the host is done by products on a CPU too."""
    before, clip.resized = clip.resized, pil_resize.on_device  # type: ignore[assignment]
    try:
        yield
    finally:
        clip.resized = before


Rates = dict[str, list[float]]


def stages(weights: Path, folder: Path, root: Path, repeats: int, device: str, mode: Mode) -> None:
    """Prints the stages from the PNG files of `folder`, and the resizes; what is written goes below `root`."""
    where = torch.device(device)
    extractors = Extractors(Weights({"inception": weights}, root), device, mode)
    network = extractors.get(RECIPE)
    images = [picture.image for picture in open_images(str(folder))]
    np.savez(root / "images.npz", np.stack(images).transpose(0, 2, 3, 1))
    rates = measured(jobs(network, images, folder, root, extractors, where), where, repeats)
    size = f"{images[0].shape[1]} x {images[0].shape[2]}"
    used = f"{device}, {os.cpu_count()} cores, {torch.get_num_threads()} threads of torch"
    print(f"{len(images)} images of {size}, {mode} mode, batches of {network.batch}, {used}\n")
    print_table(rates)
    binding(rates)
    print("\nResizes of the conventions, a batch at a time:\n")
    resizes(images[: network.batch], where, repeats)


def jobs(
    network: FeatureExtractor,
    images: Sequence[NDArray[np.uint8]],
    folder: Path,
    root: Path,
    extractors: Extractors,
    where: torch.device,
) -> dict[str, tuple[int, Callable[[], object]]]:
    """Stage -> how many images (or vectors) it takes, and the work."""
    n, copies, outs = len(images), Copies(where), itertools.count()
    parts = [images[start : start + network.batch] for start in range(0, n, network.batch)]
    there = [copies.there(part)[0] for part in parts]
    with torch.inference_mode():
        prepared = [network.prepare(part).contiguous(memory_format=network.layout) for part in there]
    vectors = np.random.default_rng(0).standard_normal((20 * 2048, 2048), np.float32)
    rows = {f"{network.recipe}:{name}": np.zeros((CHUNK, d), np.float32) for name, d in network.outputs.items()}
    height, width = images[0].shape[1:]
    records = [PictureRecord(index, str(index), height, width, None, "0" * 32) for index in range(CHUNKS * CHUNK)]

    def each(job: Callable[[Tensor], object], given: Sequence[Tensor]) -> None:
        with torch.inference_mode():
            for part in given:
                job(part)

    def computed() -> None:
        """Copy, resize and forward as a pass does them, one batch ahead."""
        running = None
        for part in parts:
            begun = network.begin(part)
            if running is not None:
                running.result()
            running = begun
        if running is not None:
            running.result()

    def written() -> None:
        writer = FeatureWriter(root / f"rows{next(outs)}", "stage", {}, outputs_of(network))
        for start in range(0, len(records), CHUNK):
            writer.append(records[start : start + CHUNK], rows)
        writer.finish(Tally(read=len(records)))

    def whole(source: str) -> None:
        features_of(Job(source, PLAIN, root / f"out{next(outs)}"), [RECIPE], extractors, lambda *_: None)

    def decoded_apart() -> None:
        stream = open_stream(folder)
        stream.decode_in_processes()
        for _ in stream:
            pass

    npz = str(root / "images.npz")
    return {
        f"decode, PNG ({threads()} threads, digest in)": (n, lambda: sum(1 for _ in open_images(str(folder)))),
        f"the same in {threads()} processes, their start in": (n, decoded_apart),
        "the same, npz": (n, lambda: sum(1 for _ in open_images(npz))),
        "digest alone (1 thread)": (n, lambda: [digest(image) for image in images]),
        "copy": (n, lambda: [copies.there(part) for part in parts]),
        "resize": (n, partial(each, network.prepare, there)),
        "forward": (n, partial(each, network.forward, prepared)),
        "copy, resize and forward together": (n, computed),
        "vectors to disk": (len(records), written),
        "statistics (moments, D = 2048)": (len(vectors), lambda: moments_on(vectors, str(where))),
        "the whole, PNG": (n, partial(whole, str(folder))),
        "the whole, npz": (n, partial(whole, npz)),
    }


def measured(found: dict[str, tuple[int, Callable[[], object]]], where: torch.device, repeats: int) -> Rates:
    """Images a second of each job, `repeats` times by turns after one call of each that is not counted."""
    rates: Rates = {}
    with Console(stderr=True).status("") as shown:
        for turn in range(-1, repeats):
            for label, (count, job) in found.items():
                shown.update(f"turn {turn + 1} of {repeats}: {label}")
                started = time.perf_counter()
                job()
                if where.type == "cuda":
                    torch.cuda.synchronize(where)
                if turn >= 0:
                    rates.setdefault(label, []).append(count / (time.perf_counter() - started))
    return rates


def print_table(rates: Rates) -> None:
    print("| stage | images/s | range |\n|---|---|---|")
    for label, several in rates.items():
        print(f"| {label} | {shortest(median(several))} | {shortest(min(several))} to {shortest(max(several))} |")


def shortest(rate: float) -> str:
    return f"{rate:.1f}" if rate < 100 else f"{float(f'{rate:.3g}'):,.0f}"


def binding(rates: Rates) -> None:
    """Which stage is the slowest by itself, and what share of its rate the whole reaches."""
    middle = {label: median(several) for label, several in rates.items()}
    for source, other in (("PNG", "the same, npz"), ("npz", "decode, PNG")):
        own = {
            label: rate
            for label, rate in middle.items()
            if not label.startswith(("the whole", "the same in", other)) and " together" not in label
        }
        slowest = min(own, key=lambda label: own[label])
        share = middle[f"the whole, {source}"] / own[slowest]
        print(f"\n{source}: it is {slowest} that binds; the whole runs at {share:.0%} of its rate.")


def resizes(images: Sequence[NDArray[np.uint8]], where: torch.device, repeats: int) -> None:
    """Rates of every convention's resize on the host and in the way of a device, and how far the two are apart."""
    host = torch.from_numpy(np.stack(images))
    there, count = host.to(where), len(images)
    with torch.inference_mode():
        expected = {label: way(host) for label, way in RESIZES.items()}
        slow = measured({label: (count, partial(way, host)) for label, way in RESIZES.items()}, host.device, repeats)
        with as_on_a_device():
            apart = {label: difference(way(there).cpu(), expected[label]) for label, way in RESIZES.items()}
            fast = measured({label: (count, partial(way, there)) for label, way in RESIZES.items()}, where, repeats)
    print(f"| convention | host, images/s | as on a device, on {where}, images/s | apart |\n|---|---|---|---|")
    for label in RESIZES:
        print(f"| {label} | {shortest(median(slow[label]))} | {shortest(median(fast[label]))} | {apart[label]} |")


def difference(device: Tensor, host: Tensor) -> str:
    if torch.equal(device, host):
        return "the same bits"
    apart = (device.double() - host.double()).abs()
    return f"{(apart > 0).double().mean():.2%} differ, at most by {apart.max():.1e}"
