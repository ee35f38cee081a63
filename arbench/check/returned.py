"""Whether codes and images have the shapes, types and ranges that they must have, and whether two are the same."""

from __future__ import annotations

import gc
import math
import weakref
from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from ..protocols import Codes, Generated, TokenSpec
from .verdict import Broken, NotApplicable

SAME = 1e-3
"""Share of ids that may differ between two calls (near ties that rounding decides), and relative distance of latents
and pixels. Another seed or another image is hundreds of times further away."""
EXACT = 1e-5
"""Relative distance of latents that are given back, perhaps after scaling; no id may differ."""


def check_codes(spec: TokenSpec, codes: Codes, rows: int) -> str:
    """A note on the codes of `rows` images if they are as `spec` says. Raises `Broken`."""
    check_types(codes)
    found = []
    if spec.kind != "continuous":
        if spec.variable_length and not spec.tokens and codes.ids:  # any number
            spec = spec.model_copy(update={"levels": ((codes.ids[0].shape[-1],),)})
        if len(codes.ids) != len(spec.levels):
            raise Broken(f"{len(codes.ids)} levels of ids, the card has {len(spec.levels)}")
        for level, (ids, shape) in enumerate(zip(codes.ids, spec.levels, strict=True)):
            _check_ids(spec, ids, (rows, math.prod(shape) * spec.codebooks), f"ids of level {level}")
        found.append(f"ids {sum(ids.shape[1] for ids in codes.ids)} x int64 in [0, {spec.vocabulary})")
    if spec.kind == "continuous" and codes.latents is None:
        raise Broken("no latents, and the card's tokens are continuous")
    if codes.latents is not None:
        _check_latents(spec, codes.latents, rows)
        found.append(f"latents {tuple(codes.latents.shape[1:])}")
    if spec.variable_length:
        lengths = codes.lengths
        if lengths is None or tuple(lengths.shape) != (rows,):
            raise Broken(f"lengths must be ({rows},) for tokens of variable length")
        most = codes.ids[0].shape[1]
        if int(lengths.min()) < 1 or int(lengths.max()) > most:
            raise Broken(f"lengths {int(lengths.min())} to {int(lengths.max())} are not in 1 to {most}")
    return ", ".join(found)


def check_types(codes: Codes) -> None:
    """Raises `Broken` if these are not codes, or hold something else than tensors."""
    check_type("codes", codes, Codes)
    check_type("`ids` of codes", codes.ids, tuple)
    for each in tensors_of(codes):
        check_type("what codes hold", each, Tensor)


def check_type(what: str, value: object, kind: type) -> None:
    """Raises `Broken` for a value of another type."""
    if not isinstance(value, kind):
        raise Broken(f"{what}: type {kind.__name__} is expected, not {type(value).__name__}")


def _check_ids(spec: TokenSpec, ids: Tensor, shape: tuple[int, int], name: str) -> None:
    fits = ids.ndim == 2 and len(ids) == shape[0]
    if not fits or (ids.shape[1] > shape[1] if spec.variable_length else ids.shape[1] != shape[1]):
        raise Broken(f"{name} are {tuple(ids.shape)}, not {shape}")
    if ids.dtype != torch.int64:
        raise Broken(f"{name} are {ids.dtype}, not torch.int64")
    low, high = int(ids.min()), int(ids.max())
    if low < 0 or (spec.vocabulary is not None and high >= spec.vocabulary):
        raise Broken(f"{name} go from {low} to {high}, out of the range 0 to {(spec.vocabulary or 0) - 1}")


def _check_latents(spec: TokenSpec, latents: Tensor, rows: int) -> None:
    if len(latents) != rows:
        raise Broken(f"latents of {len(latents)} samples, not {rows}")
    if not latents.is_floating_point() or not bool(latents.isfinite().all()):
        raise Broken(f"latents ({latents.dtype}) are not finite floating-point numbers")
    if spec.kind == "continuous" and spec.channels is not None and latents[0].numel() != spec.tokens * spec.channels:
        raise Broken(f"latents are {tuple(latents.shape[1:])}, not {spec.tokens} tokens of {spec.channels}")


def check_images(images: Tensor, rows: int, side: int) -> str:
    """A note on images if they are float32 (rows, 3, side, side) in [0, 1]. Raises `Broken`."""
    check_type("images", images, Tensor)
    if tuple(images.shape) != (rows, 3, side, side):
        raise Broken(f"images are {tuple(images.shape)}, not {(rows, 3, side, side)}")
    if images.dtype != torch.float32:
        raise Broken(f"images are {images.dtype}, not torch.float32")
    if not bool(images.isfinite().all()):
        raise Broken("images hold NaN or infinity")
    low, high = float(images.min()), float(images.max())
    if low < 0 or high > 1:
        raise Broken(f"pixels go from {low:.3g} to {high:.3g}, out of [0, 1]")
    return f"float32 {(3, side, side)} in [{low:.2f}, {high:.2f}]"


