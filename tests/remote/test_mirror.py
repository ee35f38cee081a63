"""Runs at an address: files before the records that tell of them, nothing lost when a store fails, resumed anywhere."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path

import pytest

import arbench
from arbench import journal as journals
from arbench.cli.main import main
from arbench.errors import InputError, StoreError, UsageError
from arbench.files import digest, write_atomic
from arbench.journal import now
from arbench.remote.upload import uploading
from arbench.run import mirror
from arbench.run.merge import _whole
from arbench.run.mirror import Apart, Mirror, claim, staged
from arbench.run.plan import make_plan
from arbench.run.store import RunFile, Store
from arbench.spec.suite_file import parse

ADDRESS = "memory://bucket/runs/first"
SUITE = "suite: s\nadapters: [raster/llamagen-mini]\nsettings: {device: cpu}\ntasks:\n  - generate: {n: 256}\n"


@pytest.fixture(scope="module")
def run() -> RunFile:
    plan = make_plan(parse(SUITE, "s.yaml"))
    return RunFile(
        run_id="s-1",
        started=now(),
        argv=(),
        suite=parse(SUITE, "s.yaml").suite,
        suite_path="s.yaml",
        origins=(),
        mirror=ADDRESS,
        plan=plan,
    )


def begun(run: RunFile, folder: str = "runs/s-1") -> Store:
    store = Store.create(Path(folder), run)
    Writer(store).write("session", verb="run", workers=1, device="cpu")
    return store


class Writer:
    """What a supervisor and its workers do, with a few bytes for a unit."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.cell = store.plan.cells[0]

    def write(self, kind: str, **more: object) -> None:
        writer = journals.Writer(self.store.journal)
        writer.write(kind, **more)
        writer.close()

    def unit(self, number: int) -> None:
        unit = self.cell.units[number]
        data = f"unit {number}".encode() * 10
        done = write_atomic(self.store.unit(self.cell.cell.result_id, unit), data)
        self.write("unit", cell=self.cell.cell.result_id, unit=unit.name, digest=done, samples=64, seconds=1.0)


def at(memory, name: str) -> bytes:
    return memory.cat_file(f"/bucket/runs/first/{name}")


def units_at(memory) -> int:
    """Units that the journal at the address speaks of; each is there, as it was written."""
    records = journals.parse(at(memory, "journal.jsonl")).records
    units = [record for record in records if record["kind"] == "unit"]
    for record in units:
        assert digest(at(memory, f"cells/{record['cell']}/units/{record['unit']}.npz")) == record["digest"]
    return len(units)


def test_files_are_there_before_the_records_that_speak_of_them(run, memory, monkeypatch):
    """At every single write to the store, a reader finds all that the journal there speaks of."""
    seen = []
    written = type(memory).pipe_file, type(memory).open

    def opened(self, path, mode="rb", **more):
        if mode == "wb" and self.exists("/bucket/runs/first/journal.jsonl"):
            with monkeypatch.context() as patched:
                patched.setattr(type(memory), "open", written[1])
                seen.append(units_at(memory))
        return written[1](self, path, mode, **more)

    monkeypatch.setattr(type(memory), "open", opened)
    monkeypatch.setattr(mirror, "PAUSE", 0.005)
    store = begun(run)
    sent = Mirror(store.folder, ADDRESS)
    sent.start()
    for number in range(4):
        Writer(store).unit(number)
        until = time.monotonic() + 60
        while not memory.exists("/bucket/runs/first/journal.jsonl") or units_at(memory) <= number:
            assert time.monotonic() < until
            time.sleep(0.01)
    sent.finish()
    assert sent.problem == ""
    assert units_at(memory) == 4
    assert at(memory, "journal.jsonl") == store.journal.read_bytes()
    assert len(seen) >= 4
    assert "lock" not in [Path(name).name for name in memory.find("/bucket")]
    store.close()


def test_a_folder_of_this_machine_as_the_store(run, tmp_path):
    """`file://`: a file has its name once it is whole."""
    store = begun(run)
    Writer(store).unit(0)
    place = tmp_path / "store" / "first"
    for _ in range(2):  # a second session sends what is new
        sent = Mirror(store.folder, f"file://{place}")
        sent.start()
        sent.finish()
        assert sent.problem == ""
        assert (place / "journal.jsonl").read_bytes() == store.journal.read_bytes()
        Writer(store).unit(1)
    assert sorted(path.name for path in place.rglob("*") if path.is_file() and path.suffix != ".npz") == [
        "journal.jsonl",
        "run.json",
    ]
    store.close()


