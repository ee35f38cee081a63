"""`arbench baseline`: good runs that later ones are held against."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from arbench.cli.places import whole
from arbench.compare import baseline as baselines
from arbench.compare.baseline import Baseline
from arbench.compare.calibration import noises
from arbench.compare.gate import timings
from arbench.compare.in_turn import Build
from arbench.errors import OK, UnknownName, UsageError, counted
from arbench.report.series import settings_told
from arbench.terminal import Column, PlainConsole, print_table


def baseline(
    action: str,
    names: Sequence[str],
    reason: str | None,
    seeds: Sequence[Path],
    sessions: int,
    store: Path,
    json_output: bool,
) -> int:
    console = PlainConsole()
    if action == "list":
        return _list(store, names, json_output)
    if action not in ("set", "accept", "quarantine", "calibrate"):
        known = ("set", "list", "accept", "quarantine", "calibrate")
        raise UnknownName("action of baseline", action, known, "arbench baseline set NAME DIR")
    if len(names) != 2:
        what = "GLOB" if action == "quarantine" else "DIR"
        raise UsageError(f"baseline {action} takes a name and a {what}", "", f"arbench baseline {action} main {what}")
    name, given = names
    exists = name in baselines.names(store)
    if action == "set" and exists:
        hint = f'arbench baseline accept {name} {given} --reason "..."'
        raise UsageError(f"there is a baseline {name} already", "it is changed for a reason", hint)
    if action == "accept" and not exists:
        baselines.read(store, name)  # says which there are
    if action == "quarantine":
        found = baselines.quarantine(store, name, given, reason or "")
        console.print(f"baseline {name}: {len(found.file.quarantine)} in quarantine", soft_wrap=True)
        return OK
    if action == "calibrate":
        return _calibrate(baselines.read(store, name), Path(given), sessions)
    why = reason if action == "accept" else reason or "first"
    found = baselines.accept(store, name, whole(given), why or "", seeds)
    numbers = sum(each.metric.value is not None for each in found.readings().values())
    console.print(f"baseline {name}: {counted(numbers, 'number')} of {given}, in {found.place}", soft_wrap=True)
    return OK


def _calibrate(known: Baseline, folder: Path, count: int) -> int:
    """Runs the suite of the run in `folder` again and again, as it is now."""
    console, progress = PlainConsole(), PlainConsole(stderr=True)

    def tell(text: str) -> None:
        progress.print(text, soft_wrap=True)

    wanted = timings(known)
    found = noises(Build(sys.executable, folder).measure, wanted, count, tell)
    baselines.calibrate(known, found, count)
    heads = ("model", "number", "spread", "suspect", "regressed", "")
    columns = [Column(head, right=head in ("spread", "suspect", "regressed")) for head in heads]
    rows, settings = [], settings_told(wanted.values())
    for key, each in found.items():
        model = f"{each.adapter} ({settings[key]})" if settings[key] else each.adapter
        shares = [f"{100 * share:.1f} %" for share in (each.spread, each.screened, each.confirmed)]
        rows.append([model, each.metric, *shares, f"quarantine: {each.unstable}" if each.unstable else ""])
    print_table(console, columns, rows, rule=True)
    unstable = sum(bool(each.unstable) for each in found.values())
    told = f"{counted(len(found), 'number')} of {count} sessions, {unstable} in quarantine"
    console.print(f"baseline {known.file.name}: {told}", soft_wrap=True)
    return OK


def _list(store: Path, names: Sequence[str], json_output: bool) -> int:
    found = [baselines.read(store, name) for name in names or baselines.names(store)]
    if json_output:
        documents = [json.loads(each.file.model_dump_json()) | {"nights": len(each.nights)} for each in found]
        sys.stdout.write(json.dumps(documents, indent=2) + "\n")
        return OK
    columns = [Column("baseline"), Column("run"), Column("accepted"), Column("nights", right=True), Column("reason")]
    rows = []
    for each in found:
        last = each.file.accepted[-1]
        rows.append([each.file.name, last.run_id, last.time[:16], str(len(each.nights)), last.reason])
    if rows:
        print_table(PlainConsole(), columns, rows)
    else:
        PlainConsole().print(f"no baselines in {store}: arbench baseline set main DIR", soft_wrap=True)
    return OK
