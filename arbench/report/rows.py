"""Rows: one for each adapter, settings and device. Quality, speed and memory of one row share a `settings_id`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

from ..spec.identity import canonical_json
from ..spec.result import Metric, Result
from ..spec.sampling import Guidance
from ..spec.task import tasks
from .columns import QUALITY, SCORE, Column, ColumnKey, column_of, columns_in, device

RowKey = tuple[str, str, str]
"""Adapter, settings_id, device."""
Item = TypeVar("Item")
DOT = " · "


def newest(items: Sequence[Item], result: Callable[[Item], Result]) -> tuple[list[Item], int]:
    """One item per result and device, the latest that went well, and how many are left out."""

    def rank(item: Item) -> tuple[bool, str]:
        return result(item).outcome == "ok", result(item).started

    chosen: dict[tuple[str, str], Item] = {}
    for item in items:
        key = (result(item).result_id, device(result(item)))
        if key not in chosen or rank(item) >= rank(chosen[key]):
            chosen[key] = item
    return list(chosen.values()), len(items) - len(chosen)


def rows(results: Iterable[Result]) -> dict[RowKey, list[Result]]:
    """The results of each row.

    What was refused before it started has seen no device, and the device that a score was computed on is not what its
    images come from: both go to the row of the same settings, if there is one.
    """
    known = list(results)
    bound = dict.fromkeys(_key(result) for result in known if result.task != SCORE and device(result))
    homes = {key[:2]: key for key in reversed(bound)}
    found: dict[RowKey, list[Result]] = {}
    for result in known:
        key = _key(result)
        if key not in bound:
            key = homes.get(key[:2], key)
        found.setdefault(key, []).append(result)
    return found


def _key(result: Result) -> RowKey:
    return result.adapter, result.settings_id, device(result)


def measured(members: Sequence[Result], column: Column) -> Metric | None:
    """The number of a row in a column: one with a value rather than a null, the latest of several."""
    found = [
        (metric.value is not None, result.started, metric)
        for result in members
        for metric in result.metrics
        if metric.name == column.name and column_of(result, metric).key == column.key
    ]
    return max(found, key=lambda item: item[:2])[2] if found else None


def numbers(members: Sequence[Result]) -> dict[ColumnKey, Metric]:
    """The numbers of a row by column: what `measured` finds for each, in one pass."""
    best: dict[ColumnKey, tuple[bool, str]] = {}
    found: dict[ColumnKey, Metric] = {}
    for result in members:
        for column, metric in columns_in(result):
            rank = metric.value is not None, result.started
            if column.key not in best or rank > best[column.key]:
                best[column.key], found[column.key] = rank, metric
    return found


def unguided(grouped: Mapping[RowKey, Sequence[Result]]) -> dict[RowKey, RowKey]:
    """Row -> the row that differs in nothing but that its guidance is off; itself for one without guidance."""
    plain: dict[str, RowKey] = {}
    for key, members in grouped.items():
        if (shared := _but_guidance(members)) and not _guided(members):
            plain.setdefault(shared, key)
    return {key: plain[shared] for key, members in grouped.items() if (shared := _but_guidance(members)) in plain}


def _but_guidance(members: Sequence[Result]) -> str:
    """All of a row's settings but guidance, "" for one without sampling."""
    first = next((result for result in members if result.sampling), None)
    if first is None or first.sampling is None:
        return ""
    sampling = first.sampling.model_copy(update={"guidance": Guidance()})
    return canonical_json([origin(members), sampling.plain()])


def _guided(members: Sequence[Result]) -> bool:
    return any(result.sampling is not None and result.sampling.guidance.on for result in members)


def with_unguided(columns: Sequence[Column], grouped: Mapping[RowKey, Sequence[Result]]) -> list[Column]:
    """After each main number of quality a column of it without guidance, if a row with guidance has such a fellow."""
    fellows = unguided(grouped)
    if all(key == fellow for key, fellow in fellows.items()):
        return list(columns)
    main = {pick.name for definition in tasks().values() if definition.group == QUALITY for pick in definition.summary}
    found = []
    for column in columns:
        found.append(column)
        wanted = column.group == QUALITY and column.shown and column.name in main
        if wanted and any(key != fellow and measured(grouped[fellow], column) for key, fellow in fellows.items()):
            found.append(replace(column, unguided=True))
    return found


def members_for(
    column: Column, key: RowKey, grouped: Mapping[RowKey, Sequence[Result]], fellows: Mapping[RowKey, RowKey]
) -> Sequence[Result]:
    """The results that hold a row's number in a column: its own, or those of its fellow without guidance."""
    if not column.unguided:
        return grouped[key]
    return grouped[fellows[key]] if key in fellows else ()


def origin(members: Sequence[Result]) -> str:
    """What rows of one adapter may share besides their sampling: load, weights of model and tokenizer, machine."""
    first = members[0]
    recorded = (result.provenance.weights for result in members if result.provenance)
    weights = {name: digest for each in recorded for name, digest in each.items() if _of_model(name, first.adapter)}
    return canonical_json([first.adapter, first.load, weights, device(first)])


def _of_model(name: str, adapter: str) -> bool:
    return name == adapter or name.startswith("tokenizers/")


def settings(members: Sequence[Result]) -> str:
    """How a row was run, short."""
    return next((describe(result) for result in members if result.sampling), describe(members[0]))


Key = tuple[str, str]
"""Adapter, settings_id."""


