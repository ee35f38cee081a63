"""DetailFlow (arXiv:2505.21473): the first tokens of a row one by one, then a group of them in a pass."""

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
from ...layers.checkpoint import build_and_load, compile_passes, device_of, with_state
from ...layers.config import from_upstream
from ...layers.generator import CachedGenerator, check_vocabulary, class_labels
from ...layers.grouped import draw_in_groups
from ...layers.replays import Replay, filters, token_replay
from ...layers.sampling import guided_steps
from .network import IGNORED, TRAINING_ONLY, Config, Network, official_names


def generate(
    network: Network,
    labels: Tensor,
    sampling: Sampling,
    noise: Noise,
    *,
    caches: Sequence[KVCache] | None = None,
    probe: Probe = NO_PROBE,
) -> tuple[Tensor, int, int]:
    """Tokens (B, block_size), the passes they took, and the forward passes counting both halves.

    The guidance weight of group i of n is the schedule's at i / (n - 1); single tokens have that of group 0.
    """
    config, sizes = network.config, network.sizes
    singles, groups = network.first, config.block_size // config.group_size
    guided = guided_steps(sampling.guidance, len(sizes))
    place = [0] * singles + list(range(singles // config.group_size, groups))
    weights = [
        sampling.guidance.weight(group / max(groups - 1, 1)) if index < guided else None
        for index, group in enumerate(place)
    ]
    return draw_in_groups(network, labels, sampling, noise, weights, caches=caches, probe=probe)


class DetailFlow(CachedGenerator):
    """`Generator` and `Scores`. Guidance is constant, or linear from group to group; `until` counts passes."""

    network: Network
    tokenizer: Tokenizer | None

    @classmethod
    def load(cls, card: Card, spec: LoadSpec, tokenizer: Tokenizer | None) -> Self:
        config = from_upstream(Config, card.config, TRAINING_ONLY)
        check_vocabulary(card, tokenizer, config.vocab_size)
        network = build_and_load(lambda: Network(config), card, spec, names=official_names, ignored=IGNORED)
        network.place(device_of(spec), getattr(torch, spec.dtype))
        compile_passes(spec, network, network.logits, dynamic=True)
        return cls(card, network, tokenizer, spec)

    def draw(self, noise: Noise, sampling: Sampling, probe: Probe, labels: Tensor) -> Generated:
        caches = self.caches(len(labels), sampling)
        tokens, passes, forwards = generate(self.network, labels, sampling, noise, caches=caches, probe=probe)
        return Generated(codes=Codes(ids=(tokens,)), outer_steps=passes, forwards=forwards)

    @torch.inference_mode()
    def logits(self, request: Request, codes: Codes) -> Tensor:
        """Of each token from the groups before its own."""
        return self.network.score(class_labels(self.card, request), codes.ids[0])


def gradual(scale: float, groups: int) -> Guidance:
    """Upstream's `gradual_cfg`: linear from the scale at the first group to 2 / (groups + 1) of it at the last."""
    return Guidance(scale=2 * scale / (groups + 1), start=scale, schedule="linear")


def upstream_sampling(settings: Mapping[str, Any], groups: int) -> Sampling:
    """Canonical sampling from the arguments of upstream's `generate_group_par`."""
    scale = settings.get("cfg_scale", 1.0)
    return Sampling(
        guidance=gradual(scale, groups) if settings.get("gradual_cfg") else Guidance(scale=scale),
        **filters(settings),
    )


SETTINGS = frozenset({"greedy", "cfg_scale", "gradual_cfg", "temperature", "top_k", "top_p"}) | {"max_new_tokens"}


def replay(
    config: Mapping[str, Any],
    state: dict[str, Tensor],
    tokenizer: tuple[Mapping[str, Any], dict[str, Tensor]] | None = None,
) -> Replay:
    """A function that repeats a recorded probe (name, settings, inputs) with the network of a recording."""
    ours = from_upstream(Config, config, TRAINING_ONLY)
    network = with_state(
        lambda: Network(ours), state, card_name="DetailFlow's Transformer", names=official_names, ignored=IGNORED
    )

    def logits(settings: Mapping[str, Any], inputs: Mapping[str, Tensor]) -> Tensor:
        return network.score(inputs["class_ids"], inputs["tokens"])

    def tokens(settings: Mapping[str, Any], inputs: Mapping[str, Tensor]) -> Tensor:
        labels = inputs["class_ids"]
        sampling = upstream_sampling(settings, ours.block_size // ours.group_size)
        return generate(network, labels, sampling, Greedy(len(labels)))[0]

    return token_replay("a DetailFlow generator", SETTINGS, logits, tokens)
