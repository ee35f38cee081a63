"""`arbench resume`: resumes a run; nothing that is finished is computed again."""

from __future__ import annotations

import shlex
from pathlib import Path

from arbench.errors import counted


def resume(
    folder: Path,
    workers: int | None,
    track: str | None,
    wait_idle: float = 0.0,
    executor: str | None = None,
    address: str | None = None,
) -> int:
    """Does the cells of the run in `folder` that are not done or have failed; returns the exit code.

    By default it continues with the executor, and the cluster, that it began with.
    """
    from rich.text import Text

    from arbench.terminal import PlainConsole

    from ..run.nursery import ahead
    from ..run.ray_cluster import connected
    from ..run.replan import replan
    from ..run.replay import FINAL
    from ..run.session import Session, state_of
    from ..run.store import Store

    console = PlainConsole()
    store = Store.resume(folder)
    try:
        executor = executor or store.run.executor
        if executor == "ray":
            address = address or store.run.address
        workers = workers or store.run.workers
        with ahead(executor) as nursery, connected(executor, address) as cluster:
            place = None if cluster is None else cluster.place(store.run.plan.device)
            state = state_of(store)
            plan, notes = replan(store, state, place)
            if plan != store.run.plan:
                store.replace_run(store.run.model_copy(update={"plan": plan}))
            left = sum(cell.outcome not in FINAL and not cell.done for cell in state.values())
            console.print(
                Text(
                    f"{store.run.run_id}: {left} of {counted(len(state), 'cell')} to do, in {shlex.quote(str(folder))}"
                ),
                soft_wrap=True,
            )
            for note in notes:
                console.print(Text(f"note: {note}"), soft_wrap=True)
            return Session(
                store, console, "resume", workers, track, wait_idle=wait_idle, cluster=cluster, nursery=nursery
            ).go()
    finally:
        store.close()
