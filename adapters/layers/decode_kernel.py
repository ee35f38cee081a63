"""Attention of one query token a sequence over the used part of a cache, as decoding token by token needs it.

The keys are taken in chunks of one size. A chunk is a program's where there are few sequences, and their sums are put
together by a second kernel; where there are many, a program does all chunks of a sequence. Either way the sums are made
in one order, in float32, and so a sequence gets the same result in any batch.
"""

from __future__ import annotations

import functools

import torch
import triton
import triton.language as tl
from torch import Tensor

TILE = 4096
"""Keys times width times the query heads that share them, of one chunk."""
_FILLING = 2
"""Programs a multiprocessor with which it is busy enough: chunks are spread only below that."""


@triton.jit
def _merge(most, total, mixed, their_most, their_total, their_mixed):  # type: ignore[no-untyped-def]
    """Two sums of softmax attention as one: largest score (G,), sum of exponentials (G,), mixed values (G, D)."""
    new = tl.maximum(most, their_most)
    base = tl.where(new == -float("inf"), 0.0, new)
    ours, theirs = tl.exp(most - base), tl.exp(their_most - base)
    return (
        new,
        total * ours + their_total * theirs,
        mixed * ours[:, None] + their_mixed * theirs[:, None],
    )


@triton.jit(do_not_specialize=["length", "chunks", "mask_row"])
def _decode(  # type: ignore[no-untyped-def]
    query,
    key,
    value,
    mask,
    lengths,
    out,
    totals,
    length,
    chunks,
    kv_heads,
    scale,
    query_row,
    query_head,
    key_row,
    key_head,
    key_token,
    value_row,
    value_head,
    value_token,
    mask_row,
    WIDTH: tl.constexpr,  # noqa: N803
    GROUP: tl.constexpr,  # noqa: N803
    CHUNK: tl.constexpr,  # noqa: N803
    BLOCK_WIDTH: tl.constexpr,  # noqa: N803
    BLOCK_GROUP: tl.constexpr,  # noqa: N803
    MASKED: tl.constexpr,  # noqa: N803
    RAGGED: tl.constexpr,  # noqa: N803
    SPREAD: tl.constexpr,  # noqa: N803
):
    program = tl.program_id(0).to(tl.int64)
    row, head = program // kv_heads, program % kv_heads
    if RAGGED:
        length = tl.load(lengths + row).to(tl.int32)
    group, place = tl.arange(0, BLOCK_GROUP), tl.arange(0, BLOCK_WIDTH)
    wide = place < WIDTH
    asked = tl.load(
        query + row * query_row + (head * GROUP + group)[:, None] * query_head + place[None, :],
        mask=(group < GROUP)[:, None] & wide[None, :],
        other=0.0,
    ).to(tl.float32)
    most = tl.full([BLOCK_GROUP], -float("inf"), tl.float32)
    total = tl.zeros([BLOCK_GROUP], tl.float32)
    mixed = tl.zeros([BLOCK_GROUP, BLOCK_WIDTH], tl.float32)
    if SPREAD:
        first, last = tl.program_id(1), tl.program_id(1) + 1
    else:
        first, last = 0, tl.cdiv(length, CHUNK)
    for chunk in range(first, last):
        token = chunk * CHUNK + tl.arange(0, CHUNK)
        seen = token < length
        there = seen[:, None] & wide[None, :]
        keys = tl.load(
            key + row * key_row + head * key_head + token[:, None].to(tl.int64) * key_token + place[None, :],
            mask=there,
            other=0.0,
        ).to(tl.float32)
        score = tl.sum(asked[:, None, :] * keys[None, :, :], axis=2) * scale
        if MASKED:
            seen = seen & (tl.load(mask + row * mask_row + token, mask=seen, other=0) != 0)
        score = tl.where(seen[None, :], score, -float("inf"))
        here = tl.max(score, axis=1)
        weight = tl.exp(score - tl.where(here == -float("inf"), 0.0, here)[:, None])
        values = tl.load(
            value + row * value_row + head * value_head + token[:, None].to(tl.int64) * value_token + place[None, :],
            mask=there,
            other=0.0,
        ).to(tl.float32)
        sums = tl.sum(weight, axis=1)
        mix = tl.sum(weight[:, :, None] * values[None, :, :], axis=1)
        if SPREAD:
            most, total, mixed = here, sums, mix
        else:
            most, total, mixed = _merge(most, total, mixed, here, sums, mix)
    each = (group < GROUP)[:, None] & wide[None, :]
    if SPREAD:
        head_row = (row * kv_heads + head) * GROUP + group
        slot = head_row * chunks + tl.program_id(1)
        tl.store(totals + slot * 2, most, mask=group < GROUP)
        tl.store(totals + slot * 2 + 1, total, mask=group < GROUP)
        tl.store(out + slot[:, None] * WIDTH + place[None, :], mixed, mask=each)
    else:
        head_row = (row * kv_heads + head) * GROUP + group
        mixed = tl.div_rn(mixed, tl.where(total > 0, total, 1.0)[:, None])
        tl.store(out + head_row[:, None] * WIDTH + place[None, :], mixed, mask=each)


