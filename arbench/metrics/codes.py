"""How a discrete tokenizer uses its codebook: share of codes in use, entropy, perplexity, bits per image. No torch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from .estimate import Estimate, Z, around, mean_with_interval, missing

NO_TOKEN = -1
"""In rows of ids of images that have fewer tokens than others: there is none at this place."""
INSIDE = 1e-8
"""What 1d-tokenizer and MaskBit add to a probability inside the logarithm of their codebook entropy."""
FEW_TOKENS = 10
"""Below this many tokens per code, unused codes and entropy say more about the sample than about the tokenizer."""


@dataclass(frozen=True, slots=True)
class CodeUse:
    """Use of one level's codes, or of all levels' together. `images` and `tokens` are what the counts come from.

    usage: share of the codebook seen at least once; no interval, since it can only grow with more images.
    entropy: of the code's histogram, in bits per token; plug-in, so biased low when tokens are few.
    perplexity: 2 to the entropy, as a number of codes.
    dead: codes never seen.
    entropy_inside: the entropy as 1d-tokenizer and MaskBit count it, -sum p log2(p + 1e-8); None without tokens.
    """

    level: int | None
    """Index of the level, None for all together."""
    images: int
    tokens: int
    usage: Estimate
    entropy: Estimate
    perplexity: Estimate
    dead: int
    entropy_inside: float | None = None


def code_use(ids: NDArray[Any], vocabulary: int, level: int | None = None) -> CodeUse:
    """The use of codes 0..vocabulary - 1 by token ids (N, T).

    Intervals treat images as independent and the tokens of one image as not: the delta method over the mean surprise
    -log2 p(code) of each image.
    """
    ids = _checked(ids, vocabulary)
    lengths = (ids != NO_TOKEN).sum(1)
    images, tokens = len(ids), int(lengths.sum())
    if not tokens:
        nothing = missing("no tokens")
        return CodeUse(level, images, 0, nothing, nothing, nothing, vocabulary)
    surprise, seen = _surprise(ids)
    flags = ("few_tokens",) if tokens < FEW_TOKENS * vocabulary else ()
    per_image = surprise.sum(1)
    bits = float(per_image.sum()) / tokens
    inside = float(-np.log2(2.0 ** -surprise[ids != NO_TOKEN] + INSIDE).mean())
    share = Estimate(seen / vocabulary, n=tokens, flags=("no_interval", *flags))
    if images < 2:
        entropy = Estimate(bits, n=tokens, flags=("no_interval", *flags))
        perplexity = Estimate(2.0**bits, n=tokens, flags=("no_interval", *flags))
    else:
        away = (per_image - bits * lengths) / (tokens / images)
        error = float(away.std(ddof=1)) / math.sqrt(images)
        entropy = around(bits, error, "delta, by image", tokens, flags)
        low, high = 2.0 ** (bits - Z * error), 2.0 ** (bits + Z * error)
        perplexity = Estimate(2.0**bits, low, high, "delta, by image", tokens, flags)
    return CodeUse(level, images, tokens, share, entropy, perplexity, vocabulary - seen, inside)


def code_use_by_level(levels: Sequence[NDArray[Any]], vocabulary: int) -> list[CodeUse]:
    """One entry per level, ids (N, T_level) each, coarse to fine."""
    return [code_use(ids, vocabulary, level) for level, ids in enumerate(levels)]


def bits_per_image(levels: Sequence[NDArray[Any]], vocabulary: int) -> Estimate:
    """Mean bits an image takes when each level's tokens are coded one by one with that level's own histogram.

    The sum over levels of tokens x entropy; `TokenSpec.bits` (every code equally likely) is its upper limit. Needs the
    histograms at the decoder, and leaves out any dependence between tokens, and how many of them an image has.
    """
    parts = [_surprise(_checked(ids, vocabulary))[0].sum(1) for ids in levels if ids.size]
    if not parts:
        return missing("no tokens")
    return mean_with_interval(np.sum(parts, axis=0))


def _checked(ids: NDArray[Any], vocabulary: int) -> NDArray[Any]:
    ids = np.asarray(ids)
    if ids.ndim != 2 or not (np.issubdtype(ids.dtype, np.integer) or not ids.size):
        raise InputError("token ids are integers (N, T)", f"found {ids.dtype} {ids.shape}")
    if ids.size and (int(ids.min()) < NO_TOKEN or int(ids.max()) >= vocabulary):
        raise InputError(
            f"token ids outside of 0..{vocabulary - 1}", f"they reach from {int(ids.min())} to {int(ids.max())}"
        )
    none = ids == NO_TOKEN
    if none.any() and (none[:, 0].any() or (none[:, :-1] & ~none[:, 1:]).any()):
        raise InputError(f"token ids outside of 0..{vocabulary - 1}", f"{NO_TOKEN} is not at the end of a row")
    return ids


def _surprise(ids: NDArray[Any]) -> tuple[NDArray[np.float64], int]:
    """-log2 p(code) of each token (N, T) under the tokens' own histogram, 0 where there is none; and the codes seen.

    By sorting, not by a table of the vocabulary: lookup-free tokenizers have up to 2^64 codes.
    """
    here = ids != NO_TOKEN
    _, index, counts = np.unique(ids[here], return_inverse=True, return_counts=True)
    table = np.zeros(ids.shape)
    table[here] = -np.log2(counts / counts.sum())[index]
    return table, len(counts)
