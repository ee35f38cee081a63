"""What a worker holds for its cells: adapters, data and metric networks, each loaded once and kept."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import torch

from .. import registry, weight_parts, weights
from ..errors import NoDevice, Unsupported
from ..protocols import Card, Generator, LoadSpec, Tokenizer
from ..spec.cell import Cell, trained
from ..spec.task import Data

if TYPE_CHECKING:
    from ..data.indexed import ImageSource
    from ..evaluate.pairs import PairMetrics
    from ..features.extract import Extractors
    from ..features.extractor import Mode
    from ..features.weight_files import Weights

SHARED: Mapping[str, str] = MappingProxyType(
    {
        "ocr": "arbench.metrics.ocr:Ocr",
        "classifier": "arbench.metrics.classifier:DigitClassifier",
    }
)
"""Networks that several cells use, "module:attribute" of what builds one for a device. Imported when asked for."""

Key = tuple[str, str, str, bool, str]


def _key(name: str, cell: Cell) -> Key:
    settings = cell.settings
    own = trained(name, cell.replicate) if name == cell.adapter else name
    return own, settings.init, settings.dtype, settings.compile, settings.graph


class WorkerContext:
    """The `Context` of a worker process.

    `given` maps names of adapters, and of feature networks' weights, to files named by the user. `progress` is told how
    many samples or calls of the present unit are done. Loaded adapters are kept by name, initialisation, number format,
    compilation and recording.
    """

    def __init__(
        self, device: str, given: Mapping[str, str] | None = None, progress: Callable[[int], None] | None = None
    ) -> None:
        if device.startswith("cuda") and not torch.cuda.is_available():
            raise NoDevice(f"no device {device!r}", "torch finds no CUDA device", "set device to cpu")
        self.device = device
        self._given = dict(given or {})
        self._progress = progress
        self._tokenizers: dict[Key, Tokenizer] = {}
        self._generators: dict[Key, Generator] = {}
        self._shared: dict[str, Any] = {}
        self._sources: dict[Data, ImageSource] = {}
        self._extractors: dict[Mode, Extractors] = {}
        self._pairs: dict[tuple[str, ...], PairMetrics] = {}
        self._kept: tuple[str, Any] | None = None

    def generator(self, cell: Cell) -> Generator:
        card = self._card(cell.adapter, "generator")
        key = _key(card.name, cell)
        if key not in self._generators:
            tokenizer = None if card.tokenizer is None else self._tokenizer(card.tokenizer, cell)
            implementation = registry.resolve(card.implementation)
            self._generators[key] = implementation.load(card, self._load_spec(card, cell), tokenizer)
        return self._generators[key]

    def tokenizer(self, cell: Cell) -> Tokenizer:
        card = registry.card(cell.adapter)
        if card.kind == "tokenizer":
            return self._tokenizer(card.name, cell)
        if card.tokenizer is None:
            raise Unsupported(f"{card.name} has no tokenizer", "it makes images directly", "choose another task")
        return self._tokenizer(card.tokenizer, cell)

    def source(self, data: Data) -> ImageSource:
        if data not in self._sources:
            from ..data.reading import Reading
            from ..data.sources import open_source

            self._sources[data] = open_source(data.source, Reading(limit=data.limit, crop=data.crop, size=data.size))
        return self._sources[data]

    def extractors(self, mode: Mode) -> Extractors:
        if mode not in self._extractors:
            from ..features.extract import Extractors

            self._extractors[mode] = Extractors(self._feature_weights(), self.device, mode)
        return self._extractors[mode]

    def pair_metrics(self, variants: Sequence[str]) -> PairMetrics:
        key = tuple(variants)
        if key not in self._pairs:
            from ..evaluate.pairs import PairMetrics

            self._pairs[key] = PairMetrics(key, self._feature_weights(), self.device)
        return self._pairs[key]

    def _feature_weights(self) -> Weights:
        from ..features.weight_files import feature_weights

        return feature_weights(self._given)

    def weight_files(self, cell: Cell) -> Mapping[str, Path]:
        if cell.settings.init == "random":
            return {}
        card = registry.card(cell.adapter)
        names = [card.name] if card.tokenizer is None else [card.name, card.tokenizer]
        given = self._files(cell)
        found = {name: weights.find(registry.card(name), given) for name in names}
        return {name: path for name, path in found.items() if path is not None}

    def _files(self, cell: Cell) -> Mapping[str, str]:
        """The files given, those of the cell's own training for its adapter."""
        own = trained(cell.adapter, cell.replicate)
        return {**self._given, cell.adapter: self._given[own]} if own in self._given else self._given

    def shared(self, key: str) -> Any:
        if key not in self._shared:
            self._shared[key] = registry.resolve(SHARED[key])(self.device)
        return self._shared[key]

    def kept(self, key: str, make: Callable[[], Any]) -> Any:
        if self._kept is None or self._kept[0] != key:
            self._kept = None  # before the next one takes memory
            self._kept = key, make()
        return self._kept[1]

    def progress(self, done: int) -> None:
        if self._progress is not None:
            self._progress(done)

    def close(self) -> None:
        """Closes what was loaded, generators before the tokenizers they use."""
        for generator in self._generators.values():
            generator.close()
        for tokenizer in self._tokenizers.values():
            tokenizer.close()
        self._generators.clear()
        self._tokenizers.clear()
        self._shared.clear()
        self._sources.clear()
        self._extractors.clear()
        self._pairs.clear()
        self._kept = None

    def _tokenizer(self, name: str, cell: Cell) -> Tokenizer:
        key = _key(name, cell)
        if key not in self._tokenizers:
            card = self._card(name, "tokenizer")
            implementation = registry.resolve(card.implementation)
            self._tokenizers[key] = implementation.load(card, self._load_spec(card, cell))
        return self._tokenizers[key]

    def _card(self, name: str, kind: str) -> Card:
        card = registry.card(name)
        if card.kind != kind:
            raise Unsupported(f"{name} is a {card.kind}, not a {kind}", "", f"arbench ls {kind}s")
        return card

    def _load_spec(self, card: Card, cell: Cell) -> LoadSpec:
        settings, given = cell.settings, self._files(cell)
        path = weights.locate(card, given) if settings.init == "checkpoint" else None
        part = "" if path is None else weight_parts.part_of(card, path, given).name
        return LoadSpec(
            weights=path,
            init=settings.init,
            device=self.device,
            dtype=settings.dtype,
            compile=settings.compile,
            graph=settings.graph,
            part=part,
        )
