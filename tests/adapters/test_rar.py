"""RAR and its tokenizer: recordings, a sampler without cache, orders, guidance, batches, official keys and sizes."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from arbench.adapters.layers.config import from_upstream
from arbench.adapters.random_order.rar.adapter import RAR, generate, upstream_sampling
from arbench.adapters.random_order.rar.cards import CARDS as ALL
from arbench.adapters.random_order.rar.cards import MINI as RAR_MINI
from arbench.adapters.random_order.rar.network import TRAINING_ONLY, Config, Network, official_names
from arbench.adapters.tokenizers.llamagen.adapter import LlamaGenVQ
from arbench.adapters.tokenizers.llamagen.cards import MINI as LLAMAGEN_MINI
from arbench.adapters.tokenizers.maskgit_vqgan.adapter import MaskGITVQGAN
from arbench.adapters.tokenizers.maskgit_vqgan.cards import MASKGIT_VQGAN
from arbench.adapters.tokenizers.maskgit_vqgan.network import Network as MaskGITNetwork
from arbench.adapters.tokenizers.maskgit_vqgan.network import ResBlock
from arbench.adapters.tokenizers.maskgit_vqgan.network import official_names as tokenizer_names
from arbench.errors import ArbenchError, CheckpointError, ConfigError, ImageError, InputError, Unsupported, UsageError
from arbench.parity import load_golden, replay_golden
from arbench.protocols import (
    Card,
    Codes,
    Generator,
    Guidance,
    LoadSpec,
    Request,
    Sampling,
    Scores,
    Tokenizer,
    TokenSpec,
)
from arbench.registry import resolve
from arbench.seeds import Greedy, noise_for

CARDS = tuple(card for card in ALL if card != RAR_MINI)
"""The released sizes."""
GOLDENS = Path(__file__).parents[1] / "goldens"
CODES, CLASSES, TOKENS = 20, 5, 9
MICRO: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "image_seq_len": TOKENS,
    "condition_num_classes": CLASSES,
    "codebook_size": CODES,
}
SOME = Guidance(scale=4.0, schedule="cosine_power", power=1.5)
RANDOM = Sampling(guidance=SOME, order="random")
SMALL_TOKENIZER: dict[str, Any] = {
    "channel_mult": (1, 1, 2),
    "num_resolutions": 3,
    "hidden_channels": 32,
    "num_res_blocks": 1,
    "z_channels": 8,
    "num_embeddings": CODES,
}
SMALL_TOKENS = TokenSpec(kind="discrete", layout="grid", levels=((4, 4),), vocabulary=CODES)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def micro_card() -> Card:
    return CARDS[0].model_copy(update={"name": "random_order/micro", "config": MICRO, "checkpoint": None})


def small_tokenizer(dtype: str = "float32") -> MaskGITVQGAN:
    card = MASKGIT_VQGAN.model_copy(update={"config": SMALL_TOKENIZER, "tokens": SMALL_TOKENS, "checkpoint": None})
    return MaskGITVQGAN.load(card, LoadSpec(init="random", dtype=dtype))  # type: ignore[arg-type]


def shake(network: nn.Module) -> None:
    """Replace the zeros of a new network, so that nothing it has is without effect."""
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))


def micro(dtype: str = "float32") -> RAR:
    spec = LoadSpec(init="random", dtype=dtype)  # type: ignore[arg-type]
    model = RAR.load(micro_card(), spec, None)
    shake(model.network)
    return model


def request(ids: range, seed: int = 3) -> Request:
    return Request(tuple(ids), noise_for(seed, ids), labels=torch.tensor([i % CLASSES for i in ids]))


def sampled(model: RAR, ids: range, sampling: Sampling, seed: int = 3) -> Tensor:
    generated = model.sample(request(ids, seed), sampling)
    assert generated.codes is not None
    return generated.codes.ids[0]


# ---- faithful to the official code -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "outputs"), [("rar", 4), ("rar-tokenizer", 3)])
def test_recordings_of_the_official_code(name: str, outputs: int) -> None:
    verdicts = list(replay_golden(load_golden(GOLDENS / name)))
    assert len(verdicts) == outputs
    assert [verdict for verdict in verdicts if not verdict.ok] == []


@pytest.mark.parametrize(
    ("name", "key"), [("rar", "timesteps_embeddings"), ("rar-tokenizer", "decoder.up.1.block.0.nin_shortcut.weight")]
)
def test_a_changed_weight_is_noticed(name: str, key: str) -> None:
    golden = load_golden(GOLDENS / name)
    golden.state[key] = golden.state[key] * 1.01
    assert any(not verdict.ok for verdict in replay_golden(golden))


@torch.inference_mode()
def without_cache(network: Network, labels: Tensor, weights: list[float], order: Tensor | None) -> Tensor:
    """Greedy tokens by scoring the whole image anew for every token; a weight of 1 needs no unconditional pass."""
    tokens = torch.zeros(len(labels), TOKENS, dtype=torch.int64)
    nobody = torch.full_like(labels, CLASSES)
    for step in range(TOKENS):
        logits = network.score(labels, tokens, order)[:, step]
        if weights[step] != 1:
            free = network.score(nobody, tokens, order)[:, step]
            logits = weights[step] * logits - (weights[step] - 1) * free
        place = torch.full_like(labels, step) if order is None else order[:, step]
        tokens[torch.arange(len(labels)), place] = logits.argmax(-1)
    return tokens


def raised_cosine(scale: float, power: float) -> list[float]:
    """The formula of the paper's code, step counted from 0."""
    return [1 + (scale - 1) * (1 - math.cos(math.pi * (s / TOKENS) ** power)) / 2 for s in range(TOKENS)]


