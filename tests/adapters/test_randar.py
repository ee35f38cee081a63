"""RandAR: recordings, schedules, orders, sampling against a sampler without cache, extrapolation, official files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from arbench.adapters.layers.config import from_upstream
from arbench.adapters.layers.order import halton_cells
from arbench.adapters.layers.rope import grid_rotations, stretched_rotations
from arbench.adapters.layers.sampling import token_probabilities
from arbench.adapters.random_order.randar.adapter import RandAR, linear_guidance, upstream_sampling
from arbench.adapters.random_order.randar.cards import CARDS as ALL
from arbench.adapters.random_order.randar.cards import MINI as RANDAR_MINI
from arbench.adapters.random_order.randar.network import TRAINING_ONLY, interleave, official_names
from arbench.adapters.random_order.randar.network import Config as RandARConfig
from arbench.adapters.random_order.randar.network import Network as RandARNetwork
from arbench.adapters.random_order.randar.sampling import coarse_first, generate, group_sizes
from arbench.adapters.raster.llamagen.adapter import LlamaGen
from arbench.adapters.raster.llamagen.cards import MINI as LLAMAGEN_MINI
from arbench.errors import CheckpointError, ConfigError, InputError, Unsupported, UsageError
from arbench.parity import load_golden, replay_golden, replayer
from arbench.protocols import Card, Codes, Edits, Generator, Guidance, LoadSpec, Request, Sampling, Scores
from arbench.seeds import Greedy, noise_for

CARDS = tuple(card for card in ALL if card != RANDAR_MINI)
"""The released sizes."""
GOLDENS = Path(__file__).parents[1] / "goldens"
MICRO: dict[str, Any] = {
    "dim": 32,
    "n_layer": 2,
    "n_head": 4,
    "multiple_of": 16,
    "num_classes": 5,
    "vocab_size": 24,
    "block_size": 16,
    "num_inference_steps": 7,
}
SMALL = next(card for card in CARDS if card.name == "random_order/randar-0.3b")
LARGE = next(card for card in CARDS if card.name == "random_order/randar-0.3b-512")
LINEAR = Guidance(scale=4.0, start=1.0, schedule="linear")


def micro_card(**config: Any) -> Card:
    base = LARGE if "extrapolation_factor" in config else SMALL
    return base.model_copy(update={"name": "random_order/micro", "config": MICRO | config, "checkpoint": None})


def micro(dtype: str = "float32", **config: Any) -> RandAR:
    """A small model with random weights whose logits are far from flat."""
    model = RandAR.load(micro_card(**config), LoadSpec(init="random", dtype=dtype), None)  # type: ignore[arg-type]
    model.network.head.weight.mul_(4)
    model.network.instruction.mul_(40)
    return model


def request(ids: range, seed: int = 3) -> Request:
    return Request(tuple(ids), noise_for(seed, ids), labels=torch.tensor([i % 5 for i in ids]))


def tokens_of(model: RandAR, ids: range, sampling: Sampling, seed: int = 3) -> Tensor:
    generated = model.sample(request(ids, seed), sampling)
    assert generated.codes is not None
    return generated.codes.ids[0]


@pytest.mark.parametrize("name", ["randar", "randar-extrapolation"])
def test_recordings_replay(name: str) -> None:
    golden = load_golden(GOLDENS / name)
    verdicts = list(replay_golden(golden))
    assert len(verdicts) == 4
    assert [verdict for verdict in verdicts if not verdict.ok] == []


def test_recordings_notice_another_order_steps_and_scale() -> None:
    golden = load_golden(GOLDENS / "randar")
    call, probe = replayer(golden), golden.probes[1]
    inputs = {role: golden.tensors[key] for role, key in probe.inputs.items()}
    expected = golden.tensors[probe.outputs["tokens"]]
    assert torch.equal(call("generate", probe.settings, inputs)["tokens"], expected)
    for change in ({"cfg_scales": [1.0, 9.0]}, {"num_inference_steps": 3}):
        assert not torch.equal(call("generate", {**probe.settings, **change}, inputs)["tokens"], expected)
    flipped = inputs | {"order": inputs["order"].flip(1)}
    assert not torch.equal(call("generate", probe.settings, flipped)["tokens"], expected)
    with pytest.raises(InputError, match="order"):
        call("generate", probe.settings, {"class_ids": inputs["class_ids"]})
    with pytest.raises(InputError, match="unknown settings"):
        call("generate", {**probe.settings, "cfg_scale": 2.0}, inputs)
    with pytest.raises(InputError, match="no probe"):
        call("encode", {}, inputs)


# ---- schedule and order ----------------------------------------------------------------------------------------------


def test_88_steps_are_24_single_tokens_and_then_groups_of_up_to_5() -> None:
    sizes = group_sizes(88, 256)
    assert len(sizes) == 88
    assert sum(sizes) == 256
    assert sizes[:24] == [1] * 24
    assert max(sizes) == 5
    assert len(group_sizes(64, 256)) == 64
    assert max(group_sizes(64, 256)) == 7


@pytest.mark.parametrize("total", [4, 16, 256])
def test_every_schedule_decodes_everything_and_256_steps_one_by_one(total: int) -> None:
    for steps in range(1, total + 3):
        sizes = group_sizes(steps, total)
        assert sum(sizes) == total
        assert sizes[0] == 1
        assert len(sizes) == min(max(steps, 2), total)
    assert group_sizes(total, total) == group_sizes(2**20, total) == [1] * total


def test_orders_are_permutations_with_the_property_of_their_name() -> None:
    cells = torch.tensor(halton_cells(8))
    assert sorted(cells.tolist()) == list(range(64))
    quarter = cells[:16]
    for half in (quarter // 8 // 4, quarter % 8 // 4):  # evenly spread: each half holds about half of any beginning
        assert 6 <= int(half.sum()) <= 10
    order = coarse_first(torch.stack([torch.randperm(64, generator=torch.Generator().manual_seed(0))] * 2), 8)
    assert order.sort(dim=1).values.equal(torch.arange(64).expand(2, -1))
    first = order[:, :16]
    assert int((first // 8 % 2 + first % 8 % 2).sum()) == 0


def test_orders_change_tokens_and_belong_to_the_sample() -> None:
    model = micro()
    drawn = {
        kind: tokens_of(model, range(4), Sampling(order=kind)) for kind in ("native", "raster", "random", "halton")
    }
    assert torch.equal(drawn["native"], drawn["random"])
    assert not torch.equal(drawn["native"], drawn["raster"])
    assert not torch.equal(drawn["halton"], drawn["raster"])
    raster = micro(position_order="raster")
    assert torch.equal(tokens_of(raster, range(4), Sampling()), drawn["raster"])
    assert torch.equal(tokens_of(raster, range(4), Sampling(order="random")), drawn["native"])


# ---- sampling --------------------------------------------------------------------------------------------------------


@torch.inference_mode()
def without_cache(
    network: RandARNetwork,
    labels: Tensor,
    order: Tensor,
    sampling: Sampling,
    sizes: Sequence[int],
    guided: int,
    given: Tensor | None = None,
) -> Tensor:
    """Greedy tokens by reading everything anew in each pass: pairs known so far, then the queries of the group."""
    rotations = network.rotations[1:][order].unsqueeze(1)
    queries = network.instructions(rotations)
    tokens = torch.zeros_like(order)

    def logits_of(given: Tensor, done: int, size: int) -> Tensor:
        pairs = interleave(queries[:, :done], network.token_table(tokens[:, :done]))
        x = torch.cat((network.condition(given), pairs, queries[:, done : done + size]), dim=1)
        turns = torch.cat(
            (
                torch.zeros_like(rotations[:, :, :1]),
                rotations[:, :, :done].repeat_interleave(2, dim=2),
                rotations[:, :, done : done + size],
            ),
            dim=2,
        )
        return network.logits(network(x, rotations=turns)[:, -size:])

    done = 0
    if given is not None:
        done = given.shape[1]
        tokens[:, :done] = given
    for step, size in enumerate(sizes):
        logits = logits_of(labels, done, size)
        if step < guided:
            free = logits_of(network.null(labels), done, size)
            logits = free + sampling.guidance.weight(done / order.shape[1]) * (logits - free)
        tokens[:, done : done + size] = token_probabilities(logits, sampling).argmax(-1)
        done += size
    return torch.empty_like(tokens).scatter_(1, order, tokens)


@pytest.mark.parametrize("kv_heads", [None, 2])
@pytest.mark.parametrize("steps", [1, 3, 7, 16])
@pytest.mark.parametrize("until", [1.0, 0.5, 0.0])
def test_greedy_tokens_equal_those_of_a_sampler_without_cache(kv_heads: int | None, steps: int, until: float) -> None:
    network = micro(n_kv_head=kv_heads).network
    guidance = LINEAR.model_copy(update={"until": until})
    sampling = Sampling(guidance=guidance, top_k=7, temperature=0.8, steps=steps)
    labels, order = torch.arange(5), noise_for(1, range(5)).permutation("order", 16)
    sizes = group_sizes(steps, 16)
    with torch.inference_mode():
        tokens, passes, forwards = generate(network, labels, order, sampling, Greedy(5))
    guided = round(len(sizes) * until)
    assert torch.equal(tokens, without_cache(network, labels, order, sampling, sizes, guided))
    assert passes == len(sizes) == max(steps, 2)
    assert forwards == passes + guided


def test_cached_states_equal_uncached_logits() -> None:
    network = micro().network
    labels, noise = torch.arange(5), noise_for(4, range(5))
    order, tokens = noise.permutation("order", 16), noise.permutation("tokens", 16)
    with torch.inference_mode():
        expected = network.score_in_order(labels, tokens, order)
        caches, turns = network.allocate(5, 33), network.rotations[1:][order].unsqueeze(1)
        pairs = interleave(network.instructions(turns), network.token_table(tokens.gather(1, order)))
        x = torch.cat((network.condition(labels), pairs), dim=1)
        turns = torch.cat((torch.zeros_like(turns[:, :, :1]), turns.repeat_interleave(2, dim=2)), dim=2)
        sight = torch.ones(33, 33, dtype=torch.bool).tril()
        got = []
        for start, end in ((0, 2), (2, 4), (4, 10), (10, 11), (11, 32)):
            here = slice(start, end)
            mask = sight[here, :end] if start else None
            got.append(network.logits(network(x[:, here], start, caches, mask, turns[:, :, here])))
    assert (torch.cat(got, dim=1)[:, 1::2] - expected).norm() <= 1e-5 * expected.norm()


def test_guidance_off_is_half_the_forwards() -> None:
    model = micro()
    guided = model.sample(request(range(3)), Sampling(guidance=LINEAR))
    plain = model.sample(request(range(3)), Sampling())
    assert (guided.forwards, plain.forwards) == (14, 7)
    assert guided.outer_steps == plain.outer_steps == 7


def test_upstream_settings_convert() -> None:
    assert upstream_sampling({"cfg_scales": (4.0, 1.0)}) == Sampling(steps=88)
    assert upstream_sampling({"cfg_scales": (2.0, 2.0)}).guidance == Guidance(scale=2.0)
    converted = upstream_sampling({"cfg_scales": (1.0, 4.0), "num_inference_steps": 64, "top_k": 0, "temperature": 0.9})
    assert converted == Sampling(guidance=LINEAR, steps=64, temperature=0.9)
    assert [linear_guidance(1.0, 4.0).weight(done / 16) for done in (0, 8)] == [1.0, 2.5]


@pytest.mark.parametrize("config", [{}, {"extrapolation_factor": 2}])
def test_samples_do_not_depend_on_the_batch(config: dict[str, Any]) -> None:
    model = micro(**config)
    sampling = Sampling(guidance=Guidance(scale=1.5), top_p=0.95)
    count = 32 if not config else 16
    whole = tokens_of(model, range(count), sampling)
    for size in (1, 7):
        parts = [tokens_of(model, range(i, min(i + size, count)), sampling) for i in range(0, count, size)]
        assert (torch.cat(parts) == whole).all(dim=1).double().mean() >= 0.96  # one may differ
    assert not torch.equal(whole, tokens_of(model, range(count), sampling, seed=4))


def test_caches_for_a_larger_batch_serve_smaller_ones() -> None:
    model, fresh = micro(), micro()
    sampling = Sampling(guidance=LINEAR)
    model.prepare(8, sampling)
    model.sample(request(range(8)), sampling)  # leaves other samples' keys in the cache
    assert torch.equal(tokens_of(model, range(20, 23), sampling), tokens_of(fresh, range(20, 23), sampling))
    assert tokens_of(model, range(40), sampling).shape == (40, 16)


def phases_of(model: RandAR, sampling: Sampling) -> list[tuple[str, int, int]]:
    seen: list[tuple[str, int, int]] = []

    @contextmanager
    def probe(phase: str, *, index: int = 0, tokens: int = 0) -> Iterator[None]:
        seen.append((phase, index, tokens))
        yield

    model.sample(request(range(2)), sampling, probe=probe)
    return seen


def test_phases_cover_every_pass_once() -> None:
    sizes = group_sizes(7, 16)
    seen = phases_of(micro(), Sampling())
    assert seen == [("condition", 0, 0), ("prefill", 0, 1), *(("ar", i, sizes[i]) for i in range(1, 7))]


def test_scores_see_earlier_tokens_of_the_order_only() -> None:
    model = micro()
    assert isinstance(model, Generator)
    assert isinstance(model, Scores)
    codes = model.sample(request(range(4)), Sampling()).codes
    assert codes is not None
    logits = model.logits(request(range(4)), codes)
    assert logits.shape == (4, 16, 24)
    order = noise_for(3, range(4)).permutation("order", 16)
    tenth = order[:, 10:11]
    changed = codes.ids[0].scatter(1, tenth, (codes.ids[0].gather(1, tenth) + 1) % 24)
    later = model.logits(request(range(4)), Codes(ids=(changed,)))
    difference = (later - logits).abs().amax(-1).gather(1, order)
    assert difference[:, :11].max() < 1e-4
    assert difference[:, 11:].min(dim=1).values.min() > 1e-4
    greedy = model.network.score_in_order(request(range(4)).labels, codes.ids[0], order)  # type: ignore[arg-type]
    torch.testing.assert_close(greedy[0, 3], logits[0, order[0, 3]])


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_follows_single(dtype: str) -> None:
    single, half = micro(), micro(dtype)
    codes = single.sample(request(range(4)), Sampling()).codes
    assert codes is not None
    expected, got = single.logits(request(range(4)), codes), half.logits(request(range(4)), codes)
    assert got.dtype == torch.float32
    # eight (bfloat16) or eleven (float16) bits a product, over a few dozen layers' worth of sums
    assert (got - expected).norm() <= 0.03 * expected.norm()
    assert tokens_of(half, range(3), Sampling(guidance=LINEAR)).shape == (3, 16)


# ---- edits -----------------------------------------------------------------------------------------------------------

BOX = torch.zeros(4, 4, dtype=torch.bool)
BOX[1:3, 1:4] = True


def some_codes(count: int) -> Codes:
    return Codes(ids=(torch.randint(24, (count, 16), generator=torch.Generator().manual_seed(2)),))


def edited(model: RandAR, ids: range, codes: Codes, mask: Tensor, sampling: Sampling) -> Tensor:
    made = model.edit(request(ids), codes, mask, sampling).codes
    assert made is not None
    return made.ids[0]


@pytest.mark.parametrize("steps", [2, 3, 6])
def test_edits_draw_the_masked_tokens_and_keep_the_others(steps: int) -> None:
    model, codes = micro(), some_codes(40)
    assert isinstance(model, Edits)
    sampling = Sampling(guidance=LINEAR, steps=steps)
    made = model.edit(request(range(40)), codes, BOX, sampling)
    assert made.codes is not None
    tokens, inside = made.codes.ids[0], BOX.flatten()
    assert torch.equal(tokens[:, ~inside], codes.ids[0][:, ~inside])
    assert bool((tokens[:, inside] != codes.ids[0][:, inside]).any(dim=0).all())
    assert (made.outer_steps, made.forwards) == (steps, 2 * steps)


@pytest.mark.parametrize("steps", [2, 4, 6])
def test_greedy_edits_equal_those_of_a_sampler_without_cache(steps: int) -> None:
    model, codes, count = micro(), some_codes(5), 5
    sampling = Sampling(guidance=LINEAR, steps=steps)
    greedy = Request(tuple(range(count)), Greedy(count), labels=torch.arange(count))
    made = model.edit(greedy, codes, BOX, sampling).codes
    assert made is not None
    own = Greedy(count).permutation("order", 16)
    inside = BOX.flatten()[own]
    # row by row: the given places in the sample's own order, then the masked ones in that order
    order = torch.stack([torch.cat((row[~where], row[where])) for row, where in zip(own, inside, strict=True)])
    sizes = group_sizes(steps, 6)
    expected = without_cache(
        model.network,
        torch.arange(count),
        order,
        sampling,
        sizes,
        len(sizes),
        given=codes.ids[0].gather(1, order)[:, :10],
    )
    assert torch.equal(made.ids[0], expected)


@pytest.mark.parametrize("order", ["native", "raster", "halton"])
def test_an_edit_of_everything_is_a_sample(order: Any) -> None:
    model, everything = micro(), torch.ones(4, 4, dtype=torch.bool)
    sampling = Sampling(guidance=LINEAR, order=order, top_p=0.9)
    whole = edited(model, range(24), some_codes(24), everything, sampling)
    assert torch.equal(whole, tokens_of(model, range(24), sampling))


def test_edits_depend_on_the_given_tokens_and_not_on_the_batch() -> None:
    model, codes = micro(), some_codes(48)
    sampling = Sampling(guidance=Guidance(scale=1.5))
    whole = edited(model, range(48), codes, BOX, sampling)
    for size in (1, 7):
        parts = []
        for start in range(0, 48, size):
            ids = range(start, min(start + size, 48))
            parts.append(edited(model, ids, Codes(ids=(codes.ids[0][start : ids.stop],)), BOX, sampling))
        assert (torch.cat(parts) == whole).all(dim=1).double().mean() >= 0.98
    other = Codes(ids=((codes.ids[0] + 1) % 24,))
    inside = BOX.flatten()
    assert not torch.equal(edited(model, range(48), other, BOX, sampling)[:, inside], whole[:, inside])


def test_edits_that_cannot_be_made_are_refused() -> None:
    model = micro()

    def tried(mask: Tensor, count: int = 2) -> None:
        model.edit(request(range(2)), some_codes(count), mask, Sampling())

    for mask, why in ((BOX & False, "true nowhere"), (BOX.float(), "float32"), (BOX[:3], r"\(3, 4\)")):
        with pytest.raises(InputError, match=why):
            tried(mask)
    with pytest.raises(InputError, match="a row for each sample"):
        tried(BOX, count=3)
    with pytest.raises(Unsupported, match="inner_steps"):
        model.edit(request(range(2)), some_codes(2), BOX, Sampling(inner_steps=3))
    with pytest.raises(Unsupported, match="two resolutions"):
        micro(extrapolation_factor=2).edit(request(range(2)), some_codes(2), BOX, Sampling())


# ---- extrapolation ---------------------------------------------------------------------------------------------------


def test_extrapolation_decodes_a_coarse_image_and_then_between_it() -> None:
    model = micro(extrapolation_factor=2, num_inference_steps=20)
    three = model.sample(request(range(3)), Sampling(guidance=Guidance(scale=3.0)))
    off = {"spatial_guidance": 1.0}
    two = model.sample(request(range(3)), Sampling(guidance=Guidance(scale=3.0), extra=off))
    one = model.sample(request(range(3)), Sampling())
    first, second = len(group_sizes(20, 16)), len(group_sizes(20, 64, 16)) - 1
    assert one.codes is not None
    assert one.codes.ids[0].shape == (3, 64)
    assert one.outer_steps == two.outer_steps == three.outer_steps == first + second
    assert one.forwards == first + second
    assert two.forwards == 2 * (first + second)
    assert three.forwards == 2 * first + 3 * second
    seen = phases_of(model, Sampling())
    assert [index for phase, index, _ in seen if phase == "prefill"] == [0, first]
    undecoded = group_sizes(20, 64, 16)[-1]  # upstream stops before the last group
    assert sum(tokens for _, _, tokens in seen) == 64 - undecoded


def test_the_coarse_part_is_an_image_of_the_trained_size() -> None:
    large, small = micro(extrapolation_factor=2, position_order="raster"), micro(position_order="raster")
    tokens = tokens_of(large, range(6), Sampling(guidance=LINEAR)).unflatten(1, (8, 8))
    assert torch.equal(tokens[:, ::2, ::2].flatten(1), tokens_of(small, range(6), Sampling(guidance=LINEAR)))


def test_spatial_settings_matter_and_bad_ones_are_refused() -> None:
    model = micro(extrapolation_factor=2)

    def drawn(**extra: Any) -> Tensor:
        return tokens_of(model, range(6), Sampling(guidance=Guidance(scale=3.0), extra=extra))

    native = drawn()
    assert torch.equal(native, drawn(spatial_guidance=2.5, spatial_masking_ratio=0.5))
    for changed in ({"spatial_guidance": 8.0}, {"spatial_masking_ratio": 1.0}, {"spatial_guidance_start": 0.0}):
        assert not torch.equal(native, drawn(**changed))
    for bad in ({"spatial_guidance": "much"}, {"spatial_masking_ratio": 1.5}, {"spatial_guidance": -1}):
        with pytest.raises(UsageError, match="spatial"):
            drawn(**bad)
    with pytest.raises(Unsupported, match="spatial"):
        tokens_of(micro(), range(2), Sampling(extra={"spatial_guidance": 2.0}))
    with pytest.raises(Unsupported, match="scores"):
        model.logits(request(range(1)), Codes(ids=(torch.zeros(1, 64, dtype=torch.int64),)))


def test_stretched_rotations_keep_fast_pairs_and_squeeze_slow_ones() -> None:
    assert torch.equal(stretched_rotations(8, 16, factor=2, boundary=4), grid_rotations(8, 16))
    angle = lambda table: torch.atan2(table[..., 1], table[..., 0]).unflatten(0, (8, 8))  # noqa: E731
    plain, stretched = (
        angle(table) for table in (grid_rotations(8, 16), stretched_rotations(8, 16, factor=2, boundary=2))
    )
    assert torch.equal(plain[..., :2], stretched[..., :2])
    # cell 7 of 8 stands where cell 3 of 4 stood
    torch.testing.assert_close(stretched[7, 0, 2:4], plain[3, 0, 2:4])
    torch.testing.assert_close(stretched[0, 7, 6:], plain[0, 3, 6:])


# ---- official files --------------------------------------------------------------------------------------------------


def official_state(network: RandARNetwork) -> dict[str, Tensor]:
    return {official_names(name)[0]: tensor for name, tensor in network.state_dict().items()}


CACHED = {"layers.0.attention.kv_cache.k_cache": torch.zeros(2, 4, 40, 8)}


@pytest.mark.parametrize("extra", [{}, CACHED])
def test_official_files_load_strictly(tmp_path: Path, extra: dict[str, Tensor]) -> None:
    model = micro()
    path = tmp_path / "randar.safetensors"
    save_file(official_state(model.network) | extra, path)
    loaded = RandAR.load(micro_card(), LoadSpec(weights=path), None)
    sampling = Sampling(top_k=3)
    assert torch.equal(tokens_of(loaded, range(3), sampling), tokens_of(model, range(3), sampling))


def test_wrong_checkpoints_say_what_they_are(tmp_path: Path) -> None:
    path = tmp_path / "wrong.safetensors"
    state = official_state(micro().network)
    save_file(state, path)
    card = LLAMAGEN_MINI.model_copy(update={"config": {k: v for k, v in MICRO.items() if "steps" not in k}})
    with pytest.raises(CheckpointError, match="does not fit") as caught:
        LlamaGen.load(card, LoadSpec(weights=path), None)
    assert "looks like a RandAR generator" in caught.value.why
    del state["pos_instruct_embeddings"]
    save_file(state | {"surplus.weight": torch.zeros(1)}, path)
    with pytest.raises(CheckpointError) as caught:
        RandAR.load(micro_card(), LoadSpec(weights=path), None)
    assert "looks like a LlamaGen generator" in caught.value.why
    assert "pos_instruct_embeddings" in caught.value.why
    assert "surplus.weight" in caught.value.why


ONCE = {
    "cls_embedding.embedding_table.weight": "(classes + 1, d)",
    "tok_embeddings.weight": "(V, d)",
    "pos_instruct_embeddings": "(1, d)",
    "norm.weight": "(d,)",
    "output.weight": "(V, d)",
}
LAYER = {
    "attention.wqkv.weight": "(3 * d, d)",
    "attention.wo.weight": "(d, d)",
    "feed_forward.w1.weight": "(h, d)",
    "feed_forward.w2.weight": "(d, h)",
    "feed_forward.w3.weight": "(h, d)",
    "attention_norm.weight": "(d,)",
    "ffn_norm.weight": "(d,)",
}
# published parameters, (layers, heads, width, width inside the FFN) of the official configurations
SIZES = {"0.3b": (0.3, 24, 16, 1024, 2816), "0.7b": (0.7, 36, 20, 1280, 3584), "1.4b": (1.4, 48, 24, 1536, 4096)}


@pytest.mark.parametrize("card", CARDS, ids=lambda card: card.name)
def test_official_cards_have_the_official_keys_shapes_and_sizes(card: Card) -> None:
    with torch.device("meta"):
        network = RandARNetwork(from_upstream(RandARConfig, card.config, TRAINING_ONLY))
    billions, layers, heads, d, h = SIZES[card.name.split("-")[1]]
    codes = 1024 if "maskgit" in card.name else 16384
    expected = {
        **{key: _shape(shape, d, h, codes) for key, shape in ONCE.items()},
        **{f"layers.{i}.{key}": _shape(shape, d, h, codes) for i in range(layers) for key, shape in LAYER.items()},
    }
    assert {key: tuple(tensor.shape) for key, tensor in official_state(network).items()} == expected
    parameters = sum(parameter.numel() for parameter in network.parameters())
    assert parameters == card.parameters
    # RandAR's table: 0.3B, 0.7B, 1.4B; the paper's: 343M, 775M, 1.4B, all cut or rounded to a digit
    assert parameters / 1e9 == pytest.approx(billions, abs=0.1)
    assert network.config.n_head == heads
    assert card.tokens is not None
    assert card.tokens.tokens == network.config.side**2 == (card.resolution // 16) ** 2
    assert card.tokens.vocabulary == codes
    expected_sampling = upstream_sampling(card.upstream_settings)
    assert card.native.model_copy(update={"extra": {}}) == expected_sampling
    assert card.checkpoint is not None
    assert card.checkpoint.file.endswith(".safetensors")


def _shape(shape: str, d: int, h: int, codes: int) -> tuple[int, ...]:
    names = {"d": d, "3 * d": 3 * d, "h": h, "V": codes, "classes + 1": 1001, "1": 1}
    return tuple(names[part.strip()] for part in shape.strip("()").split(",") if part.strip())


def test_what_a_card_offers_and_its_native_sampling() -> None:
    assert upstream_sampling(RANDAR_MINI.upstream_settings) == RANDAR_MINI.native
    # images in two stages can be neither scored nor edited
    assert {card.name for card in ALL if not card.offers} == {card.name for card in ALL if card.name.endswith("-512")}


def test_all_sizes_have_a_card() -> None:
    assert {card.name.removeprefix("random_order/randar-") for card in CARDS} == {
        *SIZES,
        "0.3b-maskgit",
        *(f"{size}-512" for size in SIZES),
    }


def test_wrong_requests_are_clear_errors() -> None:
    model = micro()
    with pytest.raises(UsageError, match="labels"):
        model.sample(Request((0,), noise_for(0, [0])), Sampling())
    with pytest.raises(Unsupported, match="inner_steps"):
        model.prepare(2, Sampling(inner_steps=3))
    with pytest.raises(Unsupported, match="guided"):
        micro(class_dropout_prob=0.0).sample(request(range(2)), Sampling(guidance=LINEAR))
    with pytest.raises(ConfigError, match="n_layers"):
        micro(n_layers=3)
    with pytest.raises(ConfigError, match="class token"):
        micro(model_type="t2i")
    with pytest.raises(ConfigError, match="extrapolate"):
        micro(extrapolation_factor=3)
    model.close()
    model.close()


def test_a_tokenizer_with_other_codes_is_refused() -> None:
    from arbench.adapters.tokenizers.llamagen.adapter import LlamaGenVQ
    from arbench.adapters.tokenizers.llamagen.cards import MINI as TOKENIZER

    tokenizer = LlamaGenVQ.load(TOKENIZER, LoadSpec(init="random"))
    with pytest.raises(InputError, match="cannot use"):
        RandAR.load(micro_card(), LoadSpec(init="random"), tokenizer)
