"""Frechet distance by class."""

from __future__ import annotations

import numpy as np
import pytest

from arbench.errors import InputError
from arbench.metrics.sets.frechet import frechet
from arbench.metrics.sets.per_class import per_class, vendi_per_class

pytestmark = pytest.mark.numerical

_DRAW = np.random.RandomState(0)
REAL = _DRAW.gamma(0.5, 0.8, (600, 32)).astype(np.float32)
FAKE = _DRAW.gamma(0.55, 0.8, (500, 32)).astype(np.float32)
REAL_LABELS, FAKE_LABELS = np.arange(600) % 6, np.arange(500) % 5


def test_each_class_is_the_distance_of_its_own_images() -> None:
    found = per_class(FAKE, FAKE_LABELS, REAL, REAL_LABELS)
    for label in range(5):
        assert found.classes[label] == frechet(FAKE[label == FAKE_LABELS], REAL[label == REAL_LABELS])
    assert found.classes[5].value is None
    assert found.classes[5].reason == "0 samples and 100 reference images, at least 16 are needed"
    values = [found.classes[label].value for label in range(5)]
    assert found.mean.value == pytest.approx(np.mean(values))  # type: ignore[arg-type]
    assert found.mean.n == 500
    assert "classes_missing" in found.mean.flags


def test_the_mean_has_the_error_of_independent_classes() -> None:
    found = per_class(FAKE, FAKE_LABELS, REAL[:500], np.arange(500) % 5)
    half = [(each.high - each.low) / 2 for each in found.classes.values()]  # type: ignore[operator]
    expected = np.sqrt(np.square(half).sum()) / 5
    assert (found.mean.high - found.mean.low) / 2 == pytest.approx(expected)  # type: ignore[operator]
    assert "classes_missing" not in found.mean.flags


def test_small_classes_are_rank_deficient_and_smaller_ones_null() -> None:
    small = per_class(FAKE[:100], FAKE_LABELS[:100], REAL, REAL_LABELS)  # 20 a class, D = 32
    assert "rank_deficient" in small.mean.flags
    none = per_class(FAKE[:50], FAKE_LABELS[:50], REAL, REAL_LABELS)
    assert none.mean.value is None
    assert none.mean.reason == "no class has enough images"
    strict = per_class(FAKE[:100], FAKE_LABELS[:100], REAL, REAL_LABELS, minimum=21)
    assert strict.classes[0].reason == "20 samples and 100 reference images, at least 21 are needed"


def test_labels_must_fit() -> None:
    with pytest.raises(InputError, match="one label for each of the samples"):
        per_class(FAKE, FAKE_LABELS[:-1], REAL, REAL_LABELS)


def test_vendi_of_each_class_is_dgm_evals() -> None:
    """Against the n x n matrix of each class, as dgm-eval decomposes it, in float64."""
    found = vendi_per_class(FAKE[:90], np.r_[np.zeros(40), np.ones(40), np.full(10, 7)].astype(int))
    scores = []
    for start in (0, 40):
        rows = FAKE[start : start + 40].astype(np.float64)
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        weights = np.linalg.svd(rows, compute_uv=False) ** 2 / 40
        weights = weights[weights > 1e-12]
        scores.append(np.exp(-(weights * np.log(weights)).sum()))
    assert [found.classes[label].value for label in (0, 1)] == pytest.approx(scores)
    assert found.mean.value == pytest.approx(np.mean(scores))
    assert found.classes[7].reason == "10 samples, at least 16 are needed"
    assert "classes_missing" in found.mean.flags
    with pytest.raises(InputError, match="one label"):
        vendi_per_class(FAKE, np.zeros(3, int))


def test_the_interval_of_the_mean_distance_does_not_go_below_0() -> None:
    found = per_class(REAL, REAL_LABELS, REAL, REAL_LABELS)
    assert found.mean.low is None or found.mean.low >= 0
