"""Reads a suite: a packaged name or a YAML file, with `--set` changes, errors naming file, line and a likely key."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from .. import offered
from ..errors import ConfigError, UnknownName, closest
from ..json_text import writable
from ..limits import refuse_header
from .base import Frozen
from .dotted import key_parts
from .problem import said, shown
from .suite import Settings, Suite
from .task import GROUP, TaskSpec, tasks
from .yaml_text import YamlError, parse_yaml

Location = tuple[str | int, ...]


@dataclass(frozen=True)
class SuiteFile:
    """A suite and where each of its values came from ("file:line" or "--set"), by location."""

    suite: Suite
    path: str
    origins: dict[Location, str]


def where(suite_file: SuiteFile, location: Location) -> str:
    """ "file:line" (or "--set ...") of the value at `location`, or of the closest thing around it."""
    place = location
    while place and place not in suite_file.origins:
        place = place[:-1]
    return suite_file.origins.get(place, suite_file.path)


def names() -> list[str]:
    """Names of the packaged suites."""
    return sorted(
        item.name.removesuffix(".yaml") for item in files("arbench.suites").iterdir() if item.name.endswith(".yaml")
    )


def read(name_or_path: str, changes: Sequence[str] = (), weights: Mapping[str, str] | None = None) -> SuiteFile:
    """A packaged suite by name, or a file (a path with a slash or ending in .yaml), with `KEY=VALUE` changes.

    `weights` (`--weights`) are added to the suite's own, or replace them.
    """
    return _weighted(parse(*_text(name_or_path), changes), weights or {})


def of_data(
    data: Mapping[str, Any], changes: Sequence[str] = (), weights: Mapping[str, str] | None = None
) -> SuiteFile:
    """A suite as data, what `yaml.safe_load` makes of a file, with changes and weights as for `read`."""
    return _weighted(_built(deepcopy(dict(data)), {}, "the suite", changes), weights or {})


def _weighted(found: SuiteFile, weights: Mapping[str, str]) -> SuiteFile:
    for name, path in weights.items():
        if writable(path) != path:
            why = "run.json, which names them for `arbench resume`, is text"
            raise ConfigError(f"--weights {name}={path}: not UTF-8", why, "rename the file, or link to it")
    suite = found.suite.model_copy(update={"weights": {**found.suite.weights, **weights}})
    origins: dict[Location, str] = {("weights", name): f"--weights {name}={path}" for name, path in weights.items()}
    return SuiteFile(suite, found.path, {**found.origins, **origins})


def _text(name_or_path: str) -> tuple[str, str]:
    """The text of a suite, and the name of its file for messages."""
    if name_or_path.endswith((".yaml", ".yml")) or "/" in name_or_path:
        path = Path(name_or_path)
        if not path.is_file():
            raise ConfigError(f"no suite file at {name_or_path}", "", "arbench ls suites")
        text, origin = _content(path), name_or_path
    else:
        if name_or_path not in names():
            raise UnknownName("suite", name_or_path, names(), "arbench ls suites, or give a path ending in .yaml")
        text = (files("arbench.suites") / f"{name_or_path}.yaml").read_text(encoding="utf-8")
        origin = f"{name_or_path}.yaml"
    return text, origin


def _content(path: Path) -> str:
    try:
        refuse_header(f"the suite {path}", path.stat().st_size)
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise ConfigError(
            f"{path}:{line}: not UTF-8", f"byte {error.object[error.start]:#04x} is none", "save the suite as UTF-8"
        ) from error
    except OSError as error:
        raise ConfigError(f"cannot read {path}", error.strerror or str(error), "check its permissions") from error


def parse(text: str, origin: str, changes: Sequence[str] = ()) -> SuiteFile:
    """The suite in `text`; `origin` is the file's name for messages."""
    try:
        data, node = parse_yaml(text)
    except YamlError as error:
        where = f"{origin}:{error.line}" if error.line else origin
        raise ConfigError(f"{where}: not valid YAML, or not that of a suite", str(error)) from error
    if not isinstance(data, dict):
        raise ConfigError(
            f"{origin}: a suite is a mapping with keys such as `suite` and `tasks`", f"found {shown(data)}"
        )
    lines: dict[Location, str] = {}
    if node is not None:
        _positions(node, (), origin, lines)
    return _built(data, lines, origin, changes)


