"""Folders of diffusers as tokenizers: tiny random networks that `save_pretrained` wrote, against the library itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from torch import Tensor

from arbench import registry, weight_parts, weights
from arbench.check import adapter
from arbench.errors import ArbenchError
from arbench.protocols import Codes, LoadSpec, Tokenizer
from arbench.seeds import noise_for
from arbench.tasks import outputs

BLOCKS = {
    "down_block_types": ("DownEncoderBlock2D",) * 2,
    "up_block_types": ("UpDecoderBlock2D",) * 2,
    "block_out_channels": (8, 16),
    "norm_num_groups": 4,
    "latent_channels": 4,
    "sample_size": 32,
}
TWO = {"encoder_block_out_channels": (8, 8), "decoder_block_out_channels": (8, 8), "latent_channels": 4}


def networks() -> dict[str, Any]:
    dc = {f"{part}_{what}": value for part in ("encoder", "decoder") for what, value in
          (("block_types", "ResBlock"), ("layers_per_block", (1, 1)))}  # fmt: skip
    return {
        "kl": diffusers.AutoencoderKL(**BLOCKS, scaling_factor=0.5, shift_factor=0.25),
        "flux2": diffusers.AutoencoderKLFlux2(**BLOCKS),
        "tiny": diffusers.AutoencoderTiny(**TWO, num_encoder_blocks=(1, 1), num_decoder_blocks=(1, 1)),
        "dc": diffusers.AutoencoderDC(**TWO, **dc, attention_head_dim=2, scaling_factor=0.4, decoder_act_fns="silu"),
        "vq": diffusers.VQModel(**BLOCKS, num_vq_embeddings=16),
        "rae": diffusers.AutoencoderRAE(
            encoder_type="mae", encoder_hidden_size=64, encoder_patch_size=8, encoder_num_hidden_layers=1,
            decoder_hidden_size=16, decoder_num_hidden_layers=1, decoder_num_attention_heads=2,
            decoder_intermediate_size=16, patch_size=8, encoder_input_size=32,
        ),
    }  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of each class, and a pipeline whose part `vae` is the first."""
    root = tmp_path_factory.mktemp("saved")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for name, network in networks().items():
            if name == "flux2":
                network.bn.running_mean.normal_()
                network.bn.running_var.uniform_(0.5, 2)
            network.save_pretrained(root / name)
    (root / "pipe").mkdir()
    (root / "pipe" / "vae").symlink_to(root / "kl")
    index = {"_class_name": "P", "vae": ["diffusers", "AutoencoderKL"], "unet": ["diffusers", "UNet2DModel"]}
    (root / "pipe" / "model_index.json").write_text(json.dumps(index))
    return root


def opened(path: Path) -> tuple[Tokenizer, Any]:
    """The tokenizer of a folder, and its network as the library loads it."""
    card = registry.card(f"diffusers:{path}")
    model = registry.resolve(card.implementation).load(card, LoadSpec(weights=weights.locate(card)))
    kind = getattr(diffusers, card.config["_class_name"])
    return model, kind.from_pretrained(path, low_cpu_mem_usage=False).eval()


def images(side: int) -> Tensor:
    return torch.rand(2, 3, side, side, generator=torch.Generator().manual_seed(1))


SHAPES = {
    "kl": (32, 2, ((16, 16),), 4, None),
    "flux2": (32, 4, ((8, 8),), 16, None),
    "tiny": (256, 2, ((128, 128),), 4, None),
    "dc": (256, 2, ((128, 128),), 4, None),
    "vq": (32, 2, ((16, 16),), None, 16),
    "rae": (32, None, ((4, 4),), 64, None),
}


@pytest.mark.parametrize("name", SHAPES)
def test_cards_say_what_the_networks_take(folder: Path, name: str) -> None:
    card = registry.card(f"diffusers:{folder / name}")
    assert card.tokens is not None
    found = (card.resolution, card.multiple, card.tokens.levels, card.tokens.channels, card.tokens.vocabulary)
    assert found == SHAPES[name]


