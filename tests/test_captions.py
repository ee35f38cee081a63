"""Captions: features of small text encoders of `transformers`, written by the command and read by an adapter."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from torch import Tensor
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2Model, Qwen2Tokenizer, T5Config, T5EncoderModel

from arbench import captions, registry
from arbench.adapters.layers.captions import read_captions
from arbench.captions import CaptionEncoder, write
from arbench.cli.captions import captions as command
from arbench.errors import InputError, StoreError, UnknownName, UsageError

WORDS = ["<pad>", "</s>", "<unk>", "a", "photo", "of", "cat", "dog"]
LETTERS = "ABab"
LLAMAGEN, HART = registry.card("raster/llamagen-t2i-xl-256"), registry.card("hybrid/hart-0.7b")


def save_words(folder: Path) -> None:
    """A tokenizer of words with a mark at the end, as T5's has."""
    words = Tokenizer(models.WordLevel({word: index for index, word in enumerate(WORDS)}, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    PreTrainedTokenizerFast(
        tokenizer_object=words, pad_token="<pad>", eos_token="</s>", unk_token="<unk>", padding_side="right"
    ).save_pretrained(folder)


@pytest.fixture(scope="module")
def t5(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An encoder with the width of flan-t5-xl and little else."""
    folder = tmp_path_factory.mktemp("t5")
    torch.manual_seed(0)
    config = T5Config(vocab_size=len(WORDS), d_model=2048, d_kv=8, d_ff=16, num_layers=2, num_heads=2)
    T5EncoderModel(config).save_pretrained(folder)
    save_words(folder)
    return folder


@pytest.fixture(scope="module")
def qwen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A decoder with the width of Qwen2-VL-1.5B and little else."""
    folder = tmp_path_factory.mktemp("qwen")
    torch.manual_seed(1)
    sizes = {"hidden_size": 1536, "intermediate_size": 16, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 8}
    Qwen2Model(Qwen2Config(vocab_size=1 + len(LETTERS), **sizes, **heads)).save_pretrained(folder)
    pad = "<|endoftext|>"
    letters = {letter: index for index, letter in enumerate([pad, *LETTERS])}
    Qwen2Tokenizer(vocab=letters, merges=[], pad_token=pad, padding_side="right").save_pretrained(folder)
    return folder


def ids(*words: str) -> Tensor:
    return torch.tensor([[WORDS.index(word) for word in words]])


def run(
    adapter: str,
    prompts: Path,
    encoder: Path | str,
    output: Path,
    *,
    dtype: str = "float32",
    instruction: Path | None = None,
) -> int:
    return command(adapter, prompts, str(encoder), output, device="cpu", dtype=dtype, instruction=instruction)


def written(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_features_of_t5_are_those_of_the_prompt_alone_in_lower_case(t5: Path, tmp_path: Path) -> None:
    prompts = written(tmp_path / "prompts", "A photo of a CAT \na dog\n\n")
    assert run(LLAMAGEN.name, prompts, t5, tmp_path / "out") == 0
    paths = (tmp_path / "out" / captions.PROMPTS).read_text().splitlines()
    features, mask = read_captions(paths, 120, 2048)
    network = T5EncoderModel.from_pretrained(t5).eval()
    for row, words in enumerate((("a", "photo", "of", "a", "cat", "</s>"), ("a", "dog", "</s>"))):
        assert mask[row].tolist() == [1] * len(words) + [0] * (120 - len(words))
        with torch.no_grad():
            expected = network(ids(*words)).last_hidden_state[0]  # without padding
        torch.testing.assert_close(features[row, : len(words)], expected, atol=1e-5, rtol=1e-5)


def test_an_instruction_is_read_before_the_prompt_and_leaves_no_features(
    qwen: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prompts, instruction = written(tmp_path / "prompts", "aB\n"), written(tmp_path / "instruction", "bA")
    assert run(HART.name, prompts, qwen, tmp_path / "with", instruction=instruction) == 0
    assert "note" not in capsys.readouterr().err
    assert run(HART.name, prompts, qwen, tmp_path / "without") == 0
    assert "llm_system_prompt" in capsys.readouterr().err  # the official features have one
    network = Qwen2Model.from_pretrained(qwen).eval()
    for folder, before in (("with", "bA"), ("without", "")):
        features, mask = read_captions([str(tmp_path / folder / "000000.safetensors")], 300, 1536)
        assert mask.sum() == 2
        with torch.no_grad():
            letters = torch.tensor([[1 + LETTERS.index(letter) for letter in before + "aB"]])  # the case is kept
            expected = network(letters).last_hidden_state[0, len(before) :]
        torch.testing.assert_close(features[0, :2], expected, atol=1e-5, rtol=1e-5)


def test_a_broken_off_call_goes_on_and_other_settings_start_again(
    t5: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prompts, out = written(tmp_path / "prompts", "a cat\na dog\na photo\n"), tmp_path / "out"
    encode, seen = CaptionEncoder(LLAMAGEN, str(t5)), []

    def stops_at_the_last(prompt: str) -> captions.Features:
        seen.append(prompt)
        if len(seen) == 3:
            raise KeyboardInterrupt
        return encode(prompt)

    said = {"model": LLAMAGEN.name, "encoder": encode.fingerprint, "dtype": "float32", "instruction": ""}
    with pytest.raises(KeyboardInterrupt):
        write(["a cat", "a dog", "a photo"], out, stops_at_the_last, said)
    assert not list(out.glob("*.partial"))
    assert run(LLAMAGEN.name, prompts, t5, out) == 0
    assert "captions: 3 in" in (shown := capsys.readouterr().out)
    assert "2 of them from before" in shown
    (out / "000001.safetensors").write_bytes(b"broken")
    assert run(LLAMAGEN.name, prompts, t5, out) == 0
    assert "2 of them from before" in capsys.readouterr().out
    assert run(LLAMAGEN.name, prompts, t5, out, dtype="bfloat16") == 0
    assert "from before" not in capsys.readouterr().out
    with safe_open(out / "000000.safetensors", framework="pt") as stored:
        assert stored.get_tensor("features").dtype == torch.bfloat16
        assert stored.metadata()["prompt"] == "a cat"


def test_other_weights_in_the_same_folder_are_another_encoder(
    t5: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prompts, out = written(tmp_path / "prompts", "a cat\n"), tmp_path / "out"
    shutil.copytree(t5, folder := tmp_path / "encoder")
    assert run(LLAMAGEN.name, prompts, folder, out) == 0
    first, _ = read_captions([str(out / "000000.safetensors")], 120, 2048)
    state = {name: weight + 0.1 for name, weight in load_file(folder / "model.safetensors").items()}
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    assert run(LLAMAGEN.name, prompts, folder, out) == 0
    assert "from before" not in capsys.readouterr().out
    second, _ = read_captions([str(out / "000000.safetensors")], 120, 2048)
    assert not torch.allclose(first, second)


def test_prompts_that_are_too_long_are_cut_and_named(
    t5: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prompts = written(tmp_path / "prompts", "a cat\n" + "dog " * 119 + "\n" + "dog " * 120 + "\n")
    for _ in range(2):  # kept files say it too
        assert run(LLAMAGEN.name, prompts, t5, tmp_path / "out") == 0
        assert "cut:      1 are longer than raster/llamagen-t2i-xl-256 reads: prompts 3\n" in capsys.readouterr().out
    _, mask = read_captions([str(tmp_path / "out" / "000002.safetensors")], 120, 2048)
    assert mask.sum() == 120


def test_wrong_input_is_a_clear_error(t5: Path, qwen: Path, tmp_path: Path) -> None:
    prompts, out = written(tmp_path / "prompts", "a cat\n"), tmp_path / "out"
    with pytest.raises(UsageError, match="has no captions to encode"):
        run("raster/llamagen-mini", prompts, t5, out)
    with pytest.raises(UnknownName, match="did you mean"):
        run("raster/llamagen-t2i-xl-265", prompts, t5, out)
    with pytest.raises(UnknownName, match="number format"):
        run(LLAMAGEN.name, prompts, t5, out, dtype="int8")
    with pytest.raises(InputError, match="gives 1536 numbers a token, the model takes 2048"):
        run(LLAMAGEN.name, prompts, qwen, out)
    with pytest.raises(InputError, match="hf download google/flan-t5-xl"):
        run(LLAMAGEN.name, prompts, tmp_path / "nowhere", out)
    with pytest.raises(UsageError, match="takes no instruction"):
        run(LLAMAGEN.name, prompts, t5, out, instruction=prompts)
    with pytest.raises(InputError, match="cannot read the prompts"):
        run(LLAMAGEN.name, tmp_path / "none", t5, out)
    with pytest.raises(InputError, match="has no prompts"):
        run(LLAMAGEN.name, written(tmp_path / "empty", "\n \n"), t5, out)
    with pytest.raises(InputError, match="is a file"):
        run(LLAMAGEN.name, prompts, t5, prompts)
    with pytest.raises(StoreError, match="cannot write captions"):
        run(LLAMAGEN.name, prompts, t5, prompts / "below")


def test_an_encoder_without_some_of_its_weights_is_refused(t5: Path, tmp_path: Path) -> None:
    shutil.copytree(t5, folder := tmp_path / "part")
    state = load_file(folder / "model.safetensors")
    del state["encoder.block.1.layer.0.SelfAttention.o.weight"]
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(InputError, match="1 weights are missing"):
        CaptionEncoder(LLAMAGEN, str(folder))


def test_pickled_weights_are_not_read(t5: Path, tmp_path: Path) -> None:
    folder = tmp_path / "pickled"
    folder.mkdir()
    for file in t5.iterdir():
        if file.suffix != ".safetensors":
            (folder / file.name).write_bytes(file.read_bytes())
    torch.save(T5EncoderModel.from_pretrained(t5).state_dict(), folder / "pytorch_model.bin")
    with pytest.raises(InputError, match="cannot load the text encoder"):
        CaptionEncoder(LLAMAGEN, str(folder))