def described(results: Iterable[Result]) -> dict[Key, str]:
    """How each row was run, short, in words that no other settings of its adapter have."""
    members: dict[Key, list[Result]] = {}
    for result in results:
        members.setdefault((result.adapter, result.settings_id), []).append(result)
    found = {key: settings(own) for key, own in members.items()}
    alike: dict[tuple[str, str], list[Key]] = {}
    for key, words in found.items():
        alike.setdefault((key[0], words), []).append(key)
    for keys in (keys for keys in alike.values() if len(keys) > 1):
        details = {key: _details(members[key]) for key in keys}
        every = dict.fromkeys(name for each in details.values() for name in each)
        differing = [name for name in every if len({each.get(name) for each in details.values()}) > 1]
        told = {key: tuple(f"{name} {details[key].get(name, 'none')}" for name in differing) for key in keys}
        alone = Counter(told.values())
        for key in keys:
            clear = alone[told[key]] == 1
            found[key] = " · ".join(part for part in (found[key], *told[key], "" if clear else key[1]) if part)
    return found


def _details(members: Sequence[Result]) -> dict[str, str]:
    """What settings consist of besides what `describe` tells: weight files by digest, and every value of sampling."""
    found: dict[str, str] = {}
    for result in members:
        for name, digest in (result.provenance.weights if result.provenance else {}).items():
            if name == result.adapter:
                found["weights"] = _short(digest)
            elif name.startswith("tokenizers/"):
                found["tokenizer's weights"] = _short(digest)
        for name, value in (result.sampling.plain() if result.sampling else {}).items():
            values = value if isinstance(value, dict) else {"": value}
            found |= {f"{name} {part}".strip().replace("_", " "): str(one) for part, one in values.items()}
    return found


def describe(result: Result) -> str:
    """Load and sampling settings that are not the plain default, short: "bfloat16 · guidance 2 · top-k 100"."""
    parts = [str(result.load.get("dtype", ""))]
    if result.load.get("init") == "random":
        parts.append("random weights")
    if result.load.get("compile"):
        parts.append("compiled")
    if result.load.get("graph", "auto") != "auto":
        parts.append("CUDA graphs" if result.load["graph"] == "on" else "no CUDA graphs")
    sampling = result.sampling
    if sampling:
        guidance = sampling.guidance
        if guidance.on:
            ramp = "" if guidance.schedule == "constant" else f" {guidance.schedule.replace('_', ' ')}"
            parts.append(f"guidance {guidance.scale:g}{ramp}")
        parts.append(f"temperature {sampling.temperature:g}" if sampling.temperature != 1 else "")
        knobs = {"top-k": sampling.top_k, "top-p": sampling.top_p, "steps": sampling.steps}
        knobs |= {"inner steps": sampling.inner_steps, **sampling.extra}
        parts += [f"{name} {value}" for name, value in knobs.items() if value is not None]
        parts.append("" if sampling.order == "native" else f"{sampling.order} order")
    return DOT.join(part for part in parts if part)


def names(results: Iterable[Result]) -> dict[Key, str]:
    """Names for plots and pictures by (adapter, settings_id): short where that is clear among adapters of a kind, with
    what differs in the settings where an adapter has several."""
    everything = list(results)
    short = short_names(everything)
    return {
        key: f"{short[key[0]]} ({inner})" if inner else short[key[0]]
        for key, inner in differing_settings(everything).items()
    }


def differing_settings(results: Iterable[Result]) -> dict[Key, str]:
    """What differs in the settings of an adapter that has several: "guidance 2"; "" where it has one."""
    settings_of: dict[str, list[list[str]]] = {}
    told = {key: words.split(DOT) for key, words in described(results).items()}
    for (adapter, _), words in told.items():
        settings_of.setdefault(adapter, []).append(words)
    parts = {adapter: Counter(part for words in own for part in set(words)) for adapter, own in settings_of.items()}
    found = {}
    for key, words in told.items():
        own = settings_of[key[0]]
        differing = [part for part in words if parts[key[0]][part] < len(own)]
        found[key] = DOT.join(differing or _without(words, own) or words) if len(own) > 1 else ""
    return found


def _without(told: Sequence[str], others: Iterable[Sequence[str]]) -> list[str]:
    """What plainer settings lack that others have: "no guidance", "default temperature", "not compiled"."""
    lacking = dict.fromkeys(part for words in others for part in words if part not in told)
    found = []
    for part in lacking:
        name, _, value = part.rpartition(" ")
        if part.startswith("guidance "):
            found.append("no guidance")
        else:
            found.append(f"default {name}" if value.replace(".", "", 1).isdigit() else f"not {part}")
    return list(dict.fromkeys(found))


def short_names(results: Iterable[Result]) -> dict[str, str]:
    """Adapter -> its name without the family, where that is clear among adapters of a kind."""
    kinds = {result.adapter: result.kind for result in results}
    tails = Counter((kind, adapter.rsplit("/", 1)[-1]) for adapter, kind in kinds.items())
    return {
        adapter: adapter.rsplit("/", 1)[-1] if tails[kind, adapter.rsplit("/", 1)[-1]] == 1 else adapter
        for adapter, kind in kinds.items()
    }


def _short(digest: str) -> str:
    """The first digits of a weight file's digest, with the part of the file where one was loaded."""
    sha256, sign, part = digest.partition("#")
    return f"{sha256[:8]}{sign}{part}"
