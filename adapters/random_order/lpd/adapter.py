"""LPD (arXiv:2507.01957): class-conditional images in groups of tokens, each group in one pass."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
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
from ...layers.checkpoint import build_and_load, compile_passes, with_state
from ...layers.config import from_upstream
from ...layers.generator import CachedGenerator, check_vocabulary, class_labels
from ...layers.order import decoding_order, fixed_order, to_raster
from ...layers.replays import Replay, filters, token_replay
from ...layers.sampling import draw_tokens, guided_steps
from .network import IGNORED, TRAINING_ONLY, Config, Network, group_of, official_names
from .schedule import group_sizes, local_order

STEPS, REPULSION = 20, 2.0
"""What sampling takes when not told."""
ORDERS = 64
"""Orders that samples choose from; upstream draws a file of 60,000 once."""


def generate(
    network: Network,
    labels: Tensor,
    order: Tensor,
    sampling: Sampling,
    noise: Noise,
    sizes: Sequence[int],
    *,
    caches: Sequence[KVCache] | None = None,
    probe: Probe = NO_PROBE,
) -> tuple[Tensor, int]:
    """Tokens (B, L) in raster order, and how many forward passes they took.

    `order` (B, L) says which place is decoded when. The weight of guidance follows each token's own place in the
    order. While guidance is on, both halves go as one batch of 2B.
    """
    batch, total = order.shape
    guided = guided_steps(sampling.guidance, len(sizes))
    if caches is None:
        caches = network.allocate(2 * batch if guided else batch)
    with probe("condition"):
        known = network.condition(labels, guided=guided > 0)
        group = group_of(sizes, order.device)
        sight = group[:, None] >= group
        places = torch.cat((torch.zeros_like(order[:, :1]), 1 + order), dim=1)  # (B, 1 + L)
        places = places.repeat(2, 1) if guided else places
        first, last = sampling.guidance.weight(0.0), sampling.guidance.weight(1.0)  # constant or linear
        scale = first + (last - first) * torch.arange(total, device=order.device) / total
    drawn = torch.empty_like(order)
    done = start = 0
    for step, size in enumerate(sizes):
        with probe("ar" if step else "prefill", index=step, tokens=size):
            copies = 2 if step < guided else 1
            if step:
                known = network.code_table(drawn[:, done - sizes[step - 1] : done]).repeat(copies, 1, 1)
            end = start + known.shape[1] + size
            here = places[: copies * batch, start:end]
            logits = network(known, here, size, sight[start:end, :end], start, caches, trimmed=True)
            if copies == 2:
                given, free = logits.chunk(2)
                logits = free + scale[done : done + size, None] * (given - free)
            drawn[:, done : done + size] = draw_tokens(logits, sampling, noise, "tokens", start=done)
        start, done = end - size, done + size
    return to_raster(drawn, order), len(sizes) + guided


class LPD(CachedGenerator):
    """`Generator` and `Scores`. `steps` are passes; a sample has one of `ORDERS` locality-aware orders."""

    network: Network
    tokenizer: Tokenizer | None

    def __init__(self, card: Card, network: Any, tokenizer: Any, spec: LoadSpec | None = None) -> None:
        super().__init__(card, network, tokenizer, spec)
        self._orders: dict[tuple[tuple[int, ...], float], Tensor] = {}

    @classmethod
    def load(cls, card: Card, spec: LoadSpec, tokenizer: Tokenizer | None) -> Self:
        config = from_upstream(Config, card.config, TRAINING_ONLY)
        check_vocabulary(card, tokenizer, config.vqgan_vocab_size)
        network = build_and_load(lambda: Network(config), card, spec, names=official_names, ignored=IGNORED)
        compile_passes(spec, network, dynamic=True)  # passes read different numbers of tokens
        return cls(card, network, tokenizer, spec)

    def given(self, request: Request, sampling: Sampling) -> tuple[Tensor | None, ...]:
        return *super().given(request, sampling), self._choices(sampling)

    def example(self, batch: int, sampling: Sampling) -> tuple[Tensor | None, ...]:
        return *super().example(batch, sampling), self._choices(sampling)

    def prepare(self, batch: int, sampling: Sampling) -> None:
        self.check(sampling)
        self._choices(sampling)
        super().prepare(batch, sampling)

    def draw(self, noise: Noise, sampling: Sampling, probe: Probe, labels: Tensor, orders: Tensor | None) -> Generated:
        """`orders` (K, L): those that samples choose from; None: each has a random one of its own."""
        sizes = self._sizes(sampling)
        order = chosen_order(noise, orders, self.network.config.side)
        caches = self.caches(len(labels), sampling)
        tokens, forwards = generate(self.network, labels, order, sampling, noise, sizes, caches=caches, probe=probe)
        return Generated(codes=Codes(ids=(tokens,)), outer_steps=len(sizes), forwards=forwards)

    @torch.inference_mode()
    def logits(self, request: Request, codes: Codes) -> Tensor:
        """In raster order, each token from the groups before its own, in the sample's own order and native steps."""
        native = self.card.native
        order = chosen_order(request.noise, self._choices(native), self.network.config.side)
        labels = class_labels(self.card, request)
        scores = self.network.score_in_order(labels, codes.ids[0], order, self._sizes(native))
        return scores.gather(1, order.argsort(dim=1).unsqueeze(-1).expand_as(scores))

    def _sizes(self, sampling: Sampling) -> tuple[int, ...]:
        tokens = self.network.config.tokens
        return group_sizes(tokens, min(sampling.steps or STEPS, tokens))

    def _choices(self, sampling: Sampling) -> Tensor | None:
        """(K, L) the orders that samples choose from, made once for each grouping; None: random ones."""
        side, device = self.network.config.side, self.network.head.weight.device
        if sampling.order != "native":
            fixed = fixed_order(sampling.order, side, device)
            return None if fixed is None else fixed.unsqueeze(0)
        native = self.card.native.extra.get("repulsion_threshold", REPULSION)
        key = self._sizes(sampling), float(sampling.extra.get("repulsion_threshold", native))
        if key not in self._orders:
            random = np.random.default_rng(0)
            made = [local_order(key[0], side, random, key[1]) for _ in range(ORDERS)]
            self._orders[key] = torch.tensor(made, device=device)
        return self._orders[key]


