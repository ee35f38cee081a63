"""Distilled LlamaGen (arXiv:2412.17153): all tokens in one pass from noise, or in two."""

from __future__ import annotations

from typing import Self

import torch
from torch import Tensor

from arbench.protocols import Card, Generated, LoadSpec, Noise, Probe, Sampling, Tokenizer

from ...layers.checkpoint import build_and_load, compile_blocks, device_of
from ...layers.config import from_upstream
from ...layers.generator import RecordedGenerator, check_form, of_kind
from ...layers.tokenizer import from_signed
from ...tokenizers.llamagen.adapter import LlamaGenVQ
from .llamagen_network import IGNORED, TRAINING_ONLY, Config, Network, official_names
from .student import few_steps


class DistilledLlamaGen(RecordedGenerator):
    """`Generator` of images: its last tokens are vectors of no codebook. `steps` are 1 or 2."""

    network: Network
    tokenizer: LlamaGenVQ

    @classmethod
    def load(cls, card: Card, spec: LoadSpec, tokenizer: Tokenizer | None) -> Self:
        config = from_upstream(Config, card.config, TRAINING_ONLY)
        tokenizer = of_kind(card, tokenizer, LlamaGenVQ, "a LlamaGen tokenizer")
        theirs = tuple(tokenizer.network.quantize.embedding.weight.shape)
        check_form(card, tokenizer, "codes and channels", theirs, (config.vocab_size, config.codebook_dim))
        network = build_and_load(lambda: Network(config), card, spec, names=official_names, ignored=IGNORED)
        network.place(device_of(spec), getattr(torch, spec.dtype))
        compile_blocks(spec, network.blocks)
        return cls(card, network, tokenizer, spec)

    def draw(self, noise: Noise, sampling: Sampling, probe: Probe, labels: Tensor) -> Generated:
        config = self.network.config
        starts = (0, config.second)[: sampling.steps or 1]
        vectors = few_steps(
            lambda x, first: self.network.predict(labels, x, first),
            noise.normal("tokens", (config.block_size, config.codebook_dim)),
            self.tokenizer.network.quantize.codes,
            starts,
            config.split,
            probe=probe,
        )
        with probe("decode"):
            images = from_signed(self.tokenizer.network.render(vectors))
        return Generated(images=images, outer_steps=len(starts), forwards=len(starts))
