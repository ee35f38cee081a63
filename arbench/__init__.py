"""arbench: a benchmark and evaluation harness for autoregressive image generators and visual tokenizers.

From Python: `load` a model and sample from it, `score` images, `compare` scores, `run` a suite; the
`difference` of two runs, a `gate`, the `history` and a `leaderboard` of many. See docs/python.md.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .front.comparison import compare as compare
    from .front.difference import difference as difference
    from .front.model import load as load
    from .front.nights import gate as gate
    from .front.nights import history as history
    from .front.nights import leaderboard as leaderboard
    from .front.run import run as run
    from .front.score import score as score

__all__ = ["compare", "difference", "gate", "history", "leaderboard", "load", "run", "score"]
__version__ = "0.2.0.dev0"

_FUNCTIONS = {
    "difference": "front.difference",
    "gate": "front.nights",
    "history": "front.nights",
    "leaderboard": "front.nights",
    "load": "front.model",
}
"""Imported when they are first asked for: `import arbench` is for the command line too, and must be quick."""


def __getattr__(name: str) -> Any:
    if name in _FUNCTIONS:
        return getattr(importlib.import_module(f".{_FUNCTIONS[name]}", __name__), name)
    if name in ("compare", "score", "run"):  # packages that can be called
        return importlib.import_module(f".{name}", __name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
