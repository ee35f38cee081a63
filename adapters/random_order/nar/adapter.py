"""NAR (arXiv:2503.10696): one anti-diagonal of tokens after the other, each from its left and upper neighbours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

import torch
from torch import Tensor

from arbench.errors import Unsupported
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
from ...layers.checkpoint import build_and_load, compile_blocks, device_of, with_state
from ...layers.config import from_upstream
from ...layers.generator import CachedGenerator, check_vocabulary, class_labels
from ...layers.linear import filled_up
from ...layers.order import to_raster
from ...layers.replays import Replay, filters, recorded_condition, token_replay
from ...layers.sampling import draw_tokens, guided_steps, mix_guidance
from ...raster.llamagen.network import condition_mask
from .network import IGNORED, TRAINING_ONLY, Config, Network, official_names


def generate(
    network: Network,
    given: Tensor,
    sampling: Sampling,
    noise: Noise,
    *,
    caches: Sequence[KVCache] | None = None,
    valid: Tensor | None = None,
    probe: Probe = NO_PROBE,
) -> tuple[Tensor, int, int]:
    """Tokens (B, block_size) in raster order, the passes they took, and the forward passes counting both halves.

    While guidance is on, both halves go as one batch of 2B. `valid` (B, T) masks padded caption tokens.
    """
    config, batch = network.config, len(given)
    diagonals = network.diagonals()
    guided = guided_steps(sampling.guidance, len(diagonals))
    if guided:
        if config.model_type == "c2i" and config.class_dropout_prob <= 0:
            raise Unsupported(
                "this model cannot be guided", "it was trained without a null class", "use guidance scale 1"
            )
        given = torch.cat((given, network.null(given).to(given.dtype)))
    if caches is None or caches[0].rows < len(given):
        caches = network.allocate(len(given))
    with probe("condition"):
        x = network.condition(given)
    first, seen, mask = x.shape[1], None, None
    order, turns = network.order(), network.rotations[:first]
    placed = network.rotations[first:][order]
    if valid is not None:
        both = valid.repeat(2, 1) if guided else valid
        mask = condition_mask(both, first)
        seen = torch.ones(len(both), 1, 1, first + config.block_size, dtype=torch.bool, device=x.device)
        seen[..., :first] = both.bool()[:, None, None]
    drawn = torch.empty(batch, config.block_size, dtype=torch.int64, device=x.device)  # by anti-diagonals
    done = start = 0
    for step, cells in enumerate(diagonals):
        size = len(cells)
        with probe("ar" if step else "prefill", index=step, tokens=size):
            copies = 2 if step < guided else 1
            if step:
                before = diagonals[step - 1]
                x = network.token_table(drawn[:, done - len(before) : done]).repeat(copies, 1, 1)
                turns = placed[done - len(before) : done]
                end = start + len(before)
                mask = None if seen is None else seen[: len(x), :, :, :end]
            right, below = network.directions(filled_up(x), turns, start, caches, mask, rows=len(x))
            if step:
                logits = (below[:, :-1] + right[:, 1:]) / 2
                if size > len(before):  # the diagonals still grow: the ends have one neighbour each
                    logits = torch.cat((right[:, :1], logits, below[:, -1:]), dim=1)
            else:
                logits = (below[:, -1:] + right[:, -1:]) / 2
            if copies == 2:
                logits = mix_guidance(logits, sampling.guidance.scale)
            drawn[:, done : done + size] = draw_tokens(logits, sampling, noise, "tokens", start=done)
        start, done = start + x.shape[1], done + size
    return to_raster(drawn, order.expand(batch, -1)), len(diagonals), len(diagonals) + guided


class NAR(CachedGenerator):
    """`Generator` and `Scores`. Guidance is constant; `until` counts passes."""

    network: Network
    tokenizer: Tokenizer | None

    @classmethod
    def load(cls, card: Card, spec: LoadSpec, tokenizer: Tokenizer | None) -> Self:
        config = from_upstream(Config, card.config, TRAINING_ONLY)
        check_vocabulary(card, tokenizer, config.vocab_size)
        network = build_and_load(lambda: Network(config), card, spec, names=official_names, ignored=IGNORED)
        network.place(device_of(spec), getattr(torch, spec.dtype))
        compile_blocks(spec, network.blocks, dynamic=True)  # passes read different numbers of tokens
        return cls(card, network, tokenizer, spec)

    def draw(self, noise: Noise, sampling: Sampling, probe: Probe, labels: Tensor) -> Generated:
        caches = self.caches(len(labels), sampling)
        tokens, passes, forwards = generate(self.network, labels, sampling, noise, caches=caches, probe=probe)
        return Generated(codes=Codes(ids=(tokens,)), outer_steps=passes, forwards=forwards)

    @torch.inference_mode()
    def logits(self, request: Request, codes: Codes) -> Tensor:
        return self.network.score(class_labels(self.card, request), codes.ids[0])


def upstream_sampling(settings: Mapping[str, Any], config: Config) -> Sampling:
    """Canonical sampling from the arguments of upstream's `generate`.

    `cfg_interval` n > -1 guides the first pass and those before which at most n tokens are known.
    """
    scale, interval = settings.get("cfg_scale", 1.0), settings.get("cfg_interval", -1)
    sizes = [min(index + 1, 2 * config.side - 1 - index) for index in range(2 * config.side - 1)]
    until = 1.0
    if interval > -1:
        on = [index == 0 or sum(sizes[:index]) <= interval for index in range(len(sizes))]
        until = sum(on) / len(sizes)
    return Sampling(
        guidance=Guidance(scale=scale, until=until) if scale > 1 else Guidance(),
        **filters(settings),
    )


SETTINGS = frozenset({"greedy", "cfg_scale", "cfg_interval", "temperature", "top_k", "top_p"}) | {"max_new_tokens"}


def replay(
    config: Mapping[str, Any],
    state: dict[str, Tensor],
    tokenizer: tuple[Mapping[str, Any], dict[str, Tensor]] | None = None,
) -> Replay:
    """A function that repeats a recorded probe (name, settings, inputs) with the network of a recording."""
    ours = from_upstream(Config, config, TRAINING_ONLY)
    network = with_state(
        lambda: Network(ours), state, card_name="NAR's Transformer", names=official_names, ignored=IGNORED
    )

    def logits(settings: Mapping[str, Any], inputs: Mapping[str, Tensor]) -> Tensor:
        given, valid = recorded_condition(inputs)
        return network.score(given, inputs["tokens"], valid)

    def tokens(settings: Mapping[str, Any], inputs: Mapping[str, Tensor]) -> Tensor:
        given, valid = recorded_condition(inputs)
        sampling = upstream_sampling(settings, ours)
        return generate(network, given, sampling, Greedy(len(given)), valid=valid)[0]

    return token_replay("an NAR generator", SETTINGS, logits, tokens)
