"""Plain sampling loops of systems whose papers keep keys and values: one token or one group of tokens in a pass.

Keys and values grow by concatenation, both halves of guidance are one batch, and what a pass needs is made in it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from arbench.adapters.layers.sampling import draw_tokens
from arbench.adapters.random_order.arpg.adapter import SCHEDULE, group_sizes
from arbench.adapters.random_order.lpd.network import group_of
from arbench.adapters.random_order.lpd.schedule import group_sizes as lpd_sizes
from arbench.protocols import Noise, Request, Sampling

Drawn = tuple[Tensor | None, Tensor | None]


class Grown:
    """Keys and values of one layer; those that begin at `start` replace what was kept behind it."""

    def __init__(self) -> None:
        self.key, self.value = torch.empty(0), torch.empty(0)

    def extend(self, key: Tensor, value: Tensor, start: int) -> tuple[Tensor, Tensor]:
        if start:
            key = torch.cat((self.key[:, :, :start], key), dim=2)
            value = torch.cat((self.value[:, :, :start], value), dim=2)
        self.key, self.value = key, value
        return key, value


def grown(count: int) -> list[Any]:
    return [Grown() for _ in range(count)]


def mixed(both: Tensor, weight: float | Tensor) -> Tensor:
    conditional, free = both.chunk(2)
    return free + weight * (conditional - free)


# ---- one token in a pass ---------------------------------------------------------------------------------------------


def raster(model: Any, request: Request, sampling: Sampling, noise: Noise) -> Drawn:
    """LlamaGen's loop with a cache, and D-AR's: the weight of token i of L is the schedule's at i / (L - 1)."""
    network, labels = model.network, request.labels
    count, caches, tokens = network.config.block_size, grown(len(network.blocks)), []
    x = network.condition(torch.cat((labels, network.null(labels))))
    for index in range(count):
        logits = mixed(network.logits(network(x, index, caches)), sampling.guidance.weight(index / (count - 1)))
        tokens.append(draw_tokens(logits, sampling, noise, "tokens", start=index))
        x = network.token_table(tokens[-1].repeat(2, 1))
    return torch.cat(tokens, dim=1), None


def taming(model: Any, request: Request, sampling: Sampling, noise: Noise) -> Drawn:
    """Without guidance, and without a cache."""
    ids = request.labels.unsqueeze(1)  # type: ignore[union-attr]
    for index in range(model.network.config.block_size):
        logits = model.network(ids)[:, -1:]
        ids = torch.cat((ids, draw_tokens(logits, sampling, noise, "tokens", start=index)), dim=1)
    return ids[:, 1:], None


def rq(model: Any, request: Request, sampling: Sampling, noise: Noise) -> Drawn:
    """The head reads what the body says of a place, then the codes of the depths before, their cache emptied."""
    network, lookup, config = model.network, model.lookup, model.network.config
    body, x, stacks = grown(len(network.body)), network.start(request.labels), []
    for place in range(config.places):
        read, head, ids = network.run(network.body, x, place, body), grown(len(network.head)), []
        for depth in range(config.depth):
            logits, start = network.predict(read, depth, head), place * config.depth + depth
            ids.append(draw_tokens(logits, sampling, noise, "tokens", start=start, reach=True))
            read = network.contexts(torch.cat(ids, dim=1), lookup)[:, -1:]
        stacks.append(torch.cat(ids, dim=1))
        x = network.place(stacks[-1].unsqueeze(1), lookup, place)
    return torch.cat(stacks, dim=1), None


# ---- groups of tokens in a pass --------------------------------------------------------------------------------------


def arpg(model: Any, request: Request, sampling: Sampling, noise: Noise) -> Drawn:
    network, labels, total = model.network, request.labels, model.network.config.block_size
    order = noise.permutation("order", total)
    places = network.rotations[1:][order].unsqueeze(1).repeat(2, 1, 1, 1, 1)
    x, turns = network.condition(labels, guided=True), network.rotations[:1].expand(len(places), 1, -1, -1, -1)
    caches, tokens = grown(len(network.blocks) + 1), torch.empty_like(order)
    read = done = 0
    for size in group_sizes(sampling.steps or 1, total, SCHEDULE):
        ahead = slice(done, done + size)
        logits = mixed(
            network(x, turns, places[:, :, ahead], read, caches), sampling.guidance.weight(ahead.stop / total)
        )
        tokens[:, ahead] = draw_tokens(logits, sampling, noise, "tokens", start=done)
        read, done = read + x.shape[1], ahead.stop
        x, turns = network.table(tokens[:, ahead].repeat(2, 1)), places[:, :, ahead]
    return torch.empty_like(tokens).scatter_(1, order, tokens), None


