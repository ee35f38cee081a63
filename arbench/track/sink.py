"""Copies a run to MLflow from a background thread: a slow or dead server neither delays nor fails the run.

A run folder is a parent run of MLflow, and each of its settings is one child with all tasks in it: quality, speed and
memory stand in one row, so that MLflow's pages plot them against each other. The settings of a sweep are children side
by side; the parent has the best of them. Each system is a LoggedModel that the metrics of its runs are linked to.
"""

from __future__ import annotations

import queue
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlparse

from .. import artifacts
from ..json_text import parse_json
from ..spec.result import Result
from ..spec.schema1 import upgraded
from . import database, record, target
from .models import Models
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


@dataclass
class _Child:
    """The MLflow run of one settings, and what it holds."""

    run_id: str
    tags: dict[str, str]
    params: set[str]
    data: set[str] = field(default_factory=set)
    models: set[str] = field(default_factory=set)
    end: int = 0
    """Unix time in ms."""


class Tracker:
    """One MLflow experiment per suite, one parent run per run folder, one child run per settings.

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
        self._swept: dict[str, str] = {}
        self._children: dict[tuple[str, str], _Child] = {}
        self._client: MlflowClient | None = None
        self._models: Models | None = None
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
        self._swept = record.swept(run)
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
        self._models = Models(client, self._experiment)
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
            "mlflow.source.name": "arbench",
        }
        return {key: value[: record.TAG_LIMIT] for key, value in found.items() if value}

    def _log_cell(self, result: Result, folder: Path) -> None:
        """Into the run of its settings. A repetition of a task under the same settings is a further step of its
        metrics.
        """
        client = self._client
        assert client is not None  # a failed start sets `problem`, and no job runs after it
        begin = record.milliseconds(result.started) or int(time.time() * 1000)
        child = self._child(client, result, begin)
        known = record.cells(child.tags, result.task)
        if known.get(result.result_id) != result.outcome:
            step = list(known).index(result.result_id) if result.result_id in known else len(known)
            child.end = max(child.end, begin + int(result.wall_seconds * 1000))
            self._log_values(client, child, result, step)
            self._log_data(client, child, result)
            self._log_files(client, child.run_id, result, folder, step)
            tags = record.merged_tags(child.tags, result)
            self._log_tags(client, child.run_id, tags)  # last: they say that the cell is there
            child.tags |= tags
            client.set_terminated(child.run_id, record.STATUS.get(tags["arbench.outcome"], "FAILED"), child.end)
        self._results.append(result)
        self._tracked.append(result.result_id)

    def _child(self, client: MlflowClient, result: Result, begin: int) -> _Child:
        """The run of the result's settings, made where there is none."""
        key = result.adapter, result.settings_id
        if key not in self._children:
            suite = {name: text for name, text in self._parent_tags("").items() if name.startswith("arbench.suite")}
            tags = {**suite, "arbench.level": "settings", "arbench.parent": self._parent}
            swept = self._swept.get(result.result_id, "")
            if swept:
                tags["arbench.swept"] = swept[: record.TAG_LIMIT]
            wanted = {"arbench.parent": self._parent, "arbench.settings_id": key[1], "arbench.adapter": key[0]}
            found = self._find(client, wanted)
            if found is None:
                found = client.create_run(
                    self._experiment,
                    start_time=begin,
                    tags={**tags, **wanted, "mlflow.parentRunId": self._parent},
                    run_name=f"{result.adapter} {swept}".strip()[: record.KEY_LIMIT],
                )
            read = {each.dataset.name for each in found.inputs.dataset_inputs} if found.inputs else set()
            self._children[key] = _Child(
                found.info.run_id, dict(found.data.tags), set(found.data.params), read, end=found.info.end_time or 0
            )
        return self._children[key]

    def _log_values(self, client: MlflowClient, child: _Child, result: Result, step: int) -> None:
        from mlflow.entities import LoggedModelInput, Metric, Param

        assert self._models is not None
        model, against = self._models.of(result, child.run_id), record.references(result)
        metrics = [
            Metric(key, value, child.end, step, model, *(against.get(key, (None, None)) if model else (None, None)))
            for key, value in record.metrics(result).items()
        ]
        new = {key: value for key, value in record.params(result).items() if key not in child.params}
        params = [Param(key, value) for key, value in new.items()]  # one cannot be logged twice with another value
        for first in range(0, max(len(metrics), len(params)), BATCH):
            part = slice(first, first + BATCH)
            client.log_batch(child.run_id, metrics=metrics[part], params=params[part])
        child.params |= new.keys()
        if model is not None and model not in child.models:
            client.log_inputs(child.run_id, models=[LoggedModelInput(model)])
            child.models.add(model)
        if self._models.remark and self._models.remark not in self.remarks:
            self.remarks.append(self._models.remark)

    def _log_tags(self, client: MlflowClient, run: str, tags: Mapping[str, str]) -> None:
        from mlflow.entities import RunTag

        marks = [RunTag(key, value) for key, value in tags.items()]
        for first in range(0, len(marks), BATCH):
            client.log_batch(run, tags=marks[first : first + BATCH])

    def _log_data(self, client: MlflowClient, child: _Child, result: Result) -> None:
        """Names and digests of the sets of images, which MLflow's pages show beside the run."""
        from mlflow.entities import Dataset, DatasetInput

        new = {name: digest for name, digest in record.data(result).items() if name not in child.data}
        if new:
            inputs = [
                DatasetInput(Dataset(*record.dataset(name, digest), "local", name), []) for name, digest in new.items()
            ]
            client.log_inputs(child.run_id, inputs)
            child.data |= new.keys()

    def _log_files(self, client: MlflowClient, run: str, result: Result, folder: Path, step: int) -> None:
        """The result and its sheet of pictures."""
        if not self._keeps_artifacts:
            return
        place = result.task if step == 0 else f"{result.task}/{result.result_id}"
        file, sheet = folder / "result.json", artifacts.sheet(result, folder)
        if file.is_file() and file.stat().st_size <= ARTIFACT_LIMIT:
            client.log_artifact(run, str(file), place)
        if sheet is not None and len(sheet) <= ARTIFACT_LIMIT:
            with tempfile.TemporaryDirectory() as beside:
                (Path(beside) / "sheet.png").write_bytes(sheet)
                client.log_artifact(run, str(Path(beside) / "sheet.png"), place)

    def _all_results(self) -> list[Result]:
        """Those of the run folder, since a resumed run hands over only what is new."""
        try:
            files = sorted(self.run_folder.glob("cells/*/result.json"))
            return [Result.model_validate(upgraded(parse_json(file.read_bytes()))) for file in files] or self._results
        except (OSError, ValueError):
            return self._results

    def _summarize(self, client: MlflowClient, results: Sequence[Result]) -> None:
        """The parent's own numbers: cells by outcome, and of each adapter the best of its settings."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        best = {name: value for name, (value, _) in record.summary(results).items()}
        metrics = [Metric(name, value, now, 0) for name, value in (record.counts(results) | best).items()]
        for first in range(0, len(metrics), BATCH):
            client.log_batch(self._parent, metrics=metrics[first : first + BATCH])

    def _closing_tags(self, results: Sequence[Result], outcome: str) -> dict[str, str]:
        """Those of the parent: software, and the setting at which each adapter's best numbers were found."""
        found = {
            "mlflow.note.content": record.note(self._run, results, outcome),
            "arbench.outcome": outcome,
            "arbench.settings": str(len({(result.adapter, result.settings_id) for result in results})),
        }
        known = next((result.provenance for result in results if result.provenance), None)
        if known is not None:
            found |= {**record.software(known), "arbench.device": known.device[: record.TAG_LIMIT]}
        for name, (_, result) in record.summary(results).items():
            if swept := self._swept.get(result.result_id):
                found[f"arbench.best.{name}"[: record.KEY_LIMIT]] = swept[: record.TAG_LIMIT]
        return found

    def _close(self, report: Path | None, outcome: str) -> None:
        client = self._client
        assert client is not None
        results = self._all_results()
        self._summarize(client, results)
        self._log_tags(client, self._parent, self._closing_tags(results, outcome))
        if report and report.is_file() and self._keeps_artifacts:
            client.log_artifact(self._parent, str(report))
        client.set_terminated(self._parent, status=record.STATUS.get(outcome, "FAILED"))
        if not self._keeps_artifacts:
            self.problem = (
                f"MLflow at {self.store.shown} serves no artifacts: metrics are tracked, pictures and the report not"
            )


def _is_local(artifact_uri: str) -> bool:
    return urlparse(artifact_uri).scheme in ("", "file")
