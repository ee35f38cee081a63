"""Where reconstructions differ from their originals: regions, frequencies, colour, place, patch borders. No torch.

Images are bytes (n, 3, H, W), RGB; results are numbers per image, of which `arbench.tasks.detail` makes metrics.
Brightness is the luma of ITU-R BT.601, 0 to 255.
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
from numpy.typing import NDArray

Images = NDArray[np.uint8]
Values = NDArray[np.float64]

LUMA = (0.299, 0.587, 0.114)
CHROMA = ((-0.168736, -0.331264, 0.5), (0.5, -0.418688, -0.081312))
"""Cb and Cr of JFIF, which are BT.601's over the full range."""
REGIONS = ("flat", "texture", "edges")
EDGE, FLAT = 0.12, 0.06
"""Shares of an image's largest gradient: an edge lies above the first, a flat place below the second."""
RINGS = 8
"""Of the radial spectrum, of equal width from 0 to half a cycle per pixel."""
HIGH = 0.25
"""Cycles per pixel from which frequencies are high: half of the highest that a row of pixels can hold."""
EVEN = 1e-6
"""Levels: an image whose brightness differs by less is of one brightness."""
COLOURED = 8.0
"""Levels by which the channels of an image differ (root mean square) for their order to be told."""


def luma(images: Images) -> Values:
    """(n, H, W) brightness, 0 to 255."""
    grey: Values = np.einsum("c,nchw->nhw", np.array(LUMA), images.astype(np.float64))
    return grey


def regions(originals: Images) -> NDArray[np.int64]:
    """(n, H, W) the place of each pixel's region in `REGIONS`.

    By the length of Sobel's gradient of the brightness against the largest of the image: above 12 % of it an edge,
    below 6 % flat, texture between. These are the thresholds of Li and Bovik's three-component SSIM (Image
    Communication 25, 2010), which looks at the distorted image too; here the original alone decides.
    """
    from scipy.ndimage import sobel

    grey = luma(originals)
    gradient = np.hypot(sobel(grey, axis=-1, mode="nearest"), sobel(grey, axis=-2, mode="nearest"))
    largest = gradient.max(axis=(1, 2), keepdims=True)
    places: NDArray[np.int64] = (gradient > EDGE * largest).astype(np.int64) + (gradient >= FLAT * largest)
    return np.where(largest > 0, places, 0)


def by_region(images: Images, originals: Images) -> tuple[Values, Values]:
    """(n, 3) pixels of each region, and (n, 3) the sum over them of the squared error, mean of the channels."""
    places = regions(originals)
    squares = ((images.astype(np.float64) - originals) ** 2).mean(1)
    inside = np.stack([places == number for number in range(len(REGIONS))], axis=1)
    return inside.sum((2, 3)).astype(np.float64), (inside * squares[:, None]).sum((2, 3))


def frequencies() -> list[float]:
    """The middle of each ring in cycles per pixel."""
    return [(ring + 0.5) / (2 * RINGS) for ring in range(RINGS)]


def spectra(images: Values) -> Values:
    """(n, RINGS) power of (n, H, W) by the length of the frequency, under a Hann window, without the mean.

    Frequencies beyond half a cycle per pixel, which only diagonals hold, are left out.
    """
    _, height, width = images.shape
    window = np.hanning(height + 2)[1:-1, None] * np.hanning(width + 2)[None, 1:-1]
    waves = images - images.mean((1, 2), keepdims=True)
    waves[np.ptp(images, axis=(1, 2)) < EVEN] = 0  # what rounding leaves of an even image is no power
    power = np.abs(np.fft.fft2(waves * window)) ** 2
    length = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width)[None])
    ring = np.floor(length * 2 * RINGS).astype(np.int64)
    ring[(length == 0) | (ring >= RINGS)] = RINGS  # the last bin is thrown away
    rows = [np.bincount(ring.ravel(), each.ravel(), RINGS + 1)[:RINGS] for each in power]
    return np.stack(rows) if rows else np.zeros((0, RINGS))


