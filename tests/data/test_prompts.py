"""Files of prompts: which characters end a line, and what is not part of the text."""

from __future__ import annotations

from pathlib import Path

import pytest

from arbench.data.prompts import digest_of_texts, read_prompts


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_one_prompt_per_line(tmp_path: Path, mark: bytes, end: bytes) -> None:
    prompts = ("a cat", "", "two\u2028lines", "a\x0cb\x85c", " café")
    path, plain = tmp_path / "prompts.txt", tmp_path / "plain.txt"
    path.write_bytes(mark + end.join(prompt.encode() for prompt in prompts) + end + end)
    plain.write_bytes("\n".join(prompts).encode())
    assert read_prompts(path) == prompts
    assert digest_of_texts(path) == digest_of_texts(plain)
