"""Image pairs: each sample with the reference image of the same name, read in step, compared as they come."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath

import numpy as np
import torch
from numpy.typing import NDArray

from ..data.reading import Open, Reading, fingerprint, open_images
from ..data.stream import Picture
from ..errors import InputError
from ..features.weight_files import Weights
from ..metrics.pairs import paired, perceptual
from . import paired_conventions

EXTENSION = re.compile(r"\.(png|jpe?g|webp|bmp|tiff?|gif|ppm|npy)$", re.IGNORECASE)


@dataclass(slots=True)
class Pairing:
    """Per-image metrics of samples against their originals: called with chunks of samples in the source's order.

    A sample's original has the same place in its source and the same name but for its extension, or both are numbers.
    `variants` are names of `arbench.metrics.pairs.paired.METRICS`, as "variant@convention" where that convention does
    something to the originals first; those whose weights are missing are left out.
    """

    reference: str
    reading: Reading
    variants: Sequence[str]
    weights: Weights
    device: str = "cpu"
    shard: tuple[int, int] = (0, 1)
    open: Open = open_images
    _originals: Iterator[Picture] | None = None
    _networks: dict[str, perceptual.Network] = field(default_factory=dict)

    @property
    def available(self) -> list[str]:
        return [key for key in dict.fromkeys(self.variants) if not why_missing(key, self.weights)]

    def settings(self) -> dict[str, object]:
        """What decides the values, for the identity of the stored set."""
        files = [self.weights.find(perceptual.NEEDS[name]) for name in self._perceptual()]
        return {
            "originals": self.reference,
            "original_files": fingerprint(self.reference),
            "original_reading": self.reading.settings(),
            "variants": self.available,
            "weights": sorted({file.sha256 for file in files if file is not None}),
        }

    def __call__(self, samples: Sequence[Picture]) -> list[dict[str, float | None]]:
        if self._originals is None:
            self._originals = iter(self.open(self.reference, self.reading, self.shard))
            self._networks = perceptual.load(
                [n for n in self.available if n in perceptual.NEEDS], self.weights, self.device
            )
        originals = [self._original(sample) for sample in samples]
        values: list[dict[str, float | None]] = [{} for _ in samples]
        by_shape: dict[tuple[int, ...], list[int]] = {}
        for place, sample in enumerate(samples):
            by_shape.setdefault(sample.image.shape, []).append(place)
        for places in by_shape.values():
            mine = torch.from_numpy(np.stack([samples[place].image for place in places]))
            theirs = torch.from_numpy(np.stack([originals[place].image for place in places]))
            for key, rows in self._compared(mine, theirs).items():
                for place, value in zip(places, rows.tolist(), strict=True):
                    values[place][key] = value if np.isfinite(value) else None
        return values

    def _compared(self, samples: torch.Tensor, originals: torch.Tensor) -> dict[str, NDArray[np.float64]]:
        """(n,) per key, one comparison for each way of treating the originals."""
        treatments: dict[str, list[str]] = {}
        for key in self.available:
            variant, _, convention = key.partition("@")
            treatments.setdefault(convention, []).append(variant)
        found = {}
        for convention, variants in treatments.items():
            treated = paired_conventions.find(convention).originals(originals) if convention else originals
            values = paired.compare(samples, treated, variants, self._networks, self.device)
            suffix = f"@{convention}" if convention else ""
            found.update({f"{variant}{suffix}": rows for variant, rows in values.items()})
        return found

    def _perceptual(self) -> list[str]:
        names = [key.partition("@")[0] for key in self.available]
        return [name for name in dict.fromkeys(names) if name in perceptual.NEEDS]

    def _original(self, sample: Picture) -> Picture:
        assert self._originals is not None
        for original in self._originals:
            if original.index < sample.index:  # a sample that is done, or one left out as bad
                continue
            if original.index > sample.index:
                break
            return self._checked(sample, original)
        raise InputError(
            f"{sample.key} has no original in {self.reference}",
            f"pairs go by place and name, and there is no image at place {sample.index}",
            "give as many originals as samples, under the same names",
        )

    def _checked(self, sample: Picture, original: Picture) -> Picture:
        names = [EXTENSION.sub("", key) for key in (sample.key, original.key)]
        numbers = [re.fullmatch(r"\D*\d+\D*", PurePosixPath(name).name) for name in names]
        if names[0] != names[1] and not all(numbers):
            raise InputError(
                f"sample {sample.index} is {sample.key}, and the image at its place is {original.key}",
                "pairs have the same names but for their extensions",
                "rename or remove what is left over on one side",
            )
        if sample.image.shape != original.image.shape:
            mine, theirs = (f"{image.shape[1]} x {image.shape[2]}" for image in (sample.image, original.image))
            raise InputError(
                f"{sample.key} is {mine} and its original {theirs} (height x width)",
                "a pair has one size",
                "add --reference-crop adm-center-crop-v1 --size N, if the originals are not cropped yet",
            )
        return original


def why_missing(key: str, weights: Weights) -> str:
    """Why a metric of pairs cannot be computed, or ""."""
    backbone = perceptual.NEEDS.get(key.partition("@")[0])
    if backbone is None or weights.find(backbone) is not None:
        return ""
    return f"no weights of {backbone}: arbench weights fetch {backbone}, or --weights {backbone}=PATH"
