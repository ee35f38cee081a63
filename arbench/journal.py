"""The journal of a run: one JSON record per line, appended and synced before anything depends on it.

Only the supervisor writes it. A line ends with `sum`, a checksum of the rest of it, which version 0.1 did not write.
Kinds of record, all with `kind` and `time` (ISO 8601, UTC):

    session      verb, workers, device, executor    a `run` or `resume` begins
    planned      cells: [result_id, ...]         what the run consists of
    started      cell                            the first unit of a cell goes to a worker
    unit         cell, unit, digest, samples, seconds, and of a cluster node    `units/<unit>.npz` is on disk
    lost         cell, unit, node, reason        its machine is gone; unit "" for the numbers; it is done again
    halved       cell, batch, reason             memory ran out: the cell continues with this batch
    finished     cell, outcome, digest, reason, files    `result.json` is on disk, and `files` beside it by digest
    tracked      cells: [result_id, ...], store  that store of MLflow has them
    note         text, and perhaps cell          anything a reader of the run should know
    interrupted                                  the supervisor was asked to stop
    ended        outcome                         the session is over: "complete", "partial", "nothing"
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from .errors import StoreError
from .json_text import parse_json

Record = dict[str, Any]
FIELDS: Mapping[str, Mapping[str, type | tuple[type, ...]]] = {
    "planned": {"cells": list},
    "tracked": {"cells": list},
    "started": {"cell": str, "time": str},
    "unit": {"cell": str, "unit": str, "digest": str, "seconds": (int, float)},
    "halved": {"cell": str, "batch": int},
    "finished": {"cell": str, "outcome": str, "digest": str, "reason": str},
}
"""What a reader takes from each kind; other fields and kinds may be anything."""
_SUM = re.compile(rb',"sum":"([0-9a-f]{12})"\}$')


def now() -> str:
    """The time as the journal writes it: ISO 8601, UTC, milliseconds."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


@dataclass(frozen=True)
class Journal:
    """Records in order, the bytes they take, and what was wrong with the last line ("" if nothing was)."""

    records: tuple[Record, ...]
    size: int
    warning: str = ""


def parse(data: bytes, name: str = "journal.jsonl") -> Journal:
    """The records in `data`. A torn last line (a crash while it was written) is dropped with a warning.

    A line that cannot be read and is not the last is an error: something other than a crash has happened.
    """
    records: list[Record] = []
    size = 0
    lines = data.split(b"\n")
    for number, line in enumerate(lines, start=1):
        last = number >= len(lines) - 1  # the final element is what follows the last newline
        complete = number < len(lines)
        record = _record(line) if complete else None
        if record is not None:
            wanted = FIELDS.get(record["kind"], {})
            if lost := [field for field, kind in wanted.items() if not isinstance(record.get(field), kind)]:
                why = f"a record of kind {record['kind']!r} lacks {' and '.join(lost)}, or has another kind of value"
                raise StoreError(f"{name}:{number}: not a whole record", why, "restore the file, or start a new run")
            records.append(record)
            size += len(line) + 1
        elif not complete and not line:
            break
        elif last:
            torn = len(data) - size
            return Journal(tuple(records), size, f"{name}: line {number} is incomplete ({torn} bytes) and was dropped")
        else:
            raise StoreError(
                f"{name}:{number}: not a record, or damaged",
                f"found {line[:60]!r}",
                "restore the file, or delete the line: what it told of is computed again",
            )
    return Journal(tuple(records), size)


def _record(line: bytes) -> Record | None:
    try:
        record = parse_json(line)
    except ValueError:
        return None
    if not isinstance(record, dict) or not isinstance(record.get("kind"), str):
        return None
    if found := _SUM.search(line):
        del record["sum"]
        if _sum(line[: found.start()]) != found[1]:
            return None
    return record


def _sum(body: bytes) -> bytes:
    return hashlib.blake2b(body, digest_size=6).hexdigest().encode()


def _line(record: Record) -> bytes:
    """The record as it is written, without the newline."""
    body = json.dumps(record, allow_nan=False, separators=(",", ":")).encode().removesuffix(b"}")
    return body + b',"sum":"' + _sum(body) + b'"}'


def read(path: Path) -> Journal:
    try:
        return parse(path.read_bytes(), str(path))
    except OSError as error:
        raise StoreError(f"cannot read {path}", error.strerror or str(error)) from error


def results_written(records: Iterable[Record]) -> dict[str, str]:
    """Digest of each cell's `result.json` as it was written, by result id. A cell that was begun again since has none:
    its file may be the next one already.
    """
    found: dict[str, str] = {}
    for record in records:
        if record["kind"] == "finished":
            found[str(record.get("cell"))] = str(record.get("digest", ""))
        elif record["kind"] == "started":
            found.pop(str(record.get("cell")), None)
    return found


class Writer:
    """Appends records; each is on the disk when `write` returns. A torn last line is cut off first."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
            size = parse(path.read_bytes(), str(path)).size
            if os.fstat(self._file).st_size > size:
                os.ftruncate(self._file, size)
        except OSError as error:
            raise _unwritable(path, error) from error

    def write(self, kind: str, **fields: Any) -> str:
        """Appends a record and returns its time."""
        time = now()
        self.write_all([{"kind": kind, "time": time, **fields}])
        return time

    def write_all(self, records: Iterable[Record]) -> None:
        """Appends records, each with its `kind` and `time`, and syncs once."""
        rest = memoryview(b"".join(_line(record) + b"\n" for record in records))
        try:
            while rest:
                rest = rest[os.write(self._file, rest) :]
            os.fsync(self._file)
        except OSError as error:
            raise _unwritable(self._path, error) from error

    def close(self) -> None:
        os.close(self._file)


def _unwritable(path: Path, error: OSError) -> StoreError:
    return StoreError(
        f"cannot write {path}",
        error.strerror or str(error),
        f"make room or give access, then: arbench resume {path.parent}",
    )
