"""MAR (Li et al., NeurIPS 2024, arXiv:2406.11838): masked autoregression over continuous tokens, drawn by diffusion."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

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

from ..layers.attention import attend
from ..layers.checkpoint import bring_up, compile_blocks, replaced, with_state
from ..layers.config import from_upstream
from ..layers.diffusion_head import (
    DiffusionHead,
    embedded_times,
    official_head_name,
    reverse_steps,
    sample_tokens,
    spaced,
)
from ..layers.generator import check_form, check_mask, class_labels, of_kind
from ..layers.linear import Linear
from ..layers.sampling import check_supported, guided_steps
from ..tokenizers.mar_kl import LATENT_SCALE, MARKL
from ..tokenizers.mar_kl import restored as restored_tokenizer

SCHEDULES = ("linear", "constant")
ITERATIONS, DIFFUSION_STEPS = 64, 100
"""What the official sampler does when not told."""

TRAINING_ONLY = (
    "class",
    "mask_ratio_min",
    "label_drop_prob",
    "attn_dropout",
    "proj_dropout",
    "diffusion_batch_mul",
    "grad_checkpointing",
    "num_sampling_steps",
)
"""Official hyper-parameters without effect on a trained network (the last is given with each request)."""


@dataclass(frozen=True, slots=True)
class Config:
    """Upstream's `MAR`, with its defaults."""

    img_size: int = 256
    vae_stride: int = 16
    patch_size: int = 1
    encoder_embed_dim: int = 1024
    encoder_depth: int = 16
    encoder_num_heads: int = 16
    decoder_embed_dim: int = 1024
    decoder_depth: int = 16
    decoder_num_heads: int = 16
    mlp_ratio: float = 4.0
    vae_embed_dim: int = 16
    class_num: int = 1000
    buffer_size: int = 64
    diffloss_d: int = 3
    diffloss_w: int = 1024
    norm_eps: float = 1e-6
    clip_denoised: float = 0.0
    """Bound on the head's estimates of a token; 0, none, in every official model. Early timesteps multiply errors of
    the noise by thousands, which only a head that was trained for long keeps small enough."""

    @property
    def side(self) -> int:
        """Tokens along an edge of the image."""
        return self.img_size // self.vae_stride // self.patch_size

    @property
    def tokens(self) -> int:
        return self.side**2

    @property
    def channels(self) -> int:
        """Numbers in a token."""
        return self.vae_embed_dim * self.patch_size**2


class Block(nn.Module):
    """A pre-norm transformer block whose tokens all see one another."""

    def __init__(self, width: int, heads: int, config: Config) -> None:
        super().__init__()
        self.heads = heads
        hidden = int(width * config.mlp_ratio)
        self.norm1 = nn.LayerNorm(width, eps=config.norm_eps)
        self.qkv = Linear(width, 3 * width)
        self.out = Linear(width, width)
        self.norm2 = nn.LayerNorm(width, eps=config.norm_eps)
        self.mlp_in = Linear(width, hidden)
        self.mlp_out = Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = self.qkv(self.norm1(x)).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        x = x + self.out(attend(query, key, value))
        out: Tensor = x + self.mlp_out(F.gelu(self.mlp_in(self.norm2(x))))
        return out


def gathered(x: Tensor, positions: Tensor) -> Tensor:
    """(B, n, D): rows `positions` (B, n) of `x` (B, L, D), or of one table (L, D) for all samples."""
    if x.ndim == 2:
        return x[positions]
    return x.gather(1, positions.unsqueeze(-1).expand(-1, -1, x.shape[-1]))


def small(*shape: int) -> nn.Parameter:
    """Small random numbers, drawn by `nn.init` so that loading weights draws none."""
    return nn.Parameter(nn.init.normal_(torch.empty(shape), std=0.02))


