"""CLIPScore: how well images fit their prompts, by the cosine of their CLIP embeddings. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ...errors import InputError, UnknownName
from ..estimate import Estimate, mean_with_interval, missing
from ..rows import BLOCK, Rows

Floor = Literal["none", "each", "mean"]


@dataclass(frozen=True, slots=True)
class Variant:
    """score = scale * cosine of (image, prefix + prompt), averaged; `floor`: what is cut off at 0."""

    name: str
    scale: float
    floor: Floor
    prefix: str
    what: str


VARIANTS = {
    variant.name: variant
    for variant in (
        Variant("torchmetrics", 100, "mean", "", "100 cos, the mean not below 0: torchmetrics"),
        Variant(
            "llamagen", 1, "none", "A photo depicts ", "cos, the prompt after 'A photo depicts ': LlamaGen, GigaGAN"
        ),
        Variant("clip-s", 2.5, "each", "A photo depicts ", "2.5 max(cos, 0): Hessel et al., arXiv 2104.08718"),
    )
}


def find_variant(name: str) -> Variant:
    if name not in VARIANTS:
        raise UnknownName("CLIPScore variant", name, VARIANTS, "arbench ls metrics")
    return VARIANTS[name]


def clip_score(
    image_embeddings: Rows, text_embeddings: Rows, variant: str = "torchmetrics"
) -> tuple[NDArray[np.float64], Estimate]:
    """Scores (n,) of images against the prompts in the same rows, and their mean with its interval.

    Embeddings (n, D) need no unit length. Missing (with the reason) if one has length 0 or is not finite.
    """
    how = find_variant(variant)
    if len(image_embeddings) != len(text_embeddings) or image_embeddings.shape[1:] != text_embeddings.shape[1:]:
        raise InputError(
            "CLIPScore takes one prompt per image, embedded by the same network",
            f"images {tuple(image_embeddings.shape)}, prompts {tuple(text_embeddings.shape)}",
        )
    values = how.scale * cosines(image_embeddings, text_embeddings)
    if how.floor == "each":
        values = np.maximum(values, 0)  # keeps nan
    bad = int(np.count_nonzero(~np.isfinite(values)))
    if bad:
        return values, missing(f"{bad} of {len(values)} embeddings have length 0 or are not finite", len(values))
    estimate = mean_with_interval(values)
    if how.floor == "mean" and estimate.value is not None:
        low, high = (None if limit is None else max(limit, 0.0) for limit in (estimate.low, estimate.high))
        estimate = replace(estimate, value=max(estimate.value, 0.0), low=low, high=high)
    return values, estimate


def cosines(first: Rows, second: Rows) -> NDArray[np.float64]:
    """(n,) cosine of each pair of rows, in float64; nan where a row has length 0."""
    found = np.empty(len(first))
    for start in range(0, len(first), BLOCK):
        a, b = (np.asarray(rows[start : start + BLOCK], dtype=np.float64) for rows in (first, second))
        with np.errstate(invalid="ignore", divide="ignore"):
            lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
            found[start : start + len(a)] = np.einsum("ij,ij->i", a, b) / lengths
    return found
