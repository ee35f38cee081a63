"""RandAR (arXiv:2412.01827): class-conditional images in any order of tokens, in as many passes as one likes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import torch
from torch import Tensor

from arbench.errors import InputError, Unsupported, UsageError
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

from ...layers.checkpoint import build_and_load, compile_passes, device_of, with_state
from ...layers.config import from_upstream
from ...layers.generator import CachedGenerator, check_mask, check_vocabulary, class_labels
from ...layers.order import decoding_order, fixed_order
from ...layers.replays import Replay, filters, token_replay
from .network import IGNORED, TRAINING_ONLY, Config, Network, official_names
from .sampling import BOUNDARY, coarse_first, extrapolate, first_where, generate


class RandAR(CachedGenerator):
    """`Generator`, `Scores`, `Edits`. `steps` are passes; the weight of guidance follows the share of tokens known."""

    network: Network
    tokenizer: Tokenizer | None

    @classmethod
    def load(cls, card: Card, spec: LoadSpec, tokenizer: Tokenizer | None) -> Self:
        config = from_upstream(Config, card.config, TRAINING_ONLY)
        check_vocabulary(card, tokenizer, config.vocab_size)
        network = build_and_load(lambda: Network(config), card, spec, names=official_names, ignored=IGNORED)
        network.place(device_of(spec), getattr(torch, spec.dtype))
        compile_passes(spec, network, network.logits, dynamic=True)  # passes read different numbers of tokens
        return cls(card, network, tokenizer, spec)

    def given(self, request: Request, sampling: Sampling) -> tuple[Tensor | None, ...]:
        return *super().given(request, sampling), self._fixed(sampling)

    def prepare(self, batch: int, sampling: Sampling) -> None:
        if self.network.config.extrapolation_factor != 1:
            self.network.fine_rotations(BOUNDARY)
        super().prepare(batch, sampling)

    def example(self, batch: int, sampling: Sampling) -> tuple[Tensor | None, ...]:
        return *super().example(batch, sampling), self._fixed(sampling)

    def draw(self, noise: Noise, sampling: Sampling, probe: Probe, labels: Tensor, fixed: Tensor | None) -> Generated:
        """`fixed`: the order of all samples, (side^2,); None: each has one of its own."""
        config = self.network.config
        spatial, ratio = self._spatial(sampling)
        caches = self.caches(len(labels), sampling)
        order = decoding_order(noise, fixed, config.side)
        if config.extrapolation_factor == 1:
            made = generate(self.network, labels, order, sampling, noise, caches=caches, probe=probe)
        else:
            given = config.block_size
            made = extrapolate(
                self.network,
                labels,
                coarse_first(order, config.side),
                sampling,
                noise,
                spatial=spatial,
                dropped=noise.permutation("dropped", given)[:, : int(given * ratio)],
                caches=caches,
                probe=probe,
            )
        tokens, passes, forwards = made
        return Generated(codes=Codes(ids=(tokens,)), outer_steps=passes, forwards=forwards)

    @torch.inference_mode()
    def logits(self, request: Request, codes: Codes) -> Tensor:
        """In raster order, each token from those that come earlier in the sample's own order."""
        if self.network.config.extrapolation_factor != 1:
            raise Unsupported(
                f"{self.card.name} has no teacher-forced scores",
                "its images are decoded in two stages at two resolutions",
                "score with the card of the trained resolution",
            )
        order = self._order(request.noise, Sampling())
        scores = self.network.score_in_order(class_labels(self.card, request), codes.ids[0], order)
        return scores.gather(1, order.argsort(dim=1).unsqueeze(-1).expand_as(scores))

    @torch.inference_mode()
    def edit(
        self, request: Request, codes: Codes, mask: Tensor, sampling: Sampling, *, probe: Probe = NO_PROBE
    ) -> Generated:
        """The given tokens are read first, then the masked ones decoded, both in the sample's own order.

        `steps` are passes over the masked tokens, one a token if there are fewer.
        """
        config, labels = self.network.config, class_labels(self.card, request)
        if config.extrapolation_factor != 1:
            raise Unsupported(
                f"{self.card.name} cannot edit images",
                "its images are decoded in two stages at two resolutions, which no mask of the finer one divides",
                "edit with the card of the trained resolution",
            )
        self.check(sampling)
        check_mask(self.card, mask, config.side)
        tokens, chosen = codes.ids[0], mask.to(labels.device).flatten()
        if tokens.shape != (len(labels), config.block_size):
            raise InputError(
                f"{self.card.name} cannot edit tokens of shape {tuple(tokens.shape)}",
                f"it needs {(len(labels), config.block_size)}: a row for each sample of the request",
                f"encode the images with {self.card.tokenizer}",
            )
        order = first_where(self._order(request.noise, sampling), ~chosen)
        given = tokens.gather(1, order[:, : int((~chosen).sum())])
        return self.calls(self._redraw, request.noise, sampling, probe, labels, order, given, record=True)

    def _redraw(
        self, noise: Noise, sampling: Sampling, probe: Probe, labels: Tensor, order: Tensor, given: Tensor
    ) -> Generated:
        drawn, passes, forwards = generate(
            self.network,
            labels,
            order,
            sampling,
            noise,
            given=given,
            caches=self.caches(len(labels), sampling),
            probe=probe,
        )
        return Generated(codes=Codes(ids=(drawn,)), outer_steps=passes, forwards=forwards)

    def _fixed(self, sampling: Sampling) -> Tensor | None:
        """The order of all samples, None where each has its own."""
        config = self.network.config
        kind = config.position_order if sampling.order == "native" else sampling.order
        return fixed_order(kind, config.side, self.network.rotations.device)

    def _order(self, noise: Noise, sampling: Sampling) -> Tensor:
        return decoding_order(noise, self._fixed(sampling), self.network.config.side)

    def copies(self, sampling: Sampling) -> int:
        """Of the batch in one pass: conditional, unconditional, and that without some of its neighbours."""
        if not sampling.guidance.on:
            return 1
        return 2 if self._spatial(sampling)[0] is None else 3

    def _spatial(self, sampling: Sampling) -> tuple[Guidance | None, float]:
        """Guidance away from missing neighbours, None where it is off, and the share of them that is missing."""
        if self.network.config.extrapolation_factor == 1:
            return None, 0.0
        scale, ratio = (
            sampling.extra.get(name, self.card.native.extra.get(name, default))
            for name, default in (("spatial_guidance", 1.0), ("spatial_masking_ratio", 0.5))
        )
        start = sampling.extra.get("spatial_guidance_start", scale)
        if not all(isinstance(value, int | float) and value >= 0 for value in (scale, start, ratio)) or ratio > 1:
            raise UsageError(
                f"{self.card.name} cannot use spatial guidance {start!r} to {scale!r} with ratio {ratio!r}",
                "scales are numbers from 0, the ratio is one from 0 to 1",
                "leave them out for the official ones",
            )
        spatial = linear_guidance(start, scale)
        return (spatial if spatial.on else None), ratio


