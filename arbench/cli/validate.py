"""`arbench validate`: whether results may stand on a leaderboard."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from arbench.errors import FAILED, OK, counted
from arbench.terminal import PlainConsole


def validate(folders: Sequence[Path], json_output: bool) -> int:
    """1 where a result is damaged or lacks what its numbers need."""
    from arbench.report.page import cards
    from arbench.report.series import runs_in
    from arbench.report.validate import findings

    known, places = cards(), runs_in(folders)
    found = {str(folder): findings(folder, known) for folder in places}
    failed = any(each.kind == "error" for own in found.values() for each in own)
    if json_output:
        document = {folder: [asdict(each) for each in own] for folder, own in found.items()}
        sys.stdout.write(json.dumps(document, indent=2) + "\n")
        return FAILED if failed else OK
    console = PlainConsole()
    for folder, own in found.items():
        errors = sum(each.kind == "error" for each in own)
        told = counted(errors, "error") if errors else "valid"
        console.print(f"{folder}: {told}, {counted(len(own) - errors, 'note')}", soft_wrap=True)
        for each in own:
            hint = f" ({each.hint})" if each.hint else ""
            console.print(f"  {each.kind}: {each.where}: {each.what}{hint}", soft_wrap=True)
    return FAILED if failed else OK
