"""Counted FLOP and bytes against sums by hand: of single operations, and of three systems at their official sizes.

The systems are on the meta device: shapes without numbers.
"""

from functools import partial

import pytest
import torch
import torch.nn.functional as F

from arbench import registry
from arbench.adapters.continuous.mar.network import Config as MarConfig
from arbench.adapters.continuous.mar.network import Network as Mar
from arbench.adapters.layers.diffusion_head import embedded_times, reverse_steps, sample_tokens, spaced
from arbench.adapters.layers.linear import Linear, filled_up
from arbench.adapters.next_scale.var.network import Config as VarConfig
from arbench.adapters.next_scale.var.network import Network as Var
from arbench.adapters.raster.llamagen.network import Config as LlamaConfig
from arbench.adapters.raster.llamagen.network import Network as Llama
from arbench.measure.counts import OUTSIDE, count, extent
from arbench.seeds import noise_for
from arbench.tasks.speed import counted as counted_metrics

BF16, FP32 = 2, 4
ROWS = 2  # guidance


def counted(call):
    with torch.inference_mode():
        return count(call)


# ---- single operations -----------------------------------------------------------------------------------------------


def test_a_product_reads_its_weight_each_time_and_activations_count_none():
    weight, x = torch.ones(8, 4), torch.ones(3, 4)

    def call(probe):
        with probe("ar", tokens=1):
            h = F.linear(x * 1, weight)
            F.linear(h @ weight, weight)

    found = counted(call)
    assert found.total("flops") == 3 * 2 * 3 * 4 * 8
    assert found.total("weights", "ar") == FP32 * (3 * 32 + 12)  # and x, which was there before
    assert found.total("cache") == 0
    assert found.passes == {"ar": 3}
    assert found.tokens == 1


def test_steps_of_an_inner_loop():
    """Two outer steps, in each of which the inner weight is read three times."""
    weight = torch.ones(4, 4)

    def call(probe):
        for index in range(2):
            with probe("ar", index=index), probe("inner", index=index):
                for _ in range(3):
                    torch.ones(2, 4) @ weight

    (steps,) = counted_metrics.inner_steps(counted_metrics.arrays("sample", counted(call)))
    assert steps.value == 3
    assert counted_metrics.inner_steps(counted_metrics.arrays("sample", counted(lambda probe: weight @ weight))) == []


@pytest.mark.parametrize("rows", [1, 5, 16, 40])
def test_rows_that_fill_up_a_small_batch_on_the_cpu_count_none(rows):
    found = []
    for device in ("cpu", "meta"):
        layer, x = Linear(8, 4, device=device), torch.ones(rows, 8, device=device)
        found.append(counted(partial(lambda layer, x, probe: layer(x), layer, x)).total("flops"))
    assert found == [2 * rows * 8 * 4] * 2


@pytest.mark.parametrize("length", [1, 2, 3, 16])
def test_rows_that_are_filled_up_for_several_layers_count_none(length):
    def call(one, other, x, probe):
        hidden = F.silu(one(F.rms_norm(filled_up(x), (8,)))) + 1
        kept = hidden[:2] * 2
        (other(hidden)[:2] + other(kept)) @ torch.ones(8, 4, device=x.device)

    found = []
    for device in ("cpu", "meta"):
        layers, x = (Linear(8, 8, device=device) for _ in range(2)), torch.ones(2, length, 8, device=device)
        found.append(counted(partial(call, *layers, x)).total("flops"))
    assert found == [2 * 2 * length * 8 * (3 * 8 + 4)] * 2


def test_attention_counts_the_part_of_the_cache_that_is_used():
    cache = torch.zeros(2, 1, 3, 100, 8)  # keys and values of 3 heads

    def call(probe):
        for index in range(2):
            with probe("ar", index=index, tokens=1):
                new = torch.ones(1, 3, 1, 8)
                for part in cache:
                    part[:, :, 10 + index : 11 + index] = new
                F.scaled_dot_product_attention(new, cache[0][:, :, : 11 + index], cache[1][:, :, : 11 + index])

    _, first, second = counted(call).spans
    assert [span.flops for span in (first, second)] == [4 * 3 * 8 * used for used in (11, 12)]
    assert [span.cache for span in (first, second)] == [FP32 * 2 * 3 * 8 * (used + 1) for used in (11, 12)]
    assert first.weights == second.weights == 0


