"""What pydantic finds wrong with a value, in words of a suite: its own speak of Python's tuples and dictionaries."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Mapping
from typing import Any

MAPPING, LIST, TEXT = "a mapping", "a list", "text"
EXPECTED = {
    **dict.fromkeys(("int_type", "int_parsing", "int_from_float"), "a whole number"),
    **dict.fromkeys(("float_type", "float_parsing"), "a number"),
    **dict.fromkeys(("bool_type", "bool_parsing"), "true or false"),
    **dict.fromkeys(("dict_type", "mapping_type", "model_type", "model_attributes_type"), MAPPING),
    **dict.fromkeys(("tuple_type", "list_type", "set_type", "frozen_set_type"), LIST),
    **dict.fromkeys(("string_type", "string_sub_type", "invalid_key"), TEXT),
    "int_parsing_size": "a smaller number",
    "finite_number": "a finite number",
}
"""Type of an error -> what should stand there."""
BOUNDS: Mapping[str, Callable[[Mapping[str, Any]], str]] = {
    "greater_than_equal": lambda of: f"at least {bound(of['ge'])}",
    "greater_than": lambda of: f"a number above {bound(of['gt'])}",
    "less_than_equal": lambda of: f"at most {bound(of['le'])}",
    "less_than": lambda of: f"a number below {bound(of['lt'])}",
    "multiple_of": lambda of: f"a multiple of {bound(of['multiple_of'])}",
    "too_short": lambda of: f"{_many(of)}at least {_items(of['min_length'], 'item')}",
    "too_long": lambda of: f"{_many(of)}at most {_items(of['max_length'], 'item')}",
    "string_too_short": lambda of: f"text of at least {_items(of['min_length'], 'character')}",
    "string_too_long": lambda of: f"text of at most {_items(of['max_length'], 'character')}",
    "literal_error": lambda of: str(of["expected"]),
    "enum": lambda of: str(of["expected"]),
}
"""Those whose words name a bound, or what is taken."""
PREFIX = "Input should be "


def bound(value: float) -> str:
    """A bound in full: "100,000,000", "0.5"."""
    return f"{value:,}" if isinstance(value, int) else f"{value:g}"


def said(problem: Mapping[str, Any]) -> str:
    """One of the errors of a `ValidationError`: "at least 1 is expected"; the rules of our own have their words."""
    kind, given = problem["type"], problem.get("input")
    if kind == "missing":
        return "it is needed, and missing"
    if kind in EXPECTED or kind in BOUNDS:
        what = EXPECTED.get(kind) or BOUNDS[kind](problem["ctx"])
        return f"{what} is expected{_example(what, given)}"
    text = str(problem["msg"]).removeprefix("Value error, ").removeprefix("Assertion failed, ")
    return f"{text.removeprefix(PREFIX)} is expected" if text.startswith(PREFIX) else text


def _example(what: str, given: Any) -> str:
    """How what should stand there is written, with what was given if that can be."""
    plain = isinstance(given, str | int | float) and not isinstance(given, bool)
    if what == LIST:
        return f", as in [{given}]" if plain else ", as in [one, two]"
    if what == TEXT:
        return f', as in "{given}"' if plain else ""
    return ", as in {key: value}" if what == MAPPING else ""


def shown(value: Any, length: int = 60) -> str:
    """A value as YAML has it, cut off at `length`."""
    return _yaml(value)[:length]


def _yaml(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_yaml(key)}: {_yaml(each)}" for key, each in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_yaml, value)) + "]"
    return str(value) if isinstance(value, datetime.date) else repr(value)


def _many(of: Mapping[str, Any]) -> str:
    return "" if of["field_type"] == "Dictionary" else "a list of "


def _items(count: int, name: str) -> str:
    return f"one {name}" if count == 1 else f"{count} {name}s"
