"""How words of the command line become paths: folders of this machine, or copies of what lies at an address."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from arbench.errors import UsageError


def here(text: str) -> Path:
    """A path of this machine; an address is an error, and not a folder called `s3:`."""
    from arbench.remote.address import refuse_address

    return Path(refuse_address(str(text)))


def folder_out(text: str) -> Path:
    """A folder that is written into: not that of a run, which stays as the run has left it."""
    path = here(text)
    _refuse_of_run(path / "run.json")
    return path


def file_out(*suffixes: str) -> Callable[[str], Path]:
    """Of a file that is written: it replaces none of another kind, such as a suite, and nothing that a run has made."""

    def parsed(text: str) -> Path:
        path = here(text)
        if path.is_file() and path.suffix not in ("", *suffixes):
            raise UsageError(
                f"{path} is there, and is not a file that this command writes",
                f"those end in {' or '.join(suffixes)}",
                "name another file",
            )
        _refuse_of_run(path)
        return path

    return parsed


def _refuse_of_run(path: Path) -> None:
    """Raises `UsageError` for a file that makes a folder that of a run or of scores, and for one of its cells."""
    held = next((place for place in path.resolve().parents if (place / "run.json").is_file()), None)
    if held is None:
        return
    inner = path.resolve().relative_to(held).parts
    if inner == ("run.json",) or inner[0] == "cells":
        what = "is the folder of a run" if len(inner) == 1 else "is in the folder of a run"
        raise UsageError(f"{path.parent} {what}", "only the run itself writes there", "name another place")


def whole(text: str) -> Path:
    """The folder of a run or of scores; of an address a copy, with its samples."""
    from arbench.remote.cached import local_folder

    return local_folder(text)


def results(text: str) -> Path:
    """As `whole`, of an address without the samples: for what reads results."""
    from arbench.remote.cached import local_folder, without_units

    return local_folder(text, without_units)


def resumed(text: str) -> Path:
    """The folder of a run that is resumed; of an address the one that it is written in, made anew where it is gone."""
    from arbench.remote.address import is_address
    from arbench.run.mirror import staged

    return staged(text) if is_address(text) else Path(text)
