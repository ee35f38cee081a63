"""Reads Inception-2015 weights in any of the layouts in circulation, without running anything from the file."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from ...errors import CheckpointError
from ..weight_files import WeightFile
from . import graphdef
from .checkpoint import check_names, read_state_dict

COUNTER = ".num_batches_tracked"
"""Batches seen in training: in some files, needed by no one."""

_A = {
    "conv": "branch1x1",
    "tower/conv": "branch5x5_1",
    "tower/conv_1": "branch5x5_2",
    "tower_1/conv": "branch3x3dbl_1",
    "tower_1/conv_1": "branch3x3dbl_2",
    "tower_1/conv_2": "branch3x3dbl_3",
    "tower_2/conv": "branch_pool",
}
_B = {
    "conv": "branch3x3",
    "tower/conv": "branch3x3dbl_1",
    "tower/conv_1": "branch3x3dbl_2",
    "tower/conv_2": "branch3x3dbl_3",
}
_C = {
    "conv": "branch1x1",
    "tower/conv": "branch7x7_1",
    "tower/conv_1": "branch7x7_2",
    "tower/conv_2": "branch7x7_3",
    "tower_1/conv": "branch7x7dbl_1",
    "tower_1/conv_1": "branch7x7dbl_2",
    "tower_1/conv_2": "branch7x7dbl_3",
    "tower_1/conv_3": "branch7x7dbl_4",
    "tower_1/conv_4": "branch7x7dbl_5",
    "tower_2/conv": "branch_pool",
}
_D = {
    "tower/conv": "branch3x3_1",
    "tower/conv_1": "branch3x3_2",
    "tower_1/conv": "branch7x7x3_1",
    "tower_1/conv_1": "branch7x7x3_2",
    "tower_1/conv_2": "branch7x7x3_3",
    "tower_1/conv_3": "branch7x7x3_4",
}
_E = {
    "conv": "branch1x1",
    "tower/conv": "branch3x3_1",
    "tower/mixed/conv": "branch3x3_2a",
    "tower/mixed/conv_1": "branch3x3_2b",
    "tower_1/conv": "branch3x3dbl_1",
    "tower_1/conv_1": "branch3x3dbl_2",
    "tower_1/mixed/conv": "branch3x3dbl_3a",
    "tower_1/mixed/conv_1": "branch3x3dbl_3b",
    "tower_2/conv": "branch_pool",
}
_STEM = {
    "conv": "Conv2d_1a_3x3",
    "conv_1": "Conv2d_2a_3x3",
    "conv_2": "Conv2d_2b_3x3",
    "conv_3": "Conv2d_3b_1x1",
    "conv_4": "Conv2d_4a_3x3",
}
_BLOCKS = {
    "mixed": ("Mixed_5b", _A),
    "mixed_1": ("Mixed_5c", _A),
    "mixed_2": ("Mixed_5d", _A),
    "mixed_3": ("Mixed_6a", _B),
    "mixed_4": ("Mixed_6b", _C),
    "mixed_5": ("Mixed_6c", _C),
    "mixed_6": ("Mixed_6d", _C),
    "mixed_7": ("Mixed_6e", _C),
    "mixed_8": ("Mixed_7a", _D),
    "mixed_9": ("Mixed_7b", _E),
    "mixed_10": ("Mixed_7c", _E),
}

TENSORFLOW = _STEM | {
    f"{block}/{layer}": f"{name}.{branch}"
    for block, (name, layers) in _BLOCKS.items()
    for layer, branch in layers.items()
}
"""Layer in the TensorFlow graph -> layer in pytorch-fid's and torch-fidelity's state dict: 94 convolutions."""

_NORM = {"gamma": "weight", "beta": "bias", "moving_mean": "running_mean", "moving_variance": "running_var"}


def read(file: WeightFile, shapes: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights in pytorch-fid's names, which are those of `shapes`, without the counters of batches.

    From a .pth of pytorch-fid or torch-fidelity, StyleGAN's TorchScript or the TensorFlow GraphDef: what the file
    is, is read from its content. Raises `CheckpointError`, which names what is missing, unexpected or of another shape.
    """
    with file.path.open("rb") as opened:
        head = opened.read(1)
    if not head:
        raise CheckpointError(
            f"{file.path} is empty", "a download that was cut off?", "arbench weights fetch inception"
        )
    if head == b"\x0a":  # field 1 of a GraphDef: its first node
        state = from_tensorflow(graphdef.read(file.path))
    else:
        state = read_state_dict(file.path)
        if "layers.conv.weight" in state:
            state = from_torchscript(state)
    state = {name: tensor for name, tensor in state.items() if not name.endswith(COUNTER)}
    check_names({n: t for n, t in shapes.items() if not n.endswith(COUNTER)}, state, file, "Inception-2015")
    return state


def from_tensorflow(constants: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Official graph's constants -> ours: kernels HWIO -> OIHW; a graph without gamma has gamma = 1."""
    state: dict[str, Tensor] = {}
    for layer, name in TENSORFLOW.items():
        if (kernel := constants.get(f"{layer}/conv2d_params")) is not None and kernel.ndim == 4:
            state[f"{name}.conv.weight"] = kernel.permute(3, 2, 0, 1).contiguous()
        for theirs, ours in _NORM.items():
            if (values := constants.get(f"{layer}/batchnorm/{theirs}")) is not None:
                state[f"{name}.bn.{ours}"] = values
        _unit_scale(state, name)
    if (weights := constants.get("softmax/weights")) is not None and weights.ndim == 2:
        state["fc.weight"] = weights.T.contiguous()
    if (biases := constants.get("softmax/biases")) is not None:
        state["fc.bias"] = biases
    return state


def from_torchscript(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """StyleGAN's names -> ours: `layers.<TensorFlow's name>.{weight, beta, mean, var}`, in mixed_9 and mixed_10 with
    underscores for the inner slashes; `output.{weight, bias}`. A name that does not fit is kept, to be reported."""
    names = {"output.weight": "fc.weight", "output.bias": "fc.bias"}
    for layer, ours in TENSORFLOW.items():
        block, _, rest = layer.partition("/")
        inner = rest.replace("/", "_" if block in ("mixed_9", "mixed_10") else ".")
        theirs = f"layers.{block}.{inner}" if rest else f"layers.{block}"
        names[f"{theirs}.weight"] = f"{ours}.conv.weight"
        names[f"{theirs}.beta"] = f"{ours}.bn.bias"
        names[f"{theirs}.mean"] = f"{ours}.bn.running_mean"
        names[f"{theirs}.var"] = f"{ours}.bn.running_var"
    state = {names.get(name, name): tensor for name, tensor in tensors.items()}
    for ours in TENSORFLOW.values():
        _unit_scale(state, ours)
    return state


def _unit_scale(state: dict[str, Tensor], name: str) -> None:
    if f"{name}.bn.bias" in state and f"{name}.bn.weight" not in state:
        state[f"{name}.bn.weight"] = torch.ones_like(state[f"{name}.bn.bias"])
