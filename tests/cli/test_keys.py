"""The reference of a suite's keys: complete, in plain words, the same in `arbench ls keys` and docs/suites.md."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from arbench.cli.main import main
from arbench.cli.suites_page import renewed
from arbench.errors import ConfigError
from arbench.spec.reference import Key, built_in, keys
from arbench.spec.sampling import Guidance, Sampling
from arbench.spec.suite import Settings, Suite

PAGE = Path(__file__).parents[2] / "docs" / "suites.md"


def found() -> dict[str, Key]:
    return {key.dotted: key for key in keys(built_in())}


def test_the_page_is_what_the_models_say():
    text = PAGE.read_text(encoding="utf-8")
    assert text == renewed(text), "docs/suites.md is out of date: python -m arbench.cli.suites_page docs/suites.md"


def test_a_page_without_its_marks_is_an_error():
    with pytest.raises(ConfigError, match="no part 'suites'"):
        renewed("# Suites\n")


def test_every_field_of_every_model_is_a_key_with_a_meaning():
    names = {(key.group, key.name) for key in found().values()}
    models = {"suite": Suite, "settings": Settings, "sampling": Sampling, "guidance": Guidance}
    models |= {name: definition.spec for name, definition in built_in().items()}
    assert names == {
        (group, name) for group, model in models.items() for name in model.model_fields if name != "task"
    } | {("sampling", "zip")}
    assert set(built_in()) == {
        *("codes", "detail", "edit", "energy", "generate", "likelihood", "memory", "objects", "perturb", "predict"),
        *("prefix", "rate", "reconstruct", "speed", "stability", "text"),
    }
    for key in found().values():
        assert key.meaning.endswith((".", "...")), key.dotted
        assert "None" not in key.meaning, key.dotted


@pytest.mark.parametrize(
    ("key", "type_", "default"),
    [
        ("suite", "string", "required"),
        ("tasks", "list of tasks", "required"),
        ("settings", "mapping", "those below"),
        ("needs", "mapping of strings", "{}"),
        ("settings.seed", "whole number, at least 0", "0"),
        ("settings.init", "checkpoint or random", '"checkpoint"'),
        ("settings.keep_images", "whole number, at least 0, or null", "256"),
        ('sampling."GLOB".top_p', "number, above 0, at most 1, or null", "native"),
        ('sampling."GLOB".guidance.until', "number, 0 to 1", "native"),
        ("generate.reference", "string or null", '"mnist5k/heldout"'),
        ("edit.mask", "string or list of 4 numbers", '"centre"'),
        ("speed.batches", "list of whole numbers", "[1, 16]"),
    ],
)
def test_types_and_defaults_in_plain_words(key, type_, default):
    assert (found()[key].type, found()[key].default) == (type_, default)


def test_ls_keys_prints_the_same(capsys):
    assert main(["ls", "keys", "--json"]) == 0
    rows = {row["key"]: row for row in json.loads(capsys.readouterr().out)}
    for dotted, key in found().items():
        assert rows[dotted] == {"key": dotted, "type": key.type, "default": key.default, "meaning": key.meaning}
    assert main(["ls", "kyes"]) == 2
    assert "did you mean keys?" in capsys.readouterr().err
