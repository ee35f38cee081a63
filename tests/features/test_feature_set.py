"""Features on disk: read by row, resumed after a kill, checked, merged from shards, claimed by one process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arbench.data.stream import Tally
from arbench.errors import DamagedFile, InputError
from arbench.features.feature_folder import FeatureFolder
from arbench.features.feature_set import FeatureSet, Output, PictureRecord
from arbench.features.feature_writer import FeatureWriter, merge

OUTPUT = Output("recipe/a:rows", 3, "test")
ROWS = np.arange(60, dtype=np.float32).reshape(20, 3)


def record(index: int) -> PictureRecord:
    return PictureRecord(index, f"{index}.png", 4, 5, index % 3, f"{index:032x}")


def make(folder: Path, indices: list[int], shard: tuple[int, int] = (0, 1), chunk: int = 7) -> FeatureSet:
    writer = FeatureWriter(folder, "source", {"a": 1}, [OUTPUT], shard)
    for start in range(len(writer.done), len(indices), chunk):
        some = indices[start : start + chunk]
        writer.append([record(index) for index in some], {OUTPUT.name: ROWS[some]})
    return writer.finish(Tally(read=len(indices)))


@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_rows_are_those_of_an_array(tmp_path_factory, data):
    rows = make(tmp_path_factory.mktemp("set"), list(range(20))).rows(OUTPUT.name)
    index = data.draw(
        st.one_of(
            st.slices(20),
            st.lists(st.integers(-20, 19)).map(lambda numbers: np.array(numbers, dtype=np.int64)),
            st.lists(st.booleans(), min_size=20, max_size=20).map(np.array),
        )
    )
    np.testing.assert_array_equal(rows[index], ROWS[index])


def test_rows_outside_are_an_error(tmp_path):
    rows = make(tmp_path, list(range(20))).rows(OUTPUT.name)
    with pytest.raises(IndexError, match="20 rows"):
        rows[np.array([20])]


@settings(max_examples=20, deadline=None)
@given(count=st.integers(1, 8), seed=st.integers(0, 99))
def test_any_number_of_shards_in_any_order_is_the_whole(tmp_path_factory, count, seed):
    folder = tmp_path_factory.mktemp("shards")
    parts = [make(folder / str(index), list(range(index, 20, count)), (index, count)) for index in range(count)]
    order = np.random.default_rng(seed).permutation(count)
    whole = merge([parts[index] for index in order], folder / "whole")
    np.testing.assert_array_equal(whole.rows(OUTPUT.name)[:], ROWS)
    assert whole.pictures == [record(index) for index in range(20)]
    assert whole.tally.read == 20


def test_shards_must_be_all_there_once_and_of_one_set(tmp_path):
    parts = [make(tmp_path / str(index), list(range(index, 20, 3)), (index, 3)) for index in range(3)]
    with pytest.raises(InputError, match=r"missing: 2/3"):
        merge(parts[:2], tmp_path / "whole")
    with pytest.raises(InputError, match="twice"):
        merge([*parts, parts[0]], tmp_path / "whole")
    other = FeatureWriter(tmp_path / "other", "another source", {"a": 1}, [OUTPUT], (2, 3)).finish(Tally())
    with pytest.raises(InputError, match="differ in source"):
        merge([*parts[:2], other], tmp_path / "whole")


def test_what_a_kill_left_half_written_is_cut_off_and_the_rest_kept(tmp_path):
    writer = FeatureWriter(tmp_path, "source", {"a": 1}, [OUTPUT])
    writer.append([record(index) for index in range(7)], {OUTPUT.name: ROWS[:7]})
    writer.close()
    with (tmp_path / OUTPUT.file).open("ab") as file:  # a chunk whose header never came
        file.write(ROWS[7:9].tobytes()[:-5])
    with (tmp_path / "pictures.jsonl").open("a") as file:
        file.write(json.dumps(asdict(record(7)))[:20])
    with pytest.raises(InputError, match="not complete"):
        FeatureSet(tmp_path)
    again = FeatureWriter(tmp_path, "source", {"a": 1}, [OUTPUT])
    assert again.done == [record(index) for index in range(7)]
    again.close()
    np.testing.assert_array_equal(make(tmp_path, list(range(20))).rows(OUTPUT.name)[:], ROWS)


def test_rows_that_never_reached_the_disk_are_made_again(tmp_path):
    """After a power cut the header may tell of more rows than there are."""
    writer = FeatureWriter(tmp_path, "source", {"a": 1}, [OUTPUT])
    writer.append([record(index) for index in range(7)], {OUTPUT.name: ROWS[:7]})
    writer.close()
    os.truncate(tmp_path / OUTPUT.file, 3 * 4 * OUTPUT.length + 5)
    again = FeatureWriter(tmp_path, "source", {"a": 1}, [OUTPUT])
    assert again.done == [record(index) for index in range(3)]
    again.close()
    np.testing.assert_array_equal(make(tmp_path, list(range(20))).rows(OUTPUT.name)[:], ROWS)


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[3] ^= 0x40
    path.write_bytes(content)


DAMAGES = {
    "a flipped bit": lambda folder: flip(folder / OUTPUT.file),
    "cut vectors": lambda folder: os.truncate(folder / OUTPUT.file, 40),
    "no vectors": lambda folder: (folder / OUTPUT.file).unlink(),
    "a record less": lambda folder: os.truncate(folder / "pictures.jsonl", 200),
    "no records": lambda folder: (folder / "pictures.jsonl").unlink(),
    "a header without facts": lambda folder: (folder / "features.json").write_text('{"version":1,"complete":true}'),
    "a header that is a list": lambda folder: (folder / "features.json").write_text("[]"),
    "an empty header": lambda folder: (folder / "features.json").write_bytes(b""),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_set_is_named_and_made_again(tmp_path, damage, caplog):
    folder = FeatureFolder(tmp_path, "source", {})
    place = folder.place("recipe/a", [OUTPUT])
    claimed = folder.claim("recipe/a", [OUTPUT])
    assert isinstance(claimed, FeatureWriter)
    claimed.append([record(index) for index in range(20)], {OUTPUT.name: ROWS})
    claimed.finish(Tally())
    claimed.close()
    damage(place)
    with pytest.raises(DamagedFile):
        FeatureSet(place)
    again = folder.claim("recipe/a", [OUTPUT])
    assert isinstance(again, FeatureWriter)
    assert again.done == []
    assert "extracted again" in caplog.text
    again.append([record(index) for index in range(20)], {OUTPUT.name: ROWS})
    np.testing.assert_array_equal(again.finish(Tally()).rows(OUTPUT.name)[:], ROWS)
    again.close()
    assert isinstance(folder.claim("recipe/a", [OUTPUT]), FeatureSet)


def test_other_features_are_never_overwritten(tmp_path):
    make(tmp_path, list(range(20)))
    with pytest.raises(InputError, match="holds other features"):
        FeatureWriter(tmp_path, "another source", {"a": 1}, [OUTPUT])


def test_a_process_that_makes_the_same_set_is_waited_for(tmp_path):
    code = f"""
import sys, time
from pathlib import Path
from arbench.data.stream import Tally
from arbench.features.feature_set import Output
from arbench.features.feature_folder import FeatureFolder
writer = FeatureFolder(Path({str(tmp_path)!r}), "source", {{}}).claim("recipe/a", [Output("recipe/a:rows", 3, "test")])
print("claimed", flush=True)
time.sleep(1.5)
writer.finish(Tally())
writer.close()
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "claimed\n"
        started = time.monotonic()
        claimed = FeatureFolder(tmp_path, "source", {}).claim("recipe/a", [OUTPUT])
        assert time.monotonic() - started > 0.5
    assert isinstance(claimed, FeatureSet)
