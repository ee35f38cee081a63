"""`arbench check`: minis and tiny networks of every family pass; each way to break the contract has its line."""

from __future__ import annotations

import json
import os
import random
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from arbench import registry
from arbench.adapters.layers.generator import RecordedGenerator
from arbench.adapters.layers.sampling import check_supported, draw_tokens, guided_steps, mix_guidance
from arbench.check import names
from arbench.check.adapter import check, chosen, plan
from arbench.check.generator import GeneratorChecks
from arbench.check.tokenizer import TokenizerChecks
from arbench.check.verdict import Broken, Verdict
from arbench.check.watch import Watch
from arbench.cli.main import main
from arbench.errors import ConfigError, MissingWeights, UnknownName, Unsupported, UsageError
from arbench.protocols import NO_PROBE, Card, Codes, Generated, Guidance, Probe, Request, Sampling, TokenSpec
from arbench.seeds import noise_for
from tests.cli.terminals import on_terminal

CODES, SIDE, TOKENS, CLASSES, WIDTH = 16, 4, 16, 5, 16
GRID = TokenSpec(kind="discrete", layout="grid", levels=((SIDE, SIDE),), vocabulary=CODES)


def failures(verdicts: list[Verdict]) -> dict[str, str]:
    return {verdict.name: verdict.why for verdict in verdicts if verdict.outcome == "FAIL"}


# ---- adapters that keep the contract ---------------------------------------------------------------------------------


SHIPPED = [card.name for card in registry.cards().values() if card.checkpoint and card.checkpoint.packaged]


@pytest.mark.parametrize("name", SHIPPED)
def test_minis_pass_with_their_weights(name: str) -> None:
    verdicts = list(check(plan(registry.card(name))))
    assert failures(verdicts) == {}
    assert {verdict.adapter for verdict in verdicts} == {name}
    outcomes = {verdict.name: verdict.outcome for verdict in verdicts}
    assert outcomes["load"] == outcomes["batch"] == outcomes["close"] == outcomes["global state"] == "ok"


def test_both_kinds_of_minis_are_shipped() -> None:
    assert {
        "raster/llamagen-mini",
        "next_scale/var-mini",
        "tokenizers/llamagen-mini",
        "tokenizers/var-mini",
    } <= set(SHIPPED)


def tiny(name: str, config: dict[str, Any], tokens: TokenSpec, side: int, **more: Any) -> Card:
    update = {"config": config, "tokens": tokens, "resolution": side, "checkpoint": None, "parameters": None}
    return registry.card(name).model_copy(update=update | more)


MASKGIT = tiny(
    "tokenizers/maskgit-vqgan",
    {
        "channel_mult": (1, 1, 2),
        "num_resolutions": 3,
        "hidden_channels": 32,
        "num_res_blocks": 1,
        "z_channels": 8,
        "num_embeddings": CODES,
    },
    GRID,
    16,
)
RAR = tiny(
    "random_order/rar-b",
    {
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 48,
        "image_seq_len": TOKENS,
        "condition_num_classes": CLASSES,
        "codebook_size": CODES,
    },
    GRID,
    16,
    classes=CLASSES,
)
RANDAR = tiny(
    "random_order/randar-0.3b",
    {
        "dim": 32,
        "n_layer": 2,
        "n_head": 4,
        "multiple_of": 16,
        "num_classes": CLASSES,
        "vocab_size": CODES,
        "block_size": TOKENS,
        "num_inference_steps": 7,
    },
    GRID,
    16,
    classes=CLASSES,
)
LATENTS = TokenSpec(kind="continuous", layout="grid", levels=((SIDE, SIDE),), channels=4)
MAR_KL = tiny(
    "tokenizers/mar-kl-16", {"embed_dim": 4, "ch": 32, "ch_mult": (1, 1, 2), "num_res_blocks": 1}, LATENTS, 16
)
MAR = tiny(
    "continuous/mar-base",
    {
        "img_size": 16,
        "vae_stride": 4,
        "encoder_embed_dim": 32,
        "encoder_depth": 2,
        "encoder_num_heads": 4,
        "decoder_embed_dim": 48,
        "decoder_depth": 1,
        "decoder_num_heads": 3,
        "mlp_ratio": 2.0,
        "vae_embed_dim": 4,
        "class_num": CLASSES,
        "buffer_size": 3,
        "diffloss_d": 2,
        "diffloss_w": 24,
    },
    LATENTS,
    16,
    classes=CLASSES,
)
SCALES, WORDS, TEXT_WIDTH = (1, 2, 3), 5, 12
HYBRID = TokenSpec(
    kind="hybrid", layout="pyramid", levels=tuple((side, side) for side in SCALES), vocabulary=20, channels=6
)
HART_TOKENIZER = tiny(
    "tokenizers/hart-hybrid",
    {"vocab_size": 20, "z_channels": 6, "ch": 32, "ch_mult": (1, 1), "num_res_blocks": 1, "v_patch_nums": SCALES},
    HYBRID,
    6,
)
HART = tiny(
    "hybrid/hart-0.7b",
    {
        "patch_nums": SCALES,
        "vocab_size": 20,
        "z_channels": 6,
        "context_token": WORDS,
        "context_dim": TEXT_WIDTH,
        "depth": 2,
        "embed_dim": 32,
        "num_heads": 4,
        "mlp_type": "llama",
        "attn_type": "llama",
        "disable_aln": True,
        "use_timestep_embed": True,
        "use_context_norm": True,
        "diff_width": 16,
        "diff_depth": 1,
        "num_sampling_steps": "4",
    },
    HYBRID,
    6,
)


