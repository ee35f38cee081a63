"""FractalGen's network: levels of transformers over ever smaller patches, and below them a head that draws a pixel."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

from arbench.errors import ConfigError

from ...layers import llama
from ...layers.attention import KVCache
from ...layers.checkpoint import replace_patterns
from ...layers.linear import Linear, linear
from ...layers.rope import grid_rotations
from ...layers.vit import Block

TRAINING_ONLY = frozenset({"class", "label_drop_prob", "attn_dropout", "proj_dropout", "grad_checkpointing"}) | {
    "r_weight",
    "fractal_level",
}
CONDITIONS = 5
"""What a masked level gives for a place: its own state, and those above, right, below and left."""
GUIDE = {"width": 128, "depth": 3, "heads": 4}
"""The head of the guiding pixel, the same in all sizes."""
EPS = 1e-6


@dataclass(frozen=True, slots=True)
class Config:
    """Upstream's `FractalGen`, less what only training uses. Lists have an entry for each level, then the pixel's."""

    img_size_list: tuple[int, ...] = (64, 4, 1)
    embed_dim_list: tuple[int, ...] = (1024, 512, 128)
    num_blocks_list: tuple[int, ...] = (32, 8, 3)
    num_heads_list: tuple[int, ...] = (16, 8, 4)
    generator_type_list: tuple[str, ...] = ("ar", "ar", "ar")
    class_num: int = 1000
    guiding_pixel: bool = False
    num_conds: int = 1

    def __post_init__(self) -> None:
        kinds = self.generator_type_list[: self.levels]
        lists = (self.embed_dim_list, self.num_blocks_list, self.num_heads_list)
        if self.levels < 1 or any(len(each) <= self.levels for each in lists) or not set(kinds) <= {"ar", "mar"}:
            raise ConfigError(
                f"FractalGen has no levels {self.img_size_list} of {self.generator_type_list}",
                "each size but the last is a level, ar or mar, and each list has an entry for every size",
                "use lists of the same length",
            )
        if self.num_conds > 1 and ("ar", "mar") in pairwise(kinds):
            raise ConfigError(
                f"no {self.num_conds} conditions below an autoregressive level", "it gives one", "use num_conds 1"
            )
        if not 1 <= self.num_conds <= CONDITIONS:
            raise ConfigError(f"no {self.num_conds} conditions", f"a level gives 1 to {CONDITIONS}", "use num_conds 5")

    @property
    def levels(self) -> int:
        return len(self.img_size_list) - 1

    def tokens(self, level: int) -> int:
        """Patches of a level, each an image of the next."""
        return (self.img_size_list[level] // self.img_size_list[level + 1]) ** 2

    def masked(self, level: int) -> bool:
        return self.generator_type_list[level] == "mar"


def into_patches(images: Tensor, side: int) -> Tensor:
    """(B, L, 3 * side^2) patches, channels first, of images (B, 3, H, W)."""
    batch, channels, height, width = images.shape
    cut = images.reshape(batch, channels, height // side, side, width // side, side).permute(0, 2, 4, 1, 3, 5)
    return cut.reshape(batch, -1, channels * side**2)


def from_patches(patches: Tensor, side: int) -> Tensor:
    """(B, 3, H, W) square images: the inverse of `into_patches`."""
    count = math.isqrt(patches.shape[1])
    laid = patches.reshape(-1, count, count, 3, side, side).permute(0, 3, 1, 4, 2, 5)
    return laid.reshape(-1, 3, count * side, count * side)


class PixelHead(nn.Module):
    """Three channels of 256 values, one after the other, given a state."""

    def __init__(self, states: int, width: int, depth: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.state_in = Linear(states, width)
        self.codes = nn.ModuleList(nn.Embedding(256, width) for _ in range(3))
        self.norm_in = nn.LayerNorm(width, eps=EPS)
        self.blocks = nn.ModuleList(Block(width, heads, 4.0, EPS) for _ in range(depth))
        self.norm = nn.LayerNorm(width, eps=EPS)
        self.bias = nn.ParameterList(nn.Parameter(torch.zeros(1, 256)) for _ in range(3))

    def allocate(self, rows: int) -> list[KVCache]:
        weight = self.state_in.weight
        width = weight.shape[0] // self.heads
        return [KVCache(rows, self.heads, 3, width, weight.dtype, weight.device) for _ in self.blocks]

    def step(self, channel: int, x: Tensor, caches: Sequence[KVCache], rows: int | None = None) -> Tensor:
        """(N, 256) float32 logits of a channel, from what stands before it (N, 1, W): the state, or a channel's value.

        With `rows` those of `x` behind the first so many are only there to fill up (`filled_up`).
        """
        x = self.norm_in(x)
        for block, cache in zip(self.blocks, caches, strict=True):
            x = block(x, None, channel, cache, rows=rows)
        return linear(self.norm(x[:, 0]), self.codes[channel].weight, self.bias[channel][0])[:rows].float()

    def score(self, states: Tensor, values: Tensor) -> Tensor:
        """(N, 3, 256) logits of the channels of pixels (N, 3) with values 0 to 255, each given the earlier ones."""
        caches = self.allocate(len(states))
        logits, x = [], self.state_in(states).unsqueeze(1)
        for channel in range(3):
            logits.append(self.step(channel, x, caches))
            x = self.codes[channel](values[:, channel, None])
        return torch.stack(logits, dim=1)


class MaskedLevel(nn.Module):
    """Sees all patches of an image, those that are unknown as one learned token; every place has five conditions."""

    def __init__(self, config: Config, level: int) -> None:
        super().__init__()
        c, width = config, config.embed_dim_list[level]
        above = c.embed_dim_list[max(level - 1, 0)]
        self.count, self.conditions, self.side = c.tokens(level), c.num_conds, c.img_size_list[level + 1]
        self.guided = c.guiding_pixel and level > 0
        self.patch_in = Linear(3 * self.side**2, width)
        self.condition_in = Linear(above, width)
        self.norm_in = nn.LayerNorm(width, eps=EPS)
        self.unknown = nn.Parameter(nn.init.normal_(torch.empty(1, 1, width), std=0.02))
        places = self.count + self.conditions + self.guided
        self.position = nn.Parameter(nn.init.normal_(torch.empty(1, places, width), std=0.02))
        self.blocks = nn.ModuleList(
            Block(width, c.num_heads_list[level], 4.0, EPS) for _ in range(c.num_blocks_list[level])
        )
        self.norm = nn.LayerNorm(width, eps=EPS)
        if self.guided:
            self.pixel_in = Linear(3, width)
            self.guide = PixelHead(above, **GUIDE)

    def states(
        self,
        patches: Tensor,
        unknown: Tensor,
        given: Sequence[Tensor],
        pixel: Tensor | None = None,
        wanted: Tensor | None = None,
    ) -> Tensor:
        """(N, L, W) of all places, or those that are `wanted` (N, n).

        Patches (N, L, 3 p^2), `unknown` (N, L) is true where they are to be found; `given` are the conditions (N, C)
        from the level above, `pixel` (N, 3) the guiding one, of levels that have it.
        """
        dtype = self.patch_in.weight.dtype
        x = torch.where(unknown.unsqueeze(-1), self.unknown, self.patch_in(patches.to(dtype)))
        before = [self.condition_in(each) for each in reversed(given[: self.conditions])]
        if pixel is not None:
            before = [self.pixel_in(pixel.to(dtype)), *before]
        x = self.norm_in(torch.cat((torch.stack(before, dim=1), x), dim=1) + self.position)
        for block in self.blocks[:-1]:
            x = block(x)
        x = self.blocks[-1](x, wanted=slice(len(before), None) if wanted is None else wanted + len(before))
        states: Tensor = self.norm(x)
        return states

    def forward(self, patches: Tensor, unknown: Tensor, given: Sequence[Tensor], pixel: Tensor | None = None) -> Tensor:
        """(5, N, L, W) conditions of each place of the next level, zeros beyond the edge, from what `states` takes."""
        states = self.states(patches, unknown, given, pixel)
        side = math.isqrt(self.count)
        padded = nn.functional.pad(states.unflatten(1, (side, side)), (0, 0, 1, 1, 1, 1))
        shifts = ((1, 1), (0, 1), (1, 2), (2, 1), (1, 0))  # itself, above, right, below, left
        seen = [padded[:, row : row + side, column : column + side] for row, column in shifts]
        return torch.stack(seen).flatten(2, 3)


class CausalLevel(nn.Module):
    """Sees the patches before one, in raster order; a place has one condition."""

    def __init__(self, config: Config, level: int) -> None:
        super().__init__()
        c, width = config, config.embed_dim_list[level]
        self.count, self.side = c.tokens(level), c.img_size_list[level + 1]
        self.shape = llama.Config(dim=width, n_head=c.num_heads_list[level], block_size=self.count)
        self.patch_in = Linear(3 * self.side**2, width)
        self.condition_in = Linear(c.embed_dim_list[max(level - 1, 0)], width)
        self.norm_in = nn.LayerNorm(width, eps=EPS)
        self.position = nn.Parameter(nn.init.normal_(torch.empty(1, self.count + 1, width), std=0.02))
        self.causal = nn.ModuleList(llama.Block(self.shape) for _ in range(c.num_blocks_list[level]))
        self.norm = nn.LayerNorm(width, eps=EPS)
        self._turns: dict[torch.device, Tensor] = {}

    def turns(self, device: torch.device) -> Tensor:
        """(1 + L, D / 2, 2) rotations of the condition, which has none, and of the patches; made once."""
        if device not in self._turns:
            table = grid_rotations(math.isqrt(self.count), self.shape.head_width, condition=1)
            self._turns[device] = table.to(device)
        return self._turns[device]

    def allocate(self, rows: int) -> list[KVCache]:
        s, weight = self.shape, self.patch_in.weight
        return [KVCache(rows, s.kv_heads, self.count, s.head_width, weight.dtype, weight.device) for _ in self.causal]

    def forward(
        self, x: Tensor, start: int = 0, caches: Sequence[KVCache] | None = None, rows: int | None = None
    ) -> Tensor:
        """(N, n, W) conditions of the patches from `start` on, from what stands before each: the condition, patches.

        With `rows` those of `x` behind the first so many are only there to fill up (`filled_up`).
        """
        end = start + x.shape[1]
        x = self.norm_in(x + self.position[:, start:end])
        turns = self.turns(x.device)[start:end]
        for index, block in enumerate(self.causal):
            x = block(x, turns, start, None if caches is None else caches[index], rows=rows)
        states: Tensor = self.norm(x)
        return states[:rows]

    def score(self, patches: Tensor, given: Sequence[Tensor]) -> Tensor:
        """(1, N, L, W) conditions of all patches (N, L, 3 p^2)."""
        before = self.condition_in(given[0]).unsqueeze(1)
        return self(torch.cat((before, self.patch_in(patches[:, :-1])), dim=1)).unsqueeze(0)


class Fractal(nn.Module):
    """A level, and what draws its patches: the next, or the pixel's head."""

    def __init__(self, config: Config, level: int = 0) -> None:
        super().__init__()
        self.generator: MaskedLevel | CausalLevel = (MaskedLevel if config.masked(level) else CausalLevel)(
            config, level
        )
        self.next: Fractal | PixelHead
        if level + 1 < config.levels:
            self.next = Fractal(config, level + 1)
        else:
            width, blocks = config.embed_dim_list, config.num_blocks_list
            heads = config.num_heads_list[level + 1]
            self.next = PixelHead(width[level], width[level + 1], blocks[level + 1], heads)
        self.needed = config.num_conds if level + 1 < config.levels and config.masked(level + 1) else 1
        """Conditions that what draws the patches takes."""


