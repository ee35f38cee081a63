"""What a stranger's file could do to who reads it: checkpoints, archives, tables and stores that are made to harm."""

from __future__ import annotations

import ast
import io
import json
import pickle
import shutil
import tarfile
import zipfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from PIL import Image
from pydantic import ValidationError

from arbench import limits
from arbench.checkpoints.listing import list_tensors
from arbench.data.sources import open_stream
from arbench.data.statistics.read import read_statistics
from arbench.errors import CheckpointError, ConfigError, DamagedFile, ImageError, InputError
from arbench.pickle_text import check_pickle
from arbench.report import site
from arbench.report.folders import read_runs
from arbench.spec import suite_file
from arbench.spec.result import Result
from arbench.track import fetch
from arbench.track.sink import Tracker
from arbench.track.target import Target


def nested(value: Any, times: int, kind: Any) -> Any:
    for _ in range(times):
        value = kind(value)
    return value


def archive(path: Path, content: bytes, **more: bytes) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("a/data.pkl", content)
        for name, data in more.items():
            packed.writestr(f"a/{name}", data)
    return path


TABLE_OF_MEMOS = b"\x80\x02Nr\xff\xff\xff\x01."
"""256 MB for five bytes; with another digit, 32 GB."""
PICKLES = {
    "a table of memos": TABLE_OF_MEMOS,
    "dicts that multiply": pickle.dumps(nested({"k": 1}, 25, lambda d: {"a": d, "b": d, "c": d, "d": d}), 2),
    "a key that multiplies": pickle.dumps({}, 2)[:-2]
    + b"K\x01\x85q\x01" + b"".join(b"h%ch%ch%c\x87q%c0" % (i, i, i, i + 1) for i in range(1, 30)) + b"h\x1eK\x01s.",
    "a key that is deep": b"\x80\x02})" + b"\x85" * 100_000 + b"K\x01s.",
    "a key of many digits": pickle.dumps({10**5000: 1}, 2),
    "nothing": b"\x80\x02.",
    "a memo that is not there": b"\x80\x02}h\x07K\x01s.",
}  # fmt: skip


@pytest.mark.parametrize("what", PICKLES)
@pytest.mark.parametrize("form", ["archive", "pickle"])
def test_a_checkpoint_is_refused_at_once(tmp_path: Path, what: str, form: str) -> None:
    path = tmp_path / "a.pt"
    if form == "archive":
        archive(path, PICKLES[what])
    else:
        path.write_bytes(PICKLES[what])
    with pytest.raises(CheckpointError):
        list_tensors(path)


def test_a_member_beside_the_pickle_is_not_read_whole(tmp_path: Path) -> None:
    path = archive(tmp_path / "a.pt", b"\x80\x02}.", byteorder=b"\0" * (1 << 20))
    with pytest.raises(CheckpointError):
        list_tensors(path)


def test_what_is_no_attack_is_read() -> None:
    for value in ({("a", i): [i] * 3 for i in range(2000)}, nested((), 50, lambda part: (part,)), {frozenset("ab"): 1}):
        for protocol in (0, 1, 2, 4, 5):
            check_pickle(pickle.dumps(value, protocol))
    shared = [1] * 1000
    check_pickle(pickle.dumps([shared] * 1000))  # by reference: nothing hashes it
    file = io.BytesIO(b"before" + pickle.dumps({1: 2}) + b"after")
    file.seek(6)
    check_pickle(file)
    assert file.tell() == 6


@pytest.mark.parametrize("what", ["a key that multiplies", "a table of memos"])
def test_statistics_of_the_same_kind(tmp_path: Path, what: str) -> None:
    (tmp_path / "a.pkl").write_bytes(PICKLES[what])
    with pytest.raises(InputError, match="nothing in it was run"):
        read_statistics(tmp_path / "a.pkl")


class Harm:
    def __reduce__(self) -> Any:
        return Path.touch, (Path("harmed"),)


def test_nothing_in_a_file_is_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    harm = pickle.dumps({"model": Harm()}, 2)
    Path("a.pkl").write_bytes(harm)
    archive(Path("a.pt"), harm)
    np.savez("a.npz", arr_0=np.array([Harm()], dtype=object))
    np.save("a.npy", np.array([Harm()], dtype=object), allow_pickle=True)
    reads = [lambda p=path: list_tensors(Path(p)) for path in ("a.pkl", "a.pt")]
    reads += [lambda p=path: read_statistics(Path(p), kind="adm") for path in ("a.pkl", "a.npz", "a.npy")]
    reads += [lambda p=path: list(open_stream(p)) for path in ("a.pt", "a.npz", "a.npy", "a.pkl")]
    for read in reads:
        try:
            read()
        except InputError:
            continue
    assert not Path("harmed").exists()
    pickle.loads(harm)
    assert Path("harmed").exists()  # that is what it would have done


