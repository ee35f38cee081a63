"""`predict`: bits of codes by image, pixel and place, and what it does not apply to."""

from __future__ import annotations

import pytest

from arbench.tasks.predict import Predict


def by_place(metrics, name):
    return {tuple(m.at.items()): m.value for m in metrics if m.name == name}


def test_bits_of_a_code_an_image_a_pixel(cell, through):
    finished, _ = through(cell("tokenizers/blocks", Predict(n=20, steps=8)))
    bits = by_place(finished.metrics, "probe-bits")
    whole = bits.pop(())
    assert 0.3 < whole < 4
    assert by_place(finished.metrics, "probe-share") == {(): pytest.approx(whole / 4)}
    assert by_place(finished.metrics, "probe-image-bits") == {(): pytest.approx(64 * whole)}
    assert by_place(finished.metrics, "probe-pixel-bits") == {(): pytest.approx(whole / 16)}
    assert list(bits) == [(("eighth", place),) for place in range(1, 9)]
    assert sum(bits.values()) / 8 == pytest.approx(whole)
    assert {metric.n for metric in finished.metrics} == {4}


def test_levels_of_a_pyramid(cell, through):
    finished, _ = through(cell("tokenizers/scales", Predict(n=20, steps=1)))
    assert list(by_place(finished.metrics, "probe-bits")) == [(), (("level", 0),), (("level", 1),)]


@pytest.mark.parametrize(
    ("name", "n", "reason"),
    [
        ("continuous", 20, "continuous latents have no codes: their bits depend on how finely they are cut"),
        ("blocks", 19, "19 images are too few to train on: 20 are needed"),
    ],
)
def test_what_it_does_not_apply_to(cell, through, name, n, reason):
    finished, _ = through(cell(f"tokenizers/{name}", Predict(n=n)))
    assert {(metric.value, metric.reason) for metric in finished.metrics} == {(None, reason)}
