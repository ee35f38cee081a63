"""`arbench doctor`: what this machine has for runs and timings, and what to do about what it lacks."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from arbench.errors import FAILED, OK, counted

STYLES = {"ok": "green", "warn": "yellow", "fail": "red"}


def doctor(json_output: bool = False) -> int:
    """Prints a row for each finding; exit code 1 if one is a failure."""
    from arbench.run.doctor import examine

    findings = examine(Path("runs"))
    failed = sum(each.state == "fail" for each in findings)
    if json_output:
        fit = not any(each.spoils for each in findings)
        print(
            json.dumps(
                {"ok": not failed, "fit_to_measure": fit, "findings": [asdict(each) for each in findings]}, indent=1
            )
        )
        return FAILED if failed else OK
    from rich.console import Console
    from rich.text import Text

    from arbench.terminal import Column, print_table

    console = Console(highlight=False, markup=False)
    columns = [Column("check", whole=True), Column("state", whole=True), Column("what"), Column("next")]
    rows: list[list[str | Text]] = [
        [each.check, Text(each.state, style=STYLES[each.state]), each.what, each.next] for each in findings
    ]
    print_table(console, columns, rows)
    warned = sum(each.state == "warn" for each in findings)
    console.print(f"{counted(failed, 'failure')}, {counted(warned, 'warning')}", soft_wrap=True)
    if spoilt := [each.check for each in findings if each.spoils]:
        console.print(f"timings taken now would be flagged: {', '.join(dict.fromkeys(spoilt))}", soft_wrap=True)
    return FAILED if failed else OK
