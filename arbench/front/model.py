"""`arbench.load(...)`: a generator or tokenizer, ready to sample, encode and decode, as a run has it."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from html import escape
from pathlib import Path
from typing import Any, Literal, Self, get_args

import numpy as np
import torch
from numpy.typing import NDArray

from .. import registry
from ..data.indexed import ImageSource
from ..data.reading import Reading
from ..data.sources import open_source
from ..errors import ImageError, Unsupported, UsageError
from ..measure.threads import SAMPLING_THREADS, threads
from ..protocols import Card, Codes, Request, Sampling, Tokenizer
from ..report.number import count
from ..run.device import resolve_device
from ..run.resolve import check_overrides, resolve_sampling
from ..score.generated import check_prompts, digests_of, origin_of
from ..seeds import noise_for
from ..spec.cell import Cell, make_cell
from ..spec.suite import Dtype, GraphMode, Settings, Suite
from ..spec.suite_file import SuiteFile
from ..tasks.context import WorkerContext
from ..tasks.generate import Generate
from ..tasks.outputs import check_codes, decode, encode, join, labels_for, moved, request_for
from ..tasks.reconstruct import Reconstruct
from ..tasks.sampled import sampled
from ..weight_parts import notes_of
from .images import Images
from .sources import WeightFiles, as_source, at_least, given_weights, one_of

BATCH = 64
Init = Literal["checkpoint", "random"]


class Model:
    """A loaded generator or tokenizer. Close it, or use it in a `with`, to free its memory before the process ends."""

    def __init__(self, card: Card, settings: Settings, weights: dict[str, str]) -> None:
        self.card = card
        self.settings = settings
        self._weights = weights
        self._context: WorkerContext | None = WorkerContext(settings.device, weights)
        self._digests: dict[str, dict[str, str]] = {}
        self._cell = _cell_of(card, settings, None, {})
        if card.kind == "generator":
            self._context.generator(self._cell)
        else:
            self._context.tokenizer(self._cell)

    # ---- generators ----

    def sample(
        self,
        n: int,
        classes: int | Sequence[int] | None = None,
        seed: int = 0,
        *,
        batch: int = BATCH,
        prompts: Sequence[str] | None = None,
        **sampling: Any,
    ) -> Images:
        """The samples 0 to n - 1 under `seed`: those that a run with this seed and this sampling has.

        classes: one for all, or several in turn; by default sample i has class `i % classes of the model`. prompts: for
        text-to-image models, a caption file for each sample (see `arbench captions`). batch: samples drawn at once; it
        changes none of them. The other keywords are the sampling fields of a suite, such as `temperature=0.9`,
        `top_k=100`, `steps=8`, `guidance=2.0` or `guidance={"scale": 2.0, "schedule": "linear"}`.

        Raises `ConfigError` for an unknown keyword or a wrong value, `Unsupported` for what the model does not honour.
        """
        card, context = self.card, self._open()
        if card.kind != "generator":
            raise Unsupported(f"{card.name} is a tokenizer", "it makes no images of its own", "use reconstruct(images)")
        at_least("n", n, 1)
        at_least("batch", batch, 1)
        at_least("seed", seed, 0)
        chosen = _sampling(card, sampling)
        labels = _labels(card, n, classes)
        texts = _prompts(card, n, prompts)

        def request(ids: range) -> Request:
            if texts:
                noise = noise_for(seed, ids, context.device)
                return Request(tuple(ids), noise, prompts=tuple(texts[i] for i in ids))
            return request_for(card, ids, seed, context.device, labels[ids.start : ids.stop])

        generator = context.generator(self._cell)
        parts = []
        with torch.inference_mode(), threads(SAMPLING_THREADS):
            for start in range(0, n, batch):
                ids = range(start, min(start + batch, n))
                parts.append(sampled(generator, ids, batch, chosen, request)[0])
        own = labels if card.condition == "class" else None
        return Images(np.concatenate(parts), own, card.name, self._origin(card, seed, chosen))

    # ---- tokenizers ----

    def encode(self, images: Any, *, limit: int | None = None, batch: int = BATCH) -> Codes:
        """The codes of images, on the CPU. `images` as for `arbench.score`; `limit`: only the first so many.

        A generator encodes with its tokenizer.
        """
        return self._encode(self._source(images, limit), batch)

    def decode(self, codes: Codes) -> Images:
        """The images of codes, from ids alone where these suffice."""
        tokenizer = self._tokenizer()
        first = codes.ids[0] if codes.ids else codes.latents
        if first is None:
            raise UsageError("these codes are empty", "they hold neither ids nor latents", "encode images first")
        check_codes(codes, tokenizer.spec, len(first), tokenizer.card.name)
        with torch.inference_mode(), threads(SAMPLING_THREADS):
            pixels = decode(tokenizer, moved(codes, self._open().device), range(len(first))).numpy()
        card = tokenizer.card
        return Images(pixels, None, card.name, self._origin(card))

    def reconstruct(self, images: Any, *, limit: int | None = None, batch: int = BATCH) -> Images:
        """Images encoded and decoded again, with their labels: `arbench.score(..., images, paired=True)` compares."""
        source = self._source(images, limit)
        return replace(self.decode(self._encode(source, batch)), labels=source.labels)

    # ---- the model itself ----

    def close(self) -> None:
        """Frees the networks; the model cannot be used any more."""
        if self._context is not None:
            self._context.close()
            self._context = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        settings = self.settings
        weights = "random weights" if settings.init == "random" else settings.dtype
        state = "closed" if self._context is None else f"{settings.device}, {weights}"
        return f"{self.card.name} ({state})"

    def _repr_html_(self) -> str:
        card = self.card
        facts = {
            "": card.summary,
            "resolution": f"{card.resolution} x {card.resolution}",
            "condition": f"{card.classes} classes" if card.condition == "class" else card.condition,
            "parameters": count(card.parameters),
            "tokenizer": card.tokenizer or "",
            "licence of the weights": card.weights_licence,
        }
        lines = "".join(f"<tr><td>{name}</td><td>{escape(text)}</td></tr>" for name, text in facts.items() if text)
        return f"<table><thead><tr><th colspan=2>{escape(repr(self))}</th></tr></thead><tbody>{lines}</tbody></table>"

    def _origin(self, card: Card, seed: int = 0, sampling: Sampling | None = None) -> dict[str, Any]:
        """Who made images, the model or its tokenizer, and under which settings, as a run names them."""
        if card.name not in self._digests:  # not when it is loaded: reading a large file takes its time
            random = self.settings.init == "random"
            self._digests[card.name] = {} if random else digests_of(card, self._weights)
        settings = self.settings.model_copy(update={"seed": seed})
        return origin_of(_cell_of(card, settings, sampling, self._digests[card.name]))

    def _open(self) -> WorkerContext:
        if self._context is None:
            raise UsageError(f"{self.card.name} is closed", "", f"arbench.load({self.card.name!r})")
        return self._context

    def _tokenizer(self) -> Tokenizer:
        return self._open().tokenizer(self._cell)

    def _source(self, images: Any, limit: int | None) -> ImageSource:
        at_least("limit", limit, 1)
        card = self._tokenizer().card
        source = open_source(as_source(images), Reading(limit=limit))
        if source.resolution != (card.resolution, card.resolution):
            height, width = source.resolution
            raise ImageError(
                f"{card.name} takes {card.resolution} x {card.resolution} images",
                f"those of {source.name} are {height} x {width} (height x width)",
                "crop and resize them first: arbench.data.crops.prepare",
            )
        return source

    def _encode(self, source: ImageSource, batch: int) -> Codes:
        at_least("batch", batch, 1)
        tokenizer, device = self._tokenizer(), self._open().device
        with torch.inference_mode(), threads(SAMPLING_THREADS):
            parts = [
                moved(encode(tokenizer, source.load(range(start, min(start + batch, len(source)))), device), "cpu")
                for start in range(0, len(source), batch)
            ]
        return join(parts)


def load(
    name: str,
    weights: str | Path | WeightFiles | None = None,
    *,
    init: Init = "checkpoint",
    device: str = "auto",
    dtype: Dtype = "float32",
    compile: bool = False,
    graph: GraphMode = "auto",
) -> Model:
    """Loads an adapter by its name in `arbench ls adapters`, such as "next_scale/var-mini".

    weights: its weight file, or files by name where the tokenizer's is to be named too; by default those in the package
    or in the weights folder. init: "random" builds the real shapes with random weights. Raises `UnknownName`, and
    `MissingWeights` with the place of the official file.
    """
    card = registry.card(name)
    one_of("init", init, get_args(Init))
    one_of("dtype", dtype, get_args(Dtype))
    one_of("graph", graph, get_args(GraphMode))
    given = {name: weights} if isinstance(weights, str | Path) else weights
    settings = Settings(init=init, dtype=dtype, compile=compile, graph=graph, device=resolve_device(device))
    files = given_weights(given)
    for note in notes_of(card, files) if init == "checkpoint" else ():
        logging.getLogger(__name__).warning("%s", note)
    return Model(card, settings, files)


def _cell_of(card: Card, settings: Settings, sampling: Sampling | None, digests: dict[str, str]) -> Cell:
    """What a run calls an adapter under these settings, whose id no task and no data decide."""
    task = Generate() if card.kind == "generator" else Reconstruct()
    return make_cell(card, task, settings, sampling, digests, data={}, machine=settings.device)


def _sampling(card: Card, asked: dict[str, Any]) -> Sampling:
    """The card's native sampling with these fields changed, by the rules of a suite's `sampling`."""
    fields = dict(asked)
    guidance = fields.get("guidance")
    if isinstance(guidance, int | float) and not isinstance(guidance, bool):
        fields["guidance"] = {"scale": float(guidance)}
    suite = Suite(suite="sample", tasks=(Generate(),), sampling={card.name: fields})
    asked_of = SuiteFile(suite, f"sample() of {card.name}", {})
    check_overrides(asked_of, [card])
    if any(isinstance(value, list) for value in (*fields.values(), *_inner(fields))):
        raise UsageError("a list of values is a sweep, of several settings", f"found {asked!r:.60}", "give one value")
    (resolved,) = resolve_sampling(card, asked_of)
    if resolved.problem:
        supported = ", ".join(sorted(card.supports)) or "no field"
        raise Unsupported(resolved.problem, f"it honours {supported}", "leave it out")
    return resolved.sampling


def _inner(fields: dict[str, Any]) -> list[Any]:
    return [each for value in fields.values() if isinstance(value, dict) for each in value.values()]


def _labels(card: Card, n: int, classes: int | Sequence[int] | None) -> NDArray[np.int64]:
    """(n,) the class of each sample, -1 for a model without classes."""
    if card.condition != "class":
        if classes is not None:
            raise Unsupported(f"{card.name} has no classes", f"its condition is {card.condition}", "leave classes out")
        return np.full(n, -1, dtype=np.int64)
    if classes is None:
        return labels_for(card, range(n))
    wanted = np.atleast_1d(np.asarray(classes))
    known = card.classes or 0
    if (
        wanted.ndim != 1
        or wanted.dtype.kind not in "iu"
        or not len(wanted)
        or wanted.min() < 0
        or wanted.max() >= known
    ):
        raise UsageError(
            f"{card.name} knows classes 0 to {known - 1}", f"found {classes!r:.60}", "classes=3, or classes=[3, 5]"
        )
    labels: NDArray[np.int64] = np.resize(wanted, n).astype(np.int64)
    return labels


def _prompts(card: Card, n: int, prompts: Sequence[str] | None) -> tuple[str, ...]:
    if card.condition != "text":
        if prompts is not None:
            raise Unsupported(f"{card.name} reads no prompts", f"its condition is {card.condition}", "leave them out")
        return ()
    found = tuple(map(str, prompts or ()))
    check_prompts(card, found, n)
    return found
