"""Shards, merged in any order, are the run in one piece; `verify` names a damage, `gc` deletes what nothing needs."""

from __future__ import annotations

import json
import re
import shutil
from collections import Counter

import pytest

from arbench import journal
from arbench.cli.main import main
from arbench.errors import DamagedFile, StoreError, UsageError
from arbench.report.folders import read_runs
from arbench.run.plan import make_plan
from arbench.run.replay import replay
from arbench.run.shard import Shard, parse_shard, share_of
from arbench.run.store import Store
from arbench.spec.suite_file import parse

QUIET = ("--track", "off", "--workers", 1)
SWEPT = "suite: s\nadapters: [farm/steady, farm/other]\nsettings: {device: cpu}\ntasks:\n  - count: {n: 75, batch: 8}\n"
SWEPT += "  - speed: {batches: [1]}\n"
GAPS = {"ID": "7", "MIN": "1", "MAX": "7", "COUNT": "3"}


def arbench(*arguments: object) -> int:
    return main([str(argument) for argument in arguments])


@pytest.mark.parametrize("total", [1, 2, 3, 7, 30])
def test_every_unit_is_of_one_shard(registered, total):
    plan = make_plan(parse(SWEPT, "s.yaml"))
    shares = [share_of(plan, Shard(index=index, total=total)) for index in range(total)]
    units = Counter((p.cell.result_id, unit.name) for share in shares for p in share.cells for unit in p.units)
    assert units == Counter((p.cell.result_id, unit.name) for p in plan.cells for unit in p.units)
    sizes = [sum(len(p.units) for p in share.cells if not p.exclusive) for share in shares]
    assert max(sizes) - min(sizes) <= 1
    assert all(p.partial == (len(p.units) < 10) for share in shares for p in share.cells if not p.exclusive)
    assert sum(share.minutes for share in shares) == pytest.approx(plan.minutes)


@pytest.mark.parametrize(
    ("variables", "found"),
    [("0 0 7 8 1", "0/8"), ("3 1 9 9 1", "2/9"), ("5 1 9 5 2", "2/5"), ("5 5 5 1 1", "0/1")],
)
def test_a_slurm_array_says_which_shard_it_is(variables, found):
    names = ("ID", "MIN", "MAX", "COUNT", "STEP")
    environment = {f"SLURM_ARRAY_TASK_{name}": value for name, value in zip(names, variables.split(), strict=True)}
    assert str(parse_shard("slurm", environment)) == found


@pytest.mark.parametrize(
    ("text", "environment", "message"),
    [
        ("3/3", {}, "expected I/N or slurm"),
        ("-1/3", {}, "expected I/N or slurm"),
        ("slurm", {}, "not a job of a Slurm array"),
        (
            "slurm",
            {f"SLURM_ARRAY_TASK_{name}": value for name, value in GAPS.items()},
            "has gaps",
        ),
    ],
)
def test_a_shard_that_cannot_be_told_is_refused(text, environment, message):
    with pytest.raises(UsageError, match=message):
        parse_shard(text, environment)


@pytest.fixture(scope="module")
def shards(engine):
    """The suite in one piece, and in three shards: 10 units of two adapters."""
    suite = engine.suite(["steady", "other"], n=40)
    parts = [engine.folder / f"part{index}" for index in range(3)]
    assert arbench("run", suite, "--out", engine.folder / "whole", *QUIET) == 0
    for index, part in enumerate(parts):
        assert arbench("run", suite, "--out", part, "--shard", f"{index}/3", *QUIET) == 0
    return engine, parts


def test_merged_shards_are_the_whole(shards, capsys):
    farm, parts = shards
    before = farm.called()
    whole, merged = farm.folder / "whole", farm.folder / "merged"
    assert arbench("merge", parts[2], parts[0], "-o", merged, "--track", "off") == 4
    out = capsys.readouterr().out
    assert "they are of the shards 1/3" in out
    assert "7 units and 0 results joined" in out
    assert arbench("status", parts[1]) == 0
    assert "2 done" in capsys.readouterr().out
    assert arbench("merge", parts[1], parts[2], "-o", merged, "--track", "off") == 0
    assert "3 units and 0 results joined" in capsys.readouterr().out
    assert farm.values(merged) == farm.values(whole)
    assert Store.read(merged).run.shard is None
    assert arbench("merge", *parts, "-o", merged, "--track", "off") == 0
    assert "0 units and 0 results joined" in capsys.readouterr().out
    assert farm.values(merged) == farm.values(whole)
    finished = [words for words in farm.called()[len(before) :] if words[0] == "finish"]
    assert len(finished) == len(farm.called()) - len(before) == 2  # no unit was computed, and each result once


