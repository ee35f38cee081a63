"""MAR (Li et al., NeurIPS 2024, arXiv:2406.11838): masked autoregression over continuous tokens, drawn by diffusion."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any, Self

import torch
from torch import Tensor

from arbench.errors import InputError
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

from ...layers.checkpoint import build_and_load, compile_passes, with_state
from ...layers.config import from_upstream
from ...layers.diffusion_head import Step, embedded_times, reverse_steps, sample_tokens, spaced
from ...layers.generator import RecordedGenerator, check_mask, class_labels
from ...layers.kl import KLTokenizer, fitting
from ...layers.masked import gathered, split_mask, unknown_after
from ...layers.sampling import check_silent, guided_steps
from ...tokenizers.mar_kl.adapter import restored as restored_tokenizer
from ...tokenizers.mar_kl.network import LATENT_SCALE
from .network import TRAINING_ONLY, Config, Network, official_names

SCHEDULES = ("linear", "constant")
ITERATIONS, DIFFUSION_STEPS = 64, 100
"""What the official sampler does when not told."""


def head_steps(sampling: Sampling) -> tuple[Step, ...]:
    """The diffusion process of every token. Raises UsageError for a number of steps that no head can take."""
    return reverse_steps(spaced(sampling.inner_steps or DIFFUSION_STEPS))


def iterations(sampling: Sampling) -> int:
    return sampling.steps or ITERATIONS


Drawing = Callable[[Tensor, int, float | None], Tensor]
"""(states (B or 2B, n, W), the iteration, guidance weight) -> tokens (B, n, C)."""


def by_diffusion(network: Network, processes: Sequence[tuple[Step, ...]], sampling: Sampling, noise: Noise) -> Drawing:
    """Tokens are drawn by the diffusion head, by the process of each iteration."""
    head, config = network.head, network.config
    times = {steps: embedded_times(head, steps) for steps in dict.fromkeys(processes)}

    def draw(states: Tensor, iteration: int, weight: float | None) -> Tensor:
        return sample_tokens(
            head,
            processes[iteration],
            head.state_in(states),
            noise,
            f"token/{iteration}",
            times=times[processes[iteration]],
            weight=weight,
            temperature=sampling.temperature,
            clip=config.clip_denoised,
        )

    return draw


def generate(
    network: Network,
    labels: Tensor,
    sampling: Sampling,
    noise: Noise,
    *,
    processes: Sequence[tuple[Step, ...]] | None = None,
    drawing: Drawing | None = None,
    order: Tensor | None = None,
    given: tuple[Tensor, Tensor] | None = None,
    unknown: int | None = None,
    probe: Probe = NO_PROBE,
) -> tuple[Tensor, int, int]:
    """Latents (B, C, h, w) as the network has them (scaled), the iterations taken and the forward passes.

    `processes` are the head's for each iteration, by default `head_steps` in all; `drawing` draws tokens in another
    way than by diffusion. `order` (B, L) lists the positions
    from the last found to the first; drawn if not given. `given` are scaled latents (B, C, h, w) to start from, and a
    mask (L,) of the tokens that are drawn anew, at least one: `unknown` of them, counted if not said. The guidance
    weight of an iteration is the schedule's at the share of tokens that will be known after it, where the last
    iteration counts all but one. While guidance is on, both halves go as one batch of 2B.
    Iterations that find no token are left out.
    """
    config, batch = network.config, len(labels)
    if unknown is None:
        unknown = int(given[1].sum()) if given else config.tokens
    counts = unknown_after(iterations(sampling), unknown)
    guided = guided_steps(sampling.guidance, len(counts) - 1)
    with probe("condition"):
        condition = network.condition(labels, guided=guided > 0)
        if drawing is None:
            drawing = by_diffusion(network, processes or [head_steps(sampling)] * (len(counts) - 1), sampling, noise)
        if order is None:
            order = noise.permutation("order", config.tokens)
    tokens = torch.zeros(batch, config.tokens, config.channels, device=labels.device)
    if given is not None:
        latents, mask = given
        tokens = network.patches(latents.float())
        order = order.gather(1, mask[order].int().argsort(dim=1, descending=True, stable=True))  # known ones last
    taken = forwards = 0
    for iteration, (before, after) in enumerate(pairwise(counts)):
        if before == after:
            continue
        with probe("ar", index=taken, tokens=before - after):
            passes = 2 if iteration < guided else 1
            positions, wanted = order[:, before:], order[:, after:before]
            known = gathered(tokens, positions)
            states = network(
                condition[: passes * batch],
                known.repeat(passes, 1, 1),
                positions.repeat(passes, 1),
                wanted.repeat(passes, 1),
            )
            share = (config.tokens - max(1, after)) / config.tokens
            with probe("inner", index=taken, tokens=before - after):
                drawn = drawing(states, iteration, sampling.guidance.weight(share) if passes == 2 else None)
            tokens = tokens.scatter(1, wanted.unsqueeze(-1).expand_as(drawn), drawn)
        taken += 1
        forwards += passes
    return network.grid(tokens), taken, forwards


class MAR(RecordedGenerator):
    """`Generator`. Guidance starts at 1 and grows linearly with the tokens known, or is constant."""

    network: Network
    tokenizer: KLTokenizer

    @classmethod
    def load(cls, card: Card, spec: LoadSpec, tokenizer: Tokenizer | None) -> Self:
        config = from_upstream(Config, card.config, TRAINING_ONLY)
        tokenizer = fitting(card, config.vae_embed_dim, config.vae_stride, tokenizer)
        network = build_and_load(lambda: Network(config), card, spec, names=official_names)
        compile_passes(spec, network, network.head.reverse, dynamic=True)  # lengths change with every iteration
        return cls(card, network, tokenizer, spec)

    def check(self, sampling: Sampling) -> None:
        super().check(sampling)
        self.processes(sampling)

    def processes(self, sampling: Sampling) -> Sequence[tuple[Step, ...]]:
        """The head's diffusion process in each iteration. Raises UsageError for steps that no head can take."""
        return [head_steps(sampling)] * iterations(sampling)

    def prepare(self, batch: int, sampling: Sampling) -> None:
        self.check(sampling)
        for process in dict.fromkeys(self.processes(sampling)):
            self.network.head.times(process)
        super().prepare(batch, sampling)

    def draw(self, noise: Noise, sampling: Sampling, probe: Probe, labels: Tensor) -> Generated:
        processes = self.processes(sampling)
        latents, taken, forwards = generate(self.network, labels, sampling, noise, processes=processes, probe=probe)
        return Generated(
            codes=Codes(latents=latents / self.tokenizer.latent_scale), outer_steps=taken, forwards=forwards
        )

    @torch.inference_mode()
    def edit(
        self, request: Request, codes: Codes, mask: Tensor, sampling: Sampling, *, probe: Probe = NO_PROBE
    ) -> Generated:
        """`Edits`: the tokens outside the mask are known from the start, the iterations find those inside.

        A token of several latents (`patch_size` above one) is found anew if one of them is in the mask.
        """
        self.check(sampling)
        labels, config = class_labels(self.card, request), self.network.config
        latents = editable(self.card, config, codes, mask, len(labels))
        side, patch = config.side, config.patch_size
        wanted = mask.reshape(side, patch, side, patch).any(dim=3).any(dim=1).flatten()  # (L,)
        count, device = int(wanted.sum()), labels.device
        # as many places to draw are a shape: what is recorded for one number of them serves any mask with as many
        places = torch.empty(count, 0, device=device)
        inputs = (labels, latents.to(device), mask.to(device), wanted.to(device), places)
        return self.calls(self._redraw, request.noise, sampling, probe, *inputs, record=True)

    def _redraw(
        self,
        noise: Noise,
        sampling: Sampling,
        probe: Probe,
        labels: Tensor,
        latents: Tensor,
        mask: Tensor,
        wanted: Tensor,
        places: Tensor,
    ) -> Generated:
        """Draws the tokens that are `wanted` (L,) anew, as many as `places` (n, 0) has rows; the rest stays."""
        scale = self.tokenizer.latent_scale
        drawn, taken, forwards = generate(
            self.network,
            labels,
            sampling,
            noise,
            processes=self.processes(sampling),
            given=(latents * scale, wanted),
            unknown=len(places),
            probe=probe,
        )
        edited = torch.where(mask, drawn / scale, latents)
        return Generated(codes=Codes(latents=edited), outer_steps=taken, forwards=forwards)


