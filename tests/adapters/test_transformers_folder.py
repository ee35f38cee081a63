"""Models of `transformers` that draw images, by the folder that `save_pretrained` writes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from arbench import registry
from arbench.check.adapter import check, plan
from arbench.errors import CheckpointError, InputError, UsageError
from arbench.protocols import Guidance, LoadSpec, Request, Sampling
from arbench.seeds import Greedy, noise_for

transformers = pytest.importorskip("transformers")
tokenizers = pytest.importorskip("tokenizers")

WORDS = ["<pad>", "<bos>", "<eos>", "<unk>", "<image>", "<begin>", "<end>", "a", "red", "blue", "digit", "seven"]
PROMPTS = ("a red digit", "seven", "a blue seven")
NATIVE = Sampling(guidance=Guidance(scale=3.0))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Janus with random weights, and its processor."""
    path = tmp_path_factory.mktemp("janus")
    table = tokenizers.Tokenizer(tokenizers.models.WordLevel({w: i for i, w in enumerate(WORDS)}, unk_token="<unk>"))
    table.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    special = {f"{kind}_token": f"<{kind}>" for kind in ("pad", "bos", "eos", "unk")}
    more = {"image_token": "<image>", "boi_token": "<begin>", "eoi_token": "<end>"}
    words = transformers.PreTrainedTokenizerFast(tokenizer_object=table, extra_special_tokens=more, **special)
    half = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    pictures = transformers.JanusImageProcessor(size={"height": 16, "width": 16}, min_size=4, **half)
    transformers.JanusProcessor(pictures, words, num_image_tokens=16).save_pretrained(path)
    small: dict[str, Any] = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    text = {**small, "vocab_size": len(WORDS), "intermediate_size": 64, "num_key_value_heads": 2}
    text |= {"max_position_embeddings": 64, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    vision = {**small, "image_size": 16, "patch_size": 4, "projection_dim": 32, "num_image_tokens": 16}
    codes = {"embed_dim": 8, "num_embeddings": 64, "base_channels": 32, "channel_multiplier": [1, 1, 2]}
    codes |= {"num_res_blocks": 1, "latent_channels": 32, "num_patches": 4, "image_token_embed_dim": 32}
    codes |= {"projection_dim": 32, "num_hidden_layers": 2}
    config = transformers.JanusConfig(text_config=text, vision_config=vision, vq_config=codes, image_token_id=4)
    torch.manual_seed(0)
    model = transformers.JanusForConditionalGeneration(config)
    model.generation_config = transformers.GenerationConfig(
        bos_token_id=1, eos_token_id=2, pad_token_id=0, generation_kwargs={"boi_token_id": 5}
    )
    model.save_pretrained(path)
    return path


def test_a_folder_keeps_the_contract(folder: Path) -> None:
    card = registry.card(f"transformers:{folder}")
    assert (card.resolution, card.condition, card.config["tokens"]) == (16, "text", 16)
    verdicts = list(check(plan(card, prompts=PROMPTS)))
    assert {verdict.name: verdict.why for verdict in verdicts if verdict.outcome == "FAIL"} == {}
    outcomes = {verdict.name: verdict.outcome for verdict in verdicts}
    assert outcomes["batch"] == outcomes["guidance off"] == outcomes["probe"] == "ok"


def test_the_likeliest_tokens_are_those_of_the_library(folder: Path) -> None:
    card = registry.card(f"transformers:{folder}")
    model = registry.resolve(card.implementation).load(card, LoadSpec(weights=folder), None)
    images = model.sample(Request((0,), Greedy(1), prompts=PROMPTS[:1]), NATIVE).images
    inputs = model.processor(text=PROMPTS[0], generation_mode="image", return_tensors="pt")
    theirs = model.network.generate(**inputs, generation_mode="image", do_sample=False, guidance_scale=3.0)
    pixels = model.network.decode_image_tokens(theirs).permute(0, 3, 1, 2)
    torch.testing.assert_close(images, ((pixels + 1) / 2).clamp(0, 1))
    drawn = model.sample(Request((0,), noise_for(0, (0,)), prompts=PROMPTS[:1]), NATIVE).images
    assert not torch.allclose(images, drawn)


EMU3_WORDS = ["<pad>", "<bos>", "<eos>", "<unk>", "<image>", "<begin>", "<end>", "<wrap>", "<eof>", "<|extra_200|>"]
EMU3_WORDS += ["4*4", "a", "red", "blue", "digit", "seven", *(f"<|visual token {i:06d}|>" for i in range(64))]


@pytest.fixture(scope="module")
def emu3(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Emu3 with random weights, and its processor."""
    path = tmp_path_factory.mktemp("emu3")
    ids = {word: index for index, word in enumerate(EMU3_WORDS)}
    table = tokenizers.Tokenizer(tokenizers.models.WordLevel(ids, unk_token="<unk>"))
    table.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    special = {f"{kind}_token": f"<{kind}>" for kind in ("pad", "bos", "eos", "unk")}
    more = {"image_token": "<image>", "boi_token": "<begin>", "eoi_token": "<end>"}
    more |= {"image_wrapper_token": "<wrap>", "eof_token": "<eof>"}
    words = transformers.PreTrainedTokenizerFast(tokenizer_object=table, extra_special_tokens=more, **special)
    half = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    transformers.Emu3Processor(transformers.Emu3ImageProcessor(**half), words).save_pretrained(path)
    text: dict[str, Any] = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    text |= {"vocab_size": len(EMU3_WORDS), "intermediate_size": 64, "num_key_value_heads": 2, "initializer_range": 0.3}
    text |= {"max_position_embeddings": 64, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    codes = {"codebook_size": 64, "base_channels": 32, "channel_multiplier": [1, 1], "num_res_blocks": 1}
    codes |= {"temporal_downsample_factor": 2, "attn_resolutions": [], "hidden_size": 32}
    config = transformers.Emu3Config(text_config=text, vq_config=codes, vocabulary_map=ids, image_area=32 * 32)
    torch.manual_seed(0)
    model = transformers.Emu3ForConditionalGeneration(config)
    model.generation_config = transformers.GenerationConfig(bos_token_id=1, eos_token_id=2, pad_token_id=0)
    model.save_pretrained(path)
    return path


def test_emu3_keeps_the_contract(emu3: Path) -> None:
    card = registry.card(f"transformers:{emu3}")
    assert (card.resolution, card.config["tokens"], card.native.top_k) == (8, 16, 2048)
    verdicts = list(check(plan(card, prompts=PROMPTS)))
    assert {verdict.name: verdict.why for verdict in verdicts if verdict.outcome == "FAIL"} == {}
    outcomes = {verdict.name: verdict.outcome for verdict in verdicts}
    assert outcomes["batch"] == outcomes["guidance off"] == outcomes["probe"] == "ok"


def test_emu3_draws_the_likeliest_tokens_that_may_stand_there(emu3: Path) -> None:
    card = registry.card(f"transformers:{emu3}")
    model = registry.resolve(card.implementation).load(card, LoadSpec(weights=emu3), None)
    ids, visual = {word: index for index, word in enumerate(EMU3_WORDS)}, model.network.vocabulary_mapping.image_tokens
    asked = {"return_for_image_generation": True, "image_area": 32 * 32, "return_tensors": "pt"}
    given, empty = (model.processor(text=[text], **asked)["input_ids"] for text in (PROMPTS[0], ""))
    assert [EMU3_WORDS[each] for each in given[0]] == ["<bos>", "a", "red", "digit", "<begin>", "4*4", "<wrap>"]

    def allowed(_: int, sofar: torch.Tensor) -> list[int]:
        offset = len(sofar) - given.shape[1]  # tokens of the image that are there
        ends = [ids["<eof>"], ids["<end>"], ids["<eos>"]]
        return (
            ends[offset - 20 : offset - 19] if offset >= 20 else [ids["<|extra_200|>"]] if offset % 5 == 4 else visual
        )

    theirs = model.network.generate(
        given, max_new_tokens=23, do_sample=False, guidance_scale=3.0, negative_prompt_ids=empty,
        prefix_allowed_tokens_fn=allowed,
    )  # fmt: skip
    pixels = model.network.decode_image_tokens(image_tokens=theirs[:, given.shape[1] :], height=4, width=4)
    images = model.sample(Request((0,), Greedy(1), prompts=PROMPTS[:1]), NATIVE).images
    torch.testing.assert_close(images, ((pixels + 1) / 2).clamp(0, 1))
    drawn = model.sample(Request((0,), noise_for(0, (0,)), prompts=PROMPTS[:1]), NATIVE).images
    assert not torch.allclose(images, drawn)


@pytest.mark.parametrize(
    ("kind", "why"),
    [
        ("ChameleonForConditionalGeneration", "forbids it every image token"),
        ("GlmImageForConditionalGeneration", "diffusers"),
        ("BertModel", "Emu3ForConditionalGeneration"),
    ],
)
def test_a_class_that_draws_no_images_is_refused(tmp_path: Path, kind: str, why: str) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"architectures": [kind]}))
    with pytest.raises(UsageError, match=why):
        registry.card(f"transformers:{tmp_path}")


def test_what_is_no_such_folder_is_said(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not a folder of transformers"):
        registry.card(f"transformers:{tmp_path}")
    other = shutil.copytree(folder, tmp_path / "other")
    config = json.loads((other / "config.json").read_text())
    config["text_config"]["num_hidden_layers"] = 2
    (other / "config.json").write_text(json.dumps(config))
    card = registry.card(f"transformers:{other}")
    with pytest.raises(CheckpointError, match="missing"):
        registry.resolve(card.implementation).load(card, LoadSpec(weights=other), None)
