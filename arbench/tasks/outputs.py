"""What adapters are given and give back: requests, checked codes and images, decoding in batches of one fixed size."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from ..data.indexed import ImageSource
from ..data.prompts import given_to
from ..errors import CellError, ImageError, Unsupported, counted
from ..images import to_float, to_uint8
from ..metrics.classifier import CLASSES, RESOLUTION
from ..metrics.codes import NO_TOKEN
from ..protocols import Card, Codes, Generated, Generator, Request, Tokenizer, TokenSpec
from ..seeds import noise_for
from ..spec.cell import Cell
from ..spec.sampling import Sampling

FIXED_BATCH = 16
"""Rows of every decoding and feature call. Kernels may round differently at another batch size; this one never
changes, so that equal tokens give equal bytes whatever batch the user samples in."""

CLASSIFIED = "mnist5k/"
"""Data whose classes the packaged classifier knows."""

INPUT_SIDE = 8
"""Side of the noise that is enlarged to a tokenizer's synthetic input images."""

TOLERANCE = 1e-3
"""How far outside [0, 1] an image may be before it is taken for one in other units."""


def sampling_of(cell: Cell, card: Card) -> Sampling:
    return cell.sampling if cell.sampling is not None else card.native


def labels_for(card: Card, sample_ids: Sequence[int]) -> NDArray[np.int64]:
    """(n,) the class of each sample, `id % classes`; -1 for a model without classes."""
    ids = np.asarray(sample_ids, dtype=np.int64)
    if card.condition == "text":
        raise Unsupported(f"{card.name} is conditioned on text", "this task asks for classes", "choose another adapter")
    if card.condition == "none":
        return np.full(len(ids), -1, dtype=np.int64)
    if not card.classes:
        raise CellError(f"{card.name}: a class-conditional card says how many `classes` there are", "it says none")
    labels: NDArray[np.int64] = ids % card.classes
    return labels


def request_for(
    card: Card, sample_ids: Sequence[int], seed: int, device: str, labels: NDArray[np.int64] | None = None
) -> Request:
    """The request of these sample ids, with their own noise and classes (or those of `labels`), on `device`."""
    labels = labels_for(card, sample_ids) if labels is None else labels
    return Request(
        sample_ids=tuple(sample_ids),
        noise=noise_for(seed, sample_ids, device),
        labels=torch.from_numpy(labels).to(device) if card.condition == "class" else None,
    )


def prompted_request(card: Card, sample_ids: range, prompts: Sequence[str], seed: int, device: str) -> Request:
    """The request of these sample ids to a text-to-image model: id i has line i of `prompts`."""
    given = given_to(card, prompts[sample_ids.start : sample_ids.stop : sample_ids.step])
    return Request(tuple(sample_ids), noise_for(seed, sample_ids, device), prompts=given)


def measured_request(card: Card, sample_ids: Sequence[int], seed: int, device: str) -> Request:
    """As `request_for`, for speed and memory alone: captions are random features, as long as the encoder's may be."""
    if card.condition != "text" or card.captions is None:
        return request_for(card, sample_ids, seed, device)
    noise = noise_for(seed, sample_ids, device)
    mask = torch.ones(len(sample_ids), card.captions[0], dtype=torch.int64, device=device)
    features = noise.normal("captions", card.captions)
    return Request(tuple(sample_ids), noise, captions=features, caption_mask=mask)


def load(source: ImageSource, ids: range, card: Card, task: str) -> NDArray[np.uint8]:
    """(n, 3, H, W) images of a source. Raises ImageError unless the adapter takes images of their size."""
    if not card.takes(*source.resolution):
        height, width = source.resolution
        sides = f"{card.resolution} x {card.resolution} images"
        raise ImageError(
            f"{card.name} takes {sides if card.multiple is None else f'images of sides that {card.multiple} divides'}",
            f"those of {source.name} are {width} x {height}",
            f"set crop and size of the task `{task}`, or choose other data",
        )
    return source.load(ids)


