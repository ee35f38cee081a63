"""What a file of `torch.save` holds, read without torch: no class of the file is imported and nothing in it is called.

A pickle can name any function. Here every name stands for an inert object that remembers what it was called; only dicts
and the records of tensors are understood. So training arguments, NumPy numbers, paths and configurations beside the
weights are let be, whatever wrote them.
"""

from __future__ import annotations

import io
import pickle
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Literal, NamedTuple

from ..pickle_text import check_pickle

MAGIC = 0x1950A86A20F9469CFC6C
"""First pickle of a file in torch's format before 1.6, which is several pickles and then the numbers."""
PICKLE_BYTES = 1 << 28
"""The pickle of an archive; the largest model's takes a few megabytes."""
STORAGES = {
    **{"DoubleStorage": "float64", "FloatStorage": "float32", "HalfStorage": "float16", "BFloat16Storage": "bfloat16"},
    **{"LongStorage": "int64", "IntStorage": "int32", "ShortStorage": "int16", "CharStorage": "int8"},
    **{"ByteStorage": "uint8", "BoolStorage": "bool", "UntypedStorage": "uint8"},
    **{"ComplexFloatStorage": "complex64", "ComplexDoubleStorage": "complex128"},
}
WIDTHS = {
    **{"float64": 8, "float32": 4, "float16": 2, "bfloat16": 2, "int64": 8, "int32": 4, "int16": 2, "int8": 1},
    **{"uint8": 1, "bool": 1, "complex64": 8, "complex128": 16, "uint16": 2, "uint32": 4, "uint64": 8},
    **{"float8_e4m3fn": 1, "float8_e5m2": 1, "float8_e4m3fnuz": 1, "float8_e5m2fnuz": 1},
}
"""Bytes of a number."""
BROKEN = (
    *(pickle.UnpicklingError, zipfile.BadZipFile, EOFError, OSError, NotImplementedError, MemoryError, RuntimeError),
    *(ValueError, TypeError, AttributeError, KeyError, IndexError, OverflowError, RecursionError, ImportError),
)
"""What a file that is cut short or altered raises when it is read."""


class Program(Exception):
    """The archive is TorchScript: code, not tensors."""


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """A tensor that lies in the file: `start` and `stride` count elements of its storage."""

    dtype: str
    shape: tuple[int, ...]
    stride: tuple[int, ...] = ()
    start: int = 0
    storage: str = ""

    @property
    def contiguous(self) -> bool:
        expected = 1
        for side, step in zip(reversed(self.shape), reversed(self.stride), strict=True):
            if side != 1 and step != expected:
                return False
            expected *= side
        return True


class Inert(dict[Any, Any]):
    """Stands for an object of another class. It is a dict, since some of them are; all else about it is dropped."""

    named = ""
    """What the file calls the class or function: "numpy.float64"."""

    def __new__(cls, *_: object, **__: object) -> Inert:
        return super().__new__(cls)

    def __init__(self, *_: object, **__: object) -> None:
        super().__init__()

    def __setstate__(self, state: object) -> None:
        pass

    def append(self, value: object) -> None:
        """Of a list's subclass."""

    def extend(self, values: object) -> None:
        """Of a list's subclass."""

    def add(self, value: object) -> None:
        """Of a set's subclass."""

    def __hash__(self) -> int:  # type: ignore[override] # as a key of a dict
        return id(self)

    def __eq__(self, other: object) -> bool:
        return self is other


class _Dict(dict[Any, Any]):
    """An OrderedDict; a state dict has an attribute `_metadata`, which is dropped."""

    def __setstate__(self, state: object) -> None:
        pass


class _Storage(NamedTuple):
    dtype: str
    key: str
    elements: int


def _tensor(storage: object, start: object, shape: object, stride: object, *_: object) -> StoredTensor:
    if not isinstance(storage, _Storage) or not isinstance(shape, tuple) or not isinstance(stride, tuple):
        raise pickle.UnpicklingError("a tensor without storage")
    numbers = (start, *shape, *stride)
    if len(shape) != len(stride) or not all(type(number) is int and number >= 0 for number in numbers):
        raise pickle.UnpicklingError("a tensor without shape")
    return StoredTensor(storage.dtype, shape, stride, start, storage.key)  # type: ignore[arg-type]


def _tensor_of_type(
    storage: Any, start: Any, shape: Any, stride: Any, grad: Any, hooks: Any, kind: Any, *_: Any
) -> Any:
    dtype = str(getattr(kind, "named", "")).removeprefix("torch.")
    if not isinstance(storage, _Storage) or dtype not in WIDTHS:
        raise pickle.UnpicklingError(f"a tensor of type {dtype!r}")
    return _tensor(storage._replace(dtype=dtype), start, shape, stride)


def _parameter(data: object, *_: object) -> object:
    return data


def _subclass(function: object, kind: object, arguments: object, state: object = None) -> object:
    """A tensor of a class of its own: the tensor."""
    if isinstance(function, _StandIn) and isinstance(arguments, tuple):
        return function(*arguments)
    return Inert()


class _StandIn:
    """A function of torch that a file may name, as its counterpart here; nothing can be set on it."""

    __slots__ = ("_function",)

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function

    def __call__(self, *arguments: Any) -> Any:
        return self._function(*arguments)

    def __setstate__(self, state: object) -> None:
        raise pickle.UnpicklingError("a function with state")


