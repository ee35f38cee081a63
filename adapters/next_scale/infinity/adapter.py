"""Infinity (arXiv:2412.04431): captions to images, the bits of a scale drawn together."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor

from arbench.errors import InputError
from arbench.protocols import (
    NO_PROBE,
    Card,
    Codes,
    Generated,
    LoadSpec,
    Noise,
    Probe,
    Request,
    Sampling,
    Tokenizer,
)
from arbench.seeds import Greedy

from ...layers.attention import KVCache
from ...layers.captions import request_captions
from ...layers.checkpoint import build_and_load, compile_blocks, device_of, with_state
from ...layers.config import from_upstream
from ...layers.generator import CachedGenerator, check_form, of_kind
from ...layers.sampling import check_replayable, draw_tokens, guided_steps, mix_guidance
from ...tokenizers.infinity.adapter import InfinityTokenizer
from .network import IGNORED, TRAINING_ONLY, Config, Network, official_names
from .places import Size


def text_first(captions: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Captions (B, T, D) with their text in front, its order kept, and the boolean mask (B, T) of it."""
    order = mask.bool().long().argsort(dim=1, descending=True, stable=True)
    return captions.gather(1, order.unsqueeze(-1).expand_as(captions)), mask.bool().gather(1, order)


class Scales:
    """The maps between bits at the tokenizer's places and features at the transformer's."""

    def __init__(self, config: Config, sizes: Sequence[Size]) -> None:
        self.bits, self.fold = config.codebook_dim, 2 if config.apply_spatial_patchify else 1
        self.sizes = tuple(sizes)
        self.fine = tuple((height * self.fold, width * self.fold) for height, width in sizes)

    def unfolded(self, bits: Tensor, scale: int) -> Tensor:
        """Bits (B, h * w, d) at the tokenizer's places, of those (B, n, channels) at the transformer's."""
        if self.fold == 1:
            return bits
        grid = bits.mT.unflatten(-1, self.sizes[scale])
        return F.pixel_shuffle(grid.float(), 2).flatten(2).mT.to(bits.dtype)

    def codes(self, bits: Tensor, scale: int) -> Tensor:
        """(B, d, H, W) what bits (B, h * w, d) of a scale add at the finest size."""
        signs = ((2.0 * bits - 1) / self.bits**0.5).mT.unflatten(-1, self.fine[scale])
        return signs if self.fine[scale] == self.fine[-1] else F.interpolate(signs, size=self.fine[-1], mode="bilinear")

    def next_features(self, total: Tensor, scale: int) -> Tensor:
        """(B, n, channels) what a scale is fed, of the sum (B, d, H, W) of those before it."""
        small = total
        if self.fine[scale] != self.fine[-1]:
            small = F.interpolate(total, size=self.fine[scale], mode="bilinear")
        if self.fold == 2:
            small = F.pixel_unshuffle(small, 2)
        return small.flatten(2).mT


