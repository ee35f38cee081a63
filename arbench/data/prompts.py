"""Files of prompts: their lines, the texts of these, and whether what they name is what a text-to-image model reads."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Sequence
from pathlib import Path

from ..errors import InputError
from ..files import state_of
from ..spec.card import Card

CAPTION = ".safetensors"
"""Suffix of a caption file: a prompt as the features of a text encoder, written by `arbench captions`."""

Shape = tuple[int, ...]


def read_prompts(path: Path | None) -> tuple[str, ...]:
    """The lines of a text file, empty ones at its end left out.

    A byte order mark is not part of the first, and only a line feed or carriage return ends one: prompts from the web
    hold the other characters at which `str.splitlines` would split.
    """
    if path is None:
        return ()
    try:
        text = path.read_text(encoding="utf-8-sig").rstrip()  # \r\n and \r have become \n
        return tuple(text.split("\n")) if text else ()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"cannot read the prompts in {path}", str(error), "give a UTF-8 text, one prompt per line"
        ) from error


def texts(prompts: Sequence[str]) -> tuple[str, ...]:
    """The prompts, with the text of it in place of the path of a caption file."""
    return tuple(said(Path(line)).get("prompt", line) if line.endswith(CAPTION) else line for line in prompts)


def said(file: Path) -> dict[str, str]:
    """What a caption file says of itself; nothing if there is none or it is broken."""
    from safetensors import SafetensorError, safe_open

    if not file.exists():
        return {}
    try:
        with safe_open(file, framework="np") as stored:
            return stored.metadata() or {}
    except SafetensorError:
        return {}


def given_to(card: Card, prompts: Sequence[str]) -> tuple[str, ...]:
    """What a text-to-image model is given: lines as they are, or their texts if it reads text and no features."""
    return tuple(prompts) if card.captions is not None else texts(prompts)


def why_unfit(card: Card, path: Path) -> str:
    """Why a text-to-image model cannot draw the prompts of a file, with what to do, or "" if it can.

    Raises `InputError` for a file that cannot be read, or that names a caption file which cannot.
    """
    if card.captions is None:
        return ""
    encoder = card.text_encoder.name if card.text_encoder is not None else "ENCODER"
    command = f"arbench captions {card.name} PROMPTS --encoder {encoder} --output DIR, then prompts: DIR/prompts.txt"
    bare = [line for line in read_prompts(path) if not line.endswith(CAPTION)]
    if bare:
        return f"{path} holds text ({_short(bare[0])}), and it reads features of a text encoder: {command}"
    others = sorted({str(shape) for shape in _shapes(path) if shape != card.captions})
    if others:
        return f"{path} has captions of another text encoder, {others[0]} and not {card.captions}: {command}"
    return ""


def digest_of_texts(path: Path) -> str:
    """Hex digest of what the prompts say: equal for caption files of other encoders."""
    digest = hashlib.blake2b(digest_size=16)
    for text in texts(_lines(path)):
        digest.update(f"{len(text)}:{text};".encode())
    return digest.hexdigest()


def digest_of_captions(path: Path) -> str:
    """Hex digest of the prompts, with the content of the caption files among them."""
    digest = hashlib.blake2b(digest_size=16)
    for line in _lines(path):
        if line.endswith(CAPTION):
            try:
                with Path(line).open("rb") as file:
                    content = hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
            except OSError as error:
                raise _unreadable(line, str(error)) from error
        else:
            content = line
        digest.update(f"{len(content)}:{content};".encode())
    return digest.hexdigest()


def _shapes(path: Path) -> frozenset[Shape]:
    """The shapes of the features of all caption files, from their headers."""
    from safetensors import SafetensorError

    found = set()
    for line in _lines(path):
        try:
            found.add(_shape(line, state_of(Path(line))))
        except (SafetensorError, OSError, ValueError) as error:
            raise _unreadable(line, str(error)) from error
    return frozenset(found)


@functools.lru_cache(maxsize=1 << 16)
def _shape(line: str, state: tuple[int, ...]) -> Shape:
    """Read once in a process for as long as the file stays what it is."""
    from safetensors import safe_open

    with safe_open(line, framework="np") as stored:
        return tuple(stored.get_slice("features").get_shape())


def _lines(path: Path) -> tuple[str, ...]:
    lines = read_prompts(path)
    if not lines:
        raise InputError(f"{path} has no prompts", "it is empty", "write one prompt per line")
    return lines


def _unreadable(file: str, why: str) -> InputError:
    return InputError(
        f"cannot read the caption features {file!r}",
        why,
        "arbench captions writes a file for each prompt, and the list to give as prompts",
    )


def _short(text: str) -> str:
    return repr(text if len(text) <= 40 else f"{text[:37]}...")
