"""Checkpoints: what can be read is read, everything else is one clear error and never runs code."""

from __future__ import annotations

import argparse
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from arbench.adapters.layers.checkpoint import build_and_load, load_strict, read_state_dict, seeded, uninitialised
from arbench.adapters.layers.kinds import recognise
from arbench.adapters.tokenizers.llamagen import network as llamagen
from arbench.adapters.tokenizers.llamagen.cards import MINI as LLAMAGEN_MINI
from arbench.adapters.tokenizers.var import network as var_tokenizer
from arbench.errors import CheckpointError, MissingWeights, NoDevice
from arbench.protocols import LoadSpec

STATE = {"a.weight": torch.arange(6.0).reshape(2, 3), "b": torch.ones(4, dtype=torch.bfloat16)}


class Payload:
    """Creates a file when unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.target}",)


def message(path: Path, part: str = "") -> str:
    with pytest.raises(CheckpointError) as caught:
        read_state_dict(path, part)
    text = str(caught.value)
    assert str(path) in text
    assert caught.value.why
    assert caught.value.hint
    assert len(text) < 900  # nobody's internals
    assert "weights_only" not in text
    assert "re-running" not in text
    return text


def save_zip(content: Any, path: Path) -> None:
    torch.save(content, path)


def save_legacy(content: Any, path: Path) -> None:
    torch.save(content, path, _use_new_zipfile_serialization=False)


def save_plain(content: Any, path: Path) -> None:
    save_file(content, path)


@pytest.mark.parametrize("save", [save_zip, save_legacy, save_plain])
@pytest.mark.parametrize("name", ["w.safetensors", "w.pt"])  # told by content, not by name
def test_reads_every_format(tmp_path: Path, save: Callable[[Any, Path], None], name: str) -> None:
    save(STATE, tmp_path / name)
    read = read_state_dict(tmp_path / name)
    assert read.keys() == STATE.keys()
    assert all(torch.equal(read[key], STATE[key]) and read[key].dtype == STATE[key].dtype for key in STATE)


@pytest.mark.parametrize("write", [torch.save, save_file], ids=["torch", "safetensors"])
def test_a_file_whose_name_is_not_utf8_is_read(tmp_path: Path, write: Callable[..., None]) -> None:
    path = tmp_path / os.fsdecode(b"caf\xe9.bin")
    write(STATE, tmp_path / "plain")
    (tmp_path / "plain").rename(path)
    read = read_state_dict(path)
    assert {name: (tensor.dtype, tensor.tolist()) for name, tensor in read.items()} == {
        name: (tensor.dtype, tensor.tolist()) for name, tensor in STATE.items()
    }


def test_a_part_is_named_by_where_it_is(tmp_path: Path) -> None:
    path = tmp_path / "w.pt"
    torch.save({"model": {"x": torch.zeros(1)}, "ema": {"y": torch.zeros(1)}, "args": argparse.Namespace(lr=1)}, path)
    assert read_state_dict(path, "ema").keys() == {"y"}
    assert read_state_dict(path, "model").keys() == {"x"}
    assert read_state_dict(path).keys() == {"model.x", "ema.y"}


@pytest.mark.parametrize("save", [save_zip, save_legacy, save_plain])
def test_a_cut_file_is_called_truncated(tmp_path: Path, save: Callable[[Any, Path], None]) -> None:
    path = tmp_path / "w.bin"
    save({"a": torch.zeros(5000)}, path)
    whole = path.read_bytes()
    for keep in (len(whole) - 100, len(whole) // 2, 60):
        path.write_bytes(whole[:keep])
        assert "truncated" in message(path)


@pytest.mark.parametrize("content", [b"\x93NUMPY\x01\x00 and so on", bytes(range(64)), b"hello", b"PK\x03\x04rest"])
def test_a_foreign_file_is_no_checkpoint(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "w.pt"
    path.write_bytes(content)
    assert "checkpoint" in message(path)


def test_failed_downloads_are_recognised(tmp_path: Path) -> None:
    path = tmp_path / "w.pt"
    path.write_bytes(b"")
    assert "empty" in message(path)
    path.write_bytes(b"<!DOCTYPE html><html>Sign in</html>")
    assert "web page" in message(path)
    path.write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n")
    assert "Git LFS" in message(path)


def test_missing_file_and_folder(tmp_path: Path) -> None:
    assert "no such file" in message(tmp_path / "none.pt")
    assert "folder" in message(tmp_path)


def test_no_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "w.pt"
    save_zip(STATE, path)

    def refuse(self: Path, *args: Any, **kwargs: Any) -> Any:  # root may read anything, so chmod would prove nothing
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    assert "permission" in message(path)


@pytest.mark.parametrize("save", [save_zip, save_legacy])
def test_a_malicious_pickle_is_refused_and_never_run(tmp_path: Path, save: Callable[[Any, Path], None]) -> None:
    target, path = tmp_path / "owned", tmp_path / "w.pt"
    save({"model": {"x": torch.zeros(1), "evil": Payload(target)}}, path)
    text = message(path, "model")
    assert "execute code" in text
    assert "refused" in text
    assert "system" in text
    assert not target.exists()


@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_a_bare_malicious_pickle_is_refused(tmp_path: Path, protocol: int) -> None:
    target, path = tmp_path / "owned", tmp_path / "w.pt"
    path.write_bytes(pickle.dumps(Payload(target), protocol=protocol))
    text = message(path)
    assert "refused" in text
    assert "system" in text
    assert not target.exists()
    pickle.loads(path.read_bytes())
    assert target.exists()  # the payload is real: an ordinary unpickler runs it


def test_the_wrong_kind_of_dict(tmp_path: Path) -> None:
    path = tmp_path / "w.pt"
    torch.save({"epoch": 3, "optimizer": {"lr": 0.1}}, path)
    text = message(path)
    assert "'epoch': int" in text
    assert "'optimizer.lr': float" in text
    torch.save([torch.zeros(1)], path)
    assert "list" in message(path)
    torch.save({}, path)
    assert "nothing" in message(path)


# ---- loading into a network -----------------------------------------------------------------------------------------


TINY = {"ch": 32, "codebook_size": 8, "encoder_ch_mult": (1, 1), "decoder_ch_mult": (1, 1), "z_channels": 4}


def official_state(network: nn.Module, names: Callable[[str], tuple[str, ...]]) -> dict[str, torch.Tensor]:
    state: dict[str, torch.Tensor] = {}
    for ours, value in network.state_dict().items():
        sources = names(ours)
        state.update(zip(sources, value.chunk(len(sources)), strict=True))
    return state


@pytest.fixture
def network() -> llamagen.Network:
    with seeded(1):
        return llamagen.Network(TINY)


def test_official_and_own_names_load_alike(network: llamagen.Network) -> None:
    official = official_state(network, llamagen.official_names)
    assert "encoder.conv_blocks.1.attn.0.k.weight" in official
    official["quantize.codebook_used"] = torch.zeros(65536)  # a usage counter: never loaded
    for state in (official, dict(network.state_dict())):
        with seeded(2):
            other = llamagen.Network(TINY)
        load_strict(other, state, card_name="t", names=llamagen.official_names, ignored=llamagen.IGNORED)
        for key, value in network.state_dict().items():
            assert torch.equal(other.state_dict()[key], value)


def test_all_that_does_not_fit_is_in_one_error(network: llamagen.Network) -> None:
    state = official_state(network, llamagen.official_names)
    for block in (0, 1):
        del state[f"encoder.conv_blocks.1.res.{block}.norm1.bias"]
    state["loss.discriminator.0.weight"] = torch.zeros(1)
    state["quant_conv.weight"] = torch.zeros(7, 4, 1, 1)
    with pytest.raises(CheckpointError) as caught:
        load_strict(network, state, card_name="tokenizers/x", path=Path("f.pt"), names=llamagen.official_names)
    text = str(caught.value)
    assert "f.pt does not fit tokenizers/x" in text
    assert "2 missing: encoder.conv_blocks.*.res.*.norm1.bias (x2)" in text
    assert "1 unexpected: loss.discriminator.*.weight" in text
    assert "quant_conv.weight is (7, 4, 1, 1), ours (8, 4, 1, 1)" in text


def test_a_failed_load_changes_nothing(network: llamagen.Network) -> None:
    before = {key: value.clone() for key, value in network.state_dict().items()}
    state = {key: value + 1 for key, value in before.items()}
    state.pop("quant_conv.bias")
    with pytest.raises(CheckpointError):
        load_strict(network, state, card_name="t")
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


def test_another_kind_of_checkpoint_is_named(network: llamagen.Network) -> None:
    with torch.device("meta"):
        var = var_tokenizer.Network({"ch": 32})
    keys = {key for ours in var.state_dict() for key in var_tokenizer.official_names({})(ours)}
    assert recognise(keys) == "a VAR tokenizer"
    generator = {"tok_embeddings.weight": torch.zeros(1), "layers.0.attention.wqkv.weight": torch.zeros(1)}
    with pytest.raises(CheckpointError, match="looks like a LlamaGen generator"):
        load_strict(network, generator, card_name="t", names=llamagen.official_names)
    assert recognise(official_state(network, llamagen.official_names)) == "a LlamaGen tokenizer"
    assert recognise({"conv1.weight"}) is None


# ---- bringing up ----------------------------------------------------------------------------------------------------


def test_random_weights_are_seeded_and_leave_the_global_state_alone() -> None:
    def make(seed: int) -> llamagen.Network:
        spec = LoadSpec(init="random", dtype="bfloat16")
        return build_and_load(lambda: llamagen.Network(TINY), LLAMAGEN_MINI, spec, seed=seed)

    before = torch.get_rng_state()
    first, again, other = make(0), make(0), make(1)
    assert torch.equal(torch.get_rng_state(), before)
    key = "encoder.stem.weight"
    assert torch.equal(first.state_dict()[key], again.state_dict()[key])
    assert not torch.equal(first.state_dict()[key], other.state_dict()[key])
    assert first.state_dict()[key].dtype == torch.bfloat16
    assert not any(parameter.requires_grad for parameter in first.parameters())
    assert not first.training


def test_loading_draws_no_random_numbers() -> None:
    before = torch.get_rng_state()
    with uninitialised():
        llamagen.Network(TINY)
    assert torch.equal(torch.get_rng_state(), before)
    nn.Linear(2, 2)  # outside of it torch initialises as ever
    assert not torch.equal(torch.get_rng_state(), before)


def test_missing_weights_and_device() -> None:
    with pytest.raises(MissingWeights):
        build_and_load(lambda: llamagen.Network(TINY), LLAMAGEN_MINI, LoadSpec())
    with pytest.raises(NoDevice):
        build_and_load(lambda: llamagen.Network(TINY), LLAMAGEN_MINI, LoadSpec(init="random", device="cuda:99"))
    with pytest.raises(NoDevice):
        build_and_load(lambda: llamagen.Network(TINY), LLAMAGEN_MINI, LoadSpec(init="random", device="nonsense"))


def test_weights_go_straight_to_their_number_format(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The numbers of a file loaded in float32 and rounded, without a network in float32 in between."""
    from arbench.adapters.layers import checkpoint

    with seeded(3):
        state = llamagen.Network(TINY).state_dict()
    save_file(state, tmp_path / "w.safetensors")
    filled: list[torch.dtype] = []

    def fill(module: nn.Module, *given: Any, **named: Any) -> None:
        filled.extend(each.dtype for each in module.parameters())
        load_strict(module, *given, **named)

    monkeypatch.setattr(checkpoint, "load_strict", fill)
    spec = LoadSpec(weights=tmp_path / "w.safetensors", dtype="bfloat16")
    network = build_and_load(lambda: llamagen.Network(TINY), LLAMAGEN_MINI, spec)
    assert set(filled) == {torch.bfloat16}
    for name, value in network.state_dict().items():
        assert torch.equal(value, state[name].bfloat16())
    assert not any(each.requires_grad for each in network.parameters())
