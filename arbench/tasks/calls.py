"""Whole calls as a user makes them, for tasks that measure what a call takes and not its parts."""

from __future__ import annotations

from collections.abc import Callable

from ..spec.cell import Cell
from .base import Context
from .outputs import check_generated, check_images, codes_for, measured_request, sampling_of, synthetic_images


def whole_call(cell: Cell, batch: int, context: Context) -> Callable[[range], None]:
    """Loads what the cell is about; the function makes a whole call of these ids."""
    return _generator_call(cell, batch, context) if cell.kind == "generator" else _tokenizer_call(cell, context)


def _generator_call(cell: Cell, batch: int, context: Context) -> Callable[[range], None]:
    """Loads the generator; the function samples and decodes these ids."""
    generator = context.generator(cell)
    card, tokenizer = generator.card, generator.tokenizer
    sampling = sampling_of(cell, card)

    def call(ids: range) -> None:
        if ids.start == 0:
            generator.prepare(batch, sampling)
        generated = generator.sample(measured_request(card, ids, cell.settings.seed, context.device), sampling)
        images = check_generated(generator, generated, len(ids)).images
        if tokenizer is not None and generated.codes is not None:
            images = tokenizer.decode(generated.codes)
        assert images is not None  # checked above
        check_images(images, ids, card.resolution, card.name)

    return call


def _tokenizer_call(cell: Cell, context: Context) -> Callable[[range], None]:
    """Loads the tokenizer; the function encodes and decodes as many synthetic images."""
    tokenizer = context.tokenizer(cell)
    card = tokenizer.card

    def call(ids: range) -> None:
        images = synthetic_images(cell.settings.seed, ids, card.resolution, context.device)
        check_images(tokenizer.decode(codes_for(tokenizer, images)), ids, card.resolution, card.name)

    return call
