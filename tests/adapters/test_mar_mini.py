"""The shipped MAR and its KL autoencoder: digits they have not seen, classes asked for, edits, files, training."""

from __future__ import annotations

import functools
import json

import pytest
import torch
from safetensors import safe_open
from torch import Tensor

from arbench.adapters.continuous.mar.adapter import MAR
from arbench.adapters.continuous.mar.cards import MINI as MAR_MINI
from arbench.adapters.continuous.mar.network import TRAINING_ONLY, Config, Network
from arbench.adapters.continuous.mar.training import MARTraining, initialise, masked_count
from arbench.adapters.layers.checkpoint import seeded
from arbench.adapters.layers.config import from_upstream
from arbench.adapters.tokenizers.mar_kl.adapter import MARKL
from arbench.adapters.tokenizers.mar_kl.cards import MINI as MAR_KL_MINI
from arbench.adapters.tokenizers.mar_kl.network import LATENT_SCALE
from arbench.adapters.tokenizers.mar_kl.network import Network as KLNetwork
from arbench.adapters.tokenizers.mar_kl.training import KLTraining, measure, standardised
from arbench.adapters.train.digits import mnist_batches
from arbench.adapters.train.loop import fit
from arbench.data.readers.mnist import CLASSES, mnist5k
from arbench.images import to_float, to_uint8
from arbench.metrics.classifier import DigitClassifier
from arbench.protocols import Card, Codes, LoadSpec, Request
from arbench.registry import card
from arbench.seeds import noise_for
from arbench.weights import find

CPU = torch.device("cpu")
RIGHT = torch.zeros(4, 4, dtype=torch.bool).index_fill(1, torch.tensor([2, 3]), True)


@functools.cache
def tokenizer() -> MARKL:
    return MARKL.load(MAR_KL_MINI, LoadSpec(weights=find(MAR_KL_MINI)))


@functools.cache
def mini() -> MAR:
    return MAR.load(MAR_MINI, LoadSpec(weights=find(MAR_MINI)), tokenizer())


def heldout(count: int) -> tuple[Tensor, Tensor]:
    source = mnist5k("heldout")
    assert source.labels is not None
    return to_float(source.load(range(count))), torch.from_numpy(source.labels[:count])


def request(ids: range) -> Request:
    return Request(tuple(ids), noise_for(0, ids), labels=torch.tensor([i % CLASSES for i in ids]))


def latents(codes: Codes | None) -> Tensor:
    assert codes is not None
    assert codes.latents is not None
    return codes.latents


def psnr(images: Tensor, reference: Tensor) -> float:
    return float((-10 * (images - reference).square().flatten(1).mean(1).log10()).mean())


def agreement(images: Tensor, labels: Tensor) -> float:
    predicted = torch.as_tensor(DigitClassifier().predict(to_uint8(images)))
    return (predicted == labels).float().mean().item()


# ---- the autoencoder -------------------------------------------------------------------------------------------------


def test_digits_it_has_not_seen_are_reconstructed_better_than_from_as_many_ids() -> None:
    images, _ = heldout(100)
    codes = tokenizer().encode(images)
    assert latents(codes).shape == (100, 16, 4, 4)
    assert psnr(tokenizer().decode(codes), images) > 25  # VAR's, with ids on the same grid, reaches 22.0 dB
    drawn = tokenizer().encode(images, noise=noise_for(0, range(100)))
    assert psnr(tokenizer().decode(drawn), images) > 24.5  # its posterior is tight
    scaled = LATENT_SCALE * latents(codes)
    assert scaled.std() == pytest.approx(1.0, abs=0.1)  # what generators are made for
    assert scaled.mean().abs() < 0.1


def test_codes_do_not_depend_on_the_batch() -> None:
    images, _ = heldout(8)
    together = latents(tokenizer().encode(images))
    alone = torch.cat([latents(tokenizer().encode(images[i : i + 1])) for i in range(8)])
    torch.testing.assert_close(alone, together, rtol=1e-4, atol=1e-4)


# ---- the generator ---------------------------------------------------------------------------------------------------


def test_samples_are_of_the_class_asked_for() -> None:
    done = mini().sample(request(range(200)), MAR_MINI.native)
    images = tokenizer().decode(Codes(latents=latents(done.codes)))
    assert images.shape == (200, 3, 32, 32)
    labels = torch.arange(200) % CLASSES
    assert agreement(images, labels) >= 0.9
    one = images[labels == 3].flatten(1)
    assert torch.cdist(one, one)[~torch.eye(len(one), dtype=torch.bool)].min() > 0.5  # they are not all alike


def test_samples_do_not_depend_on_the_batch() -> None:
    whole = latents(mini().sample(request(range(12)), MAR_MINI.native).codes)
    for size in (1, 5):
        parts = [
            latents(mini().sample(request(range(i, min(i + size, 12))), MAR_MINI.native).codes)
            for i in range(0, 12, size)
        ]
        assert (torch.cat(parts) - whole).norm() <= 1e-4 * whole.norm()


def test_half_of_a_digit_is_completed() -> None:
    images, labels = heldout(100)
    codes = tokenizer().encode(images)
    asked = Request(tuple(range(100)), noise_for(0, range(100)), labels=labels)
    done = mini().edit(asked, codes, RIGHT, MAR_MINI.native)
    after = latents(done.codes)
    assert torch.equal(after[..., ~RIGHT], latents(codes)[..., ~RIGHT])
    assert not torch.equal(after, latents(codes))
    assert agreement(tokenizer().decode(Codes(latents=after)), labels) >= 0.9


