"""Suites, `--set`, journals, run.json and result.json, changed in any way: an answer or an ArbenchError."""

from __future__ import annotations

import contextlib
import json
import shutil
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from arbench import journal
from arbench.artifacts import Pictures
from arbench.errors import ArbenchError, ConfigError, DamagedFile, StoreError
from arbench.report.folders import read_runs
from arbench.run.store import parse_result, read_run
from arbench.spec import suite_file

bounded = settings(
    max_examples=150,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
RUN = Path(__file__).parents[1] / "report" / "run-0.1"
SUITE = """suite: mine
adapters: [raster/llamagen-mini]
settings: {seed: 3}
sources: {photos: "folder:x"}
tasks:
  - generate: {n: 50, reference: photos}
  - speed
sampling:
  "raster/*": {top_k: 10}
"""
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from(("generate", "speed")),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
TAGS = "&a ;*a;!!int ;!!binary ;!!timestamp ;!!set ;<<: ;- generate: ;2020-13-45;\\ud800;0x;1:2;.nan;tasks;suite: "
PIECES = st.sampled_from([*"[]{}:,-&*!|>'\"#%@`?\n\t \\<=~.\ufeff\x00\u2028", *TAGS.split(";")])


@bounded
@given(st.lists(st.tuples(st.integers(0, len(SUITE)), PIECES, st.integers(0, 12)), min_size=1, max_size=4))
def test_changed_suites(changes: list[tuple[int, str, int]]) -> None:
    text = SUITE
    for at, piece, gone in changes:
        text = text[:at] + piece + text[at + gone :]
    with contextlib.suppress(ArbenchError):
        suite_file.parse(text, "mine.yaml")


@bounded
@given(st.sampled_from(("suite", "version", "adapters", "settings", "sources", "tasks", "sampling", "weights")), VALUES)
def test_suites_with_any_value(key: str, value: Any) -> None:
    data = {"suite": "x", "version": 1, "adapters": ["raster/llamagen-mini"], "tasks": ["speed"], key: value}
    with contextlib.suppress(ArbenchError):
        suite_file.of_data(data)


@bounded
@given(
    st.sampled_from(
        ("tasks", "tasks.0", "tasks.0.n", "generate", "generate.n", "n", "settings", "settings.seed", "seed")
    )
    | st.sampled_from(("sources", "sources.photos", "sampling", 'sampling."raster/*".top_k', "adapters", "adapters.0"))
    | st.text(max_size=8),
    VALUES.map(lambda value: json.dumps(value, ensure_ascii=False)) | PIECES | st.text(max_size=8),
)
def test_any_set(key: str, value: str) -> None:
    with contextlib.suppress(ArbenchError):
        suite_file.parse(SUITE, "mine.yaml", [f"{key}={value}", "generate.n=5"])


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("suite: caf\u00e9".encode("latin-1"), "not UTF-8"),
        ("suite: x".encode("utf-16"), "not UTF-8"),
        (b"suite: \x00", "not valid YAML"),
        (b'suite: "\\ud800"', "surrogate"),
        (b"suite: 2020-13-45", "cannot be read"),
        (b"suite: !!int x", "cannot be read"),
    ],
)
def test_suites_that_are_no_text(tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / "s.yaml").write_bytes(content)
    with pytest.raises(ConfigError, match=said):
        suite_file.read(str(tmp_path / "s.yaml"))


# ---- journals


@pytest.mark.parametrize(
    "line",
    [
        '{"kind": "unit"}',
        '{"kind": "unit", "cell": "a", "unit": [], "digest": "d", "seconds": 1}',
        '{"kind": "finished", "cell": "a", "outcome": 3, "digest": "d", "reason": ""}',
        '{"kind": "planned", "cells": 3}',
        '{"kind": "started", "cell": {}}',
    ],
)
def test_records_without_their_fields(line: str) -> None:
    with pytest.raises(StoreError, match=r"journal\.jsonl:1: not a whole record"):
        journal.parse(f'{line}\n{{"kind": "note"}}\n'.encode())


@bounded
@given(st.dictionaries(st.sampled_from(("cell", "cells", "unit", "digest", "seconds", "time", "outcome")), VALUES))
def test_any_fields(fields: dict[str, Any]) -> None:
    for kind in ("unit", "started", "finished", "planned", "tracked", "note", "session", "x"):
        with contextlib.suppress(ArbenchError):
            journal.parse(json.dumps({**fields, "kind": kind}).encode() + b"\n")


def test_a_line_that_is_nested_deeply() -> None:
    with pytest.raises(StoreError, match="not a record"):
        journal.parse(b"[" * 100_000 + b'\n{"kind": "note"}\n{"kind": "note"}\n')


# ---- results


def places(value: Any, place: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [place, *(found for key, item in inner for found in places(item, (*place, key)))][:4000]


@pytest.mark.parametrize("name", ["run.json", "result.json", "journal.jsonl"])
def test_changed_values_of_a_run(tmp_path: Path, name: str) -> None:
    shutil.copytree(RUN, tmp_path / "run")
    path = next(iter(sorted((tmp_path / "run").rglob(name))))
    whole = path.read_bytes()
    value = json.loads(whole.splitlines()[4] if name == "journal.jsonl" else whole)
    inside = places(value)[1:]

    @bounded
    @given(st.integers(0, len(inside) - 1), VALUES | st.just("\ud800") | st.just("\x1b[2J"))
    def each(number: int, wrong: Any) -> None:
        changed = json.loads(json.dumps(value))
        target = changed
        for part in inside[number][:-1]:
            target = target[part]
        target[inside[number][-1]] = wrong
        text = json.dumps(changed).encode()
        lines = whole.splitlines(keepends=True)
        path.write_bytes(b"".join([*lines[:4], text + b"\n", *lines[5:]]) if name == "journal.jsonl" else text)
        with contextlib.suppress(ArbenchError):
            for run in read_runs([tmp_path / "run"]):
                for entry in run.entries:
                    entry.result.model_dump_json()
                    for what in get_args(Pictures):
                        entry.gallery(what)
                    entry.latency()
        with contextlib.suppress(ArbenchError):
            parse_result(path) if name == "result.json" else read_run(tmp_path / "run")

    each()


@pytest.mark.parametrize("content", [b"[" * 200_000, b"\xff", b"3", b"", b'{"schema_version": "x"}', b'"\\ud800"'])
def test_results_that_are_none(tmp_path: Path, content: bytes) -> None:
    shutil.copytree(RUN, tmp_path / "run")
    path = next(iter((tmp_path / "run").glob("cells/*/result.json")))
    path.write_bytes(content)
    with pytest.raises(DamagedFile):
        read_runs([tmp_path / "run"])
    with pytest.raises(StoreError):
        parse_result(path)
    (tmp_path / "run" / "run.json").write_bytes(content)
    with pytest.raises(ArbenchError):
        read_run(tmp_path / "run")
