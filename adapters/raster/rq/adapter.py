"""RQ-Transformer (Lee et al., CVPR 2022): place after place, and at each place depth after depth."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Self

import torch
from torch import Tensor

from arbench.errors import InputError
from arbench.protocols import NO_PROBE, Card, Codes, Generated, LoadSpec, Noise, Probe, Request, Sampling, Tokenizer
from arbench.seeds import Greedy

from ...layers.attention import KVCache
from ...layers.checkpoint import build_and_load, compile_blocks, with_state
from ...layers.config import from_upstream
from ...layers.generator import CachedGenerator, check_form, class_labels, of_kind
from ...layers.linear import filled_up
from ...layers.sampling import check_replayable, draw_tokens
from ...tokenizers.rq.adapter import RQVAE, restored
from .network import IGNORED, TRAINING_ONLY, Config, Lookup, Network, official_names


def generate(
    network: Network,
    labels: Tensor,
    lookup: Lookup,
    sampling: Sampling,
    noise: Noise,
    *,
    caches: list[KVCache] | None = None,
    probe: Probe = NO_PROBE,
) -> Tensor:
    """Tokens (B, places * depth), depth fastest."""
    config, batch = network.config, len(labels)
    if caches is None:
        caches = network.allocate(batch)
    body, head = caches[: len(network.body)], caches[len(network.body) :]
    drawn = torch.zeros(batch, config.places, config.depth, dtype=torch.int64, device=labels.device)
    with probe("condition"):
        x = network.start(labels)
    for place in range(config.places):
        with probe("ar" if place else "prefill", index=place, tokens=config.depth):
            if place:
                x = network.place(drawn[:, place - 1 : place], lookup, place - 1)
            read = network.run(network.body, filled_up(x), place, body, batch)
            for depth in range(config.depth):
                if depth:
                    read = network.contexts(drawn[:, place, :depth], lookup)[:, -1:]
                logits = network.predict(filled_up(read), depth, head, batch)
                index = place * config.depth + depth
                ids = draw_tokens(logits, sampling, noise, "tokens", start=index, reach=True)
                drawn[:, place, depth : depth + 1] = ids
    return drawn.flatten(1)


class RQTransformer(CachedGenerator):
    """`Generator` and `Scores`. It was trained without dropping the class, so there is no guidance."""

    network: Network
    tokenizer: RQVAE

    @classmethod
    def load(cls, card: Card, spec: LoadSpec, tokenizer: Tokenizer | None) -> Self:
        config = from_upstream(Config, card.config, TRAINING_ONLY)
        vae = of_kind(card, tokenizer, RQVAE, "an RQ-VAE, whose codes it reads")
        theirs = vae.network.sizes
        form = (theirs.depth, theirs.codes[0], theirs.latent_shape[2])
        check_form(card, vae, "depth, codes and channels", form, (config.depth, config.codes, config.input_embed_dim))
        network = build_and_load(lambda: Network(config), card, spec, names=official_names, ignored=IGNORED)
        compile_blocks(spec, (*network.body, *network.head), dynamic=True)
        return cls(card, network, vae, spec)

    def lookup(self, ids: Tensor) -> Tensor:
        return self.tokenizer.network.quantize.lookup(ids)

    def draw(self, noise: Noise, sampling: Sampling, probe: Probe, labels: Tensor) -> Generated:
        caches = self.caches(len(labels), sampling)
        tokens = generate(self.network, labels, self.lookup, sampling, noise, caches=caches, probe=probe)
        steps = self.network.config.places
        return Generated(codes=Codes(ids=(tokens,)), outer_steps=steps, forwards=steps)

    @torch.inference_mode()
    def logits(self, request: Request, codes: Codes) -> Tensor:
        return self.network.score(class_labels(self.card, request), codes.ids[0], self.lookup)


def replay(
    config: Mapping[str, Any],
    state: dict[str, Tensor],
    tokenizer: tuple[Mapping[str, Any], dict[str, Tensor]] | None = None,
) -> Callable[[str, Mapping[str, Any], Mapping[str, Tensor]], dict[str, Tensor]]:
    """A function that repeats a recorded probe (name, settings, inputs) with the network of a recording."""
    ours = from_upstream(Config, config, TRAINING_ONLY)
    network = with_state(lambda: Network(ours), state, card_name="RQTransformer", names=official_names, ignored=IGNORED)
    vae = None if tokenizer is None else restored(*tokenizer)

    def lookup(ids: Tensor) -> Tensor:
        if vae is None:
            raise InputError("this RQ-Transformer reads codes of its RQ-VAE", "the recording names none", "")
        return vae.quantize.lookup(ids)

    @torch.inference_mode()
    def call(probe: str, settings: Mapping[str, Any], inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        labels = inputs.get("class_ids", torch.zeros(len(next(iter(inputs.values()))), dtype=torch.int64))
        if probe == "logits":
            return {"logits": network.score(labels, inputs["tokens"], lookup)}
        if probe == "generate":
            check_replayable(settings, {"greedy", "cached", "fast", "temperature", "top_k", "top_p"})
            return {"tokens": generate(network, labels, lookup, Sampling(), Greedy(len(labels)))}
        raise InputError(f"no probe {probe!r} for an RQ-Transformer", "known: logits, generate", "")

    return call