@pytest.mark.parametrize(
    ("card", "tokenizer"), [(RAR, MASKGIT), (RANDAR, MASKGIT), (MAR, MAR_KL)], ids=lambda card: card.name
)
def test_tiny_networks_of_other_families_pass(card: Card, tokenizer: Card) -> None:
    assert failures(list(check(plan(card, tokenizer=tokenizer, random=True)))) == {}


def test_a_tiny_hybrid_passes_on_captions(tmp_path: Any) -> None:
    draw = torch.Generator().manual_seed(1)
    paths = [str(tmp_path / f"{row}.safetensors") for row in range(4)]
    for row, path in enumerate(paths):
        features = torch.randn(WORDS, TEXT_WIDTH, generator=draw)
        save_file({"features": features, "mask": (torch.arange(WORDS) < 2 + row % 4).long()}, path)
    assert failures(list(check(plan(HART, tokenizer=HART_TOKENIZER, random=True, prompts=paths)))) == {}
    with pytest.raises(UsageError, match="needs prompts"):
        plan(HART, tokenizer=HART_TOKENIZER, random=True)


@pytest.mark.parametrize("card", [MASKGIT, MAR_KL, HART_TOKENIZER], ids=lambda card: card.name)
def test_tiny_tokenizers_pass(card: Card) -> None:
    assert failures(list(check(plan(card, random=True)))) == {}


# ---- a small adapter, and ways to break it ---------------------------------------------------------------------------


