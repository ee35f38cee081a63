"""The Triton kernels compiled: tokens of the plain path in float32, their share in bf16, replays, times beside it."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

pytest.importorskip("triton")

from arbench.adapters.layers import attention, sampling
from arbench.adapters.layers.decode_kernel import decode
from arbench.adapters.layers.draw_kernel import draw
from arbench.kernel_choice import choices

pytestmark = [pytest.mark.gpu, pytest.mark.usefixtures("exact")]

DRAWS = 4096
NEAR = 1e-5
"""Share of the probability: a draw this close to the end of a token's part may go to either side, by rounding."""


def given(vocabulary: int, scale: float = 3.0) -> tuple[Tensor, Tensor]:
    random = torch.Generator("cuda").manual_seed(0)
    logits = scale * torch.randn(DRAWS, vocabulary, device="cuda", generator=random)
    return logits, torch.rand(DRAWS, dtype=torch.float64, device="cuda", generator=random)


def plain(logits: Tensor, uniform: Tensor, top_k: int | None, top_p: float | None, reach: bool) -> Tensor:
    return sampling._draw_plainly(logits[:, None], uniform[:, None], top_k, top_p, reach)[:, 0]


@pytest.mark.parametrize("vocabulary", [2, 100, 1024, 4096, 16384, 32768])
@pytest.mark.parametrize(
    ("top_k", "top_p", "reach"),
    [(None, None, False), (1, None, False), (900, None, False), (900, 0.96, True), (None, 0.9, False)],
)
def test_tokens_are_those_of_the_plain_path(
    vocabulary: int, top_k: int | None, top_p: float | None, reach: bool
) -> None:
    logits, uniform = given(vocabulary)
    wanted = plain(logits, uniform, top_k, top_p, reach)
    got = draw(logits, uniform, top_k=top_k, top_p=top_p, reach=reach)
    differ = (got != wanted).nonzero()[:, 0]
    print(f"{len(differ)} of {DRAWS} tokens differ: {vocabulary} tokens, k {top_k}, p {top_p}")
    assert len(differ) <= DRAWS // 1000
    for row in differ.tolist():  # and those that do lie at an end
        ends = sampling._filtered(logits[row].double(), top_k, top_p, reach).double().cumsum(-1)
        ends = ends / ends[-1]
        assert float((ends[min(int(got[row]), int(wanted[row]))] - uniform[row]).abs()) < NEAR


@pytest.mark.parametrize("top_p", [None, 0.9])
def test_the_share_of_equal_tokens_in_bf16(top_p: float | None) -> None:
    logits, uniform = given(16384)
    half = logits.bfloat16()
    same = draw(half, uniform, top_k=None, top_p=top_p, reach=False) == plain(half, uniform, None, top_p, False)
    exact = draw(half, uniform, top_k=None, top_p=top_p, reach=False) == plain(logits, uniform, None, top_p, False)
    print(
        f"bf16 logits: {float(same.float().mean()):.4%} as the plain path, {float(exact.float().mean()):.2%} as float32"
    )
    assert float(same.float().mean()) > 0.999


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize(("heads", "kv_heads", "width"), [(12, 12, 64), (32, 8, 128), (16, 16, 48)])
@pytest.mark.parametrize("batch", [1, 7, 256])
def test_attention_is_that_of_the_plain_path(
    dtype: torch.dtype, heads: int, kv_heads: int, width: int, batch: int
) -> None:
    cache = torch.randn(2, batch, kv_heads, 300, width, device="cuda").to(dtype)
    query = torch.randn(batch, heads, 1, width, device="cuda").to(dtype)
    lengths = torch.randint(1, 258, (batch,), device="cuda")
    mask = (torch.arange(257, device="cuda") < lengths[:, None])[:, None, None]
    key, value = cache[:, :, :, :257]
    for seen, how in ((None, {}), (mask, {"mask": mask}), (mask, {"lengths": lengths})):
        wanted = attention._plain(query.double(), key.double(), value.double(), seen, False, None)
        spread, whole = (decode(query, key, value, **how, spread=each) for each in (True, False))
        assert float((whole.double() - wanted).abs().max()) < attention._ERROR[dtype]
        assert torch.equal(spread, whole)
        assert torch.equal(decode(query[:1], key[:1], value[:1], **{n: t[:1] for n, t in how.items()}), whole[:1])


@torch.inference_mode()
def test_a_graph_reads_lengths_and_numbers_anew() -> None:
    query, cache = torch.randn(2, 4, 1, 64, device="cuda"), torch.randn(2, 2, 4, 200, 64, device="cuda")
    lengths, (logits, uniform) = torch.tensor([3, 150], device="cuda"), given(1000)
    static = uniform.clone()

    def call() -> tuple[Tensor, Tensor]:
        drawn = draw(logits, static, top_k=50, top_p=0.9, reach=False)
        return decode(query, *cache, lengths=lengths), drawn

    call()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        mixed, drawn = call()
    lengths.copy_(torch.tensor([200, 1], device="cuda"))
    static.copy_(uniform.flip(0))
    graph.replay()
    torch.cuda.synchronize()
    again = call()
    assert torch.equal(mixed, again[0])
    assert torch.equal(drawn, again[1])


@torch.inference_mode()
def test_the_probes_agree_on_this_device() -> None:
    for dtype, vocabulary in itertools.product((torch.float32, torch.bfloat16), (4096, 16384)):
        logits, uniform = torch.randn(2, 1, vocabulary, device="cuda"), torch.rand(2, 1, device="cuda").double()
        for top_k, top_p in ((None, None), (900, 0.96)):
            torch.ops.arbench.draw_tokens(logits.to(dtype), uniform, top_k, top_p, False)
        query, cache = torch.randn(2, 12, 1, 64, device="cuda"), torch.randn(2, 12, 257, 64, device="cuda")
        attention.attend(query.to(dtype), cache.to(dtype), cache.to(dtype))
    on_cuda = {name: which for name, which in choices().items() if "cuda" in name}
    print(*(f"{name}: {which}" for name, which in on_cuda.items()), sep="\n")
    assert len(on_cuda) >= 10
    assert set(on_cuda.values()) == {"Triton kernel"}


def microseconds(call: Callable[[], object]) -> float:
    """Of one call in a graph of twenty."""
    call()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(20):
            call()
    graph.replay()
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    graph.replay()
    end.record()
    end.synchronize()
    return 50 * start.elapsed_time(end)


@torch.inference_mode()
def test_a_kernel_takes_less_than_drawing_plainly() -> None:
    logits, uniform = given(16384)
    one, number = logits[:1], uniform[:1]
    ours = microseconds(lambda: draw(one, number, top_k=900, top_p=0.96, reach=False))
    theirs = microseconds(lambda: plain(one, number, 900, 0.96, False))
    print(f"one token of 16384: {ours:.1f} us, plainly {theirs:.1f} us")
    assert ours < theirs