@torch.inference_mode()
def by_hand(name: str, network: Any, given: Tensor) -> tuple[Tensor, Tensor]:
    """(what a generator sees, images) by the library's documents."""
    pixels = given if name == "rae" else given * 2 - 1
    out = network.encode(pixels)
    latents = (
        out.latent_dist.mode() if name in ("kl", "flux2") else out.latent if name in ("dc", "rae") else out.latents
    )
    decoded = network.decode(latents).sample
    decoded = (decoded if name == "rae" else decoded / 2 + 0.5).clamp(0, 1)
    if name == "kl":
        latents = (latents - 0.25) * 0.5
    elif name == "dc":
        latents = latents * 0.4
    elif name == "flux2":
        b, c, h, w = latents.shape
        latents = latents.view(b, c, h // 2, 2, w // 2, 2).permute(0, 1, 3, 5, 2, 4).reshape(b, 4 * c, h // 2, w // 2)
        mean, variance = network.bn.running_mean.view(1, -1, 1, 1), network.bn.running_var.view(1, -1, 1, 1)
        latents = (latents - mean) / torch.sqrt(variance + 1e-4)
    return latents, decoded


@pytest.mark.parametrize("name", ["kl", "flux2", "tiny", "dc", "rae"])
def test_latents_are_those_that_generators_see(folder: Path, name: str) -> None:
    model, network = opened(folder / name)
    for side in (32,) if name == "rae" else (32, 48):
        given = images(side)
        latents, decoded = by_hand(name, network, given)
        codes = model.encode(given)
        torch.testing.assert_close(codes.latents, latents, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(model.decode(codes), decoded, atol=1e-5, rtol=1e-5)
    if name == "kl":  # a draw from the posterior, in the same units
        noise = noise_for(0, range(2), "cpu")
        posterior = network.encode(images(32) * 2 - 1).latent_dist
        drawn = posterior.mean + posterior.std * noise.normal("posterior", posterior.mean.shape[1:])
        found = model.encode(images(32), noise=noise).latents
        torch.testing.assert_close(found, (drawn.detach() - 0.25) * 0.5, atol=1e-5, rtol=1e-5)


def test_ids_of_a_vq_model(folder: Path) -> None:
    model, network = opened(folder / "vq")
    given = images(32)
    with torch.inference_mode():
        vectors = network.encode(given * 2 - 1).latents
        flat = vectors.permute(0, 2, 3, 1).reshape(-1, 4)
        expected = torch.cdist(flat, network.quantize.embedding.weight).argmin(1).reshape(2, -1)
        decoded = (network.decode(vectors).sample / 2 + 0.5).clamp(0, 1)
    codes = model.encode(given)
    torch.testing.assert_close(codes.ids[0], expected)
    assert len(expected.unique()) > 1
    torch.testing.assert_close(model.decode(Codes(ids=codes.ids)), decoded, atol=1e-5, rtol=1e-5)


def test_a_vq_model_decodes_oblong_images(folder: Path) -> None:
    """As the library does, by its codes and by the ids alone that the tasks of an audit keep."""
    model, network = opened(folder / "vq")
    given = torch.rand(2, 3, 32, 48, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        decoded = (network(given * 2 - 1).sample / 2 + 0.5).clamp(0, 1)
    codes = model.encode(given)
    assert codes.grid == (16, 24)
    torch.testing.assert_close(model.decode(codes), decoded, atol=1e-5, rtol=1e-5)
    kept = outputs.join([outputs.take(codes, torch.tensor([row])) for row in range(2)])
    torch.testing.assert_close(model.decode(kept), decoded, atol=1e-5, rtol=1e-5)
    alone = outputs.decode(model, Codes(ids=codes.ids), range(2), (32, 48))
    assert (alone.int() - (decoded * 255).round().int()).abs().max() <= 1
    with pytest.raises(ArbenchError, match="their grid is 3 x 3"):
        model.decode(Codes(ids=codes.ids, grid=(3, 3)))


def test_the_part_of_a_pipeline_is_found(folder: Path) -> None:
    card = registry.card(f"diffusers:{folder / 'pipe'}")
    assert card.config["_class_name"] == "AutoencoderKL"
    assert registry.matching([card.name, "tokenizers/jpeg"])[0] == card
    assert adapter.chosen([card.name]) == [card]


def test_identity_follows_weights_and_configuration(folder: Path, tmp_path: Path) -> None:
    """What enters the key of a result: another weight, another configuration, another number."""
    copy = tmp_path / "copy"
    copy.mkdir()
    for each in (folder / "kl").iterdir():
        (copy / each.name).write_bytes(each.read_bytes())
    name, before = f"diffusers:{copy}", weight_parts.digest_of(folder / "kl")
    assert weight_parts.digest_of(copy) == before
    version = registry.card(name).version
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(config | {"scaling_factor": 2.0}))
    assert registry.card(name).version != version
    assert weight_parts.digest_of(copy) != before


def test_it_keeps_the_contract(folder: Path) -> None:
    card = registry.card(f"diffusers:{folder / 'kl'}")
    verdicts = {verdict.name: verdict for verdict in adapter.check(adapter.plan(card))}
    assert [each for each in verdicts.values() if each.outcome == "FAIL"] == []
    assert verdicts["parameters"].outcome == "ok"
    assert verdicts["batch"].outcome == "ok"


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "neither config.json nor model_index.json"),
        ({"config.json": "{"}, "cannot read"),
        ({"config.json": '{"_class_name": "UNet2DModel"}'}, "is not an autoencoder"),
        ({"config.json": '{"_class_name": "AutoencoderOobleck"}'}, "cannot be a tokenizer"),
        ({"model_index.json": '{"unet": ["diffusers", "UNet2DModel"]}'}, "names none that is there"),
    ],
)
def test_folders_that_are_no_tokenizers(tmp_path: Path, files: dict[str, str], message: str) -> None:
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(ArbenchError, match=message):
        registry.card(f"diffusers:{tmp_path}")


def test_names_that_are_not_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(ArbenchError, match="hf download nobody/nothing"):
        registry.card("diffusers:nobody/nothing")
    with pytest.raises(ArbenchError, match=r"no folder \./nothing"):
        registry.card("diffusers:./nothing")