def channel_sums(images: Images, originals: Images) -> Values:
    """(n, 3, 6) of each channel: pixels, sums of original x and reconstruction y, of x^2, of x y and of y^2."""
    x, y = (each.astype(np.float64).reshape(len(each), 3, -1) for each in (originals, images))
    count = np.full(x.shape[:2], float(x.shape[2]))
    return np.stack([count, x.sum(2), y.sum(2), (x * x).sum(2), (x * y).sum(2), (y * y).sum(2)], axis=2)


def fitted(sums: Values) -> tuple[float, float] | None:
    """Gain and offset of y = gain x + offset by least squares, of such sums (6,); None where x is constant."""
    count, x, y, xx, xy, _ = sums
    spread = count * xx - x * x
    if spread <= 1e-9 * max(count * xx, 1.0):
        return None
    gain = float((count * xy - x * y) / spread)
    return gain, float((y - gain * x) / count)


def correlation(sums: Values) -> float | None:
    """Of x and y, of such sums (6,); None where one of the two is constant."""
    count, x, y, xx, xy, yy = sums
    spread = (count * xx - x * x) * (count * yy - y * y)
    return float((count * xy - x * y) / np.sqrt(spread)) if spread > 1e-9 * max(count * xx * count * yy, 1.0) else None


def chroma_errors(images: Images, originals: Images) -> Values:
    """(n,) root mean square of the differences in Cb and Cr, in levels of 255."""
    difference = images.astype(np.float64) - originals
    chroma = np.einsum("kc,nchw->nkhw", np.array(CHROMA), difference)
    return np.asarray(np.sqrt((chroma**2).mean((1, 2, 3))), np.float64)


def in_order(images: Images, originals: Images) -> Values:
    """(n,) 1 where no exchange of channels brings the reconstruction nearer, 0 where one does, NaN without colours."""
    x, y = (each.astype(np.float64).reshape(len(each), 3, -1) for each in (originals, images))
    apart = np.sqrt(max_pairwise(x))
    error = ((y[:, :, None] - x[:, None]) ** 2).mean(3)  # (n, channel of y, channel of x)
    orders = list(itertools.permutations(range(3)))
    totals = np.stack([error[:, range(3), order].sum(1) for order in orders], axis=1)
    own = totals[:, orders.index((0, 1, 2))]
    return np.where(apart < COLOURED, np.nan, (own <= totals.min(1) + 1e-9).astype(np.float64))


def max_pairwise(x: Values) -> Values:
    """(n,) the largest mean square of differences of two channels of (n, 3, pixels)."""
    pairs = [((x[:, one] - x[:, two]) ** 2).mean(1) for one, two in itertools.combinations(range(3), 2)]
    return np.asarray(np.max(pairs, axis=0), np.float64)


def displacements(images: Images, originals: Images) -> Values:
    """(n, 2) pixels by which reconstructions lie lower and further right, to 1/20; NaN where one of the two is flat.

    At the peak of the cross-correlation (Guizar-Sicairos et al., Optics Letters 33, 2008, as scikit-image has it).
    """
    from skimage.registration import phase_cross_correlation

    found = np.full((len(images), 2), np.nan)
    for row, (one, other) in enumerate(zip(luma(originals), luma(images), strict=True)):
        if np.ptp(one) > 0 and np.ptp(other) > 0:
            one, other = one - one.mean(), other - other.mean()
            register: Any = phase_cross_correlation
            shift = register(one, other, upsample_factor=20, normalization=None)[0]
            found[row] = 0.0 - np.asarray(shift)
    return found


def jumps(images: Images, patch: tuple[int, int]) -> Values:
    """(n, 2) sums of |difference| of the brightness of neighbours: across borders of patches (h, w), and within."""
    grey, found = luma(images), np.zeros((len(images), 2))
    for axis, side in zip((1, 2), patch, strict=True):
        steps = np.abs(np.diff(grey, axis=axis)).sum(3 - axis)  # (n, H - 1) or (n, W - 1)
        across = (np.arange(steps.shape[1]) + 1) % side == 0
        found += np.stack([steps[:, across].sum(1), steps[:, ~across].sum(1)], axis=1)
    return found
