"""What a set of images is, and which differences between samples and reference make their distance misleading.

The same name "FID" stands for generated images against the training set, reconstructions against the validation set,
and for both of them against the wrong set; the size, the crop and the rounding of pixels move the number as well.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from ...errors import InputError, counted
from ..contents import Identity

Task = Literal["generate", "reconstruct"]
Split = Literal["train", "val", "unknown"]
UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class LabelCounts:
    """How many classes there are, and how many images the smallest and the largest one has."""

    classes: int
    smallest: int
    largest: int


@dataclass(frozen=True, slots=True)
class SetIdentity:
    """What is known of a set of images; whatever is None, empty or "unknown" is never held against it.

    `crop` is a recipe of `arbench.data.crops`, `quantisation` how pixels became bytes ("round" or "truncate"),
    `digest` is over the pixels in order, `unordered_digest` the same in any order. `expected` is the number of samples
    behind published numbers on this reference.
    """

    name: str = ""
    n: int | None = None
    sizes: tuple[tuple[int, int], ...] = ()
    """(height, width), each once, sorted."""
    crop: str = UNKNOWN
    quantisation: str = UNKNOWN
    labels: LabelCounts | None = None
    labels_sorted: bool | None = None
    digest: str = ""
    unordered_digest: str = ""
    split: Split = "unknown"
    expected: int | None = None

    def facts(self) -> list[tuple[str, str]]:
        """What is known, as (name, value) to print."""
        labels = self.labels
        found = [
            ("name", self.name),
            ("n", "" if self.n is None else str(self.n)),
            ("size", " ".join(f"{height}x{width}" for height, width in self.sizes)),
            ("split", self.split),
            ("crop", self.crop),
            ("quantisation", self.quantisation),
            ("labels", f"{labels.classes} classes of {labels.smallest} to {labels.largest} images" if labels else ""),
            ("order", {None: "", True: "sorted by class", False: "not sorted by class"}[self.labels_sorted]),
            ("digest", self.digest),
        ]
        return [(name, value) for name, value in found if value not in ("", UNKNOWN)]


def identity(
    name: str,
    counted: Identity,
    *,
    crop: str = UNKNOWN,
    quantisation: str = UNKNOWN,
    split: Split | None = None,
) -> SetIdentity:
    """The identity of images that were read and counted; `split` is as the name hints if not given."""
    counts = [count for count in counted.label_counts.values() if count]
    labels = LabelCounts(len(counts), min(counts), max(counts)) if counts else None
    return SetIdentity(
        name=name,
        n=counted.n,
        sizes=tuple(sorted(counted.sizes)),
        crop=crop,
        quantisation=quantisation,
        labels=labels,
        labels_sorted=counted.labels_sorted if labels and labels.classes > 1 else None,
        digest=counted.digest,
        unordered_digest=counted.unordered_digest,
        split=split or split_hint(name),
    )


def split_hint(name: str) -> Split:
    """The split that a file or folder name speaks of; of several, the last one."""
    found: Split = "unknown"
    for word in re.findall(r"[a-z]+", name.lower()):
        if word in {"train", "training", "trainfull"}:
            found = "train"
        elif word in {"val", "valid", "validation", "test", "heldout"}:
            found = "val"
    return found


def to_json(known: SetIdentity) -> dict[str, Any]:
    return dataclasses.asdict(known)


def from_json(stored: Mapping[str, Any]) -> SetIdentity:
    """The identity in a header; fields of a later version are left out. Raises TypeError or ValueError if malformed."""
    names = {entry.name for entry in dataclasses.fields(SetIdentity)}
    values = {name: value for name, value in stored.items() if name in names}
    values["sizes"] = tuple((int(height), int(width)) for height, width in values.get("sizes", ()))
    if values.get("labels") is not None:
        values["labels"] = LabelCounts(**values["labels"])
    if values.get("split", "unknown") not in ("train", "val", "unknown"):
        raise ValueError(f"split {values['split']!r}")
    return SetIdentity(**values)


# --- References that everyone compares with


@dataclass(frozen=True, slots=True)
class Known:
    """A file in circulation: its name, or its git blob where the repositories that carry it agree on one."""

    pattern: str
    identity: SetIdentity
    blob: str = ""


def _imagenet(size: int) -> SetIdentity:
    """Moments over ImageNet's whole training set by OpenAI, with ADM's crop."""
    return SetIdentity(
        f"ImageNet {size} train (ADM)",
        sizes=((size, size),),
        crop="adm-center-crop-v1",
        quantisation="round",
        labels=LabelCounts(1000, 732, 1300),
        split="train",
        expected=50_000,
    )


KNOWN: tuple[Known, ...] = (
    # the same blob in MAR, xAR, LPD and TransDiff
    Known(r"adm_in256_stats", _imagenet(256), "1da4c17607fe959d54999fd098105649a0c05e15"),
    Known(r"adm_in512_stats", _imagenet(512)),
    Known(r"virtual_imagenet64(_labeled)?", _imagenet(64)),
    Known(r"virtual_imagenet128(_labeled)?", _imagenet(128)),
    Known(r"virtual_imagenet256(_labeled)?", _imagenet(256)),
    Known(r"virtual_imagenet512(_labeled)?", _imagenet(512)),
)


def known_reference(path: Path, blob: str = "") -> SetIdentity | None:
    """The identity of a reference in circulation, by its git blob, else by its file name."""
    by_blob = [entry.identity for entry in KNOWN if blob and entry.blob == blob]
    by_name = [entry.identity for entry in KNOWN if re.fullmatch(entry.pattern, path.stem.lower())]
    return next(iter(by_blob + by_name), None)


# --- Comparison


@dataclass(frozen=True, slots=True)
class Flag:
    """`code` goes into `Metric.flags`, `sentence` is for people; `metrics` names those concerned, all if empty."""

    code: str
    sentence: str
    metrics: tuple[str, ...] = field(default=())


def check_identity(samples: SetIdentity, reference: SetIdentity, task: Task) -> tuple[Flag, ...]:
    """What makes the distance of these samples to this reference another number than it seems to be.

    Generated images are compared with the training set, reconstructions with the images they were made from. What
    either side does not know is not checked.
    """
    checks = (_split, _size, _crop, _quantisation, _count, _labels, _order, _same)
    return tuple(flag for check in checks for flag in check(samples, reference, task))


def check_weights(reference: Mapping[str, str], used: Mapping[str, str]) -> tuple[Flag, ...]:
    """Whether the features were taken with other weights than the reference's; both map names to sha256."""
    differ = sorted(name for name in reference.keys() & used.keys() if reference[name] != used[name])
    if not differ:
        return ()
    return (Flag("weights_differ", f"the reference was made with other weights of {', '.join(differ)}"),)


