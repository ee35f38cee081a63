"""Tokenizers and masked, residual and 1D generators: recordings, the contract at a tiny size."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from arbench import registry
from arbench.check.adapter import check, plan
from arbench.errors import CheckpointError
from arbench.parity import load_golden, replay_golden
from arbench.protocols import Card, Guidance, LoadSpec, Recorded, Sampling, TokenSpec
from arbench.tasks.outputs import measured_request
from tests.adapters.test_graph import TapeRecorder

GOLDENS = Path(__file__).parents[1] / "goldens"


def sequence(count: int, vocabulary: int | None = None, *, channels: int | None = None) -> TokenSpec:
    kind = "discrete" if channels is None else "continuous"
    return TokenSpec(kind=kind, layout="sequence", levels=((count,),), vocabulary=vocabulary, channels=channels)


RESIDUAL = TokenSpec(kind="discrete", layout="grid", levels=((4, 4),), vocabulary=48, codebooks=4)
TINY: dict[str, tuple[str, int, dict[str, Any]]] = {
    "taming-tokenizer": ("tokenizers/taming-f16-1024", 16, {"tokens": TokenSpec.grid(4, 64)}),
    "taming-tokenizer-gumbel": ("tokenizers/taming-gumbel-f8", 16, {"tokens": TokenSpec.grid(4, 64)}),
    "titok-tokenizer": ("tokenizers/titok-l32", 16, {"tokens": sequence(8, 64)}),
    "titok-tokenizer-vae": ("tokenizers/titok-ll32-vae-c16", 32, {"tokens": sequence(8, channels=8)}),
    "titok-tokenizer-vq-pixels": ("tokenizers/titok-bl64-vq8k", 32, {"tokens": sequence(8, 64)}),
    "tatitok-tokenizer": ("tokenizers/ta-titok-bl32-vq", 32, {"tokens": sequence(8, 80)}),
    "tatitok-tokenizer-vae": ("tokenizers/ta-titok-bl32-vae", 24, {"tokens": sequence(9, channels=5)}),
    "rq-tokenizer": ("tokenizers/rq-vae-imagenet", 16, {"tokens": RESIDUAL}),
    "ibq-tokenizer": ("tokenizers/ibq-1024", 16, {"tokens": TokenSpec.grid(4, 64)}),
    "open-magvit2-tokenizer": ("tokenizers/open-magvit2-256", 16, {"tokens": TokenSpec.grid(4, 256)}),
    "dar-tokenizer": ("tokenizers/dar-v1", 32, {"tokens": sequence(16, 64)}),
    "detailflow-tokenizer": ("tokenizers/detailflow-16", 32, {"tokens": sequence(16, 128)}),
    "gigatok-tokenizer": ("tokenizers/gigatok-s-s", 32, {"tokens": sequence(64, 64)}),
    "gigatok-tokenizer-2d": ("tokenizers/gigatok-s-s", 32, {"tokens": TokenSpec.grid(8, 64)}),
    "imagefolder-tokenizer": (
        "tokenizers/imagefolder-msvr10p2-4096",
        64,
        {"tokens": TokenSpec.pyramid((1, 1, 2, 3, 4), 64).model_copy(update={"codebooks": 2})},
    ),
    "maskbit-tokenizer": ("tokenizers/maskbit-14bit", 16, {"tokens": TokenSpec.grid(4, 256)}),
    "maskbit-tokenizer-lookup": ("tokenizers/maskbit-vqgan-plus-12bit", 16, {"tokens": TokenSpec.grid(4, 64)}),
    "one-d-piece-tokenizer": ("tokenizers/one-d-piece-s-256", 16, {"tokens": sequence(16, 96)}),
}
"""Golden -> an official card, and what of it changes with the golden's configuration: the image's side, and more."""

TITOK = ("titok-tokenizer", {"num_latent_tokens": 8, "codebook_size": 512}, {"tokens": sequence(8, 512)})
COOL = Sampling(extra={"randomize_temperature": 0.2, "softmax_temperature_annealing": False})
MASKED = {
    "tokens": sequence(8, 512),
    "classes": 10,
    "native": COOL,
    "config": {"image_seq_len": 8, "codebook_size": 512, "num_hidden_layers": 4, "num_attention_heads": 2},
}
BITS = {
    "tokens": TokenSpec.grid(2, 256),
    "classes": 10,
    "native": Sampling(
        extra={
            "randomize_temperature": 0.2,
            "mask_schedule_strategy": "arccos",
            "use_sampling_annealing": False,
        }
    ),
    "config": {"img_size": 8, "depth": 4, "heads": 2},
}
MASKBIT = ("maskbit-tokenizer", {}, {"tokens": TokenSpec.grid(2, 256), "resolution": 8})
GENERATORS: dict[str, tuple[str, int, dict[str, Any], tuple[str, dict[str, Any], dict[str, Any]]]] = {
    "titok": ("random_order/titok-l32", 16, MASKED, TITOK),
    "titok-uvit": ("random_order/titok-s128", 16, MASKED, TITOK),
    "rq": ("raster/rq-transformer-480m", 16, {"tokens": RESIDUAL, "classes": 10}, ("rq-tokenizer", {}, {})),
    "dar": ("raster/dar-l", 32, {"tokens": sequence(16, 64), "classes": 10}, ("dar-tokenizer", {}, {})),
    "maskbit": ("random_order/maskbit-14bit", 8, BITS, MASKBIT),
    "detailflow": (
        "random_order/detailflow-16",
        32,
        {"tokens": sequence(16, 96), "classes": 10},
        ("detailflow-tokenizer", {"codebook_size": 96}, {"tokens": sequence(16, 96)}),
    ),
    "halton-maskgit": (
        "random_order/halton-maskgit-tiny-256",
        16,
        {"tokens": TokenSpec.grid(4, 64), "classes": 10, "limits": {"steps": (1, 16)}, "native": Sampling(steps=4)},
        ("taming-tokenizer", {}, {}),
    ),
}
"""The same of generators; then the golden of a tokenizer, what changes of its configuration, and of its card."""


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def config_of(golden: str) -> dict[str, Any]:
    config: dict[str, Any] = json.loads((GOLDENS / golden / "golden.json").read_text())["config"]
    return config


def tiny(golden: str) -> Card:
    name, side, more = TINY[golden]
    update = {"config": config_of(golden), "resolution": side, "checkpoint": None, "parameters": None}
    return registry.card(name).model_copy(update=update | more)


def tiny_generator(golden: str) -> tuple[Card, Card]:
    """The generator and its tokenizer; which network a generator has is not in its class, as in recordings."""
    name, side, more, (tokenizer, changes, card) = GENERATORS[golden]
    official = registry.card(name)
    kept = {"model_type": official.config["model_type"]} if "model_type" in official.config else {}
    config = config_of(golden) | kept | more.get("config", {})
    update = {"resolution": side, "checkpoint": None, "parameters": None}
    small = tiny(tokenizer)
    return (
        official.model_copy(update=update | more | {"config": config}),
        small.model_copy(update={"config": small.config | changes, **card}),
    )


@pytest.mark.parametrize("name", [*TINY, *GENERATORS, "flextok-parts"])
def test_recordings_of_the_official_code(name: str) -> None:
    golden = load_golden(GOLDENS / name)
    verdicts = list(replay_golden(golden))
    assert len(verdicts) == sum(len(probe.outputs) for probe in golden.probes)
    assert [verdict for verdict in verdicts if not verdict.ok] == []


@pytest.mark.parametrize("name", [*TINY, *GENERATORS])
def test_a_state_dict_is_loaded_whole_or_not_at_all(name: str) -> None:
    golden = load_golden(GOLDENS / name)
    golden.state.pop(next(iter(golden.state)))
    golden.state["strange"] = torch.zeros(1)
    with pytest.raises(CheckpointError, match=r"1 missing(.|\n)*1 unexpected: strange"):
        list(replay_golden(golden))


@pytest.mark.parametrize("name", ["ibq-tokenizer", "open-magvit2-tokenizer"])
def test_of_a_lightning_file_the_averaged_weights_are_loaded(name: str, tmp_path: Path) -> None:
    golden, card, path = load_golden(GOLDENS / name), tiny(name), tmp_path / "file.ckpt"
    averages = {f"model_ema.{key.replace('.', '')}": tensor for key, tensor in golden.state.items()}
    trained = {key: torch.zeros_like(tensor) for key, tensor in golden.state.items()}
    counts = {"model_ema.decay": torch.ones(()), "loss.discriminator.weight": torch.ones(2)}
    torch.save({"state_dict": trained | averages | counts}, path)
    card = card.model_copy(update={"checkpoint": registry.card(TINY[name][0]).checkpoint})
    loaded = registry.resolve(card.implementation).load(card, LoadSpec(weights=path))
    images = golden.tensors[golden.probes[0].inputs["images"]]
    assert torch.equal(loaded.network.encode(images), golden.tensors[golden.probes[0].outputs["ids"]])


@pytest.mark.parametrize("name", GENERATORS)
def test_the_contract_of_generators_at_a_tiny_size(name: str) -> None:
    card, tokenizer = tiny_generator(name)
    verdicts = list(check(plan(card, tokenizer=tokenizer, random=True)))
    assert {verdict.name: verdict.why for verdict in verdicts if verdict.outcome == "FAIL"} == {}


@pytest.mark.parametrize("name", GENERATORS)
def test_recorded_calls_draw_the_same_samples(name: str) -> None:
    """One recording, replayed for other seeds and classes without any of our Python, and so without a read back."""
    card, tokenizer = tiny_generator(name)
    spec, native = LoadSpec(init="random"), card.native
    if native.steps is not None:
        native = native.model_copy(update={"steps": 4})
    made = registry.resolve(tokenizer.implementation).load(tokenizer, spec)
    model = registry.resolve(card.implementation).load(card, spec, made)
    plain, model.calls = model.calls, TapeRecorder()
    model.prepare(2, native)
    assert model.recorded(2, native) == Recorded(True)
    for seed, first in ((0, 0), (5, 30)):
        request = measured_request(card, range(first, first + 2), seed, "cpu")
        replayed = model.sample(request, native)
        recorder, model.calls = model.calls, plain
        drawn = model.sample(request, native)
        model.calls = recorder
        assert torch.equal(replayed.codes.ids[0], drawn.codes.ids[0])
        assert (replayed.outer_steps, replayed.forwards) == (drawn.outer_steps, drawn.forwards)


@pytest.mark.parametrize("name", TINY)
def test_the_contract_at_a_tiny_size(name: str) -> None:
    verdicts = list(check(plan(tiny(name), random=True)))
    assert {verdict.name: verdict.why for verdict in verdicts if verdict.outcome == "FAIL"} == {}


@pytest.mark.parametrize("name", ["titok", "maskbit", "halton-maskgit"])
def test_a_step_whose_guidance_weight_is_one_reads_the_conditional_half_only(name: str) -> None:
    card, tokenizer = tiny_generator(name)
    made = registry.resolve(tokenizer.implementation).load(tokenizer, LoadSpec(init="random"))
    model, rows = registry.resolve(card.implementation).load(card, LoadSpec(init="random"), made), []
    model.network.register_forward_pre_hook(lambda network, arguments: rows.append(len(arguments[0])))
    for guidance, expected in (
        (Guidance(scale=3.0, start=1.0, schedule="linear"), [3, 6, 6, 6]),
        (Guidance(scale=3.0, start=1.0, schedule="linear", until=0.5), [3, 6, 3, 3]),
        (Guidance(scale=1.0, start=3.0, schedule="cosine_power", until=0.5), [6, 6, 3, 3]),
    ):
        rows.clear()
        sampling = card.native.model_copy(update={"steps": 4, "guidance": guidance})
        generated = model.sample(measured_request(card, range(3), 0, "cpu"), sampling)
        shared = expected[0] == 6 and name != "halton-maskgit"  # one row without a class stands for all at first
        assert rows == ([4, *expected[1:]] if shared else expected)
        assert generated.forwards == sum(expected) / 3