class Backbone(nn.Module):
    """The masked autoencoder: an encoder of class and known tokens, and a decoder that fills in all positions.

    Buffer tokens, all with the embedding of the class, come before the image's.
    """

    def __init__(self, config: Config) -> None:
        super().__init__()
        c = self.config = config
        length = c.buffer_size + c.tokens
        self.class_table = nn.Embedding(c.class_num, c.encoder_embed_dim)
        self.no_class = small(1, c.encoder_embed_dim)
        self.token_in = Linear(c.channels, c.encoder_embed_dim)
        self.token_norm = nn.LayerNorm(c.encoder_embed_dim, eps=1e-6)
        self.encoder_position = small(1, length, c.encoder_embed_dim)
        self.encoder = nn.ModuleList(Block(c.encoder_embed_dim, c.encoder_num_heads, c) for _ in range(c.encoder_depth))
        self.encoder_norm = nn.LayerNorm(c.encoder_embed_dim, eps=c.norm_eps)
        self.decoder_in = Linear(c.encoder_embed_dim, c.decoder_embed_dim)
        self.unknown = small(1, 1, c.decoder_embed_dim)
        self.decoder_position = small(1, length, c.decoder_embed_dim)
        self.decoder = nn.ModuleList(Block(c.decoder_embed_dim, c.decoder_num_heads, c) for _ in range(c.decoder_depth))
        self.decoder_norm = nn.LayerNorm(c.decoder_embed_dim, eps=c.norm_eps)
        self.state_position = small(1, c.tokens, c.decoder_embed_dim)

    def condition(self, labels: Tensor, *, guided: bool) -> Tensor:
        """(B, W) class embeddings; with `guided` (2B, W), the second half that of no class."""
        classes: Tensor = self.class_table(labels)
        return torch.cat((classes, self.no_class.expand_as(classes))) if guided else classes

    def forward(self, condition: Tensor, known: Tensor, positions: Tensor, wanted: Tensor) -> Tensor:
        """States (B, n, W) of the positions `wanted` (B, n), given tokens `known` (B, k, C) at `positions` (B, k)."""
        buffer = self.config.buffer_size
        x = torch.cat((condition.unsqueeze(1).expand(-1, buffer, -1), self.token_in(known.to(condition.dtype))), dim=1)
        places = torch.cat((torch.arange(buffer, device=x.device).expand(len(x), -1), buffer + positions), dim=1)
        x = self.token_norm(x + gathered(self.encoder_position[0], places))  # (B, buffer + k, W)
        for block in self.encoder:
            x = block(x)
        x = self.decoder_in(self.encoder_norm(x))
        spread = self.unknown.expand(len(x), self.decoder_position.shape[1], -1)
        x = spread.scatter(1, places.unsqueeze(-1).expand_as(x), x) + self.decoder_position  # (B, buffer + L, W)
        for block in self.decoder:
            x = block(x)
        states: Tensor = self.decoder_norm(gathered(x, buffer + wanted))
        return states + gathered(self.state_position[0], wanted)


