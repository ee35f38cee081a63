"""FractalGen (arXiv:2502.17437): a level draws its patches as images of the next level, the last one draws pixels."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Self

import torch
from torch import Tensor

from arbench.errors import InputError
from arbench.protocols import (
    NO_PROBE,
    Card,
    Generated,
    Guidance,
    LoadSpec,
    Noise,
    Probe,
    Sampling,
    Tokenizer,
)
from arbench.seeds import Greedy
from arbench.spec.sampling import COLDEST

from ...layers import llama
from ...layers.checkpoint import build_and_load, compile_blocks, with_state
from ...layers.config import from_upstream
from ...layers.generator import RecordedGenerator
from ...layers.linear import filled_up
from ...layers.masked import gathered, unknown_after
from ...layers.sampling import check_replayable, guided_steps, mix_guidance
from ...layers.vit import Block
from .cards import LOWER, THRESHOLD
from .network import (
    TRAINING_ONLY,
    CausalLevel,
    Config,
    Fractal,
    MaskedLevel,
    Network,
    PixelHead,
    from_patches,
    into_patches,
    official_names,
)

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Pixels are normalised by them."""
ITERATIONS, LOWER_ITERATIONS, FILTER = 64, 16, 1e-4
"""What the official sampler does when not told."""


def normalised(values: Tensor) -> Tensor:
    """(N, 3, ...) as networks read them, from pixels of 0 to 255."""
    return torch.stack([(values[:, i].float() / 255 - MEAN[i]) / STD[i] for i in range(3)], dim=1)


def pixels(images: Tensor) -> Tensor:
    """(N, 3, ...) from 0 to 1 of `normalised` ones."""
    return torch.stack([images[:, i] * STD[i] + MEAN[i] for i in range(3)], dim=1)


