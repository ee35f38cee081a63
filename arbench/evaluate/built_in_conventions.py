"""The table of the conventions that ship with arbench: which metrics each reports, on which features. Data only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from . import paired_conventions
from .definition import Convention, Definition
from .paired_conventions import PairedConvention


def _convention(name: str, what: str, *rows: tuple[Any, ...]) -> Convention:
    """Rows are (metric, kind, output, settings, direction, what it is)."""
    definitions = []
    for metric, kind, output, settings, direction, text in rows:
        unit = "dB" if metric.startswith("psnr") else ""
        alone = kind in _ALONE
        definitions.append(Definition(metric, name, kind, output, settings, unit, direction, text, alone))
    return Convention(name, what, tuple(definitions))


def _neighbours(
    output: str, k: int, test: str, distance: str, only: Sequence[str] = (), limit: int | None = None
) -> list[tuple[Any, ...]]:
    """`limit`: at most so many vectors of each side, drawn at random, and as many of one as of the other."""
    texts = {
        "precision": "share of samples inside a reference image's k-neighbour ball",
        "recall": "share of reference images inside a sample's k-neighbour ball",
        "density": "mean number of reference balls around a sample, over k",
        "coverage": "share of reference balls that hold a sample",
    }
    settings: dict[str, Any] = {"k": k, "test": test, "distance": distance}
    if limit is not None:
        settings["limit"] = limit
    return [
        (name, "neighbours", output, {**settings, "report": name}, "higher", text)
        for name, text in texts.items()
        if not only or name in only
    ]


def _pair(metric: str, variant: str) -> tuple[Any, ...]:
    """`variant` is in `arbench.metrics.pairs.paired.METRICS`, with "@convention" where the originals are treated."""
    direction = "higher" if metric.startswith(("psnr", "ssim", "ms-ssim")) else "lower"
    return (metric, "paired", "", {"variant": variant}, direction, "of each sample and its original")


def _reconstruction(known: PairedConvention) -> Convention:
    """A repository's evaluation of reconstructions: its pair metrics, its rFID, its Inception Score."""
    rows = []
    for name, variant in known.metrics.items():
        # bytes are made of the originals for pixel metrics alone
        treated = known.original is not None and variant.startswith(("psnr", "ssim"))
        metric = {"mae": "l1", "lpips": variant}.get(name, name.replace("_", "-"))
        rows.append(_pair(metric, f"{variant}@{known.name}" if treated else variant))
    root = {"root": known.root}
    rows.append(("rfid", "frechet", f"{known.recipe}:pool3", root, "lower", "Frechet distance to the originals"))
    if known.splits is not None:
        preset = {"preset": {1: "single", 10: "torch-fidelity"}[known.splits]}
        rows.append(
            ("is", "inception-score", f"{known.recipe}:logits_unbiased", preset, "higher", "of reconstructions")
        )
    return _convention(known.name, f"{known.source}: {known.note}", *rows)


_PR = ("precision", "recall")
_OFFLINE = "efficientnet-lite0:pooled"
_MIND = "arbench.metrics.sets.diversity:mind"
_ALONE = frozenset({"inception-score", "vendi", "vendi-per-class", "clip-score"})
"""Kinds that do not depend on the reference."""
_EIGVALS, _SQRTM, _PLAIN = ({"root": route} for route in ("eigvals", "sqrtm", "sqrtm-plain"))
"""The covariance roots of the tools: see `arbench.metrics.sets.published_roots`."""
_TM_CLIP, _LG_CLIP, _CLIP_S = ({"variant": name} for name in ("torchmetrics", "llamagen", "clip-s"))
_DGM = {"from": "dgm-eval", **_SQRTM}
_TF1, _CLEAN, _HALF, _ANTIALIAS = "inception/tf1", "inception/clean", "inception/half-pixel", "inception/antialias"


def _dgm_eval(name: str, output: str, network: str) -> Convention:
    return _convention(
        name,
        f"layer6ai's dgm-eval on DINOv2 {network}; its precision to coverage take 10,000 of each side at most",
        ("fd-dinov2", "frechet", output, _SQRTM, "lower", f"Frechet distance of DINOv2 {network}"),
        ("fd-dinov2-infinity", "frechet-infinity", output, _DGM, "lower", "extrapolated"),
        ("kid", "kid-subsets", output, {"preset": "dgm-eval"}, "lower", "100 subsets, numpy seed 0"),
        *_neighbours(output, 5, "<", "float32", limit=10_000),
        ("auth-pct", "auth-pct", output, {}, "higher", "no near-copy of a reference image"),
        ("vendi", "vendi", output, {"variant": "float32"}, "higher", "effective number of different samples"),
    )


