"""HART's sampling loop: scale after scale, then codes and diffused residual of the last map."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor

from arbench.errors import Unsupported
from arbench.protocols import NO_PROBE, Noise, Probe, Sampling

from ...layers.attention import KVCache
from ...layers.diffusion_head import Step, reverse_steps, sample_tokens, spaced
from ...layers.quantize import MultiScaleQuantizer
from ...layers.sampling import guided_steps, mix_guidance, token_probabilities
from ...tokenizers.hart.network import RESIDUAL_SCALE
from .network import Config, Network, Text

DRAWN_AT_ONCE = 2**24
"""Logits that are filtered and drawn from at once."""


def with_null(captions: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """The doubled batch of guidance: features of zero with only the first position marked as text come second."""
    null = torch.zeros_like(mask)
    null[:, 0] = 1
    return torch.cat((captions, torch.zeros_like(captions))), torch.cat((mask, null))


def class_captions(labels: Tensor, config: Config) -> tuple[Tensor, Tensor]:
    """Features (B, T, D) and mask (B, T) of captions that only name a class: its one-hot in D at the first position.

    For networks trained on class labels (B,) in place of text; other positions are zero and not marked.
    """
    captions = F.one_hot(labels, config.context_dim).float().unsqueeze(1)
    captions = F.pad(captions, (0, 0, 0, config.context_token - 1))
    mask = torch.zeros(captions.shape[:2], dtype=torch.int64, device=labels.device)
    mask[:, 0] = 1
    return captions, mask


@dataclass(frozen=True, slots=True)
class Knobs:
    """The family's own settings: see the card's `extra`."""

    more_smooth: bool = False
    residual: bool = True
    last_scale_iterations: int = 1

    @classmethod
    def of(cls, sampling: Sampling, config: Config) -> Self:
        knobs = cls(**sampling.extra)
        most = config.lengths[-1]
        fits = type(knobs.last_scale_iterations) is int and 1 <= knobs.last_scale_iterations <= most
        if not fits or type(knobs.more_smooth) is not bool or type(knobs.residual) is not bool:
            raise Unsupported(
                f"HART cannot sample with {knobs}",
                f"more_smooth and residual are true or false, last_scale_iterations is 1 to {most}",
                "change `extra`",
            )
        return knobs


def default_top_k(scale: int) -> int:
    """Upstream's own, whatever the caller asks of it."""
    return 600 if scale < 7 else 300


