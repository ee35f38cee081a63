"""FlexVAR (arXiv:2502.20313): next-scale prediction in which every scale is a picture of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Self

import torch
from torch import Tensor

from arbench.errors import InputError
from arbench.protocols import (
    NO_PROBE,
    Card,
    Codes,
    Generated,
    Guidance,
    LoadSpec,
    Noise,
    Probe,
    Request,
    Sampling,
    Tokenizer,
)
from arbench.seeds import Greedy

from ...layers.attention import KVCache
from ...layers.checkpoint import build_and_load, compile_passes, device_of, with_state
from ...layers.config import from_upstream
from ...layers.generator import CachedGenerator, check_form, class_labels, of_kind
from ...layers.multiscale import split
from ...layers.sampling import check_replayable, draw_tokens, guided_steps, mix_guidance
from ...tokenizers.flexvar.adapter import FlexVARTokenizer, restored
from ...tokenizers.flexvar.network import Network as TokenizerNetwork
from .network import IGNORED, TRAINING_ONLY, Config, Network, official_names

FREE = frozenset({1, 2, 3, 4, 5, 6, 8, 10, 13, 16, 23, 24, 32})
"""Sides that upstream draws at random; scales of any other, and those above `LARGEST`, take the most likely codes."""
LARGEST = 16
RAMP = 9
"""The guidance of a linear schedule is whole at this scale, or at the last of fewer; behind it, it goes on growing."""


def generate(
    network: Network,
    tokenizer: TokenizerNetwork,
    labels: Tensor,
    sampling: Sampling,
    noise: Noise,
    sides: Sequence[int],
    *,
    largest: int = LARGEST,
    caches: Sequence[KVCache] | None = None,
    probe: Probe = NO_PROBE,
) -> tuple[tuple[Tensor, ...], int]:
    """Ids (B, side^2) of every scale, and how many forward passes they took.

    While guidance is on, conditional and unconditional sequences go as one batch of 2B.
    """
    batch, count = len(labels), len(sides)
    guided = guided_steps(sampling.guidance, count)
    if guided:
        labels = torch.cat((labels, torch.full_like(labels, network.config.num_classes)))
    if caches is None or caches[0].rows < len(labels):
        caches = network.allocate(len(labels))
    with probe("condition"):
        condition, positions = network.class_table(labels), network.positions(sides)
        modulations = network.modulate(condition)
        x = condition.unsqueeze(1) + network.first_position + positions[0]
    levels: list[Tensor] = []
    start = 0
    for scale, side in enumerate(sides):
        with probe("ar" if scale else "prefill", index=scale, tokens=side * side):
            rows = 2 * batch if scale < guided else batch
            if scale:
                fed = tokenizer.next_input(levels[-1], side).repeat(rows // batch, 1, 1)
                x = network.features_in(fed) + positions[scale]
            states = network(x, [each[:rows] for each in modulations], start, caches)
            logits = network.logits(states, condition[:rows])
            if scale < guided:
                progress = scale / max(min(count - 1, RAMP), 1) if side <= largest else 1.0
                logits = mix_guidance(logits, sampling.guidance.weight(progress))
            free = side in FREE and side <= largest
            used = sampling if free else sampling.model_copy(update={"top_k": 1})
            levels.append(draw_tokens(logits, used, noise, f"scale/{scale}", reach=True))
        start += side * side
    return tuple(levels), count + guided


class FlexVAR(CachedGenerator):
    """`Generator` and `Scores`. Scales are those of the card; sides that upstream does not draw are the most likely."""

    network: Network
    tokenizer: FlexVARTokenizer

    @classmethod
    def load(cls, card: Card, spec: LoadSpec, tokenizer: Tokenizer | None) -> Self:
        config = from_upstream(Config, card.config, TRAINING_ONLY)
        # the tokenizer's codes are the input of every scale
        tokenizer = of_kind(card, tokenizer, FlexVARTokenizer, "FlexVAR's tokenizer")
        theirs = tuple(tokenizer.network.quantize.embedding.weight.shape)
        check_form(card, tokenizer, "codes and channels", theirs, (config.vocab_size, config.Cvae))
        whole = replace(spec, dtype="float32")  # the head stays so; `place` casts the blocks
        network = build_and_load(lambda: Network(config), card, whole, names=official_names, ignored=IGNORED)
        network.place(device_of(spec), getattr(torch, spec.dtype))
        compile_passes(spec, network, network.logits)
        return cls(card, network, tokenizer, spec)

    def draw(self, noise: Noise, sampling: Sampling, probe: Probe, labels: Tensor) -> Generated:
        sides = self.network.config.patch_nums
        caches = self.caches(len(labels), sampling)
        levels, forwards = generate(
            self.network, self.tokenizer.network, labels, sampling, noise, sides, caches=caches, probe=probe
        )
        return Generated(codes=Codes(ids=levels), outer_steps=len(levels), forwards=forwards)

    @torch.inference_mode()
    def logits(self, request: Request, codes: Codes) -> Tensor:
        sides = self.network.config.patch_nums
        fed = teacher_forcing(self.tokenizer.network, codes.ids, sides)
        return self.network.score_scales(class_labels(self.card, request), fed, sides)


def teacher_forcing(tokenizer: TokenizerNetwork, levels: Sequence[Tensor], sides: Sequence[int]) -> list[Tensor]:
    """What each scale but the first is fed, given the ids of all."""
    return [tokenizer.next_input(ids, side) for ids, side in zip(levels[:-1], sides[1:], strict=True)]


def upstream_sampling(settings: Mapping[str, Any]) -> Sampling:
    """Canonical sampling from the arguments of upstream's `autoregressive_infer_cfg`.

    Its `(1 + t) cond - t uncond` with a growing t is canonical guidance from 1 to 1 + cfg; with `used_llamagen_cfg`
    it is constant and canonical.
    """
    cfg, top_p = settings.get("cfg", 1.5), settings.get("top_p", 0.0)
    constant = settings.get("used_llamagen_cfg", False)
    return Sampling(
        guidance=Guidance(scale=cfg) if constant else Guidance(scale=1 + cfg, start=1.0, schedule="linear"),
        top_k=max(settings.get("top_k", 0), 0) or None,
        top_p=top_p if 0 < top_p < 1 else None,
    )


SETTINGS = frozenset({"greedy", "cfg", "top_k", "top_p", "infer_patch_nums", "max_pn", "used_llamagen_cfg"})


def replay(
    config: Mapping[str, Any],
    state: dict[str, Tensor],
    tokenizer: tuple[Mapping[str, Any], dict[str, Tensor]] | None = None,
) -> Callable[[str, Mapping[str, Any], Mapping[str, Tensor]], dict[str, Tensor]]:
    """A function that repeats a recorded probe (name, settings, inputs) with the networks of a recording."""
    if tokenizer is None:
        raise InputError("a FlexVAR generator cannot be replayed alone", "the recording names no tokenizer", "")
    ours = from_upstream(Config, config, TRAINING_ONLY)
    network = with_state(
        lambda: Network(ours), state, card_name="FlexVAR's FlexVAR", names=official_names, ignored=IGNORED
    )
    vae = restored(*tokenizer)

    @torch.inference_mode()
    def call(probe: str, settings: Mapping[str, Any], inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        labels, sides = inputs["class_ids"], tuple(settings.get("infer_patch_nums", ours.patch_nums))
        network.config = replace(ours, patch_nums=sides)
        if probe == "logits":
            fed = teacher_forcing(vae, split(inputs["tokens"], sides), sides)
            return {"logits": network.score_scales(labels, fed, sides)}
        if probe == "generate":
            check_replayable(settings, SETTINGS)
            sampling, noise = upstream_sampling(settings), Greedy(len(labels))
            largest = settings.get("max_pn", LARGEST)
            levels, _ = generate(network, vae, labels, sampling, noise, sides, largest=largest)
            return {"tokens": torch.cat(levels, dim=1), "images": vae.decode(levels[-1])}
        raise InputError(f"no probe {probe!r} for a FlexVAR generator", "known: logits, generate", "")

    return call
