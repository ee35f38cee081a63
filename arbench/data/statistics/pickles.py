"""Statistics that are a pickle, such as EDM2's: read by an unpickler that knows plain values and float arrays only.

No function named in the file is called, not even NumPy's own: arrays are noted down as they come and built from their
bytes afterwards.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import InputError
from ...limits import Count, refuse_beyond
from ...npy_files import npy_header
from ...pickle_text import check_pickle

OBJECT = "O8"
"""The type of an array of Python objects, as numpy.save makes one of a dict."""
NUMBERS = {"f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "b1"}


class _Dtype:
    """Stands for numpy.dtype."""

    def __init__(self, name: object = "", align: object = False, copy: object = False) -> None:
        if not isinstance(name, str) or name not in {*NUMBERS, OBJECT}:
            raise pickle.UnpicklingError(f"an array of type {name!r}")
        self.name, self.order = name, "<"

    def __setstate__(self, state: object) -> None:
        if not isinstance(state, tuple) or len(state) < 2 or state[1] not in ("<", ">", "|", "="):
            raise pickle.UnpicklingError("an array of a type with state")
        self.order = state[1]

    def numpy(self) -> np.dtype[Any]:
        return np.dtype(("<" if self.order in "|=" else self.order) + self.name)


class _Array:
    """Stands for an array until its bytes are known."""

    value: Any = None

    def __setstate__(self, state: object) -> None:
        if not isinstance(state, tuple) or len(state) != 5:
            raise pickle.UnpicklingError("an array of another layout")
        _, shape, dtype, fortran, data = state
        if isinstance(data, list):
            if shape != () or len(data) != 1:
                raise pickle.UnpicklingError("an array of several objects")
            self.value = _plain(data[0], Count())
            return
        self.value = _from_bytes(data, dtype, shape, "F" if fortran else "C")


def _from_bytes(data: object, dtype: object, shape: object, order: object) -> np.ndarray[Any, Any]:
    if not isinstance(data, bytes | bytearray) or not isinstance(dtype, _Dtype) or dtype.name == OBJECT:
        raise pickle.UnpicklingError("an array that is not of numbers")
    if not isinstance(shape, tuple) or not all(type(side) is int and side >= 0 for side in shape):
        raise pickle.UnpicklingError("an array without shape")
    return np.frombuffer(data, dtype=dtype.numpy()).reshape(shape, order="F" if order == "F" else "C")


def _reconstruct(kind: object, shape: object, code: object) -> _Array:
    return _Array()


def _frombuffer(data: object, dtype: object, shape: object, order: object, axes: object = None) -> _Array:
    array = _Array()
    array.value = _from_bytes(data, dtype, shape, order)
    return array


def _scalar(dtype: object, data: object) -> Any:
    return _from_bytes(data, dtype, (), "C")[()]


def _encode(text: object, codec: object = "latin1") -> bytes:
    """How protocol 2 writes bytes."""
    if not isinstance(text, str) or codec != "latin1":
        raise pickle.UnpicklingError("text in place of bytes")
    return text.encode("latin1")


STAND_INS: dict[tuple[str, str], Callable[..., Any]] = {
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Dtype,
    ("_codecs", "encode"): _encode,
    **{(f"numpy.{core}.multiarray", "_reconstruct"): _reconstruct for core in ("core", "_core")},
    **{(f"numpy.{core}.multiarray", "scalar"): _scalar for core in ("core", "_core")},
    **{(f"numpy.{core}.numeric", "_frombuffer"): _frombuffer for core in ("core", "_core")},
}


class _Restricted(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in STAND_INS:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}")
        stand_in = STAND_INS[module, name]
        if isinstance(stand_in, type):
            return stand_in
        return lambda *values: stand_in(*values)  # a new one: a pickle can set attributes of what it is given


def load(path: Path) -> Any:
    """Dicts, lists, texts, numbers and arrays of numbers; `InputError` for a file that asks for anything else."""
    try:
        refuse_beyond(str(path), path.stat().st_size)
        data = path.read_bytes()
        check_pickle(data)
        return _plain(_Restricted(io.BytesIO(data)).load(), Count())
    except InputError:
        raise
    except Exception as error:  # a hostile or broken pickle can raise anything
        raise InputError(
            f"{path} is not a pickle of plain numbers, or is damaged",
            f"{error or type(error).__name__} (nothing in it was run)",
            "save mu and sigma with numpy.savez and give --reference-kind",
        ) from error


def moments_in(path: Path) -> dict[str, Any] | None:
    """The dict of mu and sigma that an npy file holds as a pickled object; None for any other array."""
    try:
        refuse_beyond(str(path), path.stat().st_size)
        with path.open("rb") as file:
            shape, _, dtype = npy_header(file)
            if not dtype.hasobject or shape != ():
                return None
            data = file.read()
        check_pickle(data)
        value = _plain(_Restricted(io.BytesIO(data)).load(), Count())
    except Exception:  # a hostile or broken file can raise anything; its reader says what is wrong
        return None
    return value if isinstance(value, dict) and {"mu", "sigma"} <= value.keys() else None


def _plain(value: Any, count: Count) -> Any:
    count.one_more()
    if isinstance(value, _Array):
        if value.value is None:
            raise pickle.UnpicklingError("an array without content")
        return value.value
    if isinstance(value, dict):
        return {key: _plain(entry, count) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry, count) for entry in value]
    if isinstance(value, str | int | float | bool | np.generic) or value is None:
        return value
    raise pickle.UnpicklingError(f"it holds a {type(value).__name__}")