def draw_codes(
    logits: Tensor,
    codebook: Tensor,
    sampling: Sampling,
    noise: Noise,
    scale: int,
    progress: float,
    *,
    smooth: bool,
    start: int = 0,
) -> tuple[Tensor, Tensor]:
    """Ids (B, n) and what the map takes for them (B, n, C), from logits (B, n, V) of a scale, from place `start` on.

    With `smooth` the map takes a Gumbel-softmax mixture of the codes (V, C), sharper as `progress` grows.
    """
    rows, _, vocabulary = logits.shape
    sampling = sampling.model_copy(update={"top_k": sampling.top_k or default_top_k(scale)})
    sharpness = (1 + progress) / max(0.27 * (1 - 0.95 * progress), 0.005)
    ids, features = [], []
    for part in logits.split(max(1, DRAWN_AT_ONCE // (rows * vocabulary)), dim=1):
        probabilities = token_probabilities(part, sampling, reach=True)
        ids.append(noise.categorical(probabilities, f"scale/{scale}", start=start))
        if smooth:
            count = part.shape[1] * vocabulary
            uniform = noise.uniform(f"smooth/{scale}", count, start * vocabulary).clamp(min=2.0**-54)
            gumbel = -torch.log(-torch.log(uniform)).float().reshape(part.shape)
            mixture = (probabilities.log() * sharpness + gumbel * (sharpness / (1 + progress))).softmax(-1)
            features.append(mixture @ codebook)
        else:
            features.append(F.embedding(ids[-1], codebook))
        start += part.shape[1]
    return torch.cat(ids, dim=1), torch.cat(features, dim=1)


def portions(order: Tensor, iterations: int) -> Iterator[Tensor]:
    """Places (B, m) of the last map that each iteration fills, ascending; `order` (B, n) is filled from its end.

    After iteration i a share cos(pi / 2 (i + 1) / iterations) of the places is left.
    """
    left = order.shape[1]
    for iteration in range(iterations):
        keep = 0
        if iteration < iterations - 1:
            share = math.cos(math.pi / 2 * (iteration + 1) / iterations)
            keep = max(1, min(left - 1, math.floor(order.shape[1] * share)))
        yield order[:, keep:left].sort(dim=1).values
        left = keep


def taken(x: Tensor, places: Tensor) -> Tensor:
    """(B, m, C): the rows of `x` (B, n, C) at `places` (B, m)."""
    return x.gather(1, places.unsqueeze(-1).expand(-1, -1, x.shape[-1]))


def generate(
    network: Network,
    quantizer: MultiScaleQuantizer,
    captions: Tensor,
    mask: Tensor,
    sampling: Sampling,
    noise: Noise,
    *,
    caches: Sequence[KVCache] | None = None,
    order: Tensor | None = None,
    probe: Probe = NO_PROBE,
) -> tuple[tuple[Tensor, ...], Tensor, int]:
    """Ids (B, side^2) of every scale, the feature map (B, C, H, W) they and the residual give, and forward passes.

    `captions` (B, T, D) are features of the text encoder and `mask` (B, T) is 1 where there is text. The guidance
    weight of scale k of K is the schedule's at k / (K - 1); the last scale has that of the one before. While guidance
    is on, conditional and unconditional sequences go as one batch of 2B; once it is off, the conditional half continues
    alone. `order` (B, n) is in which places of the last map are filled, from its end; drawn if there are iterations.
    """
    config, batch, scales = network.config, len(captions), len(network.config.patch_nums)
    knobs = Knobs.of(sampling, config)
    guided = guided_steps(sampling.guidance, scales)
    if guided:
        captions, mask = with_null(captions, mask)
    if caches is None or caches[0].rows < len(captions):
        caches = network.allocate(len(captions))
    with probe("condition"):
        text, levels = network.read(captions, mask), network.levels()
    f_hat = quantizer.start(batch)
    drawn: list[Tensor] = []
    for scale in range(scales - 1):
        with probe("ar" if scale else "prefill", index=scale, tokens=config.patch_nums[scale] ** 2):
            text = text.first(2 * batch if scale < guided else batch)
            if scale:
                x = network.features_in(quantizer.next_input(f_hat, scale - 1).flatten(2).transpose(1, 2))
                x, rotations = x.repeat(len(text.states) // batch, 1, 1), network.map_rotations(text, scale)
            else:
                x, rotations = text.states, network.caption_rotations(text)
            states = network(x + levels[scale], text, rotations, config.starts[scale], caches)
            logits = network.logits(states if scale else states[:, -1:], text)
            progress = scale / (scales - 1)
            if scale < guided:
                logits = mix_guidance(logits, sampling.guidance.weight(progress))
            codebook = quantizer.codebook.codes
            ids, codes = draw_codes(logits, codebook, sampling, noise, scale, progress, smooth=knobs.more_smooth)
            drawn.append(ids)
            f_hat = f_hat + quantizer.contribution(as_map(codes), scale)
    text = text.first(2 * batch if scales - 1 < guided else batch)
    if order is None:
        order = torch.arange(config.lengths[-1], device=f_hat.device).expand(batch, -1)
        if knobs.last_scale_iterations > 1:
            order = noise.permutation("order", config.lengths[-1])
    x = network.features_in(quantizer.next_input(f_hat, scales - 2).flatten(2).transpose(1, 2)) + levels[-1]
    ids, codes = draw_last(network, quantizer, x, text, order, sampling, noise, knobs, caches, probe)
    rows = len(text.states) // batch
    forwards = scales - 1 + min(guided, scales - 1) + knobs.last_scale_iterations * rows
    return (*drawn, ids), f_hat + as_map(codes), forwards


def draw_last(
    network: Network,
    quantizer: MultiScaleQuantizer,
    x: Tensor,
    text: Text,
    order: Tensor,
    sampling: Sampling,
    noise: Noise,
    knobs: Knobs,
    caches: Sequence[KVCache],
    probe: Probe,
) -> tuple[Tensor, Tensor]:
    """Ids (B, n) of the last scale and what is added to the map (B, n, C): codes plus the diffused residual.

    `x` (B, n, width) is the input of the scale; `text` is doubled if it is guided.
    """
    config, batch, last = network.config, len(x), len(network.config.patch_nums) - 1
    copies = len(text.states) // batch
    progress = (last - 1) / last  # upstream keeps the ratio of the scale before
    weight = sampling.guidance.weight(progress) if copies == 2 else None
    rotations = network.map_rotations(text, last)  # (2, rows, 1, n, D)
    steps = residual_steps(config, sampling)
    ids = torch.zeros_like(order)
    added = x.new_zeros(batch, config.lengths[-1], config.z_channels)
    done = 0
    for iteration, places in enumerate(portions(order, knobs.last_scale_iterations)):
        with probe("ar", index=last + iteration, tokens=places.shape[1]):
            turned = rotations
            if knobs.last_scale_iterations > 1:
                where = places.repeat(copies, 1)[None, :, None, :, None]
                turned = rotations.gather(3, where.expand(2, -1, 1, -1, rotations.shape[-1]))
            given = taken(x, places).repeat(copies, 1, 1)
            states = network(given, text, turned, config.starts[last] + done, caches)
            logits = network.logits(states, text)
            if weight is not None:
                logits = mix_guidance(logits, weight)
            codebook = quantizer.codebook.codes
            new, codes = draw_codes(
                logits, codebook, sampling, noise, last, progress, smooth=knobs.more_smooth, start=done
            )
            if knobs.residual:
                with probe("inner", index=iteration, tokens=places.shape[1]):
                    given = network.residual_states(states, quantizer.codebook.lookup(new).repeat(copies, 1, 1))
                    codes = codes + draw_residual(network, steps, given, noise, f"residual/{iteration}", weight)
            ids.scatter_(1, places, new)
            added.scatter_(1, places.unsqueeze(-1).expand_as(codes), codes)
            done += places.shape[1]
    return ids, added


def draw_residual(
    network: Network, steps: Sequence[Step], states: Tensor, noise: Noise, stream: str, weight: float | None
) -> Tensor:
    """(B, n, C) given embedded states (B, n, W), doubled if there is a guidance weight."""
    if weight == 2.0:  # upstream's head takes its number for this weight, 1, to mean "no guidance"
        states, weight = states.chunk(2)[0], None
    return RESIDUAL_SCALE * sample_tokens(network.residual_head, steps, states, noise, stream, weight=weight, clip=True)


def residual_steps(config: Config, sampling: Sampling) -> tuple[Step, ...]:
    return reverse_steps(spaced(sampling.inner_steps or int(config.num_sampling_steps)))


def as_map(codes: Tensor) -> Tensor:
    """(B, C, h, w) of the codes (B, h * w, C) of a square map."""
    side = math.isqrt(codes.shape[1])
    return codes.transpose(1, 2).reshape(len(codes), -1, side, side)