KNOWN = {
    ("collections", "OrderedDict"): _Dict,
    ("torch._utils", "_rebuild_tensor"): _StandIn(_tensor),
    ("torch._utils", "_rebuild_tensor_v2"): _StandIn(_tensor),
    ("torch._utils", "_rebuild_tensor_v3"): _StandIn(_tensor_of_type),
    ("torch._utils", "_rebuild_parameter"): _StandIn(_parameter),
    ("torch._utils", "_rebuild_parameter_with_state"): _StandIn(_parameter),
    ("torch._tensor", "_rebuild_from_type_v2"): _StandIn(_subclass),
}


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: IO[bytes]) -> None:
        super().__init__(file, encoding="latin1")
        self.widths: dict[str, int] = {}
        """Key of a storage -> bytes of one of its numbers."""

    def find_class(self, module: str, name: str) -> Any:
        known = KNOWN.get((module, name))
        return known if known is not None else type("Inert", (Inert,), {"named": f"{module}.{name}"})

    def persistent_load(self, reference: Any) -> _Storage:
        kind, storage, key, _, elements = reference[:5]
        name = str(getattr(storage, "named", "")).rpartition(".")[2]
        if (
            kind != "storage"
            or name not in STORAGES
            or not isinstance(key, str)
            or (len(reference) > 5 and reference[5])
        ):
            raise pickle.UnpicklingError(f"a storage of type {name!r}")
        self.widths[key] = WIDTHS[STORAGES[name]]
        return _Storage(STORAGES[name], key, int(elements))


@dataclass(frozen=True, slots=True)
class TorchFile:
    """`content` is plain values, dicts, lists, `StoredTensor` and `Inert`; `storages` says where the numbers lie."""

    path: Path
    form: Literal["zip", "old", "pickle"]
    """"pickle": written by pickle alone, without torch."""
    content: Any
    storages: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    """Key -> first byte in the file, and how many bytes."""

    def span(self, tensor: StoredTensor) -> tuple[int, int]:
        """First byte of the tensor's first element, and bytes from there to the last; ValueError if not in the file."""
        first, size = self.storages[tensor.storage]
        width = WIDTHS[tensor.dtype]
        last = sum((side - 1) * step for side, step in zip(tensor.shape, tensor.stride, strict=True))
        count = 0 if 0 in tensor.shape else last + 1
        if (tensor.start + count) * width > size:
            raise ValueError("a tensor reaches beyond its storage")
        return first + tensor.start * width, count * width


def is_torch(path: Path, head: bytes) -> bool:
    """Whether a file that begins with `head` is of `torch.save`: an archive with its pickle, or the old format."""
    if head.startswith(b"PK\x03\x04"):
        try:
            with zipfile.ZipFile(path) as archive:
                return any(name.endswith("/data.pkl") for name in archive.namelist())
        except BROKEN:
            return False
    return head.startswith(b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19")


def read_torch_file(path: Path) -> TorchFile:
    """The contents of a torch file or a plain pickle. Raises one of `BROKEN`, or `Program`."""
    with path.open("rb") as file:
        if file.read(2) == b"PK":
            return _archive(path)
        file.seek(0)
        return _old(path, file)


def _archive(path: Path) -> TorchFile:
    with zipfile.ZipFile(path) as archive, path.open("rb") as file:
        members = {info.filename: info for info in archive.infolist()}
        pickles = [name for name in members if name.endswith("/data.pkl")]
        if not pickles:
            raise pickle.UnpicklingError("no data.pkl in it")
        root = min(pickles, key=len).removesuffix("data.pkl")
        if f"{root}constants.pkl" in members:
            raise Program
        if (order := members.get(f"{root}byteorder")) is not None:
            if order.file_size > len("little"):
                raise ValueError("no byte order")
            if archive.read(order) == b"big":
                raise ValueError("numbers in another byte order")
        if members[f"{root}data.pkl"].file_size > PICKLE_BYTES:
            raise ValueError("a pickle of another size")
        content = _load(io.BytesIO(archive.read(f"{root}data.pkl")))
        storages = {}
        for name, info in members.items():
            if name.startswith(f"{root}data/"):
                if info.compress_type != zipfile.ZIP_STORED:
                    raise ValueError("compressed numbers")
                storages[name.removeprefix(f"{root}data/")] = (_first_byte(file, info), info.file_size)
    return TorchFile(path, "zip", content, storages)


def _load(file: IO[bytes]) -> Any:
    check_pickle(file)
    return _Unpickler(file).load()


def _first_byte(file: IO[bytes], info: zipfile.ZipInfo) -> int:
    """Where a stored member begins; its name and extra field may be longer here than in the archive's directory."""
    file.seek(info.header_offset)
    fixed = file.read(30)
    return info.header_offset + 30 + int.from_bytes(fixed[26:28], "little") + int.from_bytes(fixed[28:30], "little")


def _old(path: Path, file: IO[bytes]) -> TorchFile:
    first = _load(file)
    if first != MAGIC:
        return TorchFile(path, "pickle", first)
    _load(file)  # the version
    _load(file)  # the machine
    check_pickle(file)
    unpickler = _Unpickler(file)
    content, keys = unpickler.load(), _load(file)
    end = path.stat().st_size
    storages = {}
    for key in keys:
        size = int.from_bytes(file.read(8), "little", signed=True) * unpickler.widths[key]
        first_byte = file.tell()
        if size < 0 or first_byte + size > end:
            raise EOFError("it ends too early")
        storages[key] = (first_byte, size)
        file.seek(size, 1)
    return TorchFile(path, "old", content, storages)


def describe(value: object) -> str:
    """What a value of a torch file is, for an error: "float32 (3, 4)", "a number", "numpy.float64"."""
    if isinstance(value, StoredTensor):
        return f"{value.dtype} {value.shape}"
    if isinstance(value, Inert):
        name = value.named
        if name.startswith("numpy."):
            return "a NumPy number" if name.endswith("scalar") else "a NumPy array"
        return name or "an object"
    return "dict" if isinstance(value, _Dict) else type(value).__name__