class Network(Backbone):
    """The backbone with the head that draws tokens."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.head = DiffusionHead(config.channels, config.decoder_embed_dim, config.diffloss_w, config.diffloss_d)

    def grid(self, tokens: Tensor) -> Tensor:
        """(B, vae_embed_dim, h, w) latents of tokens (B, L, C), each a patch of them, channels first."""
        c, p = self.config, self.config.patch_size
        patches = tokens.reshape(-1, c.side, c.side, c.vae_embed_dim, p, p).permute(0, 3, 1, 4, 2, 5)
        return patches.reshape(-1, c.vae_embed_dim, c.side * p, c.side * p)

    def patches(self, latents: Tensor) -> Tensor:
        """(B, L, C) tokens of latents (B, vae_embed_dim, h, w): the inverse of `grid`."""
        c, p = self.config, self.config.patch_size
        patches = latents.reshape(-1, c.vae_embed_dim, c.side, p, c.side, p).permute(0, 2, 4, 1, 3, 5)
        return patches.reshape(-1, c.tokens, c.channels)


_TO_OFFICIAL = (
    ("class_table.", "class_emb."),
    ("no_class", "fake_latent"),
    ("token_in.", "z_proj."),
    ("token_norm.", "z_proj_ln."),
    ("encoder_position", "encoder_pos_embed_learned"),
    ("decoder_in.", "decoder_embed."),
    ("unknown", "mask_token"),
    ("decoder_position", "decoder_pos_embed_learned"),
    ("state_position", "diffusion_pos_embed_learned"),
    ("encoder.", "encoder_blocks."),
    ("decoder.", "decoder_blocks."),
    (".qkv.", ".attn.qkv."),
    (".out.", ".attn.proj."),
    (".mlp_in.", ".mlp.fc1."),
    (".mlp_out.", ".mlp.fc2."),
)


def official_names(ours: str) -> tuple[str, ...]:
    """The official key of one of our parameters."""
    if ours.startswith("head."):
        return (f"diffloss.net.{official_head_name(ours.removeprefix('head.'))}",)
    return (replaced(ours, _TO_OFFICIAL),)


def unknown_after(iterations: int, tokens: int) -> list[int]:
    """How many tokens are still unknown before the first and after each iteration.

    A cosine schedule (MaskGIT); each iteration finds at least one token while more than one is unknown, the last one
    all. With more iterations than there are tokens to find, some find none.
    """
    counts = [tokens]
    for iteration in range(1, iterations):
        planned = math.floor(tokens * math.cos(math.pi / 2 * iteration / iterations))
        counts.append(max(1, min(counts[-1] - 1, planned)))
    return [*counts, 0]


def generate(
    network: Network,
    labels: Tensor,
    sampling: Sampling,
    noise: Noise,
    *,
    order: Tensor | None = None,
    given: tuple[Tensor, Tensor] | None = None,
    probe: Probe = NO_PROBE,
) -> tuple[Tensor, int, int]:
    """Latents (B, C, h, w) as the network has them (scaled), the iterations taken and the forward passes.

    `order` (B, L) lists the positions from the last found to the first; drawn if not given. `given` are scaled latents
    (B, C, h, w) to start from, and a mask (L,) of the tokens that are drawn anew, at least one. The guidance weight of
    an iteration is the schedule's at the share of tokens that will be known after it, where the last iteration counts
    all but one. While guidance is on, both halves go as one batch of 2B. Iterations that find no token are left out.
    """
    config, batch = network.config, len(labels)
    counts = unknown_after(sampling.steps or ITERATIONS, int(given[1].sum()) if given else config.tokens)
    guided = guided_steps(sampling.guidance, len(counts) - 1)
    steps = reverse_steps(spaced(sampling.inner_steps or DIFFUSION_STEPS))
    with probe("condition"):
        condition, times = network.condition(labels, guided=guided > 0), embedded_times(network.head, steps)
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
                drawn = sample_tokens(
                    network.head,
                    steps,
                    network.head.state_in(states),
                    noise,
                    f"token/{iteration}",
                    times=times,
                    weight=sampling.guidance.weight(share) if passes == 2 else None,
                    temperature=sampling.temperature,
                    clip=config.clip_denoised,
                )
            tokens = tokens.scatter(1, wanted.unsqueeze(-1).expand_as(drawn), drawn)
        taken += 1
        forwards += passes
    return network.grid(tokens), taken, forwards


class MAR:
    """`Generator`. Guidance starts at 1 and grows linearly with the tokens known, or is constant."""

    def __init__(self, card: Card, network: Network, tokenizer: MARKL) -> None:
        self.card = card
        self.tokenizer = tokenizer
        self.network = network

    @classmethod
    def load(cls, card: Card, spec: LoadSpec, tokenizer: Tokenizer | None) -> Self:
        config = from_upstream(Config, card.config, TRAINING_ONLY)
        tokenizer = fitting(card, config.vae_embed_dim, config.vae_stride, tokenizer)
        network = bring_up(lambda: Network(config), card, spec, names=official_names)
        blocks = (*network.encoder, *network.decoder, *network.head.blocks)
        compile_blocks(spec, blocks, dynamic=True)  # lengths change with every iteration
        return cls(card, network, tokenizer)

    def prepare(self, batch: int, sampling: Sampling) -> None:
        check_supported(self.card, sampling, schedules=SCHEDULES)
        spaced(sampling.inner_steps or DIFFUSION_STEPS)

    @torch.inference_mode()
    def sample(self, request: Request, sampling: Sampling, *, probe: Probe = NO_PROBE) -> Generated:
        check_supported(self.card, sampling, schedules=SCHEDULES)
        labels = class_labels(self.card, request)
        latents, taken, forwards = generate(self.network, labels, sampling, request.noise, probe=probe)
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
        check_supported(self.card, sampling, schedules=SCHEDULES)
        labels, config = class_labels(self.card, request), self.network.config
        latents = editable(self.card, config, codes, mask, len(labels))
        side, patch = config.side, config.patch_size
        wanted = mask.reshape(side, patch, side, patch).any(dim=3).any(dim=1).flatten()  # (L,)
        given = (latents * self.tokenizer.latent_scale, wanted)
        drawn, taken, forwards = generate(self.network, labels, sampling, request.noise, given=given, probe=probe)
        edited = torch.where(mask, drawn / self.tokenizer.latent_scale, latents)
        return Generated(codes=Codes(latents=edited), outer_steps=taken, forwards=forwards)

    def close(self) -> None:
        vars(self).pop("network", None)


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


def fitting(card: Card, channels: int, stride: int, tokenizer: Tokenizer | None) -> MARKL:
    """The tokenizer, if a generator of latents of this form can use it."""
    tokenizer = of_kind(card, tokenizer, MARKL, "MAR's KL tokenizer")
    theirs = (tokenizer.network.channels, tokenizer.network.factor)
    check_form(card, tokenizer, "channels and factor", theirs, (channels, stride))
    return tokenizer


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


SETTINGS = frozenset({"noise", "greedy", "num_iter", "cfg_scale", "cfg_schedule", "temperature", "diffusion_steps"})


def check_silent(settings: Mapping[str, Any], known: frozenset[str]) -> None:
    """Raise InputError for a recorded generation with real noise or with settings nobody here understands."""
    strange = sorted(settings.keys() - known)
    if strange or settings.get("noise") != "zeros":
        why = f"unknown settings: {', '.join(strange)}" if strange else "it drew real noise; only zeros repeat"
        raise InputError("cannot replay this generation", why, f"known settings: {', '.join(sorted(known))}")


def split_mask(mask: Tensor) -> Tensor:
    """(B, k): the known positions, from a mask (B, L) that is 1 where a token is unknown, alike many in every row."""
    count = int((mask[0] == 0).sum())
    return mask.argsort(dim=1, stable=True)[:, :count]


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
