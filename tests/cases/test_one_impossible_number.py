"""A number that cannot be is null with its reason, and takes no other number with it."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
from numpy.typing import NDArray

import arbench
from arbench.spec.result import Metric

Images = NDArray[np.uint8]
NOISE = np.random.default_rng(0).integers(0, 256, (40, 3, 32, 32), dtype=np.uint8)
BLACK = np.zeros_like(NOISE)
LONELY = np.array([0] * 20 + [1] * 19 + [2])
"""Labels of which one has a single image."""


@pytest.fixture(autouse=True)
def here(tmp_path, shared_cache, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ARBENCH_CACHE", str(shared_cache))
    monkeypatch.setenv("ARBENCH_WEIGHTS", str(tmp_path / "none"))


def numbers(samples: object, reference: object, convention: str) -> Mapping[str, Metric]:
    found = arbench.score(
        samples, reference, conventions=convention, paired=convention.endswith("pairs"), device="cpu"
    ).results
    return {metric.name: metric for result in found for metric in result.metrics}


class Labelled:
    def __init__(self, images: Images, labels: NDArray[np.int64]) -> None:
        self.images, self.labels = images, labels

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Images, int]:
        return self.images[index], int(self.labels[index])


@pytest.mark.parametrize(
    ("samples", "reference", "convention", "null", "reason", "measured"),
    [
        (NOISE[:1], NOISE[1:2], "offline-pairs", "frechet", "at least two vectors", "psnr"),
        (BLACK, BLACK, "pairs", "psnr-pooled", "infinite", "ssim"),
        (NOISE[:, :, :9, :9], NOISE[::-1, :, :9, :9], "pairs", "ssim", "smaller than 11 x 11", "psnr"),
        (BLACK, NOISE, "offline", "frechet-infinity", "at least 2560", "frechet"),
        (BLACK, BLACK, "offline", "realism", "not finite", "kid"),
        (NOISE, NOISE[:1], "offline", "kid", "at least 16", "vendi"),
        (
            Labelled(NOISE, LONELY),
            Labelled(NOISE[::-1].copy(), LONELY),
            "offline",
            "frechet-infinity",
            "at least 2560",
            "frechet-per-class",
        ),
    ],
    ids=["one pair", "identical pairs", "small pairs", "few samples", "no spread", "one reference", "a class of one"],
)
def test_the_others_are_measured(samples, reference, convention, null, reason, measured) -> None:
    found = numbers(samples, reference, convention)
    assert found[null].value is None
    assert reason in found[null].reason
    assert found[measured].value is not None
    for metric in found.values():
        assert (metric.value is None) == bool(metric.reason), metric
        assert metric.value is None or np.isfinite(metric.value)
