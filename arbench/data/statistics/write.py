"""Writes reference statistics: in arbench's own format, and in those of ADM, pytorch-fid, clean-fid, torch-fidelity.

A format is bound to a preprocessing, so only features of that one are written in it. All npz members are stored
uncompressed, without pickles, in blocks; every npz carries our JSON header, which the other tools pass over.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any, Literal, Protocol

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from ... import __version__
from ...errors import InputError, UnknownName
from ...files import replacing
from ..indexed import ImageSource
from .checks import SetIdentity, to_json
from .model import Floats, cholesky_factor
from .read import CLEAN_MODES, CLEAN_NAME, HEADER, TORCH_FIDELITY_NAME, TORCH_FIDELITY_OUTPUTS, VERSION

Layout = Literal["arbench", "adm", "pytorch-fid", "clean-fid", "torch-fidelity"]
LAYOUTS: tuple[Layout, ...] = ("arbench", "adm", "pytorch-fid", "clean-fid", "torch-fidelity")
BLOCK = 2500


class MomentsLike(Protocol):
    """Mean (D,), covariance (D, D; divided by n - 1) of n vectors."""

    @property
    def mean(self) -> NDArray[Any]: ...

    @property
    def covariance(self) -> Floats: ...

    @property
    def n(self) -> int | None: ...


class FeatureRows(Protocol):
    """(n, D) floats, read in slices."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    def __getitem__(self, index: Any, /) -> NDArray[Any]: ...


def write_statistics(
    path: Path,
    moments: Mapping[str, MomentsLike],
    identity: SetIdentity,
    *,
    layout: Layout = "arbench",
    weights: Mapping[str, str] | None = None,
    settings: Mapping[str, str] | None = None,
    features: Mapping[str, FeatureRows] | None = None,
    images: ImageSource | None = None,
) -> Path:
    """Writes `path` whole or not at all, and returns it.

    moments    by "recipe:output". "arbench" keeps all of them, each with its Cholesky factor if there is one; the other
               layouts take what they are bound to, and raise `InputError` if it is not there.
    weights    name -> sha256 of the weight files; `settings`: how images were prepared. Both go into the header.
    features   "arbench" only: kept as float32, for the metrics that need the reference's single vectors.
    images     "adm" only: written as arr_0, without which ADM's own command cannot read the file.
    """
    if layout not in LAYOUTS:
        raise UnknownName("layout of statistics", layout, LAYOUTS, f"use one of {', '.join(LAYOUTS)}")
    if features and layout != "arbench":
        raise InputError(f"features cannot be kept in the layout {layout}", "only arbench's own has a place for them")
    if images is not None and layout != "adm":
        raise InputError(f"images cannot be kept in the layout {layout}", "only ADM's has a place for them")
    suffix = ".pt" if layout == "torch-fidelity" else ".npz"
    if path.suffix != suffix:
        raise InputError(f"{path} does not end in {suffix}", f"which the layout {layout} needs", "name it so")
    if layout == "torch-fidelity":
        with replacing(path) as file:
            _torch_fidelity(path, file, moments)
        return path
    bound = {} if layout == "arbench" else _bound(path, layout, moments)
    members: list[Member] = []
    outputs: list[dict[str, Any]] = []
    if layout == "arbench":
        members, outputs = _own(moments, features or {})
    else:
        for key, (mu, sigma) in bound.items():
            # ADM keeps the mean in float32, and a fork of torch-fidelity compares it with one
            mean_type = np.float32 if layout == "adm" else np.float64
            members.append(_array(mu, np.asarray(moments[key].mean, mean_type)))
            members.append(_array(sigma, np.asarray(moments[key].covariance, np.float64)))
            outputs.append({"key": key, "n": moments[key].n, "members": {"mean": mu, "covariance": sigma}})
    header = {
        "version": VERSION,
        "format": layout,
        "arbench": __version__,
        "identity": to_json(identity),
        "weights": dict(weights or {}),
        "settings": dict(settings or {}),
        "outputs": outputs,
    }
    members.insert(0, _array(HEADER, np.array(json.dumps(header, sort_keys=True))))
    if images is not None:
        members.append(("arr_0", (len(images), *images.resolution, 3), np.dtype(np.uint8), _pictures(images)))
    with replacing(path) as file:
        _npz(file, members)
    return path


Member = tuple[str, tuple[int, ...], np.dtype[Any], Iterable[NDArray[Any]]]
"""Name, shape, type, and the content in blocks along the first axis."""


