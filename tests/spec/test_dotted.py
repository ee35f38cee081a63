"""Keys of --set are split at dots, and what is quoted stays whole."""

from __future__ import annotations

import pytest

from arbench.spec import suite_file
from arbench.spec.dotted import key_parts
from tests.spec.test_suite_file import GOOD


@pytest.mark.parametrize(
    ("key", "parts"),
    [
        ("suite", ("suite",)),
        ("generate.n", ("generate", "n")),
        ('sampling."raster/*".guidance.scale', ("sampling", "raster/*", "guidance", "scale")),
        ("sampling.'hybrid/hart-0.7b'.top_k", ("sampling", "hybrid/hart-0.7b", "top_k")),
        ("sampling.raster/*.top_k", ("sampling", "raster/*", "top_k")),
        ('"a.b"', ("a.b",)),
    ],
)
def test_parts(key, parts):
    assert key_parts(key) == parts


@pytest.mark.parametrize(
    ("key", "why"),
    [
        ("", "empty"),
        ("a..b", "empty"),
        ("a.", "empty"),
        (".a", "empty"),
        ('a.""', "empty"),
        ('a."b', "not closed"),
        ('a."b"c', "followed by a dot"),
        ('a.b"c"', "inside a part"),
    ],
)
def test_bad_keys_say_what_is_wrong(key, why):
    with pytest.raises(ValueError, match=why):
        key_parts(key)


def test_a_quoted_glob_reaches_the_suite():
    changes = ['sampling."raster/*".guidance.scale=2', "sampling.'hybrid/hart-0.7b'.top_k=3"]
    read = suite_file.parse(GOOD, "mine.yaml", changes)
    assert read.suite.sampling == {
        "raster/*": {"top_k": 10, "guidance": {"scale": 2}},
        "hybrid/hart-0.7b": {"top_k": 3},
    }
    assert read.origins["sampling", "raster/*", "guidance", "scale"] == f"--set {changes[0]}"
