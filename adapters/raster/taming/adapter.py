"""Taming's GPT (Esser et al., CVPR 2021): the class is the first token, the image's tokens follow one by one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

import torch
from torch import Tensor

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
from ...layers.checkpoint import build_and_load, compile_passes, with_state
from ...layers.config import from_upstream
from ...layers.generator import CachedGenerator, check_vocabulary, class_labels
from ...layers.replays import Replay, filters, token_replay
from ...layers.sampling import draw_tokens
from .network import IGNORED, TRAINING_ONLY, Config, Network, file_names, official_names


def generate(
    network: Network,
    labels: Tensor,
    sampling: Sampling,
    noise: Noise,
    *,
    caches: Sequence[KVCache] | None = None,
    probe: Probe = NO_PROBE,
) -> Tensor:
    """Tokens (B, block_size) in raster order, one for each forward pass."""
    count = network.config.block_size
    if caches is None or caches[0].rows < len(labels):
        caches = network.allocate(len(labels))
    with probe("condition"):
        last = labels.unsqueeze(1)
    drawn: list[Tensor] = []
    for index in range(count):
        with probe("ar" if index else "prefill", index=index, tokens=1):
            last = draw_tokens(network(last, index, caches), sampling, noise, "tokens", start=index)
            drawn.append(last)
    return torch.cat(drawn, dim=1)


class Taming(CachedGenerator):
    """`Generator` and `Scores`. It was trained without a null class, so it cannot be guided."""

    network: Network
    tokenizer: Tokenizer | None

    @classmethod
    def load(cls, card: Card, spec: LoadSpec, tokenizer: Tokenizer | None) -> Self:
        config = from_upstream(Config, card.config, TRAINING_ONLY)
        check_vocabulary(card, tokenizer, config.vocab_size)
        network = build_and_load(lambda: Network(config), card, spec, names=file_names, ignored=IGNORED)
        compile_passes(spec, network)
        return cls(card, network, tokenizer, spec)

    def draw(self, noise: Noise, sampling: Sampling, probe: Probe, labels: Tensor) -> Generated:
        caches = self.caches(len(labels), sampling)
        tokens = generate(self.network, labels, sampling, noise, caches=caches, probe=probe)
        return Generated(codes=Codes(ids=(tokens,)), outer_steps=tokens.shape[1], forwards=tokens.shape[1])

    @torch.inference_mode()
    def logits(self, request: Request, codes: Codes) -> Tensor:
        return self.network.score(class_labels(self.card, request), codes.ids[0])


SETTINGS = frozenset({"greedy", "temperature", "top_k", "top_p"})


def replay(
    config: Mapping[str, Any],
    state: dict[str, Tensor],
    tokenizer: tuple[Mapping[str, Any], dict[str, Tensor]] | None = None,
) -> Replay:
    """A function that repeats a recorded probe (name, settings, inputs) with the network of a recording."""
    ours = from_upstream(Config, config, TRAINING_ONLY)
    network = with_state(lambda: Network(ours), state, card_name="taming's GPT", names=official_names, ignored=IGNORED)

    def logits(settings: Mapping[str, Any], inputs: Mapping[str, Tensor]) -> Tensor:
        return network.score(inputs["class_ids"], inputs["tokens"])

    def tokens(settings: Mapping[str, Any], inputs: Mapping[str, Tensor]) -> Tensor:
        labels = inputs["class_ids"]
        return generate(network, labels, Sampling(**filters(settings)), Greedy(len(labels)))

    return token_replay("a taming GPT", SETTINGS, logits, tokens)
