"""The minis that the quickstart leaves out, TiTok's and FlowAR's: digits as asked for, their files, their training."""

from __future__ import annotations

import functools
import json
from typing import Any

import pytest
import torch
from safetensors import safe_open
from torch import Tensor

from arbench import registry
from arbench.adapters.layers.checkpoint import seeded
from arbench.adapters.layers.config import from_upstream
from arbench.adapters.layers.kinds import recognise
from arbench.adapters.layers.titok import Network as TiTokNetwork
from arbench.adapters.next_scale.flowar.cards import MINI as FLOWAR
from arbench.adapters.next_scale.flowar.network import BETWEEN, TRAINING_ONLY, Config, Network
from arbench.adapters.next_scale.flowar.training import FlowTraining, initialise
from arbench.adapters.random_order.titok.cards import MINI as TITOK
from arbench.adapters.random_order.titok.training import masked_places
from arbench.adapters.tokenizers.titok.cards import MINI as TOKENIZER
from arbench.adapters.tokenizers.titok.training import CODES_ALONE, TiTokTraining
from arbench.adapters.train.loop import fit, step_generator
from arbench.data.readers.mnist import CLASSES, mnist5k
from arbench.images import to_float, to_uint8
from arbench.metrics.classifier import DigitClassifier
from arbench.protocols import Card, Codes, LoadSpec, Request
from arbench.run.plan import make_plan
from arbench.seeds import noise_for
from arbench.spec import suite_file
from arbench.weights import find

GENERATORS = (TITOK, FLOWAR)
by_name = pytest.mark.parametrize("card", GENERATORS, ids=lambda card: card.name)


@functools.cache
def model(name: str) -> Any:
    card = registry.card(name)
    given = (model(card.tokenizer),) if card.tokenizer else ()
    return registry.resolve(card.implementation).load(card, LoadSpec(weights=find(card)), *given)


def drawn(card: Card, ids: range) -> Codes:
    labels = torch.tensor([i % CLASSES for i in ids])
    codes = model(card.name).sample(Request(tuple(ids), noise_for(0, ids), labels=labels), card.native).codes
    assert isinstance(codes, Codes)
    return codes


# ---- the samples -----------------------------------------------------------------------------------------------------


@by_name
def test_samples_are_of_the_class_asked_for(card: Card) -> None:
    count = 80
    images = model(card.name).tokenizer.decode(drawn(card, range(count)))
    assert images.shape == (count, 3, 32, 32)
    read = torch.as_tensor(DigitClassifier().predict(to_uint8(images)))
    assert (read == torch.arange(count) % CLASSES).double().mean() >= 0.9
    threes = images[3::CLASSES].flatten(1)
    assert torch.cdist(threes, threes)[~torch.eye(len(threes), dtype=torch.bool)].min() > 0.5  # they are not all alike


@by_name
def test_samples_do_not_depend_on_the_batch(card: Card) -> None:
    whole = drawn(card, range(7))
    for size in (1, 4):
        parts = [drawn(card, range(i, min(i + size, 7))) for i in range(0, 7, size)]
        if card is TITOK:
            assert torch.equal(torch.cat([part.ids[0] for part in parts]), whole.ids[0])
        else:
            assert whole.latents is not None
            latents = torch.cat([part.latents for part in parts if part.latents is not None])
            assert (latents - whole.latents).norm() <= 1e-4 * whole.latents.norm()


def test_digits_it_has_not_seen_are_reconstructed_from_16_codes() -> None:
    tokenizer, source = model(TOKENIZER.name), mnist5k("heldout")
    assert source.labels is not None
    images, labels = to_float(source.load(range(100))), torch.from_numpy(source.labels[:100])
    codes = tokenizer.encode(images)
    assert codes.ids[0].shape == (100, 16)
    assert len(codes.ids[0].unique()) > 128  # of 256
    made = tokenizer.decode(codes)
    read = torch.as_tensor(DigitClassifier().predict(to_uint8(made)))
    assert (read == labels).double().mean() >= 0.9
    mean = images.mean(0, keepdim=True)
    assert (made - images).square().mean() < 0.4 * (mean - images).square().mean()


# ---- the files and the suite -----------------------------------------------------------------------------------------

# What the files are told by, and a key of the official layout that no other system has.
FILES = {
    TITOK.name: ("a TiTok generator", "model.embeddings.word_embeddings.weight"),
    FLOWAR.name: ("a FlowAR generator", "flownet.input_proj.weight"),
    TOKENIZER.name: ("a TiTok tokenizer", "encoder.latent_token_positional_embedding"),
}