@dataclass
class Call:
    """What the levels of a call share. Numbers are counted, so that no two draws of a sample take the same ones."""

    noise: Noise
    temperature: float
    threshold: float
    iterations: Sequence[int]
    """Of the masked levels, from the top; an autoregressive one has as many as patches."""
    fixed: Tensor | None = None
    """(B, L): the top level's order; lower ones go from the last place to the first then."""
    drawn: int = 0
    ordered: int = 0

    def order(self, rows: int, count: int, level: int) -> Tensor:
        """(rows, count) places from the last found to the first, of so many images of a level, those of a sample next
        to each other."""
        if self.fixed is not None:
            last_first = torch.arange(count - 1, -1, -1, device=self.fixed.device)
            return last_first.expand(rows, -1) if level else self.fixed
        each = rows // self.noise.batch * count
        self.ordered += each
        return self.noise.uniform("order", each, self.ordered - each).reshape(rows, count).argsort(dim=-1, stable=True)

    def pixels(self, head: PixelHead, states: Tensor, weight: float | None) -> Tensor:
        """(N, 3) int64 values of pixels with states (N, W), or with a guidance `weight` (2N, W)."""
        rows = len(states) if weight is None else len(states) // 2
        caches, x = head.allocate(len(states)), head.state_in(states).unsqueeze(1)
        values: list[Tensor] = []
        for channel in range(3):
            logits = head.step(channel, filled_up(x), caches, len(states)) / max(self.temperature, COLDEST)
            if weight is not None:
                logits = mix_guidance(self.filtered(logits), weight)
            each = rows // self.noise.batch
            chances = logits.softmax(-1).reshape(self.noise.batch, each, 256)
            values.append(self.noise.categorical(chances, "pixels", self.drawn).reshape(rows))
            self.drawn += each
            x = head.codes[channel](values[-1].unsqueeze(1)).repeat(len(states) // rows, 1, 1)
        return torch.stack(values, dim=1)

    def filtered(self, logits: Tensor) -> Tensor:
        """Logits (2N, 256) where what is very unlikely under the condition is hardly pushed further by guidance."""
        with_class, without = logits.chunk(2)
        raised = with_class - with_class.amax(-1, keepdim=True) + without.amax(-1, keepdim=True)
        unlikely = with_class.softmax(-1) < self.threshold
        return torch.cat((with_class, torch.where(unlikely, torch.maximum(without, raised), without)))


def images_of(
    fractal: Fractal | PixelHead,
    call: Call,
    given: Sequence[Tensor],
    guidance: Guidance | None,
    *,
    level: int = 0,
    probe: Probe = NO_PROBE,
) -> tuple[Tensor, int, int]:
    """Normalised images (N, 3, s, s), the iterations of this level and its forward passes.

    `given` are conditions (N, W), or with a guidance (2N, W), the conditional half first. The guidance weight of an
    iteration is the schedule's at the share of patches that will be known after it, where the last of masked ones
    counts all but one; what is below takes it as it is.
    """
    net = None if isinstance(fractal, PixelHead) else fractal.generator
    if isinstance(net, MaskedLevel):
        return _masked_images(fractal, net, call, given, guidance, level, probe)
    if isinstance(net, CausalLevel):
        return _causal_images(fractal, net, call, given, guidance, level, probe)
    values = call.pixels(fractal, given[0], None if guidance is None else guidance.scale)
    return normalised(values)[..., None, None], 1, 1


def _below(fractal: Fractal, call: Call, given: Sequence[Tensor], weight: float | None, level: int) -> Tensor:
    """(N, 3 p^2) patches of a level, as images of what is below."""
    guidance = None if weight is None else Guidance(scale=weight)
    return images_of(fractal.next, call, given, guidance, level=level + 1)[0].flatten(1)


def _guided(guidance: Guidance | None, steps: int, level: int) -> int:
    """How many of the first steps are guided: what the top level guides, those below it guide throughout."""
    if guidance is None or level:
        return 0 if guidance is None else steps
    return guided_steps(guidance, steps)


def _masked_images(
    fractal: Fractal,
    net: MaskedLevel,
    call: Call,
    given: Sequence[Tensor],
    guidance: Guidance | None,
    level: int,
    probe: Probe,
) -> tuple[Tensor, int, int]:
    copies = 1 if guidance is None else 2
    rows = len(given[0]) // copies
    counts = unknown_after(min(call.iterations[level], net.count), net.count)
    guided = _guided(guidance, len(counts) - 1, level)
    pixel = None
    if net.guided:
        value = call.pixels(net.guide, given[0], None if guidance is None else guidance.scale)
        pixel = normalised(value).repeat(copies, 1)
    order = call.order(rows, net.count, level)
    patches = torch.zeros(rows, net.count, 3 * net.side**2, device=order.device)
    places = torch.zeros(rows, net.count, dtype=torch.bool, device=order.device)
    needed = fractal.needed
    taken = forwards = 0
    for iteration, (before, after) in enumerate(pairwise(counts)):
        if before == after:
            continue
        passes = 2 if iteration < guided else 1
        with probe("ar", index=taken, tokens=before - after):
            wanted = order[:, after:before]
            seen = (
                patches.repeat(passes, 1, 1),
                places.scatter(1, order[:, :before], True).repeat(passes, 1),
                [each[: passes * rows] for each in given],
                None if pixel is None else pixel[: passes * rows],
            )
            picked = wanted.repeat(passes, 1)
            if needed == 1:
                conditions = [net.states(*seen, picked)]
            else:
                conditions = [gathered(each, picked) for each in net(*seen)[:needed]]
            conditions = [each.flatten(0, 1) for each in conditions]  # each (passes * rows * n, W)
            share = (net.count - max(1, after)) / net.count
            weight = guidance.weight(share) if guidance is not None and passes == 2 else None
            with probe("inner", index=taken, tokens=before - after):
                found = _below(fractal, call, conditions, weight, level).reshape(rows, before - after, -1)
            patches = patches.scatter(1, wanted.unsqueeze(-1).expand_as(found), found)
        taken += 1
        forwards += passes
    return from_patches(patches, net.side), taken, forwards


def _causal_images(
    fractal: Fractal,
    net: CausalLevel,
    call: Call,
    given: Sequence[Tensor],
    guidance: Guidance | None,
    level: int,
    probe: Probe,
) -> tuple[Tensor, int, int]:
    rows = len(given[0]) // (1 if guidance is None else 2)
    guided = _guided(guidance, net.count, level)
    caches, x = net.allocate(len(given[0])), net.condition_in(given[0]).unsqueeze(1)
    patches: list[Tensor] = []
    for index in range(net.count):
        passes = 2 if index < guided else 1
        with probe("ar" if index else "prefill", index=index, tokens=1):
            if index:
                x = net.patch_in(patches[-1].to(x.dtype)).repeat(passes, 1).unsqueeze(1)
            states = net(filled_up(x[: passes * rows]), index, caches, passes * rows)[:, 0]
            weight = guidance.weight((index + 1) / net.count) if guidance is not None and passes == 2 else None
            with probe("inner", index=index, tokens=1):
                patches.append(_below(fractal, call, (states,), weight, level))
    return from_patches(torch.stack(patches, dim=1), net.side), net.count, net.count + guided


class FractalGen(RecordedGenerator):
    """`Generator` of images, without a tokenizer. Guidance grows linearly with the top level's patches, or is constant.

    `steps` are the iterations of the top level where it is masked, `lower_steps` those of every masked level below it.
    """

    network: Network

    @classmethod
    def load(cls, card: Card, spec: LoadSpec, tokenizer: Tokenizer | None) -> Self:
        config = from_upstream(Config, card.config, TRAINING_ONLY)
        network = build_and_load(lambda: Network(config), card, spec, names=official_names)
        compile_blocks(
            spec, (each for each in network.modules() if isinstance(each, Block | llama.Block)), dynamic=True
        )
        return cls(card, network, None, spec)

    def draw(self, noise: Noise, sampling: Sampling, probe: Probe, labels: Tensor) -> Generated:
        extra = {**self.card.native.extra, **sampling.extra}
        lower = [extra.get(LOWER, LOWER_ITERATIONS)] * (self.network.config.levels - 1)
        call = Call(
            noise=noise,
            temperature=sampling.temperature,
            threshold=extra.get(THRESHOLD, FILTER),
            iterations=(sampling.steps or ITERATIONS, *lower),
        )
        images, taken, forwards = generate(self.network, labels, call, sampling.guidance, probe=probe)
        return Generated(images=pixels(images).clamp(0, 1), outer_steps=taken, forwards=forwards)


def generate(
    network: Network, labels: Tensor, call: Call, guidance: Guidance, *, probe: Probe = NO_PROBE
) -> tuple[Tensor, int, int]:
    """Normalised images (B, 3, H, W) of classes (B,), the top level's iterations and its forward passes."""
    with probe("condition"):
        given = network.condition(labels, guided=guidance.on)
    return images_of(network, call, given, guidance if guidance.on else None, probe=probe)


SETTINGS = frozenset({"noise", "greedy", "num_iter_list", "cfg_scale", "cfg_schedule", "temperature"}) | {
    "filter_threshold"
}
SCHEDULES = ("linear", "constant")


def upstream_call(settings: Mapping[str, Any], batch: int, order: Tensor | None) -> tuple[Call, Guidance]:
    """From the arguments of upstream's `sample`; its temperature multiplies logits."""
    scale, schedule = settings.get("cfg_scale", 1.0), settings.get("cfg_schedule", "linear")
    if schedule not in SCHEDULES:
        raise InputError(f"no guidance schedule {schedule!r} in FractalGen", f"known: {', '.join(SCHEDULES)}", "")
    call = Call(
        noise=Greedy(batch),
        temperature=1 / settings.get("temperature", 1.0),
        threshold=settings.get("filter_threshold", FILTER),
        iterations=settings["num_iter_list"],
        fixed=order,
    )
    return call, Guidance(scale=scale, schedule=schedule) if scale != 1 else Guidance()


def replay(
    config: Mapping[str, Any],
    state: dict[str, Tensor],
    tokenizer: tuple[Mapping[str, Any], dict[str, Tensor]] | None = None,
) -> Callable[[str, Mapping[str, Any], Mapping[str, Tensor]], dict[str, Tensor]]:
    """A function that repeats a recorded probe (name, settings, inputs) with the network of a recording."""
    ours = from_upstream(Config, config, TRAINING_ONLY)
    network = with_state(lambda: Network(ours), state, card_name="FractalGen's FractalGen", names=official_names)

    def pixel_head(part: Fractal | PixelHead) -> PixelHead:
        return part if isinstance(part, PixelHead) else pixel_head(part.next)

    @torch.inference_mode()
    def call(probe: str, settings: Mapping[str, Any], inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        if probe == "hidden":
            top, given = network.generator, network.condition(inputs["class_ids"], guided=False)
            patches = into_patches(inputs["images"], top.side)
            masked = isinstance(top, MaskedLevel)
            return {"hidden": top(patches, inputs["mask"].bool(), given) if masked else top.score(patches, given)}
        if probe == "pixel_logits":
            values = (pixels(inputs["pixels"]) * 255).round().long()
            return {"logits": pixel_head(network).score(inputs["hidden"], values)}
        if probe == "generate":
            check_replayable(settings, SETTINGS)
            labels = inputs["class_ids"]
            # without an order nothing is drawn by it
            order = inputs.get("order", labels.new_zeros(len(labels), 0))
            return {"images": generate(network, labels, *upstream_call(settings, len(labels), order))[0]}
        raise InputError(f"no probe {probe!r} for a FractalGen generator", "known: hidden, pixel_logits, generate", "")

    return call
