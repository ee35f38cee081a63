"""`arbench check`: tries the contract of adapters and prints one line for each part of it."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from rich.text import Text

from arbench.errors import FAILED, OK, UsageError

if TYPE_CHECKING:
    from rich.console import Console

    from arbench.check.adapter import Tell
    from arbench.check.verdict import Verdict

STYLES = {"ok": "green", "FAIL": "red", "not applicable": "dim"}


def check(
    names: list[str],
    json_output: bool = False,
    *,
    random: bool = False,
    device: str = "cpu",
    weights: Sequence[str] = (),
    prompts: Path | None = None,
    only: Sequence[str] = (),
) -> int:
    """Check each adapter; exit code 0 if none fails, 1 if one does."""
    from arbench import registry
    from arbench.check import adapter
    from arbench.check.names import parse
    from arbench.features.weight_files import parse_given, refuse_missing
    from arbench.run.device import resolve_device
    from arbench.terminal import PlainConsole
    from arbench.weight_parts import notes_of

    if not names:
        raise UsageError("no adapter given", "", "arbench check NAME... (see: arbench ls adapters)")
    if any(":" in name for name in names):
        sys.path.insert(0, str(Path.cwd()))  # an author's module lies in the current folder
    groups = parse(only)
    # what is unknown, missing or too large is reported before the first check
    cards = adapter.chosen(names)
    given = parse_given(weights, [*registry.cards(), *(card.name for card in cards)])
    refuse_missing(given)
    lines, device = read_lines(prompts), resolve_device(device)
    plans = [adapter.plan(card, random=random, device=device, given=given, prompts=lines) for card in cards]
    console = PlainConsole(stderr=json_output)
    for note in [] if random else [note for card in cards for note in notes_of(card, given)]:
        PlainConsole(stderr=True).print(Text(f"note: {note}"), soft_wrap=True)
    width = max(len(card.name) for card in cards)
    verdicts = []
    with Steps(console) as steps:
        for plan in plans:
            for verdict in adapter.check(plan, groups, steps.of(plan.card.name)):
                verdicts.append(verdict)
                if not json_output:
                    _print(console, verdict, width)
    failed = sum(verdict.outcome == "FAIL" for verdict in verdicts)
    held = sum(verdict.outcome == "ok" for verdict in verdicts)
    if json_output:
        document = {"ok": not failed, "failed": failed, "verdicts": [asdict(verdict) for verdict in verdicts]}
        sys.stdout.write(json.dumps(document, indent=2, allow_nan=False) + "\n")
    else:
        style = "red" if failed else "green"
        console.print(Text.assemble((f"{held} of {held + failed} checks hold", style), f" (adapters: {len(cards)})"))
    return FAILED if failed else OK


class Steps:
    """Which check is at work: a line that is replaced on a terminal, else a line on stderr as each begins."""

    def __init__(self, console: Console) -> None:
        from arbench.terminal import PlainConsole

        errors = PlainConsole(stderr=True)
        self._errors = errors
        # of two consoles on one terminal the same one must print all, or lines are lost
        shown = next((each for each in (console, errors) if each.is_terminal), None)
        self._live = shown.status("") if shown is not None else None

    def __enter__(self) -> Steps:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()

    def of(self, adapter: str) -> Tell:
        def tell(number: int, count: int, name: str) -> None:
            text = f"{adapter}: {number} of {count}, {name}"
            if self._live is not None:
                self._live.update(Text(text))  # of a str it would read markup
            else:
                self._errors.print(text, soft_wrap=True)

        return tell


def read_lines(path: Path | None) -> list[str]:
    """Prompts, one per line; blank lines are left out."""
    from arbench.data.prompts import read_prompts

    return [line.strip() for line in read_prompts(path) if line.strip()]


def _print(console: Console, verdict: Verdict, width: int) -> None:
    style = STYLES[verdict.outcome]
    cells = f"{verdict.adapter:{width}}  {verdict.name:17}"
    console.print(Text.assemble(cells, "  ", (f"{verdict.outcome:14}", style), "  ", verdict.why), soft_wrap=True)
