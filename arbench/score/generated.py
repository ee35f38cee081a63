"""Images straight from a generator, sampled batch by batch and never written as files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch

from .. import registry, weight_parts
from ..adapter_code import code_of
from ..data.reading import GENERATOR, Open, Reading, Source, cropped
from ..data.sources import open_images
from ..data.stream import ImageStream, Picture, Tally
from ..errors import InputError, UsageError, counted
from ..measure.threads import SAMPLING_THREADS, threads
from ..protocols import Card, Generator, Request
from ..spec.cell import Cell, make_cell
from ..spec.identity import identity
from ..spec.suite import Settings
from ..tasks.context import WorkerContext
from ..tasks.generate import Generate
from ..tasks.outputs import labels_for, prompted_request, request_for
from ..tasks.sampled import sampled
from ..weights import find

BATCH = 64


def mark_of(source: Source, weights: Mapping[str, str] | None = None) -> str | None:
    """Of a generator: changes with weights, cards and code of it and its tokenizer. None for others: files tell."""
    if not (isinstance(source, str) and source.startswith(GENERATOR)):
        return None
    card = registry.card(source.removeprefix(GENERATOR))
    cards = [card] if card.tokenizer is None else [card, registry.card(card.tokenizer)]
    facts = {"cards": [each.plain() for each in cards], "weights": digests_of(card, weights), "code": code_of(card)}
    return identity(facts, "generator")


def digests_of(card: Card, weights: Mapping[str, str] | None = None) -> dict[str, str]:
    """Name -> sha256 of the files of a generator and its tokenizer, as far as they are here."""
    names = [card.name] if card.tokenizer is None else [card.name, card.tokenizer]
    digests = {}
    for name in names:
        each = registry.card(name)
        path = find(each, weights or {})
        if path is not None:
            digests[name] = weight_parts.digest_of(path, weight_parts.part_of(each, path, weights).name)
    return digests


def origin_of(cell: Cell) -> dict[str, Any]:
    """Fields of a result that say who made the samples, and under which settings."""
    return {
        "adapter": cell.adapter,
        "family": cell.family,
        "kind": cell.kind,
        "settings_id": cell.settings_id,
        "sampling": cell.sampling,
        "load": cell.settings.plain(),
    }


def opener(device: str, weights: Mapping[str, str] | None = None) -> Open:
    """Opens what `open_images` does, and generators ("generator:NAME", with a limit), sampled on `device`.

    `weights` are files of adapters, by name.
    """

    def open_any(source: Source, reading: Reading, shard: tuple[int, int] = (0, 1)) -> ImageStream:
        if not (isinstance(source, str) and source.startswith(GENERATOR)):
            return open_images(source, reading, shard)
        name, limit = source.removeprefix(GENERATOR), reading.limit or len(reading.prompts)
        if not limit:
            raise InputError(
                "a generator makes as many images as it is asked for", f"{source} has no end", "add --limit N"
            )
        return cropped(GeneratedStream(name, limit, device, shard, reading.prompts, weights), reading)

    return open_any


class GeneratedStream:
    """The first `limit` samples of a generator, native sampling, seed 0: sample id i has class `i % classes`.

    A text-to-image model is given the i-th of the `prompts`, which are paths of caption files. Raises UsageError
    without them, InputError if they are too few.
    """

    def __init__(
        self,
        name: str,
        limit: int,
        device: str,
        shard: tuple[int, int] = (0, 1),
        prompts: Sequence[str] = (),
        weights: Mapping[str, str] | None = None,
    ) -> None:
        self.name = f"generator:{name}"
        self._weights = weights
        self._ids = range(shard[0], limit, shard[1])
        self.count: int | None = len(self._ids)
        self.tally = Tally()
        self._device = device
        self._card = registry.card(name)
        self._prompts = prompts if self._card.condition == "text" else None
        if self._prompts is not None:
            check_prompts(self._card, self._prompts, limit)

    def __iter__(self) -> Iterator[Picture]:
        context = WorkerContext(self._device, self._weights)
        self.tally = Tally()
        try:
            generator = context.generator(self._cell())
            for start in range(0, len(self._ids), BATCH):
                yield from self._batch(generator, self._ids[start : start + BATCH])
        finally:
            context.close()

    def _cell(self) -> Cell:
        settings = Settings(device=self._device)
        return make_cell(self._card, Generate(), settings, self._card.native, {}, data={}, machine=self._device)

    def _batch(self, generator: Generator, ids: range) -> list[Picture]:
        with torch.inference_mode(), threads(SAMPLING_THREADS):
            pixels, _ = sampled(generator, ids, BATCH, self._card.native, self._request)
        labels = [-1] * len(ids) if self._prompts is not None else labels_for(self._card, ids).tolist()
        self.tally.read += len(ids)
        return [
            Picture(sample_id, f"sample-{sample_id:06d}", image, label if label >= 0 else None)
            for sample_id, label, image in zip(ids, labels, pixels, strict=True)
        ]

    def _request(self, ids: range) -> Request:
        if self._prompts is None:
            return request_for(self._card, ids, 0, self._device)
        return prompted_request(self._card, ids, self._prompts, 0, self._device)


def check_prompts(card: Card, prompts: Sequence[str], limit: int) -> None:
    """Raises UsageError without prompts, InputError if there are fewer than `limit`."""
    if not prompts:
        raise UsageError(
            f"{card.name} needs prompts",
            "it makes images from captions",
            f"arbench captions {card.name} PROMPTS --encoder PATH -o captions, then --prompts captions/prompts.txt",
        )
    if limit > len(prompts):
        what = f"{counted(limit, 'image')} of {counted(len(prompts), 'prompt')}"
        raise InputError(what, "each image has its own", "lower --limit")
