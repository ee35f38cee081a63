"""The work of `edit`: what is redrawn, put into the original, and what happens outside the mask."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from ...errors import CellError, Unsupported
from ...gallery import Gallery
from ...metrics.classifier import class_agreement
from ...metrics.estimate import Estimate, bounded, mean_with_interval, missing
from ...protocols import Codes, Edits, TokenSpec
from ...spec.cell import Cell
from ...spec.result import Metric
from ...spec.task import Data
from ...spec.unit import Unit
from ..base import Arrays, Context, Finished, Stored, joined
from ..compared import described, evaluated, keeps_images
from ..outputs import (
    check_generated,
    classes_of,
    decode,
    encode,
    from_ids_alone,
    join,
    load,
    request_for,
    sampling_of,
    tokens_of,
    unclassifiable,
)
from . import Box, Edit

BOXES: dict[str, Box] = {
    "centre": (0.25, 0.25, 0.75, 0.75),
    "lower": (0.5, 0.0, 1.0, 1.0),
    "left": (0.0, 0.0, 1.0, 0.5),
}
MASKED = (214, 120, 44)
"""Colour of the masked part of an original."""
LEAD = (
    "The masked part of each image is drawn anew, given the rest and a class; pixels outside it are the original's."
    " Every model is given the same images, masks and seeds."
)
NOTHING_OUTSIDE = "the mask leaves no pixel outside"


class EditWork:
    """A unit is a range of image indices; image i is redrawn from the noise of sample i, in every model."""

    def measure(self, cell: Cell, unit: Unit, context: Context) -> Arrays:
        task = cell.task
        assert isinstance(task, Edit)
        tokenizer, source = context.tokenizer(cell), context.source(_data(task))
        card, ids = context.generator(cell).card, range(unit.start, unit.stop)
        originals = load(source, ids, card, "edit")
        classes = classes_of(source, ids, card, "edit")
        asked = (classes + 1) % (card.classes or 1) if task.condition == "next" else classes
        mask = pixel_mask(task.mask, card.resolution)
        given, edited = _edited(cell, originals, ids, asked, token_mask(mask, tokenizer.spec), context)
        drawn: NDArray[np.uint8] = decode(tokenizer, edited, ids).numpy()  # (n, 3, H, W)
        images = np.where(mask, drawn, originals)
        arrays = described(images, ids, asked, source.keys(ids), task.question(), task.mode, context)
        arrays |= {"classes": classes, "tokens": tokens_of(edited, len(ids))}
        if keeps_images(cell, unit, images[0].nbytes, task.show):
            arrays["images"] = images
        if not mask.all():
            arrays["unchanged"] = (images == originals)[..., ~mask].mean((1, 2))
            arrays["psnr_outside"] = psnr_where(~mask, drawn, originals)
            arrays["psnr_tokenizer"] = psnr_where(~mask, decode(tokenizer, given, ids).numpy(), originals)
        if not unclassifiable(card, task.data):
            classifier = context.shared("classifier")
            arrays["predicted"] = classifier.predict(images)
            arrays["predicted_original"] = classifier.predict(originals)
        return arrays

    def finish(self, cell: Cell, units: Sequence[Stored], context: Context) -> Finished:
        task = cell.task
        assert isinstance(task, Edit)
        found = evaluated(cell.adapter, units, task.question(), task.data, context, mode=task.mode, limit=None)
        return Finished(
            (*_agreement(cell, units, context), *_outside(units), *found.metrics),
            gallery=_gallery(task, units, context),
            samples=found.samples,
            reference=found.reference,
            remarks=found.remarks,
            weights=found.weights,
        )


def _data(task: Edit) -> Data:
    return Data(task.data, task.crop, task.size)


# ---- the mask --------------------------------------------------------------------------------------------------------


def pixel_mask(mask: str | Box, side: int) -> NDArray[np.bool_]:
    """(side, side), true where pixels are redrawn. The edges of a box are rounded to whole pixels, at least one."""
    if mask == "border":
        return ~pixel_mask("centre", side)
    top, left, bottom, right = (round(edge * side) for edge in (BOXES[mask] if isinstance(mask, str) else mask))
    top, left = min(top, side - 1), min(left, side - 1)
    cells = np.zeros((side, side), dtype=np.bool_)
    cells[top : max(bottom, top + 1), left : max(right, left + 1)] = True
    return cells


def token_mask(mask: NDArray[np.bool_], spec: TokenSpec) -> Tensor:
    """(h, w) bool on the finest grid of tokens: those whose cell holds a pixel of the mask (H, W)."""
    finest = spec.levels[-1]
    if len(finest) != 2:
        raise Unsupported(
            "tokens in a sequence have no place in the image",
            f"the tokenizer's finest level has the shape {finest}",
            "choose a tokenizer with a grid of tokens",
        )
    # adaptive pooling takes every pixel that overlaps a cell, also where the sides do not divide
    cells: Tensor = F.adaptive_max_pool2d(torch.from_numpy(mask)[None].float(), finest)
    return cells[0] > 0


# ---- drawing ---------------------------------------------------------------------------------------------------------


def _edited(
    cell: Cell, originals: NDArray[np.uint8], ids: range, asked: NDArray[np.int64], mask: Tensor, context: Context
) -> tuple[Codes, Codes]:
    """The codes of a unit's images, and the same edited, `batch` at a time."""
    assert isinstance(cell.task, Edit)
    generator, tokenizer = context.generator(cell), context.tokenizer(cell)
    if not isinstance(generator, Edits):
        name = generator.card.name
        raise CellError(f"{name}: its card offers `edits`", "its class has no `edit`", f"arbench check {name}")
    sampling, mask, size, prepared = sampling_of(cell, generator.card), mask.to(context.device), cell.task.batch, 0
    given, edited = [], []
    for start in range(0, len(ids), size):
        rows = slice(start, min(start + size, len(ids)))
        codes = from_ids_alone(encode(tokenizer, originals[rows], context.device), tokenizer.spec)
        if rows.stop - start != prepared:
            prepared = rows.stop - start
            generator.prepare(prepared, sampling)
        request = request_for(generator.card, ids[rows], cell.settings.seed, context.device, asked[rows])
        generated = check_generated(generator, generator.edit(request, codes, mask, sampling), prepared)
        assert generated.codes is not None  # check_generated has seen to it, for there is a tokenizer
        given.append(codes)
        edited.append(generated.codes)
        context.progress(rows.stop)
    return join(given), join(edited)


