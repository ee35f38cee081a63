"""HART: recordings, sampling against a sampler without cache, hybrid codes, captions, official keys, sizes, errors."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from arbench.adapters.hybrid.hart.adapter import HART, upstream_sampling
from arbench.adapters.hybrid.hart.cards import HART_0_7B
from arbench.adapters.hybrid.hart.network import TRAINING_ONLY, Config, Network, official_names
from arbench.adapters.hybrid.hart.sampling import (
    draw_codes,
    draw_residual,
    generate,
    portions,
    residual_steps,
    with_null,
)
from arbench.adapters.layers.config import from_upstream
from arbench.adapters.layers.diffusion_head import sample_tokens
from arbench.adapters.layers.multiscale import Network as MSVQNetwork
from arbench.adapters.layers.rope import rotate_halves
from arbench.adapters.tokenizers.hart.adapter import HARTTokenizer
from arbench.adapters.tokenizers.hart.adapter import replay as tokenizer_replay
from arbench.adapters.tokenizers.hart.cards import HYBRID as HART_HYBRID
from arbench.adapters.tokenizers.hart.network import discrete_part, network_config
from arbench.adapters.tokenizers.hart.network import official_names as tokenizer_names
from arbench.adapters.tokenizers.var.adapter import VARTokenizer
from arbench.adapters.tokenizers.var.cards import MINI as VAR_TOKENIZER
from arbench.errors import CheckpointError, ConfigError, ImageError, InputError, Unsupported, UsageError
from arbench.parity import TOLERANCE, load_golden, replay_golden
from arbench.protocols import (
    Card,
    Codes,
    Generator,
    Guidance,
    LoadSpec,
    Prefix,
    Request,
    Sampling,
    Scores,
    Tokenizer,
    TokenSpec,
)
from arbench.seeds import Greedy, noise_for

GOLDENS = Path(__file__).parents[1] / "goldens"
SIDES = (1, 2, 3)
TOKENS = 14
WORDS = 5
MICRO: dict[str, Any] = {
    "patch_nums": SIDES,
    "vocab_size": 20,
    "z_channels": 6,
    "context_token": WORDS,
    "context_dim": 12,
    "depth": 2,
    "embed_dim": 32,
    "num_heads": 4,
    "mlp_type": "llama",
    "attn_type": "llama",
    "disable_aln": True,
    "use_timestep_embed": True,
    "use_context_norm": True,
    "diff_width": 16,
    "diff_depth": 1,
    "num_sampling_steps": "4",
}
VARIANTS = [
    {},
    {"disable_aln": False, "mlp_type": "gpt2", "use_timestep_embed": False, "use_context_norm": False},
    {"disable_aln": False, "sep_aln_pooling_mode": "avg", "attn_l2_norm": True},
    {"shared_aln": True},
]


def linear(cfg: float) -> Guidance:
    return Guidance(scale=1 + cfg, start=1.0, schedule="linear")


SOME = linear(2.0)


def micro_card(**config: Any) -> Card:
    return HART_0_7B.model_copy(update={"name": "hybrid/micro", "config": MICRO | config, "checkpoint": None})


def tokenizer_card(**config: Any) -> Card:
    settings: dict[str, Any] = {"vocab_size": 20, "z_channels": 6, "ch": 32, "ch_mult": (1, 1), "num_res_blocks": 1}
    settings = settings | {"v_patch_nums": SIDES} | config
    tokens = TokenSpec.pyramid(settings["v_patch_nums"], 20, channels=settings["z_channels"])
    return HART_HYBRID.model_copy(update={"config": settings, "tokens": tokens, "checkpoint": None})


def micro_tokenizer(**config: Any) -> HARTTokenizer:
    return HARTTokenizer.load(tokenizer_card(**config), LoadSpec(init="random"))


def shake(network: Network) -> None:
    """Replace the zeros of a new network, so that nothing it has is without effect."""
    generator = torch.Generator().manual_seed(5)
    for parameter in network.parameters():
        parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))


def micro(dtype: str = "float32", **config: Any) -> HART:
    spec = LoadSpec(init="random", dtype=dtype)  # type: ignore[arg-type]
    model = HART.load(micro_card(**config), spec, micro_tokenizer())
    shake(model.network)
    return model


def captions(rows: int) -> tuple[Tensor, Tensor]:
    features = torch.randn(64, WORDS, 12, generator=torch.Generator().manual_seed(1))[:rows]
    lengths = torch.tensor([2 + row % 4 for row in range(rows)])
    return features, (torch.arange(WORDS) < lengths[:, None]).long()


def sampled(model: HART, ids: range, sampling: Sampling, seed: int = 3) -> Codes:
    features, mask = captions(ids.stop)
    noise = noise_for(seed, ids)
    codes = model.sample_captions(features[ids.start :], mask[ids.start :], noise, sampling).codes
    assert codes is not None
    return codes


def joined(codes: Codes) -> Tensor:
    return torch.cat(codes.ids, dim=1)


@pytest.mark.parametrize("name", ["hart", "hart-tokenizer"])
def test_recordings_replay(name: str) -> None:
    golden = load_golden(GOLDENS / name)
    verdicts = list(replay_golden(golden))
    assert len(verdicts) == sum(len(probe.outputs) for probe in golden.probes)
    assert [verdict for verdict in verdicts if not verdict.ok] == []
    for verdict in verdicts:
        assert verdict.error is not None
        assert verdict.error <= (0 if verdict.output in ("tokens", "ids") else TOLERANCE)


# ---- sampling --------------------------------------------------------------------------------------------------------


@torch.inference_mode()
def without_cache(model: HART, rows: int, sampling: Sampling) -> Tensor:
    """Greedy tokens by scoring the whole pyramid anew for every scale."""
    features, mask = captions(rows)
    nothing, first = (half[rows:] for half in with_null(features, mask))
    levels = [torch.zeros(rows, side * side, dtype=torch.int64) for side in SIDES]
    for scale, (side, start) in enumerate(zip(SIDES, (0, 1, 5), strict=True)):
        given = model.tokenizer.quantizer.teacher_forcing(levels)
        part = slice(start, start + side * side)
        logits = model.network.score(features, mask, given)[:, part]
        if sampling.guidance.on:
            free = model.network.score(nothing, first, given)[:, part]
            extra = sampling.guidance.weight(min(scale, 1) / 2) - 1  # the last scale has the weight of the one before
            logits = (1 + extra) * logits - extra * free
        levels[scale] = logits.argmax(-1)
    return torch.cat(levels, dim=1)


@pytest.mark.parametrize("config", VARIANTS)
@pytest.mark.parametrize("guidance", [SOME, Guidance(scale=3.0), Guidance()])
def test_greedy_tokens_equal_those_of_a_sampler_without_cache(config: dict[str, Any], guidance: Guidance) -> None:
    model, sampling = micro(**config), Sampling(guidance=guidance)
    with torch.inference_mode():
        levels, _, forwards = generate(model.network, model.tokenizer.quantizer, *captions(5), sampling, Greedy(5))
    assert torch.equal(torch.cat(levels, dim=1), without_cache(model, 5, sampling))
    assert forwards == (6 if guidance.on else 3)


@pytest.mark.parametrize("config", VARIANTS)
def test_cached_states_equal_uncached_logits(config: dict[str, Any]) -> None:
    network = micro(**config).network
    given = torch.randn(4, TOKENS - 1, 6, generator=torch.Generator().manual_seed(2))
    with torch.inference_mode():
        expected = network.score(*captions(4), given)
        text, levels, caches = network.read(*captions(4)), network.levels(), network.allocate(4)
        states = network(text.states + levels[0], text, network.caption_rotations(text), 0, caches)
        got = [network.logits(states[:, -1:], text)]
        for scale, part in enumerate(given.split([4, 9], dim=1), start=1):
            x = network.features_in(part) + levels[scale]
            states = network(x, text, network.map_rotations(text, scale), network.config.starts[scale], caches)
            got.append(network.logits(states, text))
    assert (torch.cat(got, dim=1) - expected).norm() <= 1e-5 * expected.norm()


def test_rotations_follow_the_formula() -> None:
    network = micro().network
    text = network.read(*captions(3))
    assert text.positions.tolist() == [[0, 1, 1, 1, 1], [0, 1, 2, 2, 2], [0, 1, 2, 3, 3]]
    x = torch.randn(3, 1, 4, 8, generator=torch.Generator().manual_seed(0))
    turned = rotate_halves(x, network.map_rotations(text, 1))
    for row, place in ((0, 1), (1, 2), (2, 3)):  # the two by two map is stretched to three by three
        last = (1, 2, 3)[row]
        down, across = last + 1.5 * (place // 2), last + 1.5 * (place % 2)
        for channel in range(4):
            low, high = x[row, 0, place, channel].item(), x[row, 0, place, channel + 4].item()
            rate = 10000 ** (-(channel % 2) * 4 / 8)
            assert turned[row, 0, place, channel].item() == pytest.approx(
                low * math.cos(down * rate) - high * math.sin(down * rate), abs=1e-5
            )
            assert turned[row, 0, place, channel + 4].item() == pytest.approx(
                high * math.cos(across * rate) + low * math.sin(across * rate), abs=1e-5
            )
    plain = rotate_halves(x, network.caption_rotations(text)[:, :, :, 1:])
    angle = 2 * 10000 ** (-2 / 8)
    low, high = x[1, 0, 1, 1].item(), x[1, 0, 1, 5].item()
    assert plain[1, 0, 1, 1].item() == pytest.approx(low * math.cos(angle) - high * math.sin(angle), abs=1e-5)


def test_guidance_off_is_half_the_forwards_and_until_stops_it() -> None:
    model, data = micro(), captions(3)
    for guidance, forwards in ((SOME, 6), (linear(0.0), 3), (Guidance(scale=3.0, until=0.34), 4)):
        generated = model.sample_captions(*data, noise_for(0, range(3)), Sampling(guidance=guidance))
        assert (generated.forwards, generated.outer_steps) == (forwards, 3)


def test_first_scale_is_unguided() -> None:
    model = micro()
    free, strong = (joined(sampled(model, range(32), Sampling(guidance=g))) for g in (Guidance(), linear(30.0)))
    assert torch.equal(free[:, :1], strong[:, :1])
    assert not torch.equal(free[:, 1:], strong[:, 1:])


def test_a_weight_of_two_leaves_the_diffusion_head_unguided() -> None:
    network = micro().network
    steps = residual_steps(network.config, Sampling())
    states = torch.randn(4, 9, 16, generator=torch.Generator().manual_seed(0))
    noise = noise_for(0, range(2))
    with torch.inference_mode():
        alone = draw_residual(network, steps, states[:2], noise, "r", None)
        assert torch.equal(draw_residual(network, steps, states, noise, "r", 2.0), alone)
        mixed = draw_residual(network, steps, states, noise, "r", 2.001)
        plain = sample_tokens(network.residual_head, steps, states, noise, "r", weight=2.001, clip=True)
    torch.testing.assert_close(mixed, 0.6 * plain)
    assert not torch.allclose(mixed, alone, atol=1e-3)


@pytest.mark.parametrize("extra", [{}, {"more_smooth": True}, {"last_scale_iterations": 3}])
def test_samples_do_not_depend_on_the_batch(extra: dict[str, Any]) -> None:
    model = micro()
    sampling = Sampling(guidance=SOME, top_k=12, top_p=0.95, extra=extra)
    whole = sampled(model, range(24), sampling)
    assert whole.latents is not None
    for size in (1, 7):
        parts = [sampled(model, range(i, min(i + size, 24)), sampling) for i in range(0, 24, size)]
        same = (torch.cat([joined(part) for part in parts]) == joined(whole)).all(dim=1)
        assert same.double().mean() >= 0.95  # rounding may decide a draw, once in a while
        latents = torch.cat([part.latents for part in parts if part.latents is not None])
        # the first diffusion step multiplies rounding by 2e4 before it clips
        assert ((latents - whole.latents).abs() < 1e-3)[same].double().mean() >= 0.99
    assert not torch.equal(joined(whole), joined(sampled(model, range(24), sampling, seed=4)))


def test_caches_for_a_larger_batch_serve_smaller_ones() -> None:
    model, fresh = micro(), micro()
    sampling = Sampling(guidance=SOME)
    model.prepare(8, sampling)
    sampled(model, range(8), sampling)  # leaves other samples' keys in the cache
    assert torch.equal(joined(sampled(model, range(3), sampling)), joined(sampled(fresh, range(3), sampling)))
    assert joined(sampled(model, range(20), sampling)).shape == (20, TOKENS)


@pytest.mark.parametrize(("places", "iterations"), [(9, 1), (9, 3), (9, 9), (4096, 5)])
def test_iterations_fill_every_place_once(places: int, iterations: int) -> None:
    order = torch.stack([torch.randperm(places, generator=torch.Generator().manual_seed(seed)) for seed in (0, 1)])
    parts = list(portions(order, iterations))
    assert len(parts) == iterations
    assert all(part.shape[1] >= 1 and torch.equal(part, part.sort(dim=1).values) for part in parts)
    assert torch.equal(torch.cat(parts, dim=1).sort(dim=1).values, torch.arange(places).expand(2, -1))
    left = places
    for iteration, part in enumerate(parts[:-1], start=1):
        left -= part.shape[1]
        assert left <= math.floor(places * math.cos(math.pi / 2 * iteration / iterations))
        assert set(part[0].tolist()) == set(order[0, left : left + part.shape[1]].tolist())


def test_smooth_codes_are_gumbel_mixtures() -> None:
    logits = torch.randn(2, 3, 20, generator=torch.Generator().manual_seed(0))
    codebook = torch.randn(20, 6, generator=torch.Generator().manual_seed(1))
    noise, sampling, progress = noise_for(0, range(2)), Sampling(top_k=5), 0.5
    ids, hard = draw_codes(logits, codebook, sampling, noise, 2, progress, smooth=False)
    again, soft = draw_codes(logits, codebook, sampling, noise, 2, progress, smooth=True)
    assert torch.equal(ids, again)
    assert torch.equal(hard, codebook[ids])
    kept = logits.masked_fill(logits < logits.topk(5).values[..., -1:], -math.inf).double()
    gumbel = -torch.log(-torch.log(noise.uniform("smooth/2", 60))).reshape(2, 3, 20)
    mixture = ((kept * 1.5 + gumbel) / (0.27 * (1 - 0.5 * 0.95))).softmax(-1)
    torch.testing.assert_close(soft.double(), mixture @ codebook.double(), rtol=1e-4, atol=1e-5)


def test_top_k_defaults_to_upstreams() -> None:
    logits, codebook = torch.zeros(1, 400, 700), torch.arange(700.0).unsqueeze(1)
    logits -= torch.arange(700) * 1e-3
    noise = noise_for(0, range(1))
    for scale, sampling, most in ((6, Sampling(), 600), (7, Sampling(), 300), (7, Sampling(top_k=5), 5)):
        ids, _ = draw_codes(logits, codebook, sampling, noise, scale, 0.5, smooth=False)
        assert 0.9 * most - 1 < ids.max().item() < most


def test_phases_nest_and_cover_every_scale_once() -> None:
    seen: list[tuple[int, str, int, int]] = []
    depth = 0

    @contextmanager
    def probe(phase: str, *, index: int = 0, tokens: int = 0) -> Iterator[None]:
        nonlocal depth
        seen.append((depth, phase, index, tokens))
        depth += 1
        yield
        depth -= 1

    model = micro()
    model.sample_captions(*captions(2), noise_for(0, range(2)), Sampling(), probe=probe)
    before = [(0, "condition", 0, 0), (0, "prefill", 0, 1), (0, "ar", 1, 4)]
    assert seen == [*before, (0, "ar", 2, 9), (1, "inner", 0, 9)]
    seen.clear()
    parts = Sampling(extra={"residual": False, "last_scale_iterations": 2})
    generated = model.sample_captions(*captions(2), noise_for(0, range(2)), parts, probe=probe)
    assert seen == [*before, (0, "ar", 2, 3), (0, "ar", 3, 6)]
    assert (generated.outer_steps, generated.forwards) == (4, 4)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("config", VARIANTS[:2])
def test_half_precision_follows_single(dtype: str, config: dict[str, Any]) -> None:
    single, half = micro(**config), micro(dtype, **config)
    levels = sampled(single, range(4), Sampling()).ids
    given = single.tokenizer.quantizer.teacher_forcing(levels)
    with torch.inference_mode():
        expected, got = (model.network.score(*captions(4), given) for model in (single, half))
    assert got.dtype == half.network.head.weight.dtype == torch.float32
    # eight (bfloat16) or eleven (float16) bits a product, over a few dozen sums
    assert (got - expected).norm() <= 0.05 * expected.norm()
    assert joined(sampled(half, range(3), Sampling(guidance=SOME))).shape == (3, TOKENS)


# ---- hybrid codes ----------------------------------------------------------------------------------------------------


def test_residual_completes_the_features() -> None:
    tokenizer = micro_tokenizer()
    assert isinstance(tokenizer, Tokenizer)
    assert isinstance(tokenizer, Prefix)
    images = torch.rand(2, 3, 6, 6, generator=torch.Generator().manual_seed(0))
    codes = tokenizer.encode(images)
    assert [ids.shape for ids in codes.ids] == [(2, 1), (2, 4), (2, 9)]
    with torch.inference_mode():
        features = tokenizer.network.features(images * 2 - 1)
        hybrid, discrete = (
            (tokenizer.network.render(part) + 1) / 2 for part in (features, tokenizer.quantizer.f_hat(codes.ids))
        )
    torch.testing.assert_close(tokenizer.decode(codes), hybrid, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(tokenizer.decode(codes.without_latents()), discrete)
    torch.testing.assert_close(tokenizer.decode_prefix(codes, 3), discrete)
    assert not torch.allclose(tokenizer.decode_prefix(codes, 1), discrete)
    assert not torch.allclose(hybrid, discrete, atol=1e-3)
    last = tokenizer.quantizer.lookup(codes.ids[2], 2)
    torch.testing.assert_close(
        discrete_part(tokenizer.quantizer, codes.ids) - last, tokenizer.quantizer.f_hat(codes.ids[:2])
    )


def test_generated_codes_decode_to_what_was_generated() -> None:
    model = micro()
    for extra in ({}, {"more_smooth": True}, {"residual": False}):
        sampling = Sampling(guidance=SOME, extra=extra)
        codes = sampled(model, range(3), sampling)
        with torch.inference_mode():
            _, features, _ = generate(
                model.network, model.tokenizer.quantizer, *captions(3), sampling, noise_for(3, range(3))
            )
            expected = (model.tokenizer.network.render(features) + 1) / 2
        torch.testing.assert_close(model.tokenizer.decode(codes), expected, rtol=1e-4, atol=1e-5)
        assert codes.latents is not None
        assert (codes.latents.abs().max().item() < 1e-5) == ("residual" in extra)


def test_wrong_codes_and_images_are_clear_errors() -> None:
    tokenizer = micro_tokenizer()
    with pytest.raises(ImageError, match="6 x 6"):
        tokenizer.encode(torch.zeros(1, 3, 8, 8))
    codes = tokenizer.encode(torch.zeros(1, 3, 6, 6))
    with pytest.raises(InputError, match="scales"):
        tokenizer.decode(Codes(ids=codes.ids[:2], latents=codes.latents))
    with pytest.raises(InputError, match="cannot decode 4 scales"):
        tokenizer.decode_prefix(codes, 4)
    tokenizer.close()
    tokenizer.close()


# ---- captions --------------------------------------------------------------------------------------------------------


def caption_files(folder: Path, rows: int) -> tuple[str, ...]:
    features, mask = captions(rows)
    paths = tuple(str(folder / f"{row}.safetensors") for row in range(rows))
    for path, row_features, row_mask in zip(paths, features, mask, strict=True):
        save_file({"features": row_features.contiguous(), "mask": row_mask.contiguous()}, path)
    return paths


def test_prompts_name_files_of_features(tmp_path: Path) -> None:
    model = micro()
    assert isinstance(model, Generator)
    assert isinstance(model, Scores)
    sampling = Sampling(guidance=SOME)
    request = Request((0, 1, 2), noise_for(3, range(3)), prompts=caption_files(tmp_path, 3))
    generated = model.sample(request, sampling)
    assert generated.codes is not None
    assert torch.equal(joined(generated.codes), joined(sampled(model, range(3), sampling)))
    logits = model.logits(request, generated.codes)
    assert logits.shape == (3, TOKENS, 20)
    first, second, third = generated.codes.ids
    later = model.logits(request, Codes(ids=(first, (second + 1) % 20, third)))
    torch.testing.assert_close(later[:, :5], logits[:, :5])
    assert not torch.allclose(later[:, 5:], logits[:, 5:])


def test_padding_influences_the_image_as_officially() -> None:
    model = micro()
    features, mask = captions(4)
    given = torch.zeros(4, TOKENS - 1, 6)
    with torch.inference_mode():
        before = model.network.score(features, mask, given)
        after = model.network.score(torch.where(mask.bool().unsqueeze(-1), features, features + 1), mask, given)
    assert not torch.allclose(before[0], after[0], atol=1e-2)


def test_features_of_a_request_need_no_files() -> None:
    model, sampling = micro(), Sampling(guidance=SOME)
    features, mask = captions(3)
    given = model.sample(
        Request((0, 1, 2), noise_for(3, range(3)), captions=features, caption_mask=mask), sampling
    ).codes
    assert given is not None
    assert torch.equal(joined(given), joined(sampled(model, range(3), sampling)))


def test_a_class_may_stand_for_the_caption() -> None:
    text = micro()
    card = text.card.model_copy(update={"condition": "class", "classes": 10})
    model = HART(card, text.network, text.tokenizer)
    labels = torch.tensor([3, 7, 3])
    given = model.sample(Request((0, 1, 2), noise_for(3, range(3)), labels=labels), Sampling()).codes
    features, mask = torch.zeros(3, WORDS, 12), torch.zeros(3, WORDS, dtype=torch.int64)
    features[torch.arange(3), 0, labels] = 1
    mask[:, 0] = 1
    expected = model.sample_captions(features, mask, noise_for(3, range(3)), Sampling()).codes
    assert given is not None
    assert expected is not None
    assert torch.equal(joined(given), joined(expected))
    own = Request((0, 1, 2), noise_for(3, range(3)), labels=labels, captions=captions(3)[0], caption_mask=mask)
    other = model.sample(own, Sampling()).codes
    assert other is not None
    assert not torch.equal(joined(other), joined(given))  # captions count where both are given
    with pytest.raises(UsageError, match="captions"):
        text.sample(Request((0, 1, 2), noise_for(3, range(3)), labels=labels), Sampling())
    with pytest.raises(ConfigError, match="13 classes"):
        HART.load(card.model_copy(update={"classes": 13}), LoadSpec(init="random"), text.tokenizer)


def test_wrong_captions_are_clear_errors(tmp_path: Path) -> None:
    model = micro()
    features, mask = captions(1)
    for wrong in (
        {"captions": features[:, 1:], "caption_mask": mask[:, 1:]},
        {"captions": features, "caption_mask": mask[:, 1:]},
        {"captions": features[..., 1:]},
    ):
        with pytest.raises(InputError, match="cannot use these captions"):
            model.sample(Request((0,), noise_for(0, [0]), **wrong), Sampling())
    with pytest.raises(UsageError, match="captions"):
        model.sample(Request((0,), noise_for(0, [0])), Sampling())
    for path, why in (
        (tmp_path / "none.safetensors", "cannot read"),
        (tmp_path / "short.safetensors", "does not hold"),
    ):
        if why == "does not hold":
            save_file({"features": torch.zeros(WORDS - 1, 12), "mask": torch.zeros(WORDS)}, path)
        with pytest.raises(InputError, match=why):
            model.sample(Request((0,), noise_for(0, [0]), prompts=(str(path),)), Sampling())


# ---- official files --------------------------------------------------------------------------------------------------


def official_state(network: Network) -> dict[str, Tensor]:
    names = official_names(network.config)
    return {names(name)[0]: tensor for name, tensor in network.state_dict().items()}


BUFFERS = {
    "lvl_1L": torch.zeros(1, 18),
    "attn_bias_for_masking": torch.zeros(1, 1, 18, 18),
    "blocks.0.attn.zero_k_bias": torch.zeros(32),
    "blocks.1.attn.zero_k_bias": torch.zeros(32),
}


@pytest.mark.parametrize("config", VARIANTS)
def test_official_files_load_strictly(tmp_path: Path, config: dict[str, Any]) -> None:
    model = micro(**config)
    path = tmp_path / "ema_model.bin"
    sampling = Sampling(guidance=SOME, top_p=0.9)
    expected = sampled(model, range(3), sampling)
    for buffers in ({}, BUFFERS):
        torch.save(official_state(model.network) | buffers, path)
        loaded = HART.load(micro_card(**config), LoadSpec(weights=path), model.tokenizer)
        assert torch.equal(joined(sampled(loaded, range(3), sampling)), joined(expected))


def pair(*names: str) -> set[str]:
    return {f"{name}.{kind}" for name in names for kind in ("weight", "bias")}


HEAD = pair(
    *(f"diffloss.net.{name}" for name in ("time_embed.mlp.0", "time_embed.mlp.2", "cond_embed", "input_proj")),
    *(f"diffloss.net.res_blocks.0.{name}" for name in ("in_ln", "mlp.0", "mlp.2", "adaLN_modulation.1")),
    *(f"diffloss.net.final_layer.{name}" for name in ("linear", "adaLN_modulation.1")),
)
ONCE = pair("word_embed", "context_embed", "head_nm.ada_lin.1", "head") | {
    "head_nm.ln_wo_grad.weight",
    "decoder_norm.weight",
}
ATTENTION = pair("blocks.0.attn.proj") | {
    f"blocks.0.{name}" for name in ("ln_wo_grad.weight", "attn.q_bias", "attn.v_bias", "attn.qkv_proj.weight")
}
GATED = {f"blocks.0.ffn.{name}_proj.weight" for name in ("gate", "up", "down")}
TIMESTEP = pair("lvl_embed.mlp.0", "lvl_embed.mlp.2")
NORM = {"context_norm.weight"}


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (VARIANTS[0], GATED | TIMESTEP | NORM),
        (VARIANTS[1], pair("blocks.0.ffn.fc1", "blocks.0.ffn.fc2", "blocks.0.ada_lin.1") | {"lvl_embed.weight"}),
        (
            VARIANTS[2],
            GATED | TIMESTEP | NORM | pair("blocks.0.ada_lin.1") | {"blocks.0.attn.scale_mul_1H11"},
        ),
        (VARIANTS[3], GATED | TIMESTEP | NORM | {"blocks.0.scale_shift_table"}),
    ],
)
def test_official_keys(config: dict[str, Any], expected: set[str]) -> None:
    network = Network(Config(**(MICRO | {"depth": 1} | config)))
    assert official_state(network).keys() == ONCE | HEAD | ATTENTION | expected


def test_official_cards_have_the_published_sizes() -> None:
    with torch.device("meta"):
        network = Network(from_upstream(Config, HART_0_7B.config, TRAINING_ONLY))
        tokenizer = MSVQNetwork(network_config(HART_HYBRID.config))
    parameters = sum(parameter.numel() for parameter in network.parameters())
    assert parameters == HART_0_7B.parameters
    assert parameters / 1e9 == pytest.approx(0.7, abs=0.05)  # "hart-0.7b-1024px"
    head = sum(parameter.numel() for parameter in network.residual_head.parameters())
    assert head / 1e6 == pytest.approx(37, abs=0.5)  # "only 37M parameters"
    assert sum(parameter.numel() for parameter in tokenizer.parameters()) == HART_HYBRID.parameters
    assert HART_HYBRID.tokens is not None
    assert HART_HYBRID.tokens.tokens == sum(side * side for side in network.config.patch_nums) == 9451
    assert network.config.patch_nums[-1] * tokenizer.factor == HART_0_7B.resolution == 1024
    shapes = {key: tuple(tensor.shape) for key, tensor in official_state(network).items()}
    # attention 7, norm 1, gated MLP 3 a block; 12 + 4 names once; 4 of the levels; the head's 12 and 8 a block
    assert len(shapes) == 24 * 9 + len(ONCE | TIMESTEP | NORM) + len(HEAD) + 5 * 8
    assert shapes["blocks.23.ffn.gate_proj.weight"] == (4096, 1536)
    assert shapes["diffloss.net.cond_embed.weight"] == (1024, 1536)
    assert shapes["context_embed.weight"] == (1536, 1536)
    settings = {"cfg_scale": 4.5, "more_smooth": True}
    assert HART_0_7B.native == upstream_sampling(settings)


def test_tokenizer_files_hold_a_discriminator_as_well(tmp_path: Path) -> None:
    tokenizer, card = micro_tokenizer(), tokenizer_card()
    names = tokenizer_names(card.config)
    official = {names(name)[0]: tensor for name, tensor in tokenizer.network.state_dict().items()}
    assert {key.split(".")[0] for key in official} == {"vae"}
    assert {"vae.quantize.embedding.weight", "vae.decoder.up.1.upsample.conv.weight"} <= official.keys()
    others = {"disc.main.0.weight": torch.zeros(2), "vae.quantize.ema_vocab_hit_SV": torch.zeros(3, 20)}
    path = tmp_path / "model.safetensors"
    save_file(official | others, path)
    loaded = HARTTokenizer.load(card, LoadSpec(weights=path))
    images = torch.rand(2, 3, 6, 6, generator=torch.Generator().manual_seed(0))
    assert torch.equal(loaded.decode(loaded.encode(images)), tokenizer.decode(tokenizer.encode(images)))
    with pytest.raises(CheckpointError, match="it looks like a HART tokenizer"):
        HART.load(micro_card(), LoadSpec(weights=path), loaded)
    torch.save(official_state(micro().network), tmp_path / "ema_model.bin")
    with pytest.raises(CheckpointError, match="it looks like a HART generator"):
        HARTTokenizer.load(card, LoadSpec(weights=tmp_path / "ema_model.bin"))


# ---- refusals --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sampling", "match"),
    [
        (Sampling(steps=3), "steps"),
        (Sampling(order="random"), "order"),
        (Sampling(extra={"smooth": True}), "smooth"),
        (Sampling(extra={"more_smooth": 1}), "false, true"),
        (Sampling(extra={"last_scale_iterations": 10}), "1 to 9"),
    ],
)
def test_unsupported_knobs_are_refused(sampling: Sampling, match: str) -> None:
    model = micro()
    with pytest.raises(Unsupported, match=match):
        model.prepare(1, sampling)
    with pytest.raises(Unsupported, match=match):
        model.sample_captions(*captions(1), noise_for(0, [0]), sampling)


def test_inner_steps_choose_the_diffusion_steps() -> None:
    model = micro()
    assert [len(residual_steps(model.network.config, Sampling(inner_steps=n))) for n in (None, 7)] == [4, 7]
    four, seven = (sampled(model, range(2), Sampling(inner_steps=n)) for n in (4, 7))
    assert torch.equal(joined(four), joined(seven))
    assert four.latents is not None
    assert not torch.allclose(four.latents, seven.latents, atol=1e-3)
    with pytest.raises(Unsupported, match="inner_steps 1"):
        model.prepare(1, Sampling(inner_steps=1))


@pytest.mark.parametrize(
    "config",
    [{"attn_type": "gpt2"}, {"use_cross_attn": True}, {"num_sampling_steps": "ddim50"}, {"patch_nums": (4,)}],
)
def test_networks_that_upstream_cannot_sample_are_refused(config: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(config))):
        HART.load(micro_card(**config), LoadSpec(init="random"), micro_tokenizer())


def test_wrong_tokenizers_are_clear_errors() -> None:
    with pytest.raises(InputError, match="needs a HART tokenizer"):
        HART.load(micro_card(), LoadSpec(init="random"), None)
    with pytest.raises(InputError, match="needs a HART tokenizer"):
        HART.load(micro_card(), LoadSpec(init="random"), VARTokenizer.load(VAR_TOKENIZER, LoadSpec(init="random")))
    with pytest.raises(InputError, match="cannot use"):
        HART.load(micro_card(), LoadSpec(init="random"), micro_tokenizer(v_patch_nums=(1, 2, 4)))


@pytest.mark.parametrize("settings", [{"more_smooth": True}, {"maskgit_iters": 2}, {"greedy": False}, {"tau": 1.0}])
def test_recordings_that_drew_at_random_are_refused(settings: dict[str, Any]) -> None:
    golden = load_golden(GOLDENS / "hart")
    tokenizer = load_golden(GOLDENS / "hart-tokenizer")
    from arbench.adapters.hybrid.hart.adapter import replay

    call = replay(golden.config, golden.state, (tokenizer.config, tokenizer.state))
    inputs = {"captions": golden.tensors["context"], "caption_mask": golden.tensors["context_mask"]}
    with pytest.raises(InputError, match="cannot replay"):
        call("generate", {"greedy": True, "cfg_scale": 2.0} | settings, inputs)


def test_closing_frees_the_network() -> None:
    model = micro()
    model.close()
    assert not hasattr(model, "network")
    model.close()


def test_the_tokenizers_width_is_upstreams_own_where_a_config_leaves_it_out() -> None:
    config = {"quantizer_type": "var_hybrid", "vocab_size": 8, "z_channels": 4, "v_patch_nums": [1, 2]}
    assert network_config(config)["ch"] == 160  # HARTAutoEncoderConfig; VAR's VQVAE has 128
    assert network_config(config | {"ch": 32})["ch"] == 32


def test_a_recorded_prefix_may_hold_only_its_own_ids() -> None:
    tokenizer = load_golden(GOLDENS / "hart-tokenizer")
    call = tokenizer_replay(tokenizer.config, tokenizer.state)
    ids = torch.arange(30).reshape(1, 30)
    whole = call("decode_prefix", {"scales": 2}, {"ids": ids})["images"]
    assert torch.equal(call("decode_prefix", {"scales": 2}, {"ids": ids[:, :5]})["images"], whole)
