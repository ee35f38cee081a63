"""`arbench verify`: whether the files of a run are what was written."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from arbench.errors import FAILED, OK, counted


def verify(folder: Path, json_output: bool) -> int:
    """Prints what is wrong in `folder` and what to do; exit code 1 where anything is, 0 where there are only notes."""
    from rich.text import Text

    from arbench.errors import printable
    from arbench.terminal import PlainConsole

    from ..run.verify import verify_folder

    found = verify_folder(folder)
    errors = sum(finding.kind == "error" for finding in found.findings)
    if json_output:
        print(json.dumps({"folder": str(folder), "errors": errors, **asdict(found)}, indent=1))
        return FAILED if errors else OK
    console = PlainConsole()
    for finding in found.findings:
        line = f"{finding.kind}: {finding.path}: {finding.what}"
        console.print(Text(printable(line)), soft_wrap=True)
        if finding.next:
            console.print(Text(f"  next: {printable(finding.next)}"), soft_wrap=True)
    counts = f"{counted(found.records, 'record')}, {counted(found.units, 'unit')}"
    counts += f" and {counted(found.results, 'result')}"
    verdict = counted(errors, "error") if errors else "all as it was written"
    console.print(Text(f"{folder}: {counts}: {verdict}"), soft_wrap=True)
    return FAILED if errors else OK