def lpd(model: Any, request: Request, sampling: Sampling, noise: Noise) -> Drawn:
    """Queries are read behind what is known, and thrown away."""
    network, labels, total = model.network, request.labels, model.network.config.tokens
    sizes, order = lpd_sizes(total, sampling.steps or 1), noise.permutation("order", total)
    places = torch.cat((torch.zeros_like(order[:, :1]), order + 1), dim=1).repeat(2, 1)
    group, known, caches = (
        group_of(sizes, order.device),
        network.condition(labels, guided=True),
        grown(len(network.blocks)),
    )
    tokens, read, done = torch.empty_like(order), 0, 0
    for size in sizes:
        end, ahead = read + known.shape[1] + size, slice(done, done + size)
        sight = group[read:end, None] >= group[:end]
        weights = [sampling.guidance.weight(token / total) for token in range(done, done + size)]
        logits = network(known, places[:, read:end], size, sight, read, caches)
        logits = mixed(logits, torch.tensor(weights, device=order.device)[:, None])
        tokens[:, ahead] = draw_tokens(logits, sampling, noise, "tokens", start=done)
        known, read, done = network.code_table(tokens[:, ahead].repeat(2, 1)), end - size, ahead.stop
    return torch.empty_like(tokens).scatter_(1, order, tokens), None


def nar(model: Any, request: Request, sampling: Sampling, noise: Noise) -> Drawn:
    """A diagonal is what its right and its lower neighbours on the diagonal before say, where there are two, halved."""
    network, labels, side = model.network, request.labels, model.network.config.side
    x, turns = network.condition(torch.cat((labels, network.null(labels)))), network.rotations[:1]
    caches, tokens = grown(len(network.blocks)), labels.new_empty(len(labels), side * side)  # type: ignore[union-attr]
    read = done = 0
    for cells in network.diagonals():
        everything = x.new_ones(1, 1, x.shape[1], read + x.shape[1], dtype=torch.bool)
        right, below = network.directions(x, turns, read, caches, everything)
        if len(cells) == x.shape[1]:
            logits = (right + below) / 2
        else:
            logits = (below[:, :-1] + right[:, 1:]) / 2
            if len(cells) > x.shape[1]:
                logits = torch.cat((right[:, :1], logits, below[:, -1:]), dim=1)
        new = draw_tokens(mixed(logits, sampling.guidance.scale), sampling, noise, "tokens", start=done)
        tokens[:, cells] = new
        read, done = read + x.shape[1], done + len(cells)
        x, turns = network.token_table(new.repeat(2, 1)), network.rotations[1:][cells]
    return tokens, None


def in_groups(model: Any, labels: Tensor, sampling: Sampling, noise: Noise, weights: Sequence[float]) -> Tensor:
    """Tokens in the order of decoding: some one by one, then with learned tokens behind them a group in a pass."""
    network, batch = model.network, len(labels)
    x, caches = network.condition(torch.cat((labels, network.null(labels)))), grown(len(network.blocks))
    tokens, read = labels.new_empty(batch, 0), 0
    for index, weight in enumerate(weights):
        everything = x.new_ones(x.shape[1], read + x.shape[1], dtype=torch.bool)
        logits = mixed(network.logits(network(x, read, caches, everything)), weight)
        new, read = draw_tokens(logits, sampling, noise, "tokens", start=tokens.shape[1]), read + x.shape[1]
        tokens, x = torch.cat((tokens, new), dim=1), network.token_table(new.repeat(2, 1))
        if index == network.first - 1:
            x = torch.cat((x, network.bridge.weight.expand(2 * batch, -1, -1)), dim=1)
    return tokens


def par(model: Any, request: Request, sampling: Sampling, noise: Noise) -> Drawn:
    network, labels = model.network, request.labels
    assert labels is not None
    drawn = in_groups(model, labels, sampling, noise, [sampling.guidance.scale] * len(network.sizes))
    return torch.empty_like(drawn).scatter_(1, network.order(labels.device).expand_as(drawn), drawn), None


def detailflow(model: Any, request: Request, sampling: Sampling, noise: Noise) -> Drawn:
    """The weight follows the group of a pass."""
    network, config, labels = model.network, model.network.config, request.labels
    assert labels is not None
    groups, alone = config.block_size // config.group_size, network.first // config.group_size
    weights = [
        sampling.guidance.weight(group / (groups - 1)) for group in [0] * network.first + [*range(alone, groups)]
    ]
    return in_groups(model, labels, sampling, noise, weights), None
