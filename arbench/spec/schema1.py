"""Results of schema 1 (arbench 0.1), whose names carry parameters, as results of schema 2. Pure, on plain values."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

OWN, SETS, PAIRS = "arbench", "offline", "offline-pairs"
EXTRACTOR = "efficientnet-lite0"

_TIMED = re.compile(
    r"(?:(?P<operation>encode|decode)-)?"
    r"(?P<name>latency|p90|spread|images-per-second|first-call|probe-overhead|phase-closure)-batch(?P<batch>\d+)"
)
_BATCH = re.compile(r"(?P<name>prepare|(?:peak|call|reserved|process)-memory)-batch(?P<batch>\d+)")
_LEVEL = re.compile(r"(?P<name>codebook-(?:used|perplexity))-level(?P<level>\d+)")
_FEATURES = re.compile(r"(?P<name>frechet|rfd|kid|precision|recall|feature-distance)-(?P<extractor>.+)")
_RENAMED = {"p90": "latency-p90", "spread": "latency-spread", "rfd": "frechet"}
_PAIRED = ("rfd", "feature-distance")
_PIXELS = ("psnr", "ssim")

PICTURES = ("samples.npz", "pairs.npz", "edits.npz")
ARTIFACTS = {**dict.fromkeys(PICTURES, "pictures"), "samples.png": "sheet", "latency.npz": "latency"}


def upgraded(result: Mapping[str, Any]) -> dict[str, Any]:
    """The content of a result.json in schema 2; one that is not of schema 1 as it is."""
    value = dict(result)
    if value.get("schema_version") != 1:
        return value
    value["schema_version"] = 2
    metrics, artifacts = value.get("metrics"), value.get("artifacts")
    if isinstance(metrics, list | tuple):
        value["metrics"] = [_metric(metric, value) if isinstance(metric, Mapping) else metric for metric in metrics]
    if isinstance(artifacts, Mapping):
        value["artifacts"] = {ARTIFACTS[file]: file for file in artifacts.values() if file in ARTIFACTS}
    return value


def _metric(metric: Mapping[str, Any], result: Mapping[str, Any]) -> dict[str, Any]:
    """Its `convention` was prose; what it means now follows from the name and the task."""
    value = dict(metric)
    value["how"] = value.pop("convention", "")
    value["name"], value["convention"], value["at"] = renamed(str(metric.get("name")), str(result.get("task")))
    if value["convention"] != OWN:
        value["reference"] = _reference(result)
    if value["name"] in ("precision", "recall"):
        value["unit"] = ""
    return value


def renamed(name: str, task: str) -> tuple[str, str, dict[str, str | int]]:
    """A name of schema 1 as (name, convention, at)."""
    if found := _TIMED.fullmatch(name):
        at: dict[str, str | int] = {"batch": int(found["batch"]), "operation": found["operation"] or "sample"}
        return _RENAMED.get(found["name"], found["name"]), OWN, at
    if found := _BATCH.fullmatch(name):
        return found["name"], OWN, {"batch": int(found["batch"])}
    if found := _LEVEL.fullmatch(name):
        return found["name"], OWN, {"level": int(found["level"])}
    if found := _FEATURES.fullmatch(name):
        ours = PAIRS if found["name"] in _PAIRED else SETS
        return (
            _RENAMED.get(found["name"], found["name"]),
            ours if found["extractor"] == EXTRACTOR else found["extractor"],
            {},
        )
    if name in _PIXELS and task == "reconstruct":
        return name, PAIRS, {}
    if name == "class-agreement-original":
        return "class-agreement", OWN, {"images": "originals"}
    return name, OWN, {}


def _reference(result: Mapping[str, Any]) -> dict[str, str]:
    """The images that the cell named; their digest was computed otherwise than now, so that the two never meet."""
    parameters = result.get("parameters") or {}
    name = str(parameters.get("reference") or parameters.get("data") or "")
    digests = (result.get("provenance") or {}).get("data") or {}
    return {"name": name, "digest": str(digests.get(name, ""))}
