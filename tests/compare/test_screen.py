"""The gate's statistics: on series whose answer is known, and the error rates that docs/gate-simulation.md states."""

from __future__ import annotations

import numpy as np
import pytest

from arbench.compare import screen

DRAW = np.random.default_rng(0)
NIGHTS = np.exp(0.01 * DRAW.normal(size=(4000, 20)))


def test_one_bad_night_does_not_widen_the_band():
    plain = screen.band(NIGHTS[0])
    spoilt = NIGHTS[0].copy()
    spoilt[7] *= 1.3
    assert float(screen.band(spoilt).high) == pytest.approx(float(plain.high), rel=0.02)
    assert int(screen.band(NIGHTS[0]).beyond(1.1, 0.02)) == 1
    assert int(screen.band(NIGHTS[0]).beyond(0.9, 0.02)) == -1


def test_the_least_effect_and_the_floor_hold():
    still = screen.band(np.full(12, 3.0))
    assert float(still.spread) == 0
    assert int(still.beyond(3.03, 0.02)) == 0
    assert int(still.beyond(3.09, 0.02)) == 1


def test_rates_of_the_screen():
    tonight = np.exp(0.01 * DRAW.normal(size=4000))
    band = screen.band(NIGHTS)
    assert np.mean(band.beyond(tonight, 0.02) == 1) < 0.05
    assert np.mean(band.beyond(1.05 * tonight, 0.02) == 1) > 0.9


def test_builds_in_turn():
    good = np.exp(0.003 * DRAW.normal(size=(500, 7)))
    new = np.exp(0.003 * DRAW.normal(size=(500, 7)))
    assert np.mean(screen.confirmed(good, new).decision(0.02) == "same") > 0.97
    assert np.mean(screen.confirmed(good, 1.05 * new).decision(0.02) == "slower") > 0.97
    noisy = np.exp(0.2 * DRAW.normal(size=(500, 7)))
    assert np.mean(screen.confirmed(good, noisy).decision(0.02) == "open") > 0.6


def test_quality_bands_have_two_sides():
    assert screen.beyond_seeds([2, -2, 0.1, 0.5], [0.2] * 4, [1] * 4).tolist() == [1, -1, 0, 2]
    # of other samples nothing else confirms it
    assert screen.beyond_seeds(2.0, 0.65, 1.0) == 1
    assert screen.beyond_seeds(2.0, 0.65, 1.0, paired=False) == 2
