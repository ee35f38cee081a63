"""The small files beside a result, as this version writes them and as version 0.1 did."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from .errors import DamagedFile
from .gallery import Gallery
from .images import unpack
from .spec.result import Artifact, Result

Arrays = dict[str, NDArray[Any]]

REDO = "arbench resume DIR writes it again"
LATENCY = ("seconds", "warmup", "traced", "steps")
AMPLIFIED = 4
"""Factor on the absolute differences of version 0.1's reconstructions."""
MASKED = (214, 120, 44)
"""Colour of the masked part in version 0.1's edits."""


Pictures = Literal["pictures", "worst", "worst-lpips"]
"""Of the artifacts, those that are galleries."""


def pictures(result: Result, folder: Path, what: Pictures = "pictures") -> Gallery | None:
    """The pictures of the cell in `folder`, None if it has none. Raises `DamagedFile` for a damaged file."""
    path = inside(result, what, folder)
    if path is None:
        return None
    try:
        arrays = unpack(path.read_bytes())
        convert = next((convert for name, convert in _OLD.items() if name in arrays and "layout" not in arrays), None)
        return convert(arrays, result.parameters) if convert else Gallery.read(path)
    except (OSError, ValueError, KeyError, EOFError, IndexError, zipfile.BadZipFile) as error:
        raise _damaged(path, error) from error


def sheet(result: Result, folder: Path) -> bytes | None:
    """The same as one PNG, drawn where the cell has pictures and no such file; None for a damaged file too, of which
    the report tells.
    """
    try:
        path = inside(result, "sheet", folder)
        if path is not None and path.is_file():
            return path.read_bytes()
        gallery = pictures(result, folder) if path is None else None
        return gallery.sheet() if gallery is not None and gallery.images.size else None
    except (DamagedFile, OSError):
        return None


def latency(result: Result, folder: Path) -> Arrays | None:
    """Raw timings, None if the cell has none: `batch`, `operation` (m,), `seconds`, `warmup`, `traced` (m, calls) and
    `steps` (m, calls, steps), in seconds, padded with NaN. Raises `DamagedFile` for a damaged file."""
    path = inside(result, "latency", folder)
    if path is None:
        return None
    try:
        arrays: Arrays = unpack(path.read_bytes())
        if "batches" in arrays:
            return _old_latency(arrays)
        rows = len(arrays["batch"])
        if any(len(arrays[name]) != rows for name in ("operation", *LATENCY)) or arrays["steps"].ndim != 3:
            raise ValueError(f"{rows} rows expected in each array, and steps by row, call and step")
        return arrays
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise _damaged(path, error) from error


def inside(result: Result, what: Artifact, folder: Path) -> Path | None:
    """The file of an artifact. Raises `DamagedFile` for one that lies outside the cell's folder."""
    file = result.artifacts.get(what)
    if file is None:
        return None
    path = folder / file
    try:
        if path.resolve().is_relative_to(folder.resolve()):
            return path
    except OSError as error:
        raise _damaged(path, error) from error
    raise DamagedFile(f"{path} lies outside its cell", "an artifact is a file beside result.json", REDO)


def padded(rows: list[NDArray[Any]]) -> NDArray[Any]:
    """Arrays of unlike shapes as one, padded with NaN."""
    most = [max(row.shape[axis] for row in rows) for axis in range(rows[0].ndim)]
    return np.stack(
        [
            np.pad(row, [(0, full - own) for full, own in zip(most, row.shape, strict=True)], constant_values=np.nan)
            for row in rows
        ]
    )


def _damaged(path: Path, error: Exception) -> DamagedFile:
    return DamagedFile(f"cannot read {path}", f"{type(error).__name__}: {error}", REDO)


# ---- version 0.1 ----


def _old_latency(arrays: Mapping[str, NDArray[Any]]) -> Arrays:
    """From arrays named `batch<b>_<operation>_<what>`."""
    places = [
        (int(batch), operation)
        for batch in arrays["batches"]
        for operation in ("sample", "encode", "decode")
        if f"batch{batch}_{operation}_seconds" in arrays
    ]
    found: Arrays = {
        "batch": np.array([batch for batch, _ in places]),
        "operation": np.array([operation for _, operation in places]),
    }
    for what in LATENCY:
        found[what] = padded([arrays[f"batch{batch}_{operation}_{what}"] for batch, operation in places])
    return found


def _images(arrays: Mapping[str, NDArray[Any]], name: str) -> NDArray[np.uint8]:
    array = arrays[name]
    if array.ndim != 4 or array.shape[1] != 3 or array.dtype != np.uint8:
        raise ValueError(f"{name}: uint8 (k, 3, H, W) expected, {array.dtype} {array.shape} found")
    return array


def _old_samples(arrays: Mapping[str, NDArray[Any]], parameters: Mapping[str, Any]) -> Gallery:
    images = _images(arrays, "images")
    return Gallery(
        "Samples",
        "sheet",
        "The first sample ids that all models share, not selected: the same id has the same class and the same seed in"
        " every model.",
        arrays["sample_ids"],
        arrays["labels"][None],
        ("",),
        (False,),
        images[None],
    )


def _old_pairs(arrays: Mapping[str, NDArray[Any]], parameters: Mapping[str, Any]) -> Gallery:
    before, after = _images(arrays, "originals"), _images(arrays, "reconstructions")
    difference = np.abs(before.astype(np.int16) - after) * AMPLIFIED
    return Gallery(
        f"Reconstructions of {parameters.get('data', 'images')}",
        "rows",
        "The first images, not selected.",
        arrays["ids"],
        np.full((3, len(before)), -1),
        ("original", "", f"|difference| × {AMPLIFIED}"),
        (True, False, False),
        np.stack([before, after, difference.clip(0, 255).astype(np.uint8)]),
    )


def _old_edits(arrays: Mapping[str, NDArray[Any]], parameters: Mapping[str, Any]) -> Gallery:
    before, edited = _images(arrays, "originals"), _images(arrays, "edited")
    masked = np.where(arrays["mask"], np.array(MASKED, dtype=np.uint8)[:, None, None], before)
    mask, own = parameters.get("mask", "?"), parameters.get("condition") != "next"
    kind = ("Outpainting" if mask == "border" else "Inpainting") if own else "Editing by class"
    part = mask if isinstance(mask, str) else "box " + " ".join(f"{edge:g}" for edge in mask)
    asked = "the image’s own class" if own else "the next class"
    return Gallery(
        f"{kind}: {part} redrawn, {asked} ({parameters.get('data', 'images')})",
        "rows",
        "The masked part of each image is drawn anew, given the rest and a class; pixels outside it are the original's."
        " Every model is given the same images, masks and seeds.",
        arrays["ids"],
        np.stack([arrays["classes"], arrays["asked"], arrays["asked"]]),
        ("original", "mask", ""),
        (True, True, False),
        np.stack([before, masked, edited]),
    )


_OLD = {"sample_ids": _old_samples, "reconstructions": _old_pairs, "edited": _old_edits}
"""How the pictures of version 0.1 are read, by an array that only they hold."""
