"""The built-in systems as they were last loaded, kept where Python keeps its bytecode: reading them is four times as
fast as importing the two modules of each.

What is kept holds for the same versions, the same folders of families, and modules that are the files that they were.
As with bytecode, whoever can write it can write the modules too, and nothing is written under PYTHONDONTWRITEBYTECODE.
Even so nothing but our own models is made of it.
"""

from __future__ import annotations

import contextlib
import io
import pickle
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.util import cache_from_source
from pathlib import Path

import pydantic

from .errors import StoreError
from .files import state_of, write_atomic
from .spec.base import Frozen
from .spec.system import System

States = tuple[tuple[str, tuple[int, ...]], ...]
"""Path and state of every module that has a part in the systems."""


def systems(package: str, families: Sequence[str], load: Callable[[], list[System]]) -> list[System]:
    """What `load` returns, or has returned when the packages `families` below `package` were what they are now."""
    made_of = (sys.version, pydantic.VERSION, [_listing(family) for family in families])
    file = _file(package)
    found = None if file is None else _read(file, made_of)
    if found is not None:
        return found
    loaded = load()
    if file is not None and not sys.dont_write_bytecode:
        with contextlib.suppress(
            StoreError, OSError
        ):  # a folder that others own: Python's bytecode is not there either
            write_atomic(file, pickle.dumps((made_of, _states())) + pickle.dumps(loaded))
    return loaded


def _listing(family: str) -> list[tuple[str, list[str]]]:
    """The folders of a family and what is in them, which tells of a system that was added."""
    places = [Path(place) for place in import_module(family).__path__]
    return [(str(place), sorted({each.name for each in place.iterdir()} - {"__pycache__"})) for place in places]


def _file(package: str) -> Path | None:
    """In the folder for the bytecode of the package; None for one that is not in a folder."""
    source = sys.modules[package].__file__
    if source is None or sys.implementation.cache_tag is None:
        return None
    return Path(cache_from_source(source)).with_name(f"systems.{sys.implementation.cache_tag}.pickle")


def _read(file: Path, made_of: object) -> list[System] | None:
    """None for what is not there, was made of something else or cannot be read."""
    try:
        data = io.BytesIO(file.read_bytes())
        kept, states = _Models(data).load()
        if kept != made_of or any(state_of(Path(path)) != state for path, state in states):
            return None
        found: list[System] = _Models(data).load()
    except Exception:  # a file that was cut off, or is of classes that are gone, can fail in any way
        return None
    return found


class _Models(pickle.Unpickler):
    """Knows the models of `arbench.spec`, and no function."""

    def find_class(self, module: str, name: str) -> type[Frozen]:
        found = super().find_class(module, name) if module.startswith(f"{__package__}.spec.") else None
        if not (isinstance(found, type) and issubclass(found, Frozen)):
            raise pickle.UnpicklingError(f"{module}.{name} is not a model")
        return found


def _states() -> States:
    """Of all modules of arbench that are loaded: those of the systems, and those that these are made of."""
    modules = [module for name, module in sys.modules.items() if name.partition(".")[0] == __package__]
    paths = sorted({path for module in modules if (path := getattr(module, "__file__", None)) is not None})
    return tuple((path, state_of(Path(path))) for path in paths)