def test_a_store_that_fails_delays_and_loses_nothing(run, memory, monkeypatch):
    store = begun(run)
    refuse = [False]
    opened = type(memory).open

    def refusing(self, path, mode="rb", **more):
        if mode == "wb" and refuse[0]:
            raise PermissionError("403 Forbidden")
        return opened(self, path, mode, **more)

    monkeypatch.setattr(type(memory), "open", refusing)
    sent = Mirror(store.folder, ADDRESS)
    sent.start()
    Writer(store).unit(0)
    refuse[0] = True
    sent.finish()
    assert "no permission to write" in sent.problem
    assert not memory.exists("/bucket/runs/first/journal.jsonl")
    refuse[0] = False
    Writer(store).unit(1)
    again = Mirror(store.folder, ADDRESS)
    again.start()
    again.finish()
    assert again.problem == ""
    assert units_at(memory) == 2
    store.close()


def test_held_it_uploads_nothing(run, memory, monkeypatch):
    monkeypatch.setattr(mirror, "PAUSE", 0.005)
    store = begun(run)
    sent = Mirror(store.folder, ADDRESS)
    sent.start()
    sent.hold()
    before = memory.find("/bucket")
    Writer(store).unit(0)
    sent._ended.wait(0.05)
    assert memory.find("/bucket") == before
    sent.release()
    sent.finish()
    assert units_at(memory) == 1
    store.close()


def uploaded(run: RunFile, units: int) -> Store:
    store = begun(run)
    for number in range(units):
        Writer(store).unit(number)
    sent = Mirror(store.folder, ADDRESS)
    sent.start()
    sent.finish()
    store.close()
    return store


def test_another_machine_resumes_and_the_first_is_told(run, memory, tmp_path, monkeypatch):
    first = uploaded(run, 2)
    assert staged(ADDRESS) == Path("runs/s-1")  # where it was begun
    Writer(first).unit(2)  # not uploaded: the machine has gone away
    there = tmp_path / "there"
    there.mkdir()
    monkeypatch.chdir(there)
    other = Store.resume(staged(ADDRESS))
    assert other.folder.resolve() == there / "runs" / "s-1"
    assert [path.name for path in sorted(other.folder.rglob("*.npz"))] == [
        u.name + ".npz" for u in run.plan.cells[0].units[:2]
    ]
    Writer(other).unit(3)
    sent = Mirror(other.folder, ADDRESS)
    sent.start()
    sent.finish()
    assert units_at(memory) == 3
    other.close()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(Apart, match="diverged") as caught:
        staged(ADDRESS)
    assert f"arbench resume {ADDRESS}" in caught.value.hint
    with pytest.raises(Apart):
        Mirror(first.folder, ADDRESS).start()
    assert units_at(memory) == 3  # untouched
    shutil.move("runs", "old")
    assert len(list(staged(ADDRESS).rglob("*.npz"))) == 3


def test_a_folder_that_is_behind_catches_up(run, memory, tmp_path, monkeypatch):
    uploaded(run, 1)
    (tmp_path / "there").mkdir()
    monkeypatch.chdir(tmp_path / "there")
    other = Store.resume(staged(ADDRESS))
    Writer(other).unit(1)
    sent = Mirror(other.folder, ADDRESS)
    sent.start()
    sent.finish()
    other.close()
    monkeypatch.chdir(tmp_path)
    assert len(list(staged(ADDRESS).rglob("*.npz"))) == 2


def test_two_at_once_do_not_overwrite_each_other(run, memory):
    """The second writer has the journal of the first no more than the first has that of the second."""
    store = uploaded(run, 1)
    sent = Mirror(store.folder, ADDRESS)
    sent.start()
    with memory.open("/bucket/runs/first/journal.jsonl", "ab") as file:
        file.write(b'{"kind":"note","time":"","text":"another"}\n')
    kept = at(memory, "journal.jsonl")
    Writer(store).unit(1)
    sent.finish()
    assert "another process has written to memory://bucket/runs/first" in sent.problem
    assert at(memory, "journal.jsonl") == kept


def test_the_whole_is_not_uploaded_over_a_shard(run):
    assert _whole(run, run.plan, ()).mirror == ""


def test_a_journal_names_no_files_of_the_user(run, memory, tmp_path):
    """A run that somebody else has made is resumed, with an address of theirs in it."""
    (tmp_path / "id_rsa").write_text("secret")
    store = begun(run)
    (store.folder / "cells" / "x").mkdir()
    Writer(store).write("finished", cell="x", outcome="ok", digest="", reason="", files={"../../../../id_rsa": ""})
    sent = Mirror(store.folder, ADDRESS)
    sent.start()
    sent.finish()
    assert "lies outside" in sent.problem
    assert not [name for name in memory.find("/bucket") if "id_rsa" in name]
    store.close()


