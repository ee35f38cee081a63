"""D-AR (Gao and Shou, arXiv:2505.23660): next-token prediction over tokens that a diffusion decoder draws in turn."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
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
    Request,
    Sampling,
    Tokenizer,
)
from arbench.seeds import Greedy

from ...layers.attention import KVCache
from ...layers.checkpoint import build_and_load, compile_passes, device_of, with_state
from ...layers.config import from_upstream
from ...layers.generator import CachedGenerator, check_vocabulary, class_labels
from ...layers.replays import Replay, filters, token_replay
from ...layers.sampling import draw_tokens, guided_steps, mix_guidance
from .network import IGNORED, TRAINING_ONLY, Config, Network, official_names


def generate(
    network: Network,
    labels: Tensor,
    sampling: Sampling,
    noise: Noise,
    *,
    caches: Sequence[KVCache] | None = None,
    probe: Probe = NO_PROBE,
) -> tuple[Tensor, int]:
    """Tokens (B, block_size), and how many forward passes they took.

    The guidance weight of token i of L is the schedule's at i / (L - 1). While guidance is on, conditional and
    unconditional sequences go as one batch of 2B; once it is off, the conditional half goes on alone.
    """
    batch, count = len(labels), network.config.block_size
    guided = guided_steps(sampling.guidance, count)
    if guided:
        labels = torch.cat((labels, network.null(labels)))
    if caches is None or caches[0].rows < len(labels):
        caches = network.allocate(len(labels))
    with probe("condition"):
        x = network.condition(labels)
    tokens = torch.empty(batch, count, dtype=torch.int64, device=x.device)
    for index in range(count):
        with probe("ar" if index else "prefill", index=index, tokens=1):
            if index:
                x = network.token_table(tokens[:, index - 1 : index].repeat(2 if index < guided else 1, 1))
            logits = network.read(x, index, caches)  # (B or 2B, 1, V)
            if index < guided:
                logits = mix_guidance(logits, sampling.guidance.weight(index / max(count - 1, 1)))
            tokens[:, index : index + 1] = draw_tokens(logits[:batch], sampling, noise, "tokens", start=index)
    return tokens, count + guided


class DAR(CachedGenerator):
    """`Generator` and `Scores`. Guidance grows from token to token; `until` is upstream's `cfg_interval`."""

    network: Network
    tokenizer: Tokenizer | None

    @classmethod
    def load(cls, card: Card, spec: LoadSpec, tokenizer: Tokenizer | None) -> Self:
        config = from_upstream(Config, card.config, TRAINING_ONLY)
        check_vocabulary(card, tokenizer, config.vocab_size)
        network = build_and_load(lambda: Network(config), card, spec, names=official_names, ignored=IGNORED)
        network.place(device_of(spec), getattr(torch, spec.dtype))
        compile_passes(spec, network, network.logits)
        return cls(card, network, tokenizer, spec)

    def draw(self, noise: Noise, sampling: Sampling, probe: Probe, labels: Tensor) -> Generated:
        caches = self.caches(len(labels), sampling)
        tokens, forwards = generate(self.network, labels, sampling, noise, caches=caches, probe=probe)
        return Generated(codes=Codes(ids=(tokens,)), outer_steps=tokens.shape[1], forwards=forwards)

    @torch.inference_mode()
    def logits(self, request: Request, codes: Codes) -> Tensor:
        return self.network.score(class_labels(self.card, request), codes.ids[0])


def upstream_sampling(settings: Mapping[str, Any], tokens: int) -> Sampling:
    """Canonical sampling from the arguments of upstream's `generate`.

    `cfg_scale` "a,b" goes from a to b; guidance is off unless a is above 1, but 1 with b above it counts as 1.001.
    `cfg_interval` n > -1 leaves the first token and those 0 to n after it guided.
    """
    given = str(settings.get("cfg_scale", 1.0)).split(",")
    start, end = float(given[0]), float(given[-1])
    if start == 1 < end and isinstance(settings.get("cfg_scale"), str):
        start += 1e-3
    interval = settings.get("cfg_interval", -1)
    until = min(math.floor(interval) + 2, tokens) / tokens if interval > -1 else 1.0
    guidance = Guidance()
    if start > 1:
        guidance = (
            Guidance(scale=end, until=until)
            if start == end
            else Guidance(scale=end, start=start, schedule="linear", until=until)
        )
    return Sampling(
        guidance=guidance,
        **filters(settings),
    )


SETTINGS = frozenset({"greedy", "cfg_scale", "cfg_interval", "temperature", "top_k", "top_p", "max_new_tokens"})


def replay(
    config: Mapping[str, Any],
    state: dict[str, Tensor],
    tokenizer: tuple[Mapping[str, Any], dict[str, Tensor]] | None = None,
) -> Replay:
    """A function that repeats a recorded probe (name, settings, inputs) with the network of a recording."""
    ours = from_upstream(Config, config, TRAINING_ONLY)
    network = with_state(
        lambda: Network(ours), state, card_name="D-AR's Transformer", names=official_names, ignored=IGNORED
    )

    def logits(settings: Mapping[str, Any], inputs: Mapping[str, Tensor]) -> Tensor:
        return network.score(inputs["class_ids"], inputs["tokens"])

    def tokens(settings: Mapping[str, Any], inputs: Mapping[str, Tensor]) -> Tensor:
        labels, count = inputs["class_ids"], settings.get("max_new_tokens", ours.block_size)
        return generate(network, labels, upstream_sampling(settings, count), Greedy(len(labels)))[0][:, :count]

    return token_replay("a D-AR generator", SETTINGS, logits, tokens)
