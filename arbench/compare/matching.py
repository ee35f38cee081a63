"""Which results of two folders belong together, and every setting in which they differ."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..report.columns import Column, column_of
from ..report.folders import Entry, RunFolder
from ..report.repeats import entries_together
from ..report.rows import RowKey, differing_settings, newest, rows
from ..spec.result import Metric, MetricKey, Result

SOFTWARE = ("arbench", "python", "platform")


@dataclass(frozen=True)
class Setting:
    """One value that is not the same in both. `protocol`: the numbers of both do not compare under it."""

    name: str
    old: str
    new: str
    protocol: bool = False

    @property
    def words(self) -> str:
        return f"{self.name}: {self.old} -> {self.new}"


@dataclass(frozen=True)
class Pair:
    """The results of one model in both folders. Its `name` is the model's, or both models' where they differ."""

    name: str
    old: tuple[Entry, ...]
    new: tuple[Entry, ...]
    row: RowKey
    """Of the new side."""


@dataclass(frozen=True)
class Numbers:
    """One number in both: `old` and `new` are results and metrics, None where that side has none."""

    column: Column
    old: tuple[Entry, Metric] | None
    new: tuple[Entry, Metric] | None
    differing: tuple[Setting, ...] = ()
    """Of its protocol."""


def pairs_of(old: RunFolder, new: RunFolder) -> tuple[list[Pair], list[str]]:
    """Rows that belong together, and in words those of which the other folder has none.

    First those of one adapter and one `settings_id`; then of one adapter, if it has one row left in each; then the
    only ones of their kind that are left, which are two models, or images and a model.
    """
    left, right = _rows(old), _rows(new)
    differing = differing_settings(entry.result for run in (old, new) for entry in run.entries)
    found: list[Pair] = []

    def title(key: RowKey) -> str:
        return f"{key[0]} ({differing[key[:2]]})" if differing[key[:2]] else key[0]

    def take(first: RowKey, second: RowKey) -> None:
        name = first[0] if first[0] == second[0] else f"{first[0]} -> {second[0]}"
        found.append(Pair(name, left.pop(first), right.pop(second), second))

    def join(mark: Callable[[RowKey], tuple[str, ...]]) -> None:
        """The rows of one kind of which each side has exactly one under this mark."""
        marks = [{(*mark(key), own[key][0].result.kind): key for key in own} for own in (left, right)]
        counts = [Counter((*mark(key), own[key][0].result.kind) for key in own) for own in (left, right)]
        for each in [each for each in marks[0] if counts[0][each] == counts[1][each] == 1]:
            take(marks[0][each], marks[1][each])

    join(lambda key: key)
    join(lambda key: key[:2])
    join(lambda key: key[:1])
    join(lambda key: ())
    if len(left) == len(right) == 1:  # images of unknown origin stand for any model's
        one, two = next(iter(left)), next(iter(right))
        if "images" in (left[one][0].result.kind, right[two][0].result.kind):
            take(one, two)
    alone = [f"{title(key)}: only in the first" for key in left]
    return found, alone + [f"{title(key)}: only in the second" for key in right]


def _rows(run: RunFolder) -> dict[RowKey, tuple[Entry, ...]]:
    entries, _ = newest(run.entries, lambda entry: entry.result)
    entries = entries_together(entries)
    places = {id(entry.result): entry for entry in entries}
    return {
        key: tuple(places[id(result)] for result in members)
        for key, members in rows(entry.result for entry in entries).items()
    }


def numbers_of(pair: Pair) -> list[Numbers]:
    """Every number of either side, in the order of the first.

    Those of one protocol together, then those of one key, then those that only their references tell apart.
    """
    left, right = _numbers(pair.old), _numbers(pair.new)
    found = [Numbers(left[key][0], left[key][1:], right.pop(key)[1:]) for key in left if key in right]
    matched = {number.column.key for number in found}
    rest = {key: value for key, value in left.items() if key not in matched}
    for mark in (_of_any_protocol, _of_any_reference):
        counts = [Counter(map(mark, keys)) for keys in (rest, right)]
        theirs = {mark(key): key for key in right}
        for key in [key for key in rest if counts[0][mark(key)] == counts[1][mark(key)] == 1]:
            column, entry, metric = rest.pop(key)
            other, its_entry, its_metric = right.pop(theirs[mark(key)])
            differing = (*_protocol(column, other), *_references(metric, its_metric))
            found.append(Numbers(column, (entry, metric), (its_entry, its_metric), differing))
    found += [Numbers(column, (entry, metric), None) for column, entry, metric in rest.values()]
    found += [Numbers(column, None, (entry, metric)) for column, entry, metric in right.values()]
    order = {key: place for place, key in enumerate([*left, *right])}
    return sorted(found, key=lambda number: order.get(number.column.key, len(order)))


ColumnKey = tuple[str, MetricKey, str, str]


def _of_any_protocol(key: ColumnKey) -> tuple[object, ...]:
    return key[:3]


def _of_any_reference(key: ColumnKey) -> tuple[object, ...]:
    return key[0], key[1]._replace(reference=""), key[2]


def _references(old: Metric, new: Metric) -> Iterator[Setting]:
    """The references of two numbers, if they are not the same."""
    if old.key.reference != new.key.reference:
        names = [f"{one.name} {one.digest[:8]}".strip() if one else None for one in (old.reference, new.reference)]
        yield Setting("reference", _shown(names[0]), _shown(names[1]), protocol=True)


def _numbers(entries: Sequence[Entry]) -> dict[ColumnKey, tuple[Column, Entry, Metric]]:
    found: dict[ColumnKey, tuple[Column, Entry, Metric]] = {}
    for entry in entries:
        for metric in entry.result.metrics:
            column = column_of(entry.result, metric)
            known = found.get(column.key)
            if known is None or (known[2].value is None and metric.value is not None):
                found[column.key] = column, entry, metric
    return found


def _protocol(old: Column, new: Column) -> Iterator[Setting]:
    """In which values of their protocol two columns differ; another seed is another draw, and no other protocol."""
    one, two = json.loads(old.protocol), json.loads(new.protocol)
    for name in sorted({*one, *two}):
        if one.get(name) != two.get(name):
            yield Setting(name, _shown(one.get(name)), _shown(two.get(name)), protocol=name != "seed")


def settings_of(pair: Pair) -> list[Setting]:
    """Every setting that differs, each once: of model, weights, sampling, loading, data, software and machine.

    Protocols of single numbers are in `Numbers.differing`.
    """
    old, new = _facts(pair.old), _facts(pair.new)
    return [
        Setting(name, _shown(old.get(name)), _shown(new.get(name)))
        for name in dict.fromkeys([*old, *new])
        if old.get(name) != new.get(name)
    ]


def _facts(entries: Sequence[Entry]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for entry in entries:
        result = entry.result
        found["adapter"] = result.adapter
        found |= {
            f"sampling.{name}": value for name, value in (result.sampling.flat() if result.sampling else {}).items()
        }
        found |= {name: value for name, value in result.load.items() if name not in ("keep_images", "device", "seeds")}
        found |= _recorded(result)
    return found


def _recorded(result: Result) -> dict[str, Any]:
    known = result.provenance
    if known is None:
        return {}
    plain = known.model_dump()
    found = {name: plain[name] for name in SOFTWARE} | {"git": _commit(known.git)}
    found |= {"device": known.device, "threads": known.threads}
    found |= {f"package {name}": version for name, version in known.packages.items()}
    found |= {f"weights of {_role(name, result)}": digest[:12] for name, digest in known.weights.items()}
    return found | {f"data {name}": digest[:12] for name, digest in known.data.items()}


def _commit(git: str) -> str:
    commit, sign, rest = git.partition("-")
    return f"{commit[:12]}{sign}{rest}"


def _role(name: str, result: Result) -> str:
    """The adapter's own weights have one name, whatever it is called."""
    return "the model" if name == result.adapter else name


def _shown(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_shown(each)}" for name, each in value.items()) or "none"
    return f"{value:g}" if isinstance(value, float) else str(value)
