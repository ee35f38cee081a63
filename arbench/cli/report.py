"""`arbench report`: one HTML file from the folders of runs."""

from __future__ import annotations

from pathlib import Path

from arbench.errors import OK, printable


def report(folders: list[Path], output: Path | None) -> int:
    from arbench.report.page import write_report

    path = write_report(folders, output or folders[0] / "report.html")
    print(printable(str(path)))
    return OK
