"""Plain sampling loops: of the first six systems here, of the others in `small_systems` with the modules it names.

Each is written over the public forward of our network and takes the random numbers that our loop takes, so that both
give the same samples, and what differs is how much is computed. These six keep no cache: all that is known is read
anew at every step. `cached_loops`, `masked_loops`, `scale_loops`, `flow_loops` and `fractal_loops` keep what the
papers keep. `System` is a network of random weights with both loops; `adapters.py` times them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import torch
from cached_loops import Drawn
from plain_heads import diffused
from small_systems import Size, systems
from torch import nn

from arbench.adapters.continuous.mar.adapter import ITERATIONS, unknown_after
from arbench.adapters.continuous.mar.cards import MAR_BASE
from arbench.adapters.continuous.mar.network import gathered
from arbench.adapters.hybrid.hart.cards import HART_0_7B
from arbench.adapters.hybrid.hart.sampling import as_map, draw_codes, residual_steps, with_null
from arbench.adapters.layers.diffusion_head import reverse_steps, spaced
from arbench.adapters.layers.sampling import draw_tokens
from arbench.adapters.next_scale.var.cards import MINI as VAR_MINI
from arbench.adapters.random_order.randar.cards import MINI as RANDAR_MINI
from arbench.adapters.random_order.randar.network import interleave
from arbench.adapters.random_order.randar.sampling import group_sizes
from arbench.adapters.random_order.rar.cards import MINI as RAR_MINI
from arbench.adapters.raster.llamagen.cards import MINI as LLAMAGEN_MINI
from arbench.adapters.tokenizers.hart.cards import HYBRID as HART_HYBRID
from arbench.adapters.tokenizers.hart.network import RESIDUAL_SCALE
from arbench.adapters.tokenizers.mar_kl.cards import KL_16 as MAR_KL_16
from arbench.adapters.tokenizers.var.cards import MINI as VAR_TOKENIZER
from arbench.protocols import Card, Generator, Guidance, LoadSpec, Noise, Request, Sampling, TokenSpec
from arbench.registry import resolve
from arbench.seeds import noise_for

# ---- token by token --------------------------------------------------------------------------------------------------


def llamagen(model: Any, request: Request, sampling: Sampling, noise: Noise) -> Drawn:
    network, labels = model.network, request.labels
    given = torch.cat((labels, network.null(labels)))
    tokens = labels.new_empty(len(labels), 0)
    for index in range(network.config.block_size):
        x = torch.cat((network.condition(given), network.token_table(tokens.repeat(2, 1))), dim=1)
        conditional, free = network.logits(network(x)[:, -1:]).chunk(2)
        logits = free + (conditional - free) * sampling.guidance.scale
        tokens = torch.cat((tokens, draw_tokens(logits, sampling, noise, "tokens", start=index)), dim=1)
    return tokens, None


def rar(model: Any, request: Request, sampling: Sampling, noise: Noise) -> Drawn:
    network, labels = model.network, request.labels
    config, positions = network.config, network.positions()
    given = torch.cat((labels, torch.full_like(labels, config.condition_num_classes)))
    tokens = labels.new_empty(len(labels), 0)
    for index in range(config.image_seq_len):
        condition = network.condition(given)
        first = network.first.expand(len(given), -1, -1)
        x = torch.cat((first, condition, network.table(tokens.repeat(2, 1))), dim=1)
        conditional, free = network(x + positions[:, : x.shape[1]], condition).chunk(2)
        weight = sampling.guidance.weight(index / config.image_seq_len)
        logits = free + (conditional - free) * weight
        tokens = torch.cat((tokens, draw_tokens(logits, sampling, noise, "tokens", start=index)), dim=1)
    return tokens, None


def randar(model: Any, request: Request, sampling: Sampling, noise: Noise) -> Drawn:
    network, labels = model.network, request.labels
    total = network.config.side**2
    given = torch.cat((labels, network.null(labels)))
    order = noise.permutation("order", total)
    rotations = network.rotations[1:][order].unsqueeze(1)
    queries = network.instructions(rotations)
    tokens, done = labels.new_empty(len(labels), 0), 0
    for size in group_sizes(sampling.steps or network.config.num_inference_steps, total):
        pairs, ahead = interleave(queries[:, :done], network.token_table(tokens)), slice(done, done + size)
        x = torch.cat((pairs, queries[:, ahead]), dim=1)
        x = torch.cat((network.condition(given), x.repeat(2, 1, 1)), dim=1)
        seen = rotations[:, :, :done].repeat_interleave(2, dim=2)
        first = network.rotations[:1].expand(len(labels), 1, -1, -1, -1)
        turns = torch.cat((first, seen, rotations[:, :, ahead]), dim=2).repeat(2, 1, 1, 1, 1)
        conditional, free = network.logits(network(x, rotations=turns)[:, -size:]).chunk(2)
        logits = free + sampling.guidance.weight(done / total) * (conditional - free)
        tokens = torch.cat((tokens, draw_tokens(logits, sampling, noise, "tokens", start=done)), dim=1)
        done += size
    return torch.empty_like(tokens).scatter_(1, order, tokens), None


# ---- scale by scale --------------------------------------------------------------------------------------------------


def var(model: Any, request: Request, sampling: Sampling, noise: Noise) -> Drawn:
    network, quantizer, labels = model.network, model.tokenizer.quantizer, request.labels
    config, sight = network.config, network.sight(labels.device)
    condition = network.class_table(torch.cat((labels, torch.full_like(labels, config.num_classes))))
    f_hat, inputs, levels = quantizer.start(len(labels)), [], []
    for scale, length in enumerate(config.lengths):
        features = quantizer.next_input(f_hat, scale - 1).flatten(2).transpose(1, 2).repeat(2, 1, 1) if scale else None
        inputs.append(network.embed(features, condition, scale))
        x = torch.cat(inputs, dim=1)
        states = network(x, network.modulate(condition), mask=sight[: x.shape[1], : x.shape[1]])
        conditional, free = network.logits(states[:, -length:], condition).chunk(2)
        extra = sampling.guidance.weight(scale / (len(config.lengths) - 1)) - 1
        logits = (1 + extra) * conditional - extra * free
        levels.append(draw_tokens(logits, sampling, noise, f"scale/{scale}", reach=True))
        f_hat = quantizer.accumulate(f_hat, levels[-1], scale)
    return torch.cat(levels, dim=1), f_hat


def hart(model: Any, request: Request, sampling: Sampling, noise: Noise) -> Drawn:
    network, quantizer = model.network, model.tokenizer.quantizer
    captions, mask = with_null(request.captions, request.caption_mask)
    config, last, device = network.config, len(network.config.lengths) - 1, captions.device
    level = torch.arange(last + 1, device=device).repeat_interleave(torch.tensor(config.lengths, device=device))
    sight, text, levels = level[:, None] >= level[None], network.read(captions, mask), network.levels()
    inputs, rotations = [text.states + levels[0]], [network.caption_rotations(text)]
    f_hat, drawn = quantizer.start(len(captions) // 2), []
    for scale in range(last + 1):
        if scale:
            features = quantizer.next_input(f_hat, scale - 1).flatten(2).transpose(1, 2)
            inputs.append(network.features_in(features).repeat(2, 1, 1) + levels[scale])
            rotations.append(network.map_rotations(text, scale))
        x = torch.cat(inputs, dim=1)
        states = network(x, text, torch.cat(rotations, dim=3), mask=sight[: x.shape[1], : x.shape[1]])
        states = states[:, -config.lengths[scale] if scale else -1 :]
        conditional, free = network.logits(states, text).chunk(2)
        progress = min(scale, last - 1) / last
        weight = sampling.guidance.weight(progress)
        logits = weight * conditional - (weight - 1) * free
        ids, codes = draw_codes(logits, quantizer.codebook.codes, sampling, noise, scale, progress, smooth=False)
        drawn.append(ids)
        if scale < last:
            f_hat = f_hat + quantizer.contribution(as_map(codes), scale)
    joined = network.residual_norm(states + network.features_in(codes.repeat(2, 1, 1)))
    steps = residual_steps(config, sampling)
    residual = diffused(network.residual_head, steps, joined, noise, "residual/0", weight, clip=True)
    return torch.cat(drawn, dim=1), f_hat + as_map(codes + RESIDUAL_SCALE * residual)


# ---- by diffusion ----------------------------------------------------------------------------------------------------


def mar(model: Any, request: Request, sampling: Sampling, noise: Noise) -> Drawn:
    """There is no cache officially either: the decoder gives states of all places, of which some are wanted."""
    network, labels = model.network, request.labels
    config, batch = network.config, len(labels)
    order = noise.permutation("order", config.tokens)
    steps = reverse_steps(spaced(sampling.inner_steps or 100))
    condition = network.condition(labels, guided=True)
    everywhere = torch.arange(config.tokens, device=labels.device).expand(2 * batch, -1)
    unknown = torch.ones(batch, config.tokens, dtype=torch.bool, device=labels.device)
    tokens = torch.zeros(batch, config.tokens, config.channels, device=labels.device)
    counts = unknown_after(sampling.steps or ITERATIONS, config.tokens)
    for iteration, (before, after) in enumerate(pairwise(counts)):
        positions = (~unknown).nonzero()[:, 1].reshape(batch, -1)
        known = gathered(tokens, positions)
        states = network(condition, known.repeat(2, 1, 1), positions.repeat(2, 1), everywhere)
        wanted = order[:, after:before]
        weight = sampling.guidance.weight((config.tokens - max(1, after)) / config.tokens)
        states = gathered(states, wanted.repeat(2, 1))
        new = diffused(network.head, steps, states, noise, f"token/{iteration}", weight, sampling.temperature)
        tokens = tokens.scatter(1, wanted.unsqueeze(-1).expand_as(new), new)
        unknown = unknown.scatter(1, wanted, False)
    return None, network.grid(tokens)


# ---- configurations --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class System:
    """A network of random weights, how it is sampled, and its plain loop."""

    name: str
    model: Generator
    sampling: Sampling
    plain: Callable[[Any, Request, Sampling, Noise], Drawn]

    @property
    def tokens(self) -> int:
        """Tokens of an image, or where it has none its pixels."""
        card = self.model.card
        return card.resolution**2 if card.tokens is None else card.tokens.tokens

    def request(self, batch: int, noise: Noise | None = None) -> Request:
        """The first `batch` samples, classes or captions of all lengths, on the network's device."""
        card, device = self.model.card, next(self.model.network.parameters()).device  # type: ignore[attr-defined]
        noise = noise or noise_for(0, range(batch), device)
        if card.condition == "class":
            labels = torch.arange(batch, device=device) % (card.classes or 1)
            return Request(tuple(range(batch)), noise, labels=labels)
        assert card.captions is not None
        words, width = card.captions
        features = noise_for(1, range(batch), device).normal("captions", (words, width))
        lengths = 2 + torch.arange(batch, device=device) % (words - 1)
        mask = (torch.arange(words, device=device) < lengths[:, None]).long()
        return Request(tuple(range(batch)), noise, captions=features, caption_mask=mask)

    def by_ours(self, request: Request, sampling: Sampling | None = None) -> Drawn:
        made = self.model.sample(request, sampling or self.sampling)
        codes = made.codes
        if codes is None:
            return None, made.images
        return (torch.cat(codes.ids, dim=1) if codes.ids else None), codes.latents

    @torch.inference_mode()
    def by_plain(self, request: Request, sampling: Sampling | None = None) -> Drawn:
        tokens, latents = self.plain(self.model, request, sampling or self.sampling, request.noise)
        if self.name == "MAR" and latents is not None:
            latents = latents / self.model.tokenizer.latent_scale  # type: ignore[union-attr]
        if self.name == "HART" and tokens is not None and latents is not None:
            levels = tokens.split([side * side for side in self.model.network.config.patch_nums], dim=1)  # type: ignore[attr-defined]
            latents = self.model.tokenizer.hybrid(levels, latents).latents  # type: ignore[union-attr]
        return tokens, latents


