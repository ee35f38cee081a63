"""Leaderboards: rows of one protocol, what was measured and what was published in columns of their own."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from ..spec.card import Card, Claim
from ..spec.result import Direction, Metric, Result
from . import number
from .columns import Column, columns_of
from .folders import Entry
from .published import SIZE, metric_name, published
from .repeats import Spread, covers, spread_of, spread_words, together
from .rows import DOT, described, measured, newest, rows
from .tables import bounds

Origin = Literal["published", "measured", "card"]
DIRECTIONS: Mapping[str, Direction] = {
    "fid": "lower",
    "rfid": "lower",
    "is": "higher",
    "precision": "higher",
    "recall": "higher",
    "psnr": "higher",
    "ssim": "higher",
}
STEPS = ("num_inference_steps", "num_iter", "steps")
"""Settings of a claim that say how many autoregressive steps were taken."""
TITLES = {"generator": "Generators", "tokenizer": "Tokenizers", "images": "Images"}
PROTOCOL = frozenset({"data", "evaluator", "images", *SIZE})


@dataclass(frozen=True)
class BoardColumn:
    """`origin` "card" is what a card says of the model itself. `words` are unique on a board. Cells are printed in
    `unit`, of which one is `scale` of the unit of their values, `stored`."""

    words: str
    unit: str
    direction: Direction | None
    origin: Origin
    how: str = ""
    stored: str = ""
    scale: float = 1.0

    @property
    def arrow(self) -> str:
        return {"higher": "↑", "lower": "↓", None: ""}[self.direction]


@dataclass(frozen=True)
class BoardCell:
    """A number for reading and for sorting; a dash has a reason in `title`."""

    text: str = "–"
    value: float | None = None
    low: float | None = None
    high: float | None = None
    n: int | None = None
    interval: str = ""
    spread: str = ""
    """How far several seeds or trainings lie apart, in words; `repeats` has it as numbers."""
    repeats: Spread | None = None
    title: str = ""
    source: str = ""


@dataclass(frozen=True)
class BoardRow:
    model: str
    family: str
    settings: str
    settings_id: str
    cells: tuple[BoardCell, ...]
    differing: tuple[str, ...] = ()
    """Settings in which what was measured differs from what was published."""

    @property
    def id(self) -> str:
        return f"{self.model} {self.settings_id or self.settings}"


@dataclass(frozen=True)
class Board:
    """Rows that may be compared. `quality` and `cost` are the columns of its figure, None without one."""

    id: str
    title: str
    protocol: str
    origin: Origin
    columns: tuple[BoardColumn, ...]
    rows: tuple[BoardRow, ...]
    quality: int | None = None
    cost: int | None = None
    note: str = ""


@dataclass
class _Claims:
    """Claims of one card under one protocol and the same settings: a row."""

    card: Card
    settings: dict[str, Any]
    by_metric: dict[str, Claim] = field(default_factory=dict)


def published_boards(cards: Iterable[Card], results: Sequence[Result]) -> list[Board]:
    """A board for each protocol that published figures state, with our number of the same metric beside each figure."""
    groups: dict[tuple[str, ...], list[_Claims]] = {}
    for card in cards:
        for claim in card.published:
            key = _protocol(card, claim)
            own = {name: value for name, value in claim.settings.items() if name not in PROTOCOL}
            known = groups.setdefault(key, [])
            row = next((each for each in known if each.card is card and each.settings == own), None)
            if row is None:
                row = _Claims(card, own)
                known.append(row)
            row.by_metric[metric_name(claim)] = claim
    order = sorted(groups, key=lambda key: (key[0] == "Tokenizers", -len(groups[key]), key))
    return [_published_board(key, groups[key], results) for key in order]


def _protocol(card: Card, claim: Claim) -> tuple[str, ...]:
    """Kind, data, size in pixels, evaluator, number of images, in words."""
    stated = claim.settings
    data = str(stated.get("data", card.trained_on or "data not stated"))
    size = next((stated[name] for name in SIZE if name in stated), card.resolution)
    counted = f"{stated['images']:,} images" if "images" in stated else "number of images not stated"
    told = f"{stated['evaluator']} evaluator" if "evaluator" in stated else "evaluator not stated"
    return TITLES[card.kind], data, f"{size} × {size}", told, counted


def _published_board(key: tuple[str, ...], claims: Sequence[_Claims], results: Sequence[Result]) -> Board:
    kind, data, size, *rest = key
    stated = {name for each in claims for name in each.by_metric}
    names = [name for name in DIRECTIONS if name in stated] + sorted(stated - DIRECTIONS.keys())
    ours = {
        (row.adapter, id(row.claim)): row
        for row in published(results, {each.card.name: each.card for each in claims})
        if not row.missing
    }
    told = [name for name in names if any((each.card.name, id(each.by_metric.get(name))) in ours for each in claims)]
    columns = [
        BoardColumn("parameters", "", "lower", "card"),
        BoardColumn("tokens", "", "lower", "card", "tokens of an image"),
    ]
    stepped = any(_steps(each) is not None for each in claims)
    if stepped:
        columns.append(BoardColumn("steps", "", "lower", "published", "autoregressive steps, where stated"))
    first = len(columns)
    columns += [BoardColumn(name, "", DIRECTIONS.get(name), "published") for name in names]
    columns += [
        BoardColumn(
            f"{name}, measured",
            "",
            DIRECTIONS.get(name),
            "measured",
            "here, in the convention of the figure where it is known",
        )
        for name in told
    ]
    made = []
    for each in claims:
        cells = [_count(each.card.parameters), _count(each.card.tokens.tokens if each.card.tokens else None)]
        if stepped:
            cells.append(_count(_steps(each), "not stated"))
        cells += [_claimed(each.by_metric.get(name)) for name in names]
        differing: dict[str, None] = {}
        for name in told:
            row = ours.get((each.card.name, id(each.by_metric.get(name))))
            if row is None:
                cells.append(BoardCell(title="not measured in these results"))
                continue
            value, _, interval = row.measured.partition(" [")
            cells.append(
                BoardCell(value, _number(value), interval=interval.rstrip("]"), title=row.title, source=row.convention)
            )
            differing |= dict.fromkeys(row.differing)
        made.append(
            BoardRow(each.card.name, each.card.family, _words(each.settings), "", tuple(cells), tuple(differing))
        )
    best = columns[first].direction
    made.sort(
        key=lambda row: (
            row.cells[first].value is None,
            (row.cells[first].value or 0) * (-1 if best == "higher" else 1),
        )
    )
    title = f"{kind}: {data}, {size}"
    return Board(
        _slug("published", *key), title, ", ".join(rest), "published", tuple(columns), tuple(made), first, 0,
        "Published by the models' authors unless the source says otherwise.",
    )  # fmt: skip


def _number(text: str) -> float | None:
    try:
        return float(text.replace(",", ""))
    except ValueError:
        return None


def _steps(each: _Claims) -> int | None:
    found = next((each.settings[name] for name in STEPS if name in each.settings), each.card.native.steps)
    return int(found) if isinstance(found, int) else None


def _count(value: int | None, why: str = "not known") -> BoardCell:
    return (
        BoardCell(number.count(value), float(value), title=f"{value:,}") if value is not None else BoardCell(title=why)
    )


def _claimed(claim: Claim | None) -> BoardCell:
    if claim is None:
        return BoardCell(title="not published under these settings")
    return BoardCell(f"{claim.value:g}", claim.value, title=f"{claim.source}", source=claim.source)


def _words(settings: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in settings.items())


def measured_boards(entries: Sequence[Entry], cards: Mapping[str, Card]) -> list[Board]:
    """A board for each protocol of quality that the results have; timings and memory of a row stand beside it."""
    kept, _ = newest(list(entries), lambda entry: entry.result)
    results = together([entry.result for entry in kept])
    columns, _ = columns_of(results)
    grouped, told = rows(results), described(results)
    kinds = {key: members[0].kind for key, members in grouped.items()}
    protocols: dict[tuple[str, str, str], list[Column]] = {}
    alone: list[tuple[str, Column]] = []
    for column in columns:
        if column.measure != "quality" or not column.shown or column.direction is None:
            continue
        for kind in dict.fromkeys(kinds.values()):
            if any(measured(members, column) for key, members in grouped.items() if kinds[key] == kind):
                if column.reference:
                    protocols.setdefault((kind, column.group, _sample(column)), []).append(column)
                else:
                    alone.append((kind, column))
    for of, column in alone:  # beside those against a reference that are of the same samples
        same = [key for key in protocols if key[:2] == (of, column.group) and key[2].endswith(f", {_sample(column)}")]
        for key in same or [(of, column.group, _sample(column))]:
            protocols.setdefault(key, []).append(column)
    costs = [column for column in columns if column.measure != "quality" and column.shown]
    return [
        _measured_board(
            of, group, sample, own, costs, {key: grouped[key] for key in grouped if kinds[key] == of}, told, cards
        )
        for (of, group, sample), own in sorted(protocols.items(), key=lambda item: list(TITLES).index(item[0][0]))
    ]


def _sample(column: Column) -> str:
    """What numbers of one board share: reference, number of images, seed."""
    found = json.loads(column.protocol)
    parts = [
        f"against {column.reference}" if column.reference else str(found.get("data") or found.get("reference") or "")
    ]
    if found.get("images"):
        parts.append(f"{found['images']:,} images")
    if found.get("seed"):
        parts.append(f"seed {found['seed']}")
    return ", ".join(part for part in parts if part)


def _measured_board(
    kind: str,
    group: str,
    sample: str,
    own: Sequence[Column],
    costs: Sequence[Column],
    grouped: Mapping[Any, Sequence[Result]],
    told: Mapping[tuple[str, str], str],
    cards: Mapping[str, Card],
) -> Board:
    members = {key: found for key, found in grouped.items() if any(measured(found, column) for column in own)}
    used = [column for column in costs if any(measured(found, column) for found in members.values())]
    columns = [BoardColumn("parameters", "", "lower", "card")]
    cells: dict[Any, list[BoardCell]] = {
        key: [_count(cards[key[0]].parameters if key[0] in cards else None)] for key in members
    }
    for column in [*own, *used]:
        metrics = {key: measured(found, column) for key, found in members.items()}
        unit, scale = number.fitting_unit(column.unit, [m.value for m in metrics.values() if m and m.value is not None])
        words = replace(column, note="").words
        columns.append(BoardColumn(words, unit, column.direction, "measured", column.how, column.unit, scale))
        for key, metric in metrics.items():
            cells[key].append(_measured_cell(metric, scale, members[key]))
    first = columns[1].direction
    made = [
        BoardRow(key[0], found[0].family, DOT.join(filter(None, (told[key[:2]], key[2]))), key[1], tuple(cells[key]))
        for key, found in members.items()
    ]
    made.sort(
        key=lambda row: (row.cells[1].value is None, (row.cells[1].value or 0) * (-1 if first == "higher" else 1))
    )
    cost = next((place for place, column in enumerate(columns) if column.words.startswith("latency")), 0)
    title = TITLES[kind]
    return Board(
        _slug("measured", kind, group, sample), f"{title}: {group.lower()}", sample, "measured", tuple(columns),
        tuple(made), 1, cost, "Measured by arbench; quality, speed and memory of a row are of the same settings.",
    )  # fmt: skip


def _measured_cell(metric: Metric | None, scale: float, members: Sequence[Result]) -> BoardCell:
    if metric is None or metric.value is None:
        failed = "; ".join(f"{each.task}: {each.outcome}: {each.reason}" for each in members if each.outcome != "ok")
        return BoardCell(title=(metric.reason if metric else "") or failed or "not measured under these settings")
    low, high = bounds(metric) or (None, None)
    limits = [None if each is None else each / scale for each in (low, high)]
    text, interval = number.with_interval(metric.value / scale, limits[0], limits[1])
    told = f"n = {metric.n:,}" if metric.n else ""
    parts = (told, covers(metric, members[0].kind), ", ".join(metric.flags), metric.how)
    title, apart = "; ".join(part for part in parts if part), spread_words(metric, scale)
    return BoardCell(text, metric.value, low, high, metric.n or None, interval, apart, spread_of(metric), title)


def _slug(*words: str) -> str:
    plain = "-".join(words).lower().replace("×", "x")
    return (
        "".join(letter if letter.isalnum() else "-" for letter in plain)
        .strip("-")
        .replace("---", "-")
        .replace("--", "-")
    )
