"""Plain sampling loops that go scale by scale with a cache; what a condition changes in blocks is made in each pass."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from cached_loops import Drawn, grown, mixed
from torch import Tensor

from arbench.adapters.layers.flow_blocks import annealed, truncated
from arbench.adapters.layers.sampling import draw_tokens
from arbench.adapters.next_scale.flexvar.adapter import FREE, RAMP
from arbench.adapters.next_scale.flowar.adapter import BELOW, time_grid
from arbench.adapters.next_scale.flowar.network import BETWEEN
from arbench.adapters.next_scale.infinity.adapter import text_first
from arbench.protocols import Noise, Request, Sampling


def flexvar(model: Any, request: Request, sampling: Sampling, noise: Noise) -> Drawn:
    """A scale is fed the codes of the one before, drawn to its size; some sides are the likeliest tokens."""
    network, tokenizer, labels = model.network, model.tokenizer.network, request.labels
    assert labels is not None
    sides, read, levels = network.config.patch_nums, 0, []
    condition = network.class_table(torch.cat((labels, torch.full_like(labels, network.config.num_classes))))
    caches, positions = grown(len(network.blocks)), network.positions(sides)
    for scale, side in enumerate(sides):
        if scale:
            x = network.features_in(tokenizer.next_input(levels[-1], side)).repeat(2, 1, 1)
        else:
            x = condition.unsqueeze(1) + network.first_position
        states = network(x + positions[scale], network.modulate(condition), read, caches)
        weight = sampling.guidance.weight(scale / max(min(len(sides) - 1, RAMP), 1))
        used = sampling if side in FREE else sampling.model_copy(update={"top_k": 1})
        logits = mixed(network.logits(states, condition), weight)
        levels.append(draw_tokens(logits, used, noise, f"scale/{scale}", reach=True))
        read += side * side
    return torch.cat(levels, dim=1), None


def infinity(model: Any, request: Request, sampling: Sampling, noise: Noise) -> Drawn:
    """A scale is fed the sum of the bits before it, scaled down; its own are drawn one by one."""
    network, c = model.network, model.network.config
    assert request.captions is not None
    captions, valid = text_first(request.captions, request.caption_mask)  # type: ignore[arg-type]
    sizes, caches, read, levels = c.sizes, grown(len(network.blocks)), 0, []
    turns, last = network.turns(sizes, captions.device), sizes[-1]
    total = torch.zeros(len(captions), c.codebook_dim, *last)
    for scale, size in enumerate(sizes):
        condition, text, seen, modulations = network.condition(captions, valid, guided=True)
        count = size[0] * size[1]
        if scale:
            small = F.interpolate(total, size=size, mode="bilinear") if size != last else total
            x = network.fed(small.flatten(2).mT).repeat(2, 1, 1)
        else:
            x = condition.unsqueeze(1) + network.first_position
        for index, block in enumerate(network.blocks):
            if network.levels_before(index):
                x = x + network.level_table.weight[scale]
            x = block(x, modulations[index], text, seen, turns[read : read + count], read, caches[index])
        logits = mixed(network.logits(x, condition), sampling.guidance.scale).unflatten(-1, (-1, 2)).flatten(1, 2)
        bits = draw_tokens(logits, sampling, noise, f"scale/{scale}", reach=True).unflatten(1, (count, -1))
        levels.append(bits.flatten(1))
        signs = ((2.0 * bits - 1) / c.codebook_dim**0.5).mT.unflatten(-1, size)
        total = total + (F.interpolate(signs, size=last, mode="bilinear") if size != last else signs)
        read += count
    return torch.cat(levels, dim=1), total


def flowar(model: Any, request: Request, sampling: Sampling, noise: Noise) -> Drawn:
    """The tokens of a scale are drawn by a flow, guided from a time on, all of them at once."""
    network, labels, config = model.network, request.labels, model.network.config
    assert labels is not None
    condition = network.class_table(torch.cat((labels, torch.full_like(labels, config.classes))))
    sides, caches = config.scale, grown(len(network.encoder) + len(network.decoder))
    first = sampling.inner_steps or 1
    counts = annealed(first, sampling.extra.get("last_inner_steps", first), len(sides))
    x, latents = condition.unsqueeze(1), torch.empty(0)
    for scale, side in enumerate(sides):
        if scale:
            x = network.fed(latents, side, between=(BETWEEN, BETWEEN)).repeat(2, 1, 1)
        states = network(x, network.modulate(condition), scale, caches)
        weight = sampling.guidance.weight(scale / (len(sides) - 1))
        now = noise.normal(f"scale/{scale}", (side * side, config.vae_embed_dim)).double()
        for time, after in pairwise(time_grid(counts[scale])):
            now = now + (after - time) * _velocity(network.flow, now, time, states, weight)
        latents = now.float().mT.unflatten(-1, (side, side))
    return None, latents / model.tokenizer.latent_scale


def _velocity(flow: Any, now: Tensor, time: float, states: Tensor, weight: float) -> Tensor:
    at, noisy = truncated(time, now.device), now.float()
    if time <= BELOW:
        return mixed(flow(noisy.repeat(2, 1, 1), at, states).double(), weight)
    velocity: Tensor = flow(noisy, at, states[: len(now)])
    return velocity.double()