def classes_of(source: ImageSource, ids: range, card: Card, task: str) -> NDArray[np.int64]:
    """(n,) the class of each image of a source, -1 for a model without classes. Raises ImageError if none fits."""
    if card.condition != "class":
        return np.full(len(ids), -1, dtype=np.int64)
    hint = f"choose other `data` for the task `{task}`"
    if source.labels is None:
        raise ImageError(f"{card.name} needs the class of each image", f"those of {source.name} have none", hint)
    labels: NDArray[np.int64] = source.labels[ids.start : ids.stop]
    if card.classes is None or labels.min() < 0 or labels.max() >= card.classes:
        raise ImageError(
            f"{card.name} knows classes 0 to {(card.classes or 0) - 1}",
            f"those of {source.name} go from {labels.min()} to {labels.max()}",
            hint,
        )
    return labels


def encode(tokenizer: Tokenizer, images: NDArray[np.uint8], device: str) -> Codes:
    """The codes of one batch of images, checked."""
    codes = tokenizer.encode(to_float(images).to(device))
    return check_codes(codes, spec_at(tokenizer, images.shape[2:]), len(images), tokenizer.card.name)


def spec_at(tokenizer: Tokenizer, size: Sequence[int]) -> TokenSpec:
    """The tokens that a tokenizer makes of images of (height, width)."""
    card = tokenizer.card
    height, width = size
    return tokenizer.spec if (height, width) == (card.resolution,) * 2 else card.tokens_at(height, width)


def check_codes(codes: Codes, spec: TokenSpec, batch: int, adapter: str) -> Codes:
    """`codes` if they have the shape and range that `spec` says, else a CellError that names both."""
    rows = len(codes.latents) if codes.latents is not None else batch
    if rows != batch:
        raise CellError(f"{adapter}: latents of {batch} images expected", f"found shape {_shape(codes.latents)}")
    if spec.kind == "continuous":
        if codes.latents is None:
            raise CellError(f"{adapter}: a continuous tokenizer's codes need latents", "found none")
        return codes
    expected = [(batch, math.prod(level) * spec.codebooks) for level in spec.levels]
    found = [_shape(level) for level in codes.ids]
    if spec.variable_length:
        expected = [(batch, _check_lengths(codes, spec, batch, adapter))]
    if found != expected:
        raise CellError(f"{adapter}: token ids of shapes {expected} expected, one per level", f"found {found}")
    for level in codes.ids:
        if level.dtype != torch.int64:
            raise CellError(f"{adapter}: token ids are int64", f"found {level.dtype}")
        low, high = (int(level.min()), int(level.max())) if level.numel() else (0, 0)
        if low < 0 or (spec.vocabulary is not None and high >= spec.vocabulary):
            raise CellError(f"{adapter}: token ids are 0 to {(spec.vocabulary or 0) - 1}", f"found {low} to {high}")
    return codes


def _check_lengths(codes: Codes, spec: TokenSpec, batch: int, adapter: str) -> int:
    """The width of ids of variable length, if it and their lengths are in order."""
    if len(codes.ids) != 1 or codes.ids[0].ndim != 2:
        shapes = [_shape(level) for level in codes.ids]
        raise CellError(f"{adapter}: tokens of variable length are one level of ids (B, L)", f"found {shapes}")
    width = codes.ids[0].shape[1]
    if spec.tokens and width > spec.tokens:
        raise CellError(f"{adapter}: {spec.tokens} tokens at most expected", f"found {width}")
    lengths = codes.lengths
    if _shape(lengths) != (batch,) or lengths is None or lengths.dtype != torch.int64:
        raise CellError(f"{adapter}: int64 lengths of shape {(batch,)} expected", f"found {_shape(lengths)}")
    low, high = int(lengths.min()), int(lengths.max())
    if low < 1 or high > width:
        raise CellError(f"{adapter}: lengths are 1 to {width}", f"found {low} to {high}")
    return width


