"""Distilled VAR (arXiv:2412.17153): all scales in one pass from noise, or in two."""

from __future__ import annotations

from dataclasses import replace
from typing import Self

import torch
from torch import Tensor

from arbench.protocols import Card, Generated, LoadSpec, Noise, Probe, Sampling, Tokenizer

from ...layers.checkpoint import build_and_load, compile_blocks, device_of
from ...layers.config import from_upstream
from ...layers.generator import RecordedGenerator, check_form, of_kind
from ...layers.quantize import MultiScaleQuantizer
from ...layers.tokenizer import from_signed
from ...tokenizers.var.adapter import VARTokenizer
from .student import few_steps
from .var_network import IGNORED, TRAINING_ONLY, Config, Network, official_names


def summed(quantizer: MultiScaleQuantizer, vectors: Tensor) -> Tensor:
    """`f_hat` (B, C, H, W) of the token vectors (B, L, C) of all scales."""
    f_hat = quantizer.start(len(vectors))
    for scale, (side, part) in enumerate(
        zip(quantizer.sides, vectors.split([side * side for side in quantizer.sides], dim=1), strict=True)
    ):
        f_hat = f_hat + quantizer.contribution(part.mT.unflatten(-1, (side, side)), scale)
    return f_hat


class DistilledVAR(RecordedGenerator):
    """`Generator` of images: its last tokens are vectors of no codebook. `steps` are 1 or 2."""

    network: Network
    tokenizer: VARTokenizer

    @classmethod
    def load(cls, card: Card, spec: LoadSpec, tokenizer: Tokenizer | None) -> Self:
        config = from_upstream(Config, card.config, TRAINING_ONLY)
        tokenizer = of_kind(card, tokenizer, VARTokenizer, "a VAR tokenizer")
        form = (config.patch_nums, config.vocab_size, config.z_channels)
        check_form(card, tokenizer, "sides, codes and channels", tokenizer.quantizer.form, form)
        whole = replace(spec, dtype="float32")  # the head stays so; `place` casts the blocks
        network = build_and_load(lambda: Network(config), card, whole, names=official_names, ignored=IGNORED)
        network.place(device_of(spec), getattr(torch, spec.dtype))
        compile_blocks(spec, network.blocks)
        return cls(card, network, tokenizer, spec)

    def draw(self, noise: Noise, sampling: Sampling, probe: Probe, labels: Tensor) -> Generated:
        config, quantizer = from_upstream(Config, self.card.config, TRAINING_ONLY), self.tokenizer.quantizer
        start = noise.normal("tokens", (sum(side * side for side in config.patch_nums), config.z_channels))
        scales = (0, config.second)[: sampling.steps or 1]
        vectors = few_steps(
            lambda x, first: self.network.predict(labels, x, first),
            start,
            quantizer.codebook.codes,
            [self.network.start_of(scale) for scale in scales],
            self.network.start_of(config.split),
            probe=probe,
        )
        with probe("decode"):
            images = from_signed(self.tokenizer.network.render(summed(quantizer, vectors)))
        return Generated(images=images, outer_steps=len(scales), forwards=len(scales))
