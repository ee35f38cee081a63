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


def test_what_is_no_such_folder_is_said(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not a folder of transformers"):
        registry.card(f"transformers:{tmp_path}")
    other = shutil.copytree(folder, tmp_path / "other")
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps({**config, "architectures": ["BertModel"]}))
    with pytest.raises(UsageError, match="BertModel"):
        registry.card(f"transformers:{other}")
    config["text_config"]["num_hidden_layers"] = 2
    (other / "config.json").write_text(json.dumps(config))
    card = registry.card(f"transformers:{other}")
    with pytest.raises(CheckpointError, match="missing"):
        registry.resolve(card.implementation).load(card, LoadSpec(weights=other), None)
