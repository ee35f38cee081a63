"""A file of one system given to another: every pair gives one error that says what the file is and what was wanted."""

from __future__ import annotations

import functools
from collections.abc import Callable
from importlib import import_module
from inspect import signature
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from arbench import registry, weights
from arbench.adapters.layers.config import from_upstream
from arbench.adapters.layers.kinds import looks_like, recognise
from arbench.errors import CheckpointError
from arbench.protocols import Card, LoadSpec, StateDict, System

CODER: dict[str, Any] = {"ch": 32, "ch_mult": (1, 1), "num_res_blocks": 1}
PYRAMID = {"vocab_size": 20, "z_channels": 6, "v_patch_nums": (1, 2), **CODER}
LLAMA = {"dim": 16, "n_layer": 1, "n_head": 2, "multiple_of": 8, "num_classes": 3, "vocab_size": 20, "block_size": 4}
CAPTIONED = LLAMA | {"model_type": "t2i", "caption_dim": 12, "cls_token_num": 3}
MAPS = {"patch_nums": (1, 2), "vocab_size": 20, "z_channels": 6, "depth": 1, "embed_dim": 16, "num_heads": 2}
HART = {**MAPS, "context_token": 3, "context_dim": 12, "diff_width": 16, "diff_depth": 1, "attn_type": "llama"}
MAR = {f"{part}_{key}": n for part in ("encoder", "decoder") for key, n in (("embed_dim", 16), ("depth", 1))}
MAR |= {"encoder_num_heads": 2, "decoder_num_heads": 2, "img_size": 4, "vae_stride": 2, "vae_embed_dim": 6}
MAR |= {"class_num": 3, "buffer_size": 2, "diffloss_d": 1, "diffloss_w": 16}
RAR = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 24}
RAR |= {"image_seq_len": 4, "condition_num_classes": 3, "codebook_size": 20}
VQ = {"ch": 32, "codebook_size": 20, "encoder_ch_mult": (1, 1), "decoder_ch_mult": (1, 1), "z_channels": 4}
MASKGIT = {"channel_mult": (1, 1), "num_resolutions": 2, "hidden_channels": 32, "num_res_blocks": 1, "z_channels": 6}
KL = {"embed_dim": 6, **CODER}

KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "a LlamaGen generator": ("raster/llamagen-b-256", LLAMA),
    "a LlamaGen text-to-image generator": ("raster/llamagen-t2i-xl-256", CAPTIONED),
    "a RAR generator": ("random_order/rar-b", RAR),
    "a RandAR generator": ("random_order/randar-0.3b", LLAMA),
    "a VAR generator": ("next_scale/var-d16", MAPS),
    "a MAR generator": ("continuous/mar-base", MAR),
    "a HART generator": ("hybrid/hart-0.7b", HART),
    "a LlamaGen tokenizer": ("tokenizers/llamagen-vq-16", VQ),
    "a MaskGIT VQGAN tokenizer": ("tokenizers/maskgit-vqgan", MASKGIT),
    "a VAR tokenizer": ("tokenizers/var-msvq", PYRAMID),
    "a KL autoencoder tokenizer": ("tokenizers/mar-kl-16", KL),
    "a HART tokenizer": ("tokenizers/hart-hybrid", PYRAMID),
}
"""What the file is called -> an official card, and small numbers for it."""

BY_CLASS = {registry.card(name).implementation: kind for kind, (name, _) in reversed(KINDS.items())}
SHIPPED = tuple(
    card.name
    for card in registry.cards().values()
    if card.checkpoint and card.checkpoint.packaged and card.implementation in BY_CLASS
)


def module_of(card: Card) -> ModuleType:
    """Where the network of the adapter is."""
    return import_module(card.implementation.partition(":")[0].removesuffix("adapter") + "network")


def whole_network(card: Card) -> nn.Module:
    """The network of the card on the meta device: its keys, without its numbers."""
    module, config = module_of(card), card.config
    with torch.device("meta"):
        if card.kind == "generator":
            network: nn.Module = module.Network(from_upstream(module.Config, config, module.TRAINING_ONLY))
        else:
            network = module.Network(module.network_config(config) if hasattr(module, "network_config") else config)
    return network


def names_of(card: Card) -> Callable[[str], tuple[str, ...]]:
    """One of our parameter names -> the official keys; for some networks these depend on the configuration."""
    names: Any = module_of(card).official_names
    if "config" not in signature(names).parameters:
        return names  # type: ignore[no-any-return]
    return names(getattr(whole_network(card), "config", card.config))  # type: ignore[no-any-return]


def small(kind: str) -> Card:
    name, config = KINDS[kind]
    return registry.card(name).model_copy(update={"config": config})


@functools.cache
def network_of(kind: str) -> dict[str, Tensor]:
    return dict(load(small(kind), LoadSpec(init="random")).network.state_dict())


def load(card: Card, spec: LoadSpec) -> Any:
    implementation = registry.resolve(card.implementation)
    if card.kind == "tokenizer":
        return implementation.load(card, spec)
    needed = {"next_scale/var-d16": "a VAR tokenizer", "hybrid/hart-0.7b": "a HART tokenizer"}
    needed |= {"continuous/mar-base": "a KL autoencoder tokenizer"}
    return implementation.load(card, spec, tokenizer_of(needed[card.name]) if card.name in needed else None)


