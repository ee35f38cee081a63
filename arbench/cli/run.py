"""`arbench run`: plans a suite, runs it, writes its report."""

from __future__ import annotations

import os
import shlex
import sys

from arbench.errors import counted
from arbench.json_text import writable


def run(
    suite: str,
    adapters: list[str],
    tasks: list[str],
    sets: list[str],
    weights: list[str],
    out: str | None,
    device: str | None,
    workers: int | None,
    track: str | None,
    wait_idle: float = 0.0,
    shard: str | None = None,
    executor: str = "local",
    address: str | None = None,
) -> int:
    """Runs `suite` in the folder or at the address `out` (default `runs/<run id>`); returns the exit code."""
    from ..run.nursery import ahead

    with ahead(executor) as nursery:  # imports torch while we import the rest and plan
        from rich.text import Text

        from arbench.terminal import PlainConsole

        from .. import registry
        from ..features.weight_files import parse_given
        from ..run.display import duration
        from ..run.ray_cluster import connected
        from ..run.session import Session
        from ..run.shard import parse_shard
        from ..run.start import start
        from ..spec.suite_file import read

        console = PlainConsole()
        suite_file = read(suite, sets, parse_given(weights, registry.cards()))
        with connected(executor, address) as cluster:
            store = start(
                suite_file,
                adapters=adapters,
                tasks=tasks,
                out=out,
                device=device,
                workers=workers,
                track=track,
                shard=parse_shard(shard, os.environ) if shard is not None else None,
                cluster=cluster,
                address=address,
                argv=tuple(map(writable, sys.argv)),
            )
            plan = store.plan
            of = f"shard {store.run.shard}: " if store.run.shard is not None else ""
            console.print(
                Text(
                    f"{suite_file.suite.suite}: {of}{counted(len(plan.cells), 'cell')} on {plan.device}, about"
                    f" {duration(plan.minutes * 60)}, in {shlex.quote(str(store.folder))}"
                ),
                soft_wrap=True,
            )
            for note in dict.fromkeys(note for planned in plan.cells for note in planned.notes):
                console.print(Text(f"note: {note}"), soft_wrap=True)
            try:
                return Session(
                    store,
                    console,
                    "run",
                    workers,
                    store.run.track,
                    wait_idle=wait_idle,
                    cluster=cluster,
                    nursery=nursery,
                ).go()
            finally:
                store.close()
