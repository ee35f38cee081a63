"""Captions: prompts through the text encoder that a model was trained with, a safetensors file of features for each."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .data.prompts import CAPTION, said
from .errors import InputError, PrerequisiteError, StoreError, UsageError
from .files import write_atomic
from .protocols import Card, TextEncoder

if TYPE_CHECKING:
    from torch import Tensor

PROMPTS = "prompts.txt"
"""The list of the files, one path per line: what text-to-image models take as prompts."""


def text_encoder_of(card: Card) -> tuple[TextEncoder, tuple[int, int]]:
    """What encodes captions for `card`, and the tokens and numbers a token of its features. Raises UsageError."""
    if card.text_encoder is None or card.captions is None:
        why = "its card names no text encoder" if card.condition == "text" else f"its condition is {card.condition}"
        raise UsageError(
            f"{card.name} has no captions to encode", why, "choose a text-to-image model: arbench ls adapters"
        )
    return card.text_encoder, card.captions


# ---- the encoder -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Features:
    """A caption: `features` (T, D) as the encoder left them, padding too, and `mask` (T,), 1 where there is text."""

    features: Tensor
    mask: Tensor
    cut: bool
    """Whether the prompt was longer than T tokens."""


class CaptionEncoder:
    """A text encoder of `transformers`, from a folder or the local cache; nothing is downloaded.

    Prompts are padded to the card's length and encoded one at a time, so that one does not depend on the others.
    `instruction` is put before each prompt; features of its own tokens are left out (HART).
    """

    def __init__(
        self, card: Card, path: str, *, device: str = "cpu", dtype: str = "float32", instruction: str = ""
    ) -> None:
        self._about, (self._tokens, width) = text_encoder_of(card)
        if instruction and not self._about.instruction:
            raise UsageError(
                f"{card.name} takes no instruction", f"{self._about.name} reads the prompt alone", "leave it out"
            )
        self._tokenizer, self._network = _load(path, self._about, dtype)
        self._network.to(device)
        found = self._network.config.get_text_config().hidden_size
        if found != width:
            raise InputError(
                f"{path} is not the text encoder of {card.name}",
                f"it gives {found} numbers a token, the model takes {width}",
                f"use {self._about.name}",
            )
        self.fingerprint = _fingerprint(self._network)
        self._device = device
        self._before = self._tokenizer(instruction, return_tensors="pt").input_ids if instruction else None

    def __call__(self, prompt: str) -> Features:
        import torch

        text = prompt.strip().lower() if self._about.lower else prompt
        whole = len(self._tokenizer(text).input_ids)
        read = self._tokenizer(
            text, padding="max_length", max_length=self._tokens, truncation=True, return_tensors="pt"
        )
        ids, mask, before = read.input_ids, read.attention_mask, 0
        if self._before is not None:
            before = self._before.shape[1]
            ids, mask = torch.cat((self._before, ids), dim=1), torch.nn.functional.pad(mask, (before, 0), value=1)
        with torch.inference_mode():
            states = self._network(input_ids=ids.to(self._device), attention_mask=mask.to(self._device))
        features = states.last_hidden_state[0, before:].cpu()
        return Features(features, mask[0, before:], cut=whole > self._tokens)


def _fingerprint(network: Any) -> str:
    """Digest of the first numbers of every weight: another encoder of the same name has another one."""
    digest = hashlib.blake2b(digest_size=16)
    for name, weight in network.state_dict().items():
        digest.update(f"{name}:{tuple(weight.shape)}:{weight.flatten()[:16].tolist()};".encode())
    return digest.hexdigest()


def _load(path: str, about: TextEncoder, dtype: str) -> tuple[Any, Any]:
    """The tokenizer and the network of a folder, safetensors only."""
    try:
        from transformers import AutoConfig, AutoModel, AutoModelForTextEncoding, AutoTokenizer
    except ImportError:
        raise PrerequisiteError(
            "encoding captions needs transformers", "it is not installed", "pip install 'arbench[text]'"
        ) from None
    import torch

    try:
        config = AutoConfig.from_pretrained(path, local_files_only=True)
        kind = AutoModelForTextEncoding if config.model_type.endswith("t5") else AutoModel  # T5's encoder alone
        tokenizer = AutoTokenizer.from_pretrained(path, local_files_only=True)
        network, found = kind.from_pretrained(
            path, local_files_only=True, use_safetensors=True, dtype=getattr(torch, dtype), output_loading_info=True
        )
    except (OSError, ValueError, ImportError, KeyError) as error:
        raise InputError(
            f"cannot load the text encoder {path!r}",
            str(error).strip().splitlines()[0],
            f"download it once: hf download {about.name}",
        ) from None
    missing = sorted(found["missing_keys"])
    if missing:  # transformers would draw them
        raise InputError(
            f"{path} does not hold the whole text encoder",
            f"{len(missing)} weights are missing, first {missing[0]}",
            f"use {about.name}",
        )
    if tokenizer.pad_token is None:
        raise InputError(f"the tokenizer of {path!r} has no padding token", "captions are padded", f"use {about.name}")
    return tokenizer, network.eval()


# ---- the files -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Written:
    """The list of the caption files, how many were there already, and the numbers of the prompts that were cut."""

    prompts: Path
    kept: int
    cut: tuple[int, ...]


def write(
    prompts: Sequence[str],
    folder: Path,
    encode: Callable[[str], Features],
    settings: Mapping[str, str],
    progress: Callable[[int], None] = lambda done: None,
) -> Written:
    """A file for each prompt in `folder`, and the list of them.

    A file that says the same prompt and `settings` is kept, so that an interrupted call resumes where it was.
    """
    files = [folder / f"{index:06d}{CAPTION}" for index in range(len(prompts))]
    kept, cut = 0, []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for index, (prompt, file) in enumerate(zip(prompts, files, strict=True)):
            wanted = {**settings, "prompt": prompt}
            there = said(file)
            if {**there, "cut": ""} == {**wanted, "cut": ""}:
                kept += 1
            else:
                caption = encode(prompt)
                there = {**wanted, "cut": "yes" if caption.cut else "no"}
                _save(file, caption, there)
            if there.get("cut") == "yes":
                cut.append(index)
            progress(index + 1)
        listed = folder / PROMPTS
        listed.write_text("".join(f"{file.resolve()}\n" for file in files), encoding="utf-8")
    except OSError as error:
        raise StoreError(
            f"cannot write captions to {folder}", str(error), "give another folder with --output"
        ) from error
    return Written(listed, kept, tuple(cut))


def _save(file: Path, caption: Features, about: Mapping[str, str]) -> None:
    from safetensors.torch import save

    tensors = {"features": caption.features.contiguous(), "mask": caption.mask.contiguous()}
    write_atomic(file, save(tensors, metadata=dict(about)), "name another folder with --output")
