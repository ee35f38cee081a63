"""Microseconds of the Triton kernels beside their plain paths on a CUDA device, by batch, each within a CUDA graph.

python benchmarks/kernels.py [--dtype bfloat16] [--length 257] [--heads 12] [--width 64] [--vocabulary 16384]
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F

BATCHES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
CALLS, REPLAYS = 20, 7


def microseconds(call: Callable[[], object]) -> float:
    """Of one call: the median over replays of a graph that makes it several times."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        call()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=stream):
        for _ in range(CALLS):
            call()
    graph.replay()
    taken = []
    for _ in range(REPLAYS):
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        graph.replay()
        end.record()
        end.synchronize()
        taken.append(1000 * start.elapsed_time(end) / CALLS)
    return statistics.median(taken)


def drawing(vocabulary: int) -> None:
    from arbench.adapters.layers.draw_kernel import draw
    from arbench.adapters.layers.sampling import _draw_plainly

    print(f"\ndrawing one token of {vocabulary} a sequence, float32 logits")
    print(f"{'batch':>6} {'k':>6} {'p':>6} {'kernel us':>10} {'plain us':>10} {'same':>8}")
    for top_k, top_p in ((None, None), (900, None), (None, 0.96), (900, 0.96)):
        for batch in BATCHES:
            logits = 3 * torch.randn(batch, vocabulary, device="cuda")
            uniform = torch.rand(batch, dtype=torch.float64, device="cuda")

            ours = partial(draw, logits, uniform, top_k=top_k, top_p=top_p, reach=False)
            plain = partial(_draw_plainly, logits[:, None], uniform[:, None], top_k, top_p, False)
            same = float((ours() == plain()[:, 0]).float().mean())
            times = f"{microseconds(ours):10.1f} {microseconds(plain):10.1f}"
            print(f"{batch:6} {top_k or '-':>6} {top_p or '-':>6} {times} {same:8.2%}")


def attention(dtype: torch.dtype, length: int, heads: int, width: int) -> None:
    from arbench.adapters.layers.decode_kernel import decode

    print(f"\nattention of one token over {length} keys, {heads} heads of {width}, {dtype}; plain is torch's SDPA")
    print(f"{'rows':>6} {'kernel us':>10} {'SDPA us':>10} {'masked us':>10} {'masked SDPA us':>15} {'differs by':>11}")
    for batch in BATCHES:
        query = torch.randn(batch, heads, 1, width, device="cuda").to(dtype)
        cache = torch.randn(2, batch, heads, 2 * length, width, device="cuda").to(dtype)
        key, value = cache[:, :, :, :length]
        mask = torch.rand(batch, 1, 1, length, device="cuda") > 0.1

        ours = partial(decode, query, key, value)
        sdpa = partial(F.scaled_dot_product_attention, query, key, value)
        apart = float((ours().float() - sdpa().transpose(1, 2).flatten(2).float()).abs().max())
        plain = f"{microseconds(ours):10.1f} {microseconds(sdpa):10.1f}"
        masked = f"{microseconds(partial(ours, mask=mask)):10.1f} {microseconds(partial(sdpa, attn_mask=mask)):15.1f}"
        print(f"{batch:6} {plain} {masked} {apart:11.2g}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dtype", default="bfloat16", choices=["float32", "bfloat16", "float16"])
    for name, default in (("length", 257), ("heads", 12), ("width", 64), ("vocabulary", 16384)):
        parser.add_argument(f"--{name}", type=int, default=default)
    given = parser.parse_args()
    if not torch.cuda.is_available():
        sys.exit("needs a CUDA device: a Triton kernel on a CPU is only interpreted, and its time says nothing")
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}")
    with torch.inference_mode():
        drawing(given.vocabulary)
        attention(getattr(torch, given.dtype), given.length, given.heads, given.width)


if __name__ == "__main__":
    main()
