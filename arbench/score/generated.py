"""Images straight from a generator, sampled batch by batch and never written as files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch

from .. import registry
from ..data.reading import GENERATOR, Open, Reading, Source, cropped, open_images
from ..data.stream import ImageStream, Picture, Tally
from ..errors import InputError, UsageError
from ..images import to_uint8
from ..protocols import Card, Codes, Generated, Generator, Request
from ..seeds import noise_for
from ..spec.cell import Cell, make_cell
from ..spec.suite import Generate, Settings
from ..tasks.context import WorkerContext
from ..tasks.outputs import check_generated, check_images, decode, request_for

BATCH = 64


def opener(device: str) -> Open:
    """Opens what `open_images` does, and generators ("generator:NAME", with a limit), sampled on `device`."""

    def open_source(source: Source, reading: Reading, shard: tuple[int, int] = (0, 1)) -> ImageStream:
        if not (isinstance(source, str) and source.startswith(GENERATOR)):
            return open_images(source, reading, shard)
        name, limit = source.removeprefix(GENERATOR), reading.limit or len(reading.prompts)
        if not limit:
            raise InputError(
                "a generator makes as many images as it is asked for", f"{source} has no end", "add --limit N"
            )
        return cropped(GeneratedStream(name, limit, device, shard, reading.prompts), reading)

    return open_source


class GeneratedStream:
    """The first `limit` samples of a generator, native sampling, seed 0: sample id i has class `i % classes`.

    Of a model of captions it has the i-th of the `prompts`, which are paths of caption files. Raises UsageError
    without, InputError if they are too few.
    """

    def __init__(
        self,
        name: str,
        limit: int,
        device: str,
        shard: tuple[int, int] = (0, 1),
        prompts: Sequence[str] = (),
    ) -> None:
        self.name = f"generator:{name}"
        self._ids = range(shard[0], limit, shard[1])
        self.count: int | None = len(self._ids)
        self.tally = Tally()
        self._device = device
        self._card = registry.card(name)
        self._prompts = prompts if self._card.condition == "text" else None
        if self._prompts is not None:
            _check_prompts(self._card, self._prompts, limit)

    def __iter__(self) -> Iterator[Picture]:
        context = WorkerContext(self._device)
        self.tally = Tally()
        try:
            generator = context.generator(self._cell())
            for start in range(0, len(self._ids), BATCH):
                yield from self._batch(generator, self._ids[start : start + BATCH])
        finally:
            context.close()

    def _cell(self) -> Cell:
        settings = Settings(device=self._device)
        return make_cell(
            self._card, Generate(), settings, self._card.native, {}, task_version=1, data={}, machine=self._device
        )

    @torch.inference_mode()
    def _batch(self, generator: Generator, ids: range) -> Iterator[Picture]:
        card = self._card
        generator.prepare(len(ids), card.native)
        request = self._request(ids)
        generated: Generated = check_generated(generator, generator.sample(request, card.native), len(ids))
        if generator.tokenizer is None:
            assert generated.images is not None  # check_generated has seen to it
            pixels = to_uint8(check_images(generated.images, ids, card.resolution, card.name)).cpu().numpy()
        else:
            pixels = decode(generator.tokenizer, generated.codes or Codes(), ids).numpy()
        labels = [-1] * len(ids) if request.labels is None else request.labels.tolist()
        for sample_id, label, image in zip(ids, labels, pixels, strict=True):
            self.tally.read += 1
            yield Picture(sample_id, f"sample-{sample_id:06d}", image, label if label >= 0 else None)

    def _request(self, ids: range) -> Request:
        if self._prompts is None:
            return request_for(self._card, ids, 0, self._device)
        return Request(tuple(ids), noise_for(0, ids, self._device), prompts=tuple(self._prompts[i] for i in ids))


def _check_prompts(card: Card, prompts: Sequence[str], limit: int) -> None:
    if not prompts:
        raise UsageError(
            f"{card.name} needs prompts",
            "it makes images of captions",
            f"arbench captions {card.name} PROMPTS --encoder PATH -o captions, then --prompts captions/prompts.txt",
        )
    if limit > len(prompts):
        raise InputError(f"{limit} images of {len(prompts)} prompts", "each image has its own", "lower --limit")