def editable(card: Card, config: Config, codes: Codes, mask: Tensor, batch: int) -> Tensor:
    """The latents (B, C, h, w) of `codes`. Raises InputError unless they and the mask (h, w) suit an edit."""
    side = config.side * config.patch_size
    form = (batch, config.vae_embed_dim, side, side)
    if codes.latents is None or tuple(codes.latents.shape) != form:
        found = "none" if codes.latents is None else f"of shape {tuple(codes.latents.shape)}"
        raise InputError(
            f"{card.name} edits latents of shape {form}", f"the codes have {found}", f"encode with {card.tokenizer}"
        )
    check_mask(card, mask, side)
    return codes.latents


def upstream_sampling(settings: Mapping[str, Any]) -> Sampling:
    """Canonical sampling from upstream's arguments: those of `sample_tokens`, and the head's step count.

    Its `cfg` is canonical guidance already: growing from 1 with the tokens known, or constant.
    """
    scale, schedule = settings.get("cfg_scale", 1.0), settings.get("cfg_schedule", "linear")
    if schedule not in SCHEDULES:
        raise InputError(f"no guidance schedule {schedule!r} in MAR", f"known: {', '.join(SCHEDULES)}", "")
    return Sampling(
        guidance=Guidance(scale=scale, schedule=schedule),
        temperature=settings.get("temperature", 1.0),
        steps=settings.get("num_iter", ITERATIONS),
        inner_steps=int(settings.get("diffusion_steps", settings.get("num_sampling_steps", DIFFUSION_STEPS))),
    )


