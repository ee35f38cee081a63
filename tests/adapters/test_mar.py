"""MAR, its diffusion head and its KL tokenizer: recordings, diffusion, guidance, batches, official files and sizes."""

from __future__ import annotations

import math
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from arbench.adapters.continuous.mar.adapter import MAR, generate, upstream_sampling
from arbench.adapters.continuous.mar.cards import CARDS, MAR_BASE
from arbench.adapters.continuous.mar.network import TRAINING_ONLY, Config, Network, official_names
from arbench.adapters.layers.config import from_upstream
from arbench.adapters.layers.diffusion_head import (
    DiffusionHead,
    cosine_alphas,
    previous,
    reverse_steps,
    sample_tokens,
    spaced,
)
from arbench.adapters.layers.masked import unknown_after
from arbench.adapters.tokenizers.llamagen.adapter import LlamaGenVQ
from arbench.adapters.tokenizers.llamagen.cards import MINI as LLAMAGEN_MINI
from arbench.adapters.tokenizers.mar_kl.adapter import MARKL
from arbench.adapters.tokenizers.mar_kl.cards import KL_16 as MAR_KL_16
from arbench.adapters.tokenizers.mar_kl.network import Network as KLNetwork
from arbench.adapters.tokenizers.mar_kl.network import official_names as tokenizer_names
from arbench.errors import CheckpointError, ConfigError, ImageError, InputError, Unsupported, UsageError
from arbench.parity import load_golden, replay_golden
from arbench.protocols import Card, Codes, Edits, Generator, Guidance, LoadSpec, Request, Sampling, Tokenizer, TokenSpec
from arbench.registry import resolve
from arbench.seeds import Greedy, Philox, noise_for

GOLDENS = Path(__file__).parents[1] / "goldens"
TOKENS, CLASSES, CHANNELS = 16, 5, 4
MICRO: dict[str, Any] = {
    "img_size": 16,
    "vae_stride": 4,
    "encoder_embed_dim": 32,
    "encoder_depth": 2,
    "encoder_num_heads": 4,
    "decoder_embed_dim": 48,
    "decoder_depth": 1,
    "decoder_num_heads": 3,
    "mlp_ratio": 2.0,
    "vae_embed_dim": CHANNELS,
    "class_num": CLASSES,
    "buffer_size": 3,
    "diffloss_d": 2,
    "diffloss_w": 24,
}
SMALL_TOKENIZER: dict[str, Any] = {"embed_dim": CHANNELS, "ch": 32, "ch_mult": (1, 1, 2), "num_res_blocks": 1}
SMALL_TOKENS = TokenSpec(kind="continuous", layout="grid", levels=((4, 4),), channels=CHANNELS)
SHORT = Sampling(guidance=Guidance(scale=3.0, schedule="linear"), steps=5, inner_steps=6)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def small_tokenizer(dtype: str = "float32", **config: Any) -> MARKL:
    update = {"config": SMALL_TOKENIZER | config, "tokens": SMALL_TOKENS, "checkpoint": None}
    spec = LoadSpec(init="random", dtype=dtype)  # type: ignore[arg-type]
    return MARKL.load(MAR_KL_16.model_copy(update=update), spec)


def micro_card(**config: Any) -> Card:
    checkpoint = MAR_BASE.checkpoint
    update = {"name": "continuous/micro", "config": MICRO | config, "checkpoint": checkpoint}
    return MAR_BASE.model_copy(update=update)


def micro(dtype: str = "float32", **config: Any) -> MAR:
    spec = LoadSpec(init="random", dtype=dtype)  # type: ignore[arg-type]
    return MAR.load(micro_card(**config), spec, small_tokenizer())


def request(ids: range, seed: int = 3) -> Request:
    return Request(tuple(ids), noise_for(seed, ids), labels=torch.tensor([i % CLASSES for i in ids]))


def sampled(model: MAR, ids: range, sampling: Sampling, seed: int = 3) -> Tensor:
    codes = model.sample(request(ids, seed), sampling).codes
    assert codes is not None
    assert codes.latents is not None
    return codes.latents


def distance(ours: Tensor, reference: Tensor) -> float:
    return ((ours - reference).norm() / reference.norm()).item()


# ---- faithful to the official code -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "outputs"), [("mar", 5), ("mar-tokenizer", 3)])
def test_recordings_of_the_official_code(name: str, outputs: int) -> None:
    verdicts = list(replay_golden(load_golden(GOLDENS / name)))
    assert len(verdicts) == outputs
    assert [verdict for verdict in verdicts if not verdict.ok] == []


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("mar", "fake_latent"),
        ("mar", "diffusion_pos_embed_learned"),
        ("mar", "diffloss.net.res_blocks.1.adaLN_modulation.1.weight"),
        ("mar-tokenizer", "decoder.mid.attn_1.v.weight"),
    ],
)
def test_a_changed_weight_is_noticed(name: str, key: str) -> None:
    golden = load_golden(GOLDENS / name)
    golden.state[key] = golden.state[key] * 1.02
    assert any(not verdict.ok for verdict in replay_golden(golden))


