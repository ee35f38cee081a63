"""MaskBit (Weber et al., TMLR 2024): masked halves of bit tokens, the surest of which are kept at each step."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Self

import torch
from torch import Tensor

from arbench.errors import InputError
from arbench.protocols import NO_PROBE, Card, Codes, Generated, LoadSpec, Noise, Probe, Sampling, Tokenizer
from arbench.seeds import Greedy

from ...layers.checkpoint import build_and_load, compile_blocks, with_state
from ...layers.config import from_upstream
from ...layers.generator import RecordedGenerator, check_vocabulary
from ...layers.masked import count_of, gumbel, least_confident, over_conditional
from ...layers.sampling import check_replayable, mix_halves, token_probabilities, weights_of_steps
from ...tokenizers.maskbit import network as tokenizer_network
from .network import IGNORED, TRAINING_ONLY, Config, Network, official_names

STEPS = 12
"""Where neither a request nor its card says how many."""
RATIOS: dict[str, Callable[[Tensor], Tensor]] = {
    "root": lambda r: 1 - r**0.5,
    "square": lambda r: 1 - r**2,
    "cosine": lambda r: torch.cos(r * math.pi * 0.5),
    "arccos": lambda r: torch.acos(r) / (math.pi * 0.5),
    "linear": lambda r: 1 - r,
}
"""Name of a schedule -> the share of masked parts at a progress in [0, 1]."""


def left_after(schedule: str, progress: float, count: int, device: torch.device) -> Tensor:
    """() int64: how many of `count` parts the schedule leaves masked, in float32 as upstream has it, at least 1."""
    ratio = RATIOS[schedule](torch.full((), progress, device=device)).clamp(1e-6, 1.0)
    return (ratio * count).floor().long().clamp(min=1)


def generate(
    network: Network,
    labels: Tensor,
    sampling: Sampling,
    noise: Noise,
    *,
    randomness: float = 0.0,
    schedule: str = "arccos",
    annealing: bool = False,
    probe: Probe = NO_PROBE,
) -> tuple[Tensor, int]:
    """Token ids (B, N) and how many forward passes they took.

    At each step all masked parts are drawn, then those of the least log probability, with Gumbel noise whose
    temperature falls from `randomness` to 0, are masked again. With `annealing` the temperature of draws falls from 1.3
    to 0.5. The guidance weight of step i of S is the schedule's at i / S.
    """
    config, steps, batch = network.config, sampling.steps or STEPS, len(labels)
    splits, weights = config.codebook_splits, weights_of_steps(sampling.guidance, steps, steps)
    count, guided = config.tokens * splits, steps - weights.count(None)
    both = torch.cat((labels, torch.full_like(labels, config.nclass))) if guided else labels
    parts = torch.full((batch, config.tokens, splits), config.mask, dtype=torch.int64, device=labels.device)
    for step, weight in enumerate(weights):
        with probe("ar" if step else "prefill", index=step, tokens=config.tokens):
            progress = (step + 1) / steps
            masked = (parts == config.mask).flatten(1)
            if weight is None:
                logits = network(labels, parts)
            else:
                if step:
                    halves = network(both, parts).chunk(2)
                else:  # without a class all samples are still the same
                    halves = network(both[: batch + 1], parts[:1]).split((batch, 1))
                logits = mix_halves(*halves, weight)
            if annealing:
                logits = logits / (0.5 + 0.8 * (1 - progress))
            probabilities = token_probabilities(logits.flatten(1, 2), sampling)
            drawn = noise.categorical(probabilities, "tokens", start=step * count)
            chosen = torch.where(masked, drawn, parts.flatten(1))
            if step < steps - 1:
                sure = probabilities.gather(-1, drawn.unsqueeze(-1)).squeeze(-1).log()
                sure = sure.masked_fill(~masked, torch.inf)
                if randomness:
                    sure = sure + randomness * (1 - progress) * gumbel(noise, "confidence", count, step * count)
                # the last one masked is never left alone: upstream then masks all again
                left = left_after(schedule, progress, count, labels.device)
                again = (count_of(masked) - 1).minimum(left)
                chosen = torch.where(least_confident(sure, again), config.mask, chosen)
            parts = chosen.reshape(batch, -1, splits)
    return network.whole(parts), steps + guided


class MaskBit(RecordedGenerator):
    """`Generator`. Its own knobs are upstream's, see the card."""

    network: Network
    tokenizer: Tokenizer | None

    @classmethod
    def load(cls, card: Card, spec: LoadSpec, tokenizer: Tokenizer | None) -> Self:
        config = from_upstream(Config, card.config, TRAINING_ONLY)
        check_vocabulary(card, tokenizer, config.codebook_size)
        network = build_and_load(lambda: Network(config), card, spec, names=official_names, ignored=IGNORED)
        compile_blocks(spec, (network,))
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
            schedule=extra["mask_schedule_strategy"],
            annealing=extra["use_sampling_annealing"],
            probe=probe,
        )
        return Generated(codes=Codes(ids=(tokens,)), outer_steps=sampling.steps or STEPS, forwards=forwards)


