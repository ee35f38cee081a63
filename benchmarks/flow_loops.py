"""Plain sampling loops of continuous tokens, which a diffusion or a flow draws; times are embedded in every step."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from cached_loops import Drawn, grown, mixed
from plain_heads import diffused
from torch import Tensor

from arbench.adapters.continuous.arinar.adapter import guided, scheduled
from arbench.adapters.continuous.far.adapter import SIDES
from arbench.adapters.continuous.mar.adapter import unknown_after
from arbench.adapters.continuous.xar.network import CELL, CELLS, CHANNELS, CLASSES, in_raster
from arbench.adapters.hybrid.acdit.solver import advanced, solver_steps
from arbench.adapters.layers.diffusion_head import reverse_steps, spaced, step_noise
from arbench.adapters.layers.flow_blocks import annealed, even, truncated
from arbench.adapters.layers.masked import gathered
from arbench.protocols import Noise, Request, Sampling

Drawing = Callable[[Tensor, int, float], Tensor]
"""States (2B, n, Z) of wanted places, the iteration and the weight of guidance -> tokens (B, n, C)."""


# ---- masked, a head for each token -----------------------------------------------------------------------------------


def in_random_order(model: Any, labels: Tensor, sampling: Sampling, noise: Noise, drawing: Drawing) -> Tensor:
    """MAR's loop, without a cache: the decoder gives states of all places, of which some are wanted."""
    network, config, batch = model.network, model.network.config, len(labels)
    order, condition = noise.permutation("order", config.tokens), network.condition(labels, guided=True)
    everywhere = torch.arange(config.tokens, device=labels.device).expand(2 * batch, -1)
    unknown = torch.ones(batch, config.tokens, dtype=torch.bool, device=labels.device)
    tokens = torch.zeros(batch, config.tokens, config.channels, device=labels.device)
    for iteration, (before, after) in enumerate(pairwise(unknown_after(sampling.steps or 1, config.tokens))):
        positions = (~unknown).nonzero()[:, 1].reshape(batch, -1)
        states = network(condition, gathered(tokens, positions).repeat(2, 1, 1), positions.repeat(2, 1), everywhere)
        wanted = order[:, after:before]
        weight = sampling.guidance.weight((config.tokens - max(1, after)) / config.tokens)
        new = drawing(gathered(states, wanted.repeat(2, 1)), iteration, weight)
        tokens = tokens.scatter(1, wanted.unsqueeze(-1).expand_as(new), new)
        unknown = unknown.scatter(1, wanted, False)
    return network.grid(tokens) / model.tokenizer.latent_scale  # type: ignore[no-any-return]


def mar(model: Any, request: Request, sampling: Sampling, noise: Noise) -> Drawn:
    """MAR's and, with other steps in each iteration, DiSA's on it."""
    processes = model.processes(sampling)

    def drawing(states: Tensor, iteration: int, weight: float) -> Tensor:
        steps, stream = processes[iteration], f"token/{iteration}"
        return diffused(model.network.head, steps, states, noise, stream, weight, sampling.temperature)

    assert request.labels is not None
    return None, in_random_order(model, request.labels, sampling, noise, drawing)


def arinar(model: Any, request: Request, sampling: Sampling, noise: Noise) -> Drawn:
    """The head makes the modulations of a token for each of its numbers, as officially."""
    head, config = model.network.head, model.network.config

    def drawing(states: Tensor, iteration: int, weight: float) -> Tensor:
        flat, numbers = states.flatten(0, 1), []
        caches, x = grown(len(head.blocks)), head.start(flat)
        for group in range(config.groups):
            share, stream = (group + 1) / config.groups, f"token/{iteration}/{group}"
            strength, temperature = (
                scheduled(config.bilevel_schedule, v, share) for v in (weight, sampling.temperature)
            )
            mixture = head(x, head.modulate(flat), group, caches)
            numbers.append(guided(mixture, strength, temperature, noise, stream, noise.batch))
            x = head.token_in(numbers[-1].repeat(2, 1, 1))
        return torch.cat(numbers, dim=-1).reshape(noise.batch, states.shape[1], -1)

    assert request.labels is not None
    return None, in_random_order(model, request.labels, sampling, noise, drawing)


