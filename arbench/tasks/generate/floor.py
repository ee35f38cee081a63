"""The floor beneath a generator: the reference as its own tokenizer reconstructs it, and distances to and from that."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice

import numpy as np
import torch

from ...adapter_code import code_of
from ...data.reading import Reading, Source, fingerprint
from ...data.sources import open_images
from ...data.stream import ImageStream, Picture, Tally
from ...evaluate.definition import Definition
from ...evaluate.evaluation import evaluate, open_reference
from ...features.feature_set import Features
from ...measure.threads import SAMPLING_THREADS, threads
from ...protocols import Tokenizer
from ...spec.cell import Cell
from ...spec.identity import identity
from ...spec.result import Metric, ReferenceSet, Remark
from ..base import Context
from ..compared import Sides
from ..outputs import decode, encode
from . import Generate, why_no_floor

AGAINST, OF = "samples to reconstructions", "reconstructions to reference"
"""`at["sets"]` of the numbers. The reference stays the data set: each row's own tokenizer reconstructs it."""
SINGLE = frozenset({"auth-pct", "mifid", "neighbour-agreement", "realism"})
"""Kinds that ask of single samples whether they are near an image of the reference; reconstructions are by nature."""
BATCH = 64
"""Images encoded at once, as `reconstruct` does; they are decoded in the fixed batch of all tasks."""


class ReconstructedStream:
    """The pictures of a stream, encoded and decoded."""

    def __init__(self, stream: ImageStream, tokenizer: Tokenizer, device: str) -> None:
        self._stream, self._tokenizer, self._device = stream, tokenizer, device
        self.name = f"{stream.name} by {tokenizer.card.name}"

    @property
    def count(self) -> int | None:
        return self._stream.count

    @property
    def tally(self) -> Tally:
        return self._stream.tally

    def __iter__(self) -> Iterator[Picture]:
        pictures = iter(self._stream)
        while chunk := list(islice(pictures, BATCH)):
            yield from self._reconstructed(chunk)

    def _reconstructed(self, chunk: Sequence[Picture]) -> list[Picture]:
        with torch.inference_mode(), threads(SAMPLING_THREADS):
            codes = encode(self._tokenizer, np.stack([picture.image for picture in chunk]), self._device)
            images = decode(self._tokenizer, codes, [picture.index for picture in chunk]).numpy()
        return [replace(picture, image=image) for picture, image in zip(chunk, images, strict=True)]


def floor(cell: Cell, sides: Sides, context: Context) -> tuple[list[Metric], list[Remark]]:
    """Each distance of the conventions from the samples to the reconstructions, and from these to the reference.

    Null with the reason where there are none; remarks are those on the reconstructions.
    """
    task = cell.task
    assert isinstance(task, Generate)
    card = context.generator(cell).card
    wanted = [item for item in sides.wanted if not item.alone and not item.paired and item.kind not in SINGLE]
    named = sides.reference.named if sides.reference is not None else None
    words = {
        AGAINST: f"compared with the reference as reconstructed by {card.tokenizer}",
        OF: f"of the reference as reconstructed by {card.tokenizer}, no samples: the floor that the tokenizer sets",
    }
    if reason := why_no_floor(card, task):
        return [_null(item, named, place, how, reason) for place, how in words.items() for item in wanted], []
    assert task.reference is not None and sides.reference is not None  # noqa: PT018, why_no_floor has seen to it
    tokenizer = context.tokenizer(cell)

    def reconstructed(source: Source, reading: Reading, shard: tuple[int, int] = (0, 1)) -> ImageStream:
        return ReconstructedStream(open_images(source, reading, shard), tokenizer, context.device)

    middle = open_reference(
        task.reference,
        sides.question,
        sides.held,
        sides.extractors,
        reading=sides.reading,
        open_source=reconstructed,
        mark=_mark(cell, tokenizer, task.reference, context.device),
        progress=lambda what, done, count: context.progress(done),
    )
    metrics: list[Metric] = []
    remarks: dict[str, Remark] = {}
    paired = replace(sides.question, paired=True)  # what is odd about the two sets is asked of reconstructions
    sets: dict[str, Features] = dict(middle.sets)
    for place, samples, reference, question in (
        (AGAINST, sides.samples, middle, sides.question),
        (OF, sets, sides.reference, paired),
    ):
        found = evaluate(
            wanted,
            samples,
            reference,
            question,
            sides.extractors.weights,
            reasons=sides.reasons,
            name=sides.name,
            device=context.device,
        )
        metrics += [_placed(metric, named, place, words[place]) for metric in found.metrics]
        for remark in found.remarks:
            remarks.setdefault(remark.code, remark.model_copy(update={"text": f"{place}: {remark.text}"}))
    return metrics, list(remarks.values())


def _mark(cell: Cell, tokenizer: Tokenizer, source: str, device: str) -> str:
    """Changes with the images and with all that decides what a tokenizer makes of them."""
    card = tokenizer.card
    facts = {
        "card": card.plain(),
        "weights": cell.weights_sha256.get(card.name, ""),
        "code": code_of(card),
        "dtype": cell.settings.dtype,
        "compile": cell.settings.compile,
        "device": device.partition(":")[0],
        "images": cell.data.get(source, ""),
        "files": fingerprint(source),
        "batch": BATCH,
    }
    return identity(facts, "reconstructed")


def _placed(metric: Metric, named: ReferenceSet | None, place: str, how: str) -> Metric:
    return metric.model_copy(update={"at": {"sets": place}, "reference": named, "how": f"{metric.how}; {how}"})


def _null(item: Definition, named: ReferenceSet | None, place: str, how: str, reason: str) -> Metric:
    return Metric(
        name=item.metric,
        value=None,
        unit=item.unit,
        n=0,
        direction=item.direction,
        convention=item.convention,
        reference=named,
        at={"sets": place},
        how=f"{item.what}; {how}",
        reason=reason,
    )
