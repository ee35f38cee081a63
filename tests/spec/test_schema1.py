"""Names of schema 1: every one that arbench 0.1 wrote has a name, convention and place in schema 2."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arbench.spec.result import SCHEMA_VERSION, Result
from arbench.spec.schema1 import renamed, upgraded
from arbench.spec.task import tasks

CATALOGUE = {
    "reconstruct": (
        *("psnr", "ssim", "feature-distance-*", "rfd-*", "codebook-used", "codebook-used-level*"),
        *("codebook-perplexity", "codebook-perplexity-level*", "dead-codes", "bits-per-image"),
        *("bits-per-image-entropy", "class-agreement"),
    ),
    "generate": ("frechet-*", "kid-*", "precision-*", "recall-*", "class-agreement"),
    "edit": (
        *("class-agreement", "class-agreement-original", "unchanged-outside", "psnr-outside"),
        *("psnr-outside-tokenizer", "frechet-*"),
    ),
    "likelihood": (
        *("nats-per-token", "bits-per-image", "bits-per-dimension", "nats-per-token-wrong-class"),
        "nats-per-token-gap",
    ),
    "speed": (
        *("*latency-batch*", "*p90-batch*", "*spread-batch*", "*images-per-second-batch*", "*first-call-batch*"),
        *("*probe-overhead-batch*", "*phase-closure-batch*", "load", "prepare-batch*", "steps", "forwards"),
    ),
    "memory": (
        *("weights-file", "baseline-memory", "weights-memory", "peak-memory-load", "peak-memory-batch*"),
        *("call-memory-batch*", "reserved-memory-batch*", "process-memory-batch*"),
    ),
}
"""The catalogue of 0.1: task -> names; `*` stands for an operation, an extractor, a batch size or a level."""
NAMES = [(task, name) for task, names in CATALOGUE.items() for name in names]
EXTRACTOR = "efficientnet-lite0"


def example(task: str, glob: str, number: int, operation: str) -> str:
    name = f"{operation}{glob[1:]}" if glob.startswith("*") else glob
    return name.replace("*", EXTRACTOR if glob.endswith("-*") and "batch" not in glob else str(number))


@pytest.mark.parametrize(("task", "glob"), NAMES)
@given(number=st.integers(0, 4096), operation=st.sampled_from(["", "encode-", "decode-"]))
def test_every_old_name_is_one_that_its_task_reports_now(task: str, glob: str, number: int, operation: str) -> None:
    old = example(task, glob, number, operation)
    name, convention, at = renamed(old, task)
    assert tasks()[task].info(name) is not None
    assert not re.search(r"batch|level\d|encode|decode|lite0", name)
    if "batch" in glob:
        timed = {"operation": operation.rstrip("-") or "sample"} if glob.startswith("*") else {}
        assert (convention, at) == ("arbench", {"batch": number, **timed})
    elif "level*" in glob:
        assert (convention, at) == ("arbench", {"level": number})
    elif glob.endswith("-*"):
        assert (convention, at) == ("offline-pairs" if task == "reconstruct" else "offline", {})
    elif old == "class-agreement-original":
        assert (name, at) == ("class-agreement", {"images": "originals"})
    else:
        assert (name, at) == (old, {})
        assert convention == ("offline-pairs" if old in ("psnr", "ssim") else "arbench")


@pytest.mark.parametrize("task", CATALOGUE)
def test_names_stay_distinct(task: str) -> None:
    old = {
        example(task, glob, number, operation)
        for glob in CATALOGUE[task]
        for number in (0, 1, 16)
        for operation in (("", "encode-", "decode-") if glob.startswith("*") else ("",))
    }
    found = [(name, convention, tuple(at.items())) for name, convention, at in (renamed(each, task) for each in old)]
    assert len(set(found)) == len(old)


def test_another_extractor_is_a_convention_of_its_own() -> None:
    assert renamed("frechet-inception", "generate") == ("frechet", "inception", {})


OLD = {
    "schema_version": 1,
    "result_id": "res-1",
    "settings_id": "set-1",
    "adapter": "a",
    "family": "other",
    "kind": "generator",
    "task": "generate",
    "parameters": {"reference": "mnist5k/heldout", "n": 64},
    "outcome": "ok",
    "metrics": [
        {"name": f"precision-{EXTRACTOR}", "value": 0.5, "unit": "fraction", "n": 64, "convention": "k = 3; not FID"},
        {"name": "class-agreement", "value": None, "n": 64, "convention": "LeNet", "reason": "no labels"},
    ],
    "artifacts": {"samples.npz": "samples.npz", "samples.png": "samples.png", "mine": "mine.npz"},
    "provenance": {
        "arbench": "0.1.0", "python": "3.11", "platform": "p", "device": "cpu", "data": {"mnist5k/heldout": "12"}
    },
}  # fmt: skip


def test_a_result_is_valid_afterwards() -> None:
    result = Result.model_validate(upgraded(OLD))
    assert result.schema_version == SCHEMA_VERSION
    precision, agreement = result.metrics
    assert precision.key == ("precision", "offline", "12", ())
    assert (precision.how, precision.unit, precision.value) == ("k = 3; not FID", "", 0.5)
    assert precision.reference is not None
    assert precision.reference.name == "mnist5k/heldout"
    assert (agreement.convention, agreement.reference, agreement.reason) == ("arbench", None, "no labels")
    assert result.artifacts == {"pictures": "samples.npz", "sheet": "samples.png"}
    assert OLD["schema_version"] == 1  # not changed in place


def test_a_result_of_today_stays_as_it_is() -> None:
    today = Result.model_validate(upgraded(OLD)).plain()
    assert upgraded(today) == today


@pytest.mark.parametrize("damaged", [{"metrics": [3]}, {"metrics": 3}, {"artifacts": 3}, {"parameters": None}])
def test_what_is_damaged_is_left_for_the_model_to_refuse(damaged: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="validation error"):
        Result.model_validate(upgraded(OLD | damaged))
