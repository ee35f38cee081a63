"""Words for what pydantic finds wrong, of fields that only a package's tasks may have too."""

from __future__ import annotations

import enum
from typing import Annotated, Any

import pytest
from pydantic import AnyUrl, Field, TypeAdapter, ValidationError

from arbench.spec.problem import said, shown


class Colour(enum.Enum):
    RED = "red"


@pytest.mark.parametrize(
    ("kind", "value", "words"),
    [
        (Annotated[str, Field(min_length=3)], "ab", "text of at least 3 characters is expected"),
        (Annotated[str, Field(max_length=1)], "ab", "text of at most one character is expected"),
        (Annotated[list[int], Field(max_length=1)], [1, 2], "a list of at most one item is expected"),
        (Annotated[dict[str, int], Field(min_length=1)], {}, "at least one item is expected"),
        (Annotated[int, Field(lt=3)], 3, "a number below 3 is expected"),
        (Annotated[int, Field(multiple_of=8)], 3, "a multiple of 8 is expected"),
        (Annotated[int, Field(strict=True)], "3", "a whole number is expected"),
        (set[int], 3, "a list is expected, as in [3]"),
        (Colour, "blue", "'red' is expected"),
        (AnyUrl, "x", "a valid URL, relative URL without a base is expected"),
    ],
)
def test_errors_are_told_in_words_of_a_suite(kind: Any, value: object, words: str) -> None:
    with pytest.raises(ValidationError) as caught:
        TypeAdapter(kind).validate_python(value)
    assert words in said(caught.value.errors()[0])


def test_values_are_shown_as_yaml_has_them() -> None:
    assert shown({"a": [None, True, "x"], 3: (1.5,)}) == "{'a': [null, true, 'x'], 3: [1.5]}"
    assert shown("x" * 90) == "'" + "x" * 59