def _built(data: dict[str, Any], lines: dict[Location, str], origin: str, changes: Sequence[str]) -> SuiteFile:
    """The suite of what a file holds, whose values stand at `lines`."""
    _unfold_tasks(data, lines, origin)
    for change in changes:
        _apply(data, change, lines)
        if key_parts(change.partition("=")[0]) == ("tasks",):
            _unfold_tasks(data, lines, f"--set {change}")
    _supply(data, lines)
    try:
        suite = Suite.model_validate({**data, "tasks": _specs(data, lines, origin)})
    except ValidationError as error:
        raise _explain(error.errors(include_url=False), lines, origin, Suite) from error
    return SuiteFile(suite, origin, lines)


def _supply(data: dict[str, Any], lines: dict[Location, str]) -> None:
    """Puts what is given in `sources` in place of its name in the tasks."""
    given, specs = data.get("sources"), data.get("tasks")
    if not isinstance(given, dict) or not isinstance(specs, list):
        return
    for index, values in enumerate(specs):
        for field, value in values.items():
            if field != "task" and isinstance(value, str) and value in given:
                values[field] = given[value]
                lines["tasks", index, field] = lines.get(("sources", value), lines.get(("sources",), ""))


def _specs(data: dict[str, Any], lines: dict[Location, str], origin: str) -> Any:
    """The tasks, each checked by its own definition; anything that is not a list as it is, for the suite to refuse."""
    given = data.get("tasks")
    if not isinstance(given, list):
        return given
    found: list[TaskSpec] = []
    for index, values in enumerate(given):
        model = tasks()[values["task"]].spec
        try:
            found.append(model.model_validate(values))
        except ValidationError as error:
            problems = error.errors(include_url=False)
            for problem in problems:
                problem["loc"] = ("tasks", index, *problem["loc"])
            raise _explain(problems, lines, origin, model) from error
    return found


def _positions(node: yaml.Node, location: Location, origin: str, lines: dict[Location, str]) -> None:
    lines[location] = f"{origin}:{node.start_mark.line + 1}"
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue
            _positions(value, (*location, key.value), origin, lines)
            lines[(*location, key.value)] = f"{origin}:{key.start_mark.line + 1}"
    elif isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            _positions(item, (*location, index), origin, lines)


def _unfold_tasks(data: dict[str, Any], lines: dict[Location, str], origin: str) -> None:
    """`- generate: {n: 10}` and `- generate` become `{task: generate, n: 10}`, positions included."""
    given = data.get("tasks")
    if not isinstance(given, list):
        return
    for index, item in enumerate(given):
        where = lines.get(("tasks", index), origin)
        name: Any = item if isinstance(item, str) else None
        values: Any = {}
        if isinstance(item, dict) and len(item) == 1:
            name, values = next(iter(item.items()))
        if name is None or not (values is None or isinstance(values, dict)):
            raise ConfigError(f"{where}: a task is written `- name: {{key: value}}`", f"found {shown(item)}")
        if not isinstance(name, str) or name not in tasks():
            hint = offered.hint(GROUP, "")
            raise ConfigError(f"{where}: unknown task {name!r}", _suggest(str(name), tasks()), hint)
        given[index] = {"task": name, **(values or {})}
        for location in [place for place in lines if place[:3] == ("tasks", index, name) and len(place) > 3]:
            lines["tasks", index, *location[3:]] = lines[location]


def _apply(data: dict[str, Any], change: str, lines: dict[Location, str]) -> None:
    """One `--set KEY=VALUE`: KEY is dotted, `generate.n` or `sampling."GLOB".top_k`; a field alone, such as `n` or
    `init`, is that of the settings, or of every task that has it."""
    key, equals, text = change.partition("=")
    if not equals or not key:
        raise ConfigError(f"--set {change}: write it as KEY=VALUE", "", "for instance --set generate.n=100")
    try:
        value, _ = parse_yaml(text)
    except YamlError as error:
        raise ConfigError(f"--set {change}: the value is not valid YAML", str(error)) from error
    try:
        parts = key_parts(key)
    except ValueError as error:
        raise ConfigError(
            f"--set {change}: not a key: {error}",
            "a part with dots in it is quoted",
            "for instance --set 'sampling.\"raster/*\".top_k=100'",
        ) from error
    if parts[0] in tasks():
        targets = [index for index, task in enumerate(_tasks_in(data, change)) if task["task"] == parts[0]]
        if not targets:
            raise ConfigError(
                f"--set {change}: the suite has no task {parts[0]!r}", "", "arbench show SUITE --resolved"
            )
        for index in targets:
            _put(data["tasks"][index], parts[1:], value, change)
            _mark(lines, ("tasks", index, *parts[1:]), value, f"--set {change}")
        return
    places = _places(data, parts, change)
    if not places:
        fields = (name for task in _tasks_in(data, change) for name in tasks()[task["task"]].spec.model_fields)
        known = {*Suite.model_fields, *tasks(), *Settings.model_fields, *fields} - {"task"}
        raise ConfigError(f"--set {change}: unknown key {parts[0]!r}", _suggest(parts[0], known))
    for place in places:
        _put(data, place, value, change)
        for task in _tasks_in(data, change) if place[0] == "tasks" and len(place) > 1 else ():
            if not isinstance(task, dict) or not isinstance(task.get("task"), str) or task["task"] not in tasks():
                raise ConfigError(
                    f"--set {change}: that leaves no task there",
                    f"found {shown(task)}",
                    "name a field, as generate.n",
                )
        _mark(lines, place, value, f"--set {change}")


