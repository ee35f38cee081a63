"""Reads the tensors of a TorchScript archive without running anything that is in it.

`torch.jit.load` compiles and may run code of the file. But an archive is a zip whose `data.pkl` describes the module as
plain objects, with each tensor's numbers in a member `data/KEY`. So a pickle reader that knows tensors, ordered
dictionaries and objects without behaviour, and refuses all else, gets the state dict.
"""

from __future__ import annotations

import io
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...errors import CheckpointError
from ...limits import Count, refuse_inflating
from ...npy_files import zip_members
from ...pickle_text import check_pickle

_STORAGES = {
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "DoubleStorage": torch.float64,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}


def is_torchscript(path: Path) -> bool:
    """Whether the file is a zip with TorchScript's table of constants, which `torch.save` does not write."""
    return any(name.endswith("/constants.pkl") for name in zip_members(path))


def read_torchscript(path: Path) -> dict[str, Tensor]:
    """Every tensor attribute of the module by its dotted name, on the CPU: parameters, buffers and plain tensors.

    Raises `CheckpointError` for a damaged archive, and for one that asks for anything but tensors and plain objects.
    """
    refuse_inflating(path)
    try:
        with zipfile.ZipFile(path) as archive:
            description = next(
                name for name in archive.namelist() if name.count("/") == 1 and name.endswith("/data.pkl")
            )
            root = description.removesuffix("data.pkl")
            pickled = archive.read(description)
            check_pickle(pickled)
            module = _Reader(io.BytesIO(pickled), archive, root).load()
            return dict(_tensors(module, Count()))
    except CheckpointError:
        raise
    except Exception as error:  # a pickle of unknown origin can fail in any way
        raise CheckpointError(
            f"cannot read {path} as a TorchScript archive", f"{type(error).__name__}: {error}", "get the file again"
        ) from error


class _Object:
    """A module of the archive: its attributes and nothing else."""

    state: Any = None

    def __setstate__(self, state: Any) -> None:
        self.state = state


def _first(value: Any, *_: object) -> Any:
    """A typed list or dictionary without its type."""
    return value


class _Reader(pickle.Unpickler):
    def __init__(self, file: io.BytesIO, archive: zipfile.ZipFile, root: str) -> None:
        super().__init__(file)
        self._archive, self._root = archive, root
        self._storages: dict[str, Tensor] = {}

    def find_class(self, module: str, name: str) -> Any:
        if module == "torch" and name in _STORAGES:
            return _STORAGES[name]
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if module == "torch._utils" and name in ("_rebuild_tensor", "_rebuild_tensor_v2"):
            return _tensor
        if module == "torch.jit._pickle" and (name == "restore_type_tag" or name.startswith("build_")):
            return _first
        if module.startswith("__torch__"):
            return _Object
        raise CheckpointError(
            f"the archive asks for {module}.{name}",
            "only tensors and plain objects are read, so that no code in a weight file can run",
            "use the file of the original authors, or a .safetensors copy",
        )

    def persistent_load(self, pid: Any) -> Tensor:
        _, dtype, key, _, count = pid
        if key not in self._storages:
            data = bytearray(self._archive.read(f"{self._root}data/{key}"))
            if len(data) != count * dtype.itemsize:
                raise ValueError(f"data/{key} holds {len(data)} bytes where {count} {dtype} belong")
            flat = torch.frombuffer(data, dtype=dtype) if data else torch.empty(0, dtype=dtype)
            self._storages[key] = flat
        return self._storages[key]


def _tensor(storage: Tensor, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: object) -> Tensor:
    return storage.as_strided(size, stride, offset)  # which refuses what reaches beyond the storage


def _tensors(value: Any, count: Count, prefix: str = "") -> Iterator[tuple[str, Tensor]]:
    count.one_more()
    if isinstance(value, _Object):
        value = value.state
    if isinstance(value, Tensor):
        yield prefix, value
    elif isinstance(value, dict):
        for name, item in value.items():
            yield from _tensors(item, count, f"{prefix}.{name}" if prefix else str(name))