ORDER = torch.stack([torch.randperm(TOKENS, generator=torch.Generator().manual_seed(i)) for i in range(5)])


@pytest.mark.parametrize("order", [None, ORDER])
@pytest.mark.parametrize(
    ("settings", "weights", "guided"),
    [
        ({"cfg_scale": 0.0, "cfg_power": 2.75}, [1.0] * TOKENS, 0),
        ({"cfg_scale": 3.0, "cfg_power": 0.0}, [3.0] * TOKENS, TOKENS),
        ({"cfg_scale": 16.0, "cfg_power": 2.75}, raised_cosine(16.0, 2.75), TOKENS),
        ({"cfg_scale": 6.9, "cfg_power": 0.7, "temperature": 1.02}, raised_cosine(6.9, 0.7), TOKENS),
    ],
)
def test_greedy_tokens_equal_those_of_a_sampler_without_cache(
    settings: dict[str, float], weights: list[float], guided: int, order: Tensor | None
) -> None:
    network, labels = micro().network, torch.arange(5)
    with torch.inference_mode():
        tokens, forwards = generate(network, labels, upstream_sampling(settings), Greedy(5), order=order)
    assert torch.equal(tokens, without_cache(network, labels, weights, order))
    assert forwards == TOKENS + guided


def test_guidance_may_end_early() -> None:
    network, labels = micro().network, torch.arange(5)
    sampling = Sampling(guidance=Guidance(scale=4.0, until=4 / TOKENS))
    with torch.inference_mode():
        tokens, forwards = generate(network, labels, sampling, Greedy(5), order=ORDER)
    assert torch.equal(tokens, without_cache(network, labels, [4.0] * 4 + [1.0] * (TOKENS - 4), ORDER))
    assert forwards == TOKENS + 4


@pytest.mark.parametrize("order", [None, ORDER])
def test_cached_logits_equal_uncached_ones(order: Tensor | None) -> None:
    network, labels = micro().network, torch.arange(5)
    tokens = torch.randint(CODES, (5, TOKENS), generator=torch.Generator().manual_seed(1))
    drawn = tokens if order is None else tokens.gather(1, order)
    with torch.inference_mode():
        expected = network.score(labels, tokens, order)
        condition, positions, caches = network.condition(labels), network.positions(order), network.allocate(5)
        first = torch.cat((network.first.expand(5, -1, -1), condition), dim=1)
        got = [network(first + positions[:, :2], condition, 0, caches)]
        for k in range(TOKENS - 1):
            x = network.table(drawn[:, k : k + 1]) + positions[:, k + 2 : k + 3]
            got.append(network(x, condition, k + 2, caches))
    assert (torch.cat(got, dim=1) - expected).norm() <= 1e-5 * expected.norm()


