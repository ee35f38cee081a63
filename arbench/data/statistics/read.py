"""Reads reference statistics in every format in circulation, each bound to the preprocessing that made it.

The trap: an npz of `mu` and `sigma` alone is written by ADM's users (TF1 resize, pixels centred on 128) and by
pytorch-fid (half-pixel resize, centred on 127.5), and either tool takes the other's file without a word. Such a file is
read only if its name, its content or `kind` says whose it is.
"""

from __future__ import annotations

import hashlib
import re
import zipfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import InputError, UnknownName
from ...json_text import parse_json
from ...npy_files import NPZ_DAMAGE, NpzArrays, npy_header
from . import pickles, torch_files
from .checks import SetIdentity, Split, from_json, known_reference, split_hint
from .model import Format, ReferenceStatistics, StoredFeatures, StoredMoments, valid_moments

DAMAGE = (
    *NPZ_DAMAGE,
    *(AttributeError, LookupError, TypeError),  # a header that is JSON and not ours
    *(MemoryError, ArithmeticError, np.linalg.LinAlgError),  # numbers that are none
)
"""What a file that is cut short or altered raises when it is read."""
HEADER = "arbench"
"""Member of an npz with our JSON header; in other tools' formats too, where their readers pass over it."""
VERSION = 1
KINDS: tuple[Format, ...] = ("adm", "pytorch-fid", "clean-fid", "torch-fidelity", "arbench", "edm2")
POOL3, SPATIAL = 2048, 2023
CLEAN_MODES = {
    "clean": "inception/clean:pool3",
    "legacy_tensorflow": "inception/grid-sample:pool3",
    "legacy_pytorch": "inception/half-pixel:pool3",
}
CLEAN_NAME = re.compile(
    r"(?P<name>.+)_(?P<mode>clean|legacy_tensorflow|legacy_pytorch)(?P<clip>_clip_vit_b_32)?"
    r"_(?P<split>[a-z0-9]+)_(?P<size>\d+|na)(?P<kid>_kid)?"
)
TORCH_FIDELITY_NAME = re.compile(
    r"(?P<name>.+)-(?P<extractor>inception-v3-compat|vgg16)-(?P<what>stat-fid|features)-(?P<layer>\w+)"
)
TORCH_FIDELITY_OUTPUTS = {
    ("inception-v3-compat", "2048"): ("inception/tf1:pool3", 2048),
    ("inception-v3-compat", "logits"): ("inception/tf1:logits", 1008),
    ("inception-v3-compat", "logits_unbiased"): ("inception/tf1:logits_unbiased", 1008),
    ("vgg16", "fc2_relu"): ("vgg16/torch-fidelity:fc2_relu", 4096),
}
EDM2_OUTPUTS = {"fid": ("inception/grid-sample:pool3", 2048), "fd_dinov2": ("dinov2/edm2:cls", 1024)}


def read_statistics(path: Path, *, kind: Format | None = None) -> ReferenceStatistics:
    """The statistics in a file, checked: shapes, finiteness, symmetry, no negative eigenvalues.

    `kind` is needed where neither name nor content tells the format; it never overrides what they do tell.
    Raises `InputError` for a file that cannot be used.
    """
    if kind is not None and kind not in KINDS:
        raise UnknownName("kind of reference", kind, KINDS, f"use one of {', '.join(KINDS)}")
    if not path.is_file():
        raise InputError(f"{path} is not a file" if path.exists() else f"no file at {path}", "", "check the path")
    if path.suffix in (".pt", ".pth"):
        if TORCH_FIDELITY_NAME.fullmatch(path.stem) is None and (plain := _plain_moments(torch_files.load(path))):
            return _npz(path, plain, kind)
        _agrees(path, kind, "torch-fidelity", "it is a torch file")
        return _torch_fidelity(path)
    if path.suffix in (".pkl", ".pickle"):
        content = pickles.load(path)
        if plain := _plain_moments(content):
            return _npz(path, plain, kind)
        _agrees(path, kind, "edm2", "it is a pickle")
        return _edm2_pickle(path, content)
    if path.suffix == ".npy" and (moments := pickles.moments_in(path)) is not None:
        return _npz(path, _plain_moments(moments), kind)
    try:
        with path.open("rb") as file:
            if file.read(6) == b"\x93NUMPY":
                file.seek(0)
                shape, _, dtype = npy_header(file)
                step = "name a file of mu and sigma, or the images themselves"
                raise InputError(f"{path} holds no statistics", f"it is one array, {dtype} {shape}", step)
        with zipfile.ZipFile(path) as archive:
            return _npz(path, NpzArrays(archive, str(path)), kind)
    except PermissionError as error:
        raise InputError(f"cannot read {path}", error.strerror or str(error), "check its permissions") from error
    except DAMAGE as error:
        why = f"{type(error).__name__}: {error}"
        raise InputError(f"{path} is not an npz of statistics, or is damaged", why, "write or copy it again") from error


