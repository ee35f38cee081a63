"""Class by class: the Frechet distance to real images of the same class, and the Vendi score."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import InputError, counted
from ..estimate import Estimate, Z, around, bounded, missing
from ..rows import Rows
from .diversity import vendi
from .frechet import frechet
from .moments import MINIMUM


@dataclass(frozen=True, slots=True)
class PerClass:
    """`mean` over the classes that have a value, and each class by its label."""

    mean: Estimate
    classes: dict[int, Estimate]


def per_class(
    samples: Rows,
    labels: NDArray[np.integer[Any]],
    reference: Rows,
    reference_labels: NDArray[np.integer[Any]],
    *,
    minimum: int = MINIMUM,
) -> PerClass:
    """The Frechet distance of every class that occurs in either set.

    Classes are mostly smaller than D: the distance of two singular Gaussians then, from the Gram matrix, flagged
    `rank_deficient` and comparable at equal n only. A class of fewer than `minimum` images (16 at the least) on either
    side is null with the reason, and the mean, over the other classes, is flagged `classes_missing`.
    """
    minimum = max(minimum, MINIMUM)
    labels, reference_labels = np.asarray(labels), np.asarray(reference_labels)
    for rows, given, name in ((samples, labels, "samples"), (reference, reference_labels, "reference")):
        if given.shape != (len(rows),):
            raise InputError(f"one label for each of the {name} is needed", f"{given.shape} for {len(rows)} images")
    classes: dict[int, Estimate] = {}
    for label in np.union1d(labels, reference_labels).tolist():
        mine, theirs = np.flatnonzero(labels == label), np.flatnonzero(reference_labels == label)
        if min(len(mine), len(theirs)) < minimum:
            reason = f"{counted(len(mine), 'sample')} and {len(theirs)} reference images, at least {minimum} are needed"
            classes[label] = missing(reason, len(mine))
        else:
            classes[label] = frechet(samples[mine], reference[theirs])
    return PerClass(_mean(classes), classes)


def vendi_per_class(samples: Rows, labels: NDArray[np.integer[Any]], *, minimum: int = MINIMUM) -> PerClass:
    """The Vendi score of every class, and their mean, as dgm-eval has them: the diversity within classes.

    A class of fewer than `minimum` samples (16 at the least) is null with the reason, and the mean, over the other
    classes, is flagged `classes_missing`. Scores grow with the number of samples a class: compare at an equal number.
    """
    labels, minimum = np.asarray(labels), max(minimum, MINIMUM)
    if labels.shape != (len(samples),):
        raise InputError("one label for each of the samples is needed", f"{labels.shape} for {len(samples)} images")
    classes: dict[int, Estimate] = {}
    for label in np.unique(labels).tolist():
        mine = np.flatnonzero(labels == label)
        few = f"{counted(len(mine), 'sample')}, at least {minimum} are needed"
        classes[label] = missing(few, len(mine)) if len(mine) < minimum else vendi(samples[mine])
    return PerClass(_mean(classes), classes)


def _mean(classes: dict[int, Estimate]) -> Estimate:
    """The mean; classes are independent draws, so their variances add up. No interval if a class has none."""
    found = [each for each in classes.values() if each.value is not None]
    n = sum(each.n for each in classes.values())
    if not found:
        return missing("no class has enough images", n)
    values = [each.value for each in found if each.value is not None]
    halves = [(each.high - each.low) / 2 for each in found if each.high is not None and each.low is not None]
    flags = sorted({flag for each in found for flag in each.flags})
    if len(found) < len(classes):
        flags.append("classes_missing")
    mean = sum(values) / len(values)
    if len(halves) < len(found):
        return Estimate(mean, n=n, flags=tuple(flags))
    error = math.sqrt(sum((half / Z) ** 2 for half in halves)) / len(values)
    return bounded(around(mean, error, found[0].method, n, tuple(flags)))