def test_shards_that_contradict_each_other_are_refused(shards, capsys):
    farm, parts = shards
    other = farm.folder / "changed"
    shutil.copytree(parts[1], other)
    text = re.sub(',"sum":"[0-9a-f]+"', "", (other / "journal.jsonl").read_text())
    digest = next(record["digest"] for record in farm.records(other) if record["kind"] == "unit")
    (other / "journal.jsonl").write_text(text.replace(digest, "0" * 32))
    assert arbench("merge", *parts, other, "-o", farm.folder / "never") == 2
    assert "overlap, and differ where they do" in capsys.readouterr().err
    assert not (farm.folder / "never").exists()
    twelve = farm.folder / "twelve"
    suite = farm.suite(["steady", "other"], n=24)
    assert arbench("run", suite, "--out", twelve, "--shard", "0/12", *QUIET) == 0
    capsys.readouterr()
    assert arbench("merge", parts[0], twelve, "-o", farm.folder / "never") == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "are not shards of one run" in said
    assert "count.n is 40 in one plan, 24 in the other" in said
    assert arbench("merge", parts[0], "-o", parts[0]) == 2
    assert "is one of the shards" in capsys.readouterr().err


def test_a_damaged_unit_of_a_shard_is_not_taken(shards, capsys):
    farm, parts = shards
    damaged, merged = farm.folder / "damaged", farm.folder / "mended"
    shutil.copytree(parts[0], damaged)
    unit = sorted(damaged.glob("cells/*/units/*.npz"))[0]
    unit.write_bytes(unit.read_bytes()[:-7])
    assert arbench("merge", damaged, *parts[1:], "-o", merged, "--track", "off") == 4
    out = capsys.readouterr().out
    assert f"is missing or damaged; to compute it again: arbench resume {damaged}" in out
    assert "they are of the shards 0/3" in out
    assert arbench("resume", damaged) == 0
    assert arbench("merge", damaged, "-o", merged, "--track", "off") == 0
    assert farm.values(merged) == farm.values(farm.folder / "whole")


# ---- verify and gc ----


def _cell(run, adapter):
    results = [Store.read(run).read_result(path.parent.name) for path in run.glob("cells/*/result.json")]
    return next(run / "cells" / result.result_id for result in results if result.adapter == f"farm/{adapter}")


def _flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def _damage(run, what):
    """Does the damage; returns what `verify` says of it and whether that is an error."""
    path = run / "journal.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    cell = _cell(run, "steady")
    unit = sorted((cell / "units").iterdir())[1]
    if what == "torn":
        path.write_text("".join(lines) + lines[-1][:-9])
        return f"line {len(lines) + 1} is incomplete", True
    if what == "flipped line":
        number = next(number for number, line in enumerate(lines) if '"seconds"' in line)
        lines[number] = lines[number].replace('"seconds":0.', '"seconds":7.')
        path.write_text("".join(lines))
        return f"journal.jsonl:{number + 1}: not a record, or damaged", True
    if what == "twice":
        path.write_text("".join(line * (1 + ('"unit"' in line)) for line in lines))
        return "records are there twice", False
    if what == "clock":
        record = {"kind": "note", "time": "2001-01-01T00:00:00.000+00:00", "text": "x"}
        path.write_text("".join(lines) + json.dumps(record) + "\n")
        return "the clock went back", False
    if what == "no journal":
        path.unlink()
        return "journal.jsonl: is missing", True
    if what == "unit":
        _flip(unit)
        return f"cells/{cell.name}/units/{unit.name}: is not what was written", True
    if what == "lost unit":
        unit.unlink()
        return f"cells/{cell.name}/units/{unit.name}: is missing", True
    if what == "result":
        _flip(cell / "result.json")
        return f"cells/{cell.name}/result.json: is not what was written", True
    if what == "artifact":
        _flip(cell / "means.npy")
        return f"cells/{cell.name}/means.npy: is not what was written", True
    if what == "table":
        (run / "results.parquet").unlink()
        return "results.parquet: is missing", True
    assert what == "loose unit"
    shutil.copy(unit, unit.with_name("000400-000408.npz"))
    return "units in no record: 1", False


DAMAGES = (
    "torn", "flipped line", "twice", "clock", "no journal", "unit", "lost unit", "result", "artifact", "table",
    "loose unit",
)  # fmt: skip


@pytest.mark.parametrize("what", DAMAGES)
def test_verify_says_what_is_damaged(shards, tmp_path, capsys, what):
    farm, _ = shards
    run = tmp_path / "run"
    shutil.copytree(farm.folder / "whole", run)
    assert arbench("verify", run) == 0  # it has moved, too
    assert "10 units and 2 results: all as it was written" in capsys.readouterr().out
    said, is_error = _damage(run, what)
    assert arbench("verify", run) == int(is_error)
    out = capsys.readouterr().out
    lines = [line for line in out.splitlines() if line.startswith("error:" if is_error else "note:")]
    assert len(lines) == 1
    assert said in lines[0]
    assert out.count("  next: ") == (what not in ("twice", "clock", "loose unit"))


