"""The work of `text`: cards or images with transcripts are read before and after the tokenizer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ...data.prompts import read_prompts
from ...data.text_cards import cards, why_not_drawn
from ...errors import InputError, PrerequisiteError, Unsupported, counted
from ...gallery import Gallery
from ...metrics.estimate import Estimate, missing
from ...metrics.ocr import Ocr
from ...metrics.text import distances, rate
from ...protocols import Tokenizer
from ...spec.cell import Cell
from ...spec.result import At, Metric
from ...spec.task import Data
from ...spec.unit import Unit
from ..base import Arrays, Context, Finished, Stored, joined
from ..outputs import decode, encode, load
from . import Text

Images = NDArray[np.uint8]


class TextWork:
    """A unit is a range of texts. Stored is (n, 4) of edits and lengths before and after, and the size of each font."""

    def measure(self, cell: Cell, unit: Unit, context: Context) -> Arrays:
        task, tokenizer = cell.task, context.tokenizer(cell)
        assert isinstance(task, Text)
        ids = range(unit.start, unit.stop)
        images, truth, pixels, scripts = _given(task, tokenizer, ids, cell.settings.seed, context)
        after: Images = decode(tokenizer, encode(tokenizer, images, context.device), ids, images.shape[2:]).numpy()
        shown = max(0, min(task.show - unit.start, len(ids)))
        arrays: Arrays = {
            "sample_ids": np.array(ids, np.int64),
            "pixels": pixels,
            "scripts": np.array(scripts, np.str_),
            "shown": np.stack([images[:shown], after[:shown]]).swapaxes(0, 1),
        }
        try:
            ocr = context.shared("ocr")
        except PrerequisiteError as error:
            return arrays | {"unread": np.array([f"{error.what} ({error.hint})"])}
        unreadable = [_why_unread(ocr, text, script) for text, script in zip(truth, scripts, strict=True)]
        for name, side in (("before", images), ("after", after)):
            read = []
            for image, why in zip(side, unreadable, strict=True):
                read.append("" if why else ocr.read(image))
                context.progress(len(read))
            arrays[name] = distances(read, truth)
        arrays["unreadable"] = np.array(unreadable, np.str_)
        return arrays | {"how": np.array([ocr.convention])}

    def finish(self, cell: Cell, units: Sequence[Stored], context: Context) -> Finished:
        task = cell.task
        assert isinstance(task, Text)
        gallery = _gallery(task, units)
        if "unread" in units[0]:
            nothing = missing(str(units[0]["unread"][0]), len(joined(units, "sample_ids")))
            without = [metric for suffix in ("", "-original") for metric in _pair(nothing, nothing, suffix, {}, "")]
            return Finished(tuple(without), gallery=gallery)
        how, pixels, scripts = str(units[0]["how"][0]), joined(units, "pixels"), joined(units, "scripts")
        unreadable = joined(units, "unreadable")
        readable = unreadable == ""
        metrics: list[Metric] = []
        for suffix, name in (("", "after"), ("-original", "before")):
            found = joined(units, name)
            metrics += _rates(found[readable], suffix, {}, how, "the OCR can read none of the texts")
            for size in sorted(set(pixels[readable & (pixels > 0)].tolist())):
                metrics += _rates(found[readable & (pixels == size)], suffix, {"pixels": size}, how)
            for script in task.scripts if task.images is None and len(set(task.scripts)) > 1 else ():
                here = scripts == script
                why = next(iter(unreadable[here & ~readable].tolist()), "no card of this script")
                metrics += _rates(found[here & readable], suffix, {"script": script}, how, why)
        return Finished(tuple(metrics), gallery=gallery)


def _given(
    task: Text, tokenizer: Tokenizer, ids: range, seed: int, context: Context
) -> tuple[Images, list[str], NDArray[np.int64], list[str]]:
    """Images (n, 3, H, W), what is written on them, sizes of their fonts and scripts; 0 and "" where nobody knows."""
    if task.images is not None and task.transcripts is not None:
        lines = read_prompts(Path(task.transcripts))
        source = context.source(Data(task.images))
        if len(lines) != len(source):
            raise InputError(
                f"{task.transcripts} has {counted(len(lines), 'line')},"
                f" and {task.images} {counted(len(source), 'image')}",
                "line i is what is written on image i",
                "give a line for each image",
            )
        images = load(source, ids, tokenizer.card, "text")
        return images, [lines[index] for index in ids], np.zeros(len(ids), np.int64), [""] * len(ids)
    side = task.size or tokenizer.card.resolution
    if not tokenizer.card.takes(side, side):
        name = tokenizer.card.name
        raise Unsupported(f"{name} does not take cards of {side} x {side}", "", "--set text.size=null")
    drawn = cards(side, ids, seed, task.scripts)
    if not drawn:
        raise Unsupported(f"no text fits on {side} x {side} pixels", "the smallest font is of 8", "--set text.size=256")
    pixels = np.array([card.pixels for card in drawn], np.int64)
    return np.stack([card.image for card in drawn]), [card.text for card in drawn], pixels, [c.script for c in drawn]


def _why_unread(ocr: Ocr, text: str, script: str) -> str:
    """Why a card is not read, or "": nobody drew it, or the OCR has no letters for it. Your own texts are always."""
    if not script:
        return ""
    if why := why_not_drawn(script):
        return why
    unknown = ocr.unknown(text)
    return f"{ocr.convention}, knows no {script} letters" if unknown else ""


def _rates(found: NDArray[np.int64], suffix: str, at: dict[str, At], how: str, why: str = "") -> list[Metric]:
    """`why` there are none of (n, 4) edits and lengths."""
    if not len(found):
        return _pair(missing(why), missing(why), suffix, at, how)
    words = rate(found[:, 2], found[:, 3])
    if words.value is not None:
        low, high = (None if end is None else 1 - end for end in (words.high, words.low))
        words = replace(words, value=1 - words.value, low=low, high=high)
    return _pair(rate(found[:, 0], found[:, 1]), words, suffix, at, how)


def _pair(characters: Estimate, words: Estimate, suffix: str, at: dict[str, At], how: str) -> list[Metric]:
    what = "read before the tokenizer" if suffix else "read of the reconstruction"
    how = f"{what}, by {how or 'no OCR'}; Levenshtein edits over the reference, case counts"
    return [
        characters.metric(f"cer{suffix}", how, "fraction", "lower", at=at),
        words.metric(f"word-accuracy{suffix}", how, "fraction", "higher", at=at),
    ]


def _gallery(task: Text, units: Sequence[Stored]) -> Gallery | None:
    if task.show == 0:
        return None
    shown: Images = joined(units, "shown", task.show)  # (n, 2, 3, H, W)
    n = len(shown)
    return Gallery(
        "Text",
        "rows",
        "The first images, not selected.",
        joined(units, "sample_ids", n),
        np.full((2, n), -1),
        ("original", ""),
        (True, False),
        np.ascontiguousarray(shown.swapaxes(0, 1)),
    )
