"""Shards: every unit is one shard's, whoever plans it; merged in any order they are the run in one piece."""

from __future__ import annotations

import shutil
from collections import Counter

import pytest

from arbench.cli.main import main
from arbench.errors import UsageError
from arbench.run.plan import make_plan
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
    text = (other / "journal.jsonl").read_text()
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
    assert "are not shards of one run" in capsys.readouterr().err
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
