"""Packages that can be called: `arbench.score(...)` beside `arbench.score.engine`.

Python binds `arbench.score` to the package as soon as anything imports `arbench.score.engine`, whatever had that name
before. A function of the same name would be lost then, so the package itself is what is called.
"""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any


class CallablePackage(ModuleType):
    # Its name is a package's whose calls go to a function, imported with the first of them; signature and help are the
    # function's. A comment, since __doc__ is a property here.
    _called: str

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        return self._function()(*arguments, **options)

    def _function(self) -> Callable[..., Any]:
        module, _, name = self._called.partition(":")
        function: Callable[..., Any] = getattr(importlib.import_module(module), name)
        return function

    @property
    def __signature__(self) -> inspect.Signature:
        return inspect.signature(self._function())

    @property
    def __doc__(self) -> str:  # type: ignore[override]
        function = self._function()
        summary, _, rest = (inspect.getdoc(function) or "").partition("\n")
        return f"{summary}\n\n{function.__name__}{inspect.signature(function)}\n{rest}"


def make_callable(package: str, called: str) -> None:
    """Calls of `package` become calls of the function `called`, "module:name"."""
    module = sys.modules[package]
    module.__class__ = CallablePackage
    module._called = called  # type: ignore[attr-defined]
