"""The systems of the second wave: recordings replay, tiny ones keep the contract."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from arbench import registry
from arbench.adapters.layers.host_reads import watched
from arbench.adapters.raster.taming.adapter import Taming
from arbench.adapters.raster.taming.network import official_names as gpt_names
from arbench.adapters.tokenizers.sd_vae.adapter import SDVAE
from arbench.adapters.tokenizers.sd_vae.network import official_names
from arbench.check.adapter import Plan, check
from arbench.errors import CheckpointError
from arbench.parity import load_golden, replay_golden
from arbench.protocols import NO_PROBE, Card, Guidance, LoadSpec, Request, Sampling, TokenSpec
from arbench.seeds import Greedy, noise_for

GOLDENS = Path(__file__).parents[1] / "goldens"
RECORDED = ("arpg", "lpd", "par", "nar-c2i", "flexvar", "flexvar-tokenizer", "flowar", "xar")
RECORDED += ("disa-mar", "disa-xar", "far", "far-nomask", "transdiff", "transdiff-mrar")
RECORDED += ("distilled-decoding-var", "distilled-decoding-llamagen")
RECORDED += ("bitdance", "bitdance-parallel", "bitdance-tokenizer", "infinity", "infinity-tokenizer", "arinar")
RECORDED += ("fractalgen", "fractalgen-ar", "acdit")

LLAMA: dict[str, Any] = {"dim": 32, "n_layer": 2, "n_head": 2, "multiple_of": 16, "num_classes": 10}
LLAMA |= {"vocab_size": 256, "block_size": 16}
ON_LLAMAGEN: dict[str, Any] = {"tokenizer": "tokenizers/llamagen-mini", "tokens": TokenSpec.grid(4, 256)}
ON_LLAMAGEN |= {"resolution": 16, "classes": 10}
ENCODER: dict[str, Any] = {
    f"{part}_{key}": n
    for part in ("encoder", "decoder")
    for key, n in (("embed_dim", 32), ("depth", 1), ("num_heads", 2))
}
ON_KL: dict[str, Any] = {"tokenizer": "tokenizers/mar-kl-mini", "tokens": TokenSpec.grid(4, channels=16)}
ON_KL |= {"resolution": 32}
MAR_HEAD: dict[str, Any] = {"img_size": 32, "vae_stride": 8, "buffer_size": 4, "diffloss_d": 1, "diffloss_w": 16}
BITS = TokenSpec(kind="discrete", layout="grid", levels=((4, 4),), vocabulary=16, codebooks=2)
PLACES = TokenSpec(kind="discrete", layout="pyramid", levels=((1, 1), (2, 2), (4, 4)), vocabulary=2, codebooks=4)
TOKENIZERS: dict[str, Card] = {
    "tokenizers/flexvar-vae": registry.card("tokenizers/flexvar-vae").derive(
        config={"ch": 32, "encoder_ch_mult": (1, 1, 2), "decoder_ch_mult": (1, 1, 2), "z_channels": 8}
        | {"codebook_size": 64, "codebook_embed_dim": 32, "v_patch_nums": (1, 2, 3, 4)},
        tokens=TokenSpec.pyramid((1, 2, 3, 4), 64),
        resolution=16,
        parameters=None,
        checkpoint=None,
    ),
    "tokenizers/bitdance-d16c32": registry.card("tokenizers/bitdance-d16c32").derive(
        config={"ddconfig": {"z_channels": 8, "ch": 32, "ch_mult": (1, 1, 2), "num_res_blocks": 1}, "num_codebooks": 2},
        tokens=BITS,
        resolution=16,
        parameters=None,
        checkpoint=None,
    ),
    "tokenizers/sd-vae-f8": registry.card("tokenizers/sd-vae-f8").derive(
        config={"embed_dim": 4, "ch_mult": (1, 1, 2), "attn_resolutions": (), "ch": 32, "num_res_blocks": 1},
        tokens=TokenSpec.grid(4, channels=4),
        resolution=16,
        parameters=None,
        checkpoint=None,
    ),
    "tokenizers/infinity-d32-reg": registry.card("tokenizers/infinity-d32-reg").derive(
        config={"codebook_dim": 4, "base_ch": 32, "num_res_blocks": 1, "patch_size": 2, "sides": (1, 2, 4)}
        | {"encoder_ch_mult": (1, 2), "decoder_ch_mult": (1, 2)},
        tokens=PLACES,
        resolution=8,
        parameters=None,
        checkpoint=None,
    ),
}
"""Tokenizers that no mini stands for, small."""
FEW: dict[str, Any] = {"steps": (1, 16)}

TINY: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "random_order/arpg-l": (
        LLAMA,
        ON_LLAMAGEN | {"limits": FEW, "native": Sampling(guidance=Guidance(scale=3.0, schedule="linear"), steps=5)},
    ),
    "random_order/lpd-l-256": (
        {"img_size": 64, "decoder_embed_dim": 32, "decoder_depth": 2, "decoder_num_heads": 2}
        | {"class_num": 10, "vqgan_vocab_size": 256},
        ON_LLAMAGEN | {"limits": FEW, "native": Sampling(guidance=Guidance(scale=3.0, schedule="linear"), steps=5)},
    ),
    "random_order/par-xl-4x": (LLAMA | {"spe_token_num": 3, "ar_token_num": 4}, ON_LLAMAGEN),
    "random_order/nar-b-256": (LLAMA, ON_LLAMAGEN),
    "next_scale/flexvar-d16": (
        {"patch_nums": (1, 2, 3, 4), "vocab_size": 64, "depth": 2, "embed_dim": 32, "num_heads": 2, "num_classes": 10},
        {"classes": 10, "tokens": TokenSpec.pyramid((1, 2, 3, 4), 64), "resolution": 16}
        | {"native": Sampling(guidance=Guidance(scale=3.0, schedule="linear"), top_k=20, top_p=0.9)},
    ),
    "next_scale/flowar-s": (
        ENCODER | {"img_size": 32, "vae_stride": 8, "diffloss_d": 1, "diffloss_w": 64, "scale": (1, 2, 4)},
        ON_KL | {"native": Sampling(guidance=Guidance(scale=3.0, schedule="linear"), inner_steps=6)},
    ),
    "continuous/xar-b": (
        ENCODER | {"img_size": 128, "vae_stride": 8},
        ON_KL
        | {"tokens": TokenSpec.grid(16, channels=16), "resolution": 128}
        | {"native": Sampling(guidance=Guidance(scale=3.0, schedule="linear"), inner_steps=4)},
    ),
    "continuous/disa-mar-base": (
        ENCODER | MAR_HEAD | {"class_num": 10},
        ON_KL
        | {"classes": 10, "limits": {"steps": (2, 16), "inner_steps": (2, 1000)}}
        | {
            "native": Sampling(
                guidance=Guidance(scale=3.0, schedule="linear"), steps=4, inner_steps=6, extra={"last_inner_steps": 3}
            )
        },
    ),
    "continuous/far-base": (
        ENCODER | MAR_HEAD,
        ON_KL | {"native": Sampling(guidance=Guidance(scale=3.0, schedule="linear"), inner_steps=3)},
    ),
    "continuous/transdiff-b-mrar": (
        ENCODER | {"class_num": 10, "buffer_size": 4},
        ON_KL
        | {"classes": 10, "tokens": TokenSpec.grid(16, channels=16), "resolution": 128}
        | {"native": Sampling(guidance=Guidance(scale=1.5), inner_steps=3)},
    ),
    "other/distilled_decoding-var-d16": (
        {"patch_nums": (1, 2, 3, 4), "vocab_size": 512, "z_channels": 16, "depth": 2, "embed_dim": 32, "num_heads": 2}
        | {"num_classes": 10, "second": 2, "split": 2},
        {"tokenizer": "tokenizers/var-mini", "classes": 10, "resolution": 32, "tokens": None},
    ),
    "other/distilled_decoding-llamagen-b": (LLAMA | {"second": 6, "split": 9}, ON_LLAMAGEN),
    "hybrid/bitdance-b-4x": (
        {"dim": 32, "n_layer": 2, "n_head": 2, "diff_layers": 2, "diff_dim": 64, "latent_dim": 8, "down_size": 4}
        | {"resolution": 16, "cls_token_num": 3, "num_classes": 10},
        {"classes": 10, "resolution": 16, "tokens": BITS}
        | {"native": Sampling(guidance=Guidance(scale=3.0, schedule="linear"), inner_steps=3)},
    ),
    "next_scale/infinity-2b": (
        {"codebook_dim": 4, "text_channels": 128, "text_maxlen": 5, "embed_dim": 64, "depth": 2, "num_heads": 2}
        | {"block_chunks": 1, "scale_schedule": ((1, 1, 1), (1, 2, 2), (1, 4, 4))},
        {"resolution": 8, "tokens": PLACES, "captions": (5, 128)},
    ),
    "continuous/arinar-base": (
        ENCODER
        | {"img_size": 32, "vae_stride": 8, "buffer_size": 4, "class_num": 10}
        | {"num_gaussians": 2, "inner_ar_width": 32},
        ON_KL
        | {"classes": 10, "limits": FEW}
        | {"native": Sampling(guidance=Guidance(scale=3.0, schedule="linear"), steps=3)},
    ),
    "raster/taming-gpt-1.4b": (
        {"vocab_size": 256, "block_size": 16, "n_layer": 2, "n_head": 2, "n_embd": 32},
        ON_LLAMAGEN | {"native": Sampling(top_k=20, top_p=0.9)},
    ),
    "hybrid/acdit-xl": (
        {"hidden_size": 64, "num_heads": 1, "depth": 2, "block_size": 4, "spatial_len": 16, "num_classes": 10},
        {"classes": 10, "resolution": 16, "tokens": TokenSpec.grid(4, channels=4)}
        | {"native": Sampling(guidance=Guidance(scale=1.5), inner_steps=3)},
    ),
    "hybrid/fractalgen-mar-base-256": (
        {"img_size_list": (8, 4, 2, 1), "embed_dim_list": (32, 16, 16, 16), "num_blocks_list": (1, 1, 1, 1)}
        | {"num_heads_list": (2, 2, 2, 2), "class_num": 10},
        {"resolution": 8, "classes": 10}
        | {"limits": {"steps": (1, 4), "extra.lower_steps": (1, 4), "extra.filter_threshold": (0, 1)}}
        | {"native": Sampling(guidance=Guidance(scale=3.0, schedule="linear"), steps=3, extra={"lower_steps": 2})},
    ),
    "hybrid/fractalgen-ar-64": (
        {"img_size_list": (4, 2, 1), "embed_dim_list": (32, 16, 16), "num_blocks_list": (1, 1, 1)}
        | {"num_heads_list": (2, 2, 2), "class_num": 10},
        {"resolution": 4, "classes": 10, "native": Sampling(guidance=Guidance(scale=3.0, schedule="linear"))},
    ),
    "raster/cca_llamagen-b-384": (LLAMA, ON_LLAMAGEN),
    "raster/npp-b-256": (LLAMA, ON_LLAMAGEN),
    "next_scale/cca_var-d16": (
        {"patch_nums": (1, 2, 3, 4), "vocab_size": 512, "z_channels": 16, "depth": 2, "embed_dim": 32, "num_heads": 2}
        | {"num_classes": 10},
        {
            "tokenizer": "tokenizers/var-mini",
            "classes": 10,
            "resolution": 32,
            "tokens": TokenSpec.pyramid((1, 2, 3, 4), 512),
            "native": Sampling(top_k=20, top_p=0.9),
        },
    ),
    "continuous/disa-xar-b": (
        ENCODER | {"img_size": 128, "vae_stride": 8},
        ON_KL
        | {"tokens": TokenSpec.grid(16, channels=16), "resolution": 128, "limits": {"inner_steps": (2, 1000)}}
        | {
            "native": Sampling(
                guidance=Guidance(scale=3.0, schedule="linear"), inner_steps=4, extra={"last_inner_steps": 2}
            )
        },
    ),
    "continuous/disa-flowar-s": (
        ENCODER | {"img_size": 32, "vae_stride": 8, "diffloss_d": 1, "diffloss_w": 64, "scale": (1, 2, 4)},
        ON_KL
        | {
            "native": Sampling(
                guidance=Guidance(scale=3.0, schedule="linear"), inner_steps=6, extra={"last_inner_steps": 3}
            )
        },
    ),
}
"""Official card -> small numbers for its class, and what else of the card changes with them."""


@pytest.mark.parametrize("name", RECORDED)
def test_recordings_replay(name: str) -> None:
    golden = load_golden(GOLDENS / name)
    verdicts = list(replay_golden(golden))
    assert len(verdicts) == sum(len(probe.outputs) for probe in golden.probes)
    assert [verdict for verdict in verdicts if not verdict.ok] == []


def small(name: str) -> Card:
    config, changes = TINY[name]
    card = registry.card(name)
    return card.derive(config={**card.config, **config}, parameters=None, checkpoint=None, **changes)


def tokenizer_of(card: Card) -> Card | None:
    return None if card.tokenizer is None else TOKENIZERS.get(card.tokenizer) or registry.card(card.tokenizer)


def captions(card: Card, folder: Path) -> tuple[str, ...]:
    """Files of captions of different lengths."""
    assert card.captions is not None
    tokens, width = card.captions
    draw = torch.Generator().manual_seed(0)
    for index in range(3):
        mask = (torch.arange(tokens) <= index + 1).long()
        save_file(
            {"features": torch.randn(tokens, width, generator=draw), "mask": mask}, folder / f"{index}.safetensors"
        )
    return tuple(str(folder / f"{index}.safetensors") for index in range(3))


@pytest.mark.parametrize("name", TOKENIZERS)
def test_tiny_tokenizers_keep_the_contract(name: str) -> None:
    verdicts = list(check(Plan(TOKENIZERS[name], LoadSpec(init="random"))))
    assert {verdict.name: verdict.why for verdict in verdicts if verdict.outcome == "FAIL"} == {}


@pytest.mark.parametrize("name", TINY)
def test_tiny_ones_keep_the_contract(name: str, tmp_path: Path) -> None:
    card = small(name)
    prompts = captions(card, tmp_path) if card.captions else ()
    load, theirs = LoadSpec(init="random"), tokenizer_of(card)
    verdicts = list(check(Plan(card, load, theirs and (theirs, load), prompts)))
    assert {verdict.name: verdict.why for verdict in verdicts if verdict.outcome == "FAIL"} == {}
    outcomes = {verdict.name: verdict.outcome for verdict in verdicts}
    assert outcomes["load"] == outcomes["batch"] == outcomes["supported knobs"] == outcomes["close"] == "ok"


@pytest.mark.parametrize("name", TINY)
def test_a_call_reads_nothing_back_so_that_it_can_be_recorded(name: str) -> None:
    card, load = small(name), LoadSpec(init="random")
    theirs = tokenizer_of(card)
    tokenizer = registry.resolve(theirs.implementation).load(theirs, load) if theirs else None
    model = registry.resolve(card.implementation).load(card, load, tokenizer)
    model.prepare(1, card.native)
    noise, inputs = noise_for(0, (0,), "cpu"), model.example(1, card.native)
    with watched() as reads:
        made = model.draw(noise, card.native, NO_PROBE, *inputs)
    assert reads.first == ""
    assert made.outer_steps >= 1


@pytest.mark.parametrize("style", ["new", "old"])
def test_diffusers_autoencoder_is_loaded_by_its_new_names_and_its_old(style: str, tmp_path: Path) -> None:
    card = TOKENIZERS["tokenizers/sd-vae-f8"]
    drawn = SDVAE.load(card, LoadSpec(init="random")).network.state_dict()
    official: dict[str, torch.Tensor] = {}
    for ours, tensor in drawn.items():
        keys = official_names(card.config, style)(ours)
        official |= {key: part.contiguous() for key, part in zip(keys, tensor.chunk(len(keys)), strict=True)}
    assert any("attentions.0.query." in key for key in official) == (style == "old")
    save_file(official, tmp_path / "vae.safetensors")
    loaded = SDVAE.load(card, LoadSpec(weights=tmp_path / "vae.safetensors")).network.state_dict()
    assert all(torch.equal(loaded[key], tensor) for key, tensor in drawn.items())
    del official["quant_conv.bias"]
    save_file(official, tmp_path / "short.safetensors")
    with pytest.raises(CheckpointError, match=r"quant_conv\.bias"):
        SDVAE.load(card, LoadSpec(weights=tmp_path / "short.safetensors"))


def test_the_gpt_of_taming_is_loaded_out_of_a_file_of_the_whole_model(tmp_path: Path) -> None:
    """Its teacher-forced scores are those of the tokens it samples."""
    official, card = registry.card("raster/taming-gpt-1.4b"), small("raster/taming-gpt-1.4b")
    drawn = Taming.load(card, LoadSpec(init="random"), None).network.state_dict()
    whole: dict[str, torch.Tensor] = {"first_stage_model.encoder.conv_in.weight": torch.zeros(2)}
    for ours, tensor in drawn.items():
        keys = gpt_names(ours)
        whole |= {f"transformer.{key}": part for key, part in zip(keys, tensor.chunk(len(keys)), strict=True)}
    torch.save({"state_dict": whole, "epoch": 3}, tmp_path / "last.ckpt")
    card = card.derive(checkpoint=official.checkpoint)
    model = Taming.load(card, LoadSpec(weights=tmp_path / "last.ckpt"), None)
    assert all(torch.equal(model.network.state_dict()[key], tensor) for key, tensor in drawn.items())
    request = Request((0, 1), Greedy(2), torch.tensor([3, 7]))
    codes = model.sample(request, Sampling()).codes
    assert codes is not None
    assert torch.equal(model.logits(request, codes).argmax(-1), codes.ids[0])