def test_recordings_with_noise_or_unknown_settings_are_refused() -> None:
    golden = load_golden(GOLDENS / "mar")
    replay = resolve("arbench.adapters.continuous.mar.adapter:replay")(golden.config, golden.state, None)
    inputs = {role: golden.tensors[role] for role in ("class_ids", "order")}
    with pytest.raises(InputError, match="only zeros repeat"):
        replay("generate", {"num_iter": 2}, inputs)
    with pytest.raises(InputError, match="top_k"):
        replay("generate", {"noise": "zeros", "top_k": 3}, inputs)
    with pytest.raises(InputError, match="no guidance schedule 'cosine'"):
        replay("generate", {"noise": "zeros", "cfg_schedule": "cosine"}, inputs)
    with pytest.raises(InputError, match="no probe 'logits'"):
        replay("logits", {}, inputs)


# ---- the diffusion process -------------------------------------------------------------------------------------------


def test_timesteps_are_those_of_the_official_code() -> None:
    hundred = spaced(100)
    assert hundred[:8] == (0, 10, 20, 30, 40, 50, 61, 71)
    assert hundred[-3:] == (979, 989, 999)
    assert spaced(25)[:4] == (0, 42, 83, 125)
    assert spaced(8) == (0, 143, 285, 428, 571, 714, 856, 999)
    assert spaced(1000) == tuple(range(1000))
    assert all(len(set(spaced(count))) == count for count in range(2, 1001, 37))
    for count in (1, 1001):
        with pytest.raises(UsageError, match="2 to 1000"):
            spaced(count)


def test_the_signal_follows_the_cosine() -> None:
    alphas = cosine_alphas()

    def cosine(time: float) -> float:
        return math.cos((time / 1000 + 0.008) / 1.008 * math.pi / 2) ** 2

    assert len(alphas) == 1000
    for step in (0, 1, 499, 990):  # the last betas are cut at 0.999
        assert alphas[step] == pytest.approx(cosine(step + 1) / cosine(0), rel=1e-9)
    assert alphas[999] == pytest.approx(0.001 * alphas[998], rel=1e-9)