def _bound(path: Path, layout: Layout, moments: Mapping[str, MomentsLike]) -> dict[str, tuple[str, str]]:
    """Key -> names of its mean and covariance in the layout."""
    if layout == "adm":
        _has(layout, moments, "inception/tf1:pool3", "inception/tf1:spatial")
        return {"inception/tf1:pool3": ("mu", "sigma"), "inception/tf1:spatial": ("mu_s", "sigma_s")}
    if layout == "pytorch-fid":
        _has(layout, moments, "inception/half-pixel:pool3")
        return {"inception/half-pixel:pool3": ("mu", "sigma")}
    name = CLEAN_NAME.fullmatch(path.stem)
    if name is None or name["kid"] or path.stem != path.stem.lower():
        raise InputError(
            f"clean-fid would not find {path}",
            "it reads NAME_MODE_SPLIT_SIZE.npz in lower case, MODE clean, legacy_tensorflow or legacy_pytorch, "
            "and own statistics with SPLIT custom and SIZE na",
            f"name it {path.stem.lower()}_clean_custom_na.npz",
        )
    key = "clip-b32/clean:image" if name["clip"] else CLEAN_MODES[name["mode"]]
    _has(layout, moments, key)
    return {key: ("mu", "sigma")}


def _has(layout: Layout, moments: Mapping[str, MomentsLike], *keys: str) -> None:
    missing = [key for key in keys if key not in moments]
    if missing:
        raise InputError(
            f"these moments cannot be written for {layout}",
            f"it needs {' and '.join(missing)}, and there is {', '.join(moments) or 'nothing'}; "
            "features of another preprocessing would give its readers wrong distances",
            "compute that recipe, or use the layout arbench",
        )


def _own(moments: Mapping[str, MomentsLike], features: Mapping[str, FeatureRows]) -> tuple[list[Member], list[Any]]:
    members: list[Member] = []
    outputs: list[dict[str, Any]] = []
    for place, key in enumerate(dict.fromkeys([*moments, *features])):
        names: dict[str, str] = {}
        output: dict[str, Any] = {"key": key, "n": None, "members": names}
        if key in moments:
            covariance = np.asarray(moments[key].covariance, np.float64)
            arrays = {"mean": np.asarray(moments[key].mean, np.float64), "covariance": covariance}
            factor = cholesky_factor(covariance)
            if factor is not None:
                arrays["cholesky"] = factor
            names |= {what: f"{what}_{place}" for what in arrays}
            members += [_array(names[what], array) for what, array in arrays.items()]
            output["n"] = moments[key].n
        if key in features:
            rows = features[key]
            names["features"] = f"features_{place}"
            blocks = _float32(rows)
            members.append((names["features"], (rows.shape[0], rows.shape[1]), np.dtype(np.float32), blocks))
        outputs.append(output)
    return members, outputs


def _float32(rows: FeatureRows) -> Iterator[NDArray[np.float32]]:
    for start in range(0, rows.shape[0], BLOCK):
        yield np.asarray(rows[start : start + BLOCK], np.float32)


def _pictures(images: ImageSource, batch: int = 64) -> Iterator[NDArray[np.uint8]]:
    for start in range(0, len(images), batch):
        yield images.load(range(start, min(start + batch, len(images)))).transpose(0, 2, 3, 1)  # (b, H, W, 3)


def _torch_fidelity(path: Path, file: IO[bytes], moments: Mapping[str, MomentsLike]) -> None:
    """As torch-fidelity keeps it: the mean in float32, as its own is, and the covariance in float64."""
    import torch

    name = TORCH_FIDELITY_NAME.fullmatch(path.stem)
    output = TORCH_FIDELITY_OUTPUTS.get((name["extractor"], name["layer"])) if name else None
    if name is None or output is None or name["what"] != "stat-fid":
        raise InputError(
            f"torch-fidelity would not find {path}",
            "its cache has NAME-inception-v3-compat-stat-fid-2048.pt, NAME given to it as --input2-cache-name",
            f"name it {path.stem}-inception-v3-compat-stat-fid-2048.pt",
        )
    _has("torch-fidelity", moments, output[0])
    kept = moments[output[0]]
    torch.save({"mu": np.asarray(kept.mean, np.float32), "sigma": np.asarray(kept.covariance, np.float64)}, file)


def _array(name: str, array: NDArray[Any]) -> Member:
    return name, array.shape, array.dtype, (array,)


def _npz(file: IO[bytes], members: Iterable[Member]) -> None:
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name, shape, dtype, blocks in members:
            # a ZipInfo of our own has a fixed date: the same statistics give the same bytes
            with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as member:
                description = {"descr": npy.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
                npy.write_array_header_1_0(member, description)
                rows = 0
                for block in blocks:
                    rows += len(block) if shape else 0
                    member.write(np.ascontiguousarray(block, dtype).tobytes())
                if shape and rows != shape[0]:
                    raise InputError(f"{name} has {rows} rows in place of {shape[0]}", "its source ended early")
