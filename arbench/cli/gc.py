"""`arbench gc`: deletes from the folder of a run what nothing needs."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

from arbench.errors import OK, StoreError


def gc(folder: Path, yes: bool, json_output: bool) -> int:
    """Lists what may go, with its size, and deletes it with `yes`; returns the exit code."""
    from rich.text import Text

    from arbench.errors import printable
    from arbench.terminal import PlainConsole

    from ..run.garbage import delete, garbage_in
    from ..run.store import Store

    store = Store.hold(folder)
    try:
        found = garbage_in(store)
        for garbage in found if yes else ():
            try:
                delete(garbage)
            except OSError as error:
                raise StoreError(
                    f"cannot delete {garbage.path}", error.strerror or str(error), "check its permissions"
                ) from error
    finally:
        store.close()
    total = sum(garbage.size for garbage in found)
    if json_output:
        rows = [{"path": str(each.path), "why": each.why, "bytes": each.size} for each in found]
        print(json.dumps({"folder": str(folder), "deleted": yes, "bytes": total, "found": rows}, indent=1))
        return OK
    console = PlainConsole()
    for each in found:
        line = f"{each.size / 1e6:9.2f} MB  {each.path.relative_to(folder)}: {each.why}"
        console.print(Text(printable(line)), soft_wrap=True)
    what = f"{len(found)} files and folders, {total / 1e6:.2f} MB"
    if yes or not found:
        console.print(Text(f"{what} deleted" if yes else f"nothing to delete in {folder}"), soft_wrap=True)
    else:
        console.print(
            Text(f"{what} can go; to delete them: arbench gc {shlex.quote(str(folder))} --yes"), soft_wrap=True
        )
    return OK