@pytest.mark.parametrize("index", [1, 5, 8])
def test_a_step_is_the_posterior_by_bayes(index: int) -> None:
    """p(x_s | x_t, x_0) is the product of p(x_s | x_0) and p(x_t | x_s): precisions add. All in float64."""
    times = spaced(9)
    step = reverse_steps(times)[len(times) - 1 - index]
    now, before = cosine_alphas()[times[index]], cosine_alphas()[times[index - 1]]
    generator = torch.Generator().manual_seed(1)
    x, eps, noise = (torch.randn(3, 4, generator=generator, dtype=torch.float64) for _ in range(3))
    share = torch.rand(3, 4, generator=generator, dtype=torch.float64)
    clean = (x - math.sqrt(1 - now) * eps) / math.sqrt(now)
    ratio = now / before
    precision = 1 / (1 - before) + ratio / (1 - ratio)
    mean = (math.sqrt(before) * clean / (1 - before) + math.sqrt(ratio) * x / (1 - ratio)) / precision
    deviation = (1 / precision) ** ((1 - share) / 2) * (1 - ratio) ** (share / 2)
    got = previous(step, x, torch.cat((eps, 2 * share - 1), dim=-1), noise)
    torch.testing.assert_close(got, mean + deviation * noise, rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(previous(step, x, torch.cat((eps, share), dim=-1), None), mean, rtol=1e-6, atol=1e-9)
    for bound in (1.0, 0.3):
        clipped = previous(step, x, torch.cat((eps, share), dim=-1), None, clip=bound)
        expected = mean + math.sqrt(before) * (clean.clamp(-bound, bound) - clean) / (1 - before) / precision
        torch.testing.assert_close(clipped, expected, rtol=1e-6, atol=1e-9)


class Oracle(DiffusionHead):
    """The best predictor for tokens from N(mean, deviation^2): its samples must have that distribution."""

    def __init__(self, mean: float, deviation: float) -> None:
        super().__init__(1, 1, 1, 0)
        self.mean, self.variance = mean, deviation**2
        self.alphas = torch.tensor(cosine_alphas())

    def time(self, timesteps: Tensor) -> Tensor:
        return timesteps[:, None].float()

    def denoise(self, noisy: Tensor, condition: Tensor) -> Tensor:
        alpha = self.alphas[condition.round().long()]
        eps = (1 - alpha).sqrt() * (noisy - alpha.sqrt() * self.mean) / (alpha * self.variance + 1 - alpha)
        return torch.cat((eps, torch.full_like(eps, -1.0)), dim=-1)


def test_sampling_with_a_perfect_network_draws_from_the_data() -> None:
    noise = Philox(range(64))
    drawn = sample_tokens(Oracle(0.7, 0.5), reverse_steps(spaced(250)), torch.zeros(64, 64, 1), noise, "x")
    # 4096 draws: standard errors 0.008 and 0.006; the smallest variance is a little too small for finite steps
    assert drawn.mean().item() == pytest.approx(0.7, abs=0.03)
    assert drawn.std().item() == pytest.approx(0.5, abs=0.03)
    cold = sample_tokens(
        Oracle(0.7, 0.5), reverse_steps(spaced(250)), torch.zeros(64, 64, 1), noise, "x", temperature=0.5
    )
    assert cold.std() < 0.8 * drawn.std()


def test_many_and_few_numbers_at_a_time_are_the_same_process() -> None:
    """More tokens than are drawn in one call must still get fresh noise at every step."""
    zeros = torch.zeros(2, 9000, 1)
    drawn = sample_tokens(Oracle(0.0, 1.0), reverse_steps(spaced(50)), zeros, Philox(range(2)), "x")
    assert drawn.std().item() == pytest.approx(1.0, abs=0.05)
    assert len(drawn.flatten().unique()) > 17_900


def test_the_head_is_guided_on_the_noise_and_keeps_the_conditional_variance() -> None:
    torch.manual_seed(0)
    head = DiffusionHead(3, 5, 16, 2).requires_grad_(False)
    steps = reverse_steps(spaced(4))[-2:]
    states = head.state_in(torch.randn(4, 2, 5))
    x = Philox(range(2)).normal("x/start", (2, 3))
    times = head.time(torch.tensor([step.time for step in steps]))
    added = Philox(range(2)).normal("x/0", (1, 2, 3))[:, 0]
    for step, time, noise in zip(steps, times, (added, None), strict=True):
        conditional, free = (head.denoise(x, half + time) for half in states.chunk(2))
        eps = free[..., :3] + 2.5 * (conditional[..., :3] - free[..., :3])
        x = previous(step, x, torch.cat((eps, conditional[..., 3:]), dim=-1), noise)
    got = sample_tokens(head, steps, states, Philox(range(2)), "x", weight=2.5)
    assert distance(got, x) <= 1e-5


# ---- sampling --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("iterations", "tokens", "counts"),
    [
        (1, 16, [16, 0]),
        (4, 16, [16, 14, 11, 6, 0]),
        (6, 16, [16, 15, 13, 11, 8, 4, 0]),
        (5, 3, [3, 2, 1, 1, 1, 0]),
    ],
)
def test_iterations_follow_the_cosine_schedule(iterations: int, tokens: int, counts: list[int]) -> None:
    assert unknown_after(iterations, tokens) == counts


def test_official_iterations_find_a_token_each() -> None:
    assert unknown_after(256, 256) == list(range(256, -1, -1))


def test_more_iterations_than_tokens_leave_the_empty_ones_out() -> None:
    """In an edit, where the mask may have fewer than there are steps; a whole image refuses that when it is planned."""
    model = micro()
    labels, sampling = torch.tensor([1, 3]), Sampling(steps=40, inner_steps=2)
    _, taken, forwards = generate(model.network, labels, sampling, Greedy(2))
    assert taken == forwards == TOKENS


def test_guidance_off_is_half_the_forwards() -> None:
    model = micro()
    halved = Guidance(scale=3.0, schedule="linear", until=0.4)
    forwards = [
        model.sample(request(range(3)), SHORT.model_copy(update={"guidance": guidance})).forwards
        for guidance in (SHORT.guidance, Guidance(), Guidance(scale=1.0, schedule="linear"), halved)
    ]
    assert forwards == [10, 5, 5, 7]


def test_linear_guidance_counts_the_tokens_known() -> None:
    """With one iteration 15 of 16 tokens count as known, so the linear weight equals a constant one in between."""
    model = micro()
    linear = Sampling(guidance=Guidance(scale=5.0, schedule="linear"), steps=1, inner_steps=4)
    constant = linear.model_copy(update={"guidance": Guidance(scale=1 + 4 * 15 / 16)})
    assert distance(sampled(model, range(3), linear), sampled(model, range(3), constant)) <= 1e-5
    other = linear.model_copy(update={"guidance": Guidance(scale=5.0)})
    assert distance(sampled(model, range(3), linear), sampled(model, range(3), other)) > 1e-3


def test_a_guidance_of_zero_is_the_unconditional_model() -> None:
    model = micro()
    network = model.network
    sampling = Sampling(guidance=Guidance(scale=0.0), steps=3, inner_steps=4)
    order = torch.stack([torch.randperm(TOKENS, generator=torch.Generator().manual_seed(i)) for i in range(2)])
    labels = torch.tensor([1, 3])
    free, _, _ = generate(network, labels, sampling, Greedy(2), order=order)
    network.class_table.weight.copy_(network.no_class.expand(CLASSES, -1))
    alone, _, _ = generate(network, labels, Sampling(steps=3, inner_steps=4), Greedy(2), order=order)
    # the variance plays no role without noise
    assert distance(free, alone) <= 1e-5