def far(model: Any, request: Request, sampling: Sampling, noise: Noise) -> Drawn:
    """All tokens in each iteration, smoothed to what the next one's grid holds."""
    network, config, labels = model.network, model.network.config, request.labels
    assert labels is not None
    steps, condition = reverse_steps(spaced(sampling.inner_steps or 2)), network.condition(labels, guided=True)
    everywhere = torch.arange(config.tokens, device=labels.device).expand(2 * len(labels), -1)
    tokens = torch.zeros(len(labels), config.tokens, config.channels, device=labels.device)
    for index, side in enumerate(SIDES):
        states = network(condition, tokens.repeat(2, 1, 1), everywhere, everywhere)
        weight, share = sampling.guidance.weight(index / len(SIDES)), (index + 1) / len(SIDES)
        heat, stream = 0.8 + (1 - math.cos(math.pi / 2 * share)) * 0.2, f"iteration/{index}"
        head = partial(_indexed, network.head, side)
        tokens = diffused(network.head, steps, states, noise, stream, weight, heat, embed=head)
        if index < len(SIDES) - 1:
            grid, small = network.grid(tokens), SIDES[index + 1]
            small = F.interpolate(grid, size=(small, small), mode="area")
            tokens = network.patches(F.interpolate(small, size=grid.shape[-2:], mode="bicubic"))
    return None, network.grid(tokens) / model.tokenizer.latent_scale


def _indexed(head: Any, side: int, states: Tensor) -> Tensor:
    embedded: Tensor = head.embed(states, side)
    return embedded


# ---- blocks of tokens by a flow of the whole network, with a cache ---------------------------------------------------


def xar(model: Any, request: Request, sampling: Sampling, noise: Noise) -> Drawn:
    """A cell's first step reads the cell before it, clean, which then is in the cache."""
    network, labels = model.network, request.labels
    assert labels is not None
    classes = network.class_table(torch.cat((labels, torch.full_like(labels, CLASSES))))
    first, cells = sampling.inner_steps or 2, []
    counts = annealed(first, sampling.extra.get("last_inner_steps", first), CELLS)
    caches = grown(len(network.encoder) + len(network.decoder))
    for cell in range(CELLS):
        weight = sampling.guidance.weight(cell / (CELLS - 1))
        now = noise.normal(f"cell/{cell}", (CELL, CHANNELS)).double()
        added = step_noise(noise, f"cell/{cell}/steps", counts[cell] - 1, (CELL, CHANNELS))
        for time, after in pairwise([*even(1.0, 0.04, counts[cell]), 0.0]):
            tokens, start = now.float(), cell * CELL
            conditions = [classes + network.time(truncated(time, labels.device))]
            if cell and time == 1:
                tokens, start = torch.cat((cells[-1], tokens), dim=1), start - CELL
                conditions = [classes + network.time(truncated(0.0, labels.device)), *conditions]
            velocity = mixed(network(tokens.repeat(2, 1, 1), conditions, start, caches).double(), weight)
            now = now + (after - time) * ((2 - time) * velocity + now)
            if after:
                now = now + math.sqrt(2 * time * (time - after)) * next(added)
        cells.append(now.float())
    latents = in_raster(torch.cat(cells, dim=1)).mT.unflatten(-1, (16, 16))
    return None, latents / model.tokenizer.latent_scale


def acdit(model: Any, request: Request, sampling: Sampling, noise: Noise) -> Drawn:
    """As xAR's, of blocks and by a solver of second order."""
    network, labels, config = model.network, request.labels, model.network.config
    assert labels is not None
    classes = network.class_table(torch.cat((labels, torch.full_like(labels, config.num_classes))))
    caches, blocks = grown(len(network.blocks)), []
    for index in range(config.ar_len):
        now, clean = noise.normal(f"block/{index}", (config.block_size, config.latent_size)), None
        for number, step in enumerate(solver_steps(sampling.inner_steps or 2)):
            tokens, start = now, index * config.block_size
            if index and not number:
                tokens, start = torch.cat((blocks[-1], now), dim=1), start - config.block_size
            condition = classes + network.time(torch.full((1,), step.time, device=labels.device))
            predicted = mixed(network(tokens.repeat(2, 1, 1), condition, start, caches), sampling.guidance.scale)
            now, clean = advanced(step, now, predicted, clean)
        blocks.append(now)
    return None, network.grid(torch.cat(blocks, dim=1)) / model.tokenizer.latent_scale