@triton.jit(do_not_specialize=["length", "chunks"])
def _gather(  # type: ignore[no-untyped-def]
    parts,
    totals,
    lengths,
    out,
    length,
    chunks,
    heads,
    WIDTH: tl.constexpr,  # noqa: N803
    CHUNK: tl.constexpr,  # noqa: N803
    BLOCK_WIDTH: tl.constexpr,  # noqa: N803
    RAGGED: tl.constexpr,  # noqa: N803
):
    program = tl.program_id(0).to(tl.int64)
    if RAGGED:
        length = tl.load(lengths + program // heads).to(tl.int32)
    one, place = tl.arange(0, 1), tl.arange(0, BLOCK_WIDTH)
    wide = (place < WIDTH)[None, :]
    most = tl.full([1], -float("inf"), tl.float32)
    total = tl.zeros([1], tl.float32)
    mixed = tl.zeros([1, BLOCK_WIDTH], tl.float32)
    for chunk in range(0, tl.cdiv(length, CHUNK)):
        slot = program * chunks + chunk + one
        their_most, their_total = tl.load(totals + slot * 2), tl.load(totals + slot * 2 + 1)
        theirs = tl.load(parts + slot[:, None] * WIDTH + place[None, :], mask=wide, other=0.0)
        most, total, mixed = _merge(most, total, mixed, their_most, their_total, theirs)
    mixed = tl.div_rn(mixed, tl.where(total > 0, total, 1.0)[:, None])
    tl.store(out + (program + one)[:, None] * WIDTH + place[None, :], mixed, mask=wide)


@functools.cache
def _multiprocessors(device: torch.device) -> int:
    return torch.cuda.get_device_properties(device).multi_processor_count if device.type == "cuda" else 1


def decode(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    mask: Tensor | None = None,
    lengths: Tensor | None = None,
    scale: float | None = None,
    spread: bool | None = None,
) -> Tensor:
    """(B, 1, H * D): softmax attention of (B, H, 1, D) queries over (B, H_kv, S, D) keys and values, H_kv dividing H.

    Views of a cache are read where they are; their last dimension must be contiguous. `mask` is bool (B or 1, 1, 1, S),
    True where a query may look. `lengths` (B,), int32 or int64 on the device, are how many keys each sequence has, at
    most S: a CUDA graph reads anew what then stands there. A query that may look at nothing gets zeros. `spread` is
    whether chunks of a sequence are programs of their own; by default where too few sequences would fill the device.
    """
    rows, heads, _, width = query.shape
    kv_heads, length = key.shape[1], key.shape[2]
    group = heads // kv_heads
    block_width, block_group = triton.next_power_of_2(width), triton.next_power_of_2(group)
    chunk = min(64, max(16, TILE // (block_width * block_group)))
    chunks = triton.cdiv(length, chunk)
    if spread is None:
        spread = rows * kv_heads < _FILLING * _multiprocessors(query.device)
    spread = spread and chunks > 1
    out = torch.empty(rows, 1, heads * width, dtype=query.dtype, device=query.device)
    parts, totals = out, out
    if spread:
        parts = torch.empty(rows * heads * chunks, width, dtype=torch.float32, device=query.device)
        totals = torch.empty(rows * heads * chunks, 2, dtype=torch.float32, device=query.device)
    _decode[(rows * kv_heads, chunks if spread else 1)](
        query,
        key,
        value,
        query if mask is None else mask.view(torch.uint8),
        query if lengths is None else lengths,
        parts,
        totals,
        length,
        chunks,
        kv_heads,
        width**-0.5 if scale is None else scale,
        query.stride(0),
        query.stride(1),
        *key.stride()[:3],
        *value.stride()[:3],
        0 if mask is None or mask.shape[0] == 1 else mask.stride(0),
        WIDTH=width,
        GROUP=group,
        CHUNK=chunk,
        BLOCK_WIDTH=block_width,
        BLOCK_GROUP=block_group,
        MASKED=mask is not None,
        RAGGED=lengths is not None,
        SPREAD=spread,
        num_warps=4,
        enable_fp_fusion=False,
    )
    if spread:
        _gather[(rows * heads,)](
            parts,
            totals,
            query if lengths is None else lengths,
            out,
            length,
            chunks,
            heads,
            WIDTH=width,
            CHUNK=chunk,
            BLOCK_WIDTH=block_width,
            RAGGED=lengths is not None,
            num_warps=1,
            enable_fp_fusion=False,
        )
    return out