# ---- metrics ---------------------------------------------------------------------------------------------------------


def psnr_where(
    pixels: NDArray[np.bool_], images: NDArray[np.uint8], originals: NDArray[np.uint8]
) -> NDArray[np.float64]:
    """(n,) dB over the chosen pixels (H, W) of uint8 images (n, 3, H, W); equal ones count as one level off at one."""
    difference = images[..., pixels].astype(np.float64) - originals[..., pixels]  # (n, 3, pixels)
    error = np.square(difference).mean((1, 2))
    decibels: NDArray[np.float64] = 10 * np.log10(255**2 / np.maximum(error, 1 / difference[0].size))
    return decibels


def _agreement(cell: Cell, units: Sequence[Stored], context: Context) -> list[Metric]:
    """How many are classified as the class asked for, and for comparison how many originals as their own."""
    assert isinstance(cell.task, Edit)
    asked = joined(units, "labels")
    reason = unclassifiable(context.generator(cell).card, cell.task.data)
    edited: Estimate = missing(reason, len(asked))
    original, by = edited, ""
    if not reason:
        edited = class_agreement(joined(units, "predicted"), asked)
        original = class_agreement(joined(units, "predicted_original"), joined(units, "classes"))
        by = f"; {context.shared('classifier').convention}"
    name, unit = "class-agreement", "fraction"
    return [
        edited.metric(name, f"edited images classified as the class asked for{by}", unit, "higher"),
        original.metric(name, f"classified as their own class{by}", unit, "higher", at={"images": "originals"}),
    ]


def _outside(units: Sequence[Stored]) -> list[Metric]:
    """What happens outside the mask: nothing in the edited image, and what the codes cost before it is put together."""

    def mean(name: str) -> Estimate:
        found = name in units[0]
        count = len(joined(units, "sample_ids"))
        return mean_with_interval(joined(units, name)) if found else missing(NOTHING_OUTSIDE, count)

    how = "10 log10(255^2 / mse) over the pixels outside the mask, uint8, RGB, mean over images"
    return [
        bounded(mean("unchanged"), most=1).metric(
            "unchanged-outside",
            "share of values outside the mask that are the original's, uint8, RGB; anything but 1 is a fault",
            "fraction",
            "higher",
        ),
        mean("psnr_outside").metric(
            "psnr-outside", f"{how}; as decoded, before the original is put back", "dB", "higher"
        ),
        mean("psnr_tokenizer").metric(
            "psnr-outside-tokenizer", f"{how}; encoded and decoded without an edit", "dB", "higher"
        ),
    ]


def _gallery(task: Edit, units: Sequence[Stored], context: Context) -> Gallery | None:
    """The first images before and after, and the mask; labels: the originals' classes, then those asked for."""
    if task.show == 0:
        return None
    ids = joined(units, "sample_ids", task.show)
    originals: NDArray[np.uint8] = context.source(_data(task)).load(ids.tolist())
    colour = np.array(MASKED, dtype=np.uint8)[:, None, None]
    masked = np.where(pixel_mask(task.mask, originals.shape[-1]), colour, originals)
    classes, asked = joined(units, "classes", task.show), joined(units, "labels", task.show)
    return Gallery(
        _title(task),
        "rows",
        LEAD,
        ids,
        np.stack([classes, asked, asked]),
        ("original", "mask", ""),
        (True, True, False),
        np.stack([originals, masked, joined(units, "images", task.show)]),
    )


def _title(task: Edit) -> str:
    """What an edit does: "Outpainting: border redrawn, the image's own class (mnist5k/heldout)"."""
    own = task.condition != "next"
    kind = ("Outpainting" if task.mask == "border" else "Inpainting") if own else "Editing by class"
    part = task.mask if isinstance(task.mask, str) else "box " + " ".join(f"{edge:g}" for edge in task.mask)
    return f"{kind}: {part} redrawn, {'the image’s own class' if own else 'the next class'} ({task.data})"
