"""Reads the constants of a TensorFlow GraphDef: just enough of the protobuf wire format, no TensorFlow."""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ...errors import CheckpointError
from ...limits import refuse_beyond

# field numbers of graph.proto, node_def.proto, attr_value.proto and tensor.proto
_NODE, _NAME, _OP, _ATTR = 1, 1, 2, 5
_KEY, _VALUE, _TENSOR = 1, 2, 8
_DTYPE, _SHAPE, _CONTENT, _FLOATS = 1, 2, 4, 5
_DIM, _SIZE = 2, 1
_FLOAT = 1
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5

Field = tuple[int, int | memoryview]


def read(path: Path) -> dict[str, Tensor]:
    """{node name: float32 tensor} of every Const node of float type. Raises `CheckpointError` for a damaged file."""
    try:
        return dict(_constants(memoryview(path.read_bytes())))
    except (LookupError, ValueError, struct.error, TypeError, ArithmeticError, RuntimeError) as error:
        raise CheckpointError(
            f"{path} is not a TensorFlow graph, or is cut off", str(error), "fetch it again, or use the .pth file"
        ) from error


def _constants(graph: memoryview) -> Iterator[tuple[str, Tensor]]:
    for number, node in _fields(graph):
        if number != _NODE:
            continue
        name, operation, tensor = "", "", None
        for inner, value in _fields(_message(node)):
            if inner == _NAME:
                name = bytes(_message(value)).decode()
            elif inner == _OP:
                operation = bytes(_message(value)).decode()
            elif inner == _ATTR:
                attribute = dict(_fields(_message(value)))
                if bytes(_message(attribute[_KEY])) == b"value":
                    tensor = dict(_fields(_message(attribute[_VALUE]))).get(_TENSOR)
        if operation == "Const" and tensor is not None:
            found = _tensor(_message(tensor))
            if found is not None:
                yield name, found


def _tensor(message: memoryview) -> Tensor | None:
    """A TensorProto, or None if it is not of float type. One value given for many elements fills them all."""
    shape: list[int] = []
    content = b""
    floats: list[float] = []
    dtype = 0
    for number, value in _fields(message):
        if number == _DTYPE:
            dtype = _integer(value)
        elif number == _SHAPE:
            dims = [dict(_fields(_message(dim))) for inner, dim in _fields(_message(value)) if inner == _DIM]
            shape = [_integer(dim.get(_SIZE, 0)) for dim in dims]
        elif number == _CONTENT:
            content = bytes(_message(value))
        elif number == _FLOATS:
            packed = bytes(_message(value))
            floats += struct.unpack(f"<{len(packed) // 4}f", packed)
    if dtype != _FLOAT:
        return None
    values = np.frombuffer(content, "<f4") if content else np.array(floats, np.float32)
    count = math.prod(shape)
    if len(values) == 1 and count > 1:
        refuse_beyond(f"a constant of shape {shape}", 4 * count)
        values = np.full(count, values[0], np.float32)
    if len(values) != count:
        raise ValueError(f"a tensor of shape {shape} holds {len(values)} values")
    return torch.from_numpy(values.reshape(shape).astype(np.float32))


def _fields(message: memoryview) -> Iterator[Field]:
    """(number, value) of each field: an integer, or the bytes of a string, message, list or number of fixed size."""
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        number, kind = key >> 3, key & 7
        if kind == _VARINT:
            value, at = _varint(message, at)
            yield number, value
            continue
        if kind == _BYTES:
            length, at = _varint(message, at)
        elif kind in (_FIXED32, _FIXED64):
            length = 4 if kind == _FIXED32 else 8
        else:
            raise ValueError(f"wire type {kind} at byte {at}")
        if at + length > len(message):
            raise ValueError(f"a field of {length} bytes at byte {at} goes past the end")
        yield number, message[at : at + length]
        at += length


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    """The integer at this place, 7 bits a byte from the lowest, and the place after it."""
    value = 0
    for shift in range(0, 70, 7):
        byte = message[at + shift // 7]
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at + shift // 7 + 1
    raise ValueError(f"an integer of more than 10 bytes at byte {at}")


def _message(value: int | memoryview) -> memoryview:
    if isinstance(value, int):
        raise ValueError("a number where a message should be")
    return value


def _integer(value: int | memoryview) -> int:
    if not isinstance(value, int):
        raise ValueError("a message where a number should be")
    return value
