"""Codes exchanged for others near and far: how much the image changes, against the distance of the codewords."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...metrics.estimate import Estimate, bounded, mean_with_interval, missing, of_totals
from ...protocols import Codes, Codewords, Tokenizer
from ...seeds import Philox
from ...spec.result import Metric
from ..base import Arrays, Stored, joined
from ..outputs import decode, tokens_of

NEIGHBOURS = (1, 4, 16, 64)
"""Places in the order of distance of codewords that a code is exchanged for; the farthest comes on top."""
MOST = 2**18
"""Codes up to which distances to all of them are computed."""


def why_not(tokenizer: Tokenizer) -> str:
    """Why codes of a tokenizer cannot be exchanged by distance, "" if they can."""
    spec = tokenizer.spec
    if spec.vocabulary is None or spec.kind == "continuous":
        return "continuous latents have no codebook"
    if not isinstance(tokenizer, Codewords):
        return f"{tokenizer.card.name} does not give its codewords (it has no `codewords`)"
    if spec.variable_length:
        return "its images have different numbers of tokens"
    if spec.vocabulary > MOST:
        return f"{spec.vocabulary} codes are too many to sort"
    return ""


def places(vocabulary: int) -> list[int]:
    """The neighbours that are tried: 1 is the nearest other code."""
    return [*(place for place in NEIGHBOURS if place < vocabulary - 1), vocabulary - 1]


def measured(
    tokenizer: Tokenizer, codes: Codes, images: NDArray[np.uint8], ids: Sequence[int], noise: Philox
) -> Arrays:
    """(n, neighbours) distance of the codewords and root mean square change of the image in levels.

    One token of each image, anywhere, is exchanged; `images` are the decoded codes.
    """
    assert isinstance(tokenizer, Codewords)
    assert tokenizer.spec.vocabulary is not None
    table = tokenizer.codewords().double().cpu()
    rows = torch.arange(len(ids))
    tokens = torch.from_numpy(tokens_of(codes, len(ids))).long()
    place = (noise.uniform("codes/place", 1)[:, 0] * tokens.shape[1]).long()
    own = tokens[rows, place]
    apart = torch.cdist(table[own], table)
    apart[rows, own] = -1  # first, before any double of it
    order = apart.argsort(dim=1, stable=True)
    changes, distances = [], []
    for number in places(tokenizer.spec.vocabulary):
        chosen = order[:, number]
        changed = tokens.clone()
        changed[rows, place] = chosen
        decoded: NDArray[np.uint8] = decode(tokenizer, _with_tokens(codes, changed), ids, images.shape[2:]).numpy()
        changes.append(np.sqrt(((decoded.astype(np.float64) - images) ** 2).mean((1, 2, 3))))
        distances.append(apart[rows, chosen].numpy())
    return {"swap change": np.stack(changes, axis=1), "swap distance": np.stack(distances, axis=1)}


def _with_tokens(codes: Codes, tokens: Tensor) -> Codes:
    parts = torch.split(tokens, [level.shape[1] for level in codes.ids], dim=1)
    return replace(codes, ids=tuple(part.to(level.device) for part, level in zip(parts, codes.ids, strict=True)))


def numbers(tokenizer: Tokenizer, units: Sequence[Stored]) -> list[Metric]:
    ratio = "change of the image by the nearest other codeword over that by the farthest: 0 where neighbours are alike"
    rank = "rank correlation of codeword distance and change of the image, over all exchanged codes"
    if reason := why_not(tokenizer):
        nothing = missing(reason)
        return [
            nothing.metric("swap-ratio", ratio, "fraction"),
            nothing.metric("swap-correlation", rank, "", "higher"),
        ]
    assert tokenizer.spec.vocabulary is not None
    change, distance = joined(units, "swap change"), joined(units, "swap distance")
    ends = bounded(of_totals(change[:, [0, -1]], lambda sums: float(sums[0] / sums[1]) if sums[1] > 0 else None))
    found = [
        ends.metric("swap-ratio", ratio, "fraction"),
        _rank(change, distance).metric("swap-correlation", rank, "", "higher"),
    ]
    for number, place in enumerate(places(tokenizer.spec.vocabulary)):
        how = "root mean square change of the image when one of its codes is exchanged for its n-th neighbour"
        moved = bounded(mean_with_interval(change[:, number]))
        extras = {"codeword distance": float(distance[:, number].mean())}
        found.append(moved.metric("swap-change", how, "levels", at={"neighbour": place}, extras=extras))
    return found


def _rank(change: NDArray[np.float64], distance: NDArray[np.float64]) -> Estimate:
    from scipy.stats import rankdata

    one, other = rankdata(change), rankdata(distance)
    if one.std() == 0 or other.std() == 0:
        return missing("all changes or all distances are alike", len(change))
    return Estimate(float(np.corrcoef(one, other)[0, 1]), n=len(change), flags=("no_interval",))
