"""Halton-MaskGIT (Besnier et al., ICLR 2025): masked prediction in the order of a low-discrepancy sequence."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Self

import torch
from torch import Tensor

from arbench.errors import InputError
from arbench.protocols import (
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

from ...layers.checkpoint import build_and_load, compile_passes, with_state
from ...layers.config import from_upstream
from ...layers.generator import RecordedGenerator, check_vocabulary
from ...layers.masked import over_conditional
from ...layers.order import halton_cells
from ...layers.sampling import check_replayable
from ...tokenizers.llamagen import network as tokenizer_network
from .network import IGNORED, TRAINING_ONLY, Config, Network, official_names
from .sampling import Knobs, confident, halton, known_after, plan

STEPS = 32
"""Where neither a request nor its card says how many."""


class HaltonMaskGIT(RecordedGenerator):
    """`Generator`. The native order is Halton's; the knob `sampler` chooses by confidence instead."""

    network: Network
    tokenizer: Tokenizer | None

    @classmethod
    def load(cls, card: Card, spec: LoadSpec, tokenizer: Tokenizer | None) -> Self:
        config = from_upstream(Config, card.config, TRAINING_ONLY)
        check_vocabulary(card, tokenizer, config.codebook_size)
        network = build_and_load(lambda: Network(config), card, spec, names=official_names, ignored=IGNORED)
        compile_passes(spec, network, dynamic=True)  # steps ask for different numbers of tokens
        return cls(card, network, tokenizer, spec)

    def check(self, sampling: Sampling) -> None:
        super().check(sampling)
        plan(Knobs.of(self.card.native, sampling), self._steps(sampling), self.network.config.tokens)

    def _steps(self, sampling: Sampling) -> int:
        return sampling.steps or self.card.native.steps or STEPS

    def draw(self, noise: Noise, sampling: Sampling, probe: Probe, labels: Tensor) -> Generated:
        knobs, steps = Knobs.of(self.card.native, sampling), self._steps(sampling)
        how = halton if knobs.sampler == "halton" else confident
        tokens, forwards, *_ = how(self.network, labels, sampling, noise, knobs, steps=steps, probe=probe)
        return Generated(codes=Codes(ids=(tokens,)), outer_steps=steps, forwards=forwards)


# ---- recordings ------------------------------------------------------------------------------------------------------

SETTINGS = frozenset(
    {
        "greedy",
        "r_temp",
        "randomize",
        "sampler",
        "sched_mode",
        "sched_pow",
        "sm_temp",
        "sm_temp_max",
        "sm_temp_min",
        "step",
        "temp_pow",
        "temp_warmup",
        "top_k",
        "w",
    }
)


def upstream_sampling(settings: Mapping[str, Any]) -> tuple[Sampling, Knobs, int]:
    """Canonical sampling, the family's own knobs and steps from the arguments of upstream's samplers."""
    by_confidence = settings.get("sampler") == "confidence"
    scale, top_k = settings.get("w", 4.0), settings.get("top_k", -1)
    guidance: Guidance = over_conditional(scale, "linear" if by_confidence else "constant")
    if by_confidence:
        if settings.get("randomize", "no") not in ("no", "linear"):
            raise InputError(f"cannot replay randomize {settings['randomize']!r}", "it draws at random", "")
        knobs = Knobs(
            sampler="confidence",
            sm_temp_max=settings.get("sm_temp", 1.0),
            randomize=settings.get("randomize") == "linear" and settings.get("r_temp", 4.5) != 0,
            r_temp=settings.get("r_temp", 4.5),
            sched_mode=settings.get("sched_mode", "arccos"),
        )
    else:
        known = ("sm_temp_min", "sm_temp_max", "temp_pow", "temp_warmup", "randomize")
        knobs = Knobs(**{name: settings[name] for name in known if name in settings})
    return Sampling(guidance=guidance, top_k=top_k if top_k > 0 else None), knobs, settings.get("step", STEPS)


def replay(
    config: Mapping[str, Any],
    state: dict[str, Tensor],
    tokenizer: tuple[Mapping[str, Any], dict[str, Tensor]] | None = None,
) -> Callable[[str, Mapping[str, Any], Mapping[str, Tensor]], dict[str, Tensor]]:
    """A function that repeats a recorded probe (name, settings, inputs) with the network of a recording."""
    ours = from_upstream(Config, config, TRAINING_ONLY)
    network = with_state(
        lambda: Network(ours), state, card_name="Halton-MaskGIT's Transformer", names=official_names, ignored=IGNORED
    )

    @torch.inference_mode()
    def call(probe: str, settings: Mapping[str, Any], inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        if probe == "order":
            return {"order": torch.tensor(halton_cells(settings["input_size"]))}
        labels = inputs["class_ids"]
        if probe == "logits":
            tokens = inputs["tokens"]
            nobody = torch.full_like(labels, ours.nclass)
            return {"logits": network(labels, tokens), "logits_null": network(nobody, tokens)}
        if probe == "generate":
            check_replayable(settings, SETTINGS)
            sampling, knobs, steps = upstream_sampling(settings)
            noise = Greedy(len(labels))
            if knobs.sampler == "confidence":
                tokens, _, left = confident(network, labels, sampling, noise, knobs, steps=steps)
                return {"tokens": tokens, "steps": left} | _images(tokens)
            tokens, _ = halton(network, labels, sampling, noise, knobs, steps=steps, shift=inputs.get("shift"))
            known = torch.tensor((0, *known_after(steps, ours.tokens))).clamp(max=ours.tokens)
            return {"tokens": tokens, "steps": known.diff()} | _images(tokens)
        raise InputError(f"no probe {probe!r} for Halton-MaskGIT", "known: logits, order, generate", "")

    def _images(tokens: Tensor) -> dict[str, Tensor]:
        if tokenizer is None:
            return {}
        theirs, weights = tokenizer
        decoder = with_state(
            lambda: tokenizer_network.Network(theirs),
            weights,
            card_name="LlamaGen's VQModel",
            names=tokenizer_network.official_names,
            ignored=tokenizer_network.IGNORED,
        )
        return {"images": decoder.decode(tokens).clamp(-1, 1)}

    return call
