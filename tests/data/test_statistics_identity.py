"""Every mismatch of samples and reference raises its flag, and what is unknown or right raises none."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import numpy as np
import pytest

from arbench.data.contents import IdentityTally
from arbench.data.statistics.checks import (
    KNOWN,
    LabelCounts,
    SetIdentity,
    check_identity,
    check_weights,
    from_json,
    identity,
    refuse,
    split_hint,
    to_json,
)
from arbench.data.stream import Picture
from arbench.errors import InputError

TRAIN = next(entry.identity for entry in KNOWN if entry.pattern == "adm_in256_stats")
VAL = SetIdentity("val", 50_000, ((256, 256),), "adm-center-crop-v1", "round", digest="b", split="val")
GENERATED = SetIdentity(
    "samples", 50_000, ((256, 256),), quantisation="round", labels=LabelCounts(1000, 50, 50), labels_sorted=False,
    digest="a",
)  # fmt: skip
DECODED = SetIdentity("decoded", 50_000, ((256, 256),), "adm-center-crop-v1", "round", digest="a")


def codes(samples: SetIdentity, reference: SetIdentity, task: Any) -> list[str]:
    return [flag.code for flag in check_identity(samples, reference, task)]


def changed(known: SetIdentity, **changes: Any) -> SetIdentity:
    return dataclasses.replace(known, **changes)


def test_the_usual_protocols_raise_no_flag() -> None:
    assert codes(GENERATED, TRAIN, "generate") == []
    assert codes(DECODED, VAL, "reconstruct") == []


@pytest.mark.parametrize(
    ("samples", "reference", "task", "expected"),
    [
        (GENERATED, VAL, "generate", ["reference_is_val"]),
        (DECODED, changed(VAL, split="train"), "reconstruct", ["reference_is_train"]),
        (changed(GENERATED, sizes=((512, 512),)), TRAIN, "generate", ["size_differs"]),
        (changed(GENERATED, sizes=((256, 256), (300, 256))), TRAIN, "generate", ["size_differs"]),
        (changed(DECODED, crop="torchvision-bicubic-v1"), VAL, "reconstruct", ["crop_differs"]),
        (changed(GENERATED, quantisation="truncate"), TRAIN, "generate", ["quantisation_differs"]),
        (changed(DECODED, n=49_999), VAL, "reconstruct", ["count_differs"]),
        (changed(GENERATED, n=10_000, labels=LabelCounts(1000, 10, 10)), TRAIN, "generate", ["count_differs"]),
        (changed(GENERATED, labels=LabelCounts(1000, 31, 76)), TRAIN, "generate", ["labels_unbalanced"]),
        (changed(GENERATED, labels=LabelCounts(100, 500, 500)), TRAIN, "generate", ["labels_unbalanced"]),
        (changed(GENERATED, labels_sorted=True), TRAIN, "generate", ["labels_sorted"]),
        (changed(DECODED, digest="b"), VAL, "reconstruct", ["same_images"]),
        (
            changed(DECODED, unordered_digest="c"), changed(VAL, unordered_digest="c"), "reconstruct", ["same_images"],
        ),
    ],
)  # fmt: skip
def test_each_mismatch_has_its_flag(
    samples: SetIdentity, reference: SetIdentity, task: str, expected: list[str]
) -> None:
    assert codes(samples, reference, task) == expected


def test_classes_may_differ_by_one_where_n_is_no_multiple() -> None:
    samples = changed(GENERATED, n=50_001, labels=LabelCounts(1000, 50, 51))
    assert codes(samples, changed(TRAIN, expected=None), "generate") == []


def test_fewer_samples_than_classes_are_not_unbalanced() -> None:
    samples = changed(GENERATED, n=100, labels=LabelCounts(100, 1, 1))
    assert codes(samples, TRAIN, "generate") == ["count_differs"]


@pytest.mark.parametrize("task", ["generate", "reconstruct"])
def test_what_is_unknown_is_not_held_against_anyone(task: str) -> None:
    assert codes(SetIdentity(), TRAIN if task == "generate" else VAL, task) == []
    assert codes(GENERATED, SetIdentity(), task) == []


def test_order_concerns_the_inception_score_alone() -> None:
    (flag,) = check_identity(changed(GENERATED, labels_sorted=True), TRAIN, "generate")
    assert "is" in flag.metrics
    (flag,) = check_identity(GENERATED, VAL, "generate")
    assert flag.metrics == ()


def test_strict_lists_every_flag() -> None:
    refuse(())
    flags = check_identity(changed(GENERATED, sizes=((512, 512),)), VAL, "generate")
    with pytest.raises(InputError) as error:
        refuse(flags)
    assert "reference_is_val" in error.value.why
    assert "samples are 512x512, the reference 256x256" in error.value.why


def test_weights() -> None:
    assert check_weights({"inception": "a"}, {"inception": "a", "vgg16": "b"}) == ()
    assert check_weights({}, {"inception": "a"}) == ()
    (flag,) = check_weights({"inception": "a"}, {"inception": "b"})
    assert (flag.code, "inception" in flag.sentence) == ("weights_differ", True)


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("imagenet-val-50k", "val"),
        ("/data/train/val_256.npz", "val"),
        ("ILSVRC2012_train", "train"),
        ("mnist5k/heldout", "val"),
        ("coco_test2014", "val"),
        ("trained_model_samples", "unknown"),
        ("interval-samples2", "unknown"),
        ("", "unknown"),
    ],
)
def test_split_hints(name: str, split: str) -> None:
    assert split_hint(name) == split


def test_from_a_tally_of_pictures_and_through_json() -> None:
    tally = IdentityTally()
    shapes = [(8, 8), (8, 8), (4, 8)]
    for index, (shape, label) in enumerate(zip(shapes, [0, 0, 3], strict=True)):
        tally.update(Picture(index, str(index), np.full((3, *shape), index, np.uint8), label))
    counted = tally.result()
    known = identity("photos/val", counted, crop="none", quantisation="round")
    assert known == SetIdentity(
        "photos/val", 3, ((4, 8), (8, 8)), "none", "round", LabelCounts(2, 1, 2), True, counted.digest,
        counted.unordered_digest, "val",
    )  # fmt: skip
    assert from_json(json.loads(json.dumps(to_json(known)))) == known
    assert codes(known, changed(known, digest=""), "reconstruct") == ["same_images"]  # in any order


def test_one_class_has_no_order() -> None:
    tally = IdentityTally()
    for index in range(3):
        tally.update(Picture(index, str(index), np.zeros((3, 2, 2), np.uint8), 7))
    assert identity("a", tally.result()).labels_sorted is None
