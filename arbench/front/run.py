"""`arbench.run(...)`: a suite, by the session of the command `arbench run`."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import INTERRUPTED
from ..run import nursery as nurseries
from ..run.session import Session, verdict
from ..run.start import start
from ..run.store import Store
from ..run.summary import failures
from ..spec.result import Result
from ..spec.suite_file import SuiteFile, of_data, read
from ..table import tidy_table
from ..terminal import PlainConsole
from .comparison import Comparison, side_by_side
from .sources import Names, WeightFiles, given_weights, names
from .tables import Table

if TYPE_CHECKING:
    import pandas


@dataclass(frozen=True)
class Run:
    """A run that has ended: its folder and results. In a notebook it shows itself as a table.

    outcome: "complete", "partial" where some cells failed, "nothing" where all did. report: the HTML file, None where
    it could not be written.
    """

    folder: Path
    results: tuple[Result, ...]
    outcome: str
    report: Path | None

    def frame(self) -> pandas.DataFrame:
        """One row per number: `results.parquet`."""
        frame: pandas.DataFrame = tidy_table(Store.read(self.folder).run.run_id, self.results).to_pandas()
        return frame

    def table(self) -> pandas.DataFrame:
        """One row per model and settings, one column per number: `table.parquet`, without the run's id."""
        return Comparison(self.results).frame()

    def __repr__(self) -> str:
        return self._table().text()

    def _repr_html_(self) -> str:
        return self._table().html()

    def _table(self) -> Table:
        good = tuple(result for result in self.results if result.outcome == "ok")
        shown = side_by_side(good)
        report = [f"report: {self.report}"] if self.report else []
        notes = (*shown.notes, *failures(self.results), *report)
        return replace(shown, title=f"{self.folder}: {self.outcome}", notes=notes)


def run(
    suite: str | Path | Mapping[str, Any],
    *,
    adapters: Names = (),
    tasks: Names = (),
    set: Mapping[str, Any] | None = None,
    weights: WeightFiles | None = None,
    out: str | Path | None = None,
    device: str | None = None,
    workers: int | None = None,
    track: str | None = None,
    progress: bool = True,
) -> Run:
    """Runs a suite as the command `arbench run` does, in worker processes, and writes its report.

    suite: a packaged name, the path of a YAML file, or what is in such a file, as a dictionary. adapters, tasks: names
    and globs, one by one or with commas. set: values of the suite to change, {"generate.n": 100}. weights: files of
    adapters and feature networks by name. out: the run's folder, by default `runs/<id>`, or
    an address (s3://...), which it is uploaded to from there. track: MLflow's URI, "off" for
    none. progress: print on stderr what the command prints.

    Cells that fail are results with a reason. An interrupt ends it as Ctrl-C ends the command, and raises
    `KeyboardInterrupt`; `arbench resume DIR` does the rest.
    """
    with nurseries.ahead("local") as nursery:
        store = start(
            _suite_file(suite, set or {}, given_weights(weights)),
            adapters=names(adapters),
            tasks=names(tasks),
            out=out,
            device=device,
            workers=workers,
            track=track,
            argv=("arbench.run",),
        )
        console = PlainConsole(stderr=True, quiet=not progress)
        try:
            session = Session(store, console, "run", workers, store.run.track, nursery=nursery)
            code = session.go()
        finally:
            store.close()
    if code == INTERRUPTED:
        raise KeyboardInterrupt(f"to resume: arbench resume {shlex.quote(str(store.folder))}")
    results = tuple(cell.result for cell in session.state.values() if cell.result is not None)
    report = store.folder / "report.html"
    return Run(store.folder, results, verdict(list(results))[0], report if report.exists() else None)


def _suite_file(
    suite: str | Path | Mapping[str, Any], changes: Mapping[str, Any], weights: dict[str, str]
) -> SuiteFile:
    """The suite with its changes, which are written as `--set` has them: JSON is YAML."""
    written = [f"{key}={json.dumps(value, default=str)}" for key, value in changes.items()]
    if isinstance(suite, Mapping):
        return of_data(suite, written, weights)
    return read(_path(suite) if isinstance(suite, Path) else suite, written, weights)


def _path(suite: Path) -> str:
    """A path without a folder could be taken for the name of a packaged suite."""
    return str(suite) if "/" in str(suite) else f"./{suite}"
