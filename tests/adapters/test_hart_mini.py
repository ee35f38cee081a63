"""HART's shipped minis: the tokenizer decodes with and without the residual, the generator draws what it is asked."""

from __future__ import annotations

import functools
import json

import pytest
import torch
from safetensors import safe_open
from torch import Tensor

from arbench.adapters.hybrid.hart.adapter import HART
from arbench.adapters.tokenizers.hart.adapter import HARTTokenizer
from arbench.adapters.tokenizers.hart.network import RESIDUAL_SCALE
from arbench.adapters.tokenizers.hart.training import HybridTraining, rescaled, residuals
from arbench.data.readers.mnist import CLASSES, mnist5k
from arbench.images import to_float, to_uint8
from arbench.metrics.classifier import DigitClassifier
from arbench.protocols import Codes, LoadSpec, Request, Sampling
from arbench.registry import card
from arbench.seeds import noise_for
from arbench.weights import find

OFFICIAL_KEYS = {
    "tokenizers/hart-mini": {"vae.encoder.down.0.block.0.norm1.weight", "vae.quantize.quant_resi.qresi_ls.0.weight"},
    "hybrid/hart-mini": {"context_embed.weight", "decoder_norm.weight", "diffloss.net.res_blocks.0.in_ln.weight"},
}


@functools.cache
def tokenizer() -> HARTTokenizer:
    chosen = card("tokenizers/hart-mini")
    return HARTTokenizer.load(chosen, LoadSpec(weights=find(chosen)))


@functools.cache
def generator() -> HART:
    chosen = card("hybrid/hart-mini")
    return HART.load(chosen, LoadSpec(weights=find(chosen)), tokenizer())


@functools.cache
def digits() -> tuple[Tensor, Tensor]:
    source = mnist5k("heldout")
    assert source.labels is not None
    return to_float(source.load(range(200))), torch.from_numpy(source.labels[:200])


def drawn(ids: range, sampling: Sampling | None = None) -> Codes:
    labels = torch.tensor([i % CLASSES for i in ids])
    model = generator()
    codes = model.sample(Request(tuple(ids), noise_for(0, ids), labels=labels), sampling or model.card.native).codes
    assert codes is not None
    return codes


def agreement(images: Tensor) -> float:
    predicted = DigitClassifier().predict(to_uint8(images))
    return sum(int(p) == i % CLASSES for i, p in enumerate(predicted)) / len(images)


def psnr(made: Tensor, images: Tensor) -> float:
    return (-10 * (made - images).square().flatten(1).mean(1).log10()).mean().item()


def test_the_residual_improves_what_codes_alone_reconstruct() -> None:
    images, _ = digits()
    codes = tokenizer().encode(images)
    hybrid, discrete = (psnr(tokenizer().decode(each), images) for each in (codes, codes.without_latents()))
    path = find(card("tokenizers/hart-mini"))
    assert path is not None
    measured = json.loads(path.with_suffix(".json").read_text())["measured"]
    # 200 of the thousand digits that the card was measured on
    assert hybrid == pytest.approx(measured["heldout_psnr_db"], abs=0.5)
    assert discrete == pytest.approx(measured["heldout_psnr_db_of_codes_alone"], abs=0.5)
    assert hybrid > discrete + 1
    assert codes.latents is not None
    assert (codes.latents.abs() <= RESIDUAL_SCALE).double().mean() >= 0.97  # the diffusion head clips the rest