def test_raster_is_the_order_of_counting() -> None:
    network, labels = micro().network, torch.arange(5)
    tokens = torch.randint(CODES, (5, TOKENS), generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        counted = network.score(labels, tokens, torch.arange(TOKENS).expand(5, -1))
        torch.testing.assert_close(network.score(labels, tokens), counted)


def test_scores_see_earlier_tokens_and_the_class_only() -> None:
    model = micro()
    assert isinstance(model, Generator)
    assert isinstance(model, Scores)
    ids = sampled(model, range(4), Sampling())
    changed = ids.clone()
    changed[:, 5] = (changed[:, 5] + 1) % CODES
    before, after = (model.logits(request(range(4)), Codes(ids=(each,))) for each in (ids, changed))
    assert before.shape == (4, TOKENS, CODES)
    torch.testing.assert_close(before[:, :6], after[:, :6])
    assert not torch.allclose(before[:, 6:], after[:, 6:])
    other = Request((0, 1, 2, 3), noise_for(3, range(4)), labels=torch.tensor([4, 4, 4, 4]))
    assert not torch.allclose(model.logits(other, Codes(ids=(ids,)))[:, 0], before[:, 0])


# ---- as a generator --------------------------------------------------------------------------------------------------


def test_guidance_off_is_half_the_forwards() -> None:
    model = micro()
    on, off = (model.sample(request(range(3)), Sampling(guidance=g)) for g in (SOME, Guidance()))
    assert (on.forwards, off.forwards) == (2 * TOKENS, TOKENS)
    assert on.outer_steps == off.outer_steps == TOKENS


@pytest.mark.parametrize("sampling", [Sampling(guidance=SOME, top_k=12, top_p=0.95), RANDOM])
def test_samples_do_not_depend_on_the_batch(sampling: Sampling) -> None:
    model = micro()
    whole = sampled(model, range(64), sampling)
    for size in (7, 32):
        parts = [sampled(model, range(i, min(i + size, 64)), sampling) for i in range(0, 64, size)]
        assert (torch.cat(parts) == whole).all(dim=1).double().mean() >= 0.99
    alone = torch.cat([sampled(model, range(i, i + 1), sampling) for i in range(8)])
    assert torch.equal(alone, whole[:8])
    assert not torch.equal(whole, sampled(model, range(64), sampling, seed=4))


def test_random_order_draws_each_sample_in_an_order_of_its_own() -> None:
    model, ids = micro(), range(6)
    noise = noise_for(3, ids)
    order = noise.permutation("order", TOKENS)
    assert len({tuple(row.tolist()) for row in order}) == 6
    labels = torch.tensor([i % CLASSES for i in ids])
    with torch.inference_mode():
        expected, _ = generate(model.network, labels, RANDOM, noise, order=order)
    assert torch.equal(sampled(model, ids, RANDOM), expected)
    raster = sampled(model, ids, Sampling(guidance=SOME, order="raster"))
    assert torch.equal(raster, sampled(model, ids, Sampling(guidance=SOME)))
    assert not torch.equal(raster, expected)


def test_draws_follow_the_model_s_distribution() -> None:
    """First tokens of 4000 images against softmax(logits / T): a chi-square below the 99.99 % point."""
    model, count = micro(), 4000
    sampling = Sampling(temperature=1.3)
    labels = torch.zeros(count, dtype=torch.int64)
    with torch.inference_mode():
        tokens = model.sample(Request(tuple(range(count)), noise_for(1, range(count)), labels=labels), sampling)
        logits = model.network.score(labels[:1], torch.zeros(1, TOKENS, dtype=torch.int64))[0, 0]
    assert tokens.codes is not None
    expected = count * (logits / 1.3).softmax(-1)
    seen = tokens.codes.ids[0][:, 0].bincount(minlength=CODES)
    frequent = expected >= 5
    chi = ((seen - expected) ** 2 / expected)[frequent].sum().item()
    freedom = int(frequent.sum()) - 1
    # Wilson-Hilferty: the cube root of chi-square / freedom is about normal
    z = ((chi / freedom) ** (1 / 3) - (1 - 2 / (9 * freedom))) / math.sqrt(2 / (9 * freedom))
    assert freedom >= 3
    assert z < 3.72


def test_caches_for_a_larger_batch_serve_smaller_ones() -> None:
    model, fresh = micro(), micro()
    sampling = Sampling(guidance=SOME)
    model.prepare(8, sampling)
    model.sample(request(range(8)), sampling)  # leaves other samples' keys in the cache
    assert torch.equal(sampled(model, range(20, 23), sampling), sampled(fresh, range(20, 23), sampling))
    assert sampled(model, range(40), sampling).shape == (40, TOKENS)


def test_phases_cover_every_token_once() -> None:
    seen: list[tuple[str, int, int]] = []

    @contextmanager
    def probe(phase: str, *, index: int = 0, tokens: int = 0) -> Iterator[None]:
        seen.append((phase, index, tokens))
        yield

    micro().sample(request(range(2)), Sampling(), probe=probe)
    assert seen == [("condition", 0, 0), ("prefill", 0, 1), *(("ar", i, 1) for i in range(1, TOKENS))]


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_follows_single(dtype: str) -> None:
    single, half = micro(), micro(dtype)
    codes = Codes(ids=(sampled(single, range(4), Sampling()),))
    expected, got = single.logits(request(range(4)), codes), half.logits(request(range(4)), codes)
    assert got.dtype == torch.float32
    # eight (bfloat16) or eleven (float16) bits a product, over a few dozen sums
    assert (got - expected).norm() <= 0.05 * expected.norm()
    assert sampled(half, range(3), RANDOM).shape == (3, TOKENS)


@pytest.mark.parametrize(
    ("sampling", "what"),
    [
        (Sampling(steps=3), "steps"),
        (Sampling(inner_steps=3), "inner_steps"),
        (Sampling(order="halton"), "halton"),
        (Sampling(extra={"kv": 1}), "kv"),
    ],
)
def test_unsupported_knobs_are_refused(sampling: Sampling, what: str) -> None:
    model = micro()
    with pytest.raises(Unsupported, match=what):
        model.sample(request(range(1)), sampling)
    with pytest.raises(Unsupported, match=what):
        model.prepare(1, sampling)


def test_wrong_requests_and_tokenizers_are_clear_errors() -> None:
    with pytest.raises(UsageError, match="labels"):
        micro().sample(Request((0,), noise_for(0, [0])), Sampling())
    other = LlamaGenVQ.load(LLAMAGEN_MINI.model_copy(update={"checkpoint": None}), LoadSpec(init="random"))
    with pytest.raises(InputError, match="cannot use"):
        RAR.load(micro_card(), LoadSpec(init="random"), other)
    replay = resolve("arbench.adapters.random_order.rar.adapter:replay")(MICRO, official_state(micro().network))
    labels = {"class_ids": torch.arange(3)}
    assert replay("generate", {"greedy": True}, labels)["tokens"].shape == (3, TOKENS)
    for probe, settings in (("velocity", {}), ("generate", {}), ("generate", {"greedy": True, "top_z": 3})):
        with pytest.raises(InputError):
            replay(probe, settings, labels)
    with pytest.raises(ConfigError, match="window"):
        RAR.load(
            micro_card().model_copy(update={"config": MICRO | {"window": 3}}),
            LoadSpec(init="random"),
            None,
        )


# ---- official files --------------------------------------------------------------------------------------------------


def official_state(network: nn.Module) -> dict[str, Tensor]:
    names = official_names if isinstance(network, Network) else tokenizer_names
    return {names(name)[0]: tensor for name, tensor in network.state_dict().items()}


def official_rar_shapes(
    hidden_size: int,
    num_hidden_layers: int,
    num_attention_heads: int,
    intermediate_size: int,
    image_seq_len: int = 256,
    condition_num_classes: int = 1000,
    codebook_size: int = 1024,
) -> dict[str, tuple[int, ...]]:
    """Keys and shapes of upstream's class, as read from its definition."""
    width, head = hidden_size, hidden_size // num_attention_heads
    shapes: dict[str, tuple[int, ...]] = {
        "cls_token": (1, 1, width),
        "pos_embed": (1, image_seq_len + 1024, width),
        "target_aware_pos_embed": (1, image_seq_len + 1024, width),
        "timesteps_embeddings": (1, image_seq_len + 100, width),
        "embeddings.weight": (codebook_size + condition_num_classes + 2, width),
        "adaln_before_head.adaLN_modulation.1.weight": (2 * width, width),
        "adaln_before_head.adaLN_modulation.1.bias": (2 * width,),
        "lm_head.weight": (codebook_size, width),
        "lm_head.bias": (codebook_size,),
    }
    block: dict[str, tuple[int, ...]] = {"attn.q_norm": (head,), "attn.k_norm": (head,)}
    block |= {"norm1": (width,), "norm2": (width,)}
    block |= {"attn.qkv": (3 * width, width), "attn.proj": (width, width), "adaLN_modulation.1": (6 * width, width)}
    block |= {"mlp.fc1": (intermediate_size, width), "mlp.fc2": (width, intermediate_size)}
    for index in range(num_hidden_layers):
        for name, shape in block.items():
            shapes[f"blocks.{index}.{name}.weight"] = shape
            shapes[f"blocks.{index}.{name}.bias"] = shape[:1]
    return shapes


# millions, as printed by the official class; the paper gives 261, 461, 955 and 1499
SIZES = {"b": (260.92, 261), "l": (461.67, 461), "xl": (955.43, 955), "xxl": (1498.52, 1499)}


def test_all_released_sizes_have_a_card() -> None:
    assert {card.name.removeprefix("random_order/rar-") for card in CARDS} == SIZES.keys()


@pytest.mark.parametrize("card", CARDS)
def test_official_cards_have_the_official_keys_and_sizes(card: Card) -> None:
    with torch.device("meta"):
        network = Network(from_upstream(Config, card.config, TRAINING_ONLY))
    shapes = {key: tuple(tensor.shape) for key, tensor in official_state(network).items()}
    assert shapes == official_rar_shapes(**card.config)
    parameters = sum(parameter.numel() for parameter in network.parameters())
    size = card.name.removeprefix("random_order/rar-")
    printed, paper = SIZES[size]
    assert parameters == card.parameters == sum(math.prod(shape) for shape in shapes.values())
    assert parameters / 1e6 == pytest.approx(printed, abs=0.005)
    assert parameters / 1e6 == pytest.approx(paper, abs=1)  # the paper rounds L down
    assert card.tokens is not None
    assert (card.tokens.tokens, card.tokens.vocabulary) == (256, 1024)
    assert card.checkpoint is not None
    assert card.checkpoint.file == f"rar_{size}.bin"
    theirs = card.upstream_settings
    settings = {"cfg_scale": theirs["guidance_scale"], "cfg_power": theirs["guidance_scale_pow"]}
    assert card.native == upstream_sampling(settings | {"temperature": theirs["randomize_temperature"]})
    assert card.tokenizer == MASKGIT_VQGAN.name
    assert resolve(card.implementation) is RAR


@pytest.mark.parametrize("name", ["rar", "rar-tokenizer"])
def test_recorded_official_keys(name: str) -> None:
    golden = load_golden(GOLDENS / name)
    with torch.device("meta"):
        network: nn.Module = (
            Network(from_upstream(Config, golden.config, TRAINING_ONLY))
            if name == "rar"
            else MaskGITNetwork(golden.config)
        )
    shapes = {key: tuple(tensor.shape) for key, tensor in official_state(network).items()}
    assert shapes == {key: tuple(tensor.shape) for key, tensor in golden.state.items()}


def test_official_files_load_strictly(tmp_path: Path) -> None:
    model, path = micro(), tmp_path / "rar_micro.bin"
    torch.save(official_state(model.network), path)
    loaded = RAR.load(micro_card(), LoadSpec(weights=path), None)
    assert torch.equal(sampled(loaded, range(3), RANDOM), sampled(model, range(3), RANDOM))


def test_files_of_another_kind_are_clear_errors(tmp_path: Path) -> None:
    model, tokenizer = micro(), small_tokenizer()
    ours, theirs, cut = (tmp_path / name for name in ("rar_micro.bin", "tokenizer.bin", "cut.bin"))
    torch.save(official_state(model.network), ours)
    torch.save(official_state(tokenizer.network), theirs)
    state = official_state(model.network) | {"attn_mask": torch.zeros(2, 2)}
    del state["timesteps_embeddings"]
    torch.save(state, cut)
    with pytest.raises(CheckpointError, match="looks like a MaskGIT VQGAN"):
        RAR.load(micro_card(), LoadSpec(weights=theirs), None)
    with pytest.raises(CheckpointError, match="looks like a RAR generator"):
        MaskGITVQGAN.load(tokenizer.card, LoadSpec(weights=ours))
    with pytest.raises(CheckpointError, match=r"timesteps_embeddings(.|\n)*attn_mask"):
        RAR.load(micro_card(), LoadSpec(weights=cut), None)


# ---- tokenizer -------------------------------------------------------------------------------------------------------


def official_tokenizer_shapes() -> dict[str, tuple[int, ...]]:
    """Keys and shapes of the published file: widths 128, 128, 256, 256, 512, two blocks at each place."""
    shapes: dict[str, tuple[int, ...]] = {"quantize.embedding.weight": (1024, 256)}

    def blocks(prefix: str, inputs: int, outputs: int) -> None:
        for index, before in enumerate((inputs, outputs)):
            here = f"{prefix}.{index}"
            for name, width in (("norm1", before), ("norm2", outputs)):
                shapes[f"{here}.{name}.weight"] = shapes[f"{here}.{name}.bias"] = (width,)
            shapes[f"{here}.conv1.weight"] = (outputs, before, 3, 3)
            shapes[f"{here}.conv2.weight"] = (outputs, outputs, 3, 3)
            if before != outputs:
                shapes[f"{here}.nin_shortcut.weight"] = (outputs, outputs, 1, 1)

    for level, (inputs, outputs) in enumerate(((128, 128), (128, 128), (128, 256), (256, 256), (256, 512))):
        blocks(f"encoder.down.{level}.block", inputs, outputs)
    for level, (inputs, outputs) in enumerate(((128, 128), (256, 128), (256, 256), (512, 256), (512, 512))):
        blocks(f"decoder.up.{level}.block", inputs, outputs)
        if level:
            shapes[f"decoder.up.{level}.upsample_conv.weight"] = (outputs, outputs, 3, 3)
            shapes[f"decoder.up.{level}.upsample_conv.bias"] = (outputs,)
    for side, width in (("encoder", 512), ("decoder", 128)):
        blocks(f"{side}.mid", 512, 512)
        shapes[f"{side}.norm_out.weight"] = shapes[f"{side}.norm_out.bias"] = (width,)
    shapes["encoder.conv_in.weight"] = (128, 3, 3, 3)
    shapes |= {"encoder.conv_out.weight": (256, 512, 1, 1), "encoder.conv_out.bias": (256,)}
    shapes |= {"decoder.conv_in.weight": (512, 256, 3, 3), "decoder.conv_in.bias": (512,)}
    shapes |= {"decoder.conv_out.weight": (3, 128, 3, 3), "decoder.conv_out.bias": (3,)}
    return shapes


def test_official_tokenizer_has_the_official_keys_and_size() -> None:
    with torch.device("meta"):
        network = MaskGITNetwork(MASKGIT_VQGAN.config)
    shapes = {key: tuple(tensor.shape) for key, tensor in official_state(network).items()}
    assert shapes == official_tokenizer_shapes()
    parameters = sum(parameter.numel() for parameter in network.parameters())
    assert parameters == MASKGIT_VQGAN.parameters
    # millions, as printed by the official class
    assert parameters / 1e6 == pytest.approx(54.52, abs=0.005)
    assert sum(parameter.numel() for parameter in network.decoder.parameters()) / 1e6 == pytest.approx(30.48, abs=0.005)
    assert resolve(MASKGIT_VQGAN.implementation) is MaskGITVQGAN


def test_where_the_width_changes_the_skip_is_of_the_result() -> None:
    block = ResBlock(32, 64).requires_grad_(False)
    x = torch.randn(2, 32, 6, 6, generator=torch.Generator().manual_seed(0))
    h = F.conv2d(F.silu(F.group_norm(x, 32, eps=1e-6)), block.conv1.weight, padding=1)
    h = F.conv2d(F.silu(F.group_norm(h, 32, eps=1e-6)), block.conv2.weight, padding=1)
    assert block.shortcut is not None
    torch.testing.assert_close(block(x), h + F.conv2d(h, block.shortcut.weight))


def test_tokenizer_codes_images_in_the_unit_range() -> None:
    tokenizer = small_tokenizer()
    assert isinstance(tokenizer, Tokenizer)
    images = torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    codes = tokenizer.encode(images)
    assert [ids.shape for ids in codes.ids] == [(3, 16)]
    features = tokenizer.network.encoder(images)  # (B, C, 4, 4)
    table = tokenizer.network.quantize.embedding.weight
    distances = torch.cdist(features.flatten(2).transpose(1, 2), table.expand(3, -1, -1))
    assert torch.equal(codes.ids[0], distances.argmin(-1))
    grid = table[codes.ids[0]].transpose(1, 2).reshape(3, 8, 4, 4)
    decoded = tokenizer.decode(codes)
    torch.testing.assert_close(decoded, tokenizer.network.decoder(grid).clamp(0, 1))
    assert decoded.shape == images.shape
    assert tokenizer.encode(torch.rand(1, 3, 32, 32)).ids[0].shape == (1, 64)


def test_tokenizer_in_half_precision_gives_float_images() -> None:
    half, single = small_tokenizer("bfloat16"), small_tokenizer()
    codes = Codes(ids=(torch.randint(CODES, (2, 16), generator=torch.Generator().manual_seed(0)),))
    assert half.network.quantize.embedding.weight.dtype == torch.float32
    assert half.decode(codes).dtype == torch.float32
    assert (half.decode(codes) - single.decode(codes)).abs().max() < 0.05


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda t: t.encode(torch.zeros(1, 3, 16, 12)), ImageError),
        (lambda t: t.encode(torch.zeros(1, 3, 18, 18)), ImageError),
        (lambda t: t.decode(Codes(ids=(torch.zeros(1, 15, dtype=torch.int64),))), InputError),
        (lambda t: MaskGITNetwork(SMALL_TOKENIZER | {"num_resolutions": 5}), ConfigError),
        (lambda t: MaskGITNetwork(SMALL_TOKENIZER | {"attention": True}), ConfigError),
    ],
)
def test_wrong_input_of_the_tokenizer_is_a_clear_error(call: Any, error: type[ArbenchError]) -> None:
    with pytest.raises(error):
        call(small_tokenizer())


def test_from_class_to_image() -> None:
    tokenizer = small_tokenizer()
    model = RAR.load(micro_card(), LoadSpec(init="random"), tokenizer)
    generated = model.sample(request(range(2)), Sampling(guidance=SOME))
    assert generated.codes is not None
    images = tokenizer.decode(generated.codes)
    assert images.shape == (2, 3, 12, 12)
    assert images.min() >= 0
    assert images.max() <= 1
    for closing in (model, tokenizer):
        closing.close()
        closing.close()