def chosen_order(noise: Noise, orders: Tensor | None, side: int) -> Tensor:
    """(B, L): one of the `orders` (K, L) for each sample, or where there are none a random one."""
    if orders is None or len(orders) == 1:
        return decoding_order(noise, None if orders is None else orders[0], side)
    return orders[(noise.uniform("order", 1)[:, 0] * len(orders)).long()]


def upstream_sampling(settings: Mapping[str, Any]) -> Sampling:
    """Canonical sampling from the arguments of upstream's `sample_tokens`; its linear schedule starts at 1."""
    return Sampling(
        guidance=Guidance(scale=settings.get("cfg", 1.0), schedule=settings.get("cfg_schedule", "linear")),
        **filters(settings),
    )


SETTINGS = frozenset({"greedy", "cfg", "cfg_schedule", "group_sizes", "temperature", "top_k", "top_p"})


def replay(
    config: Mapping[str, Any],
    state: dict[str, Tensor],
    tokenizer: tuple[Mapping[str, Any], dict[str, Tensor]] | None = None,
) -> Replay:
    """A function that repeats a recorded probe (name, settings, inputs) with the network of a recording."""
    ours = from_upstream(Config, config, TRAINING_ONLY)
    network = with_state(lambda: Network(ours), state, card_name="LPD's LPD", names=official_names, ignored=IGNORED)

    def logits(settings: Mapping[str, Any], inputs: Mapping[str, Tensor]) -> Tensor:
        labels, order = inputs["class_ids"], inputs["order"]
        return network.score_in_order(labels, inputs["tokens"], order, settings["group_sizes"])

    def tokens(settings: Mapping[str, Any], inputs: Mapping[str, Tensor]) -> Tensor:
        labels, order, sizes = inputs["class_ids"], inputs["order"], settings["group_sizes"]
        return generate(network, labels, order, upstream_sampling(settings), Greedy(len(labels)), sizes)[0]

    return token_replay("an LPD generator", SETTINGS, logits, tokens)
