"""Addresses, and copies of what lies there: errors that say what to do, copies that are as new as the store."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import numpy as np
import pytest

from arbench import registry, weight_parts, weights
from arbench.checkpoints import parts
from arbench.data.digest import digest_of
from arbench.data.reading import fingerprint, is_statistics
from arbench.data.sources import open_source
from arbench.errors import InputError, PrerequisiteError, StoreError, UnknownName, UsageError
from arbench.features.weight_files import feature_weights, parse_given
from arbench.remote import cached
from arbench.remote.address import is_address, open_place, refuse_address, state
from arbench.remote.cached import fetch, local, without_units
from arbench.remote.upload import Upload, get
from arbench.spec.task import Data


def put(memory, name: str, data: bytes) -> str:
    with memory.open(name, "wb") as file:
        file.write(data)
    return f"memory:/{name}" if name.startswith("/") else f"memory://{name}"


@pytest.mark.parametrize(
    ("address", "error", "said"),
    [
        ("s4://bucket/x", UnknownName, "'s4'"),
        ("https://example.org/x", UsageError, "page of the web"),
        ("s3://", UsageError, "names no place"),
        ("s3://key:secret@bucket/x", UsageError, "password"),
        ("memory://a/../b", UsageError, "'..'"),
        ("memory://a//b", UsageError, "empty part"),
    ],
)
def test_addresses_that_are_none(address, error, said):
    with pytest.raises(error) as caught:
        fetch(address)
    assert said in str(caught.value)
    assert "secret" not in str(caught.value)


def test_a_package_that_is_missing_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "s3fs", None)
    with pytest.raises(PrerequisiteError, match="needs the package s3fs") as caught:
        open_place("s3://bucket/x")
    assert caught.value.hint == "pip install s3fs"


def test_not_there_no_permission_and_a_store_that_fails(memory, monkeypatch):
    put(memory, "bucket/runs/first/run.json", b"{}")
    with pytest.raises(InputError) as caught:
        fetch("memory://bucket/runs/frist")
    assert caught.value.why == "did you mean memory://bucket/runs/first?"
    for raised, said in ((PermissionError("403"), "no permission to read"), (ConnectionError("reset"), "cannot read")):
        monkeypatch.setattr(type(memory), "info", lambda *_, raised=raised, **more: (_ for _ in ()).throw(raised))
        with pytest.raises(StoreError, match=said):
            fetch("memory://bucket/runs/first")


def test_a_file_is_copied_once_for_each_state_of_the_store(memory, monkeypatch):
    address = put(memory, "bucket/a.bin", b"one")
    first = fetch(address)
    assert (first.name, first.read_bytes()) == ("a.bin", b"one")
    with monkeypatch.context() as patched:
        patched.setattr(cached, "download", lambda *_: pytest.fail("copied again"))
        assert fetch(address) == first
    put(memory, "bucket/a.bin", b"two")
    second = fetch(address)
    assert second.read_bytes() == b"two"
    assert first.read_bytes() == b"one"  # who reads it still may
    second.write_bytes(b"t")  # cut short since
    assert fetch(address).read_bytes() == b"two"
    put(memory, "bucket/b.bin", b"one")
    assert fetch("memory://bucket/b.bin").parent not in (first.parent, second.parent)


def test_a_file_of_the_same_size_and_time_is_another(tmp_path):
    """As for files of this machine: `file://` tells what was put in its place by number and time of change."""
    path = tmp_path / "store" / "a.bin"
    path.parent.mkdir()
    path.write_bytes(b"one")
    old = path.stat()
    assert Path(local(f"file://{path}")).read_bytes() == b"one"
    (path.parent / "new").write_bytes(b"two")
    os.utime(path.parent / "new", ns=(old.st_atime_ns, old.st_mtime_ns))
    (path.parent / "new").replace(path)
    assert Path(local(f"file://{path}")).read_bytes() == b"two"


def test_a_file_that_was_replaced_by_one_of_the_same_size_and_time_is_uploaded_again(memory, tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    upload = Upload(folder, open_place("memory://run"))
    (folder / "table.csv").write_text("one")
    upload.send(["table.csv"])
    found = (folder / "table.csv").stat()
    (folder / "new").write_text("two")
    (folder / "new").replace(folder / "table.csv")
    os.utime(folder / "table.csv", ns=(found.st_atime_ns, found.st_mtime_ns))
    upload.send(["table.csv"])
    assert get(open_place("memory://run/table.csv")) == b"two"


def test_a_file_that_is_replaced_while_it_is_read_is_read_again(memory, monkeypatch):
    address = put(memory, "bucket/a.bin", b"one")
    opened = type(memory).open
    count = iter(range(9))

    def meddling(self, path, mode="rb", **more):
        if mode == "rb" and next(count) == 0:
            put_again()
        return opened(self, path, mode, **more)

    def put_again():
        with opened(memory, "bucket/a.bin", "wb") as file:
            file.write(b"later")

    monkeypatch.setattr(type(memory), "open", meddling)
    assert fetch(address).read_bytes() == b"later"


def test_a_folder_follows_the_store(memory):
    for name in ("run.json", "cells/a/result.json", "cells/a/units/0-1.npz"):
        put(memory, f"bucket/run/{name}", name.encode())
    folder = fetch("memory://bucket/run", without_units)
    assert sorted(path.name for path in folder.rglob("*.*") if path.is_file() and path.name[0] != ".") == [
        "result.json",
        "run.json",
    ]
    assert (fetch("memory://bucket/run") / "cells/a/units/0-1.npz").is_file()
    (folder / "report.html").write_text("ours")
    memory.rm("bucket/run/cells/a/result.json")
    put(memory, "bucket/run/run.json", b"new")
    assert fetch("memory://bucket/run", without_units) == folder
    assert (folder / "run.json").read_bytes() == b"new"
    assert not (folder / "cells/a/result.json").exists()
    assert (folder / "report.html").exists()  # not of the store
    assert (folder / "cells/a/units/0-1.npz").exists()  # not asked for this time


def test_a_list_and_a_look_at_one_file_tell_the_same_state():
    """As S3 answers: with the version in one alone, and times in two zones."""
    time = datetime(2026, 1, 1, 12, tzinfo=UTC)
    listed = {"size": 3, "ETag": '"a"', "LastModified": time.astimezone(timezone(timedelta(hours=2)))}
    alone = {"size": 3, "ETag": '"a"', "LastModified": time, "VersionId": "1"}
    assert state(listed) == state(alone) != state({**alone, "ETag": '"b"'})
    assert state({**listed, "ETag": None}) == state({**alone, "ETag": None})
    assert state({**alone, "ETag": None}) != state({**alone, "ETag": None, "LastModified": time + timedelta(seconds=1)})


def test_names_that_would_lie_outside_are_refused(memory, tmp_path):
    put(memory, "bucket/run/run.json", b"{}")
    memory.store["/bucket/run/../../../evil.txt"] = memory.store["/bucket/run/run.json"]
    with pytest.raises(InputError, match="would lie outside"):
        fetch("memory://bucket/run")
    assert not list(tmp_path.rglob("evil.txt"))


def test_a_path_is_needed_where_a_path_is_needed():
    assert refuse_address("runs/a:b") == "runs/a:b"
    for text in ("s3://bucket/x", "s3:/bucket/x", "file:///tmp/x"):
        with pytest.raises(UsageError, match="is an address"):
            refuse_address(text)
    assert not is_address("mnist5k/train")
    assert not is_address("tar:/a/b.tar")


# ---- weights and statistics ------------------------------------------------------------------------------------------


def test_weights_at_an_address(memory):
    card = registry.card("raster/llamagen-mini")
    file = weights.locate(card)
    assert file is not None
    address = put(memory, f"bucket/w/{file.name}", file.read_bytes())
    given = parse_given([f"{card.name}={address}", f"inception={address}"], registry.cards())
    assert given[card.name] == address  # as run.json has it, which another machine reads
    found = weights.locate(card, given)
    assert found is not None
    assert weight_parts.digest_of(found) == weight_parts.digest_of(file)
    assert parts.split(f"{address}#ema") == (found, "ema")
    assert feature_weights(given).given == {"inception": found}
    with pytest.raises(InputError, match="nothing is at"):
        weights.locate(card, {card.name: "memory://bucket/w/none.safetensors"})


def test_an_index_of_weights_comes_with_its_shards(memory):
    index = {"weight_map": {"a": "m-1.safetensors", "b": "m-2.safetensors"}}
    address = put(memory, "bucket/m/m.safetensors.index.json", json.dumps(index).encode())
    for name in ("m-1.safetensors", "m-2.safetensors", "other.bin"):
        put(memory, f"bucket/m/{name}", name.encode())
    path, _ = parts.split(address)
    assert sorted(each.name for each in path.parent.iterdir() if each.name[0] != ".") == [
        "m-1.safetensors",
        "m-2.safetensors",
        "m.safetensors.index.json",
    ]


def test_statistics_and_images_at_an_address(memory, tmp_path):
    np.savez(tmp_path / "ref.npz", mu=np.zeros(4), sigma=np.eye(4))
    np.savez(tmp_path / "images.npz", arr_0=np.full((3, 8, 8, 3), 7, np.uint8))
    statistics = put(memory, "bucket/ref.npz", (tmp_path / "ref.npz").read_bytes())
    images = put(memory, "bucket/images.npz", (tmp_path / "images.npz").read_bytes())
    assert is_statistics(statistics)
    assert not is_statistics(images)
    assert digest_of(Data(statistics)) == digest_of(Data(str(tmp_path / "ref.npz")))
    before = fingerprint(images)
    assert before == fingerprint(images) != ""
    for source in (images, f"npz:{images}"):
        assert open_source(source).load([0]).shape == (1, 3, 8, 8)
    np.savez(tmp_path / "images.npz", arr_0=np.full((4, 8, 8, 3), 7, np.uint8))
    put(memory, "bucket/images.npz", (tmp_path / "images.npz").read_bytes())
    assert fingerprint(images) != before
    assert len(open_source(images)) == 4
