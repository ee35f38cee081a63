"""ARPG (arXiv:2503.10568): class-conditional images in random order, in as many passes as one likes."""

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
from ...layers.linear import filled_up
from ...layers.order import decoding_order, fixed_order, to_raster
from ...layers.replays import Replay, filters, token_replay
from ...layers.sampling import draw_tokens, guided_steps, mix_guidance
from .network import IGNORED, TRAINING_ONLY, Config, Network, official_names

STEPS, SCHEDULE = 64, "cosine"
"""What sampling takes when not told: as in the README's table."""


def group_sizes(steps: int, total: int, schedule: str) -> list[int]:
    """Tokens of each pass: at least one, so that what is unknown follows the schedule; the last pass takes the rest."""
    sizes, done = [], 0
    for step in range(steps):
        share = (step + 1) / steps
        ratio = math.acos(share) / (math.pi * 0.5) if schedule == "arccos" else math.cos(math.pi / 2 * share)
        left = max(1, min(total - done - 1, int(total * ratio)))
        sizes.append(total - done if step == steps - 1 else total - done - left)
        done += sizes[-1]
    return [size for size in sizes if size]


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

    `order` (B, L) says which place is decoded when. The weight of guidance follows the share of tokens that are known
    after a pass. While guidance is on, both halves go as one batch of 2B.
    """
    batch, total = order.shape
    guided = guided_steps(sampling.guidance, len(sizes))
    if caches is None:
        caches = network.allocate(2 * batch if guided else batch)
    with probe("condition"):
        x = network.condition(labels, guided=guided > 0)
        places = network.rotations[1:][order].unsqueeze(1)  # (B, 1, L, D / 2, 2)
        questions = network.questions(places)
        if guided:
            places = places.repeat(2, 1, 1, 1, 1)
        turns = network.rotations[:1].expand(len(places), 1, -1, -1, -1)
    drawn = torch.empty_like(order)
    done = start = 0
    for step, size in enumerate(sizes):
        with probe("ar" if step else "prefill", index=step, tokens=size):
            copies = 2 if step < guided else 1
            ahead = slice(done, done + size)
            if step:
                last = slice(done - sizes[step - 1], done)
                x, turns = network.table(drawn[:, last]).repeat(copies, 1, 1), places[:, :, last]
            rows = copies * batch
            asked = questions[:, :, ahead].repeat(copies, 1, 1, 1)
            here = places[:rows, :, ahead]
            logits = network(filled_up(x), turns[:rows], here, start, caches, asked, rows)
            if copies == 2:
                logits = mix_guidance(logits, sampling.guidance.weight((done + size) / total))
            drawn[:, ahead] = draw_tokens(logits, sampling, noise, "tokens", start=done)
        start, done = start + x.shape[1], done + size
    return to_raster(drawn, order), len(sizes) + guided


class ARPG(CachedGenerator):
    """`Generator` and `Scores`. `steps` are passes; each sample has an order of its own."""

    network: Network
    tokenizer: Tokenizer | None

    @classmethod
    def load(cls, card: Card, spec: LoadSpec, tokenizer: Tokenizer | None) -> Self:
        config = from_upstream(Config, card.config, TRAINING_ONLY)
        check_vocabulary(card, tokenizer, config.vocab_size)
        network = build_and_load(lambda: Network(config), card, spec, names=official_names, ignored=IGNORED)
        network.place(device_of(spec), getattr(torch, spec.dtype))
        compile_passes(spec, network, dynamic=True)  # passes read different numbers
        return cls(card, network, tokenizer, spec)

    def given(self, request: Request, sampling: Sampling) -> tuple[Tensor | None, ...]:
        return *super().given(request, sampling), self._fixed(sampling)

    def example(self, batch: int, sampling: Sampling) -> tuple[Tensor | None, ...]:
        return *super().example(batch, sampling), self._fixed(sampling)

    def draw(self, noise: Noise, sampling: Sampling, probe: Probe, labels: Tensor, fixed: Tensor | None) -> Generated:
        """`fixed`: the order of all samples, (L,); None: each has one of its own."""
        config = self.network.config
        schedule = sampling.extra.get("token_schedule", self.card.native.extra.get("token_schedule", SCHEDULE))
        sizes = group_sizes(min(sampling.steps or STEPS, config.block_size), config.block_size, schedule)
        order = decoding_order(noise, fixed, config.side)
        caches = self.caches(len(labels), sampling)
        tokens, forwards = generate(self.network, labels, order, sampling, noise, sizes, caches=caches, probe=probe)
        return Generated(codes=Codes(ids=(tokens,)), outer_steps=len(sizes), forwards=forwards)

    @torch.inference_mode()
    def logits(self, request: Request, codes: Codes) -> Tensor:
        """In raster order, each token from those that come earlier in the sample's own order."""
        order = decoding_order(request.noise, self._fixed(Sampling()), self.network.config.side)
        scores = self.network.score_in_order(class_labels(self.card, request), codes.ids[0], order)
        return scores.gather(1, order.argsort(dim=1).unsqueeze(-1).expand_as(scores))

    def _fixed(self, sampling: Sampling) -> Tensor | None:
        kind = "random" if sampling.order == "native" else sampling.order
        return fixed_order(kind, self.network.config.side, self.network.rotations.device)


def upstream_sampling(settings: Mapping[str, Any]) -> Sampling:
    """Canonical sampling from the arguments of upstream's `generate`; its linear schedule starts at 1."""
    return Sampling(
        guidance=Guidance(scale=settings.get("guidance_scale", 4.0), schedule=settings.get("cfg_schedule", "linear")),
        steps=settings.get("num_iter", 64),
        **filters(settings),
    )


SETTINGS = frozenset({"greedy", "guidance_scale", "cfg_schedule", "sample_schedule", "num_iter", "seq_len"}) | {
    "temperature",
    "top_k",
    "top_p",
}


def replay(
    config: Mapping[str, Any],
    state: dict[str, Tensor],
    tokenizer: tuple[Mapping[str, Any], dict[str, Tensor]] | None = None,
) -> Replay:
    """A function that repeats a recorded probe (name, settings, inputs) with the network of a recording."""
    ours = from_upstream(Config, config, TRAINING_ONLY)
    network = with_state(
        lambda: Network(ours), state, card_name="ARPG's Transformer", names=official_names, ignored=IGNORED
    )

    def logits(settings: Mapping[str, Any], inputs: Mapping[str, Tensor]) -> Tensor:
        return network.score_in_order(inputs["class_ids"], inputs["tokens"], inputs["order"])

    def tokens(settings: Mapping[str, Any], inputs: Mapping[str, Tensor]) -> Tensor:
        labels, order, sampling = inputs["class_ids"], inputs["order"], upstream_sampling(settings)
        sizes = group_sizes(sampling.steps or STEPS, order.shape[1], settings.get("sample_schedule", "arccos"))
        return generate(network, labels, order, sampling, Greedy(len(labels)), sizes)[0]

    return token_replay("an ARPG generator", SETTINGS, logits, tokens)
