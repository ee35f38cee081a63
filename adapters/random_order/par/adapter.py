"""PAR (arXiv:2412.15119): a token for each region one by one, then one of every region in a pass."""

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
from ...layers.order import to_raster
from ...layers.replays import Replay, filters, token_replay
from ...layers.sampling import guided_steps
from .network import IGNORED, TRAINING_ONLY, Config, Network, official_names


def generate(
    network: Network,
    labels: Tensor,
    sampling: Sampling,
    noise: Noise,
    *,
    guided: Sequence[bool] | None = None,
    caches: Sequence[KVCache] | None = None,
    probe: Probe = NO_PROBE,
) -> tuple[Tensor, int, int]:
    """Tokens (B, block_size) in raster order, the passes they took, and the forward passes counting both halves.

    `guided` says of each pass whether it is guided, by default as `sampling` has it.
    """
    if guided is None:
        count = guided_steps(sampling.guidance, len(network.sizes))
        guided = [index < count for index in range(len(network.sizes))]
    weights = [sampling.guidance.scale if on else None for on in guided]
    drawn, passes, forwards = draw_in_groups(network, labels, sampling, noise, weights, caches=caches, probe=probe)
    return to_raster(drawn, network.order(labels.device).expand(len(labels), -1)), passes, forwards


class PAR(CachedGenerator):
    """`Generator` and `Scores`. Guidance is constant; `until` counts passes."""

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
        """In raster order, each token from the groups before its own."""
        order = self.network.order(codes.ids[0].device)
        scores = self.network.score(class_labels(self.card, request), codes.ids[0][:, order])
        return scores[:, order.argsort()]


def upstream_sampling(settings: Mapping[str, Any]) -> Sampling:
    """Canonical sampling from the arguments of upstream's `generate`, less its interval; off for scales up to 1."""
    scale = settings.get("cfg_scale", 1.0)
    return Sampling(
        guidance=Guidance(scale=scale) if scale > 1 else Guidance(),
        **filters(settings),
    )


def guided_passes(network: Network, scale: float, interval: float) -> list[bool]:
    """Which passes upstream's `cfg_interval` guides: it counts tokens, and from 0 again once they come in groups."""
    first, length = network.first, network.config.block_size
    counts = [0, *range(first - 1), *range(0, length - first, network.group)]
    on = [index == 0 or interval <= -1 or count <= interval for index, count in enumerate(counts[: len(network.sizes)])]
    return [scale > 1 and each for each in on]


SETTINGS = frozenset({"greedy", "cfg_scale", "cfg_interval", "temperature", "top_k", "top_p"}) | {
    "max_new_tokens",
    "ar_token_num",
    "spe_token_num",
}


def replay(
    config: Mapping[str, Any],
    state: dict[str, Tensor],
    tokenizer: tuple[Mapping[str, Any], dict[str, Tensor]] | None = None,
) -> Replay:
    """A function that repeats a recorded probe (name, settings, inputs) with the network of a recording."""
    ours = from_upstream(Config, config, TRAINING_ONLY)
    network = with_state(
        lambda: Network(ours), state, card_name="PAR's Transformer", names=official_names, ignored=IGNORED
    )

    def logits(settings: Mapping[str, Any], inputs: Mapping[str, Tensor]) -> Tensor:
        return network.score(inputs["class_ids"], inputs["tokens"][:, network.order("cpu")])

    def tokens(settings: Mapping[str, Any], inputs: Mapping[str, Tensor]) -> Tensor:
        labels = inputs["class_ids"]
        guided = guided_passes(network, settings.get("cfg_scale", 1.0), settings.get("cfg_interval", -1))
        return generate(network, labels, upstream_sampling(settings), Greedy(len(labels)), guided=guided)[0]

    return token_replay("a PAR generator", SETTINGS, logits, tokens)
