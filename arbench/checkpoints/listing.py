"""The tensors of a weight file by dotted name, whatever wrote it: torch, safetensors, or shards with their index."""

from __future__ import annotations

import json
import pickle
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NoReturn

from ..errors import CheckpointError
from ..limits import VARIABLE, Count
from .torch_format import BROKEN, Inert, Program, StoredTensor, TorchFile, describe, read_torch_file

OFFICIAL = "give the official file of this adapter (`arbench ls adapters`)"
AGAIN = "copy or download it again"
HEADER_BYTES = 1 << 28
DEPTH = 24
"""Dicts inside dicts that are followed."""
INSERTED = frozenset({"_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"})
"""Parts of a name that torch.compile, FSDP and activation checkpointing put in, wherever they wrap a module."""
TYPES = {
    **{"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "I64": "int64", "I32": "int32"},
    **{"I16": "int16", "I8": "int8", "U8": "uint8", "BOOL": "bool", "U16": "uint16", "U32": "uint32", "U64": "uint64"},
    **{"F8_E4M3": "float8_e4m3fn", "F8_E5M2": "float8_e5m2", "C64": "complex64"},
}
"""Of safetensors."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a tensor lies: in which file and under which name there; of a torch file, as what record."""

    path: Path
    name: str
    tensor: StoredTensor


@dataclass(frozen=True, slots=True)
class Listing:
    """What a weight file holds.

    Names of nested dicts are joined by dots, so that {"model": {"x": ...}} and {"model.x": ...} are alike, and what
    wrappers of modules insert is left out.
    """

    path: Path
    form: Literal["torch", "safetensors", "shards"]
    tensors: Mapping[str, Place]
    others: Mapping[str, object] = field(default_factory=dict)
    """What is beside them, by dotted name: a plain value, a list, or an `Inert` object."""
    dicts: tuple[str, ...] = ()
    """Dotted names of the dicts that hold tensors themselves, "" for the file as a whole, in the file's order."""
    torch_file: TorchFile | None = None


def list_tensors(path: Path) -> Listing:
    """Raises `CheckpointError`: not there, not a weight file, truncated, or a program."""
    head, size = _head(path)
    if head[8:9] == b"{" and size >= 8:
        return _safetensors(path)
    if head.lstrip()[:1] == b"{" and path.suffix == ".json":
        return _shards(path)
    if head.startswith((b"PK\x03\x04", b"\x80")):
        return _torch(path)
    return refuse(path, "it is neither a safetensors file nor a torch checkpoint")


def refuse(path: Path, why: str, hint: str = OFFICIAL) -> NoReturn:
    raise CheckpointError(f"cannot use the checkpoint {path}", why, hint)


def _head(path: Path) -> tuple[bytes, int]:
    """The first bytes and the size, of a file that exists and is not a failed download."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            head = file.read(512)
    except FileNotFoundError:
        refuse(path, "there is no such file", "check the path")
    except IsADirectoryError:
        refuse(path, "it is a folder", _inside(path))
    except PermissionError:
        refuse(path, "no permission to read it", f"chmod u+r {path}")
    except OSError as error:
        refuse(path, f"it cannot be read: {error.strerror}", "check the disk")
    if size == 0:
        refuse(path, "the file is empty", AGAIN)
    if head.startswith(b"version https://git-lfs"):
        refuse(path, "it is a Git LFS pointer, not the weights", "git lfs pull")
    if head.lstrip()[:1] == b"<":
        refuse(path, "it is a web page, not weights: the download went wrong", AGAIN)
    return head, size


def _inside(folder: Path) -> str:
    """Which file of a folder to name: the index of its shards, or its weight files."""
    found = sorted(path.name for path in folder.iterdir() if path.is_file())
    index = [name for name in found if name.endswith(".index.json")]
    weights = index or [name for name in found if Path(name).suffix in (".safetensors", ".pt", ".pth", ".bin", ".ckpt")]
    return f"name the weight file inside it: {', '.join(weights[:4])}" if weights else "name the weight file inside it"


# ---- torch -----------------------------------------------------------------------------------------------------------


def _torch(path: Path) -> Listing:
    try:
        file = read_torch_file(path)
    except PermissionError:
        refuse(path, "no permission to read it", f"chmod u+r {path}")
    except Program:
        refuse(
            path,
            "it is TorchScript, which is a program: loading would execute code, and is refused",
            "save the network's state dict instead: torch.save(module.state_dict(), FILE)",
        )
    except pickle.UnpicklingError as error:
        refuse(path, f"its pickle is broken, or the file is truncated ({error})", AGAIN)
    except BROKEN:
        refuse(path, "the file is truncated or not a torch checkpoint", AGAIN)
    content = file.content
    if isinstance(content, Inert) and not content:
        refuse(
            path,
            f"it is one object, {describe(content)}: making it would execute code, and is refused",
            "save the network's state dict instead: torch.save(module.state_dict(), FILE)",
        )
    if not isinstance(content, dict):
        refuse(path, f"it holds {_article(describe(content))}, not a dict of tensors")
    tensors: dict[str, Place] = {}
    others: dict[str, object] = {}
    dicts: dict[str, None] = {}
    try:
        found = list(_flat(content, (), Count()))
    except ValueError as error:
        refuse(path, f"its dicts in one another cannot be read: {error}", f"if you trust the file, raise {VARIABLE}")
    for raw, value in found:
        if isinstance(value, StoredTensor):
            name = _clean(raw, tensors)
            tensors[name] = Place(path, name, value)
            dicts[".".join(part for part in raw[:-1] if part not in INSERTED)] = None
        else:
            others[".".join(raw)] = value
    if file.form != "pickle":
        _whole(path, file, tensors)
    return Listing(path, "torch", tensors, others, tuple(dicts), file)


def _article(kind: str) -> str:
    return f"a {kind}" if kind.isalpha() else kind


def _flat(content: Mapping[Any, Any], above: tuple[str, ...], count: Count) -> Iterator[tuple[tuple[str, ...], object]]:
    """Names as tuples of keys, and values that are not dicts. Raises ValueError for too many, or a name of no use."""
    for key, value in content.items():
        count.one_more()
        name = (*above, key if isinstance(key, str) else describe(key) if isinstance(key, Inert) else str(key))
        if isinstance(value, dict) and value and len(name) < DEPTH:
            yield from _flat(value, name, count)
        elif not (isinstance(value, dict) and not value and not isinstance(value, Inert)):
            yield name, value


def _clean(name: tuple[str, ...], taken: Mapping[str, Place]) -> str:
    raw = ".".join(name)
    clean = ".".join(part for part in raw.split(".") if part not in INSERTED)
    return raw if clean in taken else clean


def _whole(path: Path, file: TorchFile, tensors: Mapping[str, Place]) -> None:
    """Refuses a file without the numbers of one of its tensors."""
    try:
        for place in tensors.values():
            file.span(place.tensor)
    except (KeyError, ValueError):
        refuse(path, "the file is truncated: numbers of its tensors are not in it", AGAIN)


# ---- safetensors -----------------------------------------------------------------------------------------------------


def _safetensors(path: Path) -> Listing:
    tensors: dict[str, Place] = {}
    for name, tensor in _header(path).items():
        clean = _clean((name,), tensors)
        tensors[clean] = Place(path, name, tensor)
    return Listing(path, "safetensors", tensors, dicts=("",))


def _header(path: Path) -> dict[str, StoredTensor]:
    size = path.stat().st_size
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if length > min(size - 8, HEADER_BYTES):
                refuse(path, "the file is truncated", AGAIN)
            header = json.loads(file.read(length))
        found = {}
        for name, entry in header.items():
            if name == "__metadata__":
                continue
            dtype, (_, end) = entry["dtype"], entry["data_offsets"]
            if 8 + length + end > size:
                refuse(path, "the file is truncated", AGAIN)
            found[str(name)] = StoredTensor(TYPES.get(dtype, str(dtype)), tuple(map(int, entry["shape"])))
    except OSError as error:
        refuse(path, f"it cannot be read: {error.strerror}", "check the disk")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        refuse(path, f"its safetensors header is broken ({error})", AGAIN)
    return found


def shards_of(index: Path) -> list[Path]:
    """The files that an index names, in natural order of their names. Raises `CheckpointError`."""
    try:
        where = json.loads(index.read_bytes())["weight_map"]
        names = sorted(set(where.values()))
        if not names or not all(isinstance(name, str) and Path(name).name == name for name in names):
            raise ValueError("its weight_map does not name files beside it")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        why = f"it is not an index of shards ({type(error).__name__}: {error})"
        refuse(index, why, "name the index that lies beside the shards, such as model.safetensors.index.json")
    absent = [name for name in names if not (index.parent / name).is_file()]
    if absent:
        more = f" and {len(absent) - 1} more" if len(absent) > 1 else ""
        refuse(index, f"of its {len(names)} shards {absent[0]}{more} is not there", f"put it into {index.parent}")
    return [index.parent / name for name in names]


def _shards(index: Path) -> Listing:
    where: dict[str, str] = {}
    files = shards_of(index)
    where = json.loads(index.read_bytes())["weight_map"]
    listings = {path.name: list_tensors(path) for path in files if path.suffix != ".json"}
    tensors: dict[str, Place] = {}
    for name, file in where.items():
        clean = _clean((name,), tensors)
        held = listings[file].tensors if file in listings else {}
        if clean not in held:
            refuse(index, f"{file} lacks the tensor {name}, which the index names", "copy or download the shards again")
        tensors[clean] = held[clean]
    return Listing(index, "shards", tensors, dicts=("",))
