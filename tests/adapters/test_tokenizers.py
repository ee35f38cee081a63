"""Tokenizers: recordings of the official code, official shapes, and the trained minis on digits they have not seen."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from arbench import registry, weights
from arbench.adapters.layers.checkpoint import seeded
from arbench.adapters.layers.quantize import Codebook, MultiScaleQuantizer, phi_of_scales
from arbench.adapters.tokenizers.llamagen import cards as llamagen_cards
from arbench.adapters.tokenizers.llamagen import network as llamagen
from arbench.adapters.tokenizers.var import cards as var_cards
from arbench.adapters.tokenizers.var import network as var
from arbench.data.readers.mnist import mnist5k
from arbench.errors import ArbenchError, ConfigError, ImageError
from arbench.images import to_float
from arbench.parity import load_golden, replay_golden
from arbench.protocols import Card, Codes, Codewords, LoadSpec, Phase, Prefix, Tokenizer
from arbench.registry import resolve

GOLDENS = Path(__file__).parents[1] / "goldens"
MINIS = (llamagen_cards.MINI, var_cards.MINI)


# ---- faithful to the official code ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["llamagen-tokenizer", "var-tokenizer", "var-tokenizer-shared-aln"])
def test_recordings_of_the_official_code(name: str) -> None:
    verdicts = list(replay_golden(load_golden(GOLDENS / name)))
    assert len(verdicts) >= 2
    assert [verdict for verdict in verdicts if not verdict.ok] == []


def test_a_changed_weight_is_noticed() -> None:
    """The recordings can fail: one bias off by 1 % of the signal is more than the tolerance."""
    golden = load_golden(GOLDENS / "var-tokenizer")
    golden.state["decoder.conv_out.bias"] = golden.state["decoder.conv_out.bias"] + 0.01
    assert any(not verdict.ok for verdict in replay_golden(golden))


@pytest.mark.parametrize(
    ("card", "millions", "shapes"),
    [
        (
            llamagen_cards.VQ_16,
            71.88,
            {
                "encoder.conv_blocks.4.attn.1.q.weight": (512, 512, 1, 1),
                "encoder.conv_blocks.3.downsample.conv.weight": (256, 256, 3, 3),
                "decoder.conv_blocks.0.res.2.conv1.weight": (512, 512, 3, 3),
                "decoder.conv_blocks.3.upsample.conv.bias": (128,),
                "decoder.mid.1.proj_out.weight": (512, 512, 1, 1),
                "quantize.embedding.weight": (16384, 8),
                "post_quant_conv.weight": (256, 8, 1, 1),
            },
        ),
        (llamagen_cards.VQ_8, 70.11, {"encoder.conv_blocks.3.attn.0.k.weight": (512, 512, 1, 1)}),
        (
            var_cards.MSVQ,
            108.95,
            {
                "encoder.down.4.attn.1.qkv.weight": (1920, 640, 1, 1),
                "decoder.up.4.attn.2.qkv.weight": (1920, 640, 1, 1),
                "decoder.up.0.block.2.conv2.weight": (160, 160, 3, 3),
                "decoder.up.1.upsample.conv.weight": (160, 160, 3, 3),
                "encoder.mid.attn_1.proj_out.bias": (640,),
                "quantize.quant_resi.qresi_ls.3.weight": (32, 32, 3, 3),
                "quantize.embedding.weight": (4096, 32),
                "quant_conv.weight": (32, 32, 3, 3),
            },
        ),
        (var_cards.MSVQ_512, 108.95, {}),
    ],
    ids=lambda value: value.name if isinstance(value, Card) else "",
)
def test_official_keys_and_sizes(card: Card, millions: float, shapes: dict[str, tuple[int, ...]]) -> None:
    is_vq = card.implementation.endswith("LlamaGenVQ")
    with torch.device("meta"):
        network = llamagen.Network(card.config) if is_vq else var.Network(card.config)
    names = llamagen.official_names if is_vq else var.official_names(card.config)
    official: dict[str, tuple[int, ...]] = {}
    for ours, value in network.state_dict().items():
        sources = names(ours)
        official.update({key: (value.shape[0] // len(sources), *value.shape[1:]) for key in sources})
    count = sum(int(np.prod(shape)) for shape in official.values())
    assert round(count / 1e6, 2) == millions
    assert card.parameters == count
    assert {key: official.get(key) for key in shapes} == shapes


def test_cards_name_classes_and_token_counts() -> None:
    cards = [card for card in registry.cards().values() if card.kind == "tokenizer"]
    for card in cards:
        assert isinstance(resolve(card.implementation), type)
        assert card.tokens is not None
        assert card.supports == frozenset()
    counts = {card.name.removeprefix("tokenizers/"): card.tokens.tokens for card in cards if card.tokens}
    minis = {"llamagen-mini": 64, "var-mini": 30, "mar-kl-mini": 16, "hart-mini": 30, "titok-mini": 16}
    official = {"llamagen-vq-16": 256, "llamagen-vq-8": 1024, "var-msvq": 680, "var-msvq-512": 2240, "mar-kl-16": 256}
    assert {**minis, **official}.items() <= counts.items()


def test_unknown_hyper_parameters_are_refused() -> None:
    with pytest.raises(ConfigError, match="z_chanels"):
        llamagen.Network({"z_chanels": 4})
    with pytest.raises(ConfigError, match="patch_nums"):
        var.Network({"patch_nums": (1, 2)})


# ---- quantisers -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("unit", ["none", "codes", "match"])
def test_codebook_against_a_plain_search(unit: str) -> None:
    with seeded(0):
        codebook = Codebook(50, 6, unit)
        features = torch.randn(3, 7, 6)
    codes = codebook.embedding.weight.detach()
    z, e = (features, codes) if unit == "none" else (F.normalize(features, dim=-1), F.normalize(codes, dim=-1))
    expected = torch.cdist(z.double(), e.double().expand(3, -1, -1)).argmin(-1)
    ids = codebook.nearest(features)
    assert torch.equal(ids, expected)
    looked_up = e if unit == "codes" else codes
    assert torch.allclose(codebook.lookup(ids), looked_up[ids])


@pytest.mark.parametrize(
    ("scales", "phis", "expected"),
    [
        # float64 puts the two exact ties, scales 2 and 7 of 10, at convolutions 1 and 3
        (10, 4, (0, 0, 1, 1, 1, 2, 2, 3, 3, 3)),
        (4, 4, (0, 1, 2, 3)),
        (3, 4, (0, 2, 3)),  # another tie; the recording with scales 1, 2, 4 depends on it
        (10, 1, (0,) * 10),
        (5, 5, (0, 1, 2, 3, 4)),
        (1, 4, (0,)),
    ],
)
def test_which_convolution_serves_a_scale(scales: int, phis: int, expected: tuple[int, ...]) -> None:
    assert phi_of_scales(scales, phis) == expected


@pytest.mark.parametrize(("share", "key"), [(0, "quantize.quant_resi.2.bias"), (1, "quantize.quant_resi.qresi.bias")])
def test_names_of_the_other_sharings(share: int, key: str) -> None:
    config = {"ch": 32, "z_channels": 4, "vocab_size": 8, "v_patch_nums": (1, 2, 4), "share_quant_resi": share}
    with torch.device("meta"):
        network = var.Network(config)
    names = [name for ours in network.state_dict() for name in var.official_names(config)(ours)]
    assert key in names
    assert sum("quant_resi" in name for name in names) == 2 * (3 if share == 0 else 1)


def test_without_a_ratio_there_is_no_convolution() -> None:
    quantizer = MultiScaleQuantizer((1, 2), 8, 4, ratio=0.0)
    assert list(quantizer.state_dict()) == ["codebook.embedding.weight"]


@pytest.fixture
def quantizer() -> MultiScaleQuantizer:
    with seeded(3):
        return MultiScaleQuantizer((1, 2, 4), 20, 5).requires_grad_(False)


def test_residual_quantisation_step_by_step(quantizer: MultiScaleQuantizer) -> None:
    """Against the definition, written out with numpy-like loops over scales."""
    with seeded(4):
        features = torch.randn(2, 5, 4, 4)
    levels, f_hat = quantizer.encode(features)
    codes = quantizer.codebook.embedding.weight
    rest = features.clone()
    for scale, (side, ids) in enumerate(zip((1, 2, 4), levels, strict=True)):
        small = rest.reshape(2, 5, side, 4 // side, side, 4 // side).mean(dim=(3, 5))  # area, where sides divide
        rows = small.flatten(2).transpose(1, 2)
        assert torch.equal(ids, torch.cdist(rows, codes.expand(2, -1, -1)).argmin(-1))
        looked = codes[ids].transpose(1, 2).reshape(2, 5, side, side)
        big = F.interpolate(looked, size=(4, 4), mode="bicubic", align_corners=False) if side < 4 else looked
        phi = quantizer.phis[(0, 2, 3)[scale]]
        assert isinstance(phi, nn.Conv2d)
        rest = rest - (0.5 * big + 0.5 * F.conv2d(big, phi.weight, phi.bias, padding=1))
    assert torch.allclose(features - rest, f_hat, atol=1e-5)


def test_stepping_and_batched_inputs_agree(quantizer: MultiScaleQuantizer) -> None:
    with seeded(5):
        levels = [torch.randint(20, (2, side * side)) for side in (1, 2, 4)]
    f_hat, inputs = quantizer.start(2), []
    for scale, ids in enumerate(levels):
        before = f_hat.clone()
        added = quantizer.accumulate(f_hat, ids, scale)
        assert torch.equal(f_hat, before)
        f_hat = added
        if scale < 2:
            inputs.append(quantizer.next_input(f_hat, scale).flatten(2).transpose(1, 2))
    assert torch.equal(quantizer.next_input(f_hat, 2), f_hat)
    assert torch.equal(quantizer.teacher_forcing(levels), torch.cat(inputs, dim=1))
    assert torch.equal(quantizer.f_hat(levels), f_hat)


# ---- the trained minis ----------------------------------------------------------------------------------------------


def load(card: Card, **spec: str) -> Tokenizer:
    tokenizer: Tokenizer = resolve(card.implementation).load(card, LoadSpec(weights=weights.locate(card), **spec))  # type: ignore[arg-type]
    return tokenizer


@pytest.fixture(scope="module")
def digits() -> Tensor:
    return to_float(mnist5k("heldout").load(range(50)))


def psnr(images: Tensor, reference: Tensor) -> float:
    return float((-10 * (images - reference).square().flatten(1).mean(1).log10()).mean())


@pytest.mark.parametrize(("card", "floor"), [(llamagen_cards.MINI, 24.0), (var_cards.MINI, 20.0)], ids=["vq", "msvq"])
def test_minis_reconstruct_digits_they_have_not_seen(card: Card, floor: float, digits: Tensor) -> None:
    tokenizer = load(card)
    assert isinstance(tokenizer, Tokenizer)
    codes = tokenizer.encode(digits)
    assert tokenizer.spec == card.tokens
    assert [tuple(ids.shape) for ids in codes.ids] == [(50, h * w) for h, w in tokenizer.spec.levels]
    assert all(ids.dtype == torch.int64 for ids in codes.ids)
    images = tokenizer.decode(codes.without_latents())
    assert images.shape == digits.shape
    assert images.dtype == torch.float32
    assert float(images.min()) >= 0
    assert float(images.max()) <= 1
    assert psnr(images, digits) > floor
    assert torch.allclose(images, tokenizer.decode(codes), atol=1e-5)  # latents are a shortcut only
    vocabulary = tokenizer.spec.vocabulary
    assert vocabulary is not None
    used = torch.unique(torch.cat(codes.ids, dim=1)).numel()
    assert used > vocabulary / 4


@pytest.mark.parametrize("card", MINIS, ids=["vq", "msvq"])
def test_ids_do_not_depend_on_the_batch(card: Card, digits: Tensor) -> None:
    tokenizer = load(card)
    together = tokenizer.encode(digits[:8])
    alone = [tokenizer.encode(digits[i : i + 1]) for i in range(8)]
    for level, ids in enumerate(together.ids):
        assert torch.equal(ids, torch.cat([codes.ids[level] for codes in alone]))
    images = tokenizer.decode(together)
    assert torch.allclose(images, torch.cat([tokenizer.decode(codes) for codes in alone]), atol=1e-5)


def test_prefixes_sharpen_with_every_scale(digits: Tensor) -> None:
    tokenizer = load(var_cards.MINI)
    assert isinstance(tokenizer, Prefix)
    codes = tokenizer.encode(digits)
    quality = [psnr(tokenizer.decode_prefix(codes, count), digits) for count in range(1, len(codes.ids) + 1)]
    assert quality == sorted(quality)
    whole = tokenizer.decode(codes)
    assert torch.allclose(tokenizer.decode_prefix(codes, len(codes.ids)), whole, atol=1e-5)
    for count in (0, len(codes.ids) + 1):
        with pytest.raises(ArbenchError, match="scales"):
            tokenizer.decode_prefix(codes, count)


@pytest.mark.parametrize("card", MINIS, ids=["vq", "msvq"])
def test_decoding_happens_inside_its_phase(card: Card, digits: Tensor) -> None:
    tokenizer = load(card)
    codes = tokenizer.encode(digits[:2])
    entered: list[Phase] = []

    @contextmanager
    def probe(phase: Phase, *, index: int = 0, tokens: int = 0) -> Iterator[None]:
        entered.append(phase)
        yield

    tokenizer.decode(codes, probe=probe)
    assert entered == ["decode"]


@pytest.mark.parametrize("card", MINIS, ids=["vq", "msvq"])
def test_half_precision_keeps_the_quantiser_exact(card: Card, digits: Tensor) -> None:
    tokenizer = load(card, dtype="bfloat16")
    images = tokenizer.decode(tokenizer.encode(digits[:20]))
    assert images.dtype == torch.float32
    # bfloat16 has 8 bits: a little worse, not another picture
    assert psnr(images, digits[:20]) > psnr(load(card).decode(load(card).encode(digits[:20])), digits[:20]) - 2


def test_other_sizes(digits: Tensor) -> None:
    vq, msvq = load(llamagen_cards.MINI), load(var_cards.MINI)
    larger = F.pad(digits[:2], (8, 8, 8, 8))  # a grid tokenizer takes any square it can divide
    codes = vq.encode(larger)
    assert codes.ids[0].shape == (2, 144)
    assert vq.decode(codes).shape == (2, 3, 48, 48)
    for tokenizer, images in ((vq, larger[..., :44]), (vq, larger[..., :47, :47]), (msvq, larger)):
        with pytest.raises(ImageError, match="cannot encode"):
            tokenizer.encode(images)
    with pytest.raises(ArbenchError, match="63 tokens"):
        vq.decode(Codes(ids=(torch.zeros(1, 63, dtype=torch.int64),)))
    with pytest.raises(ArbenchError, match="scale of 5 tokens"):
        msvq.decode(Codes(ids=tuple(torch.zeros(1, n, dtype=torch.int64) for n in (1, 5, 9, 16))))
    msvq.close()
    msvq.close()


@pytest.mark.parametrize("name", ["llamagen", "var", "mar-kl", "hart"])
def test_pixels_out_of_range_are_refused(name: str) -> None:
    card = registry.card(f"tokenizers/{name}-mini")
    path = weights.locate(card, {})
    assert path is not None
    tokenizer = resolve(card.implementation).load(card, LoadSpec(weights=path))
    good = torch.rand(1, 3, card.resolution, card.resolution)
    tokenizer.encode(good)
    for bad, found in (
        (good * 255, "to 2"),
        (good * 2 - 1, "from -"),
        ((good * 255).byte(), "uint8"),
        (good / 0, "nan"),
    ):
        with pytest.raises(ImageError, match="from 0 to 1") as caught:
            tokenizer.encode(bad)
        assert found in caught.value.what or "inf" in caught.value.what


@pytest.mark.parametrize("card", MINIS, ids=lambda card: card.name)
def test_codewords_are_what_ids_are_looked_up_in(card: Card) -> None:
    tokenizer = resolve(card.implementation).load(card, LoadSpec(weights=weights.locate(card)))
    assert isinstance(tokenizer, Codewords)
    table = tokenizer.codewords()
    assert table.dtype == torch.float32
    assert len(table) == tokenizer.spec.vocabulary
    quantizer = getattr(tokenizer.network.quantize, "codebook", tokenizer.network.quantize)
    torch.testing.assert_close(quantizer.lookup(torch.arange(5)), table[:5])
