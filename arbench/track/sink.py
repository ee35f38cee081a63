"""Copies a run to MLflow from a background thread: a slow or dead server neither delays nor fails the run."""

from __future__ import annotations

import queue
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlparse

from .. import artifacts
from ..errors import DamagedFile
from ..json_text import parse_json
from ..spec.result import Result
from ..spec.schema1 import upgraded
from . import database, record, target
from .target import Target, Unreachable

if TYPE_CHECKING:
    from mlflow.entities import Run
    from mlflow.tracking import MlflowClient

RETRY_AFTER = 0.5
ARTIFACT_LIMIT = 20 * 2**20
"""Bytes; larger files stay in the run folder."""
BATCH = 100
"""Params and tags that one call may carry."""

Job = Callable[[], None]


class Tracker:
    """One MLflow experiment per suite, one parent run per run folder, one child run per cell.

    The methods return at once, except `finish`, and never raise: the first failure that a second try does not
    repair is kept in `problem`, and from then on nothing more is sent.
    """

    def __init__(self, store: Target, run_folder: Path) -> None:
        self.store = store
        self.run_folder = run_folder.absolute()
        self.problem: str | None = None
        self.remarks: list[str] = []
        """What a reader should know though all went well."""
        self.seconds = 0.0
        """Time that the background thread has spent on MLflow."""
        self._tracked: list[str] = []
        self._results: list[Result] = []
        self._run: dict[str, Any] = {}
        self._client: MlflowClient | None = None
        self._experiment = ""
        self._parent = ""
        self._keeps_artifacts = True
        self._jobs: queue.Queue[Job | None] = queue.Queue()
        self._free = threading.Event()
        self._free.set()
        self._busy = threading.Lock()
        self._thread: threading.Thread | None = None

    @property
    def tracked(self) -> list[str]:
        """Ids of the results that are wholly in MLflow."""
        return list(self._tracked)

    def start(self, run: Mapping[str, Any]) -> None:
        """Opens the parent run of `run`, the content of run.json; a resumed run continues its own."""
        self._run = dict(run)
        self._jobs.put(self._open)
        self._thread = threading.Thread(target=self._work, name="arbench-mlflow", daemon=True)
        self._thread.start()

    def cell(self, result: Result, cell_folder: Path) -> None:
        """Sends a result and its pictures; one that is already there is left alone."""
        self._jobs.put(lambda: self._log_cell(result, cell_folder.absolute()))

    def hold(self, wait: float = 10.0) -> None:
        """Stops work, so that a speed cell has the machine to itself; waits for the job in progress."""
        self._free.clear()
        if self._busy.acquire(timeout=wait):
            self._busy.release()

    def release(self) -> None:
        """Resumes work after `hold`."""
        self._free.set()

    def finish(self, report: Path | None, outcome: str, wait: float = 120.0) -> None:
        """Closes the parent run with the report and a summary; waits at most `wait` seconds for all of it."""
        self.release()
        self._jobs.put(lambda: self._close(report.absolute() if report else None, outcome))
        self._jobs.put(None)
        if self._thread is None:
            return
        self._thread.join(wait)
        if self._thread.is_alive() and self.problem is None:
            self.problem = (
                f"MLflow at {self.store.shown} was not done after {wait:.0f} s; results since are not tracked"
            )

    # ---- the background thread ----

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            self._free.wait()
            if self.problem is not None:
                continue
            with self._busy:
                begin = time.monotonic()
                self._attempt(job)
                self.seconds += time.monotonic() - begin

    def _attempt(self, job: Job) -> None:
        for attempt in (1, 2):
            try:
                job()
                return
            except Exception as error:
                if attempt == 2 or isinstance(error, Unreachable):
                    self.problem = f"MLflow at {self.store.shown}: {target.reason(error)}"
                    return
                time.sleep(RETRY_AFTER)

    def _open(self) -> None:
        client = target.connect(self.store)
        self._point_home()
        self._experiment = self._find_experiment(client)
        run_id = str(self._run.get("run_id", self.run_folder.name))
        parent = self._find(client, {"arbench.run_id": run_id, "arbench.level": "run"})
        if parent is None:
            parent = client.create_run(
                self._experiment,
                start_time=record.milliseconds(str(self._run.get("started") or self._run.get("created") or "")),
                tags=self._parent_tags(run_id),
                run_name=run_id,
            )
        else:
            client.update_run(parent.info.run_id, status="RUNNING")
            client.set_tag(parent.info.run_id, "arbench.folder", str(self.run_folder)[: record.TAG_LIMIT])
        self._parent = parent.info.run_id
        self._keeps_artifacts = not _is_local(parent.info.artifact_uri) or not self.store.uri.startswith("http")
        self._client = client

    def _point_home(self) -> None:
        """A database that was moved, with the artifacts beside it, tells where they were."""
        store = self.store
        if store.database is not None and store.artifacts is not None:
            moved = database.repoint(store.database, store.artifacts, own=store.own)
            if moved:
                self.remarks.append(
                    f"{store.database.name} has moved: files of {moved} runs are now in {store.artifacts}"
                )

    def _find_experiment(self, client: MlflowClient) -> str:
        name = f"arbench/{self._suite().get('suite', 'unnamed')}"
        found = client.get_experiment_by_name(name)
        if found is None:
            location = None
            if self.store.artifacts is not None:  # else a database would choose ./mlruns
                self.store.artifacts.mkdir(parents=True, exist_ok=True)
                location = self.store.artifacts.as_uri()
            try:
                return str(client.create_experiment(name, artifact_location=location))
            except Exception:
                found = client.get_experiment_by_name(name)  # another run may have been faster
                if found is None:
                    raise
        if found.lifecycle_stage == "deleted":
            client.restore_experiment(found.experiment_id)
        return str(found.experiment_id)

    def _find(self, client: MlflowClient, wanted: Mapping[str, str]) -> Run | None:
        query = " and ".join(f"tags.`{key}` = '{value.replace(chr(39), '_')}'" for key, value in wanted.items())
        found = client.search_runs([self._experiment], filter_string=query, max_results=1)
        return found[0] if found else None

    def _suite(self) -> dict[str, Any]:
        suite = self._run.get("suite")
        return suite if isinstance(suite, dict) else {}

    def _parent_tags(self, run_id: str) -> dict[str, str]:
        suite = self._suite()
        found = {
            "arbench.run_id": run_id,
            "arbench.level": "run",
            "arbench.suite": str(suite.get("suite", "")),
            "arbench.suite_version": str(suite.get("version", "")),
            "arbench.command": " ".join(str(word) for word in self._run.get("argv", ())),
            "arbench.folder": str(self.run_folder),
        }
        return {key: value[: record.TAG_LIMIT] for key, value in found.items() if value}

    def _log_cell(self, result: Result, folder: Path) -> None:
        client = self._client
        assert client is not None  # a failed start sets `problem`, and no job runs after it
        suite = {key: value for key, value in self._parent_tags("").items() if key.startswith("arbench.suite")}
        tags = {**record.tags(result), **suite, "arbench.level": "cell", "arbench.parent": self._parent}
        begin = record.milliseconds(result.started) or int(time.time() * 1000)
        end = begin + int(result.wall_seconds * 1000)
        child = self._find(client, {"arbench.result_id": result.result_id, "arbench.parent": self._parent})
        if child is None:
            child = client.create_run(
                self._experiment,
                start_time=begin,
                tags={**tags, "mlflow.parentRunId": self._parent},
                run_name=f"{result.task} {result.adapter}",
            )
        finished = child.info.status not in ("RUNNING", "SCHEDULED")
        if not (finished and child.data.tags.get("arbench.outcome") == result.outcome):
            self._log_values(client, child, result, tags, end)
            self._log_files(client, child.info.run_id, result, folder)
            client.set_terminated(child.info.run_id, record.STATUS.get(result.outcome, "FAILED"), end)
        self._results.append(result)
        self._tracked.append(result.result_id)

    def _log_values(self, client: MlflowClient, child: Run, result: Result, tags: dict[str, str], end: int) -> None:
        from mlflow.entities import Metric, Param, RunTag

        known = child.data.params  # a param cannot be logged twice with another value
        metrics = [Metric(key, value, end, 0) for key, value in record.metrics(result).items()]
        params = [Param(key, value) for key, value in record.params(result).items() if key not in known]
        marks = [RunTag(key, value) for key, value in tags.items()]
        for first in range(0, max(len(metrics), len(params), len(marks)), BATCH):
            part = slice(first, first + BATCH)
            client.log_batch(child.info.run_id, metrics=metrics[part], params=params[part], tags=marks[part])

    def _log_files(self, client: MlflowClient, run: str, result: Result, folder: Path) -> None:
        """The result and its sheet of pictures, drawn here where the cell has pictures and no sheet."""
        if not self._keeps_artifacts:
            return
        sheet = artifacts.inside(result, "sheet", folder)
        for file in (sheet, folder / "result.json"):
            if file is not None and file.is_file() and file.stat().st_size <= ARTIFACT_LIMIT:
                client.log_artifact(run, str(file))
        try:
            gallery = artifacts.pictures(result, folder) if sheet is None else None
        except DamagedFile:
            return  # the report tells of a damaged file
        if gallery is not None and gallery.images.size:
            with tempfile.TemporaryDirectory() as place:
                (Path(place) / "sheet.png").write_bytes(gallery.sheet())
                client.log_artifact(run, str(Path(place) / "sheet.png"))

    def _all_results(self) -> list[Result]:
        """Those of the run folder, since a resumed run hands over only what is new."""
        try:
            files = sorted(self.run_folder.glob("cells/*/result.json"))
            return [Result.model_validate(upgraded(parse_json(file.read_bytes()))) for file in files] or self._results
        except (OSError, ValueError):
            return self._results

    def _close(self, report: Path | None, outcome: str) -> None:
        client = self._client
        assert client is not None
        text = record.note(self._run, self._all_results(), outcome)
        client.set_tag(self._parent, "mlflow.note.content", text)
        client.set_tag(self._parent, "arbench.outcome", outcome)
        if report and report.is_file() and self._keeps_artifacts:
            client.log_artifact(self._parent, str(report))
        client.set_terminated(self._parent, status=record.STATUS.get(outcome, "FAILED"))
        if not self._keeps_artifacts:
            self.problem = (
                f"MLflow at {self.store.shown} serves no artifacts: metrics are tracked, pictures and the report not"
            )


def _is_local(artifact_uri: str) -> bool:
    return urlparse(artifact_uri).scheme in ("", "file")
