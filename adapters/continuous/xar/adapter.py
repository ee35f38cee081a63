"""xAR (arXiv:2502.20388): four cells of latents one after the other, the tokens of a cell drawn together by a flow."""

from __future__ import annotations

import math
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
    Sampling,
    Tokenizer,
)
from arbench.seeds import Greedy

from ...layers.attention import KVCache
from ...layers.checkpoint import build_and_load, compile_passes, with_state
from ...layers.config import from_upstream
from ...layers.diffusion_head import step_noise
from ...layers.flow_blocks import annealed, even, truncated
from ...layers.generator import CachedGenerator
from ...layers.kl import KLTokenizer, fitting
from ...layers.sampling import check_silent, guided_steps, mix_guidance
from .network import CELL, CELLS, CHANNELS, CLASSES, IGNORED, TRAINING_ONLY, Config, Network, in_raster, official_names

STEPS = 50
"""What sampling takes when not told."""
LAST = 0.04
"""Time of the last step, which goes to 0 without noise."""


def generate(
    network: Network,
    labels: Tensor,
    sampling: Sampling,
    noise: Noise,
    steps: Sequence[int],
    *,
    caches: Sequence[KVCache] | None = None,
    probe: Probe = NO_PROBE,
) -> tuple[Tensor, int]:
    """Latents (B, 16, 16, 16) as the network has them (scaled), and the cells counted twice where they are guided.

    `steps` are the flow's for each cell: Euler-Maruyama, in float64. The guidance weight of cell k is the schedule's
    at k / 3. The first step of a cell reads the cell before it once more, clean, and keeps it in the caches.
    """
    batch = len(labels)
    guided = guided_steps(sampling.guidance, CELLS)
    if guided:
        labels = torch.cat((labels, torch.full_like(labels, CLASSES)))
    if caches is None or caches[0].rows < len(labels):
        caches = network.allocate(len(labels))
    with probe("condition"):
        classes = network.class_table(labels)
        clean = classes + network.time(truncated(0.0, labels.device))
    cells: list[Tensor] = []
    for cell in range(CELLS):
        with probe("ar" if cell else "prefill", index=cell, tokens=CELL):
            weight = sampling.guidance.weight(cell / (CELLS - 1)) if cell < guided else 1.0
            rows = 2 * batch if cell < guided and (cell or weight != 1) else batch
            now = noise.normal(f"cell/{cell}", (CELL, CHANNELS)).double()
            added = step_noise(noise, f"cell/{cell}/steps", steps[cell] - 1, (CELL, CHANNELS))
            times = [*even(1.0, LAST, steps[cell]), 0.0]
            with probe("inner", index=cell, tokens=CELL):
                for step, (time, after) in enumerate(pairwise(times)):
                    conditions = [classes[:rows] + network.time(truncated(time, labels.device))]
                    tokens, start = now.to(classes.dtype), cell * CELL
                    if step == 0 and cell:
                        tokens = torch.cat((cells[-1].to(classes.dtype), tokens), dim=1)
                        conditions, start = [clean[:rows], *conditions], start - CELL
                    velocity = network(tokens.repeat(rows // batch, 1, 1), conditions, start, caches).double()
                    if rows > batch:
                        velocity = mix_guidance(velocity, weight)
                    drift = (2 - time) * velocity + now  # velocity less time times the score
                    now = now + (after - time) * drift
                    if after:
                        now = now + math.sqrt(2 * time * (time - after)) * next(added)
            cells.append(now.float())
    latents = in_raster(torch.cat(cells, dim=1)).mT.unflatten(-1, (16, 16))
    return latents, CELLS + guided


class XAR(CachedGenerator):
    """`Generator`. `inner_steps` are those of the flow in each cell."""

    network: Network
    tokenizer: KLTokenizer

    @classmethod
    def load(cls, card: Card, spec: LoadSpec, tokenizer: Tokenizer | None) -> Self:
        config = from_upstream(Config, card.config, TRAINING_ONLY)
        tokenizer = fitting(card, config.vae_embed_dim, config.vae_stride, tokenizer)
        network = build_and_load(lambda: Network(config), card, spec, names=official_names, ignored=IGNORED)
        compile_passes(spec, network, dynamic=True)
        return cls(card, network, tokenizer, spec)

    def draw(self, noise: Noise, sampling: Sampling, probe: Probe, labels: Tensor) -> Generated:
        first = sampling.inner_steps or STEPS
        last = sampling.extra.get("last_inner_steps", self.card.native.extra.get("last_inner_steps", first))
        caches = self.caches(len(labels), sampling)
        steps = annealed(first, last, CELLS)
        latents, forwards = generate(self.network, labels, sampling, noise, steps, caches=caches, probe=probe)
        codes = Codes(latents=latents / self.tokenizer.latent_scale)
        return Generated(codes=codes, outer_steps=CELLS, forwards=forwards)


SETTINGS = frozenset({"noise", "greedy", "num_steps", "flow_upper_steps", "flow_lower_steps", "cfg_scale"})


def replay(
    config: Mapping[str, Any],
    state: dict[str, Tensor],
    tokenizer: tuple[Mapping[str, Any], dict[str, Tensor]] | None = None,
) -> Callable[[str, Mapping[str, Any], Mapping[str, Tensor]], dict[str, Tensor]]:
    """A function that repeats a recorded probe (name, settings, inputs) with the network of a recording.

    `flow_upper_steps` and `flow_lower_steps` among the settings are DiSA's.
    """
    ours = from_upstream(Config, config, TRAINING_ONLY)
    network = with_state(lambda: Network(ours), state, card_name="xAR's xAR", names=official_names, ignored=IGNORED)

    def velocity(labels: Tensor, noisy: Tensor, times: Tensor, latents: Tensor | None) -> Tensor:
        classes = network.class_table(labels)
        known = 0 if latents is None else latents.shape[1] // CELL
        conditions = [classes + network.time(torch.zeros_like(times).long())] * known
        conditions.append(classes + network.time((times.float() * 1000).long()))
        return network(noisy if latents is None else torch.cat((latents, noisy), dim=1), conditions)

    @torch.inference_mode()
    def call(probe: str, settings: Mapping[str, Any], inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        labels = inputs["class_ids"]
        if probe == "velocity":
            return {"prediction": velocity(labels, inputs["noisy"], inputs["timesteps"], inputs.get("latents"))}
        if probe == "generate":
            check_silent(settings, SETTINGS)
            scale = settings.get("cfg_scale", 1.0)
            sampling = Sampling(guidance=Guidance(scale=scale, schedule="linear") if scale > 1 else Guidance())
            first = settings.get("flow_upper_steps", settings.get("num_steps", 50))
            steps = annealed(first, settings.get("flow_lower_steps", first), CELLS)
            latents, _ = generate(network, labels, sampling, Greedy(len(labels)), steps)
            return {"latents": latents, "steps": torch.tensor(steps)}
        raise InputError(f"no probe {probe!r} for an xAR generator", "known: velocity, generate", "")

    return call
