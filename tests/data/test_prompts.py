"""Files of prompts: which characters end a line, and what is not part of the text."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from arbench.data.prompts import digest_of_texts, read_prompts
from arbench.errors import InputError


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_one_prompt_per_line(tmp_path: Path, mark: bytes, end: bytes) -> None:
    prompts = ("a cat", "two\u2028lines", "a\x0cb\x85c", " café")
    path, plain = tmp_path / "prompts.txt", tmp_path / "plain.txt"
    path.write_bytes(mark + end.join(prompt.encode() for prompt in prompts) + end + end)
    plain.write_bytes("\n".join(prompts).encode())
    assert read_prompts(path) == prompts
    assert digest_of_texts(path) == digest_of_texts(plain)


@pytest.mark.parametrize("empty", ["", "  ", "\t"])
@pytest.mark.parametrize("place", [0, 1])
def test_an_empty_line_before_a_prompt_is_an_error_with_its_number(tmp_path: Path, empty: str, place: int) -> None:
    lines = ["a cat", "a dog"]
    lines.insert(place, empty)
    (tmp_path / "p.txt").write_text("\n".join([*lines, "", " ", ""]))
    with pytest.raises(InputError, match=rf"line {place + 1} of 3 is empty"):
        read_prompts(tmp_path / "p.txt")


TEXTS = ("a cat, a dog", 'the "big" one', "two\nlines", "", " caf\u00e9 ", "[1]")


def as_table(delimiter: str, name: str = "prompt") -> str:
    quoted = ['"' + text.replace('"', '""') + '"' for text in TEXTS]
    return (
        "\n".join([f"id{delimiter}{name}", *(f"{place}{delimiter}{text}" for place, text in enumerate(quoted))]) + "\n"
    )


@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("p.csv", as_table(",")),
        ("p.CSV", as_table(",", " Caption")),
        ("p.tsv", as_table("\t", "text") + "\n"),
        ("p.jsonl", "\n".join(json.dumps(text) for text in TEXTS)),
        ("p.jsonl", "\n\n".join(json.dumps({"tag": 1, "prompt": text}) for text in TEXTS) + "\n\n"),
        ("p.json", json.dumps(TEXTS, indent=1)),
        ("p.json", json.dumps([{"text": "wrong", "caption": text} for text in TEXTS])),
    ],
)
def test_tables_and_json(tmp_path: Path, mark: str, name: str, content: str) -> None:
    (tmp_path / name).write_text(mark + content)
    assert read_prompts(tmp_path / name) == TEXTS


@pytest.mark.parametrize(
    ("name", "content", "why"),
    [
        ("p.csv", "prompt\na cat, a dog\n", "line 2 has 2 cells, and the header 1"),
        ("p.csv", "id,prompt\n1\n", "line 2 has 1 cell"),
        ("p.csv", "a cat\na dog\n", "'a cat'"),
        ("p.csv", "prompt,Prompt\na,b\n", "2 times"),
        ("p.csv", 'prompt\n"a" cat\n', "expected after"),
        ("p.csv", 'prompt\n"a cat\n', "unexpected end"),
        ("p.tsv", "prompt,b\na\n", "'prompt,b'"),
        ("p.jsonl", '"a"\n{"prompt": null}\n', "prompt 2 is null"),
        ("p.jsonl", '"a"\n{"name": "b"}\n', "'name'"),
        ("p.jsonl", '"a"\n{"prompt": "b"\n', "line 2"),
        ("p.jsonl", "[" * 100_000, "nested too deeply"),
        ("p.json", '{"a": "b"}', "it is an object, not a list"),
        ("p.json", '["a", ["b"]]', "prompt 2 is a list"),
    ],
)
def test_what_is_wrong_with_them(tmp_path: Path, name: str, content: str, why: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(InputError) as caught:
        read_prompts(tmp_path / name)
    assert why in caught.value.why


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="No such file") as caught:
        read_prompts(tmp_path / "p.csv")
    assert caught.value.hint == "check the path"