LINEAR = Guidance(scale=4.0, start=1.0, schedule="linear")
PLAIN: dict[str, Callable[[Any, Request, Sampling, Noise], Drawn]] = {
    "LlamaGen": llamagen,
    "RAR": rar,
    "RandAR": randar,
    "VAR": var,
    "MAR": mar,
    "HART": hart,
}


NAMES = (*PLAIN, *systems("tiny"))
"""Of all systems with a plain loop."""


def card_of(name: str, size: Size) -> tuple[Card, Card | None, Sampling]:
    """A card of the system at this size, one of its tokenizer where the generator needs it, and a sampling."""
    tiny = size == "tiny"
    width, depth, heads = (32, 2, 4) if tiny else (256, 6, 8)
    codes, side, classes = (24, 3, 5) if tiny else (1024, 8, 10)
    sides = (1, 2, 3) if tiny else (1, 2, 3, 4, 5, 6, 8)
    channels = 6 if tiny else 16
    coder: dict[str, Any] = {"ch": 32, "ch_mult": (1, 1), "num_res_blocks": 1}
    residual: dict[str, Any] = {"vocab_size": codes, "z_channels": channels, "v_patch_nums": sides} | coder
    llama: dict[str, Any] = {"dim": width, "n_layer": depth, "n_head": heads, "multiple_of": 16, "num_classes": classes}
    llama |= {"vocab_size": codes, "block_size": side**2}
    maps: dict[str, Any] = {"patch_nums": sides, "vocab_size": codes, "z_channels": channels, "depth": depth}
    maps |= {"embed_dim": width, "num_heads": heads}

    def resized(card: Card, tokens: TokenSpec, config: dict[str, Any]) -> Card:
        number = classes if card.condition == "class" else card.classes
        return card.derive(config=config, tokens=tokens, classes=number, checkpoint=None, parameters=None)

    if name == "LlamaGen":
        return resized(LLAMAGEN_MINI, TokenSpec.grid(side, codes), llama), None, Sampling(guidance=Guidance(scale=2.0))
    if name == "RandAR":
        card = resized(RANDAR_MINI, TokenSpec.grid(side, codes), llama)
        return card, None, Sampling(guidance=LINEAR, steps=4 if tiny else 22)
    if name == "RAR":
        config = {"hidden_size": width, "num_hidden_layers": depth, "num_attention_heads": heads}
        config |= {"intermediate_size": 4 * width, "image_seq_len": side**2, "condition_num_classes": classes}
        card = resized(RAR_MINI, TokenSpec.grid(side, codes), config | {"codebook_size": codes})
        return card, None, Sampling(guidance=Guidance(scale=8.0, start=1.0, schedule="cosine_power", power=1.2))
    if name == "VAR":
        spec = TokenSpec.pyramid(sides, codes)
        card = resized(VAR_MINI, spec, maps | {"num_classes": classes, "attn_l2_norm": True})
        return card, resized(VAR_TOKENIZER, spec, residual), Sampling(guidance=LINEAR)
    if name == "HART":
        spec = TokenSpec.pyramid(sides, codes, channels=channels)
        words = {"context_token": 5, "context_dim": 12} if tiny else {"context_token": 32, "context_dim": 256}
        config = HART_0_7B.config | maps | words | {"diff_width": width, "diff_depth": 2 if tiny else 3}
        hart = resized(HART_0_7B, spec, config).derive(captions=tuple(words.values()))
        return hart, resized(HART_HYBRID, spec, residual), Sampling(guidance=LINEAR)
    spec = TokenSpec.grid(side, channels=channels)
    config = {f"{part}_{key}": value for part in ("encoder", "decoder") for key, value in _half(width, depth, heads)}
    config |= {"img_size": 2 * side, "vae_stride": 2, "vae_embed_dim": channels, "class_num": classes}
    config |= {"buffer_size": side, "diffloss_d": 2 if tiny else 3, "diffloss_w": width}
    sampling = Sampling(
        guidance=Guidance(scale=3.0, schedule="linear"), steps=4 if tiny else 16, inner_steps=5 if tiny else 25
    )
    return resized(MAR_BASE, spec, config), resized(MAR_KL_16, spec, {"embed_dim": channels, **coder}), sampling


