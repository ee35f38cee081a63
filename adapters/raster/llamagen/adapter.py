"""LlamaGen (arXiv:2406.06525): next-token prediction over an image's tokens in raster order."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Self

import torch
from torch import Tensor

from arbench.errors import Unsupported, UsageError
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
from ...layers.captions import has_captions, left_padded, request_captions
from ...layers.checkpoint import build_and_load, compile_passes, device_of, with_state
from ...layers.config import from_upstream
from ...layers.generator import CachedGenerator, check_vocabulary, class_labels
from ...layers.replays import Replay, filters, recorded_condition, token_replay
from ...layers.sampling import draw_tokens, guided_steps, mix_guidance
from .network import IGNORED, TRAINING_ONLY, Config, Network, condition_mask, official_names


def generate(
    network: Network,
    given: Tensor,
    sampling: Sampling,
    noise: Noise,
    *,
    caches: Sequence[KVCache] | None = None,
    valid: Tensor | None = None,
    probe: Probe = NO_PROBE,
) -> tuple[Tensor, int]:
    """Tokens (B, block_size) in raster order, and how many forward passes they took.

    While guidance is on, conditional and unconditional sequences go as one batch of 2B; once it is off, the
    conditional half goes on alone. `valid` (B, T) masks padded caption tokens.
    """
    batch, count = given.shape[0], network.config.block_size
    guided = guided_steps(sampling.guidance, count)
    if guided:
        if network.config.model_type == "c2i" and network.config.class_dropout_prob <= 0:
            raise Unsupported(
                "this model cannot be guided", "it was trained without a null class", "use guidance scale 1"
            )
        given = torch.cat((given, network.null(given).to(given.dtype)))
    if caches is None or caches[0].rows < given.shape[0]:
        caches = network.allocate(given.shape[0])
    with probe("condition"):
        x = network.condition(given)
    first = x.shape[1]
    mask = None
    if valid is not None:
        mask = condition_mask(valid.repeat(2, 1) if guided else valid, first + count)
    tokens = torch.empty(batch, count, dtype=torch.int64, device=x.device)

    def draw(states: Tensor, index: int) -> None:
        logits = network.logits(states[:, -1:])  # (B or 2B, 1, V)
        if index < guided:
            logits = mix_guidance(logits, sampling.guidance.scale)
        tokens[:, index : index + 1] = draw_tokens(logits, sampling, noise, "tokens", start=index)

    with probe("prefill", tokens=1):
        draw(network(x, 0, caches, None if mask is None else mask[:, :, :first, :first]), 0)
    for index in range(1, count):
        with probe("ar", index=index, tokens=1):
            previous = tokens[:, index - 1 : index]
            if index < guided:
                previous = previous.repeat(2, 1)
            start = first + index - 1
            sight = None if mask is None else mask[: previous.shape[0], :, start : start + 1, : start + 1]
            draw(network(network.token_table(previous), start, caches, sight), index)
    return tokens, count + guided


class LlamaGen(CachedGenerator):
    """`Generator` and `Scores`. Guidance is constant; `until` is upstream's `cfg_interval` as a share of the tokens.

    The condition is the class, or (`model_type` "t2i") a caption: features of the text encoder, in the request or in
    files that its prompts name, padded on either side.
    """

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

    def given(self, request: Request, sampling: Sampling) -> tuple[Tensor | None, ...]:
        return self._condition(request)

    def draw(
        self, noise: Noise, sampling: Sampling, probe: Probe, given: Tensor, valid: Tensor | None = None
    ) -> Generated:
        caches = self.caches(len(given), sampling)
        tokens, forwards = generate(self.network, given, sampling, noise, caches=caches, valid=valid, probe=probe)
        return Generated(codes=Codes(ids=(tokens,)), outer_steps=tokens.shape[1], forwards=forwards)

    def example(self, batch: int, sampling: Sampling) -> tuple[Tensor | None, ...]:
        config = self.network.config
        if config.model_type == "c2i":
            return *super().example(batch, sampling), None
        captions = torch.zeros(batch, config.cls_token_num, config.caption_dim, device=self.calls.device)
        return captions, torch.ones(captions.shape[:2], dtype=torch.int64, device=captions.device)

    @torch.inference_mode()
    def logits(self, request: Request, codes: Codes) -> Tensor:
        given, valid = self._condition(request)
        return self.network.score(given, codes.ids[0], valid)

    def _condition(self, request: Request) -> tuple[Tensor, Tensor | None]:
        """Class ids (B,); or captions (B, T, D), text last, with their mask (B, T)."""
        config = self.network.config
        if config.model_type == "t2i":
            device = self.network.head.weight.device
            return left_padded(*request_captions(self.card, request, config.cls_token_num, config.caption_dim, device))
        if request.labels is None and has_captions(request):
            raise UsageError(
                f"{self.card.name} draws classes, not captions",
                "the request has captions and no class labels",
                "give labels, or use raster/llamagen-t2i-xl-256",
            )
        return class_labels(self.card, request), None


def upstream_sampling(settings: Mapping[str, Any], tokens: int) -> Sampling:
    """Canonical sampling from the arguments of upstream's `generate`.

    `cfg_interval` n > -1 leaves the first token and those 0 to n after it guided; guidance is off for scales up to 1.
    """
    scale, interval = settings.get("cfg_scale", 1.0), settings.get("cfg_interval", -1)
    until = min(math.floor(interval) + 2, tokens) / tokens if interval > -1 else 1.0
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
        lambda: Network(ours), state, card_name="LlamaGen's Transformer", names=official_names, ignored=IGNORED
    )

    def logits(settings: Mapping[str, Any], inputs: Mapping[str, Tensor]) -> Tensor:
        given, valid = recorded_condition(inputs)
        return network.score(given, inputs["tokens"], valid)

    def tokens(settings: Mapping[str, Any], inputs: Mapping[str, Tensor]) -> Tensor:
        given, valid = recorded_condition(inputs)
        sampling = upstream_sampling(settings, network.config.block_size)
        found = generate(network, given, sampling, Greedy(len(given)), valid=valid)[0]
        return found[:, : settings.get("max_new_tokens")]

    return token_replay("a LlamaGen generator", SETTINGS, logits, tokens)
