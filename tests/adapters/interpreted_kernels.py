"""The Triton kernels on a CPU, by Triton's interpreter, against the plain path: a program, run by test_kernels.py.

The interpreter is chosen when Triton is imported, so that this needs a process of its own. What it found is printed as
JSON.
"""

from __future__ import annotations

import itertools
import json
import os
import warnings
from typing import Any

os.environ["TRITON_INTERPRET"] = "1"

import torch
from torch import Tensor

from arbench.adapters.layers import attention, sampling
from arbench.adapters.layers.decode_kernel import decode
from arbench.adapters.layers.draw_kernel import draw
from arbench.adapters.layers.host_reads import watched
from arbench.kernel_choice import choices
from arbench.seeds import invert_cdf

ROWS = 1 << 8
PS = (None, 1e-6, 0.1, 0.5, 0.6, 0.9, 0.999, 0.9999999, 1.0)


def difficult(random: torch.Generator, vocabulary: int) -> Tensor:
    """(ROWS, vocabulary) logits: ties of several kinds, zeros of both signs, tokens that are ruled out."""
    x = 3 * torch.randn(ROWS, vocabulary, generator=random)
    x[:32] = x[:32].round()
    x[32:40] = 1.5
    x[40:48] = torch.where(torch.arange(vocabulary) % 2 == 0, 0.0, -0.0)
    x[48:64, : vocabulary // 2] = -torch.inf
    x[64:96] = x[64:96].bfloat16().float()
    x[96:100, 1:] = -torch.inf
    return x


def draws() -> dict[str, Any]:
    random, wrong, number = torch.Generator().manual_seed(1), [], 0
    settings = [(p, reach) for p in PS for reach in (False, True) if p or not reach]
    vocabularies = itertools.cycle((33, 2, 100, 7, 16))
    for (top_p, reach), kind in zip(
        settings * 2, itertools.cycle(("none", "one", "some", "all", "more")), strict=False
    ):
        vocabulary = next(vocabularies)
        top_k = {"none": None, "one": 1, "some": vocabulary // 2, "all": vocabulary, "more": vocabulary + 5}[kind]
        logits = difficult(random, vocabulary)
        uniform = torch.rand(ROWS, dtype=torch.float64, generator=random)
        uniform[::50], uniform[1::50] = 0, 1 - 2**-53
        wanted = invert_cdf(sampling._filtered(logits[:, None], top_k, top_p, reach), uniform[:, None])[:, 0]
        got = draw(logits, uniform, top_k=top_k, top_p=top_p, reach=reach, at_once=2**15)
        number += ROWS
        if not torch.equal(got, wanted):
            wrong.append([vocabulary, top_k, top_p, reach, int((got != wanted).sum())])
    return {"number": number, "wrong": wrong}


def batches() -> dict[str, bool]:
    """Few rows, of other types and strides, are drawn as the rows of a large batch are."""
    random = torch.Generator().manual_seed(2)
    logits = torch.randn(7, 300, generator=random)
    uniform = torch.rand(7, dtype=torch.float64, generator=random)
    same = {}
    for name, given in (("every second", logits[:, ::2]), ("bfloat16", logits.bfloat16()), ("one", logits[:1])):
        numbers = uniform[: len(given)]
        wanted = invert_cdf(sampling._filtered(given[:, None], 20, 0.9, False), numbers[:, None])[:, 0]
        same[name] = torch.equal(draw(given, numbers, top_k=20, top_p=0.9, reach=False), wanted)
    return same


def attentions() -> list[dict[str, Any]]:
    random, found = torch.Generator().manual_seed(3), []
    kinds = itertools.product(((4, 4), (6, 2)), ("float32", "bfloat16"), ("", "mask", "lengths"))
    for (heads, kv_heads), dtype, kind in kinds:
        length = 133
        cache = torch.randn(2, 3, kv_heads, length + 9, 24, generator=random).to(getattr(torch, dtype))
        key, value = cache[:, :2, :, :length]
        query = torch.randn(2, 1, heads, 24, generator=random).to(cache.dtype).transpose(1, 2)
        mask, how = None, {}
        if kind == "mask":
            mask = torch.rand(2, 1, 1, length, generator=random) > 0.5
            mask[1, ..., :70] = False  # no key of the first chunk
            how = {"mask": mask}
        if kind == "lengths":
            lengths = torch.tensor([length, 1])
            mask, how = (torch.arange(length) < lengths[:, None])[:, None, None], {"lengths": lengths}
        wanted = attention._plain(query.double(), key.double(), value.double(), mask, False, None)
        spread, whole = (decode(query, key, value, **how, spread=each) for each in (True, False))
        worst = float((whole.double() - wanted).abs().max())
        found.append({"case": f"{heads} {dtype} {kind}", "worst": worst, "same": torch.equal(spread, whole)})
    return found


def chosen() -> dict[str, Any]:
    """Both operations as they are called, under watch, with a probe that agrees and one that does not."""
    logits, uniform = torch.randn(2, 3, 20), torch.rand(2, 3, dtype=torch.float64)
    query, key = torch.randn(2, 2, 1, 8), torch.randn(2, 2, 5, 8)
    with watched() as reads:
        drawn = torch.ops.arbench.draw_tokens(logits, uniform, 5, None, False)
        mixed = torch.ops.arbench.decode_attention(query, key, key, None, None)
    wanted = invert_cdf(sampling._filtered(logits, 5, None, False), uniform)
    close = torch.allclose(mixed, attention._plain(query, key, key, None, False, None), atol=1e-6)
    agreeing = dict(choices())
    from arbench.adapters.layers import draw_kernel as module

    def broken(logits: Tensor, uniform: Tensor, **_: Any) -> Tensor:
        return torch.zeros(uniform.shape, dtype=torch.int64)

    module.draw = broken  # type: ignore[assignment]
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        fallen = torch.ops.arbench.draw_tokens(logits, uniform, 7, None, False)
        torch.ops.arbench.draw_tokens(logits, uniform, 7, None, False)
    right = torch.equal(fallen, invert_cdf(sampling._filtered(logits, 7, None, False), uniform))
    return {
        "reads": reads.first,
        "drawn": torch.equal(drawn, wanted),
        "mixed": close,
        "agreeing": agreeing,
        "fallen": right,
        "told": [str(each.message) for each in told],
        "choices": choices(),
    }


if __name__ == "__main__":
    torch.set_num_threads(1)
    with torch.inference_mode():
        print(json.dumps({"draws": draws(), "batches": batches(), "attentions": attentions(), "chosen": chosen()}))
