"""HART (Tang et al., ICLR 2025, arXiv:2410.10812): next-scale codes, and a diffused residual on the last map."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from dataclasses import replace as changed
from pathlib import Path
from typing import Any, Self

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
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

from ..layers.attention import KVCache
from ..layers.checkpoint import bring_up, device_of, load_strict, uninitialised
from ..layers.config import from_upstream
from ..layers.diffusion_head import Step, official_head_name, reverse_steps, sample_tokens, spaced
from ..layers.quantize import MultiScaleQuantizer
from ..layers.sampling import check_replayable, check_supported, guided_steps, mix_guidance, token_probabilities
from ..tokenizers.hart_hybrid import HARTTokenizer, restored
from .transformer import TRAINING_ONLY, Config, Network, Text

RESIDUAL_SCALE = 0.6
"""Residuals are divided by it for the diffusion head."""
DRAWN_AT_ONCE = 2**24
"""Logits that are filtered and drawn from at once."""
IGNORED = (r"lvl_1L", r"attn_bias_for_masking", r"blocks\.\d+\.attn\.zero_k_bias")
"""Official keys that hold what can be computed."""

_TO_OFFICIAL = (
    ("caption_norm.", "context_norm."),
    ("caption_in.", "context_embed."),
    ("features_in.", "word_embed."),
    ("level_in.", "lvl_embed.mlp.0."),
    ("level_out.", "lvl_embed.mlp.2."),
    ("level_table.", "lvl_embed."),
    ("head_norm.", "head_nm.ln_wo_grad."),
    ("head_modulation.", "head_nm.ada_lin.1."),
    ("residual_norm.", "decoder_norm."),
    (".norm.", ".ln_wo_grad."),
    (".modulation_offset", ".scale_shift_table"),
    (".modulation.", ".ada_lin.1."),
    (".attention.qkv.", ".attn.qkv_proj."),
    (".attention.out.", ".attn.proj."),
    (".attention.log_scale", ".attn.scale_mul_1H11"),
    (".attention.", ".attn."),
)
_MLP = {
    True: ((".gate.", ".ffn.gate_proj."), (".mlp_in.", ".ffn.up_proj."), (".mlp_out.", ".ffn.down_proj.")),
    False: ((".mlp_in.", ".ffn.fc1."), (".mlp_out.", ".ffn.fc2.")),
}


def official_names(config: Config) -> Callable[[str], tuple[str, ...]]:
    """One of our parameter names -> the official key, for a network of this `config`."""

    def name(ours: str) -> tuple[str, ...]:
        if ours.startswith("residual_head."):
            return (f"diffloss.net.{official_head_name(ours.removeprefix('residual_head.'))}",)
        for fragment, official in (*_TO_OFFICIAL, *_MLP[config.mlp_type == "llama"]):
            ours = ours.replace(fragment, official)
        return (ours,)

    return name


# ---- captions --------------------------------------------------------------------------------------------------------


def with_null(captions: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """The doubled batch of guidance: features of zero with only the first position marked as text come second."""
    null = torch.zeros_like(mask)
    null[:, 0] = 1
    return torch.cat((captions, torch.zeros_like(captions))), torch.cat((mask, null))


def read_captions(paths: Sequence[str], config: Config) -> tuple[Tensor, Tensor]:
    """Features (B, T, D) and mask (B, T) from one safetensors file a prompt, with `features` (T, D) and `mask` (T,).

    Padding must be there as the text encoder left it: it influences the image.
    """
    given = [_read_caption(Path(path), config) for path in paths]
    return torch.stack([features for features, _ in given]), torch.stack([mask for _, mask in given])


def _read_caption(path: Path, config: Config) -> tuple[Tensor, Tensor]:
    hint = "write a safetensors file with `features` and `mask` for each prompt and give its path as the prompt"
    try:
        stored = load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise InputError(f"cannot read the caption features {str(path)!r}", str(error), hint) from None
    wanted = {"features": (config.context_token, config.context_dim), "mask": (config.context_token,)}
    found = {name: tuple(tensor.shape) for name, tensor in stored.items() if name in wanted}
    if found != wanted:
        raise InputError(f"{path} does not hold a caption of this model", f"it has {found}, not {wanted}", hint)
    return stored["features"].float(), stored["mask"].long()


# ---- drawing ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Knobs:
    """The family's own settings: see the card's `extra`."""

    more_smooth: bool = False
    residual: bool = True
    last_scale_iterations: int = 1

    @classmethod
    def of(cls, sampling: Sampling, config: Config) -> Self:
        knobs = cls(**sampling.extra)
        most = config.lengths[-1]
        fits = type(knobs.last_scale_iterations) is int and 1 <= knobs.last_scale_iterations <= most
        if not fits or type(knobs.more_smooth) is not bool or type(knobs.residual) is not bool:
            raise Unsupported(
                f"HART cannot sample with {knobs}",
                f"more_smooth and residual are true or false, last_scale_iterations is 1 to {most}",
                "change `extra`",
            )
        return knobs


def default_top_k(scale: int) -> int:
    """Upstream's own, whatever the caller asks of it."""
    return 600 if scale < 7 else 300