def check_images(images: Tensor, sample_ids: Sequence[int], resolution: int | Sequence[int], adapter: str) -> Tensor:
    """`images` in float32 if they are (B, 3, H, W), finite and in [0, 1], else a CellError.

    `resolution` is the side of square images, or (H, W).
    """
    height, width = (resolution, resolution) if isinstance(resolution, int) else resolution
    expected = (len(sample_ids), 3, height, width)
    if _shape(images) != expected:
        raise CellError(f"{adapter}: images of shape {expected} expected", f"found {_shape(images)}")
    if not images.is_floating_point():
        raise CellError(f"{adapter}: float images in [0, 1] expected", f"found {images.dtype}")
    images = images.float()
    rows = images.flatten(1)
    bad = (~rows.isfinite().all(1)).nonzero().flatten().tolist()
    if bad:
        names = ", ".join(str(sample_ids[row]) for row in bad[:8]) + (" ..." if len(bad) > 8 else "")
        raise CellError(
            f"{adapter}: {len(bad)} of {counted(len(sample_ids), 'image')} are not finite",
            f"sample ids {names}",
            "try dtype float32",
        )
    low, high = float(rows.min()), float(rows.max())
    if low < -TOLERANCE or high > 1 + TOLERANCE:
        raise CellError(f"{adapter}: images in [0, 1] expected", f"found {low:.3g} to {high:.3g}")
    return images


def check_generated(generator: Generator, generated: Generated, batch: int) -> Generated:
    """`generated` if it holds codes that fit its card or tokenizer, or images if it has none, else a CellError.

    A generator's images may be of another size than those of its tokenizer's card: a convolutional one decodes both.
    """
    name = generator.card.name
    if generator.tokenizer is not None:
        if generated.codes is None:
            raise CellError(f"{name}: `sample` returns codes, since it has a tokenizer", "found none")
        check_codes(generated.codes, generator.card.tokens or generator.tokenizer.spec, batch, name)
    elif generated.images is None:
        raise CellError(f"{name}: `sample` returns images, since it has no tokenizer", "found none")
    return generated


def join(parts: Sequence[Codes]) -> Codes:
    """The codes of several batches as one; ids of variable length are made as wide as the widest."""
    latents = [part.latents for part in parts if part.latents is not None]
    lengths = [part.lengths for part in parts if part.lengths is not None]
    return Codes(
        ids=tuple(_stacked(level) for level in zip(*(part.ids for part in parts), strict=True)),
        latents=torch.cat(latents) if latents else None,
        lengths=torch.cat(lengths) if lengths else None,
        grid=parts[0].grid,
    )


def _stacked(ids: Sequence[Tensor]) -> Tensor:
    widest = max(part.shape[1] for part in ids)
    return torch.cat([functional.pad(part, (0, widest - part.shape[1])) for part in ids])


def take(codes: Codes, rows: Tensor) -> Codes:
    """The codes of some rows."""
    return Codes(
        ids=tuple(level[rows] for level in codes.ids),
        latents=None if codes.latents is None else codes.latents[rows],
        lengths=None if codes.lengths is None else codes.lengths[rows],
        grid=codes.grid,
    )


def moved(codes: Codes, device: str) -> Codes:
    """The codes on a device."""
    return Codes(
        ids=tuple(level.to(device) for level in codes.ids),
        latents=None if codes.latents is None else codes.latents.to(device),
        lengths=None if codes.lengths is None else codes.lengths.to(device),
        grid=codes.grid,
    )


def from_ids_alone(codes: Codes, spec: TokenSpec) -> Codes:
    """What is stored of the codes: a discrete tokenizer's latents are a shortcut and must not decide the image."""
    return codes.without_latents() if spec.kind == "discrete" else codes


def fixed_batches(count: int) -> Iterator[tuple[Tensor, int]]:
    """Row numbers of each batch of exactly FIXED_BATCH, and how many count; the last row fills up the last batch."""
    for start in range(0, count, FIXED_BATCH):
        rows = torch.arange(start, start + FIXED_BATCH).clamp(max=count - 1)
        yield rows, min(FIXED_BATCH, count - start)