# ---- recordings ------------------------------------------------------------------------------------------------------


def upstream_sampling(settings: Mapping[str, Any]) -> Sampling:
    """Canonical sampling from the arguments of upstream's `sample`."""
    kind = {"none": "constant", "linear": "linear", "cosine": "cosine_power"}
    guidance = over_conditional(
        settings.get("guidance_scale", 3.0),
        kind[settings.get("guidance_annealing", "none")],  # type: ignore[arg-type]
        settings.get("scale_pow", 4.0) if settings.get("guidance_annealing") == "cosine" else 1.0,
    )
    return Sampling(
        guidance=guidance,
        steps=settings.get("num_steps", STEPS),
        temperature=1.0 if settings.get("use_sampling_annealing") else settings.get("softmax_temperature", 1.0),
    )


SETTINGS = frozenset(
    {
        "greedy",
        "guidance_annealing",
        "guidance_scale",
        "mask_schedule_strategy",
        "num_steps",
        "randomize_temperature",
        "scale_pow",
        "softmax_temperature",
        "use_sampling_annealing",
    }
)


def replay(
    config: Mapping[str, Any],
    state: dict[str, Tensor],
    tokenizer: tuple[Mapping[str, Any], dict[str, Tensor]] | None = None,
) -> Callable[[str, Mapping[str, Any], Mapping[str, Tensor]], dict[str, Tensor]]:
    """A function that repeats a recorded probe (name, settings, inputs) with the network of a recording."""
    ours = from_upstream(Config, config, TRAINING_ONLY)
    network = with_state(
        lambda: Network(ours), state, card_name="MaskBit's LFQBert", names=official_names, ignored=IGNORED
    )

    @torch.inference_mode()
    def call(probe: str, settings: Mapping[str, Any], inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        labels = inputs["class_ids"]
        if probe == "logits":
            return {"logits": network(labels, inputs["tokens"])}
        if probe == "generate":
            check_replayable(settings, SETTINGS)
            tokens, _ = generate(
                network,
                labels,
                upstream_sampling(settings),
                Greedy(len(labels)),
                randomness=settings.get("randomize_temperature", 4.5),
                schedule=settings.get("mask_schedule_strategy", "linear"),
                annealing=settings.get("use_sampling_annealing", False),
            )
            return {"tokens": tokens} | _images(tokens)
        raise InputError(f"no probe {probe!r} for a MaskBit generator", "known: logits, generate", "")

    def _images(tokens: Tensor) -> dict[str, Tensor]:
        if tokenizer is None:
            return {}
        theirs, weights = tokenizer
        names = tokenizer_network.official_names(theirs)
        decoder = with_state(
            lambda: tokenizer_network.Network(theirs),
            weights,
            card_name="MaskBit's ConvVQModel",
            names=names,
            ignored=tokenizer_network.IGNORED,
        )
        return {"images": decoder.decode(tokens)}

    return call