def test_a_journal_cut_off_anywhere_is_an_earlier_state_of_the_run(shards):
    farm, _ = shards
    plan = Store.read(farm.folder / "whole").plan
    whole = (farm.folder / "whole" / "journal.jsonl").read_bytes()
    order = [(r["cell"], r["unit"]) for r in farm.records(farm.folder / "whole") if r["kind"] == "unit"]
    for length in range(len(whole) + 1):
        read = journal.parse(whole[:length])
        assert read.size == whole[:length].rfind(b"\n") + 1
        state = replay(plan.cells, read.records)
        units = {(cell.id, unit) for cell in state.values() for unit in cell.units}
        assert units == set(order[: whole[: read.size].count(b'"kind":"unit"')])
        assert all(len(cell.units) == len(cell.planned.units) for cell in state.values() if cell.outcome == "ok")


def test_a_record_that_is_there_twice_counts_once(shards):
    farm, _ = shards
    records = [*farm.records(farm.folder / "whole")]
    plan = Store.read(farm.folder / "whole").plan
    once, twice = replay(plan.cells, records), replay(plan.cells, [*records, *records])
    assert [cell.seconds for cell in once.values()] == pytest.approx([cell.seconds for cell in twice.values()])


def test_gc_deletes_what_nothing_needs_and_only_when_asked(shards, tmp_path, capsys):
    farm, _ = shards
    run = tmp_path / "run"
    shutil.copytree(farm.folder / "whole", run)
    assert arbench("gc", run) == 0
    assert "nothing to delete" in capsys.readouterr().out
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").write_text("x")
    unit = sorted(_cell(run, "steady").glob("units/*"))[0]
    rubbish = [run / "cells" / "res-stray", unit.with_name("000400-000408.npz"), run / ".x.tmp", run / "cache"]
    shutil.copytree(unit.parent, rubbish[0])
    (rubbish[0] / "link").symlink_to(outside)
    shutil.copy(unit, rubbish[1])
    rubbish[2].write_bytes(b"half")
    rubbish[3].symlink_to(outside)
    assert arbench("gc", run) == 0
    out = capsys.readouterr().out
    assert "4 files and folders" in out
    assert "a cell that is not in the run's plan" in out
    assert "a unit that no record tells of" in out
    kept = (run / "journal.jsonl").read_bytes()
    writer = journal.Writer(run / "journal.jsonl")  # as where a resumed run has planned a cell anew
    writer.write("started", cell="res-stray")
    writer.write("unit", cell=unit.parents[1].name, unit="000400-000408", digest="", seconds=1.0)
    writer.close()
    assert arbench("gc", run) == 0
    out = capsys.readouterr().out
    assert "planned before its settings, weights, data or versions changed" in out
    assert "a unit of an earlier plan" in out
    (run / "journal.jsonl").write_bytes(kept)
    assert arbench("gc", run) == 0
    out = capsys.readouterr().out
    assert f"arbench gc {run} --yes" in out
    assert all(path.exists() for path in rubbish)
    assert arbench("gc", run, "--yes") == 0
    assert not any(path.exists() or path.is_symlink() for path in rubbish)
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before
    assert (outside / "precious").exists()
    (run / "journal.jsonl").unlink()
    assert arbench("gc", run, "--yes") == 3
    assert "has no journal" in capsys.readouterr().err


def test_a_result_that_was_edited_is_refused_until_it_is_written_again(shards, tmp_path):
    farm, _ = shards
    run = tmp_path / "run"
    shutil.copytree(farm.folder / "whole", run)
    path = _cell(run, "steady") / "result.json"
    written = json.loads(path.read_text())
    path.write_text(path.read_text() + " ")
    with pytest.raises(DamagedFile, match=r"result\.json was changed after it was written") as told:
        read_runs([run])
    assert told.value.hint == f"arbench resume {run} writes it again"
    assert arbench("resume", run) == 0
    assert read_runs([run])
    assert json.loads(path.read_text())["metrics"] == written["metrics"]


def test_files_of_others_name_nothing_outside_their_folder(shards, tmp_path, capsys):
    farm, _ = shards
    run = tmp_path / "run"
    shutil.copytree(farm.folder / "whole", run)
    result = _cell(run, "steady") / "result.json"
    result.write_text(result.read_text().replace('"means.npy"', '"../../../outside"', 2))
    with pytest.raises(StoreError, match="is not the name of a file"):
        Store.read(run).read_result(result.parent.name)
    text = (run / "run.json").read_text()
    (run / "run.json").write_text(text.replace(f'"result_id": "{result.parent.name}"', '"result_id": "../../outside"'))
    assert arbench("verify", run) == 2
    assert "is not the name of a file" in capsys.readouterr().err