def test_places_that_are_taken_or_no_run(memory):
    with memory.open("/bucket/x/thesis.tex", "wb") as file:
        file.write(b"x")
    with pytest.raises(UsageError, match="is not empty"):
        claim("memory://bucket/x")
    with pytest.raises(InputError, match="is not a run"):
        staged("memory://bucket/x")
    with memory.open("/bucket/y/run.json", "wb") as file:
        file.write(b"{}")
    with pytest.raises(UsageError, match="holds a run already") as caught:
        claim("memory://bucket/y")
    assert "arbench resume memory://bucket/y" in caught.value.hint


def test_a_place_without_permission_leaves_no_folder(memory, tmp_path, monkeypatch):
    opened = type(memory).open

    def refusing(self, path, mode="rb", **more):
        if mode == "wb":
            raise PermissionError("403")
        return opened(self, path, mode, **more)

    monkeypatch.setattr(type(memory), "open", refusing)
    with pytest.raises(StoreError, match="no permission to write"):
        arbench.run(_small(), out=ADDRESS, track="off", progress=False)
    assert not list((tmp_path / "runs").glob("*"))


def test_scores_go_there_when_they_are_done(memory, tmp_path):
    with uploading(ADDRESS) as folder:
        assert folder is not None
        write_atomic(folder / "run.json", b'{"run_id": "a"}')
        write_atomic(folder / "journal.jsonl", b"")
    assert sorted(Path(name).name for name in memory.find("/bucket")) == ["journal.jsonl", "run.json"]
    shutil.rmtree(folder)
    with uploading(ADDRESS) as folder:
        assert (folder / "run.json").exists()  # scores are added to those that are there
    with uploading("plain") as folder:
        assert folder == Path("plain")


def _small() -> dict[str, object]:
    return {
        "suite": "small",
        "settings": {"device": "cpu"},
        "tokenizers": ["tokenizers/jpeg"],
        "tasks": [{"reconstruct": {"data": "mnist5k/heldout", "n": 65, "conventions": ["pairs"], "metrics": ["psnr"]}}],
    }


def test_a_run_is_killed_and_resumed_elsewhere(memory, tmp_path, monkeypatch, capsys):
    """By the commands: the numbers are those of the run that was not interrupted, and readers take the address."""
    import arbench.report.page as page

    monkeypatch.setattr(page, "write_report", lambda folders, output: (output.write_text("report"), output)[1])
    monkeypatch.setenv("ARBENCH_WEIGHTS", str(tmp_path / "none"))
    whole = arbench.run(_small(), out=ADDRESS, track="off", workers=1, progress=False)
    assert whole.outcome == "complete"
    assert at(memory, "report.html") == b"report"
    lines = at(memory, "journal.jsonl").splitlines(keepends=True)
    first = next(place for place, line in enumerate(lines) if b'"kind":"unit"' in line)
    cut = b"".join(lines[: first + 1])
    for name in memory.find("/bucket/runs/first"):  # as it is when the machine dies after its first unit
        kept = json.loads(lines[first])["unit"]
        if not name.endswith(("run.json", f"{kept}.npz")):
            memory.rm(name)
    with memory.open("/bucket/runs/first/journal.jsonl", "wb") as file:
        file.write(cut)
    (tmp_path / "there").mkdir()
    monkeypatch.chdir(tmp_path / "there")
    assert main(["status", ADDRESS]) == 0
    assert "1/2" in (shown := capsys.readouterr().out)
    assert f"to resume: arbench resume {ADDRESS}" in shown
    assert main(["resume", ADDRESS, "--track", "off"]) == 0
    assert f"uploaded: {ADDRESS}" in capsys.readouterr().out
    assert units_at(memory) == 2  # the first was not computed again
    (name,) = (name for name in memory.find("/bucket") if name.endswith("result.json"))
    metrics = json.loads(memory.cat_file(name))["metrics"]
    assert [each["value"] for each in metrics] == [each.value for each in whole.results[0].metrics]
    assert main(["verify", ADDRESS]) == 0
    assert main(["compare", ADDRESS, str(whole.folder), "--json"]) == 0
    assert main(["gc", ADDRESS]) == 2
    assert "a path of this machine is needed" in capsys.readouterr().err