@functools.cache
def tokenizer_of(kind: str) -> Any:
    return load(small(kind), LoadSpec(init="random"))


def official(kind: str) -> dict[str, Tensor]:
    state: dict[str, Tensor] = {}
    names = names_of(small(kind))
    for ours, tensor in network_of(kind).items():
        keys = names(ours)
        state.update(zip(keys, tensor.chunk(len(keys)), strict=True))
    return state


def message(card: Card, path: Path) -> str:
    with pytest.raises(CheckpointError) as caught:
        load(card, LoadSpec(weights=path))
    assert str(path) in caught.value.what
    assert caught.value.hint
    return caught.value.why


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Path]]:
    """For each kind the official layout, wrapped as officially, and a safetensors file under our own names."""
    folder, found = tmp_path_factory.mktemp("kinds"), {}
    for index, kind in enumerate(KINDS):
        checkpoint = small(kind).checkpoint
        assert checkpoint is not None
        wrapper = checkpoint.wrapper[0] if checkpoint.wrapper else None
        wrapped, own = folder / f"{index}.pt", folder / f"{index}.safetensors"
        torch.save({wrapper: official(kind)} if wrapper else official(kind), wrapped)
        save_file({key: tensor.contiguous() for key, tensor in network_of(kind).items()}, own)
        found[kind] = [wrapped, own]
    return found


@pytest.mark.parametrize("wanted", KINDS)
def test_every_file_is_named_by_every_adapter_it_is_not_for(wanted: str, files: dict[str, list[Path]]) -> None:
    card = small(wanted)
    for path in files[wanted]:
        load(card, LoadSpec(weights=path)).close()
    for kind, paths in files.items():
        for path in paths:
            if {kind, wanted} == {"a VAR tokenizer", "a HART tokenizer"} and path.suffix == ".safetensors":
                continue  # one and the same network
            if kind != wanted:
                why = message(card, path)
                assert f"looks like {kind}" in why or f"or {kind}" in why, (kind, wanted, why)


@pytest.mark.parametrize("kind", KINDS)
def test_a_state_dict_is_recognised_as_what_it_is(kind: str) -> None:
    same = {"a VAR tokenizer", "a HART tokenizer"}  # under our names one and the same network
    assert recognise(official(kind)) == kind
    assert recognise(network_of(kind)) == ("a VAR tokenizer or a HART tokenizer" if kind in same else kind)


ALIKE = {"a BitDance tokenizer", "an Open-MAGVIT2 tokenizer"}
"""The official files of one have the keys of the other's: only shapes differ."""
WITH_CARDS = [system for system in registry.systems() if system.cards and system.files]


@pytest.mark.parametrize("system", WITH_CARDS, ids=lambda system: system.cards[0].name)
def test_the_files_of_a_system_are_recognised_as_its_own_and_nothing_else(system: System) -> None:
    """Of every size, whatever other systems there are; only systems with one and the same network share files."""
    kinds = {file.what for file in system.files}
    theirs: list[StateDict] = []
    for other in WITH_CARDS:
        if other is not system and module_of(other.cards[0]).Network is module_of(system.cards[0]).Network:
            theirs += other.files
    for card in system.cards:
        names, own = names_of(card), list(whole_network(card).state_dict())
        found = set((recognise([key for ours in own for key in names(ours)]) or "").split(" or "))
        assert found <= kinds or found == ALIKE
        assert set((recognise(own) or "").split(" or ")) == {
            *(found & kinds),
            *(file.what for file in theirs if file.fits(own)),
        }


@pytest.mark.parametrize("name", SHIPPED)
def test_every_shipped_file_is_named(name: str) -> None:
    card = registry.card(name)
    path, kind = weights.find(card), BY_CLASS[card.implementation]
    assert path is not None
    with safe_open(path, "pt") as file:
        keys = list(file.keys())
    recognised = recognise(keys)
    assert recognised is not None
    assert kind in recognised.split(" or ")
    for wanted in KINDS:
        why = message(small(wanted), path)
        assert f"looks like {kind}" in why or f"or {kind}" in why
        if wanted not in recognised.split(" or "):
            assert f"not {wanted}" in why


def test_what_was_wanted_is_said_as_well() -> None:
    tokenizer, generator = official("a LlamaGen tokenizer"), official("a RAR generator")
    assert looks_like(tokenizer, generator) == "it looks like a LlamaGen tokenizer, not a RAR generator; "
    assert looks_like(generator, generator) == "it looks like a RAR generator; "
    assert looks_like({"conv1.weight"}, generator) == ""
    assert looks_like(generator, {"conv1.weight"}) == "it looks like a RAR generator; "


def test_a_file_wrapped_otherwise_is_named(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint-last.pth"
    torch.save({"model_ema": official("a MAR generator"), "epoch": 3}, path)
    why = message(small("a VAR tokenizer"), path)
    assert "it looks like a MAR generator, not a VAR tokenizer" in why