def _npz(path: Path, archive: Mapping[str, Any], kind: Format | None) -> ReferenceStatistics:
    keys = set(archive)
    if HEADER in keys:
        return _own(path, archive, kind)
    known = known_reference(path, "" if "arr_0" in keys else git_blob(path))
    format = _format(path, keys, known, kind)
    if format == "adm":
        return _adm(path, archive, known)
    if format == "clean-fid":
        return _clean_fid(path, archive)
    _needs(path, keys, "mu", "sigma")
    key = "inception/half-pixel:pool3" if format == "pytorch-fid" else "inception/grid-sample:pool3"
    moments = valid_moments(archive["mu"], archive["sigma"], None, path, key, dimension=POOL3)
    return ReferenceStatistics(path, format, {key: moments}, SetIdentity(path.stem, split=split_hint(path.stem)))


def _format(path: Path, keys: set[str], known: SetIdentity | None, kind: Format | None) -> Format:
    """The format of an npz without our header. Raises `InputError` if it is ambiguous or contradicts `kind`."""
    if keys & {"mu_s", "sigma_s"}:
        _agrees(path, kind, "adm", "it holds mu_s and sigma_s")
        return "adm"
    if "arr_0" in keys:
        _agrees(path, kind, "adm", "it holds images, as ADM's reference batches do")
        return "adm"
    if known is not None or path.name.lower().startswith("virtual_"):
        _agrees(path, kind, "adm", "it is a reference of ADM's in circulation")
        return "adm"
    if CLEAN_NAME.fullmatch(path.stem.lower()):
        _agrees(path, kind, "clean-fid", "its name says so")
        return "clean-fid"
    if kind in ("torch-fidelity", "arbench"):
        form = "a .pt file" if kind == "torch-fidelity" else "an npz with a header"
        raise InputError(f"{path} is not a file of {kind}", f"that is {form}", "leave out --reference-kind")
    if kind is not None:
        return kind
    if keys >= {"mu", "sigma"}:
        raise InputError(
            f"whose statistics {path} holds is not certain",
            "ADM and pytorch-fid both write mu and sigma, of images resized and centred differently, "
            "and a distance across the two is wrong",
            "add --reference-kind adm, or pytorch-fid, or edm2",
        )
    raise InputError(
        f"{path} holds no statistics", f"mu and sigma, or arr_0, are needed; it holds {_list(keys)}", "check the path"
    )


# --- The formats


def _adm(path: Path, archive: Mapping[str, Any], known: SetIdentity | None) -> ReferenceStatistics:
    """mu, sigma of pool3; mu_s, sigma_s of the spatial features; arr_0, images. Moments may be of far more images."""
    from ..readers.arrays import NpzReader

    keys = set(archive)
    moments: dict[str, StoredMoments] = {}
    for suffix, key, dimension in (("", "inception/tf1:pool3", POOL3), ("_s", "inception/tf1:spatial", SPATIAL)):
        mu, sigma = f"mu{suffix}", f"sigma{suffix}"
        if {mu, sigma} & keys:
            _needs(path, keys, mu, sigma)
            moments[key] = valid_moments(archive[mu], archive[sigma], None, path, key, dimension=dimension)
    images = path if "arr_0" in keys else None
    if not moments and images is None:
        raise InputError(f"{path} holds no statistics", f"it holds {_list(keys)}", "check the path")
    known = known or SetIdentity(path.stem, split=split_hint(path.stem))
    if images is not None:
        reader = NpzReader(path.name, path)
        n = None if moments else reader.count
        known = replace(known, sizes=known.sizes or (reader.layout.size,), n=n)
    return ReferenceStatistics(path, "adm", moments, known, images=images)


