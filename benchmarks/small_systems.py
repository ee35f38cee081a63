"""Small cards of the second wave's systems, each with its plain loop; `plain_loops.build` makes networks of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import cached_loops
import flow_loops
import fractal_loops
import masked_loops
import scale_loops
from cached_loops import Drawn

from arbench import registry
from arbench.protocols import Card, Guidance, Noise, Request, Sampling, TokenSpec

Loop = Callable[[Any, Request, Sampling, Noise], Drawn]
Size = Literal["tiny", "middle"]
Config = dict[str, Any]
CONSTANT = Guidance(scale=4.0)
LINEAR = Guidance(scale=4.0, start=1.0, schedule="linear")
GROWING = Guidance(scale=3.0, schedule="linear")
KL = registry.card("tokenizers/mar-kl-mini")


@dataclass(frozen=True, slots=True)
class Small:
    """A generator's card, that of the tokenizer that it needs, how it is sampled, and its plain loop."""

    card: Card
    tokenizer: Card | None
    sampling: Sampling
    loop: Loop


@dataclass(frozen=True, slots=True)
class Numbers:
    """The numbers of a size. Grids of `side` x `side` places."""

    width: int
    depth: int
    heads: int
    codes: int
    side: int
    classes: int
    steps: int
    inner: int
    sides: tuple[int, ...]

    @property
    def tokens(self) -> int:
        return self.side**2

    @property
    def llama(self) -> Config:
        shape = {"dim": self.width, "n_layer": self.depth, "n_head": self.heads, "multiple_of": 16}
        return shape | {"num_classes": self.classes, "vocab_size": self.codes, "block_size": self.tokens}

    @property
    def halves(self) -> Config:
        """Encoder and decoder of MAR's kin."""
        each = (("embed_dim", self.width), ("depth", self.depth // 2), ("num_heads", self.heads))
        return {f"{part}_{key}": value for part in ("encoder", "decoder") for key, value in each}

    @property
    def latents(self) -> Config:
        head = {"diffloss_d": 2, "diffloss_w": max(self.width, 64)}
        return {"img_size": 8 * self.side, "vae_stride": 8} | head


SIZES: dict[Size, Numbers] = {
    "tiny": Numbers(32, 2, 2, 64, 4, 5, 5, 4, (1, 2, 3, 4)),
    "middle": Numbers(256, 4, 4, 1024, 8, 10, 10, 5, (1, 2, 3, 4, 5, 6, 8)),
}


def systems(size: Size) -> dict[str, Small]:
    """All of them, tiny for tests or of some million parameters for the clock."""
    numbers = SIZES[size]
    return one_by_one(numbers) | in_groups(numbers) | masked(numbers) | by_scale(numbers) | by_flow(numbers)


def resized(name: str, config: Config, **changes: Any) -> Card:
    """The card of this name with other numbers, without weights and counts."""
    card = registry.card(name)
    return card.derive(config={**card.config, **config}, **({"parameters": None, "checkpoint": None} | changes))


def discrete(side: int, codes: int, books: int = 1) -> TokenSpec:
    return TokenSpec(kind="discrete", layout="grid", levels=((side, side),), vocabulary=codes, codebooks=books)


def row(n: Numbers) -> TokenSpec:
    return TokenSpec(kind="discrete", layout="sequence", levels=((n.tokens,),), vocabulary=n.codes)


def one_by_one(n: Numbers) -> dict[str, Small]:
    many: Config = {"classes": n.classes}
    gpt = {"vocab_size": n.codes, "block_size": n.tokens, "n_layer": n.depth, "n_head": n.heads, "n_embd": n.width}
    coder = {"z_channels": 32, "resolution": 4 * n.side, "ch": 32, "ch_mult": (1, 1, 2), "num_res_blocks": 1}
    stacks = discrete(n.side, n.codes, 4)
    vae: Config = {"embed_dim": 16, "n_embed": n.codes, "latent_shape": (n.side, n.side, 16)}
    vae |= {"code_shape": (n.side, n.side, 4), "ddconfig": coder | {"attn_resolutions": ()}}
    rq: Config = {"block_size": (n.side, n.side, 4), "vocab_size": n.codes, "embed_dim": n.width}
    rq |= {"input_embed_dim": 16, "vocab_size_cond": n.classes}
    rq |= {part: {"n_layer": n.depth // by, "n_head": n.heads} for part, by in (("body", 1), ("head", 2))}
    return {
        "D-AR": Small(
            resized("raster/dar-l", n.llama, tokens=row(n), **many),
            None,
            Sampling(guidance=LINEAR),
            cached_loops.raster,
        ),
        "taming": Small(
            resized("raster/taming-gpt-1.4b", gpt, tokens=discrete(n.side, n.codes), **many),
            None,
            Sampling(top_k=20),
            cached_loops.taming,
        ),
        "RQ-Transformer": Small(
            resized("raster/rq-transformer-480m", rq, tokens=stacks, **many),
            resized("tokenizers/rq-vae-imagenet", vae, tokens=stacks, resolution=4 * n.side),
            Sampling(),
            cached_loops.rq,
        ),
    }


def in_groups(n: Numbers) -> dict[str, Small]:
    grid: Config = {"classes": n.classes, "tokens": discrete(n.side, n.codes)}
    some = {"limits": {"steps": (1, n.tokens)}}
    lpd: Config = {"img_size": 16 * n.side, "decoder_embed_dim": n.width, "decoder_depth": n.depth}
    lpd |= {"decoder_num_heads": n.heads, "class_num": n.classes, "vqgan_vocab_size": n.codes}
    regions = n.llama | {"spe_token_num": 3, "ar_token_num": 4}
    loops = cached_loops
    return {
        "ARPG": Small(
            resized("random_order/arpg-l", n.llama, **grid, **some),
            None,
            Sampling(guidance=LINEAR, steps=n.steps),
            loops.arpg,
        ),
        "LPD": Small(
            resized("random_order/lpd-l-256", lpd, **grid, **some),
            None,
            Sampling(guidance=LINEAR, steps=n.steps, order="random"),
            loops.lpd,
        ),
        "NAR": Small(resized("random_order/nar-b-256", n.llama, **grid), None, Sampling(guidance=CONSTANT), loops.nar),
        "PAR": Small(resized("random_order/par-xl-4x", regions, **grid), None, Sampling(guidance=CONSTANT), loops.par),
        "DetailFlow": Small(
            resized("random_order/detailflow-16", n.llama | {"group_size": 4}, classes=n.classes, tokens=row(n)),
            None,
            Sampling(guidance=LINEAR),
            loops.detailflow,
        ),
    }


def masked(n: Numbers) -> dict[str, Small]:
    some: Config = {"classes": n.classes, "limits": {"steps": (1, n.tokens)}}
    bert: Config = {"hidden_size": n.width, "num_hidden_layers": n.depth, "num_attention_heads": n.heads}
    bert |= {"intermediate_size": 4 * n.width, "image_seq_len": n.tokens, "codebook_size": n.codes}
    bert |= {"condition_num_classes": n.classes}
    bits: Config = {"img_size": 4 * n.side, "input_stride": 4, "hidden_dim": n.width, "codebook_size": 256}
    bits |= {"depth": n.depth, "heads": n.heads, "mlp_dim": 4 * n.width, "nclass": n.classes}
    halton: Config = {"input_size": n.side, "hidden_dim": n.width, "codebook_size": n.codes, "depth": n.depth}
    halton |= {"heads": n.heads, "nclass": n.classes}
    plain = Sampling(guidance=LINEAR, steps=n.steps)
    noisy = plain.model_copy(update={"extra": {"randomize_temperature": 2.0, "softmax_temperature_annealing": False}})
    by_bits = plain.model_copy(update={"extra": {"randomize_temperature": 2.0, "use_sampling_annealing": False}})
    loops = masked_loops
    return {
        "TiTok": Small(resized("random_order/titok-l32", bert, tokens=row(n), **some), None, noisy, loops.titok),
        "TiTok U-ViT": Small(resized("random_order/titok-s128", bert, tokens=row(n), **some), None, noisy, loops.titok),
        "MaskBit": Small(
            resized("random_order/maskbit-14bit", bits, tokens=discrete(n.side, 256), **some),
            None,
            by_bits,
            loops.maskbit,
        ),
        "Halton-MaskGIT": Small(
            resized("random_order/halton-maskgit-tiny-256", halton, tokens=discrete(n.side, n.codes), **some),
            None,
            plain,
            loops.halton,
        ),
    }


def by_scale(n: Numbers) -> dict[str, Small]:
    pyramid, halves = TokenSpec.pyramid(n.sides, n.codes), {"encoder_ch_mult": (1, 1), "decoder_ch_mult": (1, 1)}
    maps: Config = {"patch_nums": n.sides, "vocab_size": n.codes, "depth": n.depth, "embed_dim": n.width}
    maps |= {"num_heads": n.heads, "num_classes": n.classes}
    vae: Config = {"ch": 32, "z_channels": 8, "codebook_size": n.codes, "codebook_embed_dim": 32}
    vae |= halves | {"v_patch_nums": n.sides}
    squares = tuple(side for side in (1, 2, 4, 6, 8) if side <= n.side)
    levels = tuple((side, side) for side in squares)
    places = TokenSpec(kind="discrete", layout="pyramid", levels=levels, vocabulary=2, codebooks=8)
    bits: Config = {"codebook_dim": 8, "text_channels": 128, "text_maxlen": 5, "embed_dim": max(n.width, 64)}
    bits |= {"depth": n.depth, "num_heads": 2, "block_chunks": 1, "scale_schedule": tuple((1, s, s) for s in squares)}
    bit_vae: Config = {
        "codebook_dim": 8,
        "base_ch": 32,
        "num_res_blocks": 1,
        "patch_size": 2,
        "sides": squares,
    } | halves
    flow = n.halves | n.latents | {"scale": tuple(2**i for i in range(n.side.bit_length()))}
    on_kl: Config = {"tokens": TokenSpec.grid(n.side, channels=16), "resolution": 8 * n.side, "tokenizer": KL.name}
    sampling = Sampling(guidance=GROWING, inner_steps=n.inner)
    return {
        "FlexVAR": Small(
            resized("next_scale/flexvar-d16", maps, tokens=pyramid, resolution=2 * n.side, classes=n.classes),
            resized("tokenizers/flexvar-vae", vae, tokens=pyramid, resolution=2 * n.side),
            Sampling(guidance=LINEAR),
            scale_loops.flexvar,
        ),
        "Infinity": Small(
            resized("next_scale/infinity-2b", bits, tokens=places, resolution=2 * n.side, captions=(5, 128)),
            resized("tokenizers/infinity-d32-reg", bit_vae, tokens=places, resolution=2 * n.side),
            Sampling(guidance=CONSTANT),
            scale_loops.infinity,
        ),
        "FlowAR": Small(resized("next_scale/flowar-s", flow, **on_kl), KL, sampling, scale_loops.flowar),
        "DiSA FlowAR": Small(
            resized("continuous/disa-flowar-s", flow, **on_kl), KL, annealed(sampling), scale_loops.flowar
        ),
    }


def annealed(sampling: Sampling) -> Sampling:
    """DiSA's: half of the steps at the end."""
    return sampling.model_copy(update={"extra": {"last_inner_steps": (sampling.inner_steps or 2) // 2}})


def by_flow(n: Numbers) -> dict[str, Small]:
    limits: Config = {"limits": {"steps": (1, n.tokens), "inner_steps": (2, 1000)}}
    kl: Config = {"tokens": TokenSpec.grid(n.side, channels=16), "resolution": 8 * n.side, "tokenizer": KL.name}
    whole: Config = {"tokens": TokenSpec.grid(16, channels=16), "resolution": 128, "tokenizer": KL.name}
    many: Config = {"classes": n.classes}
    mar = n.halves | n.latents | {"buffer_size": 4, "class_num": n.classes}
    arinar = {key: value for key, value in mar.items() if not key.startswith("diffloss")}
    arinar |= {"num_gaussians": 2, "inner_ar_width": n.width}
    cells = n.halves | {"img_size": 128, "vae_stride": 8}
    turns = n.halves | {"buffer_size": 4, "class_num": n.classes}
    blocks: Config = {"hidden_size": 64 * n.heads // 2, "num_heads": n.heads // 2, "depth": n.depth}
    blocks |= {"spatial_len": n.tokens, "block_size": n.tokens // 4, "num_classes": n.classes}
    stable: Config = {"embed_dim": 4, "ch_mult": (1, 1, 2), "attn_resolutions": (), "ch": 32, "num_res_blocks": 1}
    four = {"tokens": TokenSpec.grid(n.side, channels=4), "resolution": 4 * n.side}
    flow = Sampling(guidance=GROWING, inner_steps=n.inner)
    drawn, constant = flow.model_copy(update={"steps": n.steps}), flow.model_copy(update={"guidance": CONSTANT})
    mixed = drawn.model_copy(update={"inner_steps": None})
    vae = resized("tokenizers/sd-vae-f8", stable, **four)
    loops = flow_loops
    return {
        "xAR": Small(resized("continuous/xar-b", cells, **whole), KL, flow, loops.xar),
        "DiSA xAR": Small(resized("continuous/disa-xar-b", cells, **whole, **limits), KL, annealed(flow), loops.xar),
        "DiSA MAR": Small(
            resized("continuous/disa-mar-base", mar, **kl, **many, **limits), KL, annealed(drawn), loops.mar
        ),
        "FAR": Small(
            resized("continuous/far-base", n.halves | n.latents | {"buffer_size": 4}, **kl, **limits),
            KL,
            flow,
            loops.far,
        ),
        "ARINAR": Small(resized("continuous/arinar-base", arinar, **kl, **many, **limits), KL, mixed, loops.arinar),
        "TransDiff": Small(resized("continuous/transdiff-b", turns, **whole, **many), KL, constant, loops.transdiff),
        "TransDiff MRAR": Small(
            resized("continuous/transdiff-b-mrar", turns, **whole, **many), KL, constant, loops.transdiff
        ),
        "ACDiT": Small(resized("hybrid/acdit-xl", blocks, **four, **many), vae, constant, loops.acdit),
        **binary(n, flow),
        **fractal(n),
    }


def binary(n: Numbers, sampling: Sampling) -> dict[str, Small]:
    signs, side = discrete(n.side, 16, 2), 4 * n.side
    coder = {"z_channels": 8, "ch": 32, "ch_mult": (1, 1, 2), "num_res_blocks": 1}
    vae = resized("tokenizers/bitdance-d16c32", {"ddconfig": coder, "num_codebooks": 2}, tokens=signs, resolution=side)
    dance: Config = {"dim": n.width, "n_layer": n.depth, "n_head": n.heads, "num_classes": n.classes, "diff_layers": 2}
    dance |= {"diff_dim": max(n.width, 64), "latent_dim": 8, "down_size": 4, "resolution": side, "cls_token_num": 3}
    changes: Config = {"tokens": signs, "resolution": side, "classes": n.classes}
    return {
        name: Small(resized(card, dance, **changes), vae, sampling, flow_loops.bitdance)
        for name, card in (("BitDance", "hybrid/bitdance-b-1x"), ("BitDance 4x", "hybrid/bitdance-b-4x"))
    }


def fractal(n: Numbers) -> dict[str, Small]:
    sides = (n.side, n.side // 4 * 2, 1) if n.side < 8 else (2 * n.side, 4, 1)
    levels: Config = {"img_size_list": sides, "embed_dim_list": (n.width, max(16, n.width // 4), max(16, n.width // 8))}
    levels |= {"num_blocks_list": (n.depth, 1, 1), "num_heads_list": (2, 2, 2), "class_num": n.classes}
    changes: Config = {"resolution": sides[0], "classes": n.classes}
    limits = {"steps": (1, 16), "extra.lower_steps": (1, 16), "extra.filter_threshold": (0, 1)}
    whole = Sampling(guidance=GROWING)
    some = whole.model_copy(update={"steps": n.steps - 2, "extra": {"lower_steps": 3}})
    loop = fractal_loops.fractalgen
    return {
        "FractalGen AR": Small(resized("hybrid/fractalgen-ar-64", levels, **changes), None, whole, loop),
        "FractalGen MAR": Small(
            resized("hybrid/fractalgen-mar-64", levels, **changes, limits=limits), None, some, loop
        ),
    }