class Palette(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.levels = nn.Parameter(torch.linspace(0, 1, CODES), requires_grad=False)


class GreyTokenizer:
    """The mean of every patch, as one of `CODES` greys."""

    def __init__(self, card: Card) -> None:
        self.card, self.spec, self.network = card, card.tokens, Palette()

    @classmethod
    def load(cls, card: Card, spec: Any) -> Any:
        return cls(card)

    def encode(self, images: Tensor, *, noise: Any = None) -> Codes:
        grey = images.mean(1).unflatten(1, (SIDE, -1)).unflatten(3, (SIDE, -1)).mean((2, 4)).flatten(1)
        return Codes(ids=((grey[..., None] - self.network.levels).abs().argmin(-1),))

    def decode(self, codes: Codes, *, probe: Probe = NO_PROBE) -> Tensor:
        with probe("decode"):
            grid = self.network.levels[codes.ids[0]].unflatten(1, (SIDE, SIDE))  # (B, 4, 4)
            return grid.repeat_interleave(4, 1).repeat_interleave(4, 2)[:, None].repeat(1, 3, 1, 1)

    def close(self) -> None:
        vars(self).pop("network", None)


class Bigram(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.classes, self.codes = nn.Embedding(CLASSES + 1, WIDTH), nn.Embedding(CODES, WIDTH)
        self.head = nn.Linear(WIDTH, CODES)

    def forward(self, labels: Tensor, previous: Tensor) -> Tensor:
        logits: Tensor = self.head(torch.tanh(self.classes(labels) + self.codes(previous)))
        return logits.unsqueeze(1)  # (B, 1, V)


def fixed(network: type[nn.Module]) -> nn.Module:
    """With the same random weights every time."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return network().requires_grad_(False)


class Small:
    """Every token from the class and the token before; keeps the contract."""

    def __init__(self, card: Card, tokenizer: Any) -> None:
        self.card, self.tokenizer = card, tokenizer
        self.network = fixed(Bigram)

    @classmethod
    def load(cls, card: Card, spec: Any, tokenizer: Any) -> Any:
        return cls(card, tokenizer)

    def prepare(self, batch: int, sampling: Sampling) -> None:
        self.honour(sampling)

    def sample(self, request: Request, sampling: Sampling, *, probe: Probe = NO_PROBE) -> Generated:
        self.honour(sampling)
        assert request.labels is not None
        previous, ids, forwards = torch.zeros_like(request.labels), [], 0
        guided = self.guided(sampling)
        for index in range(TOKENS):
            with self.mark(probe, index):
                labels = self.rows(request.labels, index < guided)
                copies = len(labels) // len(request.labels)
                forwards += copies
                logits = self.network(labels, previous.repeat(copies))
                if index < guided:
                    logits = mix_guidance(logits, sampling.guidance.scale)
                ids.append(self.draw(logits[: len(previous)], sampling, request, index))
                previous = ids[-1][:, 0]
        codes = Codes(ids=(self.finished(torch.cat(ids, dim=1)),))
        return Generated(codes=codes, outer_steps=TOKENS, forwards=forwards)

    def honour(self, sampling: Sampling) -> None:
        check_supported(self.card, sampling)

    def guided(self, sampling: Sampling) -> int:
        return guided_steps(sampling.guidance, TOKENS)

    def rows(self, labels: Tensor, guided: bool) -> Tensor:
        return torch.cat((labels, torch.full_like(labels, CLASSES))) if guided else labels

    def mark(self, probe: Probe, index: int) -> AbstractContextManager[None]:
        return probe("ar" if index else "prefill", index=index, tokens=1)

    def draw(self, logits: Tensor, sampling: Sampling, request: Request, index: int) -> Tensor:
        return draw_tokens(logits, sampling, request.noise, "tokens", start=index)

    def finished(self, ids: Tensor) -> Tensor:
        return ids

    def close(self) -> None:
        vars(self).pop("network", None)


GREY = Card(
    name="tokenizers/grey",
    kind="tokenizer",
    family="tokenizers",
    implementation="broken_adapters:tokenizer",
    summary="",
    resolution=16,
    tokens=GRID,
)
SMALL = Card(
    name="other/small",
    kind="generator",
    family="other",
    implementation="broken_adapters:generator",
    summary="",
    resolution=16,
    condition="class",
    classes=CLASSES,
    tokenizer=GREY.name,
    tokens=GRID,
    supports=frozenset({"guidance", "temperature", "top_k"}),
    choices={"guidance.schedule": ("constant",)},
    native=Sampling(guidance=Guidance(scale=2.0)),
)


@pytest.fixture
def outcome(monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, str]]:
    """The failures of a generator or tokenizer class; the other of the two is sound."""

    def of(generator: Any = None, tokenizer: Any = GreyTokenizer, **card: Any) -> dict[str, str]:
        module = ModuleType("broken_adapters")
        vars(module).update(generator=generator, tokenizer=tokenizer)
        monkeypatch.setitem(sys.modules, "broken_adapters", module)
        checked = GREY if generator is None else SMALL
        checked = checked.model_copy(update=card)
        return failures(list(check(plan(checked, tokenizer=None if generator is None else GREY, random=True))))

    return of


def test_the_small_adapters_pass(outcome: Any) -> None:
    assert outcome(Small) == {}
    assert outcome() == {}


class Recorded(RecordedGenerator):
    """The loop of `Small` as a call of tensors."""

    @classmethod
    def load(cls, card: Card, spec: Any, tokenizer: Any) -> Any:
        return cls(card, Small(card, tokenizer).network, tokenizer, spec)

    def draw(self, noise: Any, sampling: Sampling, probe: Probe, *inputs: Any) -> Generated:
        (labels,) = inputs
        model = Small(self.card, self.tokenizer)
        return model.sample(Request((0,) * len(labels), noise, self.seen(labels)), sampling, probe=probe)

    def seen(self, labels: Tensor) -> Tensor:
        return labels


class ReadsBack(Recorded):
    def seen(self, labels):
        return labels if labels.max().item() >= 0 else labels + 1


def test_what_keeps_a_call_from_a_recording_is_told_and_breaks_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    module = ModuleType("broken_adapters")
    vars(module).update(tokenizer=GreyTokenizer)
    monkeypatch.setitem(sys.modules, "broken_adapters", module)
    for generator, outcome, said in (
        (Small, "not applicable", "it has no `reads_back`"),
        (Recorded, "ok", "a call reads nothing back"),
        (ReadsBack, "ok", "no CUDA graph, calls stay eager: reads a number off a tensor"),
    ):
        vars(module).update(generator=generator)
        found = {each.name: each for each in check(plan(SMALL, tokenizer=GREY, random=True))}
        assert failures(list(found.values())) == {}
        assert found["recording"].outcome == outcome
        assert said in found["recording"].why
    assert re.search(r"in test_check\.py, line \d+ \(seen\)", found["recording"].why)


class GlobalRandom(Small):
    def draw(self, logits, sampling, request, index):
        return torch.multinomial(logits.softmax(-1)[:, 0], 1)


def test_global_randomness_is_found(outcome: Any) -> None:
    failed = outcome(GlobalRandom)
    assert {"same seeds", "batch", "global state"} <= failed.keys()
    assert failed["global state"] == "`sample` changes torch's random state"


class SharedNoise(Small):
    """A number of the batch goes into every sample's."""

    def draw(self, logits, sampling, request, index):
        uniform = request.noise.uniform("tokens", 1, start=index)  # (B, 1)
        return draw_tokens(logits, sampling, Shifted(request.noise, uniform.mean()), "tokens", start=index)


class Shifted:
    def __init__(self, noise, shift):
        self.noise, self.shift = noise, shift

    def categorical(self, probabilities, stream, start=0):
        uniform = (self.noise.uniform(stream, 1, start) + self.shift) % 1
        return (probabilities.double().cumsum(-1) < uniform[..., None]).sum(-1).clamp(max=CODES - 1)


def test_noise_that_depends_on_the_batch_is_found(outcome: Any) -> None:
    failed = outcome(SharedNoise)
    assert failed.keys() == {"batch", "prepare"}
    assert "batch of 1" in failed["batch"]


class OneSample(Small):
    def draw(self, logits, sampling, request, index):
        return logits.div(max(sampling.temperature, 0.1)).argmax(-1)


def test_ignored_seeds_are_found(outcome: Any) -> None:
    assert "another seed" in outcome(OneSample)["other seeds"]


class DeafTopK(Small):
    def draw(self, logits, sampling, request, index):
        return super().draw(logits, sampling.model_copy(update={"top_k": None}), request, index)


class Agreeable(Small):
    def honour(self, sampling):
        pass


class AlwaysGuided(Small):
    def guided(self, sampling):
        return TOKENS if sampling.guidance.on else 0


def test_ignored_ways_of_guidance_are_found(outcome: Any) -> None:
    failed = outcome(AlwaysGuided)
    assert failed.keys() == {"guidance"}
    assert failed["guidance"].startswith("until is accepted and changes nothing")


class WrongScores(Small):
    def logits(self, request, codes):
        return torch.zeros(4, TOKENS, CODES + 1)


def test_scores_of_another_shape_are_found(outcome: Any) -> None:
    assert outcome(WrongScores) == {"scores": "`logits` are (4, 16, 17), not (4, 16, 16)"}


def test_ignored_knobs_are_found(outcome: Any) -> None:
    failed = outcome(DeafTopK)
    assert failed == {"supported knobs": "top_k changes nothing, and the card supports it"}
    failed = outcome(Agreeable)
    assert failed.keys() == {"unsupported knobs", "guidance"}
    assert failed["unsupported knobs"].startswith(
        "top_p, steps, inner_steps, order, extra.no_such_knob: accepted and not"
    )


class Strict(Small):
    def honour(self, sampling):
        if sampling.steps == 2:
            raise Unsupported("2 steps are too few")


def test_a_card_that_promises_too_much_or_too_little_is_found(outcome: Any) -> None:
    assert (
        "steps is in `supports` and refused" in outcome(Strict, supports=SMALL.supports | {"steps"})["supported knobs"]
    )
    assert "not a field of Sampling" in outcome(Small, supports=SMALL.supports | {"cfg"})["supported knobs"]
    assert "native" in outcome(Small, native=Sampling(top_p=0.5))["native settings"]


class HighIds(Small):
    def finished(self, ids):
        return ids + 10


class ShortIds(Small):
    def finished(self, ids):
        return ids.int()


def test_wrong_codes_are_found(outcome: Any) -> None:
    assert "out of the range 0 to 15" in outcome(HighIds)["codes"]
    assert outcome(ShortIds)["codes"] == "ids of level 0 are torch.int32, not torch.int64"
    other = GRID.model_copy(update={"levels": ((5, 5),)})
    assert outcome(Small, tokens=other)["codes"] == "ids of level 0 are (4, 16), not (4, 25)"


class MoreOutputsThanCodes(Small):
    """Its head has an end-of-image token, which is hardly ever drawn."""

    def draw(self, logits, sampling, request, index):
        end = torch.full_like(logits[..., :1], -12.0)
        return super().draw(torch.cat((logits, end), dim=-1), sampling, request, index)


class RoundsUp(Small):
    def draw(self, logits, sampling, request, index):
        if sampling != Sampling() or index < TOKENS - 1:
            return super().draw(logits, sampling, request, index)
        return (request.noise.uniform("tokens", 1, index).float() * CODES).long()


class SometimesNegative(Small):
    def finished(self, ids):
        return torch.where((ids == 0).sum(1, keepdim=True) > 3, -1, ids)


def test_rare_draws_out_of_range_are_found(outcome: Any) -> None:
    why = "a rare draw is out of range: ids of level 0 go from {}, out of the range 0 to 15"
    fails = "a rare draw raises IndexError: index out of range in self; is all that can be drawn a code?"
    assert outcome(MoreOutputsThanCodes) == {"rare draws": fails}
    assert re.fullmatch(why.format(r"\d+ to 16"), outcome(RoundsUp)["rare draws"])
    assert re.fullmatch(why.format(r"-1 to \d+"), outcome(SometimesNegative)["rare draws"])
    assert "rare draws" not in outcome(HighIds)


class KeepsItsBuffer(Small):
    def finished(self, ids):
        self.buffer = getattr(self, "buffer", torch.zeros(16, TOKENS, dtype=torch.int64))
        return self.buffer[: len(ids)].copy_(ids)


class Undressed(Small):
    def finished(self, ids):
        return ids.numpy()


def test_what_a_call_returned_is_its_callers(outcome: Any) -> None:
    why = "a later call overwrites what an earlier one returned: return a copy of what is kept"
    assert outcome(KeepsItsBuffer) == {"other seeds": why}


def test_a_result_of_another_type_is_named(outcome: Any) -> None:
    assert outcome(Undressed)["sample"] == "what codes hold: type Tensor is expected, not ndarray"
    why = "`ids` of codes: type tuple is expected, not Tensor"
    assert outcome(tokenizer=LooseIds)["encode"] == why
    assert outcome(tokenizer=BareIds)["encode"] == "codes: type Codes is expected, not tuple"
    assert outcome(tokenizer=NumpyImages)["decode"] == "images: type Tensor is expected, not ndarray"


class IgnoresLabels(Small):
    """All but whether there is one."""

    def rows(self, labels, guided):
        return super().rows(torch.zeros_like(labels), guided)


def test_an_ignored_condition_is_found(outcome: Any) -> None:
    why = "samples are the same with other labels: is `request.labels` used?"
    assert outcome(IgnoresLabels) == {"condition": why}
    assert outcome(IgnoresLabels, classes=1) == {}


class Crossed(AbstractContextManager):
    def __init__(self, probe):
        self.marks = [probe("ar", tokens=1), probe("inner")]

    def __enter__(self):
        for mark in self.marks:
            mark.__enter__()

    def __exit__(self, *error):
        for mark in self.marks:
            mark.__exit__(None, None, None)


class Unnested(Small):
    def mark(self, probe, index):
        return Crossed(probe)


class Misnamed(Small):
    def mark(self, probe, index):
        return probe("autoregression")


class Unmarked(Small):
    def mark(self, probe, index):
        return super().mark(probe if index else NO_PROBE, index)


def test_wrong_marks_are_found(outcome: Any) -> None:
    failed = outcome(Unnested)
    assert failed.keys() == {"probe"}
    assert "left while a phase inside it is open" in failed["probe"]
    assert "no phase named 'autoregression'" in outcome(Misnamed)["probe"]
    assert "15 times in 16 steps" in outcome(Unmarked)["probe"]


class AlwaysDoubled(Small):
    def rows(self, labels, guided):
        return torch.cat((labels, torch.full_like(labels, CLASSES)))


class SecretlyDoubled(AlwaysDoubled):
    def sample(self, request, sampling, *, probe=NO_PROBE):
        generated = super().sample(request, sampling, probe=probe)
        forwards = TOKENS + self.guided(sampling)
        return Generated(codes=generated.codes, outer_steps=TOKENS, forwards=forwards)


def test_a_doubled_batch_without_guidance_is_found(outcome: Any) -> None:
    failed = outcome(AlwaysDoubled)
    assert failed == {"guidance off": "32 forwards in 16 steps without guidance: one a step is enough"}
    failed = outcome(SecretlyDoubled)
    assert failed.keys() == {"guidance off"}
    assert "1.00 times the work" in failed["guidance off"]


class OneForwardFewer(Small):
    def sample(self, request, sampling, *, probe=NO_PROBE):
        generated = super().sample(request, sampling, probe=probe)
        forwards = generated.forwards - sampling.guidance.on
        return Generated(codes=generated.codes, outer_steps=TOKENS, forwards=forwards)


class OneStep(Small):
    """All tokens at once; a step whose guidance weight is 1 has no second half."""

    def sample(self, request, sampling, *, probe=NO_PROBE):
        self.honour(sampling)
        weight = sampling.guidance.weight(0.0) if sampling.guidance.on else 1.0
        with probe("prefill", tokens=TOKENS):
            labels = self.rows(request.labels, weight != 1)
            logits = self.network(labels, torch.zeros_like(labels))
            if weight != 1:
                logits = mix_guidance(logits, weight)
            ids = self.draw(logits.repeat(1, TOKENS, 1), sampling, request, 0)
        return Generated(codes=Codes(ids=(ids,)), outer_steps=1, forwards=len(labels) // len(ids))


GROWS: dict[str, Any] = {
    "native": Sampling(guidance=Guidance(scale=2.0, schedule="linear")),
    "choices": {"guidance.schedule": ("linear",)},
}


def test_a_forward_too_few_is_found_under_any_schedule(outcome: Any) -> None:
    why = "31 forwards with guidance, 16 without: a guided one counts as two"
    assert outcome(OneForwardFewer) == {"guidance off": why}
    assert outcome(OneForwardFewer, **GROWS)["guidance off"] == why


def test_one_step_is_guided_under_a_schedule_that_grows_from_1(outcome: Any) -> None:
    assert outcome(OneStep, **GROWS) == {}


class FixedScale(Small):
    """Guided or not, whatever the scale."""

    def sample(self, request, sampling, *, probe=NO_PROBE):
        if sampling.guidance.on:
            guidance = sampling.guidance.model_copy(update={"scale": 2.0})
            sampling = sampling.model_copy(update={"guidance": guidance})
        return super().sample(request, sampling, probe=probe)


def test_an_ignored_guidance_scale_is_found(outcome: Any) -> None:
    assert outcome(FixedScale) == {"guidance": "another scale is accepted and changes nothing"}


class FilledUpBigram(Bigram):
    def forward(self, labels: Tensor, previous: Tensor) -> Tensor:
        missing = max(0, 16 - len(labels))
        filled = (nn.functional.pad(ids, (0, missing)) for ids in (labels, previous))
        return super().forward(*filled)[: len(labels)]


class FilledUp(Small):
    def __init__(self, card, tokenizer):
        super().__init__(card, tokenizer)
        self.network = fixed(FilledUpBigram)


class FilledUpAndDoubled(FilledUp, SecretlyDoubled):
    pass


def test_few_rows_that_are_filled_up_are_not_taken_for_work(outcome: Any) -> None:
    assert outcome(FilledUp) == {}
    failed = outcome(FilledUpAndDoubled)
    assert failed.keys() == {"guidance off"}
    assert "1.00 times the work" in failed["guidance off"]


class Keeps(Small):
    def close(self):
        pass


class ClosesOnce(Small):
    def close(self):
        del self.network


def test_a_close_that_keeps_or_cannot_be_repeated_is_found(outcome: Any) -> None:
    assert outcome(Keeps) == {"close": "`close` keeps the network (Bigram) in memory"}
    assert outcome(ClosesOnce)["close"].startswith("the second `close` raises AttributeError")


class Unloadable(Small):
    @classmethod
    def load(cls, card, spec, tokenizer):
        raise OSError("no such disk")


def test_a_failure_to_load_is_the_only_line(outcome: Any) -> None:
    assert outcome(Unloadable) == {"load": "OSError: no such disk"}


class Mute(Small):
    def sample(self, request, sampling, *, probe=NO_PROBE):
        raise RuntimeError("shapes differ")


def test_what_does_not_sample_fails_once(outcome: Any) -> None:
    failed = outcome(Mute)
    assert failed["sample"] == "RuntimeError: shapes differ"
    assert not failed.keys() & {"codes", "images", "batch", "close", "global state"}


# ---- editing ---------------------------------------------------------------------------------------------------------


class Leaves(Small):
    def sample(self, request, sampling, *, probe=NO_PROBE):
        raise SystemExit(5)


class LeavesAtLoad(Small):
    @classmethod
    def load(cls, card, spec, tokenizer):
        raise SystemExit("usage: mine")


class LeavesAtClose(Small):
    def close(self):
        if not hasattr(self, "network"):
            raise SystemExit(5)
        del self.network


def test_an_adapter_that_leaves_the_process_fails_its_checks_and_no_more(outcome: Any) -> None:
    assert outcome(Leaves)["sample"] == "SystemExit: 5"
    assert outcome(LeavesAtLoad) == {"load": "SystemExit: usage: mine"}
    assert "SystemExit" in outcome(LeavesAtClose)["close"]


class Editing(Small):
    """Draws in the mask, each token from the one before, drawn or given."""

    given: Any = None

    def edit(self, request, codes, mask, sampling, *, probe=NO_PROBE):
        self.given = codes.ids[0], mask.flatten()
        try:
            return self.sample(request, sampling, probe=probe)
        finally:
            self.given = None

    def draw(self, logits, sampling, request, index):
        drawn = super().draw(logits, sampling, request, index)
        if self.given is None:
            return drawn
        ids, mask = self.given
        return torch.where(mask[index], drawn, ids[:, index : index + 1])


class RepaintsAll(Editing):
    def edit(self, request, codes, mask, sampling, *, probe=NO_PROBE):
        return self.sample(request, sampling)


class RepaintsNothing(Editing):
    def edit(self, request, codes, mask, sampling, *, probe=NO_PROBE):
        return Generated(codes=codes)


class CountsRows(Editing):
    """The size of the batch goes into what is drawn."""

    def edit(self, request, codes, mask, sampling, *, probe=NO_PROBE):
        ids = super().edit(request, codes, mask, sampling).codes.ids[0]
        other = (ids + len(request.sample_ids)) % CODES
        return Generated(codes=Codes(ids=(torch.where(mask.flatten(), other, ids),)))


class OtherNoise(Editing):
    def draw(self, logits, sampling, request, index):
        stream = "tokens" if self.given is None else "edit"
        drawn = draw_tokens(logits, sampling, request.noise, stream, start=index)
        if self.given is None:
            return drawn
        return torch.where(self.given[1][index], drawn, self.given[0][:, index : index + 1])


class EditsOutOfRange(Editing):
    def edit(self, request, codes, mask, sampling, *, probe=NO_PROBE):
        ids = super().edit(request, codes, mask, sampling).codes.ids[0]
        return Generated(codes=Codes(ids=(torch.where(mask.flatten(), ids + CODES, ids),)))


class RefusesEdits(Editing):
    def edit(self, request, codes, mask, sampling, *, probe=NO_PROBE):
        raise Unsupported("not at this size")


OFFERS = {"offers": frozenset({"edits"})}


def test_an_edit_that_keeps_its_contract_passes(outcome: Any) -> None:
    assert outcome(Editing, **OFFERS) == {}
    assert outcome(Editing) == {}  # what is not offered is of no harm
    assert outcome(RefusesEdits) == {}


@pytest.mark.parametrize(
    ("generator", "why"),
    [
        (RepaintsAll, "outside the mask do not come back as given"),
        (RepaintsNothing, "none is drawn"),
        (CountsRows, "in a batch of 1 are not those in a batch of 4"),
        (OtherNoise, "does not draw what `sample` draws"),
        (EditsOutOfRange, "out of the range 0 to 15"),
        (RefusesEdits, "Unsupported: not at this size"),
    ],
)
def test_broken_edits_are_found(outcome: Any, generator: Any, why: str) -> None:
    failed = outcome(generator, **OFFERS)
    assert failed.keys() == {"edit"}
    assert why in failed["edit"]


def test_a_card_that_offers_what_its_class_lacks_is_found(outcome: Any) -> None:
    failed = outcome(Small, offers=frozenset({"edits", "scores"}))
    assert failed.keys() == {"edit", "scores"}
    assert failed["edit"] == "the card offers `edits`, and there is no `edit` of codes"


def test_cards_offer_only_what_their_class_has() -> None:
    methods = {"edits": "edit", "scores": "logits"}
    for card in registry.cards().values():
        implementation = registry.resolve(card.implementation)
        assert all(hasattr(implementation, methods[ability]) for ability in card.offers), card.name


# ---- tokenizers ------------------------------------------------------------------------------------------------------


class Relative(GreyTokenizer):
    def encode(self, images, *, noise=None):
        return super().encode((images - images.mean(0) + 0.5).clamp(0, 1))


class Leaky(GreyTokenizer):
    """Hides the images in its latents."""

    def encode(self, images, *, noise=None):
        return Codes(ids=super().encode(images).ids, latents=images)

    def decode(self, codes, *, probe=NO_PROBE):
        return super().decode(codes, probe=probe) if codes.latents is None else Leaky.shown(codes, probe)

    @staticmethod
    def shown(codes, probe):
        with probe("decode"):
            return codes.latents


class Bright(GreyTokenizer):
    def decode(self, codes, *, probe=NO_PROBE):
        return super().decode(codes, probe=probe) * 2 - 1


class Silent(GreyTokenizer):
    def decode(self, codes, *, probe=NO_PROBE):
        return super().decode(codes)


class LooseIds(GreyTokenizer):
    def encode(self, images, *, noise=None):
        return Codes(ids=super().encode(images).ids[0])


class BareIds(GreyTokenizer):
    def encode(self, images, *, noise=None):
        return super().encode(images).ids


class NumpyImages(GreyTokenizer):
    def decode(self, codes, *, probe=NO_PROBE):
        return super().decode(codes, probe=probe).numpy()


class Overflow(GreyTokenizer):
    def encode(self, images, *, noise=None):
        return Codes(ids=(super().encode(images).ids[0] + CODES,))


class WrongPrefix(GreyTokenizer):
    def decode_prefix(self, codes, count):
        return self.decode(codes) * 0.5


class KeepsImages(GreyTokenizer):
    def decode(self, codes, *, probe=NO_PROBE):
        self.shown = getattr(self, "shown", torch.zeros(4, 3, 16, 16))
        return self.shown[: len(codes.ids[0])].copy_(super().decode(codes, probe=probe))


class Talks(GreyTokenizer):
    def decode(self, codes, *, probe=NO_PROBE):
        print("as I decode")
        return super().decode(codes, probe=probe)


class KeepsPalette(GreyTokenizer):
    def close(self):
        pass


@pytest.mark.parametrize(
    ("tokenizer", "name", "why"),
    [
        (Relative, "batch", "codes of the same image differ"),
        (Leaky, "ids alone", "without latents"),
        (Bright, "decode", "out of \\[0, 1\\]"),
        (Silent, "probe", "does not enter the phase decode"),
        (Overflow, "encode", "out of the range 0 to 15"),
        (WrongPrefix, "prefix", "all 16 decode to other images"),
        (KeepsImages, "batch", "a later `decode` overwrites what an earlier one returned"),
        (KeepsPalette, "close", "keeps the network \\(Palette\\)"),
    ],
)
def test_broken_tokenizers_are_found(outcome: Any, tokenizer: Any, name: str, why: str) -> None:
    assert re.search(why, outcome(tokenizer=tokenizer)[name])


# ---- memory ----------------------------------------------------------------------------------------------------------


class KeepsEverySample(Small):
    def finished(self, ids):
        vars(self).setdefault("history", []).append(ids.clone())
        return ids


class KeepsEveryImage(GreyTokenizer):
    def encode(self, images, *, noise=None):
        vars(self).setdefault("history", []).append(images.clone())
        return super().encode(images)


def test_what_every_call_leaves_behind_is_found(outcome: Any) -> None:
    why = "leaves {:,} bytes of tensors behind: keep nothing of a call"
    assert outcome(KeepsEverySample) == {"memory": "every call " + why.format(4 * TOKENS * 8)}
    assert outcome(tokenizer=KeepsEveryImage) == {"memory": "every `encode` " + why.format(4 * 3 * 16 * 16 * 4)}


# ---- inputs ----------------------------------------------------------------------------------------------------------


class ZeroesLabels(Small):
    def sample(self, request, sampling, *, probe=NO_PROBE):
        generated = super().sample(request, sampling, probe=probe)
        request.labels.zero_()
        return generated


class ForgetsKnobs(Small):
    def honour(self, sampling):
        super().honour(sampling)
        sampling.extra["seen"] = True


class TakesTheNoise(Small):
    def sample(self, request, sampling, *, probe=NO_PROBE):
        generated = super().sample(request, sampling, probe=probe)
        request.noise.follow(noise_for(1, request.sample_ids))
        return generated


class TakesFromItsCard(Small):
    @classmethod
    def load(cls, card, spec, tokenizer):
        card.config.pop("width")
        return super().load(card, spec, tokenizer)


class ScalesImages(GreyTokenizer):
    def encode(self, images, *, noise=None):
        return super().encode(images.mul_(0.5))


class ShiftsCodes(GreyTokenizer):
    def decode(self, codes, *, probe=NO_PROBE):
        codes.ids[0].clamp_(max=CODES // 2)
        return super().decode(codes, probe=probe)


def test_what_is_written_into_an_argument_is_named(outcome: Any) -> None:
    why = "{}, which the caller uses again: work on a copy"
    assert outcome(ZeroesLabels) == {"inputs": why.format("`sample` changes `request.labels`")}
    assert outcome(ForgetsKnobs) == {"inputs": why.format("`prepare` changes `sampling.extra`")}
    assert outcome(TakesTheNoise) == {"inputs": why.format("`sample` changes `request.noise`")}
    assert outcome(TakesFromItsCard, config={"width": 8}) == {"inputs": why.format("`load` changes `card.config`")}
    assert outcome(tokenizer=ScalesImages) == {"inputs": why.format("`encode` changes `images`")}
    assert outcome(tokenizer=ShiftsCodes) == {"inputs": why.format("`decode` changes `codes.ids[0]`")}


# ---- global state ----------------------------------------------------------------------------------------------------

HERE = Path.cwd()
TOUCHES: dict[str, tuple[Callable[[], Any], Callable[[], Any]]] = {
    "torch's random state": (lambda: torch.rand(1), lambda: None),
    "numpy's random state": (lambda: np.random.rand(), lambda: None),
    "Python's random state": (random.random, lambda: None),
    "torch's default dtype": (
        lambda: torch.set_default_dtype(torch.float64),
        lambda: torch.set_default_dtype(torch.float32),
    ),
    "torch's grad mode": (lambda: torch.set_grad_enabled(False), lambda: torch.set_grad_enabled(True)),
    "torch's thread counts": (
        lambda: torch.set_num_threads(torch.get_num_threads() + 1),
        lambda: torch.set_num_threads(torch.get_num_threads() - 1),
    ),
    "torch's deterministic algorithms": (
        lambda: torch._C._set_deterministic_algorithms(True),
        lambda: torch._C._set_deterministic_algorithms(False),
    ),
    "torch's attention kernels": (
        lambda: torch.backends.cuda.enable_flash_sdp(False),
        lambda: torch.backends.cuda.enable_flash_sdp(True),
    ),
    "torch's autocast": (
        lambda: torch.set_autocast_enabled("cpu", True),
        lambda: torch.set_autocast_enabled("cpu", False),
    ),
    "the working directory": (lambda: os.chdir(os.pardir), lambda: os.chdir(HERE)),
}


@pytest.mark.parametrize("what", TOUCHES)
def test_every_touch_of_global_state_is_named(what: str) -> None:
    touch, undo = TOUCHES[what]
    watch = Watch()
    with watch("load"):
        pass
    assert watch.verdict()
    try:
        with watch("sample"):
            touch()
    finally:
        undo()
    with pytest.raises(Broken, match=f"^`sample` changes {what}$"):
        watch.verdict()


class DrawsAtLoad(Small):
    """As constructors do: numbers from the global generator, whose place those of the checkpoint take."""

    @classmethod
    def load(cls, card, spec, tokenizer):
        torch.randn(3)
        np.random.rand()
        return super().load(card, spec, tokenizer)


def test_a_constructor_may_draw_what_the_checkpoint_replaces(outcome: Any) -> None:
    assert outcome(DrawsAtLoad) == {}


class KeepsWhatItDrew(Small):
    @classmethod
    def load(cls, card, spec, tokenizer):
        made = super().load(card, spec, tokenizer)
        made.offsets = torch.nn.Embedding(2, 2)
        return made


def test_what_it_drew_may_not_stay(outcome: Any) -> None:
    failed = outcome(KeepsWhatItDrew)
    assert "weight differ when it is loaded again" in failed["same weights"]


def test_a_wrong_number_of_parameters_is_told_with_both() -> None:
    card = registry.card("raster/llamagen-mini").model_copy(update={"parameters": 5})
    verdicts = list(check(plan(card), ["parameters"]))
    assert [verdict.name for verdict in verdicts] == ["load", "parameters"]
    assert failures(verdicts) == {"parameters": "`parameters` of the card says 5, the loaded model has 870,912"}


def test_only_the_named_checks_run_and_what_they_need() -> None:
    card, told = registry.card("tokenizers/llamagen-mini"), []
    verdicts = list(check(plan(card), ["batch"], lambda *each: told.append(each)))
    assert [verdict.name for verdict in verdicts] == ["load", "encode", "decode", "batch"]
    assert told == [(1, 4, "load"), (2, 4, "encode"), (3, 4, "decode"), (4, 4, "batch")]


@pytest.mark.parametrize("name", ["raster/llamagen-mini", "tokenizers/llamagen-mini"])
def test_the_list_of_names_is_that_of_the_checks(name: str) -> None:
    card = registry.card(name)
    made = GeneratorChecks(None, card) if card.kind == "generator" else TokenizerChecks(None, card)  # type: ignore
    assert tuple(each for each, _ in made.checks()) == names.OWN[card.kind]


def test_the_command_tells_each_step_and_takes_only(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "tokenizers/llamagen-mini", "--only", "load"]) == 0
    printed = capsys.readouterr()
    assert printed.out.splitlines()[0].split() == ["tokenizers/llamagen-mini", "load", "ok", "with", "its", "weights"]
    assert len(printed.out.splitlines()) == 2
    assert printed.err.splitlines() == ["tokenizers/llamagen-mini: 1 of 1, load"]
    assert main(["check", "tokenizers/llamagen-mini", "--only", "loda"]) == 2
    assert "did you mean load?" in capsys.readouterr().err


def test_a_terminal_has_a_live_line(tmp_path: Any) -> None:
    text = on_terminal(["check", "tokenizers/llamagen-mini", "--only", "encode"], 80, tmp_path)
    assert "tokenizers/llamagen-mini: 3 of 3, decode" in text
    assert "4 of 4" not in text


# ---- the command -----------------------------------------------------------------------------------------------------


@pytest.fixture
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_the_command_prints_a_line_a_check(one_thread: None, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "tokenizers/llamagen-mini"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 18
    assert all(line.startswith("tokenizers/llamagen-mini") for line in lines[:-1])
    assert lines[3].split()[1:3] == ["protocol", "ok"]
    assert lines[-1] == "14 of 14 checks hold (adapters: 1)"
    assert main(["check", "tokenizers/llamagen-mini", "--random", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["ok"] is True
    assert {"adapter", "name", "outcome", "why"} == document["verdicts"][0].keys()
    assert document["verdicts"][0]["why"] == "random weights"


def test_an_adapter_in_this_folder_is_found_and_fails(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    module = ModuleType("broken_adapters")
    vars(module).update(generator=DeafTopK, tokenizer=GreyTokenizer)
    monkeypatch.setitem(sys.modules, "broken_adapters", module)
    source = f"from arbench.protocols import Card\nCARDS = (Card.model_validate_json({GREY.model_dump_json()!r}),)\n"
    source += "from arbench.protocols import System\nSYSTEM = System(name='grey', cards=CARDS)\n"
    (tmp_path / "my_cards_of_test_check.py").write_text(source, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    assert main(["check", "my_cards_of_test_check:CARDS", "--random"]) == 0
    assert chosen(["my_cards_of_test_check:SYSTEM"]) == [GREY]
    capsys.readouterr()
    vars(module).update(tokenizer=Talks)
    assert main(["check", "my_cards_of_test_check:CARDS", "--random", "--json"]) == 0
    printed = capsys.readouterr()
    assert json.loads(printed.out)["ok"] is True
    assert "as I decode" in printed.err
    vars(module).update(tokenizer=Silent)
    assert main(["check", "my_cards_of_test_check:CARDS", "--random"]) == 1
    assert "FAIL" in capsys.readouterr().out


def test_wrong_questions_are_clear_errors(capsys: pytest.CaptureFixture[str], tmp_path: Any) -> None:
    assert main(["check", "raster/lamagen-mini"]) == 2
    assert "did you mean raster/llamagen-mini" in capsys.readouterr().err
    assert main(["check", "raster/llamagen-mini", "--weights", "nothing"]) == 2
    assert "is not NAME=PATH" in capsys.readouterr().err
    assert main(["check", "raster/llamagen-mini", "--prompts", str(tmp_path / "none")]) == 2
    with pytest.raises(UnknownName, match="tokenizers/llamagen-mini"):
        chosen(["tokenizers/lamagen-mini"])
    with pytest.raises(ConfigError, match="is not a card"):
        chosen(["arbench.errors:OK"])


def test_sizes_and_missing_weights_are_refused_before_anything_is_loaded(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    monkeypatch.setenv("ARBENCH_WEIGHTS", str(tmp_path))
    with pytest.raises(UsageError, match="too large to check: 2010M parameters"):
        plan(registry.card("next_scale/var-d30"))
    with pytest.raises(MissingWeights, match="--random"):
        plan(registry.card("next_scale/var-d16"))
    huge = registry.card("next_scale/var-d16").model_copy(update={"parameters": 10**13})
    with pytest.raises(UsageError, match="does not fit"):
        plan(huge, random=True)
