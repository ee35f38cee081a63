"""Checkpoints as training code writes them: the part that fits is found and said, and nothing of a file is executed."""

from __future__ import annotations

import argparse
import collections
import json
import os
import pathlib
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from arbench import registry, weight_parts, weights
from arbench.adapters.layers.checkpoint import build_and_load, read_state_dict, seeded
from arbench.checkpoints import parts
from arbench.checkpoints.listing import list_tensors
from arbench.errors import CheckpointError
from arbench.protocols import Card, Checkpoint, LoadSpec

CARD = registry.card("tokenizers/llamagen-mini").derive(
    name="mine/net", checkpoint=Checkpoint(file="net.pt", source="mine"), parameters=None
)


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.blocks = nn.Linear(3, 4), nn.ModuleList(nn.Linear(4, 4) for _ in range(2))


def drawn(seed: int) -> dict[str, Tensor]:
    with seeded(seed):
        return dict(Network().state_dict())


SMALL, OTHER = drawn(0), drawn(1)


def loaded(path: Path, part: str = "", card: Card = CARD) -> dict[str, Tensor]:
    return dict(build_and_load(Network, card, LoadSpec(weights=path, part=part)).state_dict())


def same(found: dict[str, Tensor], wanted: dict[str, Tensor]) -> bool:
    return found.keys() == wanted.keys() and all(torch.equal(found[key], wanted[key]) for key in wanted)


def under(prefix: str, state: dict[str, Tensor] = SMALL) -> dict[str, Tensor]:
    return {prefix + key: value for key, value in state.items()}


def inserted(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {key.replace("blocks.0.", "blocks.0._orig_mod."): value for key, value in state.items()}


OPTIMIZER = {"state": {n: {"step": torch.tensor(1.0), "exp_avg": torch.ones(4, 4)} for n in range(6)}}
LAYOUTS: dict[str, Any] = {
    "plain": SMALL,
    "ddp": {"model": under("module."), "optimizer": OPTIMIZER, "epoch": 3},
    "compiled": under("_orig_mod."),
    "compiled ddp": {"net": under("module._orig_mod.")},
    "compiled block": {"model": inserted(SMALL)},
    "model.": under("model."),
    "net.": under("net."),
    "trainer": {"trainer": {"var_wo_ddp": SMALL, "vae_local": {"x": torch.ones(1)}, "var_opt": OPTIMIZER}, "iter": 0},
    "lightning": {"state_dict": under("generator.") | {"loss.lpips.w": torch.ones(2)}, "hyper_parameters": {"lr": 0.1}},
    "beside": {**SMALL, "optimizer": OPTIMIZER},
}


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts_of_training_code_load(tmp_path: Path, layout: str, legacy: bool) -> None:
    torch.save(LAYOUTS[layout], tmp_path / "w.pt", _use_new_zipfile_serialization=not legacy)
    assert same(loaded(tmp_path / "w.pt"), SMALL)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64, torch.float8_e4m3fn])
def test_other_number_formats_load(tmp_path: Path, dtype: torch.dtype) -> None:
    state = {key: value.to(dtype) for key, value in SMALL.items()}
    torch.save({"model": state}, tmp_path / "w.pt")
    save_file(state, tmp_path / "w.safetensors")
    for name in ("w.pt", "w.safetensors"):
        assert same(loaded(tmp_path / name), {key: value.float() for key, value in state.items()})


# ---- several parts ---------------------------------------------------------------------------------------------------

