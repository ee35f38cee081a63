"""Numbers of token ids: use of the codebook, what codes carry, and how they depend on each other."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...metrics.code_dependence import entropies_by_position, mutual_information, pairs
from ...metrics.code_length import adaptive_bits, saturation
from ...metrics.codes import FEW_TOKENS, NO_TOKEN
from ...metrics.estimate import Estimate, missing
from ...protocols import TokenSpec
from ...spec.result import At, Metric
from ..outputs import levels_of

ORDERS = (0, 1, 2)


def numbers(spec: TokenSpec, vocabulary: int, ids: NDArray[Any]) -> list[Metric]:
    """Of ids (N, tokens), all levels side by side; rows may end in `NO_TOKEN`."""
    levels = levels_of(spec, ids)
    lengths = (ids != NO_TOKEN).sum(1)
    shared = ids[:, : int(lengths.min())]  # where every image has a token
    return [
        *_carried(levels, vocabulary, float(lengths.mean())),
        *_seen(ids, vocabulary, {}, "codes of all levels"),
        *_seen_in_parts(spec, vocabulary, levels),
        *_positions(shared, vocabulary),
        *_dependence(spec, shared if spec.variable_length else levels[-1]),
    ]


def no_codebook() -> list[Metric]:
    """What continuous latents have instead of those numbers."""
    nothing = missing("continuous latents have no codebook")
    return [
        nothing.metric("bits-carried", "of an adaptive code", "fraction", "higher"),
        nothing.metric("codebook-seen", "of all images", "fraction", "higher"),
        nothing.metric("mutual-information", "of neighbouring codes", "bits"),
        nothing.metric("swap-ratio", "of a code exchanged for its neighbour", "fraction"),
    ]


def _seen(ids: NDArray[Any], vocabulary: int, at: Mapping[str, At], what: str) -> list[Metric]:
    found = []
    for images, seen in saturation(ids, vocabulary):
        estimate = _plain(seen, images)
        how = f"{what} that the first images show"
        found.append(estimate.metric("codebook-seen", how, "fraction", "higher", at={**at, "images": images}))
    return found


def _seen_in_parts(spec: TokenSpec, vocabulary: int, levels: list[NDArray[Any]]) -> list[Metric]:
    """Of all images: of each level by itself, and of each branch, where several ids share a place."""
    n, found = len(levels[0]), []
    parts: list[tuple[str, int, NDArray[Any]]] = []
    if len(levels) > 1:
        parts += [("level", number, ids) for number, ids in enumerate(levels)]
    if spec.codebooks > 1:
        stacked = np.concatenate([ids.reshape(n, -1, spec.codebooks) for ids in levels], axis=1)
        parts += [("branch", number, stacked[..., number]) for number in range(spec.codebooks)]
    for name, number, ids in parts:
        estimate = _plain(len(np.unique(ids)) / vocabulary, n)
        how = f"codes of this {name} that all images show; it has {ids.shape[1]} tokens an image"
        at: dict[str, At] = {name: number, "images": n}
        found.append(estimate.metric("codebook-seen", how, "fraction", "higher", at=at))
    return found


def _positions(ids: NDArray[Any], vocabulary: int) -> list[Metric]:
    values = entropies_by_position(ids)
    flags = ("few_tokens",) if len(ids) < FEW_TOKENS * vocabulary else ()
    mean = _plain(float(values.mean()), len(ids)).flagged(flags)
    extras = {"least": float(values.min()), "most": float(values.max())}
    how = f"entropy of the codes at a position over {len(ids)} images, which is {math.log2(len(ids)):.3g} bits at most"
    constant = _plain(float((values == 0).mean()), len(ids))
    return [
        mean.metric("position-entropy", f"{how}, mean over positions; least and most in extras", "bits", extras=extras),
        constant.metric("constant-positions", "positions with the same code in every image", "fraction", "lower"),
    ]


def _carried(levels: list[NDArray[Any]], vocabulary: int, tokens: float) -> list[Metric]:
    """`tokens`: of an image, on average."""
    n = len(levels[0])
    bits = {order: adaptive_bits(levels, vocabulary, order) / n for order in ORDERS}
    uniform = tokens * math.log2(vocabulary)
    how = "the shortest adaptive code of orders 0, 1 and 2, over tokens x log2(codes); it falls with more images"
    found = [_plain(min(bits.values()) / uniform, n).metric("bits-carried", how, "fraction", "higher")]
    for order, length in bits.items():
        how = f"Krichevsky-Trofimov code over {n} images, counts for each level"
        how += f", and for each {order} codes that go before" if order else ""
        found.append(_plain(length, n).metric("adaptive-bits", how, "bits", None, at={"order": order}))
    for order in ORDERS[1:]:
        gain = _plain((bits[0] - bits[order]) / tokens, n)
        how = "bits a token that an adaptive code saves by the codes that go before, less what learning their counts"
        found.append(
            gain.metric("ngram-gain", f"{how} takes; below 0 there are too few images", "bits", at={"order": order})
        )
    return found


def _dependence(spec: TokenSpec, ids: NDArray[Any]) -> list[Metric]:
    """Of the finest level, of the first of several ids at a place."""
    n, shape = len(ids), (ids.shape[1],) if spec.variable_length else spec.levels[-1]
    how = "bits that a code tells of one so many places away more than of that one in another image; "
    how += "along the sequence" if len(shape) == 1 else f"along rows and columns of the map of {shape[0]} x {shape[1]}"
    how += ", the first code of a place" if spec.codebooks > 1 else ""
    if n < 2:
        return [missing("one image", n).metric("mutual-information", how, "bits", at={"distance": 1})]
    found = []
    for distance, near, far in pairs(ids[:, :: spec.codebooks], shape):
        few = near.size < FEW_TOKENS * len(np.unique(near)) * len(np.unique(far))
        estimate = _plain(mutual_information(near, far), n).flagged(("few_tokens",) if few else ())
        found.append(estimate.metric("mutual-information", how, "bits", at={"distance": distance}))
    return found or [missing("one token an image", n).metric("mutual-information", how, "bits", at={"distance": 1})]


def _plain(value: float, n: int) -> Estimate:
    return Estimate(value, n=n, flags=("no_interval",))
