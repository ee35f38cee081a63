"""`arbench parity`: replay recordings of official code and print a line for each output of each probe."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from rich.text import Text

from arbench.errors import FAILED, OK, ArbenchError, UsageError

if TYPE_CHECKING:
    from rich.console import Console

    from arbench.parity import Golden, Verdict


def parity(goldens: list[Path], json_output: bool = False) -> int:
    """Replay each golden folder; exit code 0 if every output agrees, 1 if one does not or a system is unknown."""
    from arbench.terminal import PlainConsole

    if not goldens:
        raise UsageError("no golden given", "", "arbench parity FOLDER...")
    from arbench.parity import TOLERANCE, load_golden, replayer_path

    console = PlainConsole(stderr=json_output)
    beside = [path for path in goldens if path.is_file()]  # a README, as a glob of folders gives it too
    if len(beside) < len(goldens):
        goldens = [path for path in goldens if path not in beside]
        for path in beside:
            console.print(Text(f"note: {path} is a file, not a recording: passed over"), soft_wrap=True)
    # what is broken is reported before the first replay, what nobody here can replay after the last
    known: list[Golden] = []
    unknown: dict[str, ArbenchError] = {}
    for golden in [load_golden(folder) for folder in goldens]:
        try:
            replayer_path(golden)
        except ArbenchError as error:
            unknown[golden.name] = error
        else:
            known.append(golden)
    if not known:
        raise next(iter(unknown.values()))
    verdicts = _replay(known, console, quiet=json_output)
    passed = sum(verdict.ok for verdict in verdicts)
    fine = passed == len(verdicts) and not unknown
    if json_output:
        document = {
            "ok": fine,
            "passed": passed,
            "outputs": len(verdicts),
            "tolerance": TOLERANCE,
            "verdicts": [asdict(verdict) for verdict in verdicts],
            "unknown": {name: why.what for name, why in unknown.items()},
        }
        sys.stdout.write(json.dumps(document, indent=2, allow_nan=False) + "\n")
    else:
        style = "green" if passed == len(verdicts) else "red"
        agree = f"{passed} of {len(verdicts)} outputs agree"
        console.print(Text.assemble((agree, style), f" (goldens: {len(known)})"))
        for name, refused in unknown.items():
            console.print(Text.assemble((f"not replayed: {name}", "red"), f" ({refused.what})"), soft_wrap=True)
    return OK if fine else FAILED


def _replay(goldens: list[Golden], console: Console, *, quiet: bool) -> list[Verdict]:
    from arbench.parity import replay_golden

    width = max(len(golden.name) for golden in goldens)
    verdicts = []
    for golden in goldens:
        for verdict in replay_golden(golden):
            verdicts.append(verdict)
            if not quiet:
                console.print(_line(verdict, width), soft_wrap=True)
    return verdicts


def _line(verdict: Verdict, width: int) -> Text:
    error = "-" if verdict.error is None else f"{verdict.error:.2e}"
    mark = ("ok", "green") if verdict.ok else ("FAIL", "red")
    note = f"  {verdict.note}" if verdict.note else ""
    cells = f"{verdict.golden:{width}}  {verdict.probe:16} {verdict.output:8} {error:>9}"
    return Text.assemble(cells, "  ", mark, note)
