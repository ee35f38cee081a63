"""The code of an adapter as a digest: what it computes may change with any Python file of its package."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path

from . import registry
from .files import state_of
from .spec.card import Card

BUILT_IN = f"{registry.GROUP}."


def code_of(card: Card) -> str:
    """Hex digest of the Python files of the package that implements `card` and of its tokenizer's; "" if unknown.

    The adapters that ship with arbench share blocks, and are one package.
    """
    files = tuple((file, state_of(file)) for root in roots_of(card) for file in _python_files(root))
    return _digest(files) if files else ""


def roots_of(card: Card) -> tuple[Path, ...]:
    """The folders and files whose code `code_of` is: cards of one package have the same."""
    cards = [card] if card.tokenizer is None else [card, registry.card(card.tokenizer)]
    return tuple(sorted({root for each in cards for root in _roots(each.implementation.partition(":")[0])}))


def _roots(module: str) -> list[Path]:
    """The folders of the module's outermost package, or its own file."""
    top = registry.GROUP if module.startswith(BUILT_IN) else module.partition(".")[0]
    try:
        spec = find_spec(top)
    except (ImportError, ValueError):
        return []
    if spec is None:
        return []
    return [Path(place) for place in spec.submodule_search_locations or ([spec.origin] if spec.origin else [])]


def _python_files(root: Path) -> Iterable[Path]:
    return sorted(root.rglob("*.py")) if root.is_dir() else [root] if root.is_file() else []


@functools.lru_cache(maxsize=8)
def _digest(files: tuple[tuple[Path, tuple[int, ...]], ...]) -> str:
    """Read once in a process for as long as the files stay what they are."""
    digest = hashlib.blake2b(digest_size=16)
    for file, _ in files:
        data = file.read_bytes()
        digest.update(f"{file.name}:{len(data)};".encode("utf-8", "surrogateescape") + data)
    return digest.hexdigest()
