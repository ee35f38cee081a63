"""VAR (Tian et al., NeurIPS 2024, arXiv:2404.02905): next-scale prediction over a pyramid of token maps."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import torch
import torch.nn.functional as F
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

from ...layers.attention import KVCache
from ...layers.checkpoint import build_and_load, compile_passes, device_of, with_state
from ...layers.config import from_upstream
from ...layers.generator import CachedGenerator, check_form, check_mask, class_labels, of_kind
from ...layers.multiscale import split
from ...layers.quantize import MultiScaleQuantizer
from ...layers.sampling import check_replayable, draw_tokens, guided_steps, mix_guidance
from ...tokenizers.var.adapter import VARTokenizer, restored
from .network import IGNORED, TRAINING_ONLY, Config, Network, official_names


@dataclass(frozen=True, slots=True)
class Given:
    """What an edit keeps: ids (B, side^2) of every scale, and (side^2,) bool, true where they are drawn anew."""

    levels: tuple[Tensor, ...]
    redrawn: tuple[Tensor, ...]

    def merged(self, drawn: Tensor, scale: int) -> Tensor:
        return torch.where(self.redrawn[scale], drawn, self.levels[scale])


def generate(
    network: Network,
    quantizer: MultiScaleQuantizer,
    labels: Tensor,
    sampling: Sampling,
    noise: Noise,
    *,
    given: Given | None = None,
    caches: Sequence[KVCache] | None = None,
    probe: Probe = NO_PROBE,
) -> tuple[tuple[Tensor, ...], Tensor, int]:
    """Ids (B, side^2) of every scale, `f_hat` (B, C, H, W), and how many forward passes they took.

    With `given` only the tokens that it says are drawn; later scales see those and the given ones as one image.

    The guidance weight of scale k of K is the schedule's at k / (K - 1). While guidance is on, conditional and
    unconditional sequences go as one batch of 2B; once it is off, the conditional half continues alone.
    """
    config, batch, scales = network.config, len(labels), len(network.config.patch_nums)
    guided = guided_steps(sampling.guidance, scales)
    if guided:
        labels = torch.cat((labels, torch.full_like(labels, config.num_classes)))
    if caches is None or caches[0].rows < len(labels):
        caches = network.allocate(len(labels))
    with probe("condition"):
        condition = network.class_table(labels)
        modulations = network.modulate(condition)
    f_hat = quantizer.start(batch)
    levels: list[Tensor] = []
    for scale in range(scales):
        with probe("ar" if scale else "prefill", index=scale, tokens=config.lengths[scale]):
            rows = 2 * batch if scale < guided else batch
            features = None
            if scale:
                features = quantizer.next_input(f_hat, scale - 1).flatten(2).transpose(1, 2)
                features = features.repeat(rows // batch, 1, 1)
            x = network.embed(features, condition[:rows], scale)
            modulation = [each[:rows] for each in modulations]
            states = network(x, modulation, config.starts[scale], caches)
            logits = network.logits(states, condition[:rows])
            if scale < guided:
                logits = mix_guidance(logits, sampling.guidance.weight(scale / max(scales - 1, 1)))
            ids = draw_tokens(logits, sampling, noise, f"scale/{scale}", reach=True)
            if given is not None:
                ids = given.merged(ids, scale)
            levels.append(ids)
            f_hat = quantizer.accumulate(f_hat, ids, scale)
    return tuple(levels), f_hat, scales + guided


def touched(mask: Tensor, side: int) -> Tensor:
    """(side, side) bool: the cells of a coarser grid that a mask (h, w) touches; at its own side the mask itself."""
    # adaptive pooling takes every fine cell that overlaps a coarse one, also where the sides do not divide
    cells: Tensor = F.adaptive_max_pool2d(mask[None].float(), (side, side))
    return cells[0] > 0


class VAR(CachedGenerator):
    """`Generator`, `Scores`, `Edits`. `Codes.latents` is the tokenizer's `f_hat`; decoding need not rebuild it."""

    network: Network
    tokenizer: VARTokenizer

    @classmethod
    def load(cls, card: Card, spec: LoadSpec, tokenizer: Tokenizer | None) -> Self:
        config = from_upstream(Config, card.config, TRAINING_ONLY)
        # the tokenizer's quantiser makes the input of every scale
        tokenizer = of_kind(card, tokenizer, VARTokenizer, "a VAR tokenizer")
        form = (config.patch_nums, config.vocab_size, config.z_channels)
        check_form(card, tokenizer, "sides, codes and channels", tokenizer.quantizer.form, form)
        whole = replace(spec, dtype="float32")  # the head stays so; `place` casts the blocks
        network = build_and_load(lambda: Network(config), card, whole, names=official_names, ignored=IGNORED)
        network.place(device_of(spec), getattr(torch, spec.dtype))
        compile_passes(spec, network, network.logits)
        return cls(card, network, tokenizer, spec)

    @torch.inference_mode()
    def edit(
        self, request: Request, codes: Codes, mask: Tensor, sampling: Sampling, *, probe: Probe = NO_PROBE
    ) -> Generated:
        """VAR's zero-shot editing: tokens outside the mask are teacher-forced at every scale, those in it are drawn.

        `mask` (side, side) is on the grid of the last scale. A token of a coarser scale is drawn anew if its cell
        touches the mask, that of a 1 x 1 scale always. Coarse tokens reach beyond the mask, so that pixels outside it
        change even where all fine tokens are kept. A mask that is true everywhere gives what `sample` gives. Raises
        InputError for a mask of another shape or type or without a token, and for codes of another form or batch.
        """
        given = self._given(request, codes, mask)
        self.check(sampling)
        tensors = (class_labels(self.card, request), *given.levels, *given.redrawn)
        return self.calls(self.draw, request.noise, sampling, probe, *tensors, record=True)

    def _given(self, request: Request, codes: Codes, mask: Tensor) -> Given:
        sides = self.network.config.patch_nums
        check_mask(self.card, mask, sides[-1])
        self.tokenizer.check_levels(codes.ids, len(sides))
        if len(codes.ids[0]) != len(request.sample_ids):
            raise InputError(
                f"{self.card.name} needs the codes of every image that it edits",
                f"{len(request.sample_ids)} samples are asked for, the codes are of {len(codes.ids[0])}",
                "",
            )
        redrawn = tuple(touched(mask, side).flatten().to(codes.ids[0].device) for side in sides)
        return Given(codes.ids, redrawn)

    def draw(self, noise: Noise, sampling: Sampling, probe: Probe, labels: Tensor, *given: Tensor) -> Generated:
        """`given`, in an edit: the ids of every scale, then the masks of every scale."""
        half = len(given) // 2
        levels, f_hat, forwards = generate(
            self.network,
            self.tokenizer.quantizer,
            labels,
            sampling,
            noise,
            given=Given(given[:half], given[half:]) if given else None,
            caches=self.caches(len(labels), sampling),
            probe=probe,
        )
        return Generated(codes=Codes(ids=levels, latents=f_hat), outer_steps=len(levels), forwards=forwards)

    @torch.inference_mode()
    def logits(self, request: Request, codes: Codes) -> Tensor:
        return self.network.score(class_labels(self.card, request), self.tokenizer.quantizer.teacher_forcing(codes.ids))