def in_fixed_batches(count: int, call: Callable[[Tensor], Tensor]) -> Tensor:
    """`call(rows)` over all rows, joined."""
    return torch.cat([call(rows)[:kept] for rows, kept in fixed_batches(count)])


def decode(
    tokenizer: Tokenizer, codes: Codes, sample_ids: Sequence[int], resolution: int | Sequence[int] | None = None
) -> Tensor:
    """uint8 (n, 3, H, W) on the CPU: images of codes, a fixed number at a time, from ids alone where they suffice.

    `resolution`: the side (or height and width) that they must have, by default that of the tokenizer's card.
    """
    card, stored = tokenizer.card, from_ids_alone(codes, tokenizer.spec)
    side = resolution or card.resolution
    if not isinstance(side, int) and side[0] != side[1] and tokenizer.spec.layout == "grid":
        rows, columns = spec_at(tokenizer, side).levels[-1]
        stored = replace(stored, grid=(rows, columns))

    def call(rows: Tensor) -> Tensor:
        images = tokenizer.decode(take(stored, rows))
        ids = [sample_ids[row] for row in rows.tolist()]
        return to_uint8(check_images(images, ids, side, card.name)).cpu()

    return in_fixed_batches(len(sample_ids), call)


def tokens_of(codes: Codes, count: int) -> NDArray[np.int32]:
    """(n, tokens): all levels side by side, coarse to fine; (n, 0) for continuous codes.

    Of variable length, a row goes on with -1 (`NO_TOKEN`) after its own tokens.
    """
    if not codes.ids:
        return np.zeros((count, 0), dtype=np.int32)
    ids = torch.cat(codes.ids, dim=1)
    if codes.lengths is not None:
        ids = ids.masked_fill(torch.arange(ids.shape[1], device=ids.device) >= codes.lengths[:, None], NO_TOKEN)
    return ids.cpu().numpy().astype(np.int32)


def levels_of(spec: TokenSpec, ids: NDArray[Any]) -> list[NDArray[Any]]:
    """Ids, or numbers of each, (n, tokens), cut back into levels."""
    if spec.variable_length:
        return [ids]
    sizes = [math.prod(level) * spec.codebooks for level in spec.levels]
    return np.split(ids, list(itertools.accumulate(sizes))[:-1], axis=1)


def side_by_side(rows: Sequence[NDArray[np.int32]]) -> NDArray[np.int32]:
    """`tokens_of` of several units as one (n, tokens), as wide as the widest."""
    widest = max((part.shape[1] for part in rows), default=0)
    padded = [np.pad(part, ((0, 0), (0, widest - part.shape[1])), constant_values=NO_TOKEN) for part in rows]
    return np.concatenate(padded) if padded else np.zeros((0, 0), np.int32)


def unclassifiable(card: Card, data: str | None) -> str:
    """Why the packaged digit classifier cannot judge these images, or "" if it can."""
    if data is None:
        return "no reference is given, whose classes a classifier would know"
    if not data.startswith(CLASSIFIED):
        return f"no classifier for the classes of {data}"
    if card.resolution != RESOLUTION:
        return f"the classifier takes {RESOLUTION} x {RESOLUTION} images"
    if card.kind == "generator" and (card.condition != "class" or card.classes != CLASSES):
        return f"{card.name} is not conditioned on the {CLASSES} classes of {data}"
    return ""


def _shape(tensor: Tensor | None) -> tuple[int, ...]:
    return () if tensor is None else tuple(tensor.shape)


def codes_for(tokenizer: Tokenizer, images: Tensor) -> Codes:
    return from_ids_alone(tokenizer.encode(images), tokenizer.spec)


def synthetic_images(seed: int, sample_ids: Sequence[int], resolution: int, device: str) -> Tensor:
    """(B, 3, H, W) in [0, 1]: smooth noise, another for each id."""
    coarse = noise_for(seed, sample_ids, device).normal("speed/input", (3, INPUT_SIDE, INPUT_SIDE))
    return functional.interpolate(coarse, size=(resolution, resolution), mode="bilinear").sigmoid()
