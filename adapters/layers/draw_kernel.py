"""Filtering logits by top-k and top-p and drawing a token, in one kernel.

It draws what the plain path draws (`adapters.layers.sampling` and `arbench.seeds.invert_cdf`) without sorting: the
k-th largest logit and the edge of the nucleus are found bit by bit, by counting and summing what lies above.
Probabilities are float32, sums over them float64, as in the plain path on a CPU.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

_AT_ONCE = 4096
"""Logits that a program takes at least: several rows of a small vocabulary."""

# a range reduction by ln 2 in two parts and the minimax polynomial of Cephes' expf (Moshier), right to an ulp
_LOG2_E = tl.constexpr(1.44269504088896341)
_LN2_HIGH = tl.constexpr(0.693359375)
_LN2_LOW = tl.constexpr(-2.12194440e-4)
_SMALLEST = tl.constexpr(-87.0)


@triton.jit
def _exp(x):  # type: ignore[no-untyped-def]
    """exp of float32 numbers up to 0; below -87 it is 0. Triton's own is an approximation by that of 2^x."""
    within = x > _SMALLEST
    x = tl.where(within, x, 0.0)
    power = tl.floor(x * _LOG2_E + 0.5)
    x = x - power * _LN2_HIGH - power * _LN2_LOW
    y = 1.9875691500e-4
    y = y * x + 1.3981999507e-3
    y = y * x + 8.3334519073e-3
    y = y * x + 4.1665795894e-2
    y = y * x + 1.6666665459e-1
    y = y * x + 5.0000001201e-1
    y = y * x * x + x + 1.0
    two = ((power.to(tl.int32) + 127) << 23).to(tl.float32, bitcast=True)
    return tl.where(within, y * two, 0.0)


@triton.jit
def _ordered(x):  # type: ignore[no-untyped-def]
    """uint32 in the order of float32 numbers; no number but NaN has 0."""
    bits = x.to(tl.uint32, bitcast=True)
    return tl.where(bits >> 31 == 1, ~bits, bits | 0x80000000)


@triton.jit
def _above(mass, bound, REACH: tl.constexpr):  # type: ignore[no-untyped-def]  # noqa: N803
    """Whether the nucleus is complete with this mass."""
    return mass.to(tl.float32) >= bound if REACH else mass.to(tl.float32) > bound


@triton.jit(do_not_specialize=["rows", "vocabulary", "top_k"])
def _draw(  # type: ignore[no-untyped-def]
    logits,
    uniform,
    drawn,
    rows,
    vocabulary,
    row_stride,
    top_k,
    top_p,
    TOP_K: tl.constexpr,  # noqa: N803
    TOP_P: tl.constexpr,  # noqa: N803
    REACH: tl.constexpr,  # noqa: N803
    ROWS: tl.constexpr,  # noqa: N803
    BLOCK: tl.constexpr,  # noqa: N803
):
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    token = tl.arange(0, BLOCK)[None, :]
    there = (row < rows)[:, None] & (token < vocabulary)
    x = tl.load(logits + row[:, None] * row_stride + token, mask=there, other=-float("inf")).to(tl.float32)
    x = tl.where(x == 0, 0.0, x)  # -0 and 0 are equal
    largest = tl.max(x, axis=1)
    order = tl.where(there, _ordered(x), 0)
    kept = there
    if TOP_K:
        edge = tl.zeros([ROWS], tl.uint32)
        for step in range(32):
            trial = edge | (tl.full([ROWS], 0x80000000, tl.uint32) >> step)
            count = tl.sum((order >= trial[:, None]).to(tl.int32), axis=1)
            edge = tl.where(count >= top_k, trial, edge)
        kept = kept & (order >= edge[:, None])
    weight = tl.where(kept, _exp(x - largest[:, None]), 0.0)
    probability = tl.div_rn(weight, tl.sum(weight, axis=1)[:, None])
    if TOP_P:
        # the largest value with which, and with all above it, the nucleus is complete
        edge = tl.zeros([ROWS], tl.uint32)
        for step in range(32):
            trial = edge | (tl.full([ROWS], 0x80000000, tl.uint32) >> step)
            mass = tl.sum(tl.where(order >= trial[:, None], probability, 0.0).to(tl.float64), axis=1)
            edge = tl.where(_above(mass, top_p, REACH), trial, edge)
        first = _ordered(tl.where(largest == 0, 0.0, largest))
        edge = tl.minimum(edge, first)
        likelier, tied = order > edge[:, None], order == edge[:, None]
        mass = tl.sum(tl.where(likelier, probability, 0.0).to(tl.float64), axis=1)
        each = tl.max(tl.where(tied, probability, 0.0), axis=1).to(tl.float64)
        rank = tl.cumsum(tied.to(tl.int32), axis=1) - 1  # of those that tie the first ones are taken
        before = mass[:, None] + rank.to(tl.float64) * each[:, None]
        taken = ~_above(before, top_p, REACH) | ((rank == 0) & (edge == first)[:, None])
        kept = kept & (likelier | (tied & taken))
        weight = tl.where(kept, weight, 0.0)
        probability = tl.div_rn(weight, tl.sum(weight, axis=1)[:, None])
    cumulative = tl.cumsum(probability.to(tl.float64), axis=1)
    total = tl.max(cumulative, axis=1)
    target = tl.load(uniform + row, mask=row < rows, other=0.0) * total
    possible = probability > 0
    inside = possible & (cumulative > target[:, None])
    found = tl.min(tl.where(inside, token, BLOCK), axis=1)
    last = tl.max(tl.where(possible, token, 0), axis=1)  # where rounding puts the target at the total
    tl.store(drawn + row, tl.where(found < BLOCK, found, last).to(tl.int64), mask=row < rows)


def draw(
    logits: Tensor, uniform: Tensor, *, top_k: int | None, top_p: float | None, reach: bool, at_once: int = _AT_ONCE
) -> Tensor:
    """(R,) int64 tokens of logits (R, V) of any float type, V up to 2^15, by float64 `uniform` (R,) in [0, 1).

    `reach` is VAR's rule for the nucleus, see `keep_top_p`.
    """
    rows, vocabulary = logits.shape
    logits = logits if logits.stride(1) == 1 else logits.contiguous()
    block = max(triton.next_power_of_2(vocabulary), 16)
    together = max(1, min(at_once // block, triton.next_power_of_2(rows)))
    drawn = torch.empty(rows, dtype=torch.int64, device=logits.device)
    _draw[(triton.cdiv(rows, together),)](
        logits,
        uniform.contiguous(),
        drawn,
        rows,
        vocabulary,
        logits.stride(0),
        0 if top_k is None else min(top_k, vocabulary),
        1.0 if top_p is None else top_p,
        TOP_K=top_k is not None and top_k < vocabulary,
        TOP_P=top_p is not None and top_p < 1,
        REACH=reach,
        ROWS=together,
        BLOCK=block,
        num_warps=min(16 if block < 2**15 else 32, max(4, together * block // 512)),
        enable_fp_fusion=False,
    )
    return drawn