TWINS: dict[str, Any] = {
    "ema": {"model": OTHER, "ema": SMALL, "steps": 5},
    "model_ema": {"model_ema": under("module."), "model": under("module.", OTHER)},
    "trainer.ema": {"trainer": {"net": OTHER, "ema": SMALL}},
    "ema.ema_model": {"model": OTHER, "ema": under("online_model.", OTHER) | under("ema_model.")},
    "state_dict.net_ema": {"state_dict": under("net.", OTHER) | under("net_ema.")},
    "shadow": {"model": OTHER, "shadow": SMALL},
    "ema.shadow": {"model": OTHER, "ema": {"decay": 0.9, "shadow": SMALL}},
    "averaged_model": {"model": OTHER, "averaged_model": under("module.") | {"n_averaged": torch.tensor(3)}},
    "average_model": {"model": OTHER, "average_model": SMALL},
    "ema_0.999": {"model": OTHER, "ema_0.999": SMALL},
    "netEMA": {"net": OTHER, "netEMA": SMALL},
    "EMAModel": {"state_dict": OTHER, "EMAModel": SMALL},
    "module.ema": {"module": {"model": OTHER, "ema": SMALL}},
}


@pytest.mark.parametrize("name", TWINS)
def test_averaged_weights_are_loaded_and_it_is_said(tmp_path: Path, name: str) -> None:
    path = tmp_path / "w.pt"
    torch.save(TWINS[name], path)
    part = weight_parts.part_of(CARD, path)
    assert part.name == name
    assert f"{name} of w.pt is loaded" in part.note
    assert same(loaded(path), SMALL)
    assert same(loaded(path, part.name), SMALL)
    another = part.note.rpartition("--weights mine/net=")[2].rstrip(")")
    given = {"mine/net": another}
    assert weights.find(CARD, given) == path
    chosen = weight_parts.part_of(CARD, path, given)
    assert same(loaded(path, chosen.name), OTHER)
    assert weight_parts.digest_of(path, chosen.name) != weight_parts.digest_of(path, part.name)


def test_two_networks_of_one_kind_in_one_dict_are_told_apart(tmp_path: Path) -> None:
    """No name says which is the mean: the first is loaded, and the other is said to be there."""
    mini = registry.card("tokenizers/llamagen-mini")
    path = weights.find(mini)
    assert path is not None
    state = read_state_dict(path)
    save_file(under("a.", state) | {key: value.clone() for key, value in under("b.", state).items()}, tmp_path / "w")
    part = weight_parts.part_of(mini, tmp_path / "w", {mini.name: str(tmp_path / "w")})
    assert part.name == "a"
    assert "a of w is loaded, and b is there too" in part.note


@pytest.mark.parametrize(
    "averages",
    [
        {"ema": {"shadow_params": list(SMALL.values()), "decay": 0.9}},
        {"shadow_params": tuple(SMALL.values())},
        {"state_dict": under("model_ema.", {name.replace(".", ""): value for name, value in SMALL.items()})},
    ],
    ids=["torch_ema", "beside", "LitEma"],
)
def test_averages_without_names_are_not_passed_over_in_silence(tmp_path: Path, averages: dict[str, Any]) -> None:
    content = {"state_dict": under("model.") | averages.pop("state_dict", {}), **averages}
    torch.save(content, tmp_path / "w.pt")
    part = weight_parts.part_of(CARD, tmp_path / "w.pt")
    assert part.name == ""
    assert "averaged weights, cannot be read" in part.note
    assert same(loaded(tmp_path / "w.pt"), SMALL)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda value: (value * 100).to(torch.int8), "stem.weight is int8, ours real numbers"),
        (lambda value: value.to(torch.complex64), "stem.weight is complex64"),
        (lambda value: value * float("nan"), "stem.weight holds numbers that are not finite"),
        (lambda value: torch.full_like(value, -torch.inf).half(), "not finite"),
        (lambda value: torch.full_like(value, torch.nan).to(torch.float8_e4m3fn), "not finite"),
    ],
    ids=["int8", "complex", "nan", "inf", "float8 nan"],
)
def test_numbers_that_are_no_weights_are_refused(tmp_path: Path, change: Callable[[Tensor], Tensor], why: str) -> None:
    torch.save({**SMALL, "stem.weight": change(SMALL["stem.weight"])}, tmp_path / "w.pt")
    with pytest.raises(CheckpointError, match="does not fit") as caught:
        loaded(tmp_path / "w.pt")
    assert why in caught.value.why