def _ours(features: str, frechet: str) -> list[tuple[Any, ...]]:
    """The estimators that we would report on any features."""
    return [
        (frechet, "frechet", features, {}, "lower", "Frechet distance, at this number of samples"),
        (
            f"{frechet}-infinity",
            "frechet-infinity",
            features,
            {"from": "D"},
            "lower",
            "extrapolated to infinite n",
        ),
        ("kid", "kid", features, {}, "lower", "kernel distance over all pairs, unbiased, no random subsets"),
        ("mind", _MIND, features, {}, "lower", "3 D x squared 2-Wasserstein distance over 1000 directions"),
        *_neighbours(features, 3, "<=", "float32"),
        (
            "auth-pct",
            "auth-pct",
            features,
            {},
            "higher",
            "share of samples that are not near-copies",
        ),
        ("realism", "realism", features, {"k": 3}, "higher", "mean of each sample's ratio of radius to distance"),
        ("vendi", "vendi", features, {}, "higher", "effective number of different samples"),
        ("vendi-per-class", "vendi-per-class", features, {}, "higher", "mean over classes of each class's own"),
        (
            "neighbour-agreement",
            "neighbour-agreement",
            features,
            {},
            "higher",
            "share of samples whose nearest reference image has the same label",
        ),
    ]