def _tasks_in(data: dict[str, Any], change: str) -> list[dict[str, Any]]:
    """The tasks, each with its name. Raises `ConfigError` if they are not a list."""
    given = data.get("tasks") or []
    if not isinstance(given, list):
        raise ConfigError(
            f"--set {change}: the suite's tasks are not a list",
            f"found {shown(given)}",
            "repair `tasks` in the suite",
        )
    return given


def _places(data: dict[str, Any], parts: Sequence[str], change: str) -> list[tuple[Any, ...]]:
    """Where a key is that no task's name begins: in the suite, in its settings, or in every task that has it."""
    if parts[0] in Suite.model_fields:
        return [tuple(parts)]
    if parts[0] in Settings.model_fields:
        return [("settings", *parts)]
    return [
        ("tasks", index, *parts)
        for index, task in enumerate(_tasks_in(data, change))
        if parts[0] in tasks()[task["task"]].spec.model_fields and parts[0] != "task"
    ]


def _mark(lines: dict[Location, str], location: Location, value: Any, origin: str) -> None:
    """Everything in `value`, now at `location`, comes from `origin`; what was there before is gone."""
    for place in [place for place in lines if place[: len(location)] == location]:
        del lines[place]
    for length in range(1, len(location)):
        lines.setdefault(location[:length], origin)
    lines[location] = origin
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in children:
        _mark(lines, (*location, key), child, origin)


def _put(target: Any, parts: Sequence[Any], value: Any, change: str) -> None:
    if not parts:
        raise ConfigError(f"--set {change}: name a key of it", "", "for instance --set generate.n=100")
    *above, last = parts
    for part in above:
        target = target.setdefault(part, {}) if isinstance(target, dict) else target[_place(target, part, change)]
        if isinstance(target, list) and not isinstance(parts[parts.index(part) + 1], int):
            raise ConfigError(f"--set {change}: {part!r} is a list, which has no keys", "", "change it as a whole")
        if not isinstance(target, dict | list):
            raise ConfigError(f"--set {change}: {part!r} has no keys below it", f"it is {shown(target)}")
    target[last if isinstance(target, dict) else _place(target, last, change)] = value


def _place(target: list[Any], part: Any, change: str) -> int:
    """The item of a list that a part of a key names."""
    place = part if isinstance(part, int) else -1
    if not 0 <= place < len(target):
        raise ConfigError(f"--set {change}: {part!r} is not an item of the list", f"it has {len(target)}, from 0")
    return place


def _suggest(name: str, known: Any) -> str:
    close = closest(name, known)
    return f"did you mean {' or '.join(close)}?" if close else f"known: {', '.join(sorted(known))}"


def _explain(problems: Sequence[Any], lines: dict[Location, str], origin: str, model: type[Frozen]) -> ConfigError:
    """The first of pydantic's errors as one message with its line; the others are counted."""
    # a mistyped key also leaves the right one missing: name the mistyped one
    first = min(problems, key=lambda problem: problem["type"] != "extra_forbidden")
    location: Location = tuple(first["loc"])
    place = location
    while place and place not in lines:
        place = place[:-1]
    where = lines.get(place, origin)
    key = location[-1] if location else ""
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    if first["type"] == "extra_forbidden":
        known = Settings if location[:1] == ("settings",) else model
        why = _suggest(str(key), [field for field in known.model_fields if field != "task"])
        return ConfigError(f"{where}: unknown key {key!r}{more}", why, "arbench show SUITE --resolved lists every key")
    dotted = ".".join(str(part) for part in location if part != "[key]")
    what = said(first)
    if first["type"] == "value_error" and isinstance(first.get("input"), dict):  # a rule between keys, which names them
        where = lines.get((*location, what.partition(":")[0]), where)
        return ConfigError(f"{where}: {dotted}: {what}{more}" if dotted else f"{where}: {what}{more}")
    if first["type"] == "missing":
        return ConfigError(f"{where}: {dotted}: {what}{more}", "", "arbench show SUITE --resolved lists every key")
    return ConfigError(f"{where}: {dotted}: {what}{more}", f"found {shown(first.get('input'))}")
