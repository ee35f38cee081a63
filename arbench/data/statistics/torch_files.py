"""Torch files of arrays and tensors, without running what they may carry; torch is imported when one is read."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

from ...errors import InputError
from ...limits import refuse_inflating


def load(path: Path) -> Any:
    """The tensor, or the dict of tensors and NumPy arrays, in a file of `torch.save`, by torch's restricted reader."""
    import numpy as np
    import torch
    from numpy._core import multiarray

    kinds = {type(np.dtype(kind)) for kind in ("f4", "f8", "i4", "i8")}
    arrays: list[Any] = [np.ndarray, np.dtype, *sorted(kinds, key=str)]
    for module in ("numpy._core.multiarray", "numpy.core.multiarray"):  # NumPy 2 and before
        for name in ("_reconstruct", "scalar"):
            arrays.append((getattr(multiarray, name), f"{module}.{name}"))
    refuse_inflating(path)
    try:
        with torch.serialization.safe_globals(arrays), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:  # torch raises UnpicklingError, RuntimeError, EOFError, KeyError, ... as it comes
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(
            f"{path} is not a torch file of plain tensors and arrays, or is damaged",
            f"{reason} (pickled objects are never loaded)",
            "let torch-fidelity write its cache again",
        ) from error
