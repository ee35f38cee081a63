"""VAR: sampling against a sampler without cache, guidance, batches, official keys, sizes and errors."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from arbench.adapters.layers.config import from_upstream
from arbench.adapters.layers.quantize import MultiScaleQuantizer
from arbench.adapters.layers.sampling import token_probabilities
from arbench.adapters.layers.scale_attention import ScaleAttention
from arbench.adapters.next_scale.var.adapter import VAR, generate, touched, upstream_sampling
from arbench.adapters.next_scale.var.cards import CARDS, guided
from arbench.adapters.next_scale.var.cards import MINI as VAR_MINI
from arbench.adapters.next_scale.var.network import TRAINING_ONLY, Config, Network, official_names
from arbench.adapters.tokenizers.llamagen.adapter import LlamaGenVQ
from arbench.adapters.tokenizers.llamagen.cards import MINI as OTHER_TOKENIZER
from arbench.adapters.tokenizers.var.adapter import VARTokenizer
from arbench.adapters.tokenizers.var.cards import MINI as TOKENIZER
from arbench.errors import CheckpointError, InputError, Unsupported, UsageError
from arbench.protocols import Card, Codes, Edits, Generator, Guidance, LoadSpec, Request, Sampling, Scores, TokenSpec
from arbench.seeds import Greedy, noise_for

SIDES = (1, 2, 3)
TOKENS = 14
MICRO: dict[str, Any] = {
    "patch_nums": SIDES,
    "vocab_size": 20,
    "z_channels": 6,
    "num_classes": 5,
    "depth": 2,
    "embed_dim": 32,
    "num_heads": 4,
    "attn_l2_norm": True,
}
VARIANTS = [
    {},
    {"shared_aln": True},
    {"attn_l2_norm": False},
    {"shared_aln": True, "attn_l2_norm": False, "mlp_ratio": 2.5},
]
SOME = guided(2.0)


def micro_card(**config: Any) -> Card:
    return VAR_MINI.model_copy(update={"name": "next_scale/micro", "config": MICRO | config, "checkpoint": None})


def micro_tokenizer(**config: Any) -> VARTokenizer:
    settings: dict[str, Any] = {"vocab_size": 20, "z_channels": 6, "ch": 32, "ch_mult": (1, 1), "num_res_blocks": 1}
    settings = settings | {"v_patch_nums": SIDES} | config
    tokens = TokenSpec.pyramid(settings["v_patch_nums"], 20)
    card = TOKENIZER.model_copy(update={"config": settings, "tokens": tokens, "checkpoint": None})
    return VARTokenizer.load(card, LoadSpec(init="random"))


def shake(network: Network) -> None:
    """Replace the zeros of a new network, so that nothing it has is without effect."""
    generator = torch.Generator().manual_seed(5)
    for parameter in network.parameters():
        parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))


def micro(dtype: str = "float32", **config: Any) -> VAR:
    spec = LoadSpec(init="random", dtype=dtype)  # type: ignore[arg-type]
    model = VAR.load(micro_card(**config), spec, micro_tokenizer())
    shake(model.network)
    return model


def request(ids: range, seed: int = 3) -> Request:
    return Request(tuple(ids), noise_for(seed, ids), labels=torch.tensor([i % 5 for i in ids]))


def sampled(model: VAR, ids: range, sampling: Sampling, seed: int = 3) -> Tensor:
    generated = model.sample(request(ids, seed), sampling)
    assert generated.codes is not None
    return torch.cat(generated.codes.ids, dim=1)


@torch.inference_mode()
def without_cache(
    network: Network, quantizer: MultiScaleQuantizer, labels: Tensor, sampling: Sampling, guided_scales: int
) -> Tensor:
    """Greedy tokens by scoring the whole pyramid anew for every scale."""
    levels = [torch.zeros(len(labels), side * side, dtype=torch.int64) for side in SIDES]
    nobody = torch.full_like(labels, network.config.num_classes)
    for scale, (side, start) in enumerate(zip(SIDES, (0, 1, 5), strict=True)):
        features = quantizer.teacher_forcing(levels)
        part = slice(start, start + side * side)
        logits = network.score(labels, features)[:, part]
        if scale < guided_scales:
            free = network.score(nobody, features)[:, part]
            extra = sampling.guidance.weight(scale / 2) - 1
            logits = (1 + extra) * logits - extra * free
        levels[scale] = token_probabilities(logits, sampling).argmax(-1)
    return torch.cat(levels, dim=1)


@pytest.mark.parametrize("config", VARIANTS)
@pytest.mark.parametrize("until", [1.0, 0.34, 0.0])
def test_greedy_tokens_equal_those_of_a_sampler_without_cache(config: dict[str, Any], until: float) -> None:
    model = micro(**config)
    guidance = Guidance(scale=3.0, schedule="linear", until=until)
    sampling = Sampling(guidance=guidance, top_k=5)
    labels = torch.arange(5)
    levels, _, forwards = generate(model.network, model.tokenizer.quantizer, labels, sampling, Greedy(5))
    scales = round(3 * until)
    expected = without_cache(model.network, model.tokenizer.quantizer, labels, sampling, scales)
    assert torch.equal(torch.cat(levels, dim=1), expected)
    assert forwards == 3 + scales


@pytest.mark.parametrize("config", VARIANTS)
def test_cached_states_equal_uncached_logits(config: dict[str, Any]) -> None:
    network = micro(**config).network
    features = torch.randn(4, TOKENS - 1, 6, generator=torch.Generator().manual_seed(2))
    labels = torch.arange(4)
    with torch.inference_mode():
        expected = network.score(labels, features)
        condition = network.class_table(labels)
        modulations, caches = network.modulate(condition), network.allocate(4)
        got = []
        for scale, (start, part) in enumerate(zip((0, 1, 5), (None, *features.split([4, 9], dim=1)), strict=True)):
            x = network.embed(part, condition, scale)
            got.append(network.logits(network(x, modulations, start, caches), condition))
    assert (torch.cat(got, dim=1) - expected).norm() <= 1e-5 * expected.norm()


@pytest.mark.parametrize("unit", [True, False])
def test_attention_follows_the_formula(unit: bool) -> None:
    attention = ScaleAttention(MICRO["embed_dim"], MICRO["num_heads"], unit=unit).requires_grad_(False)
    shake(attention)  # type: ignore[arg-type]
    if unit:
        attention.log_scale[0, 0] = 9.0  # above the clamp at log 100
    x = torch.randn(2, 5, 32, generator=torch.Generator().manual_seed(0))
    heads = []
    query, key, value = (x @ attention.qkv.weight.T).split(32, dim=-1)
    query, value = query + attention.q_bias, value + attention.v_bias
    for head in range(4):
        channels = slice(8 * head, 8 * head + 8)
        q, k, v = query[..., channels], key[..., channels], value[..., channels]
        if unit:
            q, k = q / q.norm(dim=-1, keepdim=True), k / k.norm(dim=-1, keepdim=True)
            scale = min(math.exp(attention.log_scale[0, head].item()), 100.0)
        else:
            scale = 0.25 / math.sqrt(8)
        heads.append((scale * q @ k.mT).softmax(-1) @ v)
    expected = attention.out(torch.cat(heads, dim=-1))
    torch.testing.assert_close(attention(x, 0, None, None), expected, rtol=1e-4, atol=1e-5)


def test_guidance_off_is_half_the_forwards() -> None:
    model = micro()
    on, off = (model.sample(request(range(3)), Sampling(guidance=g)) for g in (SOME, guided(0.0)))
    assert (on.forwards, off.forwards) == (6, 3)
    assert on.outer_steps == off.outer_steps == 3


def test_first_scale_is_unguided_and_the_last_has_one_plus_cfg() -> None:
    guidance = upstream_sampling({"cfg_scale": 1.5}).guidance
    assert [guidance.weight(k / 9) for k in (0, 9)] == [1.0, 2.5]
    assert guidance.weight(3 / 9) == pytest.approx(1 + 1.5 * 3 / 9)
    model = micro()
    free = sampled(model, range(64), Sampling())
    strong = sampled(model, range(64), Sampling(guidance=guided(30.0)))
    assert torch.equal(free[:, :1], strong[:, :1])
    assert not torch.equal(free[:, 1:], strong[:, 1:])


def test_upstream_settings_convert() -> None:
    assert upstream_sampling({"cfg_scale": 0.0, "top_p": 0.0, "top_k": 0}).guidance.on is False
    converted = upstream_sampling({"cfg_scale": 1.5, "top_k": 900, "top_p": 0.96})
    assert converted == Sampling(guidance=guided(1.5), top_k=900, top_p=0.96)


def test_samples_do_not_depend_on_the_batch() -> None:
    model = micro()
    sampling = Sampling(guidance=SOME, top_k=12, top_p=0.95)
    whole = sampled(model, range(128), sampling)
    for size in (7, 64):
        parts = [sampled(model, range(i, min(i + size, 128)), sampling) for i in range(0, 128, size)]
        assert (torch.cat(parts) == whole).all(dim=1).double().mean() >= 0.999
    alone = torch.cat([sampled(model, range(i, i + 1), sampling) for i in range(12)])
    assert (alone == whole[:12]).all(dim=1).double().mean() >= 0.999
    assert not torch.equal(whole, sampled(model, range(128), sampling, seed=4))


def test_caches_for_a_larger_batch_serve_smaller_ones() -> None:
    model, fresh = micro(), micro()
    sampling = Sampling(guidance=SOME)
    model.prepare(8, sampling)
    model.sample(request(range(8)), sampling)  # leaves other samples' keys in the cache
    assert torch.equal(sampled(model, range(20, 23), sampling), sampled(fresh, range(20, 23), sampling))
    assert sampled(model, range(40), sampling).shape == (40, TOKENS)


def test_latents_are_what_the_ids_decode_to() -> None:
    model = micro()
    codes = model.sample(request(range(3)), Sampling(guidance=SOME)).codes
    assert codes is not None
    assert [ids.shape for ids in codes.ids] == [(3, 1), (3, 4), (3, 9)]
    shortcut, slow = model.tokenizer.decode(codes), model.tokenizer.decode(codes.without_latents())
    torch.testing.assert_close(shortcut, slow, rtol=1e-4, atol=1e-5)


def test_phases_cover_every_scale_once() -> None:
    seen: list[tuple[str, int, int]] = []

    @contextmanager
    def probe(phase: str, *, index: int = 0, tokens: int = 0) -> Iterator[None]:
        seen.append((phase, index, tokens))
        yield

    micro().sample(request(range(2)), Sampling(), probe=probe)
    assert seen == [("condition", 0, 0), ("prefill", 0, 1), ("ar", 1, 4), ("ar", 2, 9)]


def test_scores_see_earlier_scales_only() -> None:
    model = micro()
    assert isinstance(model, Generator)
    assert isinstance(model, Scores)
    codes = model.sample(request(range(4)), Sampling()).codes
    assert codes is not None
    logits = model.logits(request(range(4)), codes)
    assert logits.shape == (4, TOKENS, 20)
    changed = (codes.ids[0], (codes.ids[1] + 1) % 20, codes.ids[2])
    later = model.logits(request(range(4)), Codes(ids=changed))
    torch.testing.assert_close(later[:, :5], logits[:, :5])
    assert not torch.allclose(later[:, 5:], logits[:, 5:])


# ---- editing ---------------------------------------------------------------------------------------------------------


def mask_of(*cells: tuple[int, int]) -> Tensor:
    mask = torch.zeros(3, 3, dtype=torch.bool)
    for row, column in cells:
        mask[row, column] = True
    return mask


def edited(model: VAR, ids: range, codes: Codes, mask: Tensor, sampling: Sampling, seed: int = 3) -> Codes:
    found = model.edit(request(ids, seed), codes, mask, sampling).codes
    assert found is not None
    return found


def test_a_coarse_cell_is_drawn_anew_where_it_touches_the_mask() -> None:
    corner = mask_of((0, 0))
    assert touched(corner, 1).tolist() == [[True]]
    assert touched(corner, 2).tolist() == [[True, False], [False, False]]
    assert torch.equal(touched(corner, 3), corner)
    # the middle of three cells lies half in either of two
    assert touched(mask_of((0, 1)), 2).tolist() == [[True, True], [False, False]]
    fine = torch.zeros(16, 16, dtype=torch.bool)
    fine[9, 4] = True  # rows 9/16 to 10/16, columns 4/16 to 5/16
    assert touched(fine, 13).nonzero().tolist() == [[7, 3], [7, 4], [8, 3], [8, 4]]


@pytest.mark.parametrize("config", VARIANTS[:2])
def test_an_edit_keeps_the_tokens_outside_and_draws_the_others_given_them(config: dict[str, Any]) -> None:
    model = micro(**config)
    assert isinstance(model, Edits)
    sampling = Sampling(guidance=SOME, top_k=5)
    before = model.sample(request(range(16)), Sampling()).codes
    assert before is not None
    mask = mask_of((0, 0), (0, 1), (1, 0), (1, 1))  # of the second scale all four are touched
    after = edited(model, range(16), before, mask, sampling, seed=8)
    for level, (new, old) in enumerate(zip(after.ids, before.ids, strict=True)):
        kept = ~touched(mask, SIDES[level]).flatten()
        assert torch.equal(new[:, kept], old[:, kept])
        assert not torch.equal(new[:, ~kept], old[:, ~kept])
    assert after.latents is not None
    torch.testing.assert_close(after.latents, model.tokenizer.quantizer.f_hat(after.ids))


def test_kept_tokens_are_what_later_scales_see() -> None:
    """Greedy edited tokens are the likeliest given the merged image, by scores of the whole."""
    model = micro()
    before = model.sample(request(range(5)), Sampling()).codes
    assert before is not None
    mask = mask_of((2, 1), (2, 2))
    greedy = Request(tuple(range(5)), Greedy(5), labels=torch.arange(5))
    after = model.edit(greedy, before, mask, Sampling()).codes
    assert after is not None
    likeliest = model.logits(greedy, after).argmax(-1).split([1, 4, 9], dim=1)
    for level, (new, best) in enumerate(zip(after.ids, likeliest, strict=True)):
        drawn = touched(mask, SIDES[level]).flatten()
        assert torch.equal(new[:, drawn], best[:, drawn])
    assert not torch.equal(torch.cat(after.ids, dim=1), torch.cat(likeliest, dim=1))


def test_a_mask_of_everything_is_sampling() -> None:
    model = micro()
    sampling = Sampling(guidance=SOME, top_k=12, top_p=0.95)
    before = model.sample(request(range(8), seed=1), Sampling()).codes
    assert before is not None
    generated = model.edit(request(range(8)), before, torch.ones(3, 3, dtype=torch.bool), sampling)
    expected = model.sample(request(range(8)), sampling)
    assert generated.codes is not None
    assert torch.equal(torch.cat(generated.codes.ids, dim=1), sampled(model, range(8), sampling))
    assert (generated.outer_steps, generated.forwards) == (expected.outer_steps, expected.forwards)


def test_edits_do_not_depend_on_the_batch() -> None:
    model = micro()
    sampling, mask = Sampling(guidance=SOME, top_k=12), mask_of((0, 2), (1, 2))
    before = model.sample(request(range(32), seed=1), Sampling()).codes
    assert before is not None
    whole = torch.cat(edited(model, range(32), before, mask, sampling).ids, dim=1)
    for size in (1, 7):
        parts = []
        for start in range(0, 32, size):
            rows = range(start, min(start + size, 32))
            given = Codes(ids=tuple(ids[rows.start : rows.stop] for ids in before.ids))
            parts.append(torch.cat(edited(model, rows, given, mask, sampling).ids, dim=1))
        assert torch.equal(torch.cat(parts), whole)


def test_wrong_masks_and_codes_of_an_edit_are_clear_errors() -> None:
    model = micro()
    codes = model.sample(request(range(2)), Sampling()).codes
    assert codes is not None
    full = torch.ones(3, 3, dtype=torch.bool)
    for mask in (torch.ones(2, 2, dtype=torch.bool), full.float(), ~full):
        with pytest.raises(InputError, match="cannot edit within this mask"):
            model.edit(request(range(2)), codes, mask, Sampling())
    with pytest.raises(InputError, match="codes of every image"):
        model.edit(request(range(3)), codes, full, Sampling())
    with pytest.raises(InputError, match="cannot decode 3 scales"):
        model.edit(request(range(2)), Codes(ids=codes.ids[:2]), full, Sampling())
    with pytest.raises(Unsupported, match="steps"):
        model.edit(request(range(2)), codes, full, Sampling(steps=3))


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("config", VARIANTS[:2])
def test_half_precision_follows_single(dtype: str, config: dict[str, Any]) -> None:
    single, half = micro(**config), micro(dtype, **config)
    codes = single.sample(request(range(4)), Sampling()).codes
    assert codes is not None
    expected, got = single.logits(request(range(4)), codes), half.logits(request(range(4)), codes)
    assert got.dtype == half.network.head.weight.dtype == torch.float32
    # eight (bfloat16) or eleven (float16) bits a product, over a few dozen sums; sharp cosine attention adds to it
    assert (got - expected).norm() <= 0.05 * expected.norm()
    assert sampled(half, range(3), Sampling(guidance=SOME)).shape == (3, TOKENS)


def official_state(network: Network) -> dict[str, Tensor]:
    return {official_names(name)[0]: tensor for name, tensor in network.state_dict().items()}


BUFFERS = {
    "lvl_1L": torch.zeros(1, TOKENS),
    "attn_bias_for_masking": torch.zeros(1, 1, TOKENS, TOKENS),
    "blocks.0.attn.zero_k_bias": torch.zeros(32),
    "blocks.1.attn.zero_k_bias": torch.zeros(32),
}


@pytest.mark.parametrize("buffers", [{}, BUFFERS])
@pytest.mark.parametrize("config", VARIANTS)
def test_official_files_load_strictly(tmp_path: Path, config: dict[str, Any], buffers: dict[str, Tensor]) -> None:
    model = micro(**config)
    path = tmp_path / "var_micro.pth"
    torch.save(official_state(model.network) | buffers, path)
    loaded = VAR.load(micro_card(**config), LoadSpec(weights=path), model.tokenizer)
    sampling = Sampling(guidance=SOME, top_p=0.9)
    assert torch.equal(sampled(loaded, range(3), sampling), sampled(model, range(3), sampling))


def test_a_checkpoint_of_another_scale_list_is_refused(tmp_path: Path) -> None:
    model = micro()
    path = tmp_path / "var_micro.pth"
    torch.save(official_state(model.network) | {"pos_1LC": torch.zeros(1, 30, 32)}, path)
    with pytest.raises(CheckpointError, match="pos_1LC"):
        VAR.load(micro_card(), LoadSpec(weights=path), model.tokenizer)


ONCE = {
    "pos_start",
    "pos_1LC",
    "word_embed.weight",
    "word_embed.bias",
    "class_emb.weight",
    "lvl_embed.weight",
    "head_nm.ada_lin.1.weight",
    "head_nm.ada_lin.1.bias",
    "head.weight",
    "head.bias",
}
PER_BLOCK = {
    "attn.scale_mul_1H11",
    "attn.q_bias",
    "attn.v_bias",
    "attn.mat_qkv.weight",
    "attn.proj.weight",
    "attn.proj.bias",
    "ffn.fc1.weight",
    "ffn.fc1.bias",
    "ffn.fc2.weight",
    "ffn.fc2.bias",
}


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({}, {f"blocks.0.{key}" for key in PER_BLOCK | {"ada_lin.1.weight", "ada_lin.1.bias"}}),
        (
            {"shared_aln": True},
            {f"blocks.0.{key}" for key in PER_BLOCK | {"ada_gss"}}
            | {"shared_ada_lin.1.weight", "shared_ada_lin.1.bias"},
        ),
        (
            {"attn_l2_norm": False},
            {f"blocks.0.{key}" for key in PER_BLOCK - {"attn.scale_mul_1H11"} | {"ada_lin.1.weight", "ada_lin.1.bias"}},
        ),
    ],
)
def test_official_keys(config: dict[str, Any], expected: set[str]) -> None:
    network = Network(Config(**(MICRO | {"depth": 1} | config)))
    assert official_state(network).keys() == ONCE | expected


# millions, as printed by the official class
SIZES = {"d16": 310.28, "d20": 600.92, "d24": 1033.40, "d30": 2010.02, "d36-s": 2353.89}


@pytest.mark.parametrize("card", [card for card in CARDS if card.checkpoint and not card.checkpoint.packaged])
def test_official_cards_have_the_official_sizes(card: Card) -> None:
    with torch.device("meta"):
        network = Network(from_upstream(Config, card.config, TRAINING_ONLY))
    parameters = sum(parameter.numel() for parameter in network.parameters())
    size = card.name.removeprefix("next_scale/var-")
    assert parameters == card.parameters
    assert parameters / 1e6 == pytest.approx(SIZES[size], abs=0.005)
    assert card.tokens is not None
    assert card.tokens.tokens == network.config.tokens == {256: 680, 512: 2240}[card.resolution]
    assert network.config.embed_dim // network.config.num_heads == 64
    assert card.checkpoint is not None
    assert card.checkpoint.file == f"var_{size.removesuffix('-s')}.pth"
    settings = {"cfg_scale": card.upstream_settings["cfg"], "top_k": 900, "top_p": 0.96}
    assert card.native == upstream_sampling(settings)


def test_all_released_sizes_have_a_card() -> None:
    assert {card.name.removeprefix("next_scale/var-") for card in CARDS} == SIZES.keys() | {"mini"}


def test_wrong_requests_and_tokenizers_are_clear_errors() -> None:
    model = micro()
    with pytest.raises(UsageError, match="labels"):
        model.sample(Request((0,), noise_for(0, [0])), Sampling())
    with pytest.raises(Unsupported, match="steps"):
        model.sample(request(range(1)), Sampling(steps=3))
    with pytest.raises(InputError, match="needs a VAR tokenizer"):
        VAR.load(micro_card(), LoadSpec(init="random"), None)
    other = LlamaGenVQ.load(OTHER_TOKENIZER, LoadSpec(init="random"))
    with pytest.raises(InputError, match="needs a VAR tokenizer"):
        VAR.load(micro_card(), LoadSpec(init="random"), other)
    with pytest.raises(InputError, match="cannot use"):
        VAR.load(micro_card(), LoadSpec(init="random"), micro_tokenizer(v_patch_nums=(1, 2, 4)))
