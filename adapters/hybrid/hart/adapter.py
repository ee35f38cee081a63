"""HART (Tang et al., ICLR 2025, arXiv:2410.10812): next-scale codes, and a diffused residual on the last map."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Self

import torch
from torch import Tensor

from arbench.errors import ConfigError, InputError
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

from ...layers.captions import has_captions, request_captions
from ...layers.checkpoint import build_and_load, compile_passes, device_of, with_state
from ...layers.config import from_upstream
from ...layers.generator import CachedGenerator, check_form, of_kind
from ...layers.sampling import check_replayable
from ...tokenizers.hart.adapter import HARTTokenizer, restored
from .network import IGNORED, TRAINING_ONLY, Config, Network, official_names
from .sampling import Knobs, class_captions, generate, residual_steps


class HART(CachedGenerator):
    """`Generator` and `Scores`. Captions are features of the text encoder, in the request or in files it names.

    A card whose condition is the class takes labels as well: the class stands for the caption, see `class_captions`.
    `Codes.latents` is the residual: what is left of the feature map once the codes are taken off.
    """

    network: Network
    tokenizer: HARTTokenizer

    @classmethod
    def load(cls, card: Card, spec: LoadSpec, tokenizer: Tokenizer | None) -> Self:
        config = from_upstream(Config, card.config, TRAINING_ONLY)
        if card.condition == "class" and (card.classes or 0) > config.context_dim:
            raise ConfigError(
                f"{card.name} cannot name {card.classes} classes",
                f"a caption has {config.context_dim} numbers, one for each class",
                "raise context_dim",
            )
        # the tokenizer's quantiser makes the input of every scale
        tokenizer = of_kind(card, tokenizer, HARTTokenizer, "a HART tokenizer")
        form = (config.patch_nums, config.vocab_size, config.z_channels)
        check_form(card, tokenizer, "sides, codes and channels", tokenizer.quantizer.form, form)
        whole = replace(spec, dtype="float32")  # inputs and head stay so; `place` casts the blocks
        network = build_and_load(lambda: Network(config), card, whole, names=official_names(config), ignored=IGNORED)
        network.place(device_of(spec), getattr(torch, spec.dtype))
        compile_passes(spec, network, network.logits)
        compile_passes(spec, network.residual_head.reverse, dynamic=True)  # steps have numbers of their own
        return cls(card, network, tokenizer, spec)

    def check(self, sampling: Sampling) -> None:
        super().check(sampling)
        Knobs.of(sampling, self.network.config)
        residual_steps(self.network.config, sampling)

    def prepare(self, batch: int, sampling: Sampling) -> None:
        self.check(sampling)
        self.network.residual_head.times(residual_steps(self.network.config, sampling))
        super().prepare(batch, sampling)

    def sample(self, request: Request, sampling: Sampling, *, probe: Probe = NO_PROBE) -> Generated:
        self.check(sampling)
        return self.sample_captions(*self._captions(request), request.noise, sampling, probe=probe)

    @torch.inference_mode()
    def sample_captions(
        self, captions: Tensor, mask: Tensor, noise: Noise, sampling: Sampling, *, probe: Probe = NO_PROBE
    ) -> Generated:
        """Images for features (B, T, D) of the text encoder, with `mask` (B, T) 1 where there is text."""
        self.check(sampling)
        return self.calls(self.draw, noise, sampling, probe, captions, mask)

    def draw(self, noise: Noise, sampling: Sampling, probe: Probe, captions: Tensor, mask: Tensor) -> Generated:
        levels, features, forwards = generate(
            self.network,
            self.tokenizer.quantizer,
            captions,
            mask,
            sampling,
            noise,
            caches=self.caches(len(captions), sampling),
            probe=probe,
        )
        steps = len(levels) - 1 + Knobs.of(sampling, self.network.config).last_scale_iterations
        return Generated(codes=self.tokenizer.hybrid(levels, features), outer_steps=steps, forwards=forwards)

    def example(self, batch: int, sampling: Sampling) -> tuple[Tensor | None, ...]:
        config = self.network.config
        captions = torch.zeros(batch, config.context_token, config.context_dim, device=self.calls.device)
        return captions, torch.ones(captions.shape[:2], dtype=torch.int64, device=captions.device)

    @torch.inference_mode()
    def logits(self, request: Request, codes: Codes) -> Tensor:
        captions, mask = self._captions(request)
        return self.network.score(captions, mask, self.tokenizer.quantizer.teacher_forcing(codes.ids))

    def _captions(self, request: Request) -> tuple[Tensor, Tensor]:
        config, device = self.network.config, self.network.head.weight.device
        if self.card.condition == "class" and request.labels is not None and not has_captions(request):
            return class_captions(request.labels, config)
        return request_captions(self.card, request, config.context_token, config.context_dim, device)


def upstream_sampling(settings: Mapping[str, Any]) -> Sampling:
    """Canonical sampling from the arguments of upstream's `autoregressive_infer_cfg`, whose `top_k` has no effect.

    Its `(1 + t) cond - t uncond` with t = cfg * k / (K - 1) is canonical guidance growing from 1 to 1 + cfg.
    """
    top_p = settings.get("top_p", 0.0)
    knobs = Knobs(
        more_smooth=settings.get("more_smooth", False),
        residual=settings.get("final_stage", 0) == 0,
        last_scale_iterations=settings.get("maskgit_iters", 1),
    )
    default = Knobs()
    return Sampling(
        guidance=Guidance(scale=1 + settings.get("cfg_scale", 1.5), start=1.0, schedule="linear"),
        top_p=top_p if 0 < top_p < 1 else None,
        extra={
            name: getattr(knobs, name)
            for name in ("more_smooth", "residual", "last_scale_iterations")
            if getattr(knobs, name) != getattr(default, name)
        },
    )


SETTINGS = frozenset({"greedy", "noise", "cfg_scale", "top_k", "top_p", "more_smooth", "maskgit_iters", "final_stage"})


def replay(
    config: Mapping[str, Any],
    state: dict[str, Tensor],
    tokenizer: tuple[Mapping[str, Any], dict[str, Tensor]] | None = None,
) -> Callable[[str, Mapping[str, Any], Mapping[str, Tensor]], dict[str, Tensor]]:
    """A function that repeats a recorded probe (name, settings, inputs) with the networks of a recording."""
    if tokenizer is None:
        raise InputError("a HART generator cannot be replayed alone", "the recording names no tokenizer", "")
    ours = from_upstream(Config, config, TRAINING_ONLY)
    network = with_state(lambda: Network(ours), state, card_name="HART", names=official_names(ours), ignored=IGNORED)
    vae_config, vae_state = tokenizer
    vae = restored({**vae_config, "v_patch_nums": ours.patch_nums}, vae_state)  # the sampler's list counts

    @torch.inference_mode()
    def call(probe: str, settings: Mapping[str, Any], inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        captions, mask = inputs["captions"], inputs["caption_mask"]
        if probe == "logits":
            levels = torch.split(inputs["tokens"], [side * side for side in ours.patch_nums], dim=1)
            return {"logits": network.score(captions, mask, vae.quantize.teacher_forcing(levels))}
        if probe == "generate":
            check_replayable(settings, SETTINGS)
            sampling, noise, order = upstream_sampling(settings), Greedy(len(captions)), inputs.get("order")
            _refuse_random(sampling, order)
            levels, features, _ = generate(network, vae.quantize, captions, mask, sampling, noise, order=order)
            return {
                "tokens": torch.cat(levels, dim=1),
                "images": (vae.render(features) + 1) / 2,
                "latents": features,
            }
        raise InputError(f"no probe {probe!r} for a HART generator", "known: logits, generate", "")

    return call


def _refuse_random(sampling: Sampling, order: Tensor | None) -> None:
    """Raise InputError for what even a greedy recording drew at random."""
    if sampling.extra.get("more_smooth"):
        raise InputError("cannot replay this generation", "more_smooth mixes codes by random numbers", "")
    if "last_scale_iterations" in sampling.extra and order is None:
        raise InputError("cannot replay this generation", "it fills the last map in an order it does not hold", "")