def _clean_fid(path: Path, archive: Mapping[str, Any]) -> ReferenceStatistics:
    """mu and sigma, or the features themselves in the file beside it whose name ends in _kid."""
    name = CLEAN_NAME.fullmatch(path.stem.lower())
    if name is None:
        raise InputError(
            f"the name of {path} does not say how clean-fid resized",
            "clean-fid's names are NAME_MODE_SPLIT_SIZE.npz, MODE clean, legacy_tensorflow or legacy_pytorch",
            "rename it, for instance photos_clean_custom_na.npz",
        )
    key = CLEAN_MODES[name["mode"]]
    dimension = POOL3
    if name["clip"]:
        if name["mode"] != "clean":
            raise InputError(f"{path} is of CLIP in mode {name['mode']}", "arbench has CLIP as in mode clean only")
        key, dimension = "clip-b32/clean:image", 512
    moments, features, n = {}, {}, None
    beside = path if name["kid"] else path.with_name(f"{path.stem}_kid.npz")
    if beside.is_file():
        features[key] = _features(beside, "feats", dimension)
        n = features[key].n
    if not name["kid"]:
        _needs(path, set(archive), "mu", "sigma")
        moments[key] = valid_moments(archive["mu"], archive["sigma"], n, path, key, dimension=dimension)
    size = () if name["size"] == "na" else ((int(name["size"]), int(name["size"])),)
    split: Split = split_hint(name["split"])
    return ReferenceStatistics(path, "clean-fid", moments, SetIdentity(name["name"], n, size, split=split), features)


def _torch_fidelity(path: Path) -> ReferenceStatistics:
    """A file of its cache: mu and sigma of a layer, or the features. The name alone says of what; n is not stored."""
    name = TORCH_FIDELITY_NAME.fullmatch(path.stem)
    output = TORCH_FIDELITY_OUTPUTS.get((name["extractor"], name["layer"])) if name else None
    if name is None or output is None:
        layers = ", ".join(f"{extractor} {layer}" for extractor, layer in TORCH_FIDELITY_OUTPUTS)
        raise InputError(
            f"the name of {path} does not tell which features it holds",
            "torch-fidelity's names are NAME-EXTRACTOR-stat-fid-LAYER.pt and NAME-EXTRACTOR-features-LAYER.pt; "
            f"known are {layers}",
            "keep the name that torch-fidelity gave the file",
        )
    key, dimension = output
    content = torch_files.load(path)
    identity = SetIdentity(name["name"], split=split_hint(name["name"]))
    if name["what"] == "features":
        shape = tuple(getattr(content, "shape", ()))
        if len(shape) != 2 or shape[1] != dimension:
            raise InputError(f"{path} holds no features of {key}", f"its shape is {shape}", "write it again")
        features = {key: StoredFeatures(path, "", shape[0], shape[1])}
        return ReferenceStatistics(path, "torch-fidelity", {}, replace(identity, n=shape[0]), features)
    if not isinstance(content, dict) or not {"mu", "sigma"} <= content.keys():
        raise InputError(f"{path} holds no mu and sigma", f"it is a {type(content).__name__}", "write it again")
    moments = valid_moments(content["mu"], content["sigma"], None, path, key, dimension=dimension)
    return ReferenceStatistics(path, "torch-fidelity", {key: moments}, identity)