def test_known_tokens_are_a_set_and_unknown_ones_have_no_say() -> None:
    network = micro().network
    generator = torch.Generator().manual_seed(0)
    latents = torch.randn(2, TOKENS, CHANNELS, generator=generator)
    positions = torch.tensor([[1, 4, 9], [15, 2, 7]])
    wanted = torch.arange(TOKENS).expand(2, -1)
    condition = network.condition(torch.tensor([0, 2]), guided=False)
    known = torch.stack([latents[row, positions[row]] for row in range(2)])
    states = network(condition, known, positions, wanted)
    turned = network(condition, known.flip(1), positions.flip(1), wanted)
    torch.testing.assert_close(turned, states, rtol=1e-4, atol=1e-5)
    some = network(condition, known, positions, wanted[:, [5, 3]])
    torch.testing.assert_close(some, states[:, [5, 3]], rtol=1e-4, atol=1e-5)
    assert distance(network(condition, known + 1, positions, wanted), states) > 1e-3


def test_samples_do_not_depend_on_the_batch() -> None:
    model = micro()
    whole = sampled(model, range(24), SHORT)
    for size in (1, 7):
        parts = torch.cat([sampled(model, range(i, min(i + size, 24)), SHORT) for i in range(0, 24, size)])
        # float32 sums in another order, over five iterations
        assert distance(parts, whole) <= 1e-5
    assert distance(sampled(model, range(24), SHORT, seed=4), whole) > 0.1


def test_temperature_scales_the_noise_of_the_steps_only() -> None:
    class Quiet(Philox):
        def normal(self, stream: str, shape: Any) -> Tensor:
            drawn = super().normal(stream, shape)
            return drawn if stream.endswith("/start") else 0 * drawn

    network, labels = micro().network, torch.arange(2)
    plain = Sampling(steps=3, inner_steps=5)
    cold, _, _ = generate(network, labels, plain.model_copy(update={"temperature": 0.0}), Philox(range(2)))
    quiet, _, _ = generate(network, labels, plain, Quiet(range(2)))
    warm, _, _ = generate(network, labels, plain, Philox(range(2)))
    assert torch.equal(cold, quiet)
    assert not torch.equal(warm, cold)


def test_tokens_are_bounded_only_if_the_card_says_so() -> None:
    largest = [
        0.2325 * sampled(model, range(2), SHORT).abs().max().item()
        for model in (micro(), micro(clip_denoised=4.0), micro(clip_denoised=0.5))
    ]
    assert largest[0] > 4.1
    assert largest[1:] == pytest.approx([4.0, 0.5], rel=1e-6)  # unscaled and scaled again
    assert [card.name for card in CARDS if "clip_denoised" in card.config] == ["continuous/mar-mini"]