def generate(
    network: Network,
    captions: Tensor,
    valid: Tensor,
    sizes: Sequence[Size],
    weights: Sequence[float],
    samplings: Sequence[Sampling],
    noise: Noise,
    *,
    inserted: Sequence[int] = (),
    on_logits: bool = True,
    caches: Sequence[KVCache] | None = None,
    probe: Probe = NO_PROBE,
) -> tuple[tuple[Tensor, ...], Tensor, int]:
    """Bits (B, h * w, d) of every scale at the tokenizer's places, their sum (B, d, H, W), and the forward passes.

    `weights` of guidance and `samplings` are those of each scale. Guidance mixes the logits if `on_logits`, and the
    states behind the blocks `inserted`, of which both halves then go on alike.
    """
    batch, scales = len(captions), Scales(network.config, sizes)
    doubled = max((index + 1 for index, weight in enumerate(weights) if weight != 1), default=0)
    if caches is None or caches[0].rows < batch * (2 if doubled else 1):
        caches = network.allocate_for(batch * (2 if doubled else 1), sizes)
    with probe("condition"):
        condition, read, seen, modulations = network.condition(captions, valid, guided=doubled > 0)
        turns = network.turns(sizes, captions.device)
    total, levels, start = torch.zeros((), device=captions.device), [], 0
    x = condition.unsqueeze(1) + network.first_position
    for scale, (height, width) in enumerate(sizes):
        count = height * width
        with probe("ar" if scale else "prefill", index=scale, tokens=count):
            rows = 2 * batch if scale < doubled else batch
            if scale:
                x = network.fed(scales.next_features(total, scale)).repeat(rows // batch, 1, 1)
            x, weight = x[:rows], weights[scale]
            for index, block in enumerate(network.blocks):
                if network.levels_before(index):
                    x = x + network.level_table.weight[scale]
                place = turns[start : start + count]
                x = block(x, modulations[index][:rows], read[:rows], seen[:rows], place, start, caches[index])
                if index in inserted and weight != 1:
                    x = mix_guidance(x, weight).repeat(2, 1, 1)
            if weight != 1 and on_logits:
                logits = mix_guidance(network.logits(x, condition[:rows]), weight)
            else:
                logits = network.logits(x[:batch], condition[:batch])
            pairs = logits.unflatten(-1, (-1, 2)).flatten(1, 2)
            drawn = draw_tokens(pairs, samplings[scale], noise, f"scale/{scale}", reach=True)
            bits = scales.unfolded(drawn.unflatten(1, (count, -1)), scale)
            levels.append(bits)
            total = total + scales.codes(bits, scale)
        start += count
    return tuple(levels), total, len(sizes) + doubled


class Infinity(CachedGenerator):
    """`Generator` of captions: features of the text encoder. `Codes.latents` is the sum of all scales."""

    network: Network
    tokenizer: InfinityTokenizer

    @classmethod
    def load(cls, card: Card, spec: LoadSpec, tokenizer: Tokenizer | None) -> Self:
        config = from_upstream(Config, card.config, TRAINING_ONLY)
        tokenizer = of_kind(card, tokenizer, InfinityTokenizer, "Infinity's tokenizer")
        fine = Scales(config, config.sizes).fine
        theirs = (tokenizer.network.arguments.codebook_dim, tuple(tokenizer.sizes))
        check_form(card, tokenizer, "bits and scales", theirs, (config.codebook_dim, fine))
        whole = replace(spec, dtype="float32")  # the head stays so; `place` casts the blocks
        names = official_names(config)
        network = build_and_load(lambda: Network(config), card, whole, names=names, ignored=IGNORED)
        network.place(device_of(spec), getattr(torch, spec.dtype))
        compile_blocks(spec, network.blocks, dynamic=True)
        return cls(card, network, tokenizer, spec)

    def given(self, request: Request, sampling: Sampling) -> tuple[Tensor | None, ...]:
        config, device = self.network.config, self.network.head.weight.device
        given = request_captions(self.card, request, config.text_maxlen, config.text_channels, device)
        return text_first(*given)

    def example(self, batch: int, sampling: Sampling) -> tuple[Tensor | None, ...]:
        config = self.network.config
        captions = torch.zeros(batch, config.text_maxlen, config.text_channels, device=self.calls.device)
        return captions, torch.ones(captions.shape[:2], dtype=torch.bool, device=captions.device)

    def draw(self, noise: Noise, sampling: Sampling, probe: Probe, captions: Tensor, valid: Tensor) -> Generated:
        sizes = self.network.config.sizes
        guided = guided_steps(sampling.guidance, len(sizes))
        weights = [sampling.guidance.scale if scale < guided else 1.0 for scale in range(len(sizes))]
        caches = self.caches(len(captions), sampling)
        samplings = [sampling] * len(sizes)
        levels, total, forwards = generate(
            self.network, captions, valid, sizes, weights, samplings, noise, caches=caches, probe=probe
        )
        codes = Codes(ids=tuple(bits.flatten(1) for bits in levels), latents=total)
        return Generated(codes=codes, outer_steps=len(sizes), forwards=forwards)


SETTINGS = frozenset({"greedy", "scale_schedule", "cfg_list", "tau_list", "cfg_insertion_layer", "top_k", "top_p"})


def replay(
    config: Mapping[str, Any],
    state: dict[str, Tensor],
    tokenizer: tuple[Mapping[str, Any], dict[str, Tensor]] | None = None,
) -> Callable[[str, Mapping[str, Any], Mapping[str, Tensor]], dict[str, Tensor]]:
    """A function that repeats a recorded probe (name, settings, inputs) with the network of a recording."""
    ours = from_upstream(Config, config, TRAINING_ONLY)
    network = with_state(
        lambda: Network(ours), state, card_name="Infinity's Infinity", names=official_names(ours), ignored=IGNORED
    )

    def score(captions: Tensor, valid: Tensor, sizes: Sequence[Size], tokens: Tensor) -> Tensor:
        scales = Scales(ours, sizes)
        levels = tokens.split([height * width for height, width in scales.fine], dim=1)
        condition, read, seen, modulations = network.condition(captions, valid, guided=False)
        total, parts = torch.zeros(()), [condition.unsqueeze(1) + network.first_position]
        for scale, bits in enumerate(levels[:-1]):
            total = total + scales.codes(bits, scale)
            parts.append(network.fed(scales.next_features(total, scale + 1)))
        level = torch.cat([torch.full((height * width,), scale) for scale, (height, width) in enumerate(sizes)])
        x, turns = torch.cat(parts, dim=1), network.turns(sizes, captions.device)
        for index, block in enumerate(network.blocks):
            if network.levels_before(index):
                x = x + network.level_table(level)
            x = block(x, modulations[index], read, seen, turns, mask=level[:, None] >= level)
        return network.logits(x, condition)

    @torch.inference_mode()
    def call(probe: str, settings: Mapping[str, Any], inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        captions, valid = text_first(inputs["captions"], inputs["caption_mask"])
        sizes = tuple((scale[-2], scale[-1]) for scale in settings["scale_schedule"])
        if probe == "logits":
            return {"logits": score(captions, valid, sizes, inputs["tokens"])}
        if probe == "generate":
            check_replayable(settings, SETTINGS)
            insertion = settings.get("cfg_insertion_layer", [0])
            layers = insertion if isinstance(insertion, list | tuple) else [insertion]
            samplings = [Sampling(temperature=tau) for tau in settings["tau_list"]][: len(sizes)]
            levels, total, _ = generate(
                network,
                captions,
                valid,
                sizes,
                [float(weight) for weight in settings["cfg_list"][: len(sizes)]],
                samplings,
                Greedy(len(captions)),
                inserted=[ours.depth + layer for layer in layers if layer < 0],
                on_logits=0 in layers,
            )
            return {"tokens": torch.cat(levels, dim=1), "latents": total}
        raise InputError(f"no probe {probe!r} for an Infinity generator", "known: logits, generate", "")

    return call