def test_the_card_says_what_the_official_evaluation_takes(tmp_path: Path) -> None:
    torch.save({"model": SMALL, "ema": OTHER}, tmp_path / "w.pt")
    card = CARD.derive(checkpoint=Checkpoint(file="net.pt", source="mine", wrapper=("model", "module")))
    assert weight_parts.part_of(card, tmp_path / "w.pt").name == "model"
    assert same(loaded(tmp_path / "w.pt", card=card), SMALL)


def test_a_file_with_one_state_dict_has_no_part_to_speak_of(tmp_path: Path) -> None:
    for layout, content in LAYOUTS.items():
        torch.save(content, tmp_path / "w.pt")
        assert weight_parts.part_of(CARD, tmp_path / "w.pt") == weight_parts.Part(), layout


def test_a_part_that_is_not_there_is_answered_with_those_that_are(tmp_path: Path) -> None:
    torch.save({"model": SMALL, "ema": OTHER}, tmp_path / "w.pt")
    for asked, words in (("emma", "did you mean ema"), ("xyz", "it has model, ema")):
        with pytest.raises(CheckpointError, match="has no part") as caught:
            weight_parts.part_of(CARD, tmp_path / "w.pt", {"mine/net": f"{tmp_path}/w.pt#{asked}"})
        assert words in caught.value.why
        assert f"{tmp_path}/w.pt#" in caught.value.hint


def test_a_part_that_does_not_fit_is_answered_with_one_that_does(tmp_path: Path) -> None:
    torch.save({"gen": SMALL, "disc": {"x": torch.ones(1)}}, tmp_path / "w.pt")
    with pytest.raises(CheckpointError, match="does not fit") as caught:
        loaded(tmp_path / "w.pt", "disc")
    assert caught.value.hint.endswith(f"--weights mine/net={tmp_path}/w.pt#gen")


def test_path_and_part() -> None:
    assert parts.split("a/b.pt#ema") == (Path("a/b.pt"), "ema")
    assert parts.split("a/b.pt") == (Path("a/b.pt"), "")
    assert parts.join(Path("a/b.pt"), "ema") == "a/b.pt#ema"


def test_a_file_whose_name_has_the_sign(tmp_path: Path) -> None:
    torch.save(SMALL, tmp_path / "run#3.pt")
    assert parts.split(tmp_path / "run#3.pt") == (tmp_path / "run#3.pt", "")
    assert parts.split(f"{tmp_path}/run#3.pt#ema") == (tmp_path / "run#3.pt", "ema")


# ---- what lies beside the weights ------------------------------------------------------------------------------------


def _foreign(name: str, base: type = object) -> type:
    """A class of a package that is not installed where the file is read."""
    module = types.ModuleType("somewhere_else")
    made = type(name, (base,), {"__module__": "somewhere_else"})
    setattr(module, name, made)
    sys.modules["somewhere_else"] = module
    return made


def _object() -> Any:
    value = _foreign("Config")()
    value.lr = 0.1
    return value


BESIDE: dict[str, Callable[[], Any]] = {
    "numpy scalar": lambda: np.float64(2.3),
    "numpy array": lambda: np.arange(5),
    "path": lambda: pathlib.PurePosixPath("/a/b"),
    "namespace": lambda: argparse.Namespace(lr=1),
    "dict subclass": lambda: _foreign("AttrDict", dict)(a=1),
    "list subclass": lambda: _foreign("Options", list)([1, 2]),
    "unknown object": _object,
    "defaultdict": lambda: collections.defaultdict(list, a=[1]),
    "set": lambda: {1, 2},
    "dtype": lambda: torch.bfloat16,
    "random state": lambda: np.random.RandomState(0).get_state(),
}


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("what", BESIDE)
def test_data_beside_the_weights_is_let_be(tmp_path: Path, what: str, legacy: bool) -> None:
    content = {"model": SMALL, "extra": BESIDE[what]()}
    torch.save(content, tmp_path / "w.pt", _use_new_zipfile_serialization=not legacy)
    sys.modules.pop("somewhere_else", None)
    assert same(loaded(tmp_path / "w.pt"), SMALL)
    assert "somewhere_else" not in sys.modules


