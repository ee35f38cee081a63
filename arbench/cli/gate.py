"""`arbench gate`: whether a night's run is as good as its baseline."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from arbench.compare import baseline as baselines
from arbench.compare import gate_output
from arbench.compare.gate import Confirm, gate
from arbench.compare.in_turn import Build, in_turn
from arbench.files import write_atomic
from arbench.terminal import Column, PlainConsole, print_table

HINT = "name another file"


def run_gate(
    folder: Path,
    name: str,
    store: Path,
    good: str | None,
    junit: Path | None,
    markdown: Path | None,
    json_output: bool,
) -> int:
    """1 only for a regression, 3 where something of the baseline was not measured or nothing was gated."""
    known = baselines.read(store, name)
    found = gate(folder, known, _confirm(good, folder) if good else None)
    if junit is not None:
        write_atomic(junit, gate_output.junit(found), HINT)
    if markdown is not None:
        write_atomic(markdown, gate_output.markdown(found).encode(), HINT)
    if json_output:
        sys.stdout.write(json.dumps(gate_output.plain(found), indent=2) + "\n")
        return found.exit_code
    console = PlainConsole()
    loud = [each for each in found.numbers if each.verdict not in gate_output.QUIET]
    if loud:
        heads = ("verdict", "model", "number", "baseline", "tonight", "change", "why")
        columns = [Column(head, right=head in ("baseline", "tonight", "change")) for head in heads]
        print_table(console, columns, [[*gate_output.row(each), each.why] for each in loud], rule=True)
    console.print(gate_output.headline(found), soft_wrap=True)
    suspects = [each for each in found.numbers if each.verdict == "SUSPECT"]
    if suspects and not good:
        console.print(
            "suspects are decided by both builds run in turn: --good PYTHON of the last good one", soft_wrap=True
        )
    return found.exit_code


def _confirm(good: str, folder: Path) -> Confirm:
    """Measures the last good build and this one in turn; the suite of both is tonight's."""
    builds = Build(good, folder), Build(sys.executable, folder)
    console = PlainConsole(stderr=True)

    def tell(text: str) -> None:
        console.print(text, soft_wrap=True)

    return lambda adapter, tasks: in_turn(builds[0].measure, builds[1].measure, adapter, tasks, tell)