def test_patches_are_put_together_channels_first() -> None:
    network = Network(Config(**(MICRO | {"img_size": 32, "patch_size": 2})))
    tokens = torch.arange(TOKENS * CHANNELS * 4).reshape(1, TOKENS, CHANNELS * 4)
    grid = network.grid(tokens)
    assert grid.shape == (1, CHANNELS, 8, 8)
    for token, channel, row, column in ((0, 0, 0, 0), (6, 3, 1, 0), (9, 2, 0, 1), (15, 3, 1, 1)):
        place = grid[0, channel, 2 * (token // 4) + row, 2 * (token % 4) + column]
        assert place == tokens[0, token, 4 * channel + 2 * row + column]


def test_phases_cover_every_iteration_once() -> None:
    seen: list[tuple[str, int, int]] = []

    @contextmanager
    def probe(phase: str, *, index: int = 0, tokens: int = 0) -> Iterator[None]:
        seen.append((phase, index, tokens))
        yield

    micro().sample(request(range(2)), Sampling(steps=2, inner_steps=2), probe=probe)
    assert seen == [("condition", 0, 0), ("ar", 0, 5), ("inner", 0, 5), ("ar", 1, 11), ("inner", 1, 11)]


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_follows_single(dtype: str) -> None:
    single, half = micro(), micro(dtype)
    positions, wanted = torch.tensor([[1, 4], [15, 2]]), torch.arange(TOKENS).expand(2, -1)
    known = torch.randn(2, 2, CHANNELS, generator=torch.Generator().manual_seed(0))
    states = [
        model.network(model.network.condition(torch.tensor([0, 2]), guided=False), known, positions, wanted).float()
        for model in (single, half)
    ]
    assert distance(states[1], states[0]) <= 0.03  # 8 or 11 bits a product, over a few dozen sums
    if dtype == "bfloat16":  # an untrained head makes numbers that float16 does not hold
        latents = sampled(half, range(2), SHORT)
        assert latents.dtype == torch.float32
        assert latents.isfinite().all()


# ---- editing ---------------------------------------------------------------------------------------------------------

HALF = torch.zeros(4, 4, dtype=torch.bool).index_fill(1, torch.tensor([2, 3]), True)


def originals(ids: range) -> Codes:
    return Codes(latents=4 * torch.stack([noise_for(9, [i]).normal("x", (CHANNELS, 4, 4))[0] for i in ids]))


def edited(model: MAR, ids: range, mask: Tensor, sampling: Sampling = SHORT) -> Tensor:
    codes = model.edit(request(ids), originals(ids), mask, sampling).codes
    assert codes is not None
    assert codes.latents is not None
    return codes.latents


def test_an_edit_keeps_what_is_outside_the_mask_to_the_bit() -> None:
    model = micro()
    assert isinstance(model, Edits)
    assert all("edits" in card.offers for card in CARDS)
    before = originals(range(3)).latents
    assert before is not None
    after = edited(model, range(3), HALF)
    assert torch.equal(after[..., ~HALF], before[..., ~HALF])
    assert (after[..., HALF] != before[..., HALF]).all()
    # what is kept is a condition: other originals, other content
    moved = model.edit(request(range(3)), Codes(latents=before + 2), HALF, SHORT).codes
    assert moved is not None
    assert moved.latents is not None
    assert distance(moved.latents[..., HALF], after[..., HALF]) > 1e-3
    # what is masked is not
    other = Codes(latents=torch.where(HALF, before + 5, before))
    same = model.edit(request(range(3)), other, HALF, SHORT).codes
    assert same is not None
    assert same.latents is not None
    assert torch.equal(same.latents, after)


def test_an_edit_of_everything_is_a_sample() -> None:
    model = micro()
    everything = torch.ones(4, 4, dtype=torch.bool)
    assert torch.equal(edited(model, range(5), everything), sampled(model, range(5), SHORT))


def test_an_edit_is_iterated_over_the_masked_tokens_only() -> None:
    model = micro()
    seen: list[tuple[str, int, int]] = []

    @contextmanager
    def probe(phase: str, *, index: int = 0, tokens: int = 0) -> Iterator[None]:
        seen.append((phase, index, tokens))
        yield

    done = model.edit(request(range(2)), originals(range(2)), HALF, SHORT, probe=probe)
    assert (done.outer_steps, done.forwards) == (5, 10)
    # 8 tokens: floor(8 cos) leaves 7, 6, 4, 2, 0
    assert [tokens for phase, _, tokens in seen if phase == "ar"] == [1, 1, 2, 2, 2]
    one = torch.zeros(4, 4, dtype=torch.bool)
    one[1, 2] = True
    assert model.edit(request(range(2)), originals(range(2)), one, SHORT).outer_steps == 1


def test_edits_do_not_depend_on_the_batch() -> None:
    model = micro()
    whole = edited(model, range(12), HALF)
    for size in (1, 5):
        parts = torch.cat([edited(model, range(i, min(i + size, 12)), HALF) for i in range(0, 12, size)])
        assert distance(parts, whole) <= 1e-5  # float32 sums in another order, over five iterations


def test_a_patch_is_drawn_whole_and_its_other_latents_are_put_back() -> None:
    network = Network(Config(**(MICRO | {"img_size": 32, "patch_size": 2})))
    latents = torch.randn(2, CHANNELS, 8, 8, generator=torch.Generator().manual_seed(0))
    assert torch.equal(network.grid(network.patches(latents)), latents)
    model = micro(img_size=32, patch_size=2)
    mask = torch.zeros(8, 8, dtype=torch.bool)
    mask[3, 4] = True
    done = model.edit(request(range(2)), Codes(latents=latents), mask, SHORT)
    assert done.outer_steps == 1
    assert done.codes is not None
    assert done.codes.latents is not None
    assert torch.equal((done.codes.latents != latents).any(dim=1), mask.expand(2, -1, -1))


def test_edits_that_do_not_fit_are_clear_errors() -> None:
    model, codes = micro(), originals(range(2))
    for mask in (HALF[:3], HALF.float()):
        with pytest.raises(InputError, match="cannot edit within this mask"):
            model.edit(request(range(2)), codes, mask, SHORT)
    with pytest.raises(InputError, match="true nowhere"):
        model.edit(request(range(2)), codes, HALF & False, SHORT)
    for bad in (Codes(), originals(range(3)), Codes(latents=torch.zeros(2, CHANNELS, 5, 4))):
        with pytest.raises(InputError, match="edits latents of shape"):
            model.edit(request(range(2)), bad, HALF, SHORT)
    with pytest.raises(Unsupported, match="top_k"):
        model.edit(request(range(2)), codes, HALF, Sampling(top_k=3))


# ---- the adapter -----------------------------------------------------------------------------------------------------


def test_generator_and_tokenizer_fit_together() -> None:
    model = micro()
    assert isinstance(model, Generator)
    assert isinstance(model.tokenizer, Tokenizer)
    codes = model.sample(request(range(2)), SHORT).codes
    assert codes is not None
    assert codes.latents is not None
    labels, noise = torch.tensor([0, 1]), noise_for(3, range(2))
    scaled, taken, forwards = generate(model.network, labels, SHORT, noise)
    assert (taken, forwards) == (5, 10)
    torch.testing.assert_close(codes.latents * 0.2325, scaled)
    images = model.tokenizer.decode(codes)
    assert images.shape == (2, 3, 16, 16)
    assert 0 <= images.min() <= images.max() <= 1


def test_wrong_requests_and_tokenizers_are_clear_errors() -> None:
    model = micro()
    with pytest.raises(UsageError, match="labels"):
        model.sample(Request((0,), noise_for(0, [0])), Sampling())
    for wrong, name in (({"top_k": 3}, "top_k"), ({"order": "raster"}, "order"), ({"top_p": 0.9}, "top_p")):
        with pytest.raises(Unsupported, match=name):
            model.prepare(1, Sampling(**wrong))
    with pytest.raises(Unsupported, match="cosine_power"):
        model.sample(request(range(1)), Sampling(guidance=Guidance(scale=2.0, schedule="cosine_power")))
    with pytest.raises(UsageError, match="2 to 1000"):
        model.prepare(1, Sampling(inner_steps=1))
    random = LoadSpec(init="random")
    for tokenizer in (None, LlamaGenVQ.load(LLAMAGEN_MINI, random)):
        with pytest.raises(InputError, match="needs a KL tokenizer"):
            MAR.load(micro_card(), random, tokenizer)
    with pytest.raises(InputError, match="cannot use"):
        MAR.load(micro_card(), random, small_tokenizer(embed_dim=6))
    with pytest.raises(ConfigError, match="depth"):
        MAR.load(micro_card(depth=3), random, small_tokenizer())


def test_upstream_settings_convert() -> None:
    assert upstream_sampling({}) == Sampling(guidance=Guidance(schedule="linear"), steps=64, inner_steps=100)
    assert upstream_sampling({"cfg_scale": 1.0}).guidance.on is False
    for card in CARDS:
        settings = card.upstream_settings
        if not settings:
            assert card.name == "continuous/mar-mini"
            continue
        assert upstream_sampling({"cfg_scale": settings["cfg"], **settings}) == card.native


def official_state(network: nn.Module) -> dict[str, Tensor]:
    return {official_names(name)[0]: tensor for name, tensor in network.state_dict().items()}


def test_the_averaged_weights_of_an_official_file_are_used(tmp_path: Path) -> None:
    model = micro()
    ema = official_state(model.network)
    raw = {key: tensor + 1 for key, tensor in ema.items()}
    path = tmp_path / "checkpoint-last.pth"
    spec = LoadSpec(weights=path)
    torch.save({"model": raw, "model_ema": ema, "optimizer": {}, "epoch": 1, "args": Namespace(lr=1e-4)}, path)
    loaded = MAR.load(micro_card(), spec, model.tokenizer)
    assert torch.equal(sampled(loaded, range(2), SHORT), sampled(model, range(2), SHORT))
    torch.save({"model": ema}, path)
    loaded = MAR.load(micro_card(), spec, model.tokenizer)
    assert torch.equal(sampled(loaded, range(2), SHORT), sampled(model, range(2), SHORT))


def test_checkpoints_of_something_else_are_refused(tmp_path: Path) -> None:
    model, path = micro(), tmp_path / "checkpoint-last.pth"
    state = official_state(model.network)
    torch.save(
        {"model_ema": {key: state[key] for key in state if key != "fake_latent"} | {"extra": state["mask_token"]}}, path
    )
    with pytest.raises(CheckpointError, match=r"(?s)1 missing: fake_latent.*1 unexpected: extra"):
        MAR.load(micro_card(), LoadSpec(weights=path), model.tokenizer)
    names = tokenizer_names(SMALL_TOKENIZER)
    network = model.tokenizer.network
    other = {key: tensor for name, tensor in network.state_dict().items() for key in names(name)}
    torch.save({"model": other}, path)
    with pytest.raises(CheckpointError, match="KL autoencoder"):
        MAR.load(micro_card(), LoadSpec(weights=path), model.tokenizer)
    torch.save({"model_ema": state}, path)
    card = MAR_KL_16.model_copy(update={"config": SMALL_TOKENIZER})
    with pytest.raises(CheckpointError, match="it looks like a MAR generator, not a KL autoencoder"):
        MARKL.load(card, LoadSpec(weights=path))


# ---- official sizes --------------------------------------------------------------------------------------------------

Shapes = dict[str, tuple[int, ...]]


def affine(name: str, outputs: int, *inputs: int) -> Shapes:
    return {f"{name}.weight": (outputs, *inputs), f"{name}.bias": (outputs,)}


def transformer(name: str, depth: int, width: int) -> Shapes:
    shapes: Shapes = {}
    for i in range(depth):
        shapes |= affine(f"{name}.{i}.norm1", width) | affine(f"{name}.{i}.norm2", width)
        shapes |= affine(f"{name}.{i}.attn.qkv", 3 * width, width) | affine(f"{name}.{i}.attn.proj", width, width)
        shapes |= affine(f"{name}.{i}.mlp.fc1", 4 * width, width) | affine(f"{name}.{i}.mlp.fc2", width, 4 * width)
    return shapes


def official_shapes(width: int, depth: int, head_width: int, head_depth: int) -> Shapes:
    """Keys and shapes of the official class at 256 px with 16 latent channels."""
    net, w = "diffloss.net", head_width
    shapes: Shapes = {"class_emb.weight": (1000, width), "fake_latent": (1, width), "mask_token": (1, 1, width)}
    shapes |= {f"{part}_pos_embed_learned": (1, 320, width) for part in ("encoder", "decoder")}
    shapes |= {"diffusion_pos_embed_learned": (1, 256, width)}
    shapes |= affine("z_proj", width, 16) | affine("decoder_embed", width, width)
    for norm in ("z_proj_ln", "encoder_norm", "decoder_norm"):
        shapes |= affine(norm, width)
    shapes |= transformer("encoder_blocks", depth, width) | transformer("decoder_blocks", depth, width)
    shapes |= affine(f"{net}.time_embed.mlp.0", w, 256) | affine(f"{net}.time_embed.mlp.2", w, w)
    shapes |= affine(f"{net}.cond_embed", w, width) | affine(f"{net}.input_proj", w, 16)
    for i in range(head_depth):
        block = f"{net}.res_blocks.{i}"
        shapes |= affine(f"{block}.in_ln", w) | affine(f"{block}.mlp.0", w, w) | affine(f"{block}.mlp.2", w, w)
        shapes |= affine(f"{block}.adaLN_modulation.1", 3 * w, w)
    shapes |= affine(f"{net}.final_layer.linear", 32, w)
    return shapes | affine(f"{net}.final_layer.adaLN_modulation.1", 2 * w, w)


# name: width, depth, head width, head depth; millions as printed by the official class, and as the README has them
SIZES = {
    "base": ((768, 12, 1024, 6), 207.92, 208),
    "large": ((1024, 16, 1280, 8), 478.33, 479),
    "huge": ((1280, 20, 1536, 12), 942.40, 943),
}


def test_all_released_sizes_have_a_card() -> None:
    assert {card.name.removeprefix("continuous/mar-") for card in CARDS} >= SIZES.keys()


@pytest.mark.parametrize("size", SIZES)
def test_official_cards_have_the_official_keys_and_sizes(size: str) -> None:
    (card,) = (card for card in CARDS if card.name == f"continuous/mar-{size}")
    structure, printed, published = SIZES[size]
    with torch.device("meta"):
        network = Network(from_upstream(Config, card.config, TRAINING_ONLY))
    assert {key: tuple(tensor.shape) for key, tensor in official_state(network).items()} == official_shapes(*structure)
    count = sum(parameter.numel() for parameter in network.parameters())
    assert count == card.parameters
    assert count / 1e6 == pytest.approx(printed, abs=0.005)
    assert math.ceil(count / 1e6) == published  # the README rounds up
    assert card.tokens == MAR_KL_16.tokens
    assert card.tokens is not None
    assert (card.tokens.tokens, card.tokens.channels) == (network.config.tokens, network.config.channels) == (256, 16)


def residual(name: str, inputs: int, outputs: int) -> Shapes:
    shapes = affine(f"{name}.norm1", inputs) | affine(f"{name}.conv1", outputs, inputs, 3, 3)
    shapes |= affine(f"{name}.norm2", outputs) | affine(f"{name}.conv2", outputs, outputs, 3, 3)
    return shapes | (affine(f"{name}.nin_shortcut", outputs, inputs, 1, 1) if inputs != outputs else {})


def attention(name: str, width: int) -> Shapes:
    shapes = affine(f"{name}.norm", width)
    for part in ("q", "k", "v", "proj_out"):
        shapes |= affine(f"{name}.{part}", width, width, 1, 1)
    return shapes


def test_the_tokenizer_has_the_official_keys_and_size() -> None:
    """Attention in the encoder's last level and in both middles; none elsewhere in the decoder."""
    with torch.device("meta"):
        network = KLNetwork(MAR_KL_16.config)
    names = tokenizer_names(MAR_KL_16.config)
    got: Shapes = {}
    for name, tensor in network.state_dict().items():
        keys = names(name)
        got |= {key: (tensor.shape[0] // len(keys), *tensor.shape[1:]) for key in keys}
    widths = (128, 128, 256, 256, 512)
    shapes = affine("quant_conv", 32, 32, 1, 1) | affine("post_quant_conv", 16, 16, 1, 1)
    for part, inputs, outputs in (("encoder", 3, 32), ("decoder", 16, 3)):
        first, last = (128, 512) if part == "encoder" else (512, 128)
        shapes |= affine(f"{part}.conv_in", first, inputs, 3, 3) | affine(f"{part}.conv_out", outputs, last, 3, 3)
        shapes |= affine(f"{part}.norm_out", last) | attention(f"{part}.mid.attn_1", 512)
        shapes |= residual(f"{part}.mid.block_1", 512, 512) | residual(f"{part}.mid.block_2", 512, 512)
    for level, (before, width) in enumerate(zip((128, *widths), widths, strict=False)):
        for block in range(2):
            shapes |= residual(f"encoder.down.{level}.block.{block}", before if block == 0 else width, width)
        if level < 4:
            shapes |= affine(f"encoder.down.{level}.downsample.conv", width, width, 3, 3)
    for block in range(2):
        shapes |= attention(f"encoder.down.4.attn.{block}", 512)
    for level, width in enumerate(widths):
        above = widths[min(level + 1, 4)]
        for block in range(3):
            shapes |= residual(f"decoder.up.{level}.block.{block}", above if block == 0 else width, width)
        if level > 0:
            shapes |= affine(f"decoder.up.{level}.upsample.conv", width, width, 3, 3)
    assert got == shapes
    count = sum(parameter.numel() for parameter in network.parameters())
    assert count == MAR_KL_16.parameters
    assert count / 1e6 == pytest.approx(66.46, abs=0.005)  # as printed by the official class


# ---- the tokenizer ---------------------------------------------------------------------------------------------------


def test_codes_are_the_posteriors_mean_or_a_draw_from_it() -> None:
    tokenizer = small_tokenizer()
    images = torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    mean, deviation = tokenizer.network.moments(2 * images - 1)
    assert mean.shape == deviation.shape == (3, CHANNELS, 4, 4)
    latents = tokenizer.encode(images).latents
    assert latents is not None
    torch.testing.assert_close(latents, mean)
    drawn = tokenizer.encode(images, noise=noise_for(1, range(3))).latents
    assert drawn is not None
    expected = noise_for(1, range(3)).normal("posterior", (CHANNELS, 4, 4))
    torch.testing.assert_close((drawn - mean) / deviation, expected, rtol=1e-3, atol=1e-4)
    alone = tokenizer.encode(images[1:2], noise=noise_for(1, [1])).latents
    assert alone is not None
    torch.testing.assert_close(alone, drawn[1:2], rtol=1e-4, atol=1e-5)


def test_a_deterministic_autoencoder_has_a_log_variance_of_one() -> None:
    tokenizer = small_tokenizer(use_variational=False)
    mean, deviation = tokenizer.network.moments(torch.zeros(1, 3, 16, 16))
    assert mean.shape == (1, CHANNELS, 4, 4)
    assert deviation == pytest.approx(math.exp(0.5))


def test_images_that_are_not_square_and_bad_codes() -> None:
    tokenizer = small_tokenizer("bfloat16")
    codes = tokenizer.encode(torch.rand(2, 3, 16, 24))
    assert codes.latents is not None
    assert codes.latents.shape == (2, CHANNELS, 4, 6)
    assert tokenizer.decode(codes).shape == (2, 3, 16, 24)
    assert tokenizer.decode(codes).dtype == torch.float32
    with pytest.raises(ImageError, match="multiples of 4"):
        tokenizer.encode(torch.rand(1, 3, 18, 16))
    for bad in (Codes(), Codes(latents=torch.zeros(1, CHANNELS + 1, 4, 4)), Codes(latents=torch.zeros(1, CHANNELS, 4))):
        with pytest.raises(InputError, match="decodes latents of shape"):
            tokenizer.decode(bad)


def test_an_official_tokenizer_file_loads_with_the_weights_of_its_losses(tmp_path: Path) -> None:
    tokenizer, path = small_tokenizer(), tmp_path / "kl16.ckpt"
    names = tokenizer_names(SMALL_TOKENIZER)
    state: dict[str, Tensor] = {"loss.logvar": torch.zeros(()), "loss.discriminator.main.0.weight": torch.zeros(3)}
    for name, tensor in tokenizer.network.state_dict().items():
        keys = names(name)
        state |= dict(zip(keys, tensor.chunk(len(keys)), strict=True))
    torch.save({"model": state}, path)
    card = MAR_KL_16.model_copy(update={"config": SMALL_TOKENIZER, "tokens": SMALL_TOKENS})
    loaded = MARKL.load(card, LoadSpec(weights=path))
    codes = Codes(latents=torch.randn(1, CHANNELS, 4, 4, generator=torch.Generator().manual_seed(0)))
    assert torch.equal(loaded.decode(codes), tokenizer.decode(codes))