SETTINGS = frozenset(
    {"noise", "greedy", "num_iter", "cfg_scale", "cfg_schedule", "temperature", "progress"}
    | {"diffusion_steps", "num_sampling_steps"}
)


def replay(
    config: Mapping[str, Any],
    state: dict[str, Tensor],
    tokenizer: tuple[Mapping[str, Any], dict[str, Tensor]] | None = None,
) -> Callable[[str, Mapping[str, Any], Mapping[str, Tensor]], dict[str, Tensor]]:
    """A function that repeats a recorded probe (name, settings, inputs) with the networks of a recording."""
    ours = from_upstream(Config, config, TRAINING_ONLY)
    network = with_state(lambda: Network(ours), state, card_name="MAR's MAR", names=official_names)
    decoder = restored_tokenizer(*tokenizer) if tokenizer else None

    @torch.inference_mode()
    def call(probe: str, settings: Mapping[str, Any], inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        if probe == "hidden":
            latents, positions = inputs["latents"], split_mask(inputs["mask"])
            everywhere = torch.arange(network.config.tokens).expand(len(latents), -1)
            condition = network.condition(inputs["class_ids"], guided=False)
            return {"hidden": network(condition, gathered(latents, positions), positions, everywhere)}
        if probe == "denoise":
            return {"prediction": network.head(inputs["noisy"], inputs["timesteps"], inputs["hidden"])}
        if probe == "generate":
            check_silent(settings, SETTINGS)
            labels, sampling = inputs["class_ids"], upstream_sampling({**config, **settings})
            latents, _, _ = generate(network, labels, sampling, Greedy(len(labels)), order=inputs["order"])
            return {"latents": latents} | ({"images": decoder.render(latents / LATENT_SCALE)} if decoder else {})
        raise InputError(f"no probe {probe!r} for a MAR generator", "known: hidden, denoise, generate", "")

    return call
