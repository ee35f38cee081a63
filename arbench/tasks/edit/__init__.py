"""Edit: redraw a part of held-out images, by their own class or another, and put it into the original."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from ...spec.card import Card
from ...spec.task import Data, MetricInfo, Pick, TaskDefinition
from ...spec.unit import cut
from ..compared import IN_KEY, Compared, effort, weights_needed

MASKS = ("centre", "border", "lower", "left")
Box = tuple[float, float, float, float]


class Edit(Compared):
    """Generators that edit: redraw a part of held-out images, by their own class or by another."""

    task: Literal["edit"] = "edit"
    """Name of the task."""
    data: str = "mnist5k/heldout"
    """Images, as `arbench score` reads them, with classes."""
    metrics: tuple[str, ...] = ("frechet",)
    """Only metrics of the conventions that match one of these globs; empty: all of them."""
    n: int | None = Field(default=200, ge=1)
    """Images, from the start of the source; null: all."""
    mask: str | Box = "centre"
    """What is redrawn: "centre" (the middle half of each side), "border" (all but the centre: outpainting), "lower" or
    "left" (that half), or a box [top, left, bottom, right] in fractions of the image."""
    condition: Literal["same", "next"] = "same"
    """"same": the image's own class (inpainting). "next": the class after it (editing by class)."""
    batch: int = Field(default=64, ge=1)
    """Images at once; no result depends on it."""
    show: int = Field(default=16, ge=0)
    """The first `show` images are kept for the report."""

    @field_validator("mask", mode="before")
    @classmethod
    def _known_mask(cls, mask: object) -> object:
        if isinstance(mask, list | tuple) and len(mask) == 4 and all(isinstance(edge, int | float) for edge in mask):
            top, left, bottom, right = mask
            if 0 <= top < bottom <= 1 and 0 <= left < right <= 1:
                return tuple(mask)
        elif mask in MASKS:
            return mask
        names = ", ".join(MASKS)
        raise ValueError(f"{names}, or a box [top, left, bottom, right] in fractions of the image, expected")


def _unable(card: Card, spec: Edit) -> str:
    if "edits" not in card.offers:
        return "it cannot redraw a part of an image (its card does not offer `edits`)"
    if card.condition == "text":
        return "it is conditioned on text, and the images of edit have classes"
    if card.tokens is not None and card.tokens.layout == "sequence":
        return "its tokens are a sequence and have no place in the image"
    if spec.condition == "next" and card.condition != "class":
        return "it has no classes to edit by"
    return ""


TASK = TaskDefinition(
    name="edit",
    spec=Edit,
    work="arbench.tasks.edit.work:EditWork",
    version=3,
    kinds=frozenset({"generator"}),
    draws=True,
    group="Edits",
    metrics=(
        MetricInfo("class-agreement", "fraction", "higher", "share of images classified as the class asked for"),
        MetricInfo("unchanged-outside", "fraction", "higher", "share of values outside the mask kept: 1", column=False),
        MetricInfo("psnr-outside", "dB", "higher", "outside the mask, before the original is put back", column=False),
        MetricInfo("psnr-outside-tokenizer", "dB", "higher", "the same without an edit", column=False),
        MetricInfo("frechet", "", "lower", "Frechet distance of edited images to the source", column=False),
        MetricInfo("fid", "", "lower", "the same of Inception features", column=False),
    ),
    summary=(Pick("class-agreement"),),
    units=lambda spec: cut(spec.n),
    # images are encoded, drawn and decoded; edits and plain reconstructions are decoded
    effort=lambda spec, rates: effort(spec, spec.n, spec.batch, rates, images=2),
    data=lambda spec: (Data(spec.data, spec.crop, spec.size),),
    counted="n",
    needs="edits",
    unable=_unable,
    weights=weights_needed,
    transport=frozenset({"batch", "show"}),
    in_key=IN_KEY | {"data"},
)
