"""The folder of scores: results as a run writes them, so that report, tracking and export read both alike.

DIR/run.json            what was scored first, and when
    journal.jsonl       one record for each result
    cells/<result_id>/  result.json, samples.parquet (one row per image)
    results.parquet     every number, one row each; table.parquet: one row for each set of samples
    score.json          the scores of the last set of samples, in the layout that scripts know from version 0.1
    features/           vectors of the samples, for further conventions
"""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

from .. import __version__
from ..errors import StoreError, UsageError
from ..features.feature_set import Features
from ..files import write_atomic
from ..journal import Writer, now
from ..json_text import parse_json, writable
from ..report.folders import read_runs
from ..spec.result import SCHEMA_VERSION, Result
from ..table import write_tables

PER_IMAGE, SCORES = "samples.parquet", "score.json"
HINT = "check space and permissions, or --out DIR"


class ScoreFolder:
    """Results of `arbench score`, one for each set of samples and question; asked again, a result is replaced."""

    def __init__(self, folder: Path, title: str, argv: tuple[str, ...]) -> None:
        self.folder = folder
        self._run: dict[str, Any] = {
            "schema_version": SCHEMA_VERSION,
            "run_id": writable(folder.name),
            "arbench": __version__,
            "started": now(),
            "argv": [writable(word) for word in argv],
            "suite": {"suite": "score", "version": 1, "title": title},
        }

    def add(self, result: Result, per_image: bytes | None) -> dict[str, Any]:
        """Writes a result, then the tables of all results in the folder. Returns what run.json holds."""
        path = self.folder / "run.json"
        self._run = self._known(path)
        with self._locked():
            self._run = self._known(path)
            if not path.exists():
                write_atomic(path, json.dumps(self._run, indent=1).encode(), HINT)
            here = self.folder / "cells" / result.result_id
            if per_image is not None:
                write_atomic(here / PER_IMAGE, per_image, HINT)
            writer = Writer(self.folder / "journal.jsonl")
            try:
                writer.write("session", verb="score", workers=1, device=result.load.get("device", ""))
                writer.write("started", cell=result.result_id)
                digest = write_atomic(here / "result.json", (result.model_dump_json(indent=1) + "\n").encode(), HINT)
                writer.write("finished", cell=result.result_id, outcome=result.outcome, digest=digest, reason="")
                writer.write("ended", outcome="complete")
            finally:
                writer.close()
            write_tables(
                self.folder, self._run["run_id"], [entry.result for entry in read_runs([self.folder])[0].entries]
            )
            write_atomic(self.folder / SCORES, (json.dumps(scores(result), indent=1) + "\n").encode(), HINT)
        return self._run

    def _known(self, path: Path) -> dict[str, Any]:
        """What an earlier call has written, if any. Raises `UsageError` for the folder of a run."""
        known: dict[str, Any] = parse_json(path.read_bytes()) if path.exists() else self._run
        if "plan" in known:
            raise UsageError(f"{self.folder} is the folder of a run", "scores go to a folder of their own", HINT)
        return known

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """Another process that adds to the folder is waited for: it takes a moment, and this result took long."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            lock = FileLock(self.folder / "lock")
            lock.acquire()
        except OSError as error:
            raise StoreError(f"cannot write {self.folder}", error.strerror or str(error), HINT) from error
        try:
            yield
        finally:
            lock.release()


def scores(result: Result) -> dict[str, Any]:
    """What `score.json` holds: the sets, every number beside its convention, and the remarks."""
    document = result.plain()
    kept = ("samples", "reference", "remarks", "deviation", "timings", "provenance", "started")
    return {
        "schema_version": SCHEMA_VERSION,
        "settings": document["parameters"],
        "scores": [{"convention": metric["convention"], "metric": metric} for metric in document["metrics"]],
        **{name: document[name] for name in kept},
    }


def per_image_table(samples: Mapping[str, Features], values: Mapping[str, NDArray[Any]], pairs: str) -> bytes | None:
    """One row per image, with its metrics: of pairs, and those in `values`. None without samples."""
    import pandas

    one = samples.get(pairs) or next(iter(samples.values()), None)
    if one is None:
        return None
    rows = [
        {
            "index": picture.index,
            "key": picture.key,
            "label": picture.label,
            "height": picture.height,
            "width": picture.width,
            "digest": picture.digest,
            **picture.values,
        }
        for picture in one.pictures
    ]
    table = pandas.DataFrame(rows)
    for name, column in values.items():
        if len(column) == len(table):
            table[name] = np.asarray(column)
    buffer = io.BytesIO()
    table.to_parquet(buffer, index=False)
    return buffer.getvalue()