# ---- the files -------------------------------------------------------------------------------------------------------

# Keys of the official layouts that no other system has.
OFFICIAL_KEYS = {
    "tokenizers/mar-kl-mini": {"encoder.down.3.attn.0.q.weight", "decoder.mid.attn_1.v.bias", "quant_conv.weight"},
    "continuous/mar-mini": {"fake_latent", "decoder_blocks.0.attn.qkv.weight", "diffloss.net.cond_embed.weight"},
}


@pytest.mark.parametrize("chosen", [MAR_KL_MINI, MAR_MINI], ids=lambda chosen: chosen.name)
def test_shipped_weights_have_the_official_layout_and_a_card(chosen: Card) -> None:
    assert card(chosen.name) == chosen
    path = find(chosen)
    assert path is not None
    assert path.stat().st_size < 5e6
    with safe_open(path, "pt") as file:
        keys = set(file.keys())
        parameters = sum(file.get_tensor(key).numel() for key in keys)
    assert keys >= OFFICIAL_KEYS[chosen.name]
    training = json.loads(path.with_suffix(".json").read_text())
    assert training["name"] == chosen.name
    assert training["parameters"] == parameters == chosen.parameters


# ---- the training ----------------------------------------------------------------------------------------------------


def autoencoder() -> KLNetwork:
    with seeded(0):
        return KLNetwork({"embed_dim": 4, "ch": 32, "ch_mult": (1, 1, 1, 1), "num_res_blocks": 1})


def test_scaling_the_latents_leaves_reconstructions_as_they_were() -> None:
    network, images = autoencoder(), heldout(40)[0]
    folded = standardised(network, images)
    with torch.no_grad():
        mean, deviation = network.moments(images * 2 - 1)
        scaled, spread = folded.moments(images * 2 - 1)
        torch.testing.assert_close(folded.render(scaled), network.render(mean), rtol=1e-4, atol=1e-4)
        drawn = mean + 0.7 * deviation  # the posterior is scaled with it
        torch.testing.assert_close(folded.render(scaled + 0.7 * spread), network.render(drawn), rtol=1e-4, atol=1e-4)
    inside = LATENT_SCALE * scaled
    assert inside.std().item() == pytest.approx(1.0, abs=1e-3)
    torch.testing.assert_close(inside.mean(dim=(0, 2, 3)), torch.zeros(4), rtol=0, atol=1e-3)
    found = measure(folded, limit=20)
    assert found.keys() == {
        "heldout_psnr_db",
        "heldout_psnr_db_of_a_draw",
        "scaled_latents_std",
        "scaled_posterior_std",
    }


def test_the_autoencoder_learns() -> None:
    training = KLTraining(autoencoder())
    shown: list[float] = []
    fit(
        training,
        training.loss,
        mnist_batches(4, 0, CPU),
        steps=8,
        learning_rate=2e-3,
        seed=0,
        on_step=lambda step, metrics: shown.append(metrics["psnr"]),
    )
    assert shown[-1] > shown[0]


def test_the_masked_share_is_cut_and_mostly_large() -> None:
    counts = torch.tensor(
        [masked_count(16, 0.05, torch.Generator().manual_seed(seed)) for seed in range(400)], dtype=torch.float
    )
    assert 1 <= counts.min() < 6
    assert counts.max() == 16
    assert (counts > 8).float().mean() > 0.6
    assert min(masked_count(16, 0.7, torch.Generator().manual_seed(seed)) for seed in range(50)) == 12


def tiny(seed: int = 0) -> MARTraining:
    small = {"encoder_embed_dim": 16, "decoder_embed_dim": 16, "diffloss_w": 16}
    depths = {"encoder_depth": 1, "decoder_depth": 1, "diffloss_d": 1}
    with seeded(seed):
        network = Network(from_upstream(Config, MAR_MINI.config | small | depths, TRAINING_ONLY))
        initialise(network)
    return MARTraining(network, least_masked=0.2, copies=2)


def batch() -> tuple[Tensor, Tensor]:
    """Latents that are one number, a class's own, with hardly any deviation."""
    labels = torch.arange(20) % CLASSES
    mean = (labels.float() - 4.5)[:, None, None, None].expand(-1, 16, 4, 4) / 3
    return torch.stack((mean, torch.full_like(mean, 0.01)), dim=1), labels


def test_the_head_starts_silent_and_learns() -> None:
    training, (moments, labels) = tiny(), batch()
    start = training.measure(moments, labels)
    # it predicts no noise, of a variance of one, and the middle of the range of variances
    assert start["heldout_diffusion_loss"] == pytest.approx(start["heldout_diffusion_loss_without_class"], rel=1e-5)
    fit(training, training.loss, lambda step: (moments, labels), steps=60, learning_rate=5e-3, seed=0)
    assert training.measure(moments, labels)["heldout_diffusion_loss"] < start["heldout_diffusion_loss"] - 0.1
    untrained = tiny().network.state_dict()
    assert [name for name, value in training.network.state_dict().items() if torch.equal(value, untrained[name])] == []


def test_the_loss_is_a_function_of_its_generator() -> None:
    training, (moments, labels) = tiny(), batch()

    def loss(seed: int, moments: Tensor = moments, labels: Tensor = labels) -> float:
        return training.predict(labels, moments, torch.Generator().manual_seed(seed)).item()

    before = torch.get_rng_state()
    assert loss(1) == loss(1) != loss(2)
    assert torch.equal(torch.get_rng_state(), before)