def _edm2_pickle(path: Path, content: object) -> ReferenceStatistics:
    """{"num_images": n, metric: {"mu", "sigma"}} with the metrics fid and fd_dinov2."""
    found: dict[Any, Any] = content if isinstance(content, dict) else {}
    n = found.get("num_images")
    if n is not None and not isinstance(n, int | np.integer):
        raise InputError(f"num_images of {path} is not a number", f"it is {n!r}", "write or copy it again")
    count = None if n is None else int(n)
    moments = {}
    for metric, (key, dimension) in EDM2_OUTPUTS.items():
        if isinstance(found.get(metric), dict):
            _needs(path, set(found[metric]), "mu", "sigma")
            mu, sigma = found[metric]["mu"], found[metric]["sigma"]
            moments[key] = valid_moments(mu, sigma, count, path, key, dimension=dimension)
    if not moments:
        why = f"{' or '.join(EDM2_OUTPUTS)} is needed; it holds {_list({str(key) for key in found})}"
        raise InputError(f"{path} holds no statistics of EDM2", why, "check the path")
    return ReferenceStatistics(path, "edm2", moments, SetIdentity(path.stem, count, split=split_hint(path.stem)))


def _own(path: Path, archive: Mapping[str, Any], kind: Format | None) -> ReferenceStatistics:
    """Written by arbench, in its own format or in another tool's with our header: the header says what is where."""
    header = parse_json(str(archive[HEADER]))
    if header["version"] > VERSION:
        raise InputError(
            f"{path} is of a later arbench ({header['arbench']})",
            f"its format has version {header['version']}, this arbench reads up to {VERSION}",
            "update arbench",
        )
    format: Format = header["format"]
    if format not in KINDS:
        raise ValueError(f"format {format!r}")
    _agrees(path, kind, format, "its header says so")
    moments, features = {}, {}
    named = [name for output in header["outputs"] for name in output["members"].values()]
    if len(named) > len(set(named)):
        raise ValueError("its header names an array twice")
    for output in header["outputs"]:
        key, members = str(output["key"]), output["members"]
        if "mean" in members:
            factor = archive[members["cholesky"]] if "cholesky" in members else None
            mean, covariance = archive[members["mean"]], archive[members["covariance"]]
            moments[key] = valid_moments(mean, covariance, output["n"], path, key, cholesky=factor)
        if "features" in members:
            features[key] = _features(path, members["features"])
    known = from_json(header["identity"])
    images = path if "arr_0" in archive else None
    return ReferenceStatistics(
        path, format, moments, known, features, images, dict(header["weights"]), dict(header["settings"])
    )


def _features(path: Path, member: str, dimension: int | None = None) -> StoredFeatures:
    """Where the features are; only their npy header is read."""
    try:
        with zipfile.ZipFile(path) as archive, archive.open(f"{member}.npy") as file:
            shape, _, dtype = npy_header(file)
    except DAMAGE as error:
        why = f"{type(error).__name__}: {error}"
        raise InputError(f"{path} holds no features {member}, or is damaged", why, "write or copy it again") from error
    if len(shape) != 2 or dtype.kind != "f" or dimension not in (None, shape[1]):
        wanted = f"(n, {dimension or 'D'}) floats"
        raise InputError(f"{path} holds no features", f"{member} is {dtype} {shape}; {wanted} are needed")
    return StoredFeatures(path, member, shape[0], shape[1])


# --- Helpers


def _plain_moments(content: object) -> dict[str, Any]:
    """mu and sigma as arrays of a dict that has them, as many tools pickle them; else nothing."""
    if not isinstance(content, dict) or not {"mu", "sigma"} <= content.keys():
        return {}
    return {name: np.asarray(content[name]) for name in ("mu", "sigma")}


def git_blob(path: Path) -> str:
    """The id that git gives the file, under which repositories agree on it; "" above 64 MiB, where none is known."""
    size = path.stat().st_size
    if size > 64 << 20:
        return ""
    digest = hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _agrees(path: Path, kind: Format | None, found: Format, why: str) -> None:
    if kind not in (None, found):
        raise InputError(
            f"{path} is not of kind {kind} but {found}",
            f"{why}; read as {kind}, the numbers would come from another preprocessing",
            f"leave out --reference-kind, or give {found}",
        )


def _needs(path: Path, keys: set[str], *names: str) -> None:
    missing = [name for name in names if name not in keys]
    if missing:
        why = f"{' and '.join(missing)} missing; it holds {_list(keys)}"
        raise InputError(f"{path} holds no statistics", why, "write or copy it again")


def _list(keys: set[str]) -> str:
    return ", ".join(sorted(keys)) or "nothing"
