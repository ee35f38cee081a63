"""A run with an address for `--out`: written to a folder of this machine as any run, and uploaded as it is journalled.

Files go first, then the records that tell of them, so that a reader at the address finds every file that the journal
there speaks of. A store that fails delays and loses nothing: the folder here is whole, and `arbench resume` uploads it.
"""

from __future__ import annotations

import shlex
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from ..errors import ArbenchError, InputError, StoreError, UsageError
from ..files import write_atomic
from ..journal import Record, parse
from ..remote.address import Place, exists, info, open_place
from ..remote.cached import FIRST, listed, pull
from ..remote.upload import Upload, get
from .store import read_run, running

PAUSE = 5.0
"""Seconds between two uploads, at least; as many as one takes where that is more."""
RETRY = (1.0, 4.0)
"""Seconds to wait before the last uploads of a session are tried again."""


def claim(address: str) -> Place:
    """The place of a new run, which must be empty, and where a file can be written.

    Raises `UsageError` where a run is already, and what `open_place` and `told` raise.
    """
    place = open_place(address)
    if exists(place / "run.json"):
        raise UsageError(
            f"{place.address} holds a run already", "", f"arbench resume {shlex.quote(place.address)}, or another --out"
        )
    if exists(place) and next(iter(listed(place)), None) is not None:
        raise UsageError(f"{place.address} is not empty", "a run has a place of its own", "choose another --out")
    return place


def staged(address: str) -> Path:
    """The folder of this machine in which the run at `address` resumes: where it was begun, else a new one in `runs`.

    Raises `InputError` where no run is at the address, `StoreError` where the folder and the address have diverged.
    """
    place = open_place(address)
    try:
        data = get(place / "run.json")
    except InputError as error:
        info(place)  # names what is close
        raise InputError(f"{place.address} is not a run", "it has no run.json", "check the address") from error
    probe = Path("runs") / ".remote" / f"{time.time_ns()}"
    write_atomic(probe / "run.json", data)
    try:
        run = read_run(probe)
    finally:
        (probe / "run.json").unlink()
        probe.rmdir()
    folder = Path("runs") / run.run_id
    if (folder / "run.json").exists():
        if read_run(folder).mirror != run.mirror:
            raise StoreError(f"{folder} is another run", f"it is not that of {place.address}", "move it away")
        if (holder := running(folder)) is not None:
            raise StoreError(f"{folder} is in use", f"process {holder} is running it", "wait for it, or stop it")
        if _ahead(folder, place):
            return folder
    pull(place, folder)
    return folder


def _ahead(folder: Path, place: Place) -> bool:
    """Whether the folder has all that the address has. Raises `StoreError` where each has what the other lacks."""
    there = _journal_at(place)
    here = (folder / FIRST).read_bytes() if (folder / FIRST).exists() else b""
    if here.startswith(there):
        return True
    if there.startswith(here[: here.rfind(b"\n") + 1]):
        return False
    raise Apart(folder, place)


class Apart(StoreError):
    """The folder of a run and its address have each what the other lacks."""

    def __init__(self, folder: Path, place: Place) -> None:
        super().__init__(
            f"{folder} and {place.address} have diverged",
            "another process has resumed the run at the address since",
            f"move the folder away, then: arbench resume {shlex.quote(place.address)}",
        )


def _journal_at(place: Place) -> bytes:
    try:
        return get(place / FIRST)
    except InputError:
        return b""


class Mirror:
    """Uploads the run in `folder` from a background thread until `finish`; `problem` is what stands in the way."""

    def __init__(self, folder: Path, address: str) -> None:
        self.folder = folder
        self.place = open_place(address)
        self.problem = ""
        self._upload = Upload(folder, self.place)
        self._done = 0
        """Bytes of the journal that are at the address."""
        self._busy = threading.Lock()
        self._free = threading.Event()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._work, name="arbench-mirror", daemon=True)

    def start(self) -> None:
        """Raises `StoreError` where the address has what the folder lacks; one that does not answer is a `problem`."""
        try:
            ahead = _ahead(self.folder, self.place)
            self._done = len(_journal_at(self.place))
        except Apart:
            raise
        except StoreError as error:
            ahead, self.problem = True, f"{error.what}: {error.why}"
        if not ahead:
            raise Apart(self.folder, self.place)
        self._free.set()
        self._thread.start()

    def hold(self) -> None:
        """Waits for the upload in progress, and begins none until `release`: a speed cell has the machine to itself."""
        self._free.clear()
        with self._busy:
            pass

    def release(self) -> None:
        self._free.set()

    def stop(self) -> None:
        """Ends without the last uploads."""
        self._ended.set()
        self._free.set()

    def finish(self) -> None:
        """Uploads all that is left, tables and report too; `problem` is "" once it is there."""
        self.stop()
        if self._thread.is_alive():
            self._thread.join()
        for wait in (*RETRY, None):
            self._try(whole=True)
            if not self.problem or wait is None:
                return
            time.sleep(wait)

    def _work(self) -> None:
        pause = PAUSE
        while not self._ended.wait(pause):
            self._free.wait()
            began = time.monotonic()
            with self._busy:
                self._try(whole=False)
            pause = max(PAUSE, time.monotonic() - began)

    def _try(self, *, whole: bool) -> None:
        try:
            self._push(whole)
            self.problem = ""
        except (ArbenchError, OSError) as error:
            self.problem = f"{error.what}: {error.why}" if isinstance(error, ArbenchError) else str(error)

    def _push(self, whole: bool) -> None:
        path = self.folder / FIRST
        data = path.read_bytes() if path.exists() else b""
        data = data[: data.rfind(b"\n") + 1]
        if whole:
            self._upload.send_all()
        for record in parse(data[self._done :]).records:
            self._upload.send(_files_of(record))
        if len(data) > self._done:
            self._upload.send(["run.json"])
            self._upload.send_journal(data)
            self._done = len(data)
            self._upload.remember()


def _files_of(record: Record) -> Iterator[str]:
    """Names of the files that a record speaks of."""
    here = f"cells/{record.get('cell')}"
    if record["kind"] == "unit":
        yield f"{here}/units/{record['unit']}.npz"
    elif record["kind"] == "finished":
        yield from (f"{here}/{name}" for name in (record.get("files") or ()))
        yield f"{here}/log.txt"
        yield f"{here}/result.json"
