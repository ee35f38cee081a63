"""Images in a file of `torch.save`: one uint8 tensor, read row by row without torch and without executing anything."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ...checkpoints.torch_format import BROKEN, Inert, Program, StoredTensor, TorchFile, read_torch_file
from ...errors import InputError
from .ahead import AGAIN, Header, Item, Shard
from .arrays import array_headers, array_rows, as_labels, row_layout
from .foreign import refuse_torch
from .tables import LABEL_NAMES


class TorchReader:
    """A uint8 tensor (N, 3, H, W) or (N, H, W, 3), grey too; or a dict with one, and perhaps integer labels (N,)."""

    classes: Mapping[int, str] = {}
    passed_over: Mapping[str, int] = {}
    seeks = True
    portable = False

    def __init__(self, name: str, path: Path) -> None:
        self.name = name
        self._path = path
        try:
            file = read_torch_file(path)
        except PermissionError as error:
            raise InputError(f"cannot read {path}", error.strerror or str(error), "check its permissions") from error
        except FileNotFoundError as error:
            raise InputError(f"no file at {path}", f"asked for as {name!r}", "check the path") from error
        except (*BROKEN, Program) as error:
            raise InputError(f"{path} is not a torch file of tensors, or is damaged", str(error), AGAIN) from error
        tensor = _images(file.content)
        if tensor is None:
            refuse_torch(path, file.content)
        try:
            self._start, _ = file.span(tensor)
        except (KeyError, ValueError) as error:
            raise InputError(f"{path} is damaged", "numbers of its tensor are not in it", AGAIN) from error
        self._layout = row_layout(
            str(path),
            tensor.shape,
            not tensor.contiguous,
            np.dtype(tensor.dtype),
            "torch.save(images.contiguous(), FILE)",
        )
        self._labels = _labels(file, tensor.shape[0])
        self.count = tensor.shape[0]

    def headers(self, limit: int | None) -> Iterator[Header]:
        return array_headers(self._layout, self._labels, limit)

    def items(self, shard: Shard) -> Iterator[Item]:
        return array_rows(self._path, self._start, self._layout, self._labels, shard)


def _images(content: object) -> StoredTensor | None:
    """The one uint8 tensor of four axes."""
    several = isinstance(content, dict) and not isinstance(content, Inert)
    values = list(content.values()) if several else [content]  # type: ignore[attr-defined]
    found = [
        value
        for value in values
        if isinstance(value, StoredTensor) and value.dtype == "uint8" and len(value.shape) == 4
    ]
    return found[0] if len(found) == 1 else None


def _labels(file: TorchFile, count: int) -> NDArray[np.int64] | None:
    content = file.content if isinstance(file.content, dict) else {}
    tensor = next((content[name] for name in LABEL_NAMES if name in content), None)
    if not isinstance(tensor, StoredTensor) or tensor.shape != (count,) or not tensor.contiguous:
        return None
    if np.dtype(tensor.dtype).kind not in "iu":
        return None
    start, size = file.span(tensor)
    with file.path.open("rb") as stream:
        stream.seek(start)
        return as_labels(np.frombuffer(stream.read(size), dtype=tensor.dtype), file.path)