def test_features_may_be_rescaled() -> None:
    images = digits()[0][:8]
    network, larger = tokenizer().network, rescaled(tokenizer().network, 4.0)
    with torch.inference_mode():
        (ids, f_hat), (same, scaled) = network.encode(images * 2 - 1), larger.encode(images * 2 - 1)
        assert (torch.cat(ids, dim=1) == torch.cat(same, dim=1)).all()  # a power of two rounds alike
        torch.testing.assert_close(larger.render(scaled), network.render(f_hat), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(residuals(larger, images), 4 * residuals(network, images), rtol=1e-4, atol=1e-4)


def test_half_of_a_training_batch_is_decoded_from_the_features() -> None:
    features = torch.randn(6, 16, 4, 4, generator=torch.Generator().manual_seed(0), requires_grad=True)
    f_hat = torch.zeros(6, 16, 4, 4)
    decoded = HybridTraining(tokenizer().network).decoded(features, f_hat)
    assert torch.equal(decoded[:3], features[:3])
    assert torch.equal(decoded[3:], f_hat[3:])
    (gradient,) = torch.autograd.grad(decoded.sum(), features)
    assert (gradient == 1).all()  # codes pass it on to the features


def test_samples_are_of_the_class_asked_for() -> None:
    codes = drawn(range(200))
    images = tokenizer().decode(codes)
    assert images.shape == (200, 3, 32, 32)
    assert agreement(images) >= 0.9
    threes = images[3::CLASSES].flatten(1)
    assert torch.cdist(threes, threes)[~torch.eye(len(threes), dtype=torch.bool)].min() > 0.5  # they are not all alike
    assert not torch.allclose(images, tokenizer().decode(codes.without_latents()), atol=0.05)


def test_samples_without_the_residual_are_of_the_class_too() -> None:
    native = generator().card.native
    codes = drawn(range(100), native.model_copy(update={"extra": {"residual": False}}))
    assert codes.latents is not None
    assert codes.latents.abs().max() < 1e-5
    assert agreement(tokenizer().decode(codes.without_latents())) >= 0.85  # of a hundred, and without what refines them


def test_samples_do_not_depend_on_the_batch() -> None:
    whole, parts = drawn(range(40)), [drawn(range(i, min(i + 7, 40))) for i in range(0, 40, 7)]
    for codes, count in ((parts, 40), ([drawn(range(i, i + 1)) for i in range(6)], 6)):
        ids = torch.cat([torch.cat(part.ids, dim=1) for part in codes])
        assert torch.equal(ids, torch.cat(whole.ids, dim=1)[:count])
        latents = torch.cat([part.latents for part in codes if part.latents is not None])
        assert whole.latents is not None
        # the first diffusion step multiplies rounding by 2e4 before it clips
        assert ((latents - whole.latents[:count]).abs() < 1e-3).double().mean() >= 0.99


def test_the_class_explains_held_out_tokens() -> None:
    images, labels = digits()
    codes = tokenizer().encode(images)
    tokens = torch.cat(codes.ids, dim=1)

    def nats(labels: Tensor) -> float:
        asked = Request(tuple(range(200)), noise_for(0, range(200)), labels=labels)
        return torch.nn.functional.cross_entropy(generator().logits(asked, codes).transpose(1, 2), tokens).item()

    assert nats(labels) < nats((labels + 1) % CLASSES)
    path = find(card("hybrid/hart-mini"))
    assert path is not None
    measured = json.loads(path.with_suffix(".json").read_text())["measured"]
    assert measured["heldout_nats_per_token"] < measured["heldout_nats_per_token_without_class"]
    # 200 of the thousand digits, whose means of 30 tokens differ by about a third
    assert nats(labels) == pytest.approx(measured["heldout_nats_per_token"], rel=0.1)


@pytest.mark.parametrize("name", OFFICIAL_KEYS)
def test_shipped_weights_have_the_official_layout_and_a_card(name: str) -> None:
    chosen = card(name)
    path = find(chosen)
    assert path is not None
    assert path.stat().st_size < 5_000_000
    with safe_open(path, "pt") as file:
        keys = set(file.keys())
        parameters = sum(file.get_tensor(key).numel() for key in keys)
    assert OFFICIAL_KEYS[name] <= keys
    training = json.loads(path.with_suffix(".json").read_text())
    assert training["name"] == name
    assert training["parameters"] == parameters == chosen.parameters
