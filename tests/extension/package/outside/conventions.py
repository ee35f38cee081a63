"""A metric (a function over features) and the convention that reports it beside one of arbench's own estimators."""

import numpy as np

from arbench.evaluate.conventions import Convention, Definition
from arbench.metrics.estimate import Estimate

FEATURES = "efficientnet-lite0:pooled"


def mean_gap(samples, reference, power):
    """Sum over features of the distance of the means, in the power that the convention states."""
    gap = samples[0 : len(samples)].mean(0) - reference[0 : len(reference)].mean(0)
    return Estimate(float((np.abs(gap) ** power).sum()), n=len(samples))


CONVENTION = Convention(
    "outside",
    "a convention of another package",
    (
        Definition("mean-gap", "outside", "outside.conventions:mean_gap", FEATURES, {"power": 2}, what="squared"),
        Definition("frechet", "outside", "frechet", FEATURES, what="arbench's estimator in another convention"),
    ),
)