class Payload:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.target}",)


@pytest.mark.parametrize("where", ["beside", "inside", "as a key", "in the optimizer"])
def test_code_in_a_file_never_runs(tmp_path: Path, where: str) -> None:
    path, target, evil = tmp_path / "w.pt", tmp_path / "owned", Payload(tmp_path / "owned")
    contents: dict[str, Any] = {
        "beside": {"model": SMALL, "x": evil},
        "inside": {"model": {**SMALL, "x": evil}},
        "as a key": {"model": SMALL, "others": {evil: 1}},
        "in the optimizer": {"model": SMALL, "optimizer": {"state": {0: evil}}},
    }
    torch.save(contents[where], path)
    if where == "inside":
        with pytest.raises(CheckpointError, match=r"model\.x.*system.*execute code"):
            loaded(path)
    else:
        assert same(loaded(path), SMALL)
    weight_parts.part_of(CARD, path)
    assert not target.exists()


def test_a_whole_module_and_a_program_are_named(tmp_path: Path) -> None:
    torch.save(Network(), tmp_path / "whole.pt")
    with pytest.raises(CheckpointError, match=r"one object, .*Network") as caught:
        read_state_dict(tmp_path / "whole.pt")
    assert "state_dict()" in caught.value.hint
    torch.jit.save(torch.jit.trace(nn.Linear(2, 2), torch.ones(1, 2)), tmp_path / "jit.pt")
    with pytest.raises(CheckpointError, match="TorchScript"):
        read_state_dict(tmp_path / "jit.pt")


def test_a_tensor_that_reaches_beyond_its_storage_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "w.pt"
    torch.save({"x": torch.zeros(7, 5)}, path)
    data = path.read_bytes()
    pickled = b"K\x07K\x05\x86"  # the shape (7, 5)
    assert data.count(pickled) == 1
    path.write_bytes(data.replace(pickled, b"K\x7fK\x7f\x86"))
    with pytest.raises(CheckpointError):
        read_state_dict(path)


# ---- shards ----------------------------------------------------------------------------------------------------------


def _sharded(folder: Path, kind: str) -> Path:
    names = sorted(SMALL)
    where = {}
    for number, group in enumerate((names[:3], names[3:])):
        file = f"model-{number}.{kind}"
        content = {name: SMALL[name] for name in group}
        if kind == "bin":
            torch.save(content, folder / file)
        else:
            save_file(content, folder / file)
        where |= dict.fromkeys(group, file)
    index = folder / f"model.{kind}.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": where}))
    return index


@pytest.mark.parametrize("kind", ["safetensors", "bin"])
def test_shards_load_by_their_index(tmp_path: Path, kind: str) -> None:
    index = _sharded(tmp_path, kind)
    assert same(loaded(index), SMALL)
    before = weight_parts.digest_of(index)
    shard = tmp_path / f"model-1.{kind}"
    shard.write_bytes(shard.read_bytes() + b"\0")
    assert weight_parts.digest_of(index) != before
    shard.unlink()
    with pytest.raises(CheckpointError, match="is not there"):
        loaded(index)


def test_a_folder_is_answered_with_the_index_in_it(tmp_path: Path) -> None:
    index = _sharded(tmp_path, "safetensors")
    with pytest.raises(CheckpointError, match="it is a folder") as caught:
        weights.find(CARD, {"mine/net": str(tmp_path)})
    assert index.name in caught.value.hint


def test_an_index_never_leads_out_of_its_folder(tmp_path: Path) -> None:
    index = tmp_path / "x.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "../secret.safetensors"}}))
    with pytest.raises(CheckpointError, match="index of shards"):
        list_tensors(index)
