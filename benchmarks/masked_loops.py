"""Plain sampling loops of masked generators: all tokens are read in every pass, and there is nothing to keep."""

from __future__ import annotations

import math
from typing import Any

import torch
from cached_loops import Drawn, mixed
from torch import Tensor

from arbench.adapters.layers.masked import gumbel
from arbench.adapters.layers.sampling import draw_tokens, token_probabilities
from arbench.protocols import Noise, Request, Sampling
from arbench.spec.sampling import COLDEST


def remasked(tokens: Tensor, sure: Tensor, mask: int, left: int) -> Tensor:
    """The `left` least sure of each row (B, N) become masks again."""
    least = sure.topk(left, dim=1, largest=False).values[:, -1:]
    return torch.where(sure <= least, mask, tokens)


def titok(model: Any, request: Request, sampling: Sampling, noise: Noise) -> Drawn:
    network, config, labels = model.network, model.network.config, request.labels
    assert labels is not None
    both = torch.cat((labels, torch.full_like(labels, config.condition_num_classes)))
    steps, count, hottest = sampling.steps or 1, config.image_seq_len, sampling.extra["randomize_temperature"]
    tokens = torch.full((len(labels), count), config.mask, device=labels.device)
    for step in range(steps):
        unknown, progress = tokens == config.mask, (step + 1) / steps
        logits = mixed(network(both, tokens.repeat(2, 1)), sampling.guidance.weight(step / steps))
        heat = max(hottest * (1 - progress), COLDEST)
        drawn = draw_tokens(logits / heat, sampling, noise, "tokens", start=step * count)
        sure = logits.gather(2, drawn.unsqueeze(2)).squeeze(2) + heat * gumbel(noise, "confidence", count, step * count)
        tokens = torch.where(unknown, drawn, tokens)
        left = math.floor(count * math.acos(progress) / (math.pi / 2))
        if step < steps - 1:
            left = max(1, min(left, int(unknown[0].sum()) - 1))
            tokens = remasked(tokens, sure.masked_fill(~unknown, torch.inf), config.mask, left)
    return tokens, None


def maskbit(model: Any, request: Request, sampling: Sampling, noise: Noise) -> Drawn:
    """As TiTok's, of parts of tokens, and what is least probable is masked again."""
    network, config, labels = model.network, model.network.config, request.labels
    assert labels is not None
    both = torch.cat((labels, torch.full_like(labels, config.nclass)))
    steps, count, hottest = (
        sampling.steps or 1,
        config.tokens * config.codebook_splits,
        sampling.extra["randomize_temperature"],
    )
    parts = torch.full((len(labels), count), config.mask, device=labels.device)
    for step in range(steps):
        unknown, progress = parts == config.mask, (step + 1) / steps
        given = parts.reshape(len(labels), config.tokens, -1).repeat(2, 1, 1)
        logits = mixed(network(both, given), sampling.guidance.weight(step / steps))
        chances = token_probabilities(logits.flatten(1, 2), sampling)
        drawn = noise.categorical(chances, "tokens", start=step * count)
        sure = chances.gather(2, drawn.unsqueeze(2)).squeeze(2).log()
        sure = sure + hottest * (1 - progress) * gumbel(noise, "confidence", count, step * count)
        parts = torch.where(unknown, drawn, parts)
        if step < steps - 1:
            left = math.floor(count * math.acos(progress) / (math.pi / 2))
            left = max(1, min(left, int(unknown[0].sum()) - 1))
            parts = remasked(parts, sure.masked_fill(~unknown, torch.inf), config.mask, left)
    return network.whole(parts.reshape(len(labels), config.tokens, -1)), None


def halton(model: Any, request: Request, sampling: Sampling, noise: Noise) -> Drawn:
    """Places in an order that is known before: those of a step are drawn, and stay."""
    network, config, labels = model.network, model.network.config, request.labels
    assert labels is not None
    both = torch.cat((labels, torch.full_like(labels, config.nclass)))
    steps, count, before = sampling.steps or 1, config.tokens, 0
    tokens = torch.full((len(labels), count), config.mask, device=labels.device)
    for step in range(steps):
        share = float(torch.tensor((step + 1) / steps).acos() / (math.pi * 0.5))
        known = max(step + 1, int((1 - share) * count))
        logits = mixed(network(both, tokens.repeat(2, 1)), sampling.guidance.weight(step / max(steps - 1, 1)))
        here = network.order[before:known]
        tokens[:, here] = draw_tokens(logits[:, here], sampling, noise, "tokens", start=before)
        before = known
    return tokens.clamp(max=config.codebook_size - 1), None
