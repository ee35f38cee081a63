"""The plain sampling loop of FractalGen: generators within generators, each patch of one an image of the next."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
from cached_loops import Drawn, grown, mixed
from torch import Tensor

from arbench.adapters.hybrid.fractalgen.adapter import Call, normalised, pixels
from arbench.adapters.hybrid.fractalgen.network import CausalLevel, MaskedLevel, PixelHead, from_patches
from arbench.adapters.layers.masked import unknown_after
from arbench.protocols import Guidance, Noise, Request, Sampling
from arbench.spec.sampling import COLDEST


def fractalgen(model: Any, request: Request, sampling: Sampling, noise: Noise) -> Drawn:
    """Images (B, 3, H, W) from 0 to 1; both halves of guidance go down all levels."""
    network, knobs = model.network, model.card.native.extra | sampling.extra
    lower = [knobs.get("lower_steps", 1)] * (network.config.levels - 1)
    call = Call(noise, sampling.temperature, knobs["filter_threshold"], (sampling.steps or 1, *lower))
    made = _images(network, call, list(network.condition(request.labels, guided=True)), sampling.guidance, 0)
    return None, pixels(made).clamp(0, 1)


def _images(fractal: Any, call: Call, given: list[Tensor], guidance: Guidance, level: int) -> Tensor:
    """Normalised images (N, 3, s, s) of conditions (2N, W), the conditional half first."""
    if isinstance(fractal, PixelHead):
        return normalised(_pixels(fractal, call, given[0], guidance.scale))[..., None, None]
    net = fractal.generator
    assert isinstance(net, CausalLevel | MaskedLevel)
    by = _causal if isinstance(net, CausalLevel) else _masked
    return from_patches(by(fractal, net, call, given, guidance, level), net.side)


def _masked(fractal: Any, net: Any, call: Call, given: list[Tensor], guidance: Guidance, level: int) -> Tensor:
    rows = len(given[0]) // 2
    pixel = None
    if net.guided:
        pixel = normalised(_pixels(net.guide, call, given[0], guidance.scale)).repeat(2, 1)
    order = call.order(rows, net.count, level)
    patches = torch.zeros(rows, net.count, 3 * net.side**2, device=order.device)
    unknown = torch.ones(rows, net.count, dtype=torch.bool, device=order.device)
    for before, after in pairwise(unknown_after(min(call.iterations[level], net.count), net.count)):
        wanted = order[:, after:before]
        states = net(patches.repeat(2, 1, 1), unknown.repeat(2, 1), given, pixel)
        picked = wanted.repeat(2, 1)[:, :, None]
        conditions = [each.gather(1, picked.expand(-1, -1, each.shape[-1])).flatten(0, 1) for each in states]
        weight = guidance.weight((net.count - max(1, after)) / net.count)
        below = _images(fractal.next, call, conditions, Guidance(scale=weight), level + 1)
        found = below.flatten(1).reshape(rows, before - after, -1)
        patches = patches.scatter(1, wanted.unsqueeze(-1).expand_as(found), found)
        unknown = unknown.scatter(1, wanted, False)
    return patches


def _causal(fractal: Any, net: Any, call: Call, given: list[Tensor], guidance: Guidance, level: int) -> Tensor:
    caches, x = grown(len(net.allocate(0))), net.condition_in(given[0]).unsqueeze(1)
    patches: list[Tensor] = []
    for index in range(net.count):
        states = net(x, index, caches)[:, 0]
        weight = guidance.weight((index + 1) / net.count)
        patches.append(_images(fractal.next, call, [states], Guidance(scale=weight), level + 1).flatten(1))
        x = net.patch_in(patches[-1]).repeat(2, 1).unsqueeze(1)
    return torch.stack(patches, dim=1)


def _pixels(head: PixelHead, call: Call, states: Tensor, weight: float) -> Tensor:
    """(N, 3) values of pixels with states (2N, W), a channel in a pass."""
    caches, x = grown(len(head.blocks)), head.state_in(states).unsqueeze(1)
    batch, rows, values = call.noise.batch, len(states) // 2, []
    for channel in range(3):
        logits = head.step(channel, x, caches) / max(call.temperature, COLDEST)
        chances = mixed(call.filtered(logits), weight).softmax(-1).reshape(batch, -1, 256)
        values.append(call.noise.categorical(chances, "pixels", call.drawn).reshape(rows))
        call.drawn += rows // batch
        x = head.codes[channel](values[-1].unsqueeze(1)).repeat(2, 1, 1)
    return torch.stack(values, dim=1)
