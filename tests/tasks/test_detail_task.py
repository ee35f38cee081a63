"""`detail` on tokenizers that lose one thing each: every number is what was built in."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from skimage import data

from arbench.metrics import detail
from arbench.tasks.detail import Detail


@pytest.fixture(scope="module")
def photographs() -> NDArray[np.uint8]:
    """(70, 3, 32, 32): more than a unit."""
    picture = np.asarray(Image.fromarray(data.astronaut()).resize((256, 256), Image.Resampling.LANCZOS))
    tiles = [picture[y : y + 32, x : x + 32] for y in range(0, 225, 25) for x in range(0, 225, 25)]
    return np.ascontiguousarray(np.stack(tiles[:70]).transpose(0, 3, 1, 2))


@pytest.fixture
def seen(photographs, tmp_path, cell, through):
    """Numbers of a tokenizer on the photographs by name and place, and what is finished."""
    np.savez(tmp_path / "photographs.npz", arr_0=photographs.transpose(0, 2, 3, 1))

    def run(name):
        finished, _ = through(cell(f"tokenizers/{name}", Detail(data=str(tmp_path / "photographs.npz"), n=70)))
        return {(m.name, *m.at.values()): m.value for m in finished.metrics}, finished

    return run


def test_nothing_lost(seen):
    numbers, finished = seen("whole")
    for region in detail.REGIONS:
        assert numbers["region-error", region] == 0
    for frequency in detail.frequencies():
        assert numbers["error-spectrum", frequency] == 0
        assert numbers["spectrum-ratio", frequency] == 1
    assert numbers["high-frequency-ratio",] == numbers["blocking",] == numbers["channels-in-order",] == 1
    assert numbers["displacement", "right"] == numbers["displacement", "down"] == 0
    for channel in ("red", "green", "blue"):
        assert numbers["colour-shift", channel] == 0
        assert numbers["channel-gain", channel] == pytest.approx(1)
        assert numbers["channel-offset", channel] == pytest.approx(0, abs=1e-8)
    assert numbers["chroma-error",] == 0
    assert finished.gallery.images.shape == (3, 8, 3, 32, 32)
    assert set(np.unique(finished.gallery.images[1])) <= {0, 127, 255}


def test_a_blur_takes_high_frequencies_and_edges(seen):
    numbers, _ = seen("blurred")
    ratios = [numbers["spectrum-ratio", frequency] for frequency in detail.frequencies()]
    assert ratios == sorted(ratios, reverse=True)
    assert ratios[0] > 0.9
    assert numbers["high-frequency-ratio",] < 0.4
    assert numbers["region-error", "edges"] > 1.3 * numbers["region-error", "flat"]
    assert numbers["displacement", "right"] == numbers["displacement", "down"] == pytest.approx(0.5, abs=0.051)


def test_half_a_pixel_to_the_right(seen):
    numbers, _ = seen("halfway")
    assert numbers["displacement", "right"] == pytest.approx(0.5, abs=0.051)
    assert numbers["displacement", "down"] == 0


def test_red_for_blue(seen):
    numbers, _ = seen("exchanged")
    assert numbers["channels-in-order",] == 0
    assert numbers["channel-gain", "green"] == pytest.approx(1)
    assert numbers["channel-gain", "red"] < 0.99
    assert numbers["colour-shift", "red"] == pytest.approx(-numbers["colour-shift", "blue"])
    assert numbers["chroma-error",] > 3


def test_a_wrong_range_is_a_gain_and_an_offset(seen):
    numbers, finished = seen("lifted")
    for channel in ("red", "green", "blue"):
        assert numbers["channel-gain", channel] == pytest.approx(0.5, abs=0.005)
        assert numbers["channel-offset", channel] == pytest.approx(127.5, abs=0.5)
    assert numbers["channels-in-order",] == 1
    assert numbers["high-frequency-ratio",] == pytest.approx(0.25, rel=0.02)
    (gain,) = (m for m in finished.metrics if m.name == "channel-gain" and m.at == {"channel": "red"})
    assert gain.extras["correlation"] == pytest.approx(1, abs=1e-4)


def test_correlation_is_numpys(photographs):
    other = np.roll(photographs, 3, axis=-1)
    sums = detail.channel_sums(other, photographs).sum(0)
    for channel in range(3):
        expected = np.corrcoef(photographs[:, channel].ravel(), other[:, channel].ravel())[0, 1]
        assert detail.correlation(sums[channel]) == pytest.approx(expected)


def test_patches_show_at_their_borders(seen, photographs):
    """Half of every pixel is the mean of its patch: steps within are halved, those across are nearer to whole."""
    numbers, _ = seen("patchy")
    assert numbers["blocking",] > 1.4
    assert numbers["displacement", "right"] == 0


def test_what_does_not_apply_is_null_with_the_reason(cell, through):
    finished, _ = through(cell("tokenizers/scales", Detail(n=5, show=0)))  # grey digits
    reasons = {metric.name: metric.reason for metric in finished.metrics if metric.value is None}
    assert reasons == {
        "channels-in-order": "the images have no colours",
        "blocking": "the reconstructions are flat within patches",
    }
    assert finished.gallery is None


def test_even_images_have_no_power(cell, through, tmp_path):
    """Their brightness leaves 1e-26 in the spectrum by rounding, which is nothing to divide by."""
    colours = np.random.default_rng(0).integers(1, 255, (8, 1, 1, 3), dtype=np.uint8)
    np.savez(tmp_path / "even.npz", arr_0=np.broadcast_to(colours, (8, 32, 32, 3)))
    finished, _ = through(cell("tokenizers/whole", Detail(data=str(tmp_path / "even.npz"), n=8, show=0)))
    spectral = [m for m in finished.metrics if m.name in ("high-frequency-ratio", "spectrum-ratio", "error-spectrum")]
    assert len(spectral) == 1 + 2 * detail.RINGS
    assert {(metric.value, metric.reason) for metric in spectral} == {(None, "the originals have no power there")}


def test_regions_and_errors_by_hand(photographs):
    """A step of full height: two columns of edges, the rest flat; a ramp beside it of a tenth of its slope: texture."""
    row = np.concatenate([np.zeros(16), np.full(6, 200.0), 200 - 10.0 * np.arange(1, 11)])
    image = np.broadcast_to(row, (1, 3, 32, 32)).astype(np.uint8)
    places = detail.regions(image)[0]
    gradient = np.abs(np.convolve(np.pad(row, 1, mode="edge"), [1, 0, -1], mode="valid"))
    expected = np.where(gradient > 0.12 * 200, 2, np.where(gradient >= 0.06 * 200, 1, 0))
    assert (places == expected).all()
    assert set(expected) == {0, 1, 2}
    pixels, squares = detail.by_region(image + np.uint8(3), image)
    np.testing.assert_array_equal(pixels[0], [32 * (expected == number).sum() for number in range(3)])
    np.testing.assert_allclose(squares, 9 * pixels)


def test_the_spectrum_of_a_wave_is_in_its_ring():
    """Blurring (1, 2, 1)/4 multiplies a wave of frequency f by cos^2(pi f)."""
    x = np.arange(64)
    for frequency in (3 / 64, 9 / 64, 21 / 64):
        wave = np.broadcast_to(np.cos(2 * np.pi * frequency * x), (1, 64, 64))
        blurred = (np.roll(wave, 1, 2) + 2 * wave + np.roll(wave, -1, 2)) / 4
        before, after = detail.spectra(wave)[0], detail.spectra(blurred)[0]
        ring = int(frequency * 2 * detail.RINGS)
        assert before.argmax() == ring
        assert after[ring] / before[ring] == pytest.approx(np.cos(np.pi * frequency) ** 4, rel=1e-3)


def test_jumps_by_hand():
    grey = np.arange(64).reshape(8, 8) * 3  # steps of 3 to the right and of 24 downwards
    image = np.broadcast_to(grey, (1, 3, 8, 8)).astype(np.uint8)
    across, within = detail.jumps(image, (4, 2))[0]
    assert across == pytest.approx(1 * 8 * 24 + 3 * 8 * 3)
    assert within == pytest.approx(6 * 8 * 24 + 4 * 8 * 3)
