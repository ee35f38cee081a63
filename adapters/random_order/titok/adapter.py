"""TiTok's generators (Yu et al., NeurIPS 2024): masked tokens, the surest of which are kept at each step."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Self

import torch
from torch import Tensor

from arbench.protocols import (
    NO_PROBE,
    Card,
    Codes,
    Generated,
    Guidance,
    LoadSpec,
    Noise,
    Probe,
    Sampling,
    Tokenizer,
)
from arbench.seeds import Greedy
from arbench.spec.sampling import COLDEST

from ...layers.checkpoint import build_and_load, compile_blocks, with_state
from ...layers.config import from_upstream
from ...layers.generator import RecordedGenerator, check_vocabulary
from ...layers.masked import arccos_ratio, count_of, gumbel, least_confident, over_conditional
from ...layers.replays import Replay, token_replay
from ...layers.sampling import draw_tokens, mix_halves, weights_of_steps
from .network import TRAINING_ONLY, Config, Network, official_names

STEPS = 8
"""Where neither a request nor its card says how many."""


SPARE = 4
"""Tokens beside those that are masked by plan whose logits are made: more are masked where confidences are equal, which
Gumbel noise makes rare. Without noise, where many may be equal, logits of all tokens are made."""


def spread(logits: Tensor, wanted: Tensor, count: int) -> Tensor:
    """(B, count, V): logits (B, n, V) at the places `wanted` (B, n), zeros elsewhere."""
    places = wanted.unsqueeze(-1).expand_as(logits)
    return logits.new_zeros(len(logits), count, logits.shape[-1]).scatter_(1, places, logits)


def generate(
    network: Network,
    labels: Tensor,
    sampling: Sampling,
    noise: Noise,
    *,
    randomness: float = 0.0,
    annealing: bool = False,
    probe: Probe = NO_PROBE,
) -> tuple[Tensor, int]:
    """Tokens (B, N) and how many forward passes they took.

    At each step all masked tokens are drawn with logits at a temperature that falls from `randomness` to 0, then those
    of the least logit, with Gumbel noise of the same temperature, are masked again. With `annealing` logits are divided
    by a number that falls from 1.3 to 0.5 first. The guidance weight of step i of S is the schedule's at i / S.
    """
    config, steps, batch = network.config, sampling.steps or STEPS, len(labels)
    weights = weights_of_steps(sampling.guidance, steps, steps)
    count, guided = config.image_seq_len, steps - weights.count(None)
    unfiltered = sampling.model_copy(update={"temperature": 1.0})
    both = torch.cat((labels, torch.full_like(labels, config.condition_num_classes))) if guided else labels
    tokens = torch.full((len(labels), count), config.mask, dtype=torch.int64, device=labels.device)
    expected = count
    for step, weight in enumerate(weights):
        with probe("ar" if step else "prefill", index=step, tokens=count):
            ratio = (step + 1) / steps
            heat = randomness * (1 - ratio)
            masked = tokens == config.mask
            wanted = None
            if randomness and expected + SPARE < count:
                wanted = (~masked).byte().argsort(dim=1, stable=True)[:, : expected + SPARE]
            if weight is None:
                logits = network(labels, tokens, wanted)
            else:
                if step:
                    asked = None if wanted is None else wanted.repeat(2, 1)
                    halves = network(both, tokens.repeat(2, 1), asked, halves=True).chunk(2)
                else:  # without a class all samples are still the same
                    halves = network(both[: batch + 1], tokens[:1].expand(batch + 1, -1)).split((batch, 1))
                logits = mix_halves(*halves, weight)
            if wanted is not None:
                logits = spread(logits, wanted, count)
            cooled = max(sampling.temperature, COLDEST) * (0.5 + 0.8 * (1 - ratio) if annealing else 1.0)
            if cooled != 1:
                logits = logits / cooled
            drawn = draw_tokens(logits / max(heat, COLDEST), unfiltered, noise, "tokens", start=step * count)
            confidence = logits.gather(-1, drawn.unsqueeze(-1)).squeeze(-1).masked_fill(~masked, torch.inf)
            tokens = torch.where(masked, drawn, tokens)
            if step == steps - 1:
                break
            if heat:
                confidence = confidence + heat * gumbel(noise, "confidence", count, step * count)
            left = math.floor(count * arccos_ratio(ratio))
            expected = max(1, min(expected - 1, left))
            again = (count_of(masked) - 1).clamp(max=left).clamp(min=1)
            tokens = torch.where(least_confident(confidence, again), config.mask, tokens)
    return tokens, steps + guided


class TiTok(RecordedGenerator):
    """`Generator`. Its own knobs are upstream's `randomize_temperature` and `softmax_temperature_annealing`."""

    network: Network
    tokenizer: Tokenizer | None

    @classmethod
    def load(cls, card: Card, spec: LoadSpec, tokenizer: Tokenizer | None) -> Self:
        config = from_upstream(Config, card.config, TRAINING_ONLY)
        check_vocabulary(card, tokenizer, config.codebook_size)
        network = build_and_load(lambda: Network(config), card, spec, names=official_names(config))
        compile_blocks(spec, (network,), dynamic=True)  # steps ask for different numbers of tokens
        return cls(card, network, tokenizer, spec)

    def draw(self, noise: Noise, sampling: Sampling, probe: Probe, labels: Tensor) -> Generated:
        if sampling.steps is None:
            sampling = sampling.model_copy(update={"steps": self.card.native.steps})
        extra = {**self.card.native.extra, **sampling.extra}
        tokens, forwards = generate(
            self.network,
            labels,
            sampling,
            noise,
            randomness=extra["randomize_temperature"],
            annealing=extra["softmax_temperature_annealing"],
            probe=probe,
        )
        return Generated(codes=Codes(ids=(tokens,)), outer_steps=sampling.steps or STEPS, forwards=forwards)


