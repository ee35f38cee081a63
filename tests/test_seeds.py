"""Noise: the published Philox vectors, independence of the batch, and the right distributions."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from arbench.seeds import Extreme, Greedy, Philox, invert_cdf, noise_for, philox, sample_seed

# Known-answer vectors of Random123 1.14 (kat_vectors, philox4x32 10): counter, key, output
VECTORS = [
    ((0,) * 4, (0,) * 2, (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]


@pytest.mark.parametrize(("counter", "key", "expected"), VECTORS)
def test_philox_known_answers(counter, key, expected):
    words = philox(tuple(map(torch.tensor, counter)), tuple(map(torch.tensor, key)))
    assert tuple(int(word) for word in words) == expected


def test_sample_seeds_are_63_bit_and_differ():
    seeds = {sample_seed(run, sample) for run in range(20) for sample in range(500)}
    assert len(seeds) == 20 * 500
    assert all(0 <= seed < 2**63 for seed in seeds)


@given(
    ids=st.lists(st.integers(0, 2**40), min_size=1, max_size=6),
    n=st.integers(1, 40),
    start=st.integers(0, 600),
    stream=st.text(max_size=12),
)
def test_a_sample_does_not_depend_on_its_batch_or_on_where_the_stream_is_entered(ids, n, start, stream):
    together = noise_for(7, ids)
    whole = together.uniform(stream, start + n)
    assert torch.equal(together.uniform(stream, n, start), whole[:, start:])
    for row, sample_id in enumerate(ids):
        alone = noise_for(7, [sample_id])
        assert torch.equal(alone.uniform(stream, n, start)[0], whole[row, start:])
        assert torch.equal(alone.normal(stream, (n,))[0], together.normal(stream, (n,))[row])
        assert torch.equal(alone.permutation(stream, n)[0], together.permutation(stream, n)[row])


def test_streams_and_runs_are_different():
    noise = noise_for(0, [1])
    assert not torch.equal(noise.uniform("a", 8), noise.uniform("b", 8))
    assert not torch.equal(noise.uniform("a", 8), noise_for(1, [1]).uniform("a", 8))


def test_distributions():
    noise = noise_for(3, range(64))
    uniform = noise.uniform("u", 2000)
    assert uniform.dtype == torch.float64
    assert uniform.min() >= 0
    assert uniform.max() < 1
    assert stats.kstest(uniform.flatten().numpy(), "uniform").pvalue > 1e-3
    normal = noise.normal("n", (40, 50))
    assert normal.shape == (64, 40, 50)
    assert normal.dtype == torch.float32
    assert stats.kstest(normal.flatten().numpy(), "norm").pvalue > 1e-3
    assert torch.equal(noise.permutation("p", 31).sort(-1).values, torch.arange(31).expand(64, 31))


def test_categorical_follows_the_weights_and_never_draws_a_zero():
    weights = torch.tensor([0.0, 1.0, 3.0, 0.0, 4.0, 0.0])
    drawn = noise_for(5, range(100)).categorical(weights.expand(100, 400, 6), "tokens")
    counts = torch.bincount(drawn.flatten(), minlength=6).numpy()
    assert counts[[0, 3, 5]].sum() == 0
    assert stats.chisquare(counts[[1, 2, 4]], 40000 * (weights / 8).numpy()[[1, 2, 4]]).pvalue > 1e-3


@given(st.lists(st.floats(0, 1, width=32), min_size=1, max_size=20).filter(lambda values: sum(values) > 0))
def test_inverting_the_cdf_at_its_ends_stays_inside_the_support(values):
    weights = torch.tensor(values).expand(1, 3, -1)
    ends = torch.tensor([[0.0, 0.5, 1 - 2.0**-53]], dtype=torch.float64)
    drawn = invert_cdf(weights, ends)
    assert (weights[0, torch.arange(3), drawn[0]] > 0).all()


def test_one_uniform_per_draw_so_that_steps_can_be_taken_singly():
    noise, weights = noise_for(0, range(4)), torch.rand(4, 9, 5, generator=torch.Generator().manual_seed(0))
    together = noise.categorical(weights, "tokens")
    singly = torch.cat([noise.categorical(weights[:, i : i + 1], "tokens", start=i) for i in range(9)], dim=1)
    assert torch.equal(together, singly)


def test_greedy_takes_the_largest_and_no_noise():
    noise = Greedy(2)
    assert torch.equal(noise.categorical(torch.tensor([[[0.1, 0.7, 0.2]]] * 2), "t"), torch.tensor([[1], [1]]))
    assert noise.normal("n", (3,)).abs().sum() == 0


@pytest.mark.gpu
def test_the_same_integers_on_cpu_and_cuda():
    seeds = [sample_seed(0, sample) for sample in range(64)]
    cpu, cuda = Philox(seeds), Philox(seeds, "cuda")
    assert torch.equal(cpu.uniform("u", 1001), cuda.uniform("u", 1001).cpu())
    assert torch.equal(cpu.permutation("p", 256), cuda.permutation("p", 256).cpu())
    assert torch.allclose(cpu.normal("n", (1001,)), cuda.normal("n", (1001,)).cpu(), atol=1e-6)


def test_the_rarest_draws_are_in_range_and_at_its_ends():
    drawn = Extreme(4).uniform("tokens", 4, start=3)
    assert drawn.dtype == torch.float64
    assert drawn.min() > 0
    assert drawn.max() < 1
    assert (drawn * 64).long().tolist() == [[0] * 4, [63] * 4, [63, 0] * 2, [0, 63] * 2]
    assert Extreme(4).normal("inner", (100,)).abs().max() < 6