def upstream_sampling(settings: Mapping[str, Any]) -> Sampling:
    """Canonical sampling from the arguments of upstream's `autoregressive_infer_cfg`.

    Its `(1 + t) cond - t uncond` with t = cfg * k / (K - 1) is canonical guidance growing from 1 to 1 + cfg.
    """
    top_p = settings.get("top_p", 0.0)
    return Sampling(
        guidance=Guidance(scale=1 + settings.get("cfg_scale", 1.5), start=1.0, schedule="linear"),
        top_k=max(settings.get("top_k", 0), 0) or None,
        top_p=top_p if 0 < top_p < 1 else None,
    )


SETTINGS = frozenset({"greedy", "cfg_scale", "top_k", "top_p", "more_smooth"})


def replay(
    config: Mapping[str, Any],
    state: dict[str, Tensor],
    tokenizer: tuple[Mapping[str, Any], dict[str, Tensor]] | None = None,
) -> Callable[[str, Mapping[str, Any], Mapping[str, Tensor]], dict[str, Tensor]]:
    """A function that repeats a recorded probe (name, settings, inputs) with the networks of a recording."""
    if tokenizer is None:
        raise InputError("a VAR generator cannot be replayed alone", "the recording names no tokenizer", "")
    ours = from_upstream(Config, config, TRAINING_ONLY)
    network = with_state(lambda: Network(ours), state, card_name="VAR's VAR", names=official_names, ignored=IGNORED)
    vae_config, vae_state = tokenizer
    vae = restored({**vae_config, "v_patch_nums": ours.patch_nums}, vae_state)  # upstream builds both with one list

    @torch.inference_mode()
    def call(probe: str, settings: Mapping[str, Any], inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        labels = inputs["class_ids"]
        if probe == "logits":
            levels = split(inputs["tokens"], network.config.patch_nums)
            return {"logits": network.score(labels, vae.quantize.teacher_forcing(levels))}
        if probe == "generate":
            check_replayable(settings, SETTINGS)
            if settings.get("more_smooth"):
                raise InputError("cannot replay this generation", "more_smooth mixes codes by random numbers", "")
            levels, f_hat, _ = generate(network, vae.quantize, labels, upstream_sampling(settings), Greedy(len(labels)))
            return {"tokens": torch.cat(levels, dim=1), "images": (vae.render(f_hat) + 1) / 2}
        raise InputError(f"no probe {probe!r} for a VAR generator", "known: logits, generate", "")

    return call
