"""Reads weight files of the layouts in circulation, safely, and loads them into a network strictly."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ...errors import CheckpointError
from ...limits import refuse_inflating
from ..weight_files import WeightFile
from .torchscript import is_torchscript, read_torchscript

SHOWN = 5
"""Names listed in a message before it says "and N more"."""


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """Tensors by name, on the CPU, of a .safetensors file, a TorchScript archive or a file of `torch.save`.

    A wrapping {"state_dict": ...} and the prefix "module." of a data-parallel network are taken off. No code in the
    file runs. Raises `CheckpointError` if there is no state dict in it.
    """
    if is_torchscript(path):
        return read_torchscript(path)
    content: Any
    refuse_inflating(path)
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            content = load_file(path)
        else:
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # pickle, zip and safetensors each have their own
        # torch's own words advise to have the file run its code
        why = f"({_first_line(error)})" if path.suffix == ".safetensors" else "of tensors alone, or is damaged"
        raise CheckpointError(
            f"cannot read the weights in {path}", f"it is not a file of weights {why}", "get the file again"
        ) from error
    if isinstance(content, Mapping) and isinstance(content.get("state_dict"), Mapping):
        content = content["state_dict"]
    tensors = {}
    if isinstance(content, Mapping):
        tensors = {str(name): value for name, value in content.items() if isinstance(value, Tensor)}
    if not tensors:
        raise CheckpointError(f"no state dict in {path}", f"it holds a {type(content).__name__} without tensors")
    if all(name.startswith("module.") for name in tensors):
        tensors = {name.removeprefix("module."): tensor for name, tensor in tensors.items()}
    return tensors


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [""])[0]


def check_names(expected: Mapping[str, Tensor], state: Mapping[str, Tensor], file: WeightFile, what: str) -> None:
    """Raises `CheckpointError` that names what is missing, unexpected or of another shape in `state`."""
    missing = [name for name in expected if name not in state]
    unexpected = [name for name in state if name not in expected]
    reshaped = [
        f"{name} {tuple(state[name].shape)} for {tuple(tensor.shape)}"
        for name, tensor in expected.items()
        if name in state and state[name].shape != tensor.shape
    ]
    found = {"missing": missing, "unexpected": unexpected, "of another shape": reshaped}
    found["not finite"] = [name for name, tensor in state.items() if not _is_finite(tensor)]
    if any(found.values()):
        raise CheckpointError(
            f"{file.path} does not hold the weights of {what}",
            "; ".join(f"{kind}: {_some(names)}" for kind, names in found.items() if names),
            f"give the right file: --weights {file.name}=PATH",
        )


def _is_finite(tensor: Tensor) -> bool:
    return not tensor.is_floating_point() or bool(tensor.float().isfinite().all())


def _some(names: list[str]) -> str:
    shown = ", ".join(names[:SHOWN])
    return f"{shown} and {len(names) - SHOWN} more" if len(names) > SHOWN else shown


def assign(network: nn.Module, state: Mapping[str, Tensor]) -> nn.Module:
    """`network`, which may be on the meta device, in eval mode with the tensors of `state` in float32, frozen."""
    network.load_state_dict({name: tensor.float().contiguous() for name, tensor in state.items()}, assign=True)
    return network.requires_grad_(False).eval()
