"""`arbench report`: one HTML file from the folders of runs."""

from __future__ import annotations

from pathlib import Path

from arbench.errors import OK, printable


def report(
    folders: list[Path], output: Path | None, baseline: str | None = None, store: Path = Path("baselines")
) -> int:
    from arbench.report.page import write_report

    held = None
    if baseline is not None:
        from arbench.compare.against import against

        held = against(baseline, store)
    path = write_report(folders, output or folders[0] / "report.html", held)
    print(printable(str(path)))
    return OK
