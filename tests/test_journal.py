"""The journal: whatever is cut off its end, what is left is read, and writing continues after it."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arbench.errors import StoreError
from arbench.journal import Writer, parse, read

RECORDS = [
    {"kind": "session", "verb": "run"},
    {"kind": "note", "text": 'a "quoted" line\nbreak, ünïcode \u2028 and {braces}'},
    {"kind": "unit", "cell": "res-1", "unit": "0-64", "digest": "d0", "seconds": 0.25},
]


def write(path: Path, records: list[dict]) -> None:
    writer = Writer(path)
    for record in records:
        writer.write(record["kind"], **{key: value for key, value in record.items() if key != "kind"})
    writer.close()


def plain(records) -> list[dict]:
    return [{key: value for key, value in record.items() if key != "time"} for record in records]


def test_every_truncation_is_a_prefix_and_can_be_written_on(tmp_path):
    path = tmp_path / "journal.jsonl"
    write(path, RECORDS)
    whole = path.read_bytes()
    ends = [0, *(index + 1 for index, byte in enumerate(whole) if byte == ord("\n"))]
    for length in range(len(whole) + 1):
        path.write_bytes(whole[:length])
        complete = sum(end <= length for end in ends[1:])
        found = read(path)
        assert plain(found.records) == RECORDS[:complete]
        assert bool(found.warning) == (length not in ends)
        write(path, [{"kind": "note", "text": "on"}])
        after = read(path)
        assert plain(after.records) == [*RECORDS[:complete], {"kind": "note", "text": "on"}]
        assert not after.warning


@given(
    st.lists(
        st.dictionaries(
            st.text().filter(lambda key: key not in ("kind", "time", "self")), st.integers() | st.text(), max_size=4
        ),
        max_size=5,
    ),
    st.data(),
)
@settings(max_examples=200, deadline=None)
def test_any_records_at_any_cut(fields, data):
    lines = [json.dumps({**record, "kind": "note", "time": ""}).encode() + b"\n" for record in fields]
    whole = b"".join(lines)
    cut = data.draw(st.integers(0, len(whole)))
    found = parse(whole[:cut])
    assert found.size == sum(len(line) for line in lines[: len(found.records)]) <= cut
    assert len(found.records) == whole[:cut].count(b"\n")


def test_a_zeroed_last_line_is_torn_too(tmp_path):
    path = tmp_path / "journal.jsonl"
    write(path, RECORDS)
    path.write_bytes(path.read_bytes() + b"\0" * 40 + b"\n")
    assert plain(read(path).records) == RECORDS
    assert "line 4 is incomplete" in read(path).warning


def test_damage_in_the_middle_is_an_error_naming_the_line(tmp_path):
    path = tmp_path / "journal.jsonl"
    write(path, RECORDS)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0] + b'{"half": \n' + lines[2])
    with pytest.raises(StoreError, match=r"journal\.jsonl:2: not a record"):
        read(path)


def test_a_full_disk_says_what_to_do(tmp_path):
    """/dev/full answers every write with ENOSPC."""
    path = tmp_path / "journal.jsonl"
    path.symlink_to("/dev/full")
    file = os.open("/dev/full", os.O_WRONLY)
    writer = Writer.__new__(Writer)  # the real one reads the file first, and /dev/full never ends
    writer._path, writer._file = path, file
    with pytest.raises(StoreError, match="No space left") as caught:
        writer.write("note", text="x")
    assert f"arbench resume {tmp_path}" in caught.value.hint
    writer.close()


def test_numbers_json_has_no_word_for_are_refused(tmp_path):
    writer = Writer(tmp_path / "journal.jsonl")
    with pytest.raises(ValueError, match="JSON compliant"):
        writer.write("note", value=float("nan"))
    writer.close()
    assert (tmp_path / "journal.jsonl").read_bytes() == b""