@pytest.mark.parametrize(
    "value",
    [
        "!!python/object/apply:pathlib.Path.touch [harmed]",
        "!!python/object/new:os.system [touch harmed]",
        "!!python/name:os.system",
        "!!python/module:antigravity",
        "!include /etc/passwd",
    ],
)
def test_tags_of_yaml_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.chdir(tmp_path)
    for read in (
        lambda: suite_file.parse(f"suite: {value}\n", "s.yaml"),
        lambda: suite_file.parse("suite: s\n", "s.yaml", [f"suite={value}"]),
    ):
        with pytest.raises(ConfigError, match="could not determine a constructor"):
            read()
    assert not Path("harmed").exists()


# ---- archives and tables


def png() -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (8, 8)).save(file, "PNG")
    return file.getvalue()


def test_a_sparse_member_of_a_tar_is_no_image(tmp_path: Path) -> None:
    """A few bytes would stand for as many zeros as they like, for each of thousands of members."""
    with tarfile.open(tmp_path / "a.tar", "w", format=tarfile.PAX_FORMAT) as packed:
        info, map_of_holes = tarfile.TarInfo("a.png"), b"1\n0\n0\n".ljust(512, b"\0")
        info.size = len(map_of_holes)
        info.pax_headers = {
            "GNU.sparse.major": "1",
            "GNU.sparse.minor": "0",
            "GNU.sparse.name": "a.png",
            "GNU.sparse.realsize": str(1 << 20),
        }
        packed.addfile(info, io.BytesIO(map_of_holes))
    with pytest.raises(ImageError, match="sparse file"):
        list(open_stream(tmp_path / "a.tar"))


def test_names_of_members_lead_nowhere(tmp_path: Path) -> None:
    """They are names of pictures: nothing is unpacked, and links are not followed."""
    inside = tmp_path / "inside"
    inside.mkdir()
    with zipfile.ZipFile(inside / "a.zip", "w") as packed:
        packed.writestr("../../evil.png", png())
        packed.writestr("/evil.png", png())
    with tarfile.open(inside / "a.tar", "w") as archived:
        for name in ("../../evil.png", "/evil.png"):
            info = tarfile.TarInfo(name)
            info.size = len(png())
            archived.addfile(info, io.BytesIO(png()))
    before = sorted(tmp_path.rglob("*"))
    for name in ("a.zip", "a.tar"):
        assert [picture.key for picture in open_stream(inside / name)] == ["/evil.png"]  # ".." is hidden, as .git is
    assert sorted(tmp_path.rglob("*")) == before
    for kind, target in ((tarfile.SYMTYPE, "/etc/passwd"), (tarfile.LNKTYPE, "../../evil.png")):
        with tarfile.open(inside / "b.tar", "w") as archived:
            info = tarfile.TarInfo("a.png")
            info.type, info.linkname = kind, target
            archived.addfile(info)
        with pytest.raises(ImageError, match="a link or a device"):
            list(open_stream(inside / "b.tar"))


def test_a_table_that_inflates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(limits.VARIABLE, str(1 << 20))
    cells = pyarrow.array([b"\0" * (1 << 22)], pyarrow.binary())
    pyarrow.parquet.write_table(pyarrow.table({"image": cells}), tmp_path / "a.parquet", compression="zstd")
    assert (tmp_path / "a.parquet").stat().st_size < 10_000
    with pytest.raises(InputError, match=r"a group of rows of .* is too large"):
        list(open_stream(tmp_path / "a.parquet", on_bad="skip"))


# ---- folders of runs that others have made


@pytest.mark.parametrize("name", ["../../evil", "/tmp/evil", "..", "a/b", ""])
def test_names_in_a_result_are_names_of_files(tmp_path: Path, name: str) -> None:
    source = Path(__file__).parents[1] / "report" / "run-0.1"
    (cell,) = list(source.glob("cells/*/result.json"))[:1]
    whole = json.loads(cell.read_text())
    place = tmp_path / "run" / "cells" / "res-1"
    place.mkdir(parents=True)
    (tmp_path / "run" / "run.json").write_text((source / "run.json").read_text())
    (place / "result.json").write_text(json.dumps({**whole, "result_id": name}))
    with pytest.raises(DamagedFile, match="result_id"):
        read_runs([tmp_path / "run"])
    words = dict.fromkeys(("result_id", "settings_id", "adapter", "family", "task"), "x")
    about = {**words, "kind": "generator", "parameters": {}, "outcome": "ok"}
    assert Result.model_validate({**about, "artifacts": {"pictures": "pictures.npz"}})
    with pytest.raises(ValidationError, match="artifacts"):
        Result.model_validate({**about, "artifacts": {"pictures": name}})


