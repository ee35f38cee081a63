"""Attention over heads, and the key-value cache that autoregressive sampling allocates once."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import register_flop_formula

from arbench.kernel_choice import agreed

from .linear import linear
from .masked import gathered


class KVCache:
    """Keys and values of one layer, allocated once for `rows` sequences of at most `length` tokens.

    Fewer rows may be used at any time: those of the batch at hand come first.
    """

    def __init__(
        self, rows: int, heads: int, length: int, width: int, dtype: torch.dtype, device: torch.device | str
    ) -> None:
        self.key = torch.zeros(rows, heads, length, width, dtype=dtype, device=device)
        self.value = torch.zeros_like(self.key)

    @property
    def rows(self) -> int:
        return self.key.shape[0]

    def extend(self, key: Tensor, value: Tensor, start: int) -> tuple[Tensor, Tensor]:
        """Store (B, H, n, D) keys and values at positions `start`...; return views of all up to there."""
        rows, end = key.shape[0], start + key.shape[2]
        self.key[:rows, :, start:end] = key
        self.value[:rows, :, start:end] = value
        return self.key[:rows, :, :end], self.value[:rows, :, :end]


def attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    mask: Tensor | None = None,
    causal: bool = False,
    scale: float | None = None,
) -> Tensor:
    """(B, L, H * D): softmax attention of (B, H, L, D) queries over (B, H_kv, S, D) keys and values.

    `mask` is boolean, True where a query may look, broadcast to (B, H, L, S). With fewer key heads than query heads,
    each serves H / H_kv neighbouring query heads. `scale` defaults to D^-0.5.
    """
    if not causal and _decodes(query, key, value, mask):
        mixed: Tensor = torch.ops.arbench.decode_attention(query, key, value, mask, scale)
        return mixed
    return _plain(query, key, value, mask, causal, scale)


def _plain(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, causal: bool, scale: float | None) -> Tensor:
    grouped = _settled(query.shape[1] != key.shape[1])
    mixed = F.scaled_dot_product_attention(
        query, key, value, attn_mask=mask, is_causal=_settled(causal), scale=scale, enable_gqa=grouped
    )
    return mixed.transpose(1, 2).flatten(2)


def _settled(condition: bool) -> bool:
    """The same as a plain bool: while a call is compiled it may be a symbol, of which a branch makes a condition."""
    return True if condition else False  # noqa: SIM210


def projected(layer: nn.Linear, x: Tensor, wanted: Tensor | slice | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values, (B, n, W) each, of `x` (B, L, W) by one layer that makes all three.

    `wanted`, (B, n) or a slice, are the rows that anybody asks for behind this attention; the others ask nothing.
    """
    if wanted is None:
        query, key, value = layer(x).chunk(3, dim=-1)
        return query, key, value
    width = layer.weight.shape[0] // 3
    weights, biases = (None if each is None else each.split([width, 2 * width]) for each in (layer.weight, layer.bias))
    assert weights is not None
    first, rest = biases or (None, None)
    query = linear(gathered(x, wanted), weights[0], first)
    key, value = linear(x, weights[1], rest).chunk(2, dim=-1)
    return query, key, value


# ---- one query token a sequence, on CUDA -----------------------------------------------------------------------------

MOST_ROWS = 512
"""Sequences, with guidance two an image, up to which the kernel for decoding is used."""
_ERROR = {torch.float32: 1e-5, torch.float16: 4e-3, torch.bfloat16: 3e-2}
"""Largest difference to float64 that the probe lets pass, of values of size 1."""


def _decodes(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> bool:
    """Whether the operation `arbench::decode_attention` takes these: no gradients, one mask for all heads."""
    return (
        query.is_cuda
        and query.shape[2] == 1
        and query.shape[0] <= MOST_ROWS
        and not torch.is_grad_enabled()
        and query.dtype in _ERROR
        and query.dtype == key.dtype == value.dtype
        and query.shape[3] == value.shape[3]
        and key.stride(3) == value.stride(3) == 1
        and (mask is None or (mask.dim() == 4 and mask.shape[1] == 1 and mask.stride(3) == 1))
    )


def decode_attention(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scale: float | None) -> Tensor:
    """(B, 1, H * D): what `attend` gives for (B, H, 1, D) queries, by the Triton kernel where its probe agreed.

    An operation of torch (`arbench::decode_attention`), so that compiled blocks call it as it is.
    """
    if query.stride(3) != 1:
        query = query.contiguous()
    heads, kv_heads, width = query.shape[1], key.shape[1], query.shape[3]
    kind = f"{str(query.dtype).removeprefix('torch.')}, {heads} heads of {width}, {kv_heads} of keys"
    masked, now = mask is not None, probing(query.device)
    setting = f"{query.device}, {kind}{', masked' if masked else ''}"
    if agreed("decode_attention", setting, lambda: _probe(query, key, masked), now=now):
        from .decode_kernel import decode

        return decode(query, key, value, mask=mask, scale=scale)
    return _plain(query, key, value, mask, False, scale)


def probing(device: torch.device) -> bool:
    """Whether a probe can be run now: not while a CUDA graph is captured."""
    return device.type != "cuda" or not torch.cuda.is_current_stream_capturing()


def _probe(query: Tensor, key: Tensor, masked: bool) -> str:
    """How the kernel differs from the plain path in float64, for 150 keys of three sequences; "" if it does not."""
    from .decode_kernel import decode

    random = torch.Generator().manual_seed(0)
    shapes = ((3, query.shape[1], 1, query.shape[3]), *[(3, key.shape[1], 150, query.shape[3])] * 2)
    given = [torch.randn(shape, generator=random).to(query.device, query.dtype) for shape in shapes]
    lengths = torch.tensor([150, 1, 70], device=query.device)
    short = (torch.arange(150, device=query.device) < lengths[:, None])[:, None, None]
    wanted = _plain(*[each.double() for each in given], short, False, None)
    how = {"mask": short} if masked else {"lengths": lengths}
    worst = max(float((decode(*given, **how, spread=each).double() - wanted).abs().max()) for each in (False, True))
    return "" if worst <= _ERROR[query.dtype] else f"the probe differs by {worst:.2g}"


_OPERATIONS = torch.library.Library("arbench", "FRAGMENT")
_OPERATIONS.define("decode_attention(Tensor query, Tensor key, Tensor value, Tensor? mask, float? scale) -> Tensor")
_OPERATIONS.impl("decode_attention", decode_attention, "CompositeExplicitAutograd")


@torch.library.register_fake("arbench::decode_attention", lib=_OPERATIONS)
def _shape(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scale: float | None) -> Tensor:
    return query.new_empty(query.shape[0], 1, query.shape[1] * query.shape[3])


@register_flop_formula(torch.ops.arbench.decode_attention)
def _flops(query: tuple[int, ...], key: tuple[int, ...], *_: object, **__: object) -> int:
    return 4 * query[0] * query[1] * key[2] * query[3]
