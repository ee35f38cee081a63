"""CLIPScore: how well images fit their prompts, by the cosine of their CLIP embeddings. Imports no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError, UnknownName
from .estimate import Estimate, mean_with_interval, missing
from .rows import BLOCK, Rows

if TYPE_CHECKING:
    from .extractors.base import Mode
    from .weight_files import Weights

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


def check_prompts(prompts: Sequence[str]) -> None:
    if isinstance(prompts, str) or not all(isinstance(prompt, str) for prompt in prompts):
        raise InputError("prompts are a sequence of strings", f"found {type(prompts).__name__}")


def encode_prompts(
    prompts: Sequence[str],
    weights: Weights,
    recipe: str = "clip-b32/clean",
    device: str = "cpu",
    mode: Mode = "parity",
    variant: str = "torchmetrics",
) -> NDArray[np.float32]:
    """(n, D) embeddings of the prompts, with the prefix of `variant`, by the network of an image recipe.

    Prompts of more than 75 tokens are cut, as in all tools (`clip.TextEncoder.too_long` finds them). Raises
    `MissingWeights`, `CheckpointError`; `InputError` for anything but strings.
    """
    from .extractors.clip import load_text

    prefix = find_variant(variant).prefix
    check_prompts(prompts)
    return load_text(recipe, weights, device, mode)([prefix + prompt for prompt in prompts])


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
