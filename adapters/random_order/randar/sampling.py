"""RandAR's sampling loops: tokens in any order, several in a pass; and images of twice the trained side."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from arbench.errors import Unsupported
from arbench.protocols import NO_PROBE, Guidance, Noise, Probe, Sampling

from ...layers.attention import KVCache
from ...layers.order import to_raster
from ...layers.sampling import draw_tokens, guided_steps
from .network import Network, interleave

BOUNDARY = 2
"""Of `stretched_rotations`, as upstream extrapolates."""


def group_sizes(steps: int, total: int, done: int = 0) -> list[int]:
    """Tokens decoded in each pass after `done` of `total`: one at first, later more, on a cosine over `steps` passes.

    There are `steps` passes for 2 to `total` steps with nothing done, and always enough to decode everything. With
    `done` the cosine is that of all `total`, as upstream extrapolates: one token a pass until it reaches `done`.
    """
    sizes = [1]
    done += 1
    while done < total:
        target = int((1.0 - math.cos(math.pi / 2.0 * (len(sizes) + 1) / steps)) * total + 1)
        sizes.append(max(1, min(target, total) - done))
        done += sizes[-1]
    return sizes


def mix(logits: Tensor, guides: Sequence[Guidance], progress: float) -> Tensor:
    """(B, ...) from (copies * B, ...), the best informed copy first: the last copy and the weighted differences."""
    copies = logits.chunk(1 + len(guides))
    mixed = copies[-1]
    for guidance, better, worse in zip(guides, copies, copies[1:], strict=False):
        mixed = mixed + guidance.weight(progress) * (better - worse)
    return mixed


@dataclass(frozen=True, slots=True)
class Known:
    """Tokens (B, k) that are given, the first of the order, and how each copy of the batch sees them."""

    tokens: Tensor
    embedded: Tensor  # (copies * B, k, dim)


def decode(
    network: Network,
    labels: Tensor,
    order: Tensor,
    table: Tensor,
    sizes: Sequence[int],
    guides: Sequence[Guidance],
    sampling: Sampling,
    noise: Noise,
    caches: Sequence[KVCache],
    *,
    known: Known | None = None,
    probe: Probe = NO_PROBE,
    index: int = 0,
) -> tuple[Tensor, int]:
    """Tokens (B, L) in the order of decoding, and how many forward passes they took.

    `order` (B, L) are places in `table` (L, head_width / 2, 2). Every pass reads the tokens of the pass before, each
    after its query, then the next queries; queries of the same pass see each other, but not each other's tokens.
    `guides` are the guidance of each copy of the batch towards the next, first that of the class. `index` numbers the
    passes for the probe. Places that `sizes` does not reach keep code 0.
    """
    batch, total = order.shape
    guided = guided_steps(sampling.guidance, len(sizes)) if guides else 0
    tokens = torch.zeros(batch, total, dtype=torch.int64, device=labels.device)
    with probe("condition", index=index):
        rotations = table[order].unsqueeze(1)  # (B, 1, L, D / 2, 2)
        queries = network.instructions(rotations)  # (B, L, dim)
        x = network.condition(torch.cat((labels, *[network.null(labels)] * len(guides))))  # (copies * B, 1, dim)
        turns = network.rotations[:1].expand(batch, 1, -1, -1, -1)
        sight = torch.ones(caches[0].key.shape[2], caches[0].key.shape[2], dtype=torch.bool, device=x.device).tril()
    done = start = forwards = 0
    if known is not None:
        done = known.tokens.shape[1]
        tokens[:, :done] = known.tokens
        x = torch.cat((x, interleave(queries[:, :done].repeat(1 + len(guides), 1, 1), known.embedded)), dim=1)
        turns = torch.cat((turns, rotations[:, :, :done].repeat_interleave(2, dim=2)), dim=2)
    for step, size in enumerate(sizes):
        with probe("ar" if step else "prefill", index=index + step, tokens=size):
            copies = 1 + len(guides) if step < guided else 1
            if step:  # the first of the last queries is in the cache for good
                last = slice(done - sizes[step - 1], done)
                x = interleave(queries[:, last], network.token_table(tokens[:, last]))[:, 1:].repeat(copies, 1, 1)
                turns = rotations[:, :, last].repeat_interleave(2, dim=2)[:, :, 1:]
            ahead = slice(done, done + size)
            x = torch.cat((x, queries[:, ahead].repeat(copies, 1, 1)), dim=1)
            turns = torch.cat((turns, rotations[:, :, ahead]), dim=2)
            end = start + x.shape[1]
            states = network(
                x, start, caches, sight[start:end, :end] if start else None, turns.repeat(copies, 1, 1, 1, 1)
            )
            logits = mix(network.logits(states[:, -size:]), guides[: copies - 1], done / total)
            tokens[:, ahead] = draw_tokens(logits, sampling, noise, "tokens", start=done)
        start, done, forwards = end - size + 1, done + size, forwards + copies
    return tokens, forwards


def generate(
    network: Network,
    labels: Tensor,
    order: Tensor,
    sampling: Sampling,
    noise: Noise,
    *,
    given: Tensor | None = None,
    caches: Sequence[KVCache] | None = None,
    probe: Probe = NO_PROBE,
) -> tuple[Tensor, int, int]:
    """Tokens (B, block_size) in raster order, the passes they took, and the forward passes counting copies.

    `given` (B, k) are the tokens of the first k < block_size places of the order; they cost no pass, and the schedule
    of passes is that of an image of the others.
    """
    guides, total = guides_of(network, sampling), order.shape[1]
    if caches is None:
        caches = allocate(network, len(labels) * (1 + len(guides)), total)
    known = None
    if given is not None and given.shape[1]:
        known = Known(given, network.token_table(given).repeat(1 + len(guides), 1, 1))
        total -= given.shape[1]
    sizes = group_sizes(sampling.steps or network.config.num_inference_steps, total)
    table = network.rotations[1:]
    drawn, forwards = decode(
        network, labels, order, table, sizes, guides, sampling, noise, caches, known=known, probe=probe
    )
    return to_raster(drawn, order), len(sizes), forwards


def extrapolate(
    network: Network,
    labels: Tensor,
    order: Tensor,
    sampling: Sampling,
    noise: Noise,
    *,
    spatial: Guidance | None = None,
    dropped: Tensor | None = None,
    boundary: int = BOUNDARY,
    caches: Sequence[KVCache] | None = None,
    probe: Probe = NO_PROBE,
) -> tuple[Tensor, int, int]:
    """As `generate`, on a grid of twice the side: 4 * block_size tokens, first those at even rows and columns.

    These are decoded as a whole image of the trained size; then they are given and the others are decoded between
    them. `order` (B, 4 * block_size) must begin with them. `spatial` guides away from a copy for which those of the
    given tokens that `dropped` (B, n) counts, in the order of decoding, are zero. `boundary` is that of
    `stretched_rotations`. As upstream, the last group of the schedule is never decoded: its places keep code 0.
    """
    config = network.config
    side, total = 2 * math.isqrt(config.block_size), 4 * config.block_size
    guides, steps = guides_of(network, sampling), sampling.steps or config.num_inference_steps
    if caches is None:
        caches = allocate(network, len(labels) * (1 + 2 * len(guides)), total)
    few = order[:, : config.block_size]
    coarse = few // side // 2 * (side // 2) + few % side // 2
    sizes = group_sizes(steps, config.block_size)
    table = network.rotations[1:]
    drawn, forwards = decode(network, labels, coarse, table, sizes, guides, sampling, noise, caches, probe=probe)
    embedded = network.token_table(drawn)
    seen = [embedded] * (1 + len(guides))
    if guides and spatial is not None and dropped is not None:
        guides = (*guides, spatial)
        kept = torch.ones_like(drawn).scatter_(1, dropped, 0)
        seen.append(embedded * kept.unsqueeze(-1).to(embedded.dtype))
    fine = network.fine_rotations(boundary)
    more = group_sizes(steps, total, config.block_size)[:-1]
    known = Known(drawn, torch.cat(seen))
    drawn, again = decode(
        network,
        labels,
        order,
        fine,
        more,
        guides,
        sampling,
        noise,
        caches,
        known=known,
        probe=probe,
        index=len(sizes),
    )
    return to_raster(drawn, order), len(sizes) + len(more), forwards + again


def coarse_first(order: Tensor, side: int) -> Tensor:
    """`order` (B, side^2) with the places at even rows and columns moved to the front."""
    even = torch.arange(side, device=order.device) % 2 == 0
    return first_where(order, (even[:, None] & even).flatten())


def first_where(order: Tensor, chosen: Tensor) -> Tensor:
    """`order` (B, L) with the places that are true in `chosen` (L,) moved to the front, otherwise as it was."""
    return order.gather(1, (~chosen[order]).to(torch.uint8).argsort(dim=1, stable=True))


def allocate(network: Network, rows: int, tokens: int) -> list[KVCache]:
    """Caches for `rows` sequences of a class and `tokens` pairs of query and token."""
    return network.allocate(rows, 1 + 2 * tokens)


def guides_of(network: Network, sampling: Sampling) -> tuple[Guidance, ...]:
    if not sampling.guidance.on:
        return ()
    if network.config.class_dropout_prob <= 0:
        raise Unsupported("this model cannot be guided", "it was trained without a null class", "use guidance scale 1")
    return (sampling.guidance,)
