"""Every number that the tasks report, for `arbench ls metrics` and the documentation. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase

from ..spec.result import Direction


@dataclass(frozen=True)
class MetricInfo:
    """`name` is a glob: `*` stands for a batch size, an operation, or the extractor whose features are compared."""

    name: str
    task: str
    unit: str
    direction: Direction | None
    what: str


def _infos(task: str, *rows: tuple[str, str, Direction | None, str]) -> tuple[MetricInfo, ...]:
    return tuple(MetricInfo(name, task, unit, direction, what) for name, unit, direction, what in rows)


CATALOGUE: tuple[MetricInfo, ...] = (
    *_infos(
        "reconstruct",
        ("psnr", "dB", "higher", "peak signal-to-noise ratio, per image, then the mean"),
        ("ssim", "", "higher", "structural similarity, Gaussian 11 x 11 window, per image, then the mean"),
        ("feature-distance-*", "", "lower", "1 - cosine between the features of an image and its reconstruction"),
        ("rfd-*", "", "lower", "Frechet distance between reconstructions and originals; rFID only with Inception"),
        ("codebook-used", "fraction", "higher", "share of the codes seen at least once"),
        ("codebook-used-level*", "fraction", "higher", "the same, of one level of a pyramid"),
        ("codebook-perplexity", "codes", "higher", "2^entropy of the codes seen"),
        ("codebook-perplexity-level*", "codes", "higher", "the same, of one level of a pyramid"),
        ("dead-codes", "codes", "lower", "codes never seen"),
        ("bits-per-image", "bits", "lower", "tokens x log2(codes)"),
        ("bits-per-image-entropy", "bits", "lower", "tokens coded one by one with the histogram of their level"),
        ("class-agreement", "fraction", "higher", "share of reconstructions classified as their original's class"),
    ),
    *_infos(
        "generate",
        ("frechet-*", "", "lower", "Frechet distance of the extractor's features; FID only with Inception"),
        ("kid-*", "", "lower", "kernel distance of the extractor's features, unbiased, over all pairs"),
        ("precision-*", "fraction", "higher", "share of samples inside a reference image's 3-neighbour ball"),
        ("recall-*", "fraction", "higher", "share of reference images inside a sample's 3-neighbour ball"),
        ("class-agreement", "fraction", "higher", "share of samples classified as the class asked for"),
    ),
    *_infos(
        "edit",
        ("class-agreement", "fraction", "higher", "share of edited images classified as the class asked for"),
        ("class-agreement-original", "fraction", "higher", "share of the originals classified as their own class"),
        ("unchanged-outside", "fraction", "higher", "share of values outside the mask that are the original's: 1"),
        ("psnr-outside", "dB", "higher", "outside the mask, as decoded, before the original is put back"),
        ("psnr-outside-tokenizer", "dB", "higher", "the same without an edit: what encoding and decoding cost"),
        ("frechet-*", "", "lower", "Frechet distance of edited images to the source; FID only with Inception"),
    ),
    *_infos(
        "likelihood",
        ("nats-per-token", "nats", "lower", "-log p of a code given those before it and the class, mean over images"),
        ("bits-per-image", "bits", "lower", "of all codes of an image"),
        ("bits-per-dimension", "bits", "lower", "bits of the codes over 3 H W; of the codes, not of the pixels"),
        ("nats-per-token-wrong-class", "nats", "lower", "the same given the class after the image's own"),
        ("nats-per-token-gap", "nats", "higher", "of the class after the image's own less that of its own"),
    ),
    *_infos(
        "speed",
        ("*latency-batch*", "s", "lower", "median time of a call, decoding included; encode and decode for tokenizers"),
        ("*p90-batch*", "s", "lower", "90th percentile; null below 29 calls"),
        ("*spread-batch*", "fraction", "lower", "interquartile range over the median"),
        ("*images-per-second-batch*", "images/s", "higher", "batch over median latency"),
        ("*first-call-batch*", "s", "lower", "the first call of this batch size"),
        ("*probe-overhead-batch*", "fraction", "lower", "what the phase probe adds to the median latency"),
        ("*phase-closure-batch*", "fraction", "higher", "share of a call inside any phase"),
        ("load", "s", "lower", "bringing up the adapter and its tokenizer"),
        ("prepare-batch*", "s", "lower", "one-off work for a batch size: caches, compilation"),
        ("steps", "", "lower", "autoregressive steps a call"),
        ("forwards", "", "lower", "backbone calls a call; a guided call counts as two"),
    ),
    *_infos(
        "memory",
        ("weights-file", "B", "lower", "the weight files as stored"),
        ("baseline-memory", "B", "lower", "CPU: resident set of the worker before anything is loaded"),
        ("weights-memory", "B", "lower", "what loading adds: resident set on CPU, allocated bytes on CUDA"),
        ("peak-memory-load", "B", "lower", "the most while loading"),
        ("peak-memory-batch*", "B", "lower", "peak over calls: resident set on CPU, max_memory_allocated on CUDA"),
        ("call-memory-batch*", "B", "lower", "that peak less what was held before the calls"),
        ("reserved-memory-batch*", "B", "lower", "CUDA: what the allocator holds, used or not"),
        ("process-memory-batch*", "B", "lower", "CUDA: the process by NVML, context and libraries included"),
    ),
)


def find(task: str, name: str) -> MetricInfo | None:
    """The entry of a task's metric, the longest matching name first."""
    found = [info for info in CATALOGUE if info.task == task and fnmatchcase(name, info.name)]
    return max(found, key=lambda info: len(info.name), default=None)
