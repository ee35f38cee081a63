"""`arbench export --figures`: the report's plots and tables as files for papers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from arbench.errors import OK, InputError
from arbench.terminal import PlainConsole


def export_figures(folders: Sequence[Path], output: Path) -> int:
    from arbench.report.folders import read_runs
    from arbench.report.papers import write_figures
    from arbench.report.series import runs_in

    files = write_figures(read_runs(runs_in(folders)), output)
    if not files:
        raise InputError("no figure to write", "no cell has a result", "arbench status DIR")
    console = PlainConsole()
    for file in files:
        console.print(str(file), soft_wrap=True)
    return OK
