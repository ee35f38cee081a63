"""RAR (Yu et al., arXiv:2411.00776): next-token prediction, trained on shuffled orders, sampled in raster order."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
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

from ..layers.attention import KVCache, attend
from ..layers.checkpoint import bring_up, compile_blocks, replaced, with_state
from ..layers.config import from_upstream
from ..layers.generator import CachedGenerator, check_vocabulary, class_labels
from ..layers.linear import Linear
from ..layers.sampling import check_replayable, draw_tokens, guided_steps, mix_guidance

EPS = 1e-6
PREFIX = 2
"""Positions before the image: a learned token, then the condition."""

# ---- network ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Config:
    """Upstream's `model.generator`, less what only training uses, and the tokenizer's `codebook_size`."""

    hidden_size: int = 768
    num_hidden_layers: int = 24
    num_attention_heads: int = 16
    intermediate_size: int = 3072
    image_seq_len: int = 256
    condition_num_classes: int = 1000
    codebook_size: int = 1024

    @property
    def mlp_width(self) -> int:
        """Upstream goes through a ratio in floating point, which loses one unit of some widths."""
        return int(self.hidden_size * (self.intermediate_size / self.hidden_size))


TRAINING_ONLY = frozenset({"class", "dropout", "attn_drop", "class_label_dropout", "use_checkpoint"})


class Block(nn.Module):
    """Attention with normalised queries and keys, and an MLP, both modulated at each position (adaLN-zero)."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        width = config.hidden_size
        self.heads = config.num_attention_heads
        self.norm1 = nn.LayerNorm(width, eps=EPS)
        self.qkv = Linear(width, 3 * width)
        self.query_norm = nn.LayerNorm(width // self.heads, eps=EPS)
        self.key_norm = nn.LayerNorm(width // self.heads, eps=EPS)
        self.out = Linear(width, width)
        self.norm2 = nn.LayerNorm(width, eps=EPS)
        self.mlp_in = Linear(width, config.mlp_width)
        self.mlp_out = Linear(config.mlp_width, width)
        self.modulation = Linear(width, 6 * width)

    def forward(self, x: Tensor, condition: Tensor, start: int, cache: KVCache | None) -> Tensor:
        """`x` (B, n, C) are the positions from `start` on; `condition` (B, n, C) went through silu already."""
        shift1, scale1, gate1, shift2, scale2, gate2 = self.modulation(condition).chunk(6, dim=-1)
        x = x + gate1 * self._attention(self.norm1(x) * (1 + scale1) + shift1, start, cache)
        hidden = self.mlp_in(self.norm2(x) * (1 + scale2) + shift2)
        out: Tensor = x + gate2 * self.mlp_out(F.gelu(hidden))
        return out

    def _attention(self, x: Tensor, start: int, cache: KVCache | None) -> Tensor:
        heads = self.qkv(x).unflatten(-1, (3, self.heads, -1))
        query, key, value = heads.permute(2, 0, 3, 1, 4)  # each (B, H, n, D)
        query, key = self.query_norm(query), self.key_norm(key)
        if cache is not None:
            key, value = cache.extend(key, value, start)
        mixed: Tensor = self.out(attend(query, key, value, causal=x.shape[1] > 1))
        return mixed


class Network(nn.Module):
    """The decoder over a learned token, a condition token and the image's tokens in the order they are drawn."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        width, length = config.hidden_size, config.image_seq_len
        self.first = nn.Parameter(torch.zeros(1, 1, width))
        # codes, a mask token that only other models of the repository use, classes, "no class"
        self.table = nn.Embedding(config.codebook_size + 1 + config.condition_num_classes + 1, width)
        self.places = nn.Parameter(torch.zeros(1, length + 1024, width))
        self.targets = nn.Parameter(torch.zeros(1, length + 1024, width))
        self.steps = nn.Parameter(torch.zeros(1, length + 100, width))
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.num_hidden_layers))
        self.head_modulation = Linear(width, 2 * width)
        self.head = Linear(width, config.codebook_size)

    def condition(self, labels: Tensor) -> Tensor:
        """(B, 1, C) from class ids (B,); the id `condition_num_classes` stands for no class."""
        rows: Tensor = self.table(labels + self.config.codebook_size + 1)
        return rows.unsqueeze(1)

    def positions(self, order: Tensor | None = None) -> Tensor:
        """(B or 1, L + 1, C) to be added to all inputs: where each one is, and where the token it predicts will be.

        `order` (B, L) holds the raster positions in the order of drawing; None is raster order for all. The learned
        token predicts nothing, and the last image token is no input.
        """
        length = self.config.image_seq_len
        if order is None:
            order = torch.arange(length, device=self.places.device).unsqueeze(0)
        first = torch.arange(PREFIX, device=order.device).expand(len(order), -1)
        where = torch.cat((first, order[:, :-1] + PREFIX), dim=1)
        target = F.pad(self.targets[0, order + PREFIX], (0, 0, 1, 0))
        return self.places[0, where] + target

    def forward(
        self, x: Tensor, condition: Tensor, start: int = 0, caches: Sequence[KVCache] | None = None, last: int = 1
    ) -> Tensor:
        """(B, last, V) float32 logits of the last inputs `x` (B, n, C), which are at the positions from `start` on."""
        # every position's own step embedding goes into its modulation
        condition = F.silu(condition + self.steps[:, start : start + x.shape[1]])
        for index, block in enumerate(self.blocks):
            x = block(x, condition, start, None if caches is None else caches[index])
        scale, shift = self.head_modulation(condition[:, -last:]).chunk(2, dim=-1)  # in the blocks shift comes first
        x = F.layer_norm(x[:, -last:], x.shape[-1:], eps=EPS) * (1 + scale) + shift
        logits: Tensor = self.head(x)
        return logits.float()

    def score(self, labels: Tensor, tokens: Tensor, order: Tensor | None = None) -> Tensor:
        """(B, L, V) logits of `tokens` (B, L, in raster order) in the order of drawing, each from the earlier ones."""
        drawn = tokens if order is None else tokens.gather(1, order)
        condition = self.condition(labels)
        x = torch.cat((self.first.expand(len(tokens), -1, -1), condition, self.table(drawn[:, :-1])), dim=1)
        logits: Tensor = self(x + self.positions(order), condition, last=drawn.shape[1])
        return logits

    def allocate(self, rows: int) -> list[KVCache]:
        """Caches for `rows` whole images."""
        config, weight = self.config, self.head.weight
        heads, length = config.num_attention_heads, PREFIX + config.image_seq_len - 1
        width = config.hidden_size // heads
        return [KVCache(rows, heads, length, width, weight.dtype, weight.device) for _ in self.blocks]


_TO_OFFICIAL = (
    ("head_modulation.", "adaln_before_head.adaLN_modulation.1."),
    (".modulation.", ".adaLN_modulation.1."),
    (".qkv.", ".attn.qkv."),
    (".query_norm.", ".attn.q_norm."),
    (".key_norm.", ".attn.k_norm."),
    (".out.", ".attn.proj."),
    (".mlp_in.", ".mlp.fc1."),
    (".mlp_out.", ".mlp.fc2."),
)
_TOP = {
    "first": "cls_token",
    "table.weight": "embeddings.weight",
    "places": "pos_embed",
    "targets": "target_aware_pos_embed",
    "steps": "timesteps_embeddings",
    "head.weight": "lm_head.weight",
    "head.bias": "lm_head.bias",
}


def official_names(ours: str) -> tuple[str, ...]:
    """The official key of one of our parameters."""
    return (_TOP.get(ours) or replaced(ours, _TO_OFFICIAL),)


# ---- sampling --------------------------------------------------------------------------------------------------------


def generate(
    network: Network,
    labels: Tensor,
    sampling: Sampling,
    noise: Noise,
    *,
    order: Tensor | None = None,
    caches: Sequence[KVCache] | None = None,
    probe: Probe = NO_PROBE,
) -> tuple[Tensor, int]:
    """Tokens (B, L) in raster order, drawn in `order` (B, L), and how many forward passes they took.

    The guidance weight of step i of L is the schedule's at i / L. While guidance is on, conditional and unconditional
    sequences go as one batch of 2B; once it is off, the conditional half goes on alone.
    """
    config, batch = network.config, len(labels)
    count = config.image_seq_len
    guided = guided_steps(sampling.guidance, count)
    if guided:
        labels = torch.cat((labels, torch.full_like(labels, config.condition_num_classes)))
    rows = len(labels)
    if caches is None or caches[0].rows < rows:
        caches = network.allocate(rows)
    with probe("condition"):
        condition = network.condition(labels)
        positions = network.positions(order)
        if order is not None:
            positions = positions.repeat(rows // batch, 1, 1)
    drawn = torch.empty(batch, count, dtype=torch.int64, device=labels.device)

    def draw(x: Tensor, start: int, index: int) -> None:
        at = positions[: len(x), start : start + x.shape[1]]
        logits = network(x + at, condition[: len(x)], start, caches)  # (B or 2B, 1, V)
        if index < guided:
            logits = mix_guidance(logits, sampling.guidance.weight(index / count))
        drawn[:, index : index + 1] = draw_tokens(logits, sampling, noise, "tokens", start=index)

    with probe("prefill", tokens=1):
        draw(torch.cat((network.first.expand(rows, -1, -1), condition), dim=1), 0, 0)
    for index in range(1, count):
        with probe("ar", index=index, tokens=1):
            previous = drawn[:, index - 1 : index]
            if index < guided:
                previous = previous.repeat(2, 1)
            draw(network.table(previous), PREFIX + index - 1, index)
    if order is not None:
        drawn = torch.empty_like(drawn).scatter(1, order, drawn)
    return drawn, count + guided


class RAR(CachedGenerator):
    """`Generator` and `Scores`. The native order is raster; `order: random` gives each sample an order of its own."""

    network: Network
    tokenizer: Tokenizer | None

    @classmethod
    def load(cls, card: Card, spec: LoadSpec, tokenizer: Tokenizer | None) -> Self:
        config = from_upstream(Config, card.config, TRAINING_ONLY)
        check_vocabulary(card, tokenizer, config.codebook_size)
        network = bring_up(lambda: Network(config), card, spec, names=official_names)
        compile_blocks(spec, network.blocks)
        return cls(card, network, tokenizer)

    @torch.inference_mode()
    def sample(self, request: Request, sampling: Sampling, *, probe: Probe = NO_PROBE) -> Generated:
        self.check(sampling)
        labels = class_labels(self.card, request)
        caches = self.caches(len(labels), sampling)
        order = None
        if sampling.order == "random":
            order = request.noise.permutation("order", self.network.config.image_seq_len)
        tokens, forwards = generate(
            self.network, labels, sampling, request.noise, order=order, caches=caches, probe=probe
        )
        return Generated(codes=Codes(ids=(tokens,)), outer_steps=tokens.shape[1], forwards=forwards)

    @torch.inference_mode()
    def logits(self, request: Request, codes: Codes) -> Tensor:
        return self.network.score(class_labels(self.card, request), codes.ids[0])


# ---- recordings ------------------------------------------------------------------------------------------------------


def upstream_sampling(settings: Mapping[str, Any]) -> Sampling:
    """Canonical sampling from the arguments of upstream's `generate`.

    Scale 0 means no guidance; power 0 makes the raised cosine 1 at every step, which is constant guidance.
    """
    scale, power = settings.get("cfg_scale", 0.0), settings.get("cfg_power", 0.0)
    guidance = Guidance()
    if scale != 0:
        guidance = (
            Guidance(scale=scale, start=1.0, schedule="cosine_power", power=power) if power else Guidance(scale=scale)
        )
    return Sampling(guidance=guidance, temperature=settings.get("temperature", 1.0))


SETTINGS = frozenset({"greedy", "cfg_scale", "cfg_power", "temperature", "kv_cache"})


def replay(
    config: Mapping[str, Any],
    state: dict[str, Tensor],
    tokenizer: tuple[Mapping[str, Any], dict[str, Tensor]] | None = None,
) -> Callable[[str, Mapping[str, Any], Mapping[str, Tensor]], dict[str, Tensor]]:
    """A function that repeats a recorded probe (name, settings, inputs) with the network of a recording."""
    ours = from_upstream(Config, config, TRAINING_ONLY)
    network = with_state(lambda: Network(ours), state, card_name="RAR's RAR", names=official_names)

    @torch.inference_mode()
    def call(probe: str, settings: Mapping[str, Any], inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        labels, order = inputs["class_ids"], inputs.get("order")
        if order is not None:
            order = order.expand(len(labels), -1)
        if probe == "logits":
            return {"logits": network.score(labels, inputs["tokens"], order)}
        if probe == "generate":
            check_replayable(settings, SETTINGS)
            tokens, _ = generate(network, labels, upstream_sampling(settings), Greedy(len(labels)), order=order)
            return {"tokens": tokens}
        raise InputError(f"no probe {probe!r} for a RAR generator", "known: logits, generate", "")

    return call
