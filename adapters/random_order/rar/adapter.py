"""RAR (Yu et al., arXiv:2411.00776): next-token prediction, trained on shuffled orders, sampled in raster order."""

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
from ...layers.replays import Replay, token_replay
from ...layers.sampling import draw_tokens, guided_steps, mix_guidance
from .network import PREFIX, TRAINING_ONLY, Config, Network, official_names


def generate(
    network: Network,
    labels: Tensor,
    sampling: Sampling,
    noise: Noise,
    *,
    order: Tensor | None = None,
    caches: Sequence[KVCache] | None = None,
    probe: Probe = NO_PROBE,
) -> tuple[Tensor, int]:
    """Tokens (B, L) in raster order, drawn in `order` (B, L), and how many forward passes they took.

    The guidance weight of step i of L is the schedule's at i / L. While guidance is on, conditional and unconditional
    sequences go as one batch of 2B; once it is off, the conditional half continues alone.
    """
    config, batch = network.config, len(labels)
    count = config.image_seq_len
    guided = guided_steps(sampling.guidance, count)
    if guided:
        labels = torch.cat((labels, torch.full_like(labels, config.condition_num_classes)))
    rows = len(labels)
    if caches is None or caches[0].rows < rows:
        caches = network.allocate(rows)
    with probe("condition"):
        condition = network.condition(labels)
        positions = network.positions(order)
        if order is not None:
            positions = positions.repeat(rows // batch, 1, 1)
    drawn = torch.empty(batch, count, dtype=torch.int64, device=labels.device)

    def draw(x: Tensor, start: int, index: int) -> None:
        at = positions[: len(x), start : start + x.shape[1]]
        logits = network(x + at, condition[: len(x)], start, caches)  # (B or 2B, 1, V)
        if index < guided:
            logits = mix_guidance(logits, sampling.guidance.weight(index / count))
        drawn[:, index : index + 1] = draw_tokens(logits, sampling, noise, "tokens", start=index)

    with probe("prefill", tokens=1):
        draw(torch.cat((network.first.expand(rows, -1, -1), condition), dim=1), 0, 0)
    for index in range(1, count):
        with probe("ar", index=index, tokens=1):
            previous = drawn[:, index - 1 : index]
            if index < guided:
                previous = previous.repeat(2, 1)
            draw(network.table(previous), PREFIX + index - 1, index)
    if order is not None:
        drawn = torch.empty_like(drawn).scatter(1, order, drawn)
    return drawn, count + guided


class RAR(CachedGenerator):
    """`Generator` and `Scores`. The native order is raster; `order: random` gives each sample an order of its own."""

    network: Network
    tokenizer: Tokenizer | None

    @classmethod
    def load(cls, card: Card, spec: LoadSpec, tokenizer: Tokenizer | None) -> Self:
        config = from_upstream(Config, card.config, TRAINING_ONLY)
        check_vocabulary(card, tokenizer, config.codebook_size)
        network = build_and_load(lambda: Network(config), card, spec, names=official_names)
        compile_passes(spec, network)
        return cls(card, network, tokenizer, spec)

    def draw(self, noise: Noise, sampling: Sampling, probe: Probe, labels: Tensor) -> Generated:
        caches = self.caches(len(labels), sampling)
        order = None
        if sampling.order == "random":
            order = noise.permutation("order", self.network.config.image_seq_len)
        tokens, forwards = generate(self.network, labels, sampling, noise, order=order, caches=caches, probe=probe)
        return Generated(codes=Codes(ids=(tokens,)), outer_steps=tokens.shape[1], forwards=forwards)

    @torch.inference_mode()
    def logits(self, request: Request, codes: Codes) -> Tensor:
        return self.network.score(class_labels(self.card, request), codes.ids[0])


# ---- recordings ------------------------------------------------------------------------------------------------------


def upstream_sampling(settings: Mapping[str, Any]) -> Sampling:
    """Canonical sampling from the arguments of upstream's `generate`.

    Scale 0 means no guidance; power 0 makes the raised cosine 1 at every step, which is constant guidance.
    """
    scale, power = settings.get("cfg_scale", 0.0), settings.get("cfg_power", 0.0)
    guidance = Guidance()
    if scale != 0:
        guidance = (
            Guidance(scale=scale, start=1.0, schedule="cosine_power", power=power) if power else Guidance(scale=scale)
        )
    return Sampling(guidance=guidance, temperature=settings.get("temperature", 1.0))


SETTINGS = frozenset({"greedy", "cfg_scale", "cfg_power", "temperature", "kv_cache"})


def replay(
    config: Mapping[str, Any],
    state: dict[str, Tensor],
    tokenizer: tuple[Mapping[str, Any], dict[str, Tensor]] | None = None,
) -> Replay:
    """A function that repeats a recorded probe (name, settings, inputs) with the network of a recording."""
    ours = from_upstream(Config, config, TRAINING_ONLY)
    network = with_state(lambda: Network(ours), state, card_name="RAR's RAR", names=official_names)

    def order_of(inputs: Mapping[str, Tensor]) -> Tensor | None:
        order = inputs.get("order")
        return None if order is None else order.expand(len(inputs["class_ids"]), -1)

    def logits(settings: Mapping[str, Any], inputs: Mapping[str, Tensor]) -> Tensor:
        return network.score(inputs["class_ids"], inputs["tokens"], order_of(inputs))

    def tokens(settings: Mapping[str, Any], inputs: Mapping[str, Tensor]) -> Tensor:
        labels, sampling = inputs["class_ids"], upstream_sampling(settings)
        return generate(network, labels, sampling, Greedy(len(labels)), order=order_of(inputs))[0]

    return token_replay("a RAR generator", SETTINGS, logits, tokens)
