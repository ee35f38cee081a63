"""Verbs that refuse an option with one value that is given twice; else the last one would be taken in silence."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import typer
from typer.core import TyperCommand
from typer.main import get_command_name
from typer.models import CommandInfo

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


def _name(verb: CommandInfo) -> str:
    """As typer names it."""
    return verb.name or get_command_name(verb.callback.__name__ if verb.callback is not None else "")


class Verbs(typer.Typer):
    """An application whose verbs are such ones; of them all, the one that is called is made alone, which takes less."""

    def __call__(self, *words: Any, **named: Any) -> Any:
        every, given = self.registered_commands, [word for word in named.get("args") or () if word != "--debug"]
        called = [each for each in every if given and _name(each) == given[0]]
        self.registered_commands = called or every
        try:
            return super().__call__(*words, **named)
        finally:
            self.registered_commands = every

    def command(self, name: str | None = None, **settings: Any) -> Callable[[Verb], Verb]:
        return super().command(name, cls=Once, **settings)
