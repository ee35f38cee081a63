"""`arbench merge`: joins the shards of a run, or the features of shards of `arbench score`."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from arbench.errors import OK, PARTIAL, InputError, counted
from arbench.json_text import writable


def merge(folders: Sequence[Path], out: Path, track: str | None = None) -> int:
    """Joins `folders` in any order in `out`; returns the exit code."""
    runs = [folder for folder in folders if (folder / "run.json").is_file() and not _holds_features(folder)]
    if not runs:
        return _merge_features(folders, out)
    if others := [folder for folder in folders if folder not in runs]:
        raise InputError(
            f"{others[0]} is not a shard of a run, and {runs[0]} is",
            "a folder of `arbench run --shard` has a run.json",
            "merge shards of one kind",
        )
    return _merge_runs(runs, out, track)


def _merge_runs(folders: Sequence[Path], out: Path, track: str | None) -> int:
    """Joins shards of `arbench run --shard`; makes their numbers and the report once every unit is there."""
    from rich.text import Text

    from arbench.terminal import PlainConsole

    from ..run.merge import merge_runs
    from ..run.session import Session

    console = PlainConsole()

    def say(line: str) -> None:
        console.print(Text(line), soft_wrap=True)

    store, merged = merge_runs(folders, out, tuple(map(writable, sys.argv)))
    try:
        for note in merged.notes:
            say(f"note: {note}")
        twice = f"; {merged.known} were there already, with the same content" if merged.known else ""
        joined = f"{counted(merged.units, 'unit')} and {counted(merged.results, 'result')}"
        say(f"{joined} joined in {shlex.quote(str(out))}{twice}")
        if not merged.missing:
            return Session(store, console, "merge", store.run.workers, track).go()
        for label, count in merged.missing.items():
            say(f"{label}: {counted(count, 'unit')} missing")
        if merged.lacking:
            say(f"they are of the shards {', '.join(merged.lacking)}")
        folder = shlex.quote(str(out))
        say(f"when these are done: arbench merge DIR... -o {folder}; to compute the rest here: arbench resume {folder}")
        return PARTIAL
    finally:
        store.close()


def _holds_features(folder: Path) -> bool:
    from arbench.features.feature_folder import is_features

    return is_features(str(folder)) or is_features(str(folder / "features"))


def _merge_features(folders: Sequence[Path], out: Path) -> int:
    """Joins shards that `arbench score --shard I/N` made."""
    from arbench.features.feature_folder import is_features, merge_folders
    from arbench.terminal import PlainConsole

    parts = []
    for folder in folders:
        inner = folder / "features" if (folder / "features").is_dir() else folder
        if not is_features(str(inner)):
            raise InputError(
                f"no features and no run in {folder}",
                "",
                "arbench score SAMPLES --reference REF --shard 0/2 --out DIR makes some, and arbench run --shard a run",
            )
        parts.append(inner)
    found = merge_folders(parts, out)
    count = len(next(iter(found.values())))
    told = f"{counted(count, 'image')}, {', '.join(found)}"
    PlainConsole().print(f"{told}: arbench score {out} --reference ...", soft_wrap=True)
    return OK