def tensors_of(codes: Codes | None, images: Tensor | None = None) -> tuple[Tensor, ...]:
    """All that describes a batch, rows first."""
    found = () if codes is None else (*codes.ids, codes.latents)
    return tuple(tensor for tensor in (*found, images) if tensor is not None)


def pick(tensors: Sequence[Tensor], rows: Sequence[int]) -> tuple[Tensor, ...]:
    return tuple(tensor[list(rows)] for tensor in tensors)


def pick_codes(codes: Codes, rows: Sequence[int]) -> Codes:
    """The same of codes, without lengths."""
    latents = None if codes.latents is None else codes.latents[list(rows)]
    return Codes(ids=pick(codes.ids, rows), latents=latents)


def copied(generated: Generated) -> Generated:
    """Raises `Broken` for what is not of the types that it should be."""
    check_type("what `sample` returns", generated, Generated)
    if generated.codes is not None:
        check_types(generated.codes)
    if generated.images is not None:
        check_type("images", generated.images, Tensor)
    codes, images = generated.codes, generated.images
    return replace(
        generated,
        codes=None if codes is None else copied_codes(codes),
        images=None if images is None else images.clone(),
    )


def copied_codes(codes: Codes) -> Codes:
    ids = tuple(one.clone() for one in codes.ids)
    latents, lengths = (None if one is None else one.clone() for one in (codes.latents, codes.lengths))
    return replace(codes, ids=ids, latents=latents, lengths=lengths)


def on_grid(codes: Codes, spec: TokenSpec, cells: Tensor) -> tuple[Tensor, ...]:
    """What codes hold in the chosen `cells` (h, w) of the finest grid: ids, or the latents of continuous tokens."""
    if codes.ids:
        finest = codes.ids[-1].reshape(len(codes.ids[-1]), cells.numel(), spec.codebooks)
        return (finest[:, cells.flatten()],)
    assert codes.latents is not None  # check_codes has seen to it
    if tuple(codes.latents.shape[-2:]) != tuple(cells.shape):
        raise NotApplicable(f"latents {tuple(codes.latents.shape[1:])} are in another form than the mask")
    return (codes.latents[..., cells],)


def difference(ours: Sequence[Tensor], reference: Sequence[Tensor]) -> float:
    """The largest share of ids that differ or relative distance of floats; infinite for other shapes."""
    if [tensor.shape for tensor in ours] != [tensor.shape for tensor in reference]:
        return math.inf
    worst = 0.0
    for one, other in zip(ours, reference, strict=True):
        if other.is_floating_point():
            size = float(other.double().norm()) or 1.0
            apart = float((one.double() - other.double()).norm()) / size
        else:
            apart = float((one != other).double().mean()) if one.numel() else 0.0
        worst = max(worst, math.inf if math.isnan(apart) else apart)
    return worst


def unchanged(ours: Sequence[Tensor], kept: Sequence[Tensor]) -> bool:
    """Bit for bit, and NaN is like NaN."""
    return all(
        one.shape == other.shape and bool(((one == other) | (one.isnan() & other.isnan())).all())
        for one, other in zip(ours, kept, strict=True)
    )


# ---- closing ---------------------------------------------------------------------------------------------------------


def networks_of(owner: object, outside: object = None, depth: int = 4) -> list[nn.Module]:
    """Torch modules that an adapter holds, through containers and plain objects; none of those of `outside`."""
    if owner is outside or depth == 0:
        return []
    if isinstance(owner, nn.Module):
        return [owner]
    if isinstance(owner, dict):
        held = list(owner.values())
    elif isinstance(owner, list | tuple | set):
        held = list(owner)
    else:
        held = list(getattr(owner, "__dict__", {}).values())
    return [network for item in held for network in networks_of(item, outside, depth - 1)]


def check_close(owner: object, close: Callable[[], None], outside: object = None) -> str:
    """Closes twice; a note if the networks of `owner` are gone. Raises `Broken`, `NotApplicable`."""
    shared = {id(network) for network in networks_of(outside)}
    attributes = dict(vars(owner)) if hasattr(owner, "__dict__") else {}  # not the owner, should it be a module itself
    held = [weakref.ref(network) for network in networks_of(attributes, outside) if id(network) not in shared]
    attributes.clear()
    close()
    try:
        close()
    except (Exception, SystemExit) as error:
        raise Broken(f"the second `close` raises {type(error).__name__}: {error}") from None
    gc.collect()
    alive = [type(network).__name__ for network in (ref() for ref in held) if network is not None]
    if alive:
        raise Broken(f"`close` keeps the network ({', '.join(dict.fromkeys(alive))}) in memory")
    if not held:
        raise NotApplicable("it may be closed twice; it holds no torch module that could be freed")
    return "twice; the network is freed"
