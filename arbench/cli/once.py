"""Verbs that refuse an option with one value that is given twice; else the last one would be taken in silence."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import typer
from typer.core import TyperCommand

from arbench.errors import UsageError

Verb = TypeVar("Verb", bound=Callable[..., Any])


class Once(TyperCommand):
    def make_parser(self, ctx: Any) -> Any:
        parser: Any = super().make_parser(ctx)
        parse = parser.parse_args

        def parse_once(args: list[str]) -> Any:
            found = parse(args)
            options: list[Any] = [each for each in found[2] if each.param_type_name == "option"]
            single = [each for each in options if not each.multiple and not each.is_flag]
            twice = next((each for each in single if single.count(each) > 1), None)
            if twice is not None:
                raise UsageError(f"{twice.opts[0]} is given twice", "it takes one value", "leave one out")
            return found

        parser.parse_args = parse_once
        return parser


class Verbs(typer.Typer):
    """An application whose verbs are such ones."""

    def command(self, name: str | None = None, **settings: Any) -> Callable[[Verb], Verb]:
        return super().command(name, cls=Once, **settings)
