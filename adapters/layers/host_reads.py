"""Where a call makes the host wait for the device, or feeds it numbers of the host: what no CUDA graph can hold.

Seen on any device, a CPU included: by the operations that read a value or a size off a tensor, and by tensors made of
Python's numbers.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

NUMBER = "reads a number off a tensor (`.item()`, `int()`, `if`)"
READS: Mapping[str, str] = {
    "aten::_local_scalar_dense": NUMBER,
    "aten::equal": "compares tensors on the host (`torch.equal`)",
    "aten::nonzero": "needs to know how many elements are true (`nonzero`)",
    "aten::masked_select": "needs to know how many elements are true (`masked_select`)",
    "aten::bincount": "needs to know the largest element (`bincount`)",
    **{
        f"aten::{name}": "needs to know how many elements differ (`unique`)"
        for name in ("_unique", "_unique2", "unique_dim", "unique_consecutive", "unique_dim_consecutive")
    },
}
MASKED = ("aten::index", "aten::index_put", "aten::index_put_")
METHODS: Mapping[Any, str] = {
    # in inference mode they do not show up as operations
    **dict.fromkeys((Tensor.item, Tensor.__int__, Tensor.__float__, Tensor.__bool__, Tensor.__index__), NUMBER),
    Tensor.tolist: "reads a tensor into a list (`tolist`)",
    Tensor.numpy: "hands a tensor to NumPy (`numpy`)",
    Tensor.__array__: "hands a tensor to NumPy",
    Tensor.cpu: "copies a tensor to the host (`cpu`)",
}


class Reads:
    """`first`: what read back first and where, "" if nothing did."""

    def __init__(self) -> None:
        self.first = ""

    def note(self, what: str) -> None:
        if what and not self.first:
            self.first = f"{what}, {_place()}"


@contextmanager
def watched() -> Iterator[Reads]:
    """Watches the calls of torch within, without gradients; they do what they always do.

    Not in inference mode, in which some operations would not be seen.
    """
    reads = Reads()
    with torch.inference_mode(False), torch.no_grad(), _Functions(reads), _Operations(reads):
        yield reads


class _Functions(TorchFunctionMode):
    def __init__(self, reads: Reads) -> None:
        super().__init__()
        self._reads = reads

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        self._reads.note(METHODS.get(func, ""))
        return func(*args, **(kwargs or {}))


class _Operations(TorchDispatchMode):
    def __init__(self, reads: Reads) -> None:
        super().__init__()
        self._reads = reads

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if not self._reads.first:
            self._reads.note(_what(func, args, kwargs or {}, result))
        return result


def _what(func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], result: Any) -> str:
    name: str = func._schema.name
    if name in READS:
        return READS[name]
    # one value for all goes where a mask is true, uncounted
    if name in MASKED and any(_is_mask(each) for each in args[1]) and (len(args) < 3 or args[2].numel() != 1):
        return "needs to know how many elements of a mask are true (indexing by bool)"
    if name == "aten::repeat_interleave" and kwargs.get("output_size") is None and func._overloadname == "Tensor":
        return "needs to know the sum of the repeats (`repeat_interleave` without `output_size`)"
    if name == "aten::lift_fresh" and result.ndim:
        return "makes a tensor of numbers of the host (`torch.tensor`)"
    if name in ("aten::_to_copy", "aten::copy_"):
        source, target = (args[0], result) if name == "aten::_to_copy" else (args[1], args[0])
        return _across(source, target)
    return ""


def _across(source: Tensor, target: Tensor) -> str:
    """A copy between devices: to the host it waits, from the host it repeats what was there when it was recorded."""
    if source.device.type == target.device.type or not source.ndim:
        return ""
    return "copies a tensor to the host" if target.device.type == "cpu" else "copies a tensor from the host"


def _is_mask(index: Any) -> bool:
    return isinstance(index, Tensor) and index.dtype in (torch.bool, torch.uint8)


_OWN = {str(Path(__file__)), str(Path(__file__).with_name("graph.py"))}
_TORCH = str(Path(torch.__file__).parent)


def _place() -> str:
    """The innermost line that is neither torch's nor this module's."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        code = frame.f_code
        if code.co_filename not in _OWN and not code.co_filename.startswith((_TORCH, "<")):
            return f"in {Path(code.co_filename).name}, line {frame.f_lineno} ({code.co_name})"
        frame = frame.f_back
    return "somewhere"