BUILT_IN: dict[str, Convention] = {
    convention.name: convention
    for convention in (
        _convention(
            "arbench",
            "our choice on the standard Inception features: unbiased or extrapolated where that exists",
            *_ours(f"{_TF1}:pool3", "fid"),
            ("sfid", "frechet", f"{_TF1}:spatial", {}, "lower", "Frechet distance of Mixed_6d's first 7 channels"),
            ("is", "inception-score", f"{_TF1}:logits_unbiased", {"preset": "single"}, "higher", "one split over all"),
            (
                "mifid",
                "mifid",
                f"{_TF1}:pool3",
                {},
                "lower",
                "FID over the mean cosine distance to the nearest, if < 0.1",
            ),
            ("fid-per-class", "per-class", f"{_TF1}:pool3", {}, "lower", "mean over classes of each class's own FID"),
        ),
        _convention(
            "offline",
            "the same on EfficientNet-Lite0, whose weights come with the installation; never called FID",
            *_ours(_OFFLINE, "frechet"),
            ("frechet-per-class", "per-class", _OFFLINE, {}, "lower", "mean over classes"),
        ),
        _convention(
            "adm",
            "OpenAI's evaluator.py of guided-diffusion",
            ("fid", "frechet", f"{_TF1}:pool3", _SQRTM, "lower", "Frechet distance"),
            ("sfid", "frechet", f"{_TF1}:spatial", _SQRTM, "lower", "Frechet distance of Mixed_6d, first 7 channels"),
            (
                "is",
                "inception-score",
                f"{_TF1}:logits_unbiased",
                {"preset": "adm"},
                "higher",
                "blocks of 5000 in file order",
            ),
            *_neighbours(f"{_TF1}:pool3", 3, "<=", "adm", _PR),
        ),
        _convention(
            "torch-fidelity",
            "torch-fidelity's defaults; its precision and recall use VGG16",
            ("fid", "frechet", f"{_TF1}:pool3", _EIGVALS, "lower", "Frechet distance"),
            (
                "is",
                "inception-score",
                f"{_TF1}:logits_unbiased",
                {"preset": "torch-fidelity"},
                "higher",
                "10 splits, shuffled",
            ),
            ("kid", "kid-subsets", f"{_TF1}:pool3", {"preset": "torch-fidelity"}, "lower", "100 subsets of 1000"),
            *_neighbours("vgg16/torch-fidelity:fc2_relu", 3, "<=", "cdist", _PR),
        ),
        _convention(
            "torch-fidelity-2048",
            "torch-fidelity with --feature-layer-prc 2048: precision and recall on Inception's pool3",
            ("fid", "frechet", f"{_TF1}:pool3", _EIGVALS, "lower", "Frechet distance"),
            (
                "is",
                "inception-score",
                f"{_TF1}:logits_unbiased",
                {"preset": "torch-fidelity"},
                "higher",
                "10 splits, shuffled",
            ),
            ("kid", "kid-subsets", f"{_TF1}:pool3", {"preset": "torch-fidelity"}, "lower", "100 subsets of 1000"),
            *_neighbours(f"{_TF1}:pool3", 3, "<=", "cdist", _PR),
        ),
        _convention(
            "clean-fid",
            "clean-fid's mode 'clean'",
            ("fid", "frechet", f"{_CLEAN}:pool3", _SQRTM, "lower", "Frechet distance"),
            ("kid", "kid-subsets", f"{_CLEAN}:pool3", {"preset": "clean-fid"}, "lower", "100 subsets, numpy seed 0"),
            ("clip-fid", "frechet", "clip-b32/clean:image", _SQRTM, "lower", "Frechet distance of CLIP ViT-B/32"),
        ),
        _convention(
            "pytorch-fid",
            "mseitzer's pytorch-fid",
            ("fid", "frechet", f"{_HALF}:pool3", _SQRTM, "lower", "Frechet distance"),
        ),
        _convention(
            "torchmetrics",
            "torchmetrics.image, antialias on; its unseeded shuffles are seeded here",
            ("fid", "frechet", f"{_ANTIALIAS}:pool3", _EIGVALS, "lower", "Frechet distance"),
            (
                "is",
                "inception-score",
                f"{_ANTIALIAS}:logits_unbiased",
                {"preset": "torchmetrics"},
                "higher",
                "10 chunks",
            ),
            ("kid", "kid-subsets", f"{_ANTIALIAS}:pool3", {"preset": "torchmetrics"}, "lower", "100 subsets of 1000"),
            ("mifid", "mifid", f"{_ANTIALIAS}:pool3", _EIGVALS, "lower", "memorisation-informed FID"),
        ),
        _convention(
            "edm2",
            "NVIDIA's calculate_metrics.py of EDM2",
            ("fid", "frechet", "inception/grid-sample:pool3", _PLAIN, "lower", "Frechet distance"),
            ("fd-dinov2", "frechet", "dinov2/edm2:cls", _PLAIN, "lower", "Frechet distance of DINOv2 ViT-L/14"),
        ),
        _dgm_eval("dgm-eval", "dinov2/dgm:cls", "ViT-L/14"),
        _dgm_eval("dgm-eval-s", "dinov2/dgm-s:cls", "ViT-S/14"),
        _dgm_eval("dgm-eval-b", "dinov2/dgm-b:cls", "ViT-B/14"),
        _dgm_eval("dgm-eval-g", "dinov2/dgm-g:cls", "ViT-g/14"),
        _convention(
            "cmmd",
            "CLIP-MMD of google-research/cmmd",
            ("cmmd", "cmmd", "clip-l14-336/cmmd:image", {}, "lower", "1000 x squared MMD, biased, sigma 10"),
        ),
        _convention(
            "clip-score",
            "agreement of images with their prompts (--prompts FILE): torchmetrics, LlamaGen and Hessel et al.",
            ("clip-score", "clip-score", "clip-b32/hf:image", _TM_CLIP, "higher", "100 x cosine, ViT-B/32"),
            ("clip-score-l14", "clip-score", "clip-l14/hf:image", _TM_CLIP, "higher", "ViT-L/14, the default there"),
            ("clip-score-llamagen", "clip-score", "clip-b32/llamagen:image", _LG_CLIP, "higher", "cosine, ViT-B/32"),
            ("clip-s", "clip-score", "clip-b32/clean:image", _CLIP_S, "higher", "2.5 max(cosine, 0), ViT-B/32"),
        ),
        *(_reconstruction(known) for known in paired_conventions.CONVENTIONS.values()),
        _convention(
            "pairs",
            "our choice for reconstructions: every variant named",
            _pair("psnr", "psnr"),
            _pair("psnr-pooled", "psnr-pooled"),
            _pair("ssim", "ssim-gaussian11"),
            _pair("ms-ssim", "ms-ssim"),
            _pair("l1", "l1"),
            _pair("lpips-alex", "lpips-alex"),
            _pair("lpips-vgg", "lpips-vgg"),
            _pair("dists", "dists"),
        ),
        _convention(
            "perceptual-pairs",
            "what `pairs` has beyond `offline-pairs`: MS-SSIM, LPIPS and DISTS of reconstructions",
            _pair("ms-ssim", "ms-ssim"),
            _pair("lpips-alex", "lpips-alex"),
            _pair("lpips-vgg", "lpips-vgg"),
            _pair("dists", "dists"),
        ),
        _convention(
            "offline-pairs",
            "reconstructions without downloads: pixels, and EfficientNet-Lite0; never called LPIPS or rFID",
            _pair("psnr", "psnr"),
            _pair("ssim", "ssim-gaussian11"),
            _pair("l1", "l1"),
            (
                "feature-distance",
                "feature-distance",
                _OFFLINE,
                {},
                "lower",
                "1 - cosine of the features, mean over pairs",
            ),
            ("frechet", "frechet", _OFFLINE, {}, "lower", "Frechet distance to the originals"),
        ),
    )
}
