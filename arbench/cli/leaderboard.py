"""`arbench leaderboard`: a static site of what was measured and what was published."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from arbench.errors import OK
from arbench.terminal import PlainConsole


def leaderboard(folders: Sequence[Path], output: Path) -> int:
    from arbench.report.series import runs_in
    from arbench.report.site import write_site

    site, console = write_site(runs_in(folders) if folders else [], output), PlainConsole()
    console.print(f"{site.files[0]} and {len(site.files) - 1} more files", soft_wrap=True)
    for folder in site.empty:
        console.print(f"note: {folder} has no results: arbench status {shlex.quote(str(folder))}", soft_wrap=True)
    return OK
