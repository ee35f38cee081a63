"""`arbench show`: what a suite would run, with every value's origin."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from arbench.errors import counted


def show(
    suite: str,
    adapters: list[str],
    tasks: list[str],
    sets: list[str],
    weights: list[str],
    resolved: bool,
    json_output: bool,
) -> int:
    """Prints the cells of `suite`, their identities and cost; with `resolved` every value and where it is from."""
    from .. import registry
    from ..features.weight_files import parse_given
    from ..run.plan import make_plan
    from ..spec.suite_file import read

    suite_file = read(suite, sets, parse_given(weights, registry.cards()))
    plan = make_plan(suite_file, adapter_globs=adapters, task_names=tasks, must_run=False)
    cells = [
        {
            "task": planned.cell.task.task,
            "adapter": planned.cell.adapter,
            "swept": planned.cell.swept,
            "setting": planned.cell.setting,
            "kind": planned.cell.kind,
            "result_id": planned.cell.result_id,
            "settings_id": planned.cell.settings_id,
            "units": len(planned.units),
            "minutes": round(planned.minutes, 3),
            "gigabytes": round(planned.gigabytes, 3),
            "outcome": planned.outcome,
            "reason": planned.reason,
            "notes": list(planned.notes),
            "weights": {**planned.cell.weights_sha256, **planned.cell.features_sha256},
            "data": planned.data,
            "values": [
                {"name": name, "value": value, "origin": _origin(name, planned.origins)}
                for name, value in _values(planned.cell)
            ],
        }
        for planned in plan.cells
    ]
    given = suite_file.suite.sources
    document: dict[str, Any] = {
        "suite": suite_file.suite.suite,
        "needs": [
            {"name": name, "what": what, "source": given.get(name)} for name, what in suite_file.suite.needs.items()
        ],
        "path": suite_file.path,
        "device": plan.device,
        "machine": plan.machine,
        "minutes": round(plan.minutes, 3),
        "memory_gigabytes": round(plan.gigabytes, 3),
        "disk_gigabytes": round(plan.disk_bytes / 1e9, 3),
        "cells": cells,
    }
    if json_output:
        print(json.dumps(document, indent=1))
    else:
        _print(document, resolved)
    return 0


def _values(cell: Any) -> Iterator[tuple[str, Any]]:
    """Every resolved value by dotted name, nested settings unfolded."""
    parameters = {name: value for name, value in cell.task.plain().items() if name != "task"}
    yield from _flat("task", parameters)
    yield from _flat("settings", cell.settings.plain())
    if cell.sampling is not None:
        yield from _flat("sampling", cell.sampling.plain())


def _flat(prefix: str, values: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(f"{prefix}.{name}", value)
        else:
            yield f"{prefix}.{name}", value


def _origin(name: str, origins: Mapping[str, str]) -> str:
    """Of the value itself or of the nearest thing that holds it."""
    while name not in origins and "." in name:
        name = name.rpartition(".")[0]
    return origins.get(name, "default")


def _print(document: Mapping[str, Any], resolved: bool) -> None:
    from rich.text import Text

    from arbench.terminal import PlainConsole

    from ..run.display import duration
    from ..terminal import Column, print_table

    console = PlainConsole()
    several = any(cell["setting"] for cell in document["cells"])
    columns = [Column("task", whole=True), Column("adapter", keep=True), *([Column("setting")] if several else [])]
    columns += [
        Column("result", whole=True),
        *(Column(name, right=True, whole=True) for name in ("units", "time", "GB")),
    ]
    rows = []
    for cell in document["cells"]:
        cost = (
            ["", "", cell["outcome"]]
            if cell["outcome"]
            else [cell["units"], duration(60 * cell["minutes"]), cell["gigabytes"]]
        )
        row = [cell["task"], cell["adapter"], *([cell["setting"]] if several else []), cell["result_id"]]
        rows.append([*row, *(_short(value) for value in cost)])
    console.print(Text(f"{document['suite']} ({document['path']}) on {document['machine']}"), soft_wrap=True)
    print_table(console, columns, rows, rule=True)
    for line in (*_needs(document["needs"]), *_reasons(document["cells"])):
        console.print(Text(line), soft_wrap=True)
    for note in dict.fromkeys(note for cell in document["cells"] for note in cell["notes"]):
        console.print(Text(f"note: {note}"), soft_wrap=True)
    if resolved:
        for cell in document["cells"]:
            ids = f"({cell['result_id']}, {cell['settings_id']})"
            console.print(Text(f"\n{_label(cell)} {ids}"), soft_wrap=True)
            print_table(
                console, [Column("value"), Column("is", keep=True), Column("from")], _value_rows(cell), rule=True
            )
    console.print(
        Text(
            f"{counted(len(document['cells']), 'cell')}, about {duration(document['minutes'] * 60)},"
            f" {document['memory_gigabytes']:.1f} GB of memory and {document['disk_gigabytes']:.2f} GB of disk"
            " (a rough model of FLOPs and image sizes, scaled by what earlier runs here have taken)"
        ),
        soft_wrap=True,
    )


def _needs(needs: Sequence[Mapping[str, Any]]) -> list[str]:
    """A line for each thing that the user of the suite gives."""
    lines = []
    for need in needs:
        state = need["source"] or f"not given (--set sources.{need['name']}=PATH)"
        lines.append(f"needs {need['name']}, {state}: {need['what']}")
    return lines


def _reasons(cells: Sequence[Mapping[str, Any]]) -> list[str]:
    """Why cells will not run, each reason once, with the cells that it is about."""
    found: dict[tuple[str, str], list[str]] = {}
    for cell in cells:
        if cell["reason"]:
            found.setdefault((cell["outcome"], cell["reason"]), []).append(_label(cell))
    return [
        f"{outcome}: {labels[0] if len(labels) == 1 else f'{len(labels)} cells'}: {reason}"
        for (outcome, reason), labels in found.items()
    ]


def _label(cell: Mapping[str, Any]) -> str:
    return f"{cell['task']} {cell['adapter']}" + (f" ({cell['setting']})" if cell["setting"] else "")


def _short(value: Any) -> str:
    return f"{value:.1f}" if isinstance(value, float) else str(value)


def _value_rows(cell: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    rows = [(item["name"], json.dumps(item["value"]), item["origin"]) for item in cell["values"]]
    digests = {**cell["weights"], **cell["data"]}
    return rows + [(f"digest of {name}", digest[:16], "file") for name, digest in digests.items()]