def transdiff(model: Any, request: Request, sampling: Sampling, noise: Noise) -> Drawn:
    """Features of a class, or with images in turn of the image before too; a decoder of their own draws an image."""
    network, config, labels = model.network, model.network.config, request.labels
    assert labels is not None
    condition, shape = network.condition(labels, guided=True), (config.side**2, config.channels)
    caches = grown(len(network.encoder)) if config.mrar else None
    first, count, knobs = (
        noise.normal("start", shape),
        sampling.inner_steps or 2,
        model.card.native.extra | sampling.extra,
    )
    drift_scale, noise_scale = (knobs.get(name, 1.0) for name in ("drift_scale", "noise_scale"))
    features, latents = condition.new_empty(len(condition), 0, condition.shape[-1]), torch.empty(0)
    for index in range(config.rounds):
        earlier = network.patches(latents).repeat(2, 1, 1) if index else None
        features = torch.cat((features, network(condition, earlier, index, caches)), dim=1)
        now, added = first, step_noise(noise, f"image/{index}", count - 1, shape)
        for time, after in pairwise([*even(1.0, 0.04, count), 0.0]):
            at = torch.full((1,), 1000 * time, device=now.device)
            velocity = mixed(network.decoder(now.repeat(2, 1, 1), at, features).float(), sampling.guidance.scale)
            moved = (after - time) * ((2 - time) * velocity + now)
            now = now + (drift_scale * moved if after else moved)
            if after:
                now = now + noise_scale * math.sqrt(2 * time * (time - after)) * next(added)
        latents = network.grid(now)
    return None, latents / model.tokenizer.latent_scale


def bitdance(model: Any, request: Request, sampling: Sampling, noise: Noise) -> Drawn:
    """A group's states from a cached transformer, its bits by a flow of a head; unguided ones are drawn twice."""
    network, config, labels = model.network, model.network.config, request.labels
    assert labels is not None
    batch, group, count = len(labels), config.group, config.tokens // config.group
    steps = sampling.inner_steps or 2
    times = [
        1 / config.time_shift / (1 / config.time_shift + 1 / time - 1) if time else 0.0
        for time in even(0.0, 0.95, steps + 1)
    ]
    x, caches, read, groups = network.condition(labels, guided=True), grown(len(network.blocks)), 0, []

    def drawn(states: Tensor, stream: str, weight: float | None) -> Tensor:
        shape = (group, config.channels)
        now, added = noise.normal(f"{stream}/start", shape), step_noise(noise, stream, steps, shape)
        copies = 1 if weight is None else 2

        def speed(time: float) -> Tensor:
            noisy = now.repeat(copies, 1, 1)
            clean = network.head(noisy, torch.full((1,), time, device=now.device), states).float()
            found = (clean - noisy) / max(1 - time, 0.05)
            return found if weight is None else mixed(found, weight)

        for time, after in pairwise(times):
            move = (after - time) * ((1 + time) * speed(time) - now)
            now = now + move + math.sqrt(2 * (1 - time) * (after - time)) * next(added)
        return (now + 0.05 * speed(0.95)).sign()

    for index in range(count):
        mask = None if index else network.sight(x.shape[1], x.device)
        states = network(x, mask, read, caches)[:, -group:]
        states = states + network.state_position.weight[index * group : (index + 1) * group]
        read, weight = read + x.shape[1], sampling.guidance.weight(index / count)
        if weight == 1:
            halves = drawn(states[:batch], f"group/{index}", None), drawn(states[batch:], f"group/{index}/free", None)
        else:
            halves = (drawn(states, f"group/{index}", weight),) * 2
        groups.append(halves[0])
        x = network.token_in(torch.cat(halves))
    bits = network.grid(torch.cat(groups, dim=1))
    return model.tokenizer.network.ids(bits).flatten(1), None
