"""The one way to disk: a file is whole or unchanged, and a lock ends with its holder."""

from __future__ import annotations

import hashlib
import os
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from arbench import files
from arbench.errors import StoreError
from arbench.files import TEMPORARY, Lock, locked_by, replacing, write_atomic


@pytest.fixture
def umask() -> Iterator[None]:
    before = os.umask(0o027)
    yield
    os.umask(before)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# ---- files -----------------------------------------------------------------------------------------------------------


def test_a_file_takes_its_name_at_the_end_and_folders_are_made(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "file"
    with replacing(path) as file:
        file.write(b"one ")
        assert not path.exists()
        file.write(b"two")
    assert path.read_bytes() == b"one two"
    assert names(path.parent) == ["file"]


def test_the_digest_is_that_of_the_content(tmp_path: Path) -> None:
    assert write_atomic(tmp_path / "file", b"hay") == hashlib.blake2b(b"hay", digest_size=16).hexdigest()
    assert files.digest(b"hay") == write_atomic(tmp_path / "again", b"hay")


@pytest.mark.parametrize("error", [ValueError("no"), KeyboardInterrupt(), OSError(5, "Input/output error")])
def test_an_error_in_the_block_leaves_the_old_file_and_nothing_else(tmp_path: Path, error: BaseException) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    wanted = StoreError if isinstance(error, OSError) else type(error)

    def write() -> None:
        with replacing(path, "do this") as file:
            file.write(b"half")
            raise error

    with pytest.raises(wanted) as caught:
        write()
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["file"]
    if isinstance(caught.value, StoreError):
        assert str(caught.value) == f"cannot write {path}\n  why:  Input/output error\n  next: do this"


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_full_disk_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    path = tmp_path / "result.json"
    write_atomic(path, b"old")

    def refuse(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(*((files.os, "fsync") if step == "fsync" else (Path, "replace")), refuse)
    with pytest.raises(StoreError, match="No space left"):
        write_atomic(path, b"new")
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["result.json"]


def test_a_file_and_its_folder_are_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Content before the rename, the folder after it: else a power cut can leave an empty file of the right name."""
    order: list[str] = []
    fsync, replace = os.fsync, Path.replace

    def synced(descriptor: int) -> None:
        order.append("folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "content")
        fsync(descriptor)

    monkeypatch.setattr(files.os, "fsync", synced)
    monkeypatch.setattr(Path, "replace", lambda self, target: (order.append("rename"), replace(self, target))[1])
    write_atomic(tmp_path / "file", b"x")
    assert order == ["content", "rename", "folder"]


@pytest.mark.usefixtures("umask")
def test_permissions_are_those_of_any_new_file(tmp_path: Path) -> None:
    """Others who may read the folder may read the file; `tempfile` would keep it to its owner."""
    write_atomic(tmp_path / "mine", b"x")
    (tmp_path / "plain").write_bytes(b"x")
    modes = {name: stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("mine", "plain")}
    assert modes["mine"] == modes["plain"] == 0o640


def test_a_folder_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "file").mkdir()
    with pytest.raises(StoreError, match="cannot write"):
        write_atomic(tmp_path / "file", b"x")
    (tmp_path / "plain").write_bytes(b"")
    with pytest.raises(StoreError, match="cannot write"):
        write_atomic(tmp_path / "plain" / "file", b"x")
    assert names(tmp_path) == ["file", "plain"]


def test_a_long_name_has_a_temporary_one_that_is_not_too_long(tmp_path: Path) -> None:
    name = "n" * 250
    write_atomic(tmp_path / name, b"x")
    assert names(tmp_path) == [name]


def test_what_a_killed_process_leaves_is_named_as_the_store_sweeps_it(tmp_path: Path) -> None:
    code = (
        "import os, sys; from pathlib import Path; from arbench.files import replacing\n"
        "with replacing(Path(sys.argv[1])) as file:\n"
        "    file.write(b'half'); file.flush(); os.kill(os.getpid(), 9)"
    )
    killed = subprocess.run([sys.executable, "-c", code, str(tmp_path / "file")], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert not (tmp_path / "file").exists()
    (left,) = tmp_path.iterdir()
    assert list(tmp_path.glob(TEMPORARY)) == [left]


def test_threads_that_write_one_file_leave_one_of_theirs(tmp_path: Path) -> None:
    path, contents = tmp_path / "file", [bytes([65 + number]) * 50_000 for number in range(4)]

    def write(content: bytes) -> None:
        for _ in range(20):
            write_atomic(path, content)

    threads = [threading.Thread(target=write, args=(content,)) for content in contents]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert path.read_bytes() in contents
    assert names(tmp_path) == ["file"]


def test_readers_never_see_half_a_file(tmp_path: Path) -> None:
    path = tmp_path / "x"
    write_atomic(path, b"a" * 100_000)
    code = (
        "import sys; from pathlib import Path; from arbench.files import write_atomic\n"
        "for _ in range(50): write_atomic(Path(sys.argv[1]), b'b' * 100_000)"
    )
    writer = subprocess.Popen([sys.executable, "-c", code, str(path)])
    while writer.poll() is None:
        data = path.read_bytes()
        assert len(data) == 100_000
        assert len(set(data)) == 1
    assert writer.returncode == 0
    assert path.read_bytes()[:1] == b"b"


# ---- locks -----------------------------------------------------------------------------------------------------------


def hold(path: Path) -> subprocess.Popen[str]:
    """A process that holds the lock until it is killed."""
    code = (
        "import sys, time; from pathlib import Path; from arbench.files import Lock\n"
        "lock = Lock(Path(sys.argv[1]), ''); print('held', flush=True); time.sleep(60)"
    )
    holder = subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    return holder


def test_a_lock_names_its_holder_and_is_freed_by_a_kill(tmp_path: Path) -> None:
    path = tmp_path / "run" / "lock"
    path.parent.mkdir()
    assert locked_by(path) is None
    holder = hold(path)
    try:
        assert locked_by(path) == holder.pid
        with pytest.raises(StoreError) as caught:
            Lock(path, "wait for it")
        assert caught.value.what == f"{path.parent} is in use"
        assert caught.value.why == f"another arbench (process {holder.pid}) is running it"
        assert caught.value.hint == "wait for it"
        assert locked_by(path) == holder.pid  # the attempt has not disturbed it
    finally:
        holder.kill()
        holder.communicate()
    assert locked_by(path) is None
    lock = Lock(path, "")
    assert locked_by(path) == os.getpid()
    lock.release()
    assert locked_by(path) is None


def test_a_holder_of_fewer_digits_leaves_none_of_the_last_one(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    path.write_text("1234567890123\n")
    lock = Lock(path, "")
    assert path.read_text() == f"{os.getpid()}\n"
    lock.release()


def test_a_lock_whose_holder_is_not_told(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    holder = hold(path)
    path.write_text("")
    try:
        assert locked_by(path) == 0
        with pytest.raises(StoreError, match="process unknown"):
            Lock(path, "")
    finally:
        holder.kill()
        holder.communicate()


def test_a_lock_where_nobody_may_write(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="cannot lock"):
        Lock(tmp_path / "nowhere" / "lock", "")
