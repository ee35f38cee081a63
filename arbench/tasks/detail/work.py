"""The work of `detail`: images through the tokenizer, and sums for each of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ...gallery import Gallery
from ...metrics import detail
from ...metrics.estimate import Estimate, bounded, mean_with_interval, missing, of_totals, share
from ...protocols import Tokenizer
from ...spec.cell import Cell
from ...spec.result import Metric
from ...spec.unit import Unit
from ..base import Arrays, Context, Finished, Stored, joined
from ..outputs import decode, encode, join, load, spec_at
from . import Detail

CHANNELS = ("red", "green", "blue")
AXES = ("down", "right")
HIGH_RINGS = [ring for ring, middle in enumerate(detail.frequencies()) if middle > detail.HIGH]


class DetailWork:
    """A unit is a range of image indices. What is stored are sums per image, no pixels but those shown."""

    def measure(self, cell: Cell, unit: Unit, context: Context) -> Arrays:
        task, tokenizer = cell.task, context.tokenizer(cell)
        assert isinstance(task, Detail)
        ids = range(unit.start, unit.stop)
        originals = load(context.source(task.images), ids, tokenizer.card, "detail")
        starts = range(0, len(ids), task.batch)
        codes = join([encode(tokenizer, originals[at : at + task.batch], context.device) for at in starts])
        images: NDArray[np.uint8] = decode(tokenizer, codes, ids, originals.shape[2:]).numpy()
        context.progress(len(ids))
        pixels, squares = detail.by_region(images, originals)
        before, after = detail.luma(originals), detail.luma(images)
        shown = max(0, min(task.show - unit.start, len(ids)))
        arrays: Arrays = {
            "sample_ids": np.array(ids, np.int64),
            "pixels": pixels,
            "squares": squares,
            "original power": detail.spectra(before),
            "power": detail.spectra(after),
            "error power": detail.spectra(after - before),
            "channels": detail.channel_sums(images, originals),
            "chroma": detail.chroma_errors(images, originals),
            "in order": detail.in_order(images, originals),
            "displacement": detail.displacements(images, originals),
            "regions": detail.regions(originals[:shown]).astype(np.uint8),
            "originals": originals[:shown],
            "shown": images[:shown],
        }
        if patch := patch_of(tokenizer, originals.shape[2:])[0]:
            arrays["jumps"] = np.concatenate([detail.jumps(images, patch), detail.jumps(originals, patch)], axis=1)
        return arrays

    def finish(self, cell: Cell, units: Sequence[Stored], context: Context) -> Finished:
        task = cell.task
        assert isinstance(task, Detail)
        metrics = (
            *_regions(units),
            *_spectra(units),
            *_colour(units),
            *_places(units),
            _blocking(units, *patch_of(context.tokenizer(cell), context.source(task.images).resolution)),
        )
        return Finished(metrics, gallery=_gallery(task, units))


def patch_of(tokenizer: Tokenizer, size: Sequence[int]) -> tuple[tuple[int, int] | None, str]:
    """(height, width) of the pixels behind a token of the finest map of images of a size, or None and why not."""
    spec = spec_at(tokenizer, size)
    level = spec.levels[-1]
    if spec.layout == "sequence" or len(level) != 2:
        return None, "its tokens have no place in the image"
    if any(side % count or side == count for side, count in zip(size, level, strict=True)):
        return None, f"a map of {level[0]} x {level[1]} tokens does not cut {size[0]} x {size[1]} pixels into patches"
    return (size[0] // level[0], size[1] // level[1]), ""


def _regions(units: Sequence[Stored]) -> list[Metric]:
    pixels, squares = joined(units, "pixels"), joined(units, "squares")
    found = []
    for number, region in enumerate(detail.REGIONS):
        has = pixels[:, number] > 0
        error = bounded(mean_with_interval(np.sqrt(squares[has, number] / pixels[has, number])))
        if not has.any():
            error = missing(f"no image has {region} in it", len(pixels))
        share_of = float(pixels[:, number].sum() / pixels.sum())
        how = "of the images that have such pixels; by Sobel's gradient of the original: edges above 12 % of the"
        how += f" largest, flat below 6 %, texture between; {region} is {share_of:.3g} of all pixels"
        found.append(error.metric("region-error", how, "levels", "lower", at={"region": region}))
    return found


def _spectra(units: Sequence[Stored]) -> list[Metric]:
    original, power, error = (joined(units, name) for name in ("original power", "power", "error power"))
    rings = "under a Hann window, sums over images, of the ring of 1/16 cycles per pixel around this frequency"
    high = _ratio(power[:, HIGH_RINGS].sum(1), original[:, HIGH_RINGS].sum(1))
    how = f"power of reconstructions over that of originals from {detail.HIGH:g} to 0.5 cycles per pixel"
    found = [high.metric("high-frequency-ratio", f"{how}, under a Hann window, sums over images")]
    for ring, middle in enumerate(detail.frequencies()):
        at = {"frequency": middle}
        lost = _ratio(error[:, ring], original[:, ring])
        found.append(lost.metric("error-spectrum", f"error over original, {rings}", "", "lower", at=at))
        kept = _ratio(power[:, ring], original[:, ring])
        found.append(kept.metric("spectrum-ratio", f"reconstruction over original, {rings}", at=at))
    return found


def _ratio(upper: NDArray[np.float64], lower: NDArray[np.float64]) -> Estimate:
    """Of sums over images."""
    if not (lower > 0).any():
        return missing("the originals have no power there", len(lower))
    both = np.stack([upper, lower], axis=1)
    return bounded(of_totals(both, lambda sums: sums[0] / sums[1] if sums[1] > 0 else None))


def _colour(units: Sequence[Stored]) -> list[Metric]:
    sums = joined(units, "channels")  # (n, 3, 6)
    found = []
    for number, channel in enumerate(CHANNELS):
        own, at = sums[:, number], {"channel": channel}
        shift = mean_with_interval((own[:, 2] - own[:, 1]) / own[:, 0])
        found.append(shift.metric("colour-shift", "reconstruction less original, mean over images", "levels", at=at))
        for place, name, unit in ((0, "channel-gain", ""), (1, "channel-offset", "levels")):
            line = of_totals(own, lambda totals, place=place: (detail.fitted(totals) or (None, None))[place])  # type: ignore[misc]
            how = "of the straight line through reconstruction against original, all pixels of all images"
            alike = detail.correlation(own.sum(0))
            extras = {} if alike is None else {"correlation": alike}
            found.append(line.metric(name, how, unit, at=at, extras=extras))
    chroma = bounded(mean_with_interval(joined(units, "chroma")))
    found.append(chroma.metric("chroma-error", "of Cb and Cr by JFIF, mean over images", "levels", "lower"))
    told = joined(units, "in order")
    told = told[~np.isnan(told)]
    order = share(int(told.sum()), len(told)) if len(told) else missing("the images have no colours", len(sums))
    how = "images with colours whose reconstruction no exchange of its channels brings nearer to the original"
    found.append(order.metric("channels-in-order", how, "fraction", "higher"))
    return found


def _places(units: Sequence[Stored]) -> list[Metric]:
    places = joined(units, "displacement")
    known = places[~np.isnan(places).any(1)]
    how = "median over images of the peak of the cross-correlation of brightness, to 1/20 pixel"
    found = []
    for number, axis in enumerate(AXES):
        estimate = missing("every image or reconstruction is flat", len(places))
        if len(known):
            estimate = Estimate(float(np.median(known[:, number])), n=len(known), flags=("no_interval",))
        found.append(estimate.metric("displacement", how, "pixels", at={"axis": axis}))
    return found


def _blocking(units: Sequence[Stored], patch: tuple[int, int] | None, reason: str) -> Metric:
    estimate = missing(reason, len(joined(units, "sample_ids")))
    how = "jumps of brightness across borders of patches over those within, over the same of the originals"
    if patch is not None:
        jumps = joined(units, "jumps")
        flat = np.flatnonzero(jumps.sum(0) <= 0)
        estimate = bounded(of_totals(jumps, _jump_ratio))
        if len(flat):
            whose = "reconstructions" if flat[0] < 2 else "originals"
            estimate = missing(f"the {whose} are flat {'within' if flat[0] % 2 else 'across'} patches", len(jumps))
        how = f"{how}; patches of {patch[0]} x {patch[1]} pixels"
    return estimate.metric("blocking", how)


def _jump_ratio(sums: NDArray[np.float64]) -> float | None:
    across, within, original_across, original_within = sums
    if min(across, within, original_across, original_within) <= 0:
        return None
    return float(across / within / (original_across / original_within))


def _gallery(task: Detail, units: Sequence[Stored]) -> Gallery | None:
    if task.show == 0:
        return None
    originals, shown = joined(units, "originals", task.show), joined(units, "shown", task.show)
    regions = np.array([0, 127, 255], np.uint8)[joined(units, "regions", task.show)]
    maps = np.repeat(regions[:, None], 3, axis=1)
    n = len(originals)
    return Gallery(
        f"Regions of {task.data}",
        "rows",
        "Black: flat; grey: texture; white: edges. The first images, not selected.",
        np.arange(n),
        np.full((3, n), -1),
        ("original", "regions", ""),
        (True, True, False),
        np.stack([originals, maps, shown]),
    )