# ---- upstream's settings and recordings ------------------------------------------------------------------------------


ONE_BY_ONE = 2**20
"""More steps than tokens: one in each pass."""


def linear_guidance(start: float, end: float) -> Guidance:
    """Upstream's pair of scales: linear in the tokens decoded, off unless the last is above 1."""
    if end <= 1:
        return Guidance()
    return Guidance(scale=end) if start == end else Guidance(scale=end, start=start, schedule="linear")


def upstream_sampling(settings: Mapping[str, Any]) -> Sampling:
    """Canonical sampling from the arguments of upstream's `generate`; -1 steps are as many as there are tokens."""
    scales, steps = settings.get("cfg_scales", (1.0, 1.0)), settings.get("num_inference_steps", 88)
    return Sampling(
        guidance=linear_guidance(scales[0], scales[-1]),
        steps=ONE_BY_ONE if steps == -1 else steps,
        **filters(settings),
    )


SETTINGS = frozenset({"greedy", "cfg_scales", "num_inference_steps", "temperature", "top_k", "top_p"})
EXTRAPOLATION = frozenset({"extrapolation_factor", "spatial_cfg_scales", "ntk_boundary"})


def replay(
    config: Mapping[str, Any],
    state: dict[str, Tensor],
    tokenizer: tuple[Mapping[str, Any], dict[str, Tensor]] | None = None,
) -> Replay:
    """A function that repeats a recorded probe (name, settings, inputs) with the network of a recording.

    An `extrapolation_factor` among a generation's settings asks for upstream's `generate_resolution_extrapolation`;
    the given tokens that its spatial guidance leaves out are then the input `dropped` (B, n).
    """
    ours = from_upstream(Config, config, TRAINING_ONLY)
    network = with_state(
        lambda: Network(ours),
        state,
        card_name="RandAR's RandARTransformer",
        names=official_names,
        ignored=IGNORED,
    )

    def order_of(inputs: Mapping[str, Tensor]) -> Tensor:
        if "order" in inputs:
            return inputs["order"]
        if network.config.position_order == "random":
            raise InputError("cannot replay this recording", "its order of tokens was random and is not in it", "")
        labels = inputs["class_ids"]
        side = network.config.side
        return decoding_order(Greedy(len(labels)), fixed_order("raster", side, labels.device), side)

    def logits(settings: Mapping[str, Any], inputs: Mapping[str, Tensor]) -> Tensor:
        return network.score_in_order(inputs["class_ids"], inputs["tokens"], order_of(inputs))

    def tokens(settings: Mapping[str, Any], inputs: Mapping[str, Tensor]) -> Tensor:
        order, labels = order_of(inputs), inputs["class_ids"]
        sampling, noise = upstream_sampling(settings), Greedy(len(labels))
        if settings.get("extrapolation_factor", 1) == 1:
            return generate(network, labels, order, sampling, noise)[0]
        spatial = linear_guidance(*settings.get("spatial_cfg_scales", (1.0, 1.0)))
        return extrapolate(
            network,
            labels,
            order,
            sampling,
            noise,
            spatial=spatial if spatial.on else None,
            dropped=inputs.get("dropped"),
            boundary=settings.get("ntk_boundary", BOUNDARY),
        )[0]

    return token_replay("a RandAR generator", SETTINGS | EXTRAPOLATION, logits, tokens)