@pytest.mark.parametrize("name", FILES)
def test_shipped_weights_have_the_official_layout_and_a_card(name: str) -> None:
    card, (kind, key) = registry.card(name), FILES[name]
    path = find(card)
    assert path is not None
    assert path.stat().st_size < 5e6
    with safe_open(path, "pt") as file:
        keys = set(file.keys())
        parameters = sum(file.get_tensor(key).numel() for key in keys)
    assert key in keys
    assert recognise(list(keys)) == kind
    training = json.loads(path.with_suffix(".json").read_text())
    assert training["name"] == name
    assert training["parameters"] == parameters == card.parameters
    if name != TOKENIZER.name:
        given, free = sorted(key for key in training["measured"] if key.startswith("heldout"))
        assert training["measured"][given] < training["measured"][free]  # the class explains what it can
        assert training["class_agreement"]["value"] >= 0.9


def test_a_suite_has_all_minis_and_the_quickstart_has_not_these() -> None:
    minis = {card.name for card in registry.cards().values() if card.checkpoint and card.checkpoint.packaged}
    cells = make_plan(suite_file.read("all-minis")).cells
    assert {planned.outcome for planned in cells} == {None}
    for kind, tasks in (("generator", {"generate", "speed"}), ("tokenizer", {"reconstruct", "speed"})):
        for name in minis:
            if registry.card(name).kind == kind:
                assert {planned.cell.task.task for planned in cells if planned.cell.adapter == name} == tasks
    assert {planned.cell.adapter for planned in cells} == minis
    assert not minis & set(FILES) & {planned.cell.adapter for planned in make_plan(suite_file.read("quickstart")).cells}


# ---- the training ----------------------------------------------------------------------------------------------------


def flow(seed: int = 0) -> Network:
    small = {"encoder_embed_dim": 16, "decoder_embed_dim": 16, "encoder_depth": 1, "decoder_depth": 1}
    config = FLOWAR.config | small | {"encoder_num_heads": 2, "decoder_num_heads": 2, "diffloss_d": 1, "diffloss_w": 64}
    with seeded(seed):
        network = Network(from_upstream(Config, config, TRAINING_ONLY))
        initialise(network)
    return network


def test_all_scales_in_one_pass_are_as_one_by_one() -> None:
    network, labels = flow(), torch.tensor([1, 7])
    with seeded(1), torch.no_grad():
        for parameter in network.parameters():
            parameter.normal_(std=0.1)  # nothing is without effect
        latents = torch.randn(2, 16, 2, 2)
        condition = network.class_table(labels)
        small = torch.nn.functional.interpolate(latents, size=(1, 1), mode="area")
        between = BETWEEN, BETWEEN
        fed = [network.fed(before, side, between=between) for before, side in ((small, 2), (latents, 4))]
        parts = [condition.unsqueeze(1), *fed]
        modulations, caches = network.modulate(condition), network.allocate(2)
        single = [network(part, modulations, scale, caches) for scale, part in enumerate(parts)]
        together = network.together(torch.cat(parts, dim=1), modulations)
    torch.testing.assert_close(together, torch.cat(single, dim=1), rtol=1e-4, atol=1e-5)


def test_the_flow_learns_and_leaves_no_parameter_behind() -> None:
    training = FlowTraining(flow())
    labels = torch.arange(20) % CLASSES
    mean = (labels.float() - 4.5)[:, None, None, None].expand(-1, 16, 4, 4) / 3
    batch = torch.stack((mean, torch.full_like(mean, 0.01)), dim=1), labels
    losses: list[float] = []
    untrained = {name: value.clone() for name, value in training.network.state_dict().items()}
    fit(
        training,
        training.loss,
        lambda step: batch,
        steps=40,
        learning_rate=5e-3,
        seed=0,
        on_step=lambda step, metrics: losses.append(metrics["loss"]),
    )
    assert losses[-1] < 0.8 * losses[0]
    same = [name for name, value in training.network.state_dict().items() if torch.equal(value, untrained[name])]
    assert same == []
    one, again, other = (training.loss(batch, step_generator(seed, 0))[0].item() for seed in (1, 1, 2))
    assert one == again != other


def test_places_are_masked_by_the_schedule_of_sampling() -> None:
    mask = masked_places(4000, 16, step_generator(0, 0))
    counts = mask.sum(1)
    assert counts.min() == 1
    assert counts.max() == 16
    # the mean of arccos(r) 2 / pi over r in [0, 1] is 2 / pi
    assert counts.double().mean() / 16 == pytest.approx(0.637, abs=0.02)
    assert mask.double().mean(0) == pytest.approx([mask.double().mean().item()] * 16, abs=0.04)


def test_ever_more_images_are_decoded_from_codes() -> None:
    size = {"width": 16, "num_layers": 1, "num_heads": 2}
    with seeded(0):
        training = TiTokTraining(
            TiTokNetwork({**TOKENIZER.config, "vit_enc_model_size": size, "vit_dec_model_size": size})
        )

    def from_features() -> int:
        decoded: Tensor = training.decoded(torch.zeros(8, 16, 8), torch.ones(8, 16, 8))
        return int((decoded == 0).flatten(1).all(1).sum())

    counts = []
    for progress in (0.0, 0.25, CODES_ALONE, 1.0):
        training.progress.fill_(progress)
        counts.append(from_features())
    assert counts == [8, 4, 0, 0]