def draw_codes(
    logits: Tensor,
    codebook: Tensor,
    sampling: Sampling,
    noise: Noise,
    scale: int,
    progress: float,
    *,
    smooth: bool,
    start: int = 0,
) -> tuple[Tensor, Tensor]:
    """Ids (B, n) and what the map takes for them (B, n, C), from logits (B, n, V) of a scale, from place `start` on.

    With `smooth` the map takes a Gumbel-softmax mixture of the codes (V, C), sharper as `progress` grows.
    """
    rows, _, vocabulary = logits.shape
    sampling = sampling.model_copy(update={"top_k": sampling.top_k or default_top_k(scale)})
    sharpness = (1 + progress) / max(0.27 * (1 - 0.95 * progress), 0.005)
    ids, features = [], []
    for part in logits.split(max(1, DRAWN_AT_ONCE // (rows * vocabulary)), dim=1):
        probabilities = token_probabilities(part, sampling, reach=True)
        ids.append(noise.categorical(probabilities, f"scale/{scale}", start=start))
        if smooth:
            count = part.shape[1] * vocabulary
            uniform = noise.uniform(f"smooth/{scale}", count, start * vocabulary).clamp(min=2.0**-54)
            gumbel = -torch.log(-torch.log(uniform)).float().reshape(part.shape)
            mixture = (probabilities.log() * sharpness + gumbel * (sharpness / (1 + progress))).softmax(-1)
            features.append(mixture @ codebook)
        else:
            features.append(torch.nn.functional.embedding(ids[-1], codebook))
        start += part.shape[1]
    return torch.cat(ids, dim=1), torch.cat(features, dim=1)


def portions(order: Tensor, iterations: int) -> Iterator[Tensor]:
    """Places (B, m) of the last map that each iteration fills, ascending; `order` (B, n) is filled from its end.

    After iteration i a share cos(pi / 2 (i + 1) / iterations) of the places is left.
    """
    left = order.shape[1]
    for iteration in range(iterations):
        keep = 0
        if iteration < iterations - 1:
            share = math.cos(math.pi / 2 * (iteration + 1) / iterations)
            keep = max(1, min(left - 1, math.floor(order.shape[1] * share)))
        yield order[:, keep:left].sort(dim=1).values
        left = keep


def taken(x: Tensor, places: Tensor) -> Tensor:
    """(B, m, C): the rows of `x` (B, n, C) at `places` (B, m)."""
    return x.gather(1, places.unsqueeze(-1).expand(-1, -1, x.shape[-1]))


def generate(
    network: Network,
    quantizer: MultiScaleQuantizer,
    captions: Tensor,
    mask: Tensor,
    sampling: Sampling,
    noise: Noise,
    *,
    caches: Sequence[KVCache] | None = None,
    order: Tensor | None = None,
    probe: Probe = NO_PROBE,
) -> tuple[tuple[Tensor, ...], Tensor, int]:
    """Ids (B, side^2) of every scale, the feature map (B, C, H, W) they and the residual give, and forward passes.

    `captions` (B, T, D) are features of the text encoder and `mask` (B, T) is 1 where there is text. The guidance
    weight of scale k of K is the schedule's at k / (K - 1); the last scale has that of the one before. While guidance
    is on, conditional and unconditional sequences go as one batch of 2B; once it is off, the conditional half goes on
    alone. `order` (B, n) is in which places of the last map are filled, from its end; drawn if there are iterations.
    """
    config, batch, scales = network.config, len(captions), len(network.config.patch_nums)
    knobs = Knobs.of(sampling, config)
    guided = guided_steps(sampling.guidance, scales)
    if guided:
        captions, mask = with_null(captions, mask)
    if caches is None or caches[0].rows < len(captions):
        caches = network.allocate(len(captions))
    with probe("condition"):
        text, levels = network.read(captions, mask), network.levels()
    f_hat = quantizer.start(batch)
    drawn: list[Tensor] = []
    for scale in range(scales - 1):
        with probe("ar" if scale else "prefill", index=scale, tokens=config.patch_nums[scale] ** 2):
            text = text.first(2 * batch if scale < guided else batch)
            if scale:
                x = network.features_in(quantizer.next_input(f_hat, scale - 1).flatten(2).transpose(1, 2))
                x, rotations = x.repeat(len(text.states) // batch, 1, 1), network.map_rotations(text, scale)
            else:
                x, rotations = text.states, network.caption_rotations(text)
            states = network(x + levels[scale], text, rotations, config.starts[scale], caches)
            logits = network.logits(states if scale else states[:, -1:], text)
            progress = scale / (scales - 1)
            if scale < guided:
                logits = mix_guidance(logits, sampling.guidance.weight(progress))
            codebook = quantizer.codebook.codes
            ids, codes = draw_codes(logits, codebook, sampling, noise, scale, progress, smooth=knobs.more_smooth)
            drawn.append(ids)
            f_hat = f_hat + quantizer.contribution(as_map(codes), scale)
    text = text.first(2 * batch if scales - 1 < guided else batch)
    if order is None:
        order = torch.arange(config.lengths[-1], device=f_hat.device).expand(batch, -1)
        if knobs.last_scale_iterations > 1:
            order = noise.permutation("order", config.lengths[-1])
    x = network.features_in(quantizer.next_input(f_hat, scales - 2).flatten(2).transpose(1, 2)) + levels[-1]
    ids, codes = draw_last(network, quantizer, x, text, order, sampling, noise, knobs, caches, probe)
    rows = len(text.states) // batch
    forwards = scales - 1 + min(guided, scales - 1) + knobs.last_scale_iterations * rows
    return (*drawn, ids), f_hat + as_map(codes), forwards


def draw_last(
    network: Network,
    quantizer: MultiScaleQuantizer,
    x: Tensor,
    text: Text,
    order: Tensor,
    sampling: Sampling,
    noise: Noise,
    knobs: Knobs,
    caches: Sequence[KVCache],
    probe: Probe,
) -> tuple[Tensor, Tensor]:
    """Ids (B, n) of the last scale and what is added to the map (B, n, C): codes plus the diffused residual.

    `x` (B, n, width) is the input of the scale; `text` is doubled if it is guided.
    """
    config, batch, last = network.config, len(x), len(network.config.patch_nums) - 1
    copies = len(text.states) // batch
    progress = (last - 1) / last  # upstream keeps the ratio of the scale before
    weight = sampling.guidance.weight(progress) if copies == 2 else None
    rotations = network.map_rotations(text, last)  # (2, rows, 1, n, D)
    steps = residual_steps(config, sampling)
    ids = torch.zeros_like(order)
    added = x.new_zeros(batch, config.lengths[-1], config.z_channels)
    done = 0
    for iteration, places in enumerate(portions(order, knobs.last_scale_iterations)):
        with probe("ar", index=last + iteration, tokens=places.shape[1]):
            turned = rotations
            if knobs.last_scale_iterations > 1:
                where = places.repeat(copies, 1)[None, :, None, :, None]
                turned = rotations.gather(3, where.expand(2, -1, 1, -1, rotations.shape[-1]))
            given = taken(x, places).repeat(copies, 1, 1)
            states = network(given, text, turned, config.starts[last] + done, caches)
            logits = network.logits(states, text)
            if weight is not None:
                logits = mix_guidance(logits, weight)
            codebook = quantizer.codebook.codes
            new, codes = draw_codes(
                logits, codebook, sampling, noise, last, progress, smooth=knobs.more_smooth, start=done
            )
            if knobs.residual:
                with probe("inner", index=iteration, tokens=places.shape[1]):
                    given = network.residual_states(states, quantizer.codebook.lookup(new).repeat(copies, 1, 1))
                    codes = codes + draw_residual(network, steps, given, noise, f"residual/{iteration}", weight)
            ids.scatter_(1, places, new)
            added.scatter_(1, places.unsqueeze(-1).expand_as(codes), codes)
            done += places.shape[1]
    return ids, added


def draw_residual(
    network: Network, steps: Sequence[Step], states: Tensor, noise: Noise, stream: str, weight: float | None
) -> Tensor:
    """(B, n, C) given embedded states (B, n, W), doubled if there is a guidance weight."""
    if weight == 2.0:  # upstream's head takes its number for this weight, 1, to mean "no guidance"
        states, weight = states.chunk(2)[0], None
    return RESIDUAL_SCALE * sample_tokens(network.residual_head, steps, states, noise, stream, weight=weight, clip=True)


def residual_steps(config: Config, sampling: Sampling) -> tuple[Step, ...]:
    return reverse_steps(spaced(sampling.inner_steps or int(config.num_sampling_steps)))


def as_map(codes: Tensor) -> Tensor:
    """(B, C, h, w) of the codes (B, h * w, C) of a square map."""
    side = math.isqrt(codes.shape[1])
    return codes.transpose(1, 2).reshape(len(codes), -1, side, side)


# ---- the adapter -----------------------------------------------------------------------------------------------------


class HART:
    """`Generator` and `Scores`. A prompt is the path of a file with its features, see `read_captions`.

    `Codes.latents` is the residual: what is left of the feature map once the codes are taken off.
    """

    def __init__(self, card: Card, network: Network, tokenizer: HARTTokenizer) -> None:
        self.card = card
        self.tokenizer = tokenizer
        self.network = network
        self._caches: list[KVCache] | None = None

    @classmethod
    def load(cls, card: Card, spec: LoadSpec, tokenizer: Tokenizer | None) -> Self:
        config = from_upstream(Config, card.config, TRAINING_ONLY)
        tokenizer = _fitting(card, config, tokenizer)
        whole = changed(spec, dtype="float32")  # inputs and head stay so; `place` casts the blocks
        network = bring_up(lambda: Network(config), card, whole, names=official_names(config), ignored=IGNORED)
        network.place(device_of(spec), getattr(torch, spec.dtype))
        if spec.compile:
            for block in network.blocks:
                block.compile()
        return cls(card, network, tokenizer)

    def prepare(self, batch: int, sampling: Sampling) -> None:
        self._check(sampling)
        rows = 2 * batch if sampling.guidance.on else batch
        if self._caches is None or self._caches[0].rows != rows:
            self._caches = None  # the old ones are freed first
            self._caches = self.network.allocate(rows)

    def sample(self, request: Request, sampling: Sampling, *, probe: Probe = NO_PROBE) -> Generated:
        self._check(sampling)
        return self.sample_captions(*self._captions(request), request.noise, sampling, probe=probe)

    @torch.inference_mode()
    def sample_captions(
        self, captions: Tensor, mask: Tensor, noise: Noise, sampling: Sampling, *, probe: Probe = NO_PROBE
    ) -> Generated:
        """Images for features (B, T, D) of the text encoder, with `mask` (B, T) 1 where there is text."""
        self._check(sampling)
        rows = len(captions) * (2 if sampling.guidance.on else 1)
        if self._caches is None or self._caches[0].rows < rows:
            self.prepare(len(captions), sampling)
        levels, features, forwards = generate(
            self.network,
            self.tokenizer.quantizer,
            captions,
            mask,
            sampling,
            noise,
            caches=self._caches,
            probe=probe,
        )
        steps = len(levels) - 1 + Knobs.of(sampling, self.network.config).last_scale_iterations
        return Generated(codes=self.tokenizer.hybrid(levels, features), outer_steps=steps, forwards=forwards)

    @torch.inference_mode()
    def logits(self, request: Request, codes: Codes) -> Tensor:
        captions, mask = self._captions(request)
        return self.network.score(captions, mask, self.tokenizer.quantizer.teacher_forcing(codes.ids))

    def _check(self, sampling: Sampling) -> None:
        check_supported(self.card, sampling)
        Knobs.of(sampling, self.network.config)
        residual_steps(self.network.config, sampling)

    def _captions(self, request: Request) -> tuple[Tensor, Tensor]:
        if request.prompts is None:
            raise UsageError(
                f"{self.card.name} needs captions",
                "the request has none",
                "give prompts that are paths of files with features of the text encoder",
            )
        device = self.network.head.weight.device
        captions, mask = read_captions(request.prompts, self.network.config)
        return captions.to(device), mask.to(device)

    def close(self) -> None:
        self._caches = None
        vars(self).pop("network", None)  # frees the weights; closing twice is fine


def _fitting(card: Card, config: Config, tokenizer: Tokenizer | None) -> HARTTokenizer:
    """The tokenizer, if this generator can use it; its quantiser makes the input of every scale."""
    hint = f"use {card.tokenizer}"
    if not isinstance(tokenizer, HARTTokenizer):
        given = tokenizer.card.name if tokenizer is not None else "none"
        raise InputError(f"{card.name} needs a HART tokenizer", f"given: {given}", hint)
    quantizer = tokenizer.quantizer
    theirs = (quantizer.sides, quantizer.codebook.embedding.num_embeddings, quantizer.channels)
    ours = (config.patch_nums, config.vocab_size, config.z_channels)
    if theirs != ours:
        raise InputError(
            f"{card.name} cannot use {tokenizer.card.name}",
            f"sides, codes and channels are {theirs}, the generator was made for {ours}",
            hint,
        )
    return tokenizer


def upstream_sampling(settings: Mapping[str, Any]) -> Sampling:
    """Canonical sampling from the arguments of upstream's `autoregressive_infer_cfg`, whose `top_k` has no effect.

    Its `(1 + t) cond - t uncond` with t = cfg * k / (K - 1) is canonical guidance growing from 1 to 1 + cfg.
    """
    top_p = settings.get("top_p", 0.0)
    knobs = Knobs(
        more_smooth=settings.get("more_smooth", False),
        residual=settings.get("final_stage", 0) == 0,
        last_scale_iterations=settings.get("maskgit_iters", 1),
    )
    default = Knobs()
    return Sampling(
        guidance=Guidance(scale=1 + settings.get("cfg_scale", 1.5), start=1.0, schedule="linear"),
        top_p=top_p if 0 < top_p < 1 else None,
        extra={
            name: getattr(knobs, name)
            for name in ("more_smooth", "residual", "last_scale_iterations")
            if getattr(knobs, name) != getattr(default, name)
        },
    )


SETTINGS = frozenset({"greedy", "noise", "cfg_scale", "top_k", "top_p", "more_smooth", "maskgit_iters", "final_stage"})


def replay(
    config: Mapping[str, Any],
    state: dict[str, Tensor],
    tokenizer: tuple[Mapping[str, Any], dict[str, Tensor]] | None = None,
) -> Callable[[str, Mapping[str, Any], Mapping[str, Tensor]], dict[str, Tensor]]:
    """A function that repeats a recorded probe (name, settings, inputs) with the networks of a recording."""
    if tokenizer is None:
        raise InputError("a HART generator cannot be replayed alone", "the recording names no tokenizer", "")
    ours = from_upstream(Config, config, TRAINING_ONLY)
    with uninitialised():
        network = Network(ours).eval()
    load_strict(network, state, card_name="HART", names=official_names(ours), ignored=IGNORED)
    vae = restored(*tokenizer)

    @torch.inference_mode()
    def call(probe: str, settings: Mapping[str, Any], inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        captions, mask = inputs["captions"], inputs["caption_mask"]
        if probe == "logits":
            levels = torch.split(inputs["tokens"], [side * side for side in ours.patch_nums], dim=1)
            return {"logits": network.score(captions, mask, vae.quantize.teacher_forcing(levels))}
        if probe == "generate":
            check_replayable(settings, SETTINGS)
            sampling, noise, order = upstream_sampling(settings), Greedy(len(captions)), inputs.get("order")
            _refuse_random(sampling, order)
            levels, features, _ = generate(network, vae.quantize, captions, mask, sampling, noise, order=order)
            return {
                "tokens": torch.cat(levels, dim=1),
                "images": (vae.render(features) + 1) / 2,
                "latents": features,
            }
        raise InputError(f"no probe {probe!r} for a HART generator", "known: logits, generate", "")

    return call


def _refuse_random(sampling: Sampling, order: Tensor | None) -> None:
    """Raise InputError for what even a greedy recording drew at random."""
    if sampling.extra.get("more_smooth"):
        raise InputError("cannot replay this generation", "more_smooth mixes codes by random numbers", "")
    if "last_scale_iterations" in sampling.extra and order is None:
        raise InputError("cannot replay this generation", "it fills the last map in an order it does not hold", "")