def test_grouped_heads_count_once_in_bytes_and_all_in_flops():
    query, key = torch.ones(1, 4, 1, 8), torch.ones(1, 2, 5, 8)
    found = counted(lambda probe: F.scaled_dot_product_attention(query, key, key, enable_gqa=True))
    assert found.total("flops") == 4 * 4 * 5 * 8
    assert found.phases == (OUTSIDE,)


def test_what_one_step_makes_and_a_later_one_reads_is_cache():
    def call(probe):
        with probe("prefill"):
            kept = torch.ones(10) * 2
            kept + kept  # within the step
        with probe("ar"):
            torch.cat((kept, torch.ones(1)))

    _, first, second = counted(call).spans
    assert (first.cache, second.cache) == (0, FP32 * 10)


def test_memory_that_is_used_again_is_not_taken_for_what_was_there_before():
    weight = torch.randn(64, 64)

    def call(probe):
        with probe("prefill"):
            for _ in range(8):
                weight @ weight  # freed at once: later tensors get their place
        with probe("ar"):
            torch.zeros_like(weight) + 1
            torch.empty_like(weight).copy_(weight)

    spans = counted(call).spans[1:]
    assert [(span.weights, span.cache) for span in spans] == [(16 * FP32 * 64 * 64, 0), (FP32 * 64 * 64, 0)]


def test_a_convolution_and_the_rows_of_a_table():
    table, kernel = torch.ones(1000, 4), torch.ones(6, 4, 3, 3)

    def call(probe):
        rows = F.embedding(torch.arange(25), table)
        F.conv2d(rows.T.reshape(1, 4, 5, 5), kernel, padding=1)

    found = counted(call)
    assert found.total("flops") == 2 * 25 * 6 * 4 * 9
    assert found.total("weights") == FP32 * (25 * 4 + 6 * 4 * 9)


def test_repeated_values_take_no_memory():
    assert extent(torch.ones(3, 1).expand(3, 50)) == FP32 * 3
    assert extent(torch.ones(0, 5)) == 0


# ---- official sizes --------------------------------------------------------------------------------------------------


def on_meta(build, name, config):
    with torch.device("meta"):
        return build(config(**registry.card(name).config)).eval()


def hand_llamagen(used):
    """One token of LlamaGen-B, guided, when `used` positions are in the cache with it."""
    dim, layers, hidden, codes = 768, 12, 2048, 16384
    matrices = layers * (4 * dim * dim + 3 * dim * hidden) + dim * codes
    flops = ROWS * (2 * matrices + layers * 4 * used * dim)
    cache = layers * 2 * ROWS * dim * BF16 * (used + 1)  # read with the new one, which is written
    return flops, BF16 * matrices, cache


@pytest.mark.parametrize("start", [1, 128, 255])
def test_llamagen_b(start):
    network = on_meta(Llama, "raster/llamagen-b-256", LlamaConfig).place("meta", torch.bfloat16)
    caches = network.allocate(ROWS)
    tokens = torch.zeros(ROWS, 1, dtype=torch.int64, device="meta")

    def call(probe):
        with probe("ar", index=start, tokens=1):
            network.logits(network(network.token_table(tokens), start, caches))

    found = counted(call)
    flops, weights, cache = hand_llamagen(start + 1)
    assert found.total("flops") == pytest.approx(flops, rel=0.02)
    assert found.total("weights") == pytest.approx(weights, rel=0.02)
    assert found.total("cache") == pytest.approx(cache, rel=0.02)
    assert found.passes == {"ar": 1}


SCALES = (0, 2, 5, 7)


