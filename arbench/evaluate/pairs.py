"""Image pairs: each sample with the reference image of the same name, read in step, compared as they come."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NoReturn

import numpy as np
import torch
from numpy.typing import NDArray

from ..data.reading import Open, Reading, Source, fingerprint, name_of
from ..data.sources import open_images
from ..data.stream import Picture
from ..errors import InputError
from ..features.weight_files import Weights
from ..metrics.pairs import paired, perceptual
from ..metrics.pairs.backbones import NEEDS
from . import paired_conventions
from .pair_names import RULES, PairNames, stem
from .question import why_missing


@dataclass(slots=True)
class PairMetrics:
    """Metrics of image pairs by name: `variants` of `arbench.metrics.pairs.paired.METRICS`.

    "variant@convention" where that convention does something to the originals first. Those whose weights are missing
    are left out. Networks are loaded with the first pairs and kept.
    """

    variants: Sequence[str]
    weights: Weights
    device: str = "cpu"
    _networks: dict[str, perceptual.Network] | None = None

    @property
    def available(self) -> list[str]:
        return [key for key in dict.fromkeys(self.variants) if not why_missing(key, self.weights)]

    def settings(self) -> dict[str, object]:
        """What decides the values besides the images, for the identity of stored ones."""
        files = [self.weights.find(NEEDS[name]) for name in self._perceptual()]
        return {"variants": self.available, "weights": sorted({file.sha256 for file in files if file is not None})}

    def __call__(self, samples: NDArray[np.uint8], originals: NDArray[np.uint8]) -> dict[str, NDArray[np.float64]]:
        """(n,) per name, of images (n, 3, H, W); NaN where images are too small for a metric."""
        if self._networks is None:
            self._networks = perceptual.load(self._perceptual(), self.weights, self.device)
        treatments: dict[str, list[str]] = {}
        for key in self.available:
            variant, _, convention = key.partition("@")
            treatments.setdefault(convention, []).append(variant)
        mine, theirs = torch.from_numpy(samples), torch.from_numpy(originals)
        found = {}
        for convention, variants in treatments.items():
            treated = paired_conventions.find(convention).originals(theirs) if convention else theirs
            values = paired.compare(mine, treated, variants, self._networks, self.device)
            suffix = f"@{convention}" if convention else ""
            found.update({f"{variant}{suffix}": rows for variant, rows in values.items()})
        return found

    def _perceptual(self) -> list[str]:
        names = [key.partition("@")[0] for key in self.available]
        return [name for name in dict.fromkeys(names) if name in NEEDS]


REPAIR = (
    "rename or remove what is left over on one side, so that a pair has one name; of a zip or tar archive in a folder"
    " that it is unpacked into, which is then given in its place: python -m zipfile -e FILE.zip FOLDER, or"
    " tar -xf FILE.tar -C FOLDER"
)
BY_PLACE = "paired_by_place"
"""A flag, and the key of a per-image value: 1 where names are numbered apart, so that places alone made the pairs."""


@dataclass(slots=True)
class Pairing:
    """Per-image metrics of samples against their originals: called with chunks of samples in the source's order.

    A sample's original has the same place in its source, and its name says so too: see `PairNames`.
    """

    reference: Source
    reading: Reading
    metrics: PairMetrics
    shard: tuple[int, int] = (0, 1)
    open: Open = open_images
    samples: int | None = None
    """How many there are, if that is known."""
    mark: str | None = None
    """Changes when the originals do; None: the fingerprint of their files."""
    _originals: Iterator[Picture] | None = None
    _count: int | None = None
    _names: PairNames | None = None
    _ahead: Picture | None = None

    def settings(self) -> dict[str, object]:
        """What decides the values, for the identity of the stored set."""
        return {
            "originals": name_of(self.reference),
            "original_files": fingerprint(self.reference) if self.mark is None else self.mark,
            "original_reading": self.reading.settings(),
            "told": BY_PLACE,
            "rules": RULES,
            **self.metrics.settings(),
        }

    def __call__(self, samples: Sequence[Picture]) -> list[dict[str, float | None]]:
        if self._originals is None:
            stream = self.open(self.reference, self.reading, self.shard)
            self._originals, self._count = iter(stream), stream.count
            self._names = PairNames(self.samples, stream.count)
        originals = [self._original(sample) for sample in samples]
        assert self._names is not None
        values: list[dict[str, float | None]] = [{BY_PLACE: 1.0} if self._names.by_place else {} for _ in samples]
        by_shape: dict[tuple[int, ...], list[int]] = {}
        for place, sample in enumerate(samples):
            by_shape.setdefault(sample.image.shape, []).append(place)
        for places in by_shape.values():
            mine = np.stack([samples[place].image for place in places])
            theirs = np.stack([originals[place].image for place in places])
            for key, rows in self.metrics(mine, theirs).items():
                for place, value in zip(places, rows.tolist(), strict=True):
                    values[place][key] = value if np.isfinite(value) else None
        return values

    def _coming(self) -> Iterator[Picture]:
        """The originals that are left, beginning with the one that was looked at ahead."""
        assert self._originals is not None
        while (original := self._ahead or next(self._originals, None)) is not None:
            self._ahead = None
            yield original

    def _original(self, sample: Picture) -> Picture:
        for original in self._coming():
            if original.index < sample.index:  # a sample that is done, or one left out as bad
                continue
            if original.index > sample.index:
                self._refuse_left_out(sample)
            return self._checked(sample, original)
        if self.reading.on_bad == "skip" and self.shard == (0, 1) and sample.index < (self._count or 0):
            self._refuse_left_out(sample)
        raise InputError(
            f"{sample.key} has no original in {name_of(self.reference)}",
            f"pairs go by place and name, and there is no image at place {sample.index}",
            "give as many originals as samples, under the same names",
        )

    def _refuse_left_out(self, sample: Picture) -> NoReturn:
        """Raises `InputError` for a sample whose original is bad: it is not at its place, and all others are."""
        raise InputError(
            f"the original of {sample.key} was left out of {name_of(self.reference)}",
            f"the image at its place, {sample.index}, is broken",
            "repair it, or remove both images of the pair",
        )

    def _checked(self, sample: Picture, original: Picture) -> Picture:
        assert self._names is not None
        if sample.key != original.key:
            self._ahead = next(self._coming(), None)
            if self._ahead is not None and stem(self._ahead.key) == stem(original.key):
                raise InputError(
                    f"{name_of(self.reference)} has two originals for {sample.key}",
                    f"{original.key} and {self._ahead.key} have the same name but for their extensions",
                    "remove one of the two",
                )
        if not self._names.match(sample.key, original.key):
            what = f"sample {sample.index} is {sample.key}, and the image at its place is {original.key}"
            if self._names.overlap:
                raise InputError(
                    what,
                    "the two sets share numbers, and those at one place differ",
                    f"{REPAIR}; rows of two npz files are pairs by place, whatever their images were called",
                )
            raise InputError(what, "pairs have the same names but for their extensions", REPAIR)
        if sample.key == original.key == str(sample.index) and None not in (sample.label, original.label):
            self._same_label(sample, original)
        if sample.image.shape != original.image.shape:
            mine, theirs = (f"{image.shape[1]} x {image.shape[2]}" for image in (sample.image, original.image))
            raise InputError(
                f"{sample.key} is {mine} and its original {theirs} (height x width)",
                "a pair has one size",
                "add --reference-crop adm-center-crop-v1 --size N, if the originals are not cropped yet",
            )
        return original

    def _same_label(self, sample: Picture, original: Picture) -> None:
        """Of rows, which have no names: raises `InputError` where labels say that the sets are in another order."""
        if sample.label != original.label:
            raise InputError(
                f"row {sample.index} of the samples has the label {sample.label}, and its original {original.label}",
                f"rows of {name_of(self.reference)} and of the samples are pairs by their place",
                "save both in one order, or leave out the labels if they are none of the images'",
            )
