"""Reads a suite: a packaged name or a YAML file, with `--set` changes, errors naming file, line and a likely key."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from ..errors import ConfigError, UnknownName, closest
from .base import Frozen
from .suite import TASKS, Settings, Suite

Location = tuple[str | int, ...]


@dataclass(frozen=True)
class SuiteFile:
    """A suite and where each of its values came from ("file:line" or "--set"), by location."""

    suite: Suite
    path: str
    origins: dict[Location, str]


def names() -> list[str]:
    """Names of the packaged suites."""
    return sorted(
        item.name.removesuffix(".yaml") for item in files("arbench.suites").iterdir() if item.name.endswith(".yaml")
    )


def read(name_or_path: str, changes: Sequence[str] = ()) -> SuiteFile:
    """A packaged suite by name, or a file (a path with a slash or ending in .yaml), with `KEY=VALUE` changes."""
    if name_or_path.endswith((".yaml", ".yml")) or "/" in name_or_path:
        path = Path(name_or_path)
        if not path.is_file():
            raise ConfigError(f"no suite file at {name_or_path}", "", "arbench ls suites")
        text, origin = path.read_text(encoding="utf-8"), name_or_path
    else:
        if name_or_path not in names():
            raise UnknownName("suite", name_or_path, names(), "arbench ls suites, or give a path ending in .yaml")
        text = (files("arbench.suites") / f"{name_or_path}.yaml").read_text(encoding="utf-8")
        origin = f"{name_or_path}.yaml"
    return parse(text, origin, changes)


def parse(text: str, origin: str, changes: Sequence[str] = ()) -> SuiteFile:
    """The suite in `text`; `origin` is the file's name for messages."""
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        data = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{origin}:{mark.line + 1}" if mark else origin
        raise ConfigError(f"{where}: not valid YAML", str(getattr(error, "problem", error))) from error
    if not isinstance(data, dict):
        raise ConfigError(
            f"{origin}: a suite is a mapping with keys such as `suite` and `tasks`", f"found {data!r:.60}"
        )
    lines: dict[Location, str] = {}
    if node is not None:
        _positions(node, (), origin, lines)
    _unfold_tasks(data, lines, origin)
    for change in changes:
        _apply(data, change, lines)
    try:
        suite = Suite.model_validate(data)
    except ValidationError as error:
        raise _explain(error, lines, origin) from error
    return SuiteFile(suite, origin, lines)


def _positions(node: yaml.Node, location: Location, origin: str, lines: dict[Location, str]) -> None:
    lines[location] = f"{origin}:{node.start_mark.line + 1}"
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            _positions(value, (*location, key.value), origin, lines)
            lines[(*location, key.value)] = f"{origin}:{key.start_mark.line + 1}"
    elif isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            _positions(item, (*location, index), origin, lines)


def _unfold_tasks(data: dict[str, Any], lines: dict[Location, str], origin: str) -> None:
    """`- generate: {n: 10}` and `- generate` become `{task: generate, n: 10}`, positions included."""
    tasks = data.get("tasks")
    if not isinstance(tasks, list):
        return
    for index, item in enumerate(tasks):
        where = lines.get(("tasks", index), origin)
        name: Any = item if isinstance(item, str) else None
        values: Any = {}
        if isinstance(item, dict) and len(item) == 1:
            name, values = next(iter(item.items()))
        if name is None or not (values is None or isinstance(values, dict)):
            raise ConfigError(f"{where}: a task is written `- name: {{key: value}}`", f"found {item!r:.80}")
        if name not in TASKS:
            raise ConfigError(f"{where}: unknown task {name!r}", _suggest(str(name), TASKS))
        tasks[index] = {"task": name, **(values or {})}
        for location in [place for place in lines if place[:3] == ("tasks", index, name) and len(place) > 3]:
            lines["tasks", index, *location[3:]] = lines[location]


def _apply(data: dict[str, Any], change: str, lines: dict[Location, str]) -> None:
    """One `--set KEY=VALUE`: KEY is dotted; a task's name or `settings`/`sampling.GLOB` comes first."""
    key, equals, text = change.partition("=")
    if not equals or not key:
        raise ConfigError(f"--set {change}: write it as KEY=VALUE", "", "for instance --set generate.n=100")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"--set {change}: the value is not valid YAML", str(error)) from error
    parts = key.split(".")
    if parts[0] in TASKS:
        targets = [index for index, task in enumerate(data.get("tasks") or []) if task.get("task") == parts[0]]
        if not targets:
            raise ConfigError(
                f"--set {change}: the suite has no task {parts[0]!r}", "", "arbench show SUITE --resolved"
            )
        for index in targets:
            _put(data["tasks"][index], parts[1:], value, change)
            lines["tasks", index, *parts[1:]] = f"--set {change}"
        return
    known = [*Suite.model_fields, *TASKS]
    if parts[0] not in known:
        raise ConfigError(f"--set {change}: unknown key {parts[0]!r}", _suggest(parts[0], known))
    _put(data, parts, value, change)
    lines[tuple(parts)] = f"--set {change}"


def _put(target: dict[str, Any], parts: Sequence[str], value: Any, change: str) -> None:
    if not parts:
        raise ConfigError(f"--set {change}: name a key of it", "", "for instance --set generate.n=100")
    for part in parts[:-1]:
        target = target.setdefault(part, {})
        if not isinstance(target, dict):
            raise ConfigError(f"--set {change}: {part!r} has no keys below it")
    target[parts[-1]] = value


def _suggest(name: str, known: Any) -> str:
    close = closest(name, known)
    return f"did you mean {' or '.join(close)}?" if close else f"known: {', '.join(sorted(known))}"


def _fields(location: Location, data_task: str | None) -> list[str]:
    model: type[Frozen] = Suite
    if location[:1] == ("settings",):
        model = Settings
    elif location[:1] == ("tasks",) and data_task:
        model = TASKS[data_task]
    return [field for field in model.model_fields if field != "task"]


def _explain(error: ValidationError, lines: dict[Location, str], origin: str) -> ConfigError:
    """The first error as one message with its line; the others are counted."""
    problems = error.errors(include_url=False)
    # a mistyped key also leaves the right one missing: name the mistyped one
    first = min(problems, key=lambda problem: problem["type"] != "extra_forbidden")
    raw: Location = first["loc"]
    tagged = next((part for part in raw if isinstance(part, str) and part in TASKS), None)
    location: Location = tuple(part for index, part in enumerate(raw) if not (index == 2 and part in TASKS))
    place = location
    while place and place not in lines:
        place = place[:-1]
    where = lines.get(place, origin)
    key = location[-1] if location else ""
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    if first["type"] == "extra_forbidden":
        why = _suggest(str(key), _fields(location[:-1] or (), tagged if location[:1] == ("tasks",) else None))
        return ConfigError(f"{where}: unknown key {key!r}{more}", why, "arbench show SUITE --resolved lists every key")
    dotted = ".".join(str(part) for part in location)
    return ConfigError(f"{where}: {dotted}: {first['msg']}{more}", f"found {first.get('input')!r:.80}")
