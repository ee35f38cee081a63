"""LlamaGen: sampling against a sampler without cache, guidance, batches, official keys, sizes and errors."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from arbench.adapters.layers.config import from_upstream
from arbench.adapters.layers.llama import Block
from arbench.adapters.layers.sampling import token_probabilities
from arbench.adapters.raster.llamagen.adapter import LlamaGen, generate, upstream_sampling
from arbench.adapters.raster.llamagen.cards import CARDS
from arbench.adapters.raster.llamagen.cards import MINI as LLAMAGEN_MINI
from arbench.adapters.raster.llamagen.network import TRAINING_ONLY, Config, Network, official_names
from arbench.errors import CheckpointError, ConfigError, InputError, MissingWeights, Unsupported, UsageError
from arbench.protocols import Card, Generator, Guidance, LoadSpec, Request, Sampling, Scores
from arbench.seeds import Greedy, noise_for

MICRO: dict[str, Any] = {
    "dim": 32,
    "n_layer": 2,
    "n_head": 4,
    "multiple_of": 16,
    "num_classes": 5,
    "vocab_size": 24,
    "block_size": 16,
}


def micro_card(**config: Any) -> Card:
    return LLAMAGEN_MINI.model_copy(update={"name": "raster/micro", "config": MICRO | config, "checkpoint": None})


def micro(dtype: str = "float32", **config: Any) -> LlamaGen:
    """A small model with random weights whose logits are far from flat."""
    model = LlamaGen.load(micro_card(**config), LoadSpec(init="random", dtype=dtype), None)  # type: ignore[arg-type]
    model.network.head.weight.mul_(4)
    return model


def request(ids: range, seed: int = 3) -> Request:
    return Request(tuple(ids), noise_for(seed, ids), labels=torch.tensor([i % 5 for i in ids]))


def tokens_of(model: LlamaGen, ids: range, sampling: Sampling, seed: int = 3) -> Tensor:
    generated = model.sample(request(ids, seed), sampling)
    assert generated.codes is not None
    return generated.codes.ids[0]


@torch.inference_mode()
def without_cache(network: Network, given: Tensor, sampling: Sampling, guided: int) -> Tensor:
    """Greedy tokens by scoring the whole sequence anew for every token; the first `guided` are guided."""
    count = network.config.block_size
    tokens = torch.zeros(len(given), count, dtype=torch.int64)
    for index in range(count):
        logits = network.score(given, tokens)[:, index]
        if index < guided:
            free = network.score(network.null(given), tokens)[:, index]
            logits = free + sampling.guidance.scale * (logits - free)
        tokens[:, index] = token_probabilities(logits, sampling).argmax(-1)
    return tokens


@pytest.mark.parametrize("kv_heads", [None, 2, 1])
@pytest.mark.parametrize("until", [1.0, 0.25, 0.0])
def test_greedy_tokens_equal_those_of_a_sampler_without_cache(kv_heads: int | None, until: float) -> None:
    network = micro(n_kv_head=kv_heads).network
    sampling = Sampling(guidance=Guidance(scale=3.0, until=until), top_k=7, temperature=0.8)
    labels = torch.arange(5)
    tokens, forwards = generate(network, labels, sampling, Greedy(5))
    guided = round(16 * until)
    assert torch.equal(tokens, without_cache(network, labels, sampling, guided))
    assert forwards == 16 + guided


def test_captions_with_padding_equal_a_sampler_without_cache() -> None:
    network = micro(model_type="t2i", cls_token_num=3, caption_dim=8).network
    torch.nn.init.normal_(network.null_caption, generator=torch.Generator().manual_seed(0))
    captions = torch.randn(4, 3, 8, generator=torch.Generator().manual_seed(1))
    sampling = Sampling(guidance=Guidance(scale=2.0))
    tokens, _ = generate(network, captions, sampling, Greedy(4))
    with torch.inference_mode():
        assert torch.equal(tokens, without_cache(network, captions, sampling, 16))
        everything = torch.ones(4, 3, dtype=torch.bool)
        assert torch.equal(tokens, generate(network, captions, sampling, Greedy(4), valid=everything)[0])
        padded = everything.clone()
        padded[:, 0] = False
        noisy = captions.clone()
        noisy[:, 0] += 5  # what stands at a padded place must not matter
        plain = Sampling()
        one, _ = generate(network, captions, plain, Greedy(4), valid=padded)
        other, _ = generate(network, noisy, plain, Greedy(4), valid=padded)
        assert torch.equal(one, other)
        assert not torch.equal(one, generate(network, noisy, plain, Greedy(4))[0])


def test_cached_states_equal_uncached_logits() -> None:
    network = micro().network
    labels, tokens = torch.arange(5), torch.randint(24, (5, 16), generator=torch.Generator().manual_seed(0))
    caches = network.allocate(5)
    with torch.inference_mode():
        expected = network.score(labels, tokens)
        got = [network.logits(network(network.condition(labels), 0, caches))]
        for index in range(15):
            got.append(network.logits(network(network.token_table(tokens[:, index : index + 1]), index + 1, caches)))
    assert (torch.cat(got, dim=1) - expected).norm() <= 1e-5 * expected.norm()


def test_grouped_keys_equal_full_ones_with_repeated_weights() -> None:
    grouped = Block(Config(**MICRO, n_kv_head=2))
    full = Block(Config(**MICRO))
    query, key, value = grouped.qkv.weight.detach().split([32, 16, 16])
    repeated = [part.reshape(2, 8, 32).repeat_interleave(2, dim=0).reshape(32, 32) for part in (key, value)]
    full.load_state_dict({**grouped.state_dict(), "qkv.weight": torch.cat((query, *repeated))})
    x = torch.randn(2, 6, 32, generator=torch.Generator().manual_seed(0))
    rotations = torch.randn(6, 4, 2, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(grouped(x, rotations), full(x, rotations))


def test_guidance_off_is_half_the_forwards_and_scale_one_is_off() -> None:
    model = micro()
    guided = model.sample(request(range(3)), Sampling(guidance=Guidance(scale=2.0)))
    plain = model.sample(request(range(3)), Sampling(guidance=Guidance(scale=1.0)))
    assert (guided.forwards, plain.forwards) == (32, 16)
    assert guided.outer_steps == plain.outer_steps == 16


@pytest.mark.parametrize(
    ("interval", "guided"), [(-1, 16), (0, 2), (3, 5), (13, 15), (14, 16), (99, 16), (2.5, 4), (-0.5, 1)]
)
def test_cfg_interval_counts_decoded_tokens_after_the_first(interval: float, guided: int) -> None:
    sampling = upstream_sampling({"cfg_scale": 4.0, "cfg_interval": interval}, 16)
    network = micro().network
    _, forwards = generate(network, torch.arange(2), sampling, Greedy(2))
    assert forwards == 16 + guided


def test_upstream_settings_convert() -> None:
    assert upstream_sampling({"cfg_scale": 0.7}, 16) == Sampling()
    converted = upstream_sampling({"cfg_scale": 1.5, "top_k": 0, "top_p": 1.0, "temperature": 0.9}, 16)
    assert converted == Sampling(guidance=Guidance(scale=1.5), temperature=0.9)


def test_samples_do_not_depend_on_the_batch() -> None:
    model = micro()
    sampling = Sampling(guidance=Guidance(scale=1.5), top_p=0.95)
    whole = tokens_of(model, range(128), sampling)
    for size in (7, 64):
        parts = [tokens_of(model, range(i, min(i + size, 128)), sampling) for i in range(0, 128, size)]
        assert (torch.cat(parts) == whole).all(dim=1).double().mean() >= 0.999
    alone = torch.cat([tokens_of(model, range(i, i + 1), sampling) for i in range(12)])
    assert (alone == whole[:12]).all(dim=1).double().mean() >= 0.999
    assert not torch.equal(whole, tokens_of(model, range(128), sampling, seed=4))


def test_caches_for_a_larger_batch_serve_smaller_ones() -> None:
    model, fresh = micro(), micro()
    sampling = Sampling(guidance=Guidance(scale=2.0))
    model.prepare(8, sampling)
    model.sample(request(range(8)), sampling)  # leaves other samples' keys in the cache
    assert torch.equal(tokens_of(model, range(20, 23), sampling), tokens_of(fresh, range(20, 23), sampling))
    assert tokens_of(model, range(40), sampling).shape == (40, 16)


def test_phases_cover_every_token_once() -> None:
    seen: list[tuple[str, int, int]] = []

    @contextmanager
    def probe(phase: str, *, index: int = 0, tokens: int = 0) -> Iterator[None]:
        seen.append((phase, index, tokens))
        yield

    micro().sample(request(range(2)), Sampling(), probe=probe)
    assert seen == [("condition", 0, 0), ("prefill", 0, 1), *(("ar", index, 1) for index in range(1, 16))]


def test_scores_and_protocols() -> None:
    model = micro()
    assert isinstance(model, Generator)
    assert isinstance(model, Scores)
    sampled = model.sample(request(range(4)), Sampling())
    assert sampled.codes is not None
    logits = model.logits(request(range(4)), sampled.codes)
    assert logits.shape == (4, 16, 24)
    changed = sampled.codes.ids[0].clone()
    changed[:, 10] = (changed[:, 10] + 1) % 24
    later = model.logits(request(range(4)), type(sampled.codes)(ids=(changed,)))
    torch.testing.assert_close(later[:, :11], logits[:, :11])  # a token never sees itself or a later one
    assert not torch.allclose(later[:, 11:], logits[:, 11:])


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_follows_single(dtype: str) -> None:
    single, half = micro(), micro(dtype)
    codes = single.sample(request(range(4)), Sampling()).codes
    assert codes is not None
    expected, got = single.logits(request(range(4)), codes), half.logits(request(range(4)), codes)
    assert got.dtype == torch.float32
    # eight (bfloat16) or eleven (float16) bits a product, over a few dozen layers' worth of sums
    assert (got - expected).norm() <= 0.03 * expected.norm()
    assert half.network.rotations.dtype == torch.float32
    assert tokens_of(half, range(3), Sampling()).shape == (3, 16)


def test_random_weights_repeat_and_leave_torchs_generator_alone() -> None:
    before = torch.get_rng_state()
    first, second = micro(), micro()
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(a, b) for a, b in zip(first.network.parameters(), second.network.parameters(), strict=True))


def official_state(network: Network) -> dict[str, Tensor]:
    return {official_names(name)[0]: tensor for name, tensor in network.state_dict().items()}


@pytest.mark.parametrize("extra", [{}, {"freqs_cis": torch.zeros(17, 4, 2)}])
def test_official_files_load_strictly(tmp_path: Path, extra: dict[str, Tensor]) -> None:
    model = micro()
    path = tmp_path / "c2i_micro.pt"
    torch.save({"model": official_state(model.network) | extra, "steps": 5}, path)
    checkpoint = next(card for card in CARDS if card.name == "raster/llamagen-b-256").checkpoint
    card = micro_card().model_copy(update={"checkpoint": checkpoint})
    loaded = LlamaGen.load(card, LoadSpec(weights=path), None)
    sampling = Sampling(top_k=3)
    assert torch.equal(tokens_of(loaded, range(3), sampling), tokens_of(model, range(3), sampling))


def test_a_checkpoint_of_another_shape_names_all_that_is_wrong(tmp_path: Path) -> None:
    state = official_state(micro().network)
    state["surplus.weight"] = state.pop("norm.weight")
    path = tmp_path / "c2i_micro.pt"
    torch.save(state, path)
    with pytest.raises(CheckpointError) as caught:
        LlamaGen.load(micro_card(), LoadSpec(weights=path), None)
    assert "norm.weight" in caught.value.why
    assert "surplus.weight" in caught.value.why


KEYS = {
    "cls_embedding.embedding_table.weight",
    "tok_embeddings.weight",
    "norm.weight",
    "output.weight",
    "layers.0.attention.wqkv.weight",
    "layers.0.attention.wo.weight",
    "layers.0.feed_forward.w1.weight",
    "layers.0.feed_forward.w2.weight",
    "layers.0.feed_forward.w3.weight",
    "layers.0.attention_norm.weight",
    "layers.0.ffn_norm.weight",
}
CAPTION_KEYS = {
    "cls_embedding.uncond_embedding",
    "cls_embedding.cap_proj.fc1.weight",
    "cls_embedding.cap_proj.fc2.weight",
}


def test_official_keys() -> None:
    one_layer = Network(Config(**(MICRO | {"n_layer": 1})))
    assert official_state(one_layer).keys() == KEYS
    captions = Network(Config(**(MICRO | {"n_layer": 1, "model_type": "t2i", "caption_dim": 8})))
    assert official_state(captions).keys() == KEYS - {"cls_embedding.embedding_table.weight"} | CAPTION_KEYS


# millions, as printed by the official classes (class-conditional, 16 x 16 tokens); FFN widths from their layers
SIZES = {"b": (110.89, 2048), "l": (342.91, 2816), "xl": (774.70, 3584), "xxl": (1410.97, 4096), "3b": (3096.66, 8704)}
RELEASED = {"b-256", "b-384", "l-256", "l-384", "xl-384", "xxl-384", "3b-384"}


OFFICIAL = [card for card in CARDS if card.checkpoint and not card.checkpoint.packaged]


@pytest.mark.parametrize("card", [card for card in OFFICIAL if card.condition == "class"])
def test_official_cards_have_the_official_sizes(card: Card) -> None:
    with torch.device("meta"):
        network = Network(from_upstream(Config, card.config, TRAINING_ONLY))
    parameters = sum(parameter.numel() for parameter in network.parameters())
    size = card.name.removeprefix("raster/llamagen-")
    millions, hidden = SIZES[size.split("-")[0]]
    assert size in RELEASED
    assert parameters == card.parameters
    assert parameters / 1e6 == pytest.approx(millions, abs=0.005)
    assert network.config.hidden == hidden
    assert card.tokens is not None
    assert card.tokens.tokens == network.config.block_size == (card.resolution // 16) ** 2
    assert card.checkpoint is not None
    assert card.checkpoint.file == f"c2i_{size.upper().replace('-', '_')}.pt"
    expected = upstream_sampling(card.upstream_settings, card.tokens.tokens)
    assert card.native == expected


def test_all_released_sizes_have_a_card() -> None:
    captioned = {"t2i-xl-256", "t2i-xl-512"}
    assert {card.name.removeprefix("raster/llamagen-") for card in CARDS} == RELEASED | captioned | {"mini"}


@pytest.mark.parametrize("card", [card for card in OFFICIAL if card.condition == "text"])
def test_text_cards_have_the_official_sizes_and_keys(card: Card) -> None:
    with torch.device("meta"):
        network = Network(from_upstream(Config, card.config, TRAINING_ONLY))
    assert sum(parameter.numel() for parameter in network.parameters()) == card.parameters
    assert card.parameters is not None
    assert card.parameters / 1e6 == pytest.approx(775, abs=5)  # "775M"; the caption's layers come on top
    per_layer = {key for key in KEYS if key.startswith("layers.0.")}
    layers = {key.replace("layers.0.", f"layers.{index}.") for key in per_layer for index in range(36)}
    once = KEYS - per_layer - {"cls_embedding.embedding_table.weight"} | CAPTION_KEYS
    state = official_state(network)
    assert state.keys() == once | layers
    assert tuple(state["cls_embedding.uncond_embedding"].shape) == (120, 2048)
    assert tuple(state["cls_embedding.cap_proj.fc1.weight"].shape) == (1280, 2048)
    assert card.tokens is not None
    assert card.tokens.tokens == network.config.block_size == (card.resolution // 16) ** 2
    settings = {"cfg_scale": 7.5, "top_k": 1000, "temperature": 1.0, "top_p": 1.0}  # of upstream's sample_t2i.py
    assert card.native == upstream_sampling(settings, card.tokens.tokens)
    assert card.checkpoint is not None
    assert card.checkpoint.file in ("t2i_XL_stage1_256.pt", "t2i_XL_stage2_512.pt")


# ---- captions --------------------------------------------------------------------------------------------------------

WORDS = 5


def captioned(**config: Any) -> LlamaGen:
    config = {"model_type": "t2i", "cls_token_num": WORDS, "caption_dim": 8} | config
    card = micro_card(**config).model_copy(update={"condition": "text"})
    model = LlamaGen.load(card, LoadSpec(init="random"), None)
    model.network.head.weight.mul_(4)
    torch.nn.init.normal_(model.network.null_caption, generator=torch.Generator().manual_seed(0))
    return model


def captions(rows: int) -> tuple[Tensor, Tensor]:
    """Features and mask as a text encoder leaves them: text first, its padding not zero."""
    features = torch.randn(16, WORDS, 8, generator=torch.Generator().manual_seed(1))[:rows]
    return features, (torch.arange(WORDS) < 2 + torch.arange(rows)[:, None] % 4).long()


def caption_request(features: Tensor, mask: Tensor | None, **given: Any) -> Request:
    ids = range(len(features))
    return Request(tuple(ids), noise_for(3, ids), captions=features, caption_mask=mask, **given)


def drawn(model: LlamaGen, request: Request, sampling: Sampling) -> Tensor:
    codes = model.sample(request, sampling).codes
    assert codes is not None
    return codes.ids[0]


def test_captions_condition_the_image_and_padding_does_not() -> None:
    model, sampling = captioned(), Sampling(guidance=Guidance(scale=2.0))
    features, mask = captions(4)
    tokens = drawn(model, caption_request(features, mask), sampling)
    assert tokens.shape == (4, 16)
    noisy = torch.where(mask.bool().unsqueeze(-1), features, features + 5)
    assert torch.equal(drawn(model, caption_request(noisy, mask), sampling), tokens)
    rows = zip(features, mask.sum(1).tolist(), strict=True)
    moved = torch.stack([torch.cat((row[count:], row[:count])) for row, count in rows])
    assert torch.equal(drawn(model, caption_request(moved, mask.flip(1)), sampling), tokens)  # padded on the left
    others = drawn(model, caption_request(features.roll(1, 0), mask.roll(1, 0)), sampling)
    assert not torch.equal(others, tokens)
    whole = torch.ones_like(mask)
    unmasked = drawn(model, caption_request(features, None), sampling)
    assert torch.equal(unmasked, drawn(model, caption_request(features, whole), sampling))
    assert not torch.equal(unmasked, tokens)


def test_samples_of_captions_follow_the_scores() -> None:
    model = captioned()
    asked = caption_request(*captions(4))
    codes = model.sample(Request(asked.sample_ids, Greedy(4), None, None, *captions(4)), Sampling()).codes
    assert codes is not None
    assert torch.equal(model.logits(asked, codes).argmax(-1), codes.ids[0])


def test_captions_may_come_from_files(tmp_path: Path) -> None:
    model, sampling = captioned(), Sampling(top_k=5)
    features, mask = captions(3)
    paths = tuple(str(tmp_path / f"{row}.safetensors") for row in range(3))
    for path, row, places in zip(paths, features, mask, strict=True):
        save_file({"features": row.contiguous(), "mask": places.contiguous()}, path)
    given = Request((0, 1, 2), noise_for(3, range(3)), prompts=paths)
    assert torch.equal(drawn(model, given, sampling), drawn(model, caption_request(features, mask), sampling))


def test_wrong_captions_are_clear_errors(tmp_path: Path) -> None:
    model = captioned()
    features, mask = captions(2)
    with pytest.raises(UsageError, match="needs captions"):
        model.sample(request(range(2)), Sampling())
    for given in (
        caption_request(features[:, 1:], mask[:, 1:]),
        caption_request(features[..., 1:], mask),
        caption_request(features, mask[:, 1:]),
        Request((0, 1, 2), noise_for(0, range(3)), captions=features, caption_mask=mask),
    ):
        with pytest.raises(InputError, match="cannot use these captions"):
            model.sample(given, Sampling())
    with pytest.raises(InputError, match="cannot read"):
        model.sample(Request((0,), noise_for(0, [0]), prompts=(str(tmp_path / "a dog"),)), Sampling())
    with pytest.raises(UsageError, match="classes, not captions"):
        micro().sample(caption_request(features, mask), Sampling())


@pytest.mark.parametrize(("multiplier", "hidden"), [(None, 96), (1.3, 112), (2.0, 176)])
def test_feed_forward_width(multiplier: float | None, hidden: int) -> None:
    # 8/3 of 32 is 85; times 1.3 it is 110; each rounded up to a multiple of 16
    assert Config(**MICRO, ffn_dim_multiplier=multiplier).hidden == hidden


def test_wrong_requests_are_clear_errors() -> None:
    model = micro()
    with pytest.raises(UsageError, match="labels"):
        model.sample(Request((0,), noise_for(0, [0])), Sampling())
    with pytest.raises(Unsupported, match="order"):
        model.sample(request(range(1)), Sampling(order="random"))
    with pytest.raises(Unsupported, match="linear"):
        model.prepare(2, Sampling(guidance=Guidance(scale=2.0, schedule="linear")))
    with pytest.raises(Unsupported, match="guided"):
        micro(class_dropout_prob=0.0).sample(request(range(2)), Sampling(guidance=Guidance(scale=2.0)))
    with pytest.raises(ConfigError, match="n_layers"):
        micro(n_layers=3)
    with pytest.raises(MissingWeights):
        LlamaGen.load(micro_card(), LoadSpec(), None)


def test_a_tokenizer_with_other_codes_is_refused() -> None:
    from arbench.adapters.tokenizers.llamagen.adapter import LlamaGenVQ
    from arbench.adapters.tokenizers.llamagen.cards import MINI as TOKENIZER

    tokenizer = LlamaGenVQ.load(TOKENIZER, LoadSpec(init="random"))
    with pytest.raises(InputError, match="cannot use"):
        LlamaGen.load(micro_card(), LoadSpec(init="random"), tokenizer)