class Network(Fractal):
    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.config = config
        width = config.embed_dim_list[0]
        self.class_table = nn.Embedding(config.class_num, width)
        self.no_class = nn.Parameter(nn.init.normal_(torch.empty(1, width), std=0.02))

    def condition(self, labels: Tensor, *, guided: bool) -> tuple[Tensor, ...]:
        """The top level's conditions (B, W), all the class; with `guided` (2B, W), the second half that of no class."""
        classes: Tensor = self.class_table(labels)
        if guided:
            classes = torch.cat((classes, self.no_class.expand_as(classes)))
        return (classes,) * self.config.num_conds


_TO_OFFICIAL: tuple[tuple[str, str], ...] = (
    (r"\bnext\.", "next_fractal."),
    (r"^class_table\.", "class_emb."),
    (r"^no_class$", "fake_latent"),
    (r"\.guide\.", ".guiding_pixel_loss."),
    (r"\.patch_in\.", ".patch_emb."),
    (r"generator\.norm_in\.", "generator.patch_emb_ln."),
    (r"\.condition_in\.", ".cond_emb."),
    (r"\.pixel_in\.", ".pix_proj."),
    (r"\.unknown$", ".mask_token"),
    (r"\.position$", ".pos_embed_learned"),
    (r"\.state_in\.", ".cond_proj."),
    (r"\.norm_in\.", ".ln."),
    (r"\.causal\.(\d+)\.qkv\.", r".blocks.\1.attention.wqkv."),
    (r"\.causal\.(\d+)\.out\.", r".blocks.\1.attention.wo."),
    (r"\.causal\.(\d+)\.gate\.", r".blocks.\1.feed_forward.w1."),
    (r"\.causal\.(\d+)\.up\.", r".blocks.\1.feed_forward.w3."),
    (r"\.causal\.(\d+)\.down\.", r".blocks.\1.feed_forward.w2."),
    (r"\.causal\.", ".blocks."),
    (r"(\.blocks\.\d+)\.qkv\.", r"\1.attn.qkv."),
    (r"(\.blocks\.\d+)\.out\.", r"\1.attn.proj."),
    (r"(\.blocks\.\d+)\.mlp_in\.", r"\1.mlp.fc1."),
    (r"(\.blocks\.\d+)\.mlp_out\.", r"\1.mlp.fc2."),
    *((rf"\.codes\.{index}\.", f".{letter}_codebook.") for index, letter in enumerate("rgb")),
    *((rf"\.bias\.{index}$", f".{letter}_mlm.bias") for index, letter in enumerate("rgb")),
)


def official_names(ours: str) -> tuple[str, ...]:
    """The official key of one of our parameters."""
    return (replace_patterns(ours, _TO_OFFICIAL),)
