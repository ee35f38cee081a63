"""Files of prompts: their lines, the texts of these, and whether what they name is what a text-to-image model reads."""

from __future__ import annotations

import csv
import functools
import hashlib
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..errors import InputError, counted
from ..files import state_of
from ..json_text import parse_json
from ..spec.card import Card

CAPTION = ".safetensors"
"""Suffix of a caption file: a prompt as the features of a text encoder, written by `arbench captions`."""

Shape = tuple[int, ...]


COLUMNS = ("prompt", "caption", "text", "prompts", "captions")
"""What the texts are called in a table or in objects of JSON, the first that is there; case does not count."""
LINE_FORM = "give a UTF-8 text, one prompt per line"
TABLE_FORM = f"name the texts {COLUMNS[0]!r}, and quote those with commas, quotes or line breaks"
JSON_FORM = f"give texts, or objects with the text under {COLUMNS[0]!r}"
FORMS = dict.fromkeys((".csv", ".tsv"), TABLE_FORM) | dict.fromkeys((".json", ".jsonl", ".ndjson"), JSON_FORM)


def read_prompts(path: Path | None) -> tuple[str, ...]:
    """The prompts of a file, in its order: lines of a text; or of .csv, .tsv, .json and .jsonl the texts in them.

    Of a text a byte order mark is not part of the first line, and only a line feed or carriage return ends one: prompts
    from the web hold the other characters at which `str.splitlines` would split. Empty lines at its end are left out;
    one before a prompt is an `InputError`, since nobody can tell whether it is a prompt. The other formats can state
    empty prompts.
    """
    if path is None:
        return ()
    suffix = path.suffix.lower()
    form = FORMS.get(suffix, LINE_FORM)
    try:
        text = path.read_text(encoding="utf-8-sig")  # \r\n and \r become \n
        if form is TABLE_FORM:
            return _of_table(text, "," if suffix == ".csv" else "\t")
        if form is JSON_FORM:
            return _of_json(text, lines=suffix != ".json")
        return _of_lines(text)
    except OSError as error:
        raise InputError(
            f"cannot read the prompts in {path}", error.strerror or str(error), "check the path"
        ) from error
    except (ValueError, csv.Error) as error:
        raise InputError(f"cannot read the prompts in {path}", str(error), form) from error


def _of_lines(text: str) -> tuple[str, ...]:
    lines = text.split("\n")
    while lines and not lines[-1].strip():
        lines.pop()
    empty = next((number for number, line in enumerate(lines, 1) if not line.strip()), None)
    if empty is not None:
        raise ValueError(
            f"line {empty} of {len(lines)} is empty: remove it, or state an empty prompt in a .jsonl, one text per line"
        )
    return tuple(lines)


def _of_table(text: str, delimiter: str) -> tuple[str, ...]:
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    header = next(rows, [])
    place = header.index(_column(header)) if header else 0
    prompts = []
    for row in rows:
        if len(row) != len(header) and row:
            raise ValueError(f"line {rows.line_num} has {counted(len(row), 'cell')}, and the header {len(header)}")
        if row:  # an empty line is no row
            prompts.append(row[place])
    return tuple(prompts)


def _of_json(text: str, *, lines: bool) -> tuple[str, ...]:
    """Of one list, or of a value on each of the `lines`, of which empty ones are left out."""
    values: Any
    if lines:
        values = []
        for number, line in enumerate(text.split("\n"), 1):
            if line.strip():
                try:
                    values.append(parse_json(line))
                except ValueError as error:
                    raise ValueError(f"line {number}: {error}") from None
    else:
        values = parse_json(text)
        if not isinstance(values, list):
            raise ValueError(f"it is {_kind(values)}, not a list")
    prompts = []
    for number, value in enumerate(values, 1):
        found = value[_column(list(value))] if isinstance(value, dict) else value
        if not isinstance(found, str):
            raise ValueError(f"prompt {number} is {_kind(found)}, not text")
        prompts.append(found)
    return tuple(prompts)


def _column(names: Sequence[str]) -> str:
    """The name that the texts have. Raises ValueError."""
    for wanted in COLUMNS:
        found = [name for name in names if name.strip().lower() == wanted]
        if len(found) == 1:
            return found[0]
        if found:
            raise ValueError(f"it has {found[0].strip()!r} {len(found)} times")
    raise ValueError(f"none of {', '.join(COLUMNS)} is among {', '.join(map(repr, names[:8])) or 'no names'}")


def _kind(value: object) -> str:
    known = {dict: "an object", list: "a list", str: "text", type(None): "null"}
    return known.get(type(value), "a number")


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