# ---- recordings ------------------------------------------------------------------------------------------------------


def upstream_guidance(scale: float, decay: str, power: float) -> Guidance:
    """Canonical guidance from the arguments of upstream's `generate`."""
    if decay == "power-cosine":
        return Guidance(scale=scale, start=1.0, schedule="cosine_power", power=power)
    return over_conditional(scale, "linear" if decay == "linear" else "constant")


SETTINGS = frozenset(
    {
        "greedy",
        "guidance_scale",
        "guidance_decay",
        "guidance_scale_pow",
        "num_sample_steps",
        "randomize_temperature",
        "softmax_temperature_annealing",
    }
)


def replay(
    config: Mapping[str, Any],
    state: dict[str, Tensor],
    tokenizer: tuple[Mapping[str, Any], dict[str, Tensor]] | None = None,
) -> Replay:
    """A function that repeats a recorded probe (name, settings, inputs) with the network of a recording."""
    kind = "UViT" if config.get("class") == "UViTBert" else "ViT"
    ours = from_upstream(Config, {"model_type": kind, **config}, TRAINING_ONLY)
    network = with_state(lambda: Network(ours), state, card_name="TiTok's generator", names=official_names(ours))

    def logits(settings: Mapping[str, Any], inputs: Mapping[str, Tensor]) -> Tensor:
        return network(inputs["class_ids"], inputs["tokens"])

    def tokens(settings: Mapping[str, Any], inputs: Mapping[str, Tensor]) -> Tensor:
        labels = inputs["class_ids"]
        guidance = upstream_guidance(
            settings.get("guidance_scale", 3.0),
            settings.get("guidance_decay", "constant"),
            settings.get("guidance_scale_pow", 3.0),
        )
        return generate(
            network,
            labels,
            Sampling(guidance=guidance, steps=settings.get("num_sample_steps", STEPS)),
            Greedy(len(labels)),
            randomness=settings.get("randomize_temperature", 4.5),
            annealing=settings.get("softmax_temperature_annealing", False),
        )[0]

    return token_replay("a TiTok generator", SETTINGS, logits, tokens)