def hand_var(side, used):
    """One scale of VAR-d16, guided: blocks in bfloat16, embedding and head in float32."""
    width, depth, codes, channels = 1024, 16, 4096, 32
    n = side * side
    block, ends = depth * 12 * width * width, width * codes + channels * width
    head_modulation = 2 * width * width
    flops = ROWS * (2 * n * (block + ends) + depth * 4 * n * used * width + 2 * head_modulation)
    cache = depth * 2 * ROWS * width * BF16 * (used + n)
    modulations = depth * ROWS * 6 * width * FP32
    return flops, BF16 * block + FP32 * (ends + head_modulation) + modulations, cache


def test_var_d16():
    network = on_meta(Var, "next_scale/var-d16", VarConfig).place("meta", torch.bfloat16)
    config = network.config
    caches = network.allocate(ROWS)
    modulations = [torch.zeros(ROWS, 1, 6, 1024, device="meta") for _ in network.blocks]
    condition = torch.zeros(ROWS, 1024, device="meta")

    def call(probe):
        for scale in SCALES:
            side, start = config.patch_nums[scale], config.starts[scale]
            features = torch.zeros(ROWS, side * side, 32, device="meta")
            with probe("ar", index=scale, tokens=side * side):
                states = network(network.embed(features, condition, scale), modulations, start, caches)
                network.logits(states, condition)

    found = counted(call)
    by_hand = [hand_var(config.patch_nums[each], config.starts[each + 1]) for each in SCALES]
    for span, (flops, weights, cache) in zip(found.spans[1:], by_hand, strict=True):
        assert span.flops == pytest.approx(flops, rel=0.02)
        assert span.weights == pytest.approx(weights, rel=0.02)
        assert span.cache == pytest.approx(cache, rel=0.02)
    assert found.total("flops") == pytest.approx(sum(flops for flops, _, _ in by_hand), rel=0.02)
    assert (found.passes, found.tokens) == ({"ar": len(SCALES)}, 1 + 9 + 36 + 100)


def hand_mar(known, wanted, steps):
    """One iteration of MAR-B, guided: (FLOP of backbone, of head), (weight bytes of backbone, of head)."""
    width, depth, buffer, tokens = 768, 12, 64, 256
    block = 12 * width * width

    def blocks(length):
        return depth * (2 * length * block + 4 * length * length * width)

    encoded = buffer + known
    backbone = ROWS * (blocks(encoded) + blocks(buffer + tokens) + 2 * known * 16 * width + 2 * encoded * width * width)
    inner, layers = 1024, 6
    step = 16 * inner + layers * 5 * inner * inner + 2 * inner * inner + inner * 32
    head = ROWS * wanted * 2 * (width * inner + steps * step)
    return (backbone, head), (FP32 * (2 * depth * block + width * width), FP32 * (width * inner + steps * step))


def test_mar_b():
    network = on_meta(Mar, "continuous/mar-base", MarConfig)
    known, wanted, chain = 60, 4, reverse_steps(spaced(5))
    noise = noise_for(0, range(1), "meta")
    condition = torch.zeros(ROWS, 768, device="meta")
    tokens = torch.zeros(ROWS, known, 16, device="meta")
    positions = torch.zeros(ROWS, known, dtype=torch.int64, device="meta")
    times = embedded_times(network.head, chain)

    def call(probe):
        with probe("ar", tokens=wanted):
            states = network(condition, tokens, positions, positions[:, :wanted])
            with probe("inner"):
                state = network.head.state_in(states)
                sample_tokens(network.head, chain, state, noise, "token/0", times=times, weight=2.0)

    found = counted(call)
    flops, weights = hand_mar(known, wanted, len(chain))
    for phase, expected_flops, expected_weights in zip(("ar", "inner"), flops, weights, strict=True):
        assert found.total("flops", phase) == pytest.approx(expected_flops, rel=0.02), phase
        assert found.total("weights", phase) == pytest.approx(expected_weights, rel=0.02), phase
    assert found.passes == {"ar": 1, "inner": len(chain)}