def _half(width: int, depth: int, heads: int) -> list[tuple[str, int]]:
    """Encoder and decoder have half of the blocks each."""
    return [("embed_dim", width), ("depth", depth // 2), ("num_heads", heads)]


def stirred(network: nn.Module) -> None:
    """Change all weights, so that none of those a new network leaves at zero or one is without effect."""
    draw = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in network.parameters():
            noise = torch.randn(parameter.shape, generator=draw) / parameter.shape[-1] ** 0.5
            parameter.add_(noise.to(parameter))


def build(name: str, size: Size, device: str = "cpu", dtype: Literal["float32", "bfloat16"] = "float32") -> System:
    """The system of this name (see `NAMES`)."""
    if name in PLAIN:
        (card, tokenizer_card, sampling), plain = card_of(name, size), PLAIN[name]
    else:
        small = systems(size)[name]
        card, tokenizer_card, sampling, plain = small.card, small.tokenizer, small.sampling, small.loop
    spec = LoadSpec(init="random", device=device, dtype=dtype)
    tokenizer = None if tokenizer_card is None else resolve(tokenizer_card.implementation).load(tokenizer_card, spec)
    model = resolve(card.implementation).load(card, spec, tokenizer)
    stirred(model.network)
    if name == "FAR":  # ten times all steps of a random head would leave the range of numbers
        model.network.head.out.weight.data.mul_(0.1)
    return System(name, model, sampling, plain)