def refuse(flags: Sequence[Flag]) -> None:
    """For `--strict`: raises `InputError` if there is any flag."""
    if flags:
        listed = "; ".join(f"{flag.sentence} ({flag.code})" for flag in flags)
        raise InputError(
            "samples and reference do not belong together", listed, "give the right reference, or leave out --strict"
        )


def _split(samples: SetIdentity, reference: SetIdentity, task: Task) -> list[Flag]:
    if task == "generate" and reference.split == "val":
        return [Flag("reference_is_val", "generated images are compared with a validation set, not the training set")]
    if task == "reconstruct" and reference.split == "train":
        return [
            Flag("reference_is_train", "reconstructions are compared with a training set, not with their originals")
        ]
    return []


def _size(samples: SetIdentity, reference: SetIdentity, task: Task) -> list[Flag]:
    if not samples.sizes or not reference.sizes or samples.sizes == reference.sizes:
        return []
    sentence = f"samples are {_listed(samples.sizes)}, the reference {_listed(reference.sizes)} (height x width)"
    return [Flag("size_differs", sentence)]


def _crop(samples: SetIdentity, reference: SetIdentity, task: Task) -> list[Flag]:
    if UNKNOWN in (samples.crop, reference.crop) or samples.crop == reference.crop:
        return []
    return [Flag("crop_differs", f"samples were prepared by {samples.crop}, the reference by {reference.crop}")]


def _quantisation(samples: SetIdentity, reference: SetIdentity, task: Task) -> list[Flag]:
    if UNKNOWN in (samples.quantisation, reference.quantisation) or samples.quantisation == reference.quantisation:
        return []
    sentence = (
        f"pixels became bytes by {samples.quantisation} in the samples, by {reference.quantisation} in the reference"
    )
    return [Flag("quantisation_differs", sentence)]


def _count(samples: SetIdentity, reference: SetIdentity, task: Task) -> list[Flag]:
    """A distance falls with the number of samples: only numbers at the same n compare."""
    mine, theirs = samples.n, reference.n
    if task == "reconstruct" and mine is not None and theirs is not None and mine != theirs:
        sentence = f"{counted(mine, 'reconstruction')}, and the reference has {counted(theirs, 'image')}"
        return [Flag("count_differs", sentence)]
    if task == "generate" and None not in (samples.n, reference.expected) and samples.n != reference.expected:
        sentence = f"{samples.n} samples, and published numbers on this reference are of {reference.expected}"
        return [Flag("count_differs", sentence)]
    return []


def _labels(samples: SetIdentity, reference: SetIdentity, task: Task) -> list[Flag]:
    labels = samples.labels
    if task != "generate" or labels is None or samples.n is None:
        return []
    absent = reference.labels.classes - labels.classes if reference.labels else 0
    if absent > 0 and samples.n >= labels.classes + absent:
        return [Flag("labels_unbalanced", f"{absent} of the reference's classes have no samples")]
    if labels.largest - labels.smallest > 1:  # by one they differ where n is not a multiple of the number of classes
        return [Flag("labels_unbalanced", f"classes have {labels.smallest} to {labels.largest} samples each")]
    return []


def _order(samples: SetIdentity, reference: SetIdentity, task: Task) -> list[Flag]:
    if task != "generate" or not samples.labels_sorted:
        return []
    sentence = "samples are sorted by class: splits in order see few classes each, which lowers the Inception Score"
    return [Flag("labels_sorted", sentence, ("is", "inception_score"))]


def _same(samples: SetIdentity, reference: SetIdentity, task: Task) -> list[Flag]:
    pairs = ((samples.digest, reference.digest), (samples.unordered_digest, reference.unordered_digest))
    if not any(mine and mine == theirs for mine, theirs in pairs):
        return []
    return [Flag("same_images", "samples and reference are the same images")]


def _listed(sizes: Sequence[tuple[int, int]]) -> str:
    shown = ", ".join(f"{height}x{width}" for height, width in sizes[:3])
    return shown + (f" and {len(sizes) - 3} more" if len(sizes) > 3 else "")
