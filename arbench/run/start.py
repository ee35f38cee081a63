"""The start of a run: a plan of its suite and a folder of its own, whoever asked for it."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..journal import now
from ..remote.address import is_address, open_place
from ..remote.upload import put_file
from ..spec.suite import Settings
from ..spec.suite_file import SuiteFile
from ..track import target as tracking
from .mirror import claim
from .plan import make_plan
from .shard import Shard
from .slots import slots_for
from .store import RunFile, Store, new_run_id

if TYPE_CHECKING:
    from .ray_cluster import RayCluster


def start(
    suite_file: SuiteFile,
    *,
    adapters: Sequence[str] = (),
    tasks: Sequence[str] = (),
    out: str | Path | None = None,
    device: str | None = None,
    workers: int | None = None,
    track: str | None = None,
    shard: Shard | None = None,
    cluster: RayCluster | None = None,
    address: str | None = None,
    argv: tuple[str, ...] = (),
) -> Store:
    """The run in its new folder, `out` or `runs/<run id>`; a `Session` does the work.

    With an address for `out` the folder is `runs/<run id>`, and the run is uploaded to the address as it goes.

    `adapters`, `tasks` and `device` as for `make_plan`; `track` is an MLflow URI, by default that of the environment;
    `shard` is the share of the run to do here; `cluster`, at `address`, is what is to do it in place of this machine.
    What is wrong with it, or with `workers`, is told before the folder exists.
    """
    mirror = claim(out).address if isinstance(out, str) and is_address(out) else ""
    out = None if mirror or out is None else Path(out)
    place = None if cluster is None else cluster.place(device or suite_file.suite.settings.device)
    plan = make_plan(suite_file, adapter_globs=adapters, task_names=tasks, device=device, place=place)
    if place is None:
        slots_for(Settings(device=plan.device), workers)
    run_id = new_run_id(suite_file.suite.suite, plan)
    track = tracking.absolute(track or tracking.of_environment())
    if shard is not None:  # what is merged is tracked
        run_id = f"{run_id}-shard-{shard.index}-of-{shard.total}"
    elif track is not None and track != tracking.OFF:
        tracking.check(tracking.target(track, out if out is not None else Path("runs") / run_id), "--track off")
    if out is None:
        out, run_id = _claimed(Path("runs"), run_id)
    record = RunFile(
        run_id=run_id,
        started=now(),
        argv=argv,
        suite=suite_file.suite,
        suite_path=suite_file.path,
        origins=tuple(suite_file.origins.items()),
        adapter_globs=tuple(adapters),
        task_names=tuple(tasks),
        workers=workers,
        executor="local" if cluster is None else "ray",
        address=address,
        track=track,
        shard=shard,
        mirror=mirror,
        plan=plan,
    )
    store = Store.create(out, record)
    if mirror:
        try:
            put_file(open_place(mirror) / "run.json", store.folder / "run.json")
        except BaseException:  # nothing was begun
            store.close()
            shutil.rmtree(store.folder)
            raise
    return store


def _claimed(runs: Path, run_id: str) -> tuple[Path, str]:
    """A new, empty folder, and the id that it is named by: two runs may begin within one second."""
    for number in itertools.count(1):
        name = run_id if number == 1 else f"{run_id}-{number}"
        try:
            (runs / name).mkdir(parents=True)
        except FileExistsError:
            if not runs.is_dir():
                break
            continue
        except OSError:
            break  # `Store.create` tells why
        return runs / name, name
    return runs / run_id, run_id
