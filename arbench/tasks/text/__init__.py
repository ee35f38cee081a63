"""Text: what can still be read of a text after it has gone through a tokenizer."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from ...spec.task import Data, Effort, MetricInfo, Pick, Rates, TaskDefinition, TaskSpec
from ...spec.unit import cut

READ_SECONDS = 1.5
"""To read a card on a core, about."""


class Text(TaskSpec):
    """Tokenizers: text that is read of images and of their reconstructions, against what is written on them."""

    task: Literal["text"] = "text"
    """Name of the task."""
    texts: int | None = Field(default=21, ge=1)
    """Cards to draw, the sizes of their fonts in turn; or images of `images`, from the start, null: all."""
    scripts: tuple[Literal["latin", "cyrillic", "greek", "han", "kana"], ...] = Field(default=("latin",), min_length=1)
    """Of the cards, in turn. What the OCR has no letters for is null."""
    size: int | None = Field(default=None, ge=16)
    """Side of the cards in pixels; null: the tokenizer's own."""
    images: str | None = None
    """Images with text in place of cards, as `arbench score` reads them, of one size that the tokenizer takes."""
    transcripts: str | None = None
    """File with a line for each of `images`, in their order: what is written on it."""
    show: int = Field(default=7, ge=0)
    """The first `show` images are kept for the report."""

    @model_validator(mode="after")
    def _both(self) -> Self:
        if (self.images is None) != (self.transcripts is None):
            raise ValueError(
                f"{'transcripts' if self.images is None else 'images'}: images and transcripts are given together"
            )
        if self.images is not None and self.size is not None:
            raise ValueError("size: it is that of cards that are drawn, and images are given")
        if self.images is None and self.texts is None:
            raise ValueError("texts: null is for images of your own; it is a number where cards are drawn")
        return self


def _data(spec: Text) -> tuple[Data, ...]:
    if spec.images is None or spec.transcripts is None:
        return ()
    return Data(spec.images), Data(spec.transcripts, what="prompts")


def _effort(spec: Text, rates: Rates) -> Effort:
    return Effort((spec.texts or 0) * (rates.image + 2 * READ_SECONDS), 16)


TASK = TaskDefinition(
    name="text",
    spec=Text,
    work="arbench.tasks.text.work:TextWork",
    version=2,
    kinds=frozenset({"tokenizer"}),
    group="Text",
    metrics=(
        MetricInfo("cer", "fraction", "lower", "character edits over reference characters, of the reconstructions"),
        MetricInfo("word-accuracy", "fraction", "higher", "1 - word edits over reference words, of the same"),
        MetricInfo("cer-original", "fraction", "lower", "the OCR's own: of the images before", column=False),
        MetricInfo("word-accuracy-original", "fraction", "higher", "likewise", column=False),
    ),
    summary=(Pick("cer"), Pick("cer-original")),
    units=lambda spec: cut(spec.texts),
    effort=_effort,
    data=_data,
    counted="texts",
    transport=frozenset({"show"}),
)