EVIL = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>"


def test_words_of_a_result_are_text_in_pages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the leaderboard, the pages of its models and their names; tests/report has the report."""
    monkeypatch.setattr(site, "published_boards", lambda *_: [])  # 170 pages of no interest here
    shutil.copytree(Path(__file__).parents[1] / "report" / "run-0.1", tmp_path / "run")
    found = sorted(tmp_path.glob("run/cells/*/result.json"))
    kept = next(path for path in found if json.loads(path.read_text())["task"] == "generate")
    for path in found:
        if path != kept:
            shutil.rmtree(path.parent)
    result = json.loads(kept.read_text())
    result["adapter"] = f"raster/{EVIL}"
    result["family"] = EVIL
    for metric in result["metrics"]:
        metric["reason"] = metric["convention"] = EVIL
    kept.write_text(json.dumps(result))
    (tmp_path / "run" / "journal.jsonl").unlink()  # as a stranger would: it knows the result as it was
    run = json.loads((tmp_path / "run" / "run.json").read_text())
    run["suite"]["title"] = run["suite"]["suite"] = run["run_id"] = EVIL
    (tmp_path / "run" / "run.json").write_text(json.dumps(run))
    seen = 0
    for page in site.write_site([tmp_path / "run"], tmp_path / "s").files:
        assert page.resolve().is_relative_to(tmp_path)
        if page.suffix == ".html":
            text = page.read_text(encoding="utf-8")
            assert "<script>alert" not in text
            assert "<img src=x" not in text
            seen += "&lt;script&gt;alert" in text
    assert seen >= 2


def test_an_mlflow_server_names_no_place_on_this_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ids and paths are the server's: folders are numbered here, and a path that leads elsewhere is refused."""
    client = mock.MagicMock()
    client.list_artifacts.return_value = [SimpleNamespace(is_dir=False, path="a/../../../result.json")]
    client.search_experiments.return_value = [SimpleNamespace(experiment_id="1")]
    run = SimpleNamespace(info=SimpleNamespace(run_id="../../evil", start_time=0), data=SimpleNamespace(tags={}))
    monkeypatch.setattr(fetch, "_search", lambda *_: iter([run]))
    monkeypatch.setattr(fetch.target, "check", lambda *_: None)
    monkeypatch.setattr(fetch.target, "connect", lambda _: client)
    with pytest.raises(InputError, match="leads elsewhere"):
        fetch.fetch("http://127.0.0.1:9", tmp_path / "into")
    client.download_artifacts.assert_not_called()
    assert [path for path in tmp_path.rglob("*") if "evil" in path.name] == []


def test_a_name_does_not_end_a_query() -> None:
    client = mock.MagicMock()
    client.search_runs.return_value = []
    tracker = Tracker(Target("http://127.0.0.1:9"), Path("run"))
    assert tracker._find(client, {"arbench.run_id": "x' or tags.`a` = 'b"}) is None
    query = client.search_runs.call_args.kwargs["filter_string"]
    assert query == "tags.`arbench.run_id` = 'x_ or tags.`a` = _b'"


def test_no_loader_may_run_code_that_comes_with_a_model() -> None:
    """Libraries that load models run a repository's own code only if they are told to; nothing here tells them."""
    root = Path(__file__).parents[2]
    told = {"trust_remote_code", "custom_pipeline", "allow_pickle", "weights_only", "UnsafeLoader", "full_load"}
    allowed = {"allow_pickle=False", "weights_only=True"}
    found = []
    for path in sorted([*root.glob("arbench/**/*.py"), *root.glob("adapters/**/*.py")]):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.keyword) and node.arg in told and ast.unparse(node) not in allowed:
                found.append(f"{path.name}:{node.value.lineno}: {ast.unparse(node)}")
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "torch.load":
                assert any(each.arg == "weights_only" for each in node.keywords), f"{path.name}:{node.lineno}"
            if isinstance(node, ast.Attribute) and ast.unparse(node) in ("yaml.load", "pickle.load", "pickle.loads"):
                found.append(f"{path.name}:{node.lineno}: {ast.unparse(node)}")
    assert found == []
