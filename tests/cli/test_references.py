"""References by name, against a real server on this machine: fetched, listed, used, and never silently replaced."""

from __future__ import annotations

import hashlib
import io
import json
import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from arbench.cli import references as verb
from arbench.cli.main import main
from arbench.data.statistics import kept
from arbench.data.statistics.kept import pin_path
from arbench.data.statistics.published import PUBLISHED, is_name
from arbench.data.statistics.read import CLEAN_NAME
from arbench.errors import ConfigError, DamagedFile, InputError, MissingReference, PrerequisiteError, UnknownName
from arbench.evaluate.known_reference import KnownReference
from arbench.run.plan import make_plan
from arbench.spec.suite_file import parse
from tests import forked

NAME, FILE = "adm:imagenet-64", "VIRTUAL_imagenet64_labeled.npz"
CLEAN, KID = "clean-fid:afhq_cat-512-train", "afhq_cat_clean_train_512_kid.npz"


def npz(**arrays: Any) -> bytes:
    """Compressed: diagonal matrices then take no room."""
    file = io.BytesIO()
    np.savez_compressed(file, **arrays)
    return file.getvalue()


def moments(size: int, suffix: str = "") -> dict[str, Any]:
    return {f"mu{suffix}": np.full(size, 0.4), f"sigma{suffix}": np.eye(size)}


def adm(side: int = 64) -> bytes:
    images = np.random.default_rng(0).integers(0, 256, (20, side, side, 3), dtype=np.uint8)
    return npz(arr_0=images, **moments(2048), **moments(2023, "_s"))


@pytest.fixture(scope="session")
def content() -> dict[str, bytes]:
    """What the server has, by path."""
    kid = npz(feats=np.random.default_rng(1).random((30, 2048), dtype=np.float32))
    return {
        f"/{FILE}": adm(),
        "/other.npz": adm(32),
        "/moments.npz": npz(**moments(2048), **moments(2023, "_s")),
        "/page.npz": b"<html>no such file</html>",
        "/mirror/afhq_cat_clean_train_512.npz": npz(**moments(2048)),
        f"/mirror/{KID}": kid,
    }


class Handler(BaseHTTPRequestHandler):
    content: dict[str, bytes]
    asked: list[str]

    def do_GET(self) -> None:
        self.asked.append(self.path)
        body = self.content.get(self.path.removeprefix("/cut"))
        if body is None:
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[:1000] if self.path.startswith("/cut") else body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def base(content, monkeypatch) -> Iterator[str]:
    for proxy in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(proxy, raising=False)
    Handler.content, Handler.asked = dict(content), []
    made = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{made.server_port}"
    made.shutdown()
    made.server_close()


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """The folder of references, empty; with no weights, and the working folder beside it."""
    monkeypatch.setenv("ARBENCH_REFERENCES", str(tmp_path / "references"))
    monkeypatch.setenv("ARBENCH_WEIGHTS", str(tmp_path / "weights"))
    monkeypatch.setenv("ARBENCH_CACHE", str(tmp_path / "features"))
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "references"


@pytest.fixture
def fetched(base, folder) -> str:
    """The digest of a reference that is here."""
    verb.fetch([NAME], f"{base}/{FILE}")
    return hashlib.sha256(Handler.content[f"/{FILE}"]).hexdigest()


@pytest.fixture
def listed(capsys) -> Callable[[str], dict[str, Any]]:
    def row(name: str) -> dict[str, Any]:
        capsys.readouterr()
        assert main(["ls", "references", "--json"]) == 0
        found: dict[str, Any] = next(row for row in json.loads(capsys.readouterr().out) if row["name"] == name)
        return found

    return row


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


# --- What is published


def test_every_entry_has_an_official_name_that_its_reader_understands():
    assert len(PUBLISHED) == 28
    for name, entry in PUBLISHED.items():
        assert is_name(name)
        assert {each.url.rpartition("/")[2] for each in entry.files} == {each.file for each in entry.files}
        if entry.format == "clean-fid":
            for each in entry.files:
                found = CLEAN_NAME.fullmatch(each.file.removesuffix(".npz"))
                assert found is not None
                assert (found["mode"], int(found["size"])) == ("clean", entry.pixels)
    assert len({each.file for entry in PUBLISHED.values() for each in entry.files}) == 33


def test_a_file_of_that_name_goes_before_it(folder, tmp_path):
    assert is_name(NAME)
    (tmp_path / NAME).touch()
    assert not is_name(NAME)
    assert not is_name("npz:adm")
    assert not is_name(None)


# --- Fetching


def test_fetched_once_then_listed_with_count_and_digest(base, folder, listed, capsys):
    before = listed(NAME)
    assert (before["state"], before["digest"], before["images"]) == ("not fetched", None, 10_000)
    assert Handler.asked == [], "a list asks no server"
    assert main(["references", "fetch", NAME, "--from", f"{base}/{FILE}"]) == 0
    digest = hashlib.sha256(Handler.content[f"/{FILE}"]).hexdigest()
    shown = capsys.readouterr().out
    assert f"20 images, sha256 {digest}" in shown
    assert names(folder) == [FILE, "imagenet-64.json"]
    assert main(["references", "fetch", NAME]) == 0
    assert "already there" in capsys.readouterr().out
    assert Handler.asked == [f"/{FILE}"]
    row = listed(NAME)
    assert (row["state"], row["digest"], row["images"], row["format"]) == ("fetched", digest, 20, "adm")
    assert "adm" in row["conventions"].split(", ")
    assert row["fetched_from"] == f"{base}/{FILE}"
    (file,) = row["files"]
    assert file["published_sha256"] is None
    assert file["path"] == str(folder / "adm" / FILE)
    main(["references"])
    table = capsys.readouterr().out
    assert digest[:12] in table
    assert digest not in table
    assert str(folder) in table


@pytest.mark.parametrize(
    ("path", "error", "message"),
    [
        (f"/cut/{FILE}", PrerequisiteError, "cut off"),
        ("/gone", PrerequisiteError, "Not Found"),
        ("/page.npz", InputError, "page.npz is not adm:imagenet-64"),
        ("/moments.npz", InputError, "moments alone"),
        ("/other.npz", InputError, "its images are 32x32, not of 64"),
    ],
)
def test_what_is_not_the_reference_is_not_kept(base, folder, path, error, message):
    with pytest.raises(error, match=message):
        verb.fetch([NAME], base + path)
    assert [name for name in names(folder) if not name.startswith(".")] == []  # what arrived is gone on with
    assert kept.find(NAME) is None


def test_an_interrupted_download_leaves_no_half_file_of_that_name(base, folder, monkeypatch):
    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("rich.progress.Progress.update", stop)
    with pytest.raises(KeyboardInterrupt):
        verb.fetch([NAME], f"{base}/{FILE}")
    assert [name for name in names(folder) if not name.startswith(".")] == []  # what arrived is gone on with


def test_features_for_kid_come_with_the_moments(base, folder, listed):
    verb.fetch([CLEAN], f"{base}/mirror/afhq_cat_clean_train_512.npz")
    assert names(folder) == ["afhq_cat-512-train.json", "afhq_cat_clean_train_512.npz", KID]
    found = kept.read(kept.locate(CLEAN))
    assert found.features["inception/clean:pool3"].n == 30
    assert found.moments["inception/clean:pool3"].n == 30
    assert (found.identity.split, found.identity.sizes) == ("train", ((512, 512),))
    assert listed(CLEAN)["images"] == 30


def test_a_published_digest_is_checked(base, folder, monkeypatch):
    entry = PUBLISHED[NAME]
    files = (replace(entry.files[0], url=f"{base}/{FILE}", sha256="0" * 64),)
    monkeypatch.setitem(PUBLISHED, NAME, replace(entry, files=files))
    with pytest.raises(DamagedFile, match="the published one 000000000000"):
        verb.fetch([NAME])
    assert names(folder) == []


def test_wrong_arguments(folder, tmp_path):
    with pytest.raises(UnknownName, match="did you mean adm:imagenet-256"):
        verb.fetch(["adm:imagenet256"])
    with pytest.raises(UnknownName, match="did you mean clean-fid:ffhq-256-trainval"):
        verb.fetch(["clean-fid:ffhq-256-trainfull"])
    with pytest.raises(UnknownName, match="did you mean fetch"):
        verb.references("fech", [], None, False)
    with pytest.raises(ConfigError, match="no reference named"):
        verb.fetch([])
    with pytest.raises(ConfigError, match="one reference"):
        verb.fetch([NAME, CLEAN], "http://127.0.0.1")
    with pytest.raises(ConfigError, match="only http"):
        verb.fetch([NAME], tmp_path.as_uri())
    with pytest.raises(ConfigError, match="a name and a file"):
        verb.add([NAME])
    with pytest.raises(InputError, match="no file at"):
        verb.add([NAME, "nowhere.npz"])


# --- Files that the user has


def test_a_file_is_added_under_any_name(folder, content, tmp_path, capsys):
    (tmp_path / "mine.npz").write_bytes(content[f"/{FILE}"])
    assert main(["references", "add", NAME, "mine.npz"]) == 0
    assert "20 images" in capsys.readouterr().out
    assert names(folder) == [FILE, "imagenet-64.json"]
    assert kept.locate(NAME).pin.origin == str(tmp_path / "mine.npz")
    with pytest.raises(InputError, match="is not adm:imagenet-128"):
        verb.add(["adm:imagenet-128", "mine.npz"])
    assert names(folder) == [FILE, "imagenet-64.json"]


def test_what_clean_fid_has_downloaded_itself_is_used_and_pinned(folder, content, tmp_path, monkeypatch, listed):
    package = tmp_path / "site" / "cleanfid"
    (package / "stats").mkdir(parents=True)
    (package / "__init__.py").touch()
    file = package / "stats" / "ffhq_clean_trainval70k_256.npz"
    file.write_bytes(content["/mirror/afhq_cat_clean_train_512.npz"])
    monkeypatch.setattr(kept, "find_spec", lambda name: type("Spec", (), {"origin": str(package / "__init__.py")}))
    name = "clean-fid:ffhq-256-trainval70k"
    assert listed(name)["state"] == "not used yet"
    found = kept.locate(name)
    assert (found.path, found.images) == (file, 70_000)
    assert kept.read(found).moments["inception/clean:pool3"].n == 70_000
    assert names(folder) == ["ffhq-256-trainval70k.json"]
    assert listed(name)["state"] == "fetched"
    file.write_bytes(npz(**moments(2048), more=np.zeros(1)))
    with pytest.raises(DamagedFile, match="that was kept as clean-fid:ffhq-256"):
        kept.locate(name)


# --- A file that changes


def test_a_kept_file_that_changes_is_an_error_until_it_is_fetched_again(base, folder, fetched, listed, capsys):
    path = folder / "adm" / FILE
    path.write_bytes(adm(32))
    assert listed(NAME)["state"] == "changed"
    assert main(["score", "samples", "--reference", NAME]) == 2
    assert f"is not the {FILE} that was kept as {NAME}" in capsys.readouterr().err
    with pytest.raises(DamagedFile, match=f"arbench references fetch {NAME}"):
        kept.locate(NAME)
    with pytest.raises(DamagedFile, match="to accept another file, delete"):
        verb.add([NAME, str(path)])
    with pytest.raises(DamagedFile, match="is not the VIRTUAL_imagenet64"):
        verb.fetch([NAME], f"{base}/moments.npz")
    verb.fetch([NAME], f"{base}/{FILE}")
    assert listed(NAME)["state"] == "fetched"
    assert kept.locate(NAME).sha256 == fetched


def test_a_copy_with_another_time_is_the_same_file(folder, fetched, listed):
    os.utime(folder / "adm" / FILE, (1, 1))
    assert listed(NAME)["state"] == "fetched"


def test_a_pin_that_cannot_be_read(folder, fetched, listed):
    pin_path(PUBLISHED[NAME]).write_text("{")
    with pytest.raises(DamagedFile, match="it says what was kept"):
        kept.locate(NAME)
    assert "cannot read" in listed(NAME)["problem"]


# --- Numbers


@pytest.fixture
def samples(tmp_path) -> Path:
    (tmp_path / "samples").mkdir()
    for index, pixels in enumerate(np.random.default_rng(2).integers(0, 256, (16, 64, 64, 3), dtype=np.uint8)):
        Image.fromarray(pixels).save(tmp_path / "samples" / f"{index}.png")
    return tmp_path / "samples"


def test_score_takes_the_name_and_says_what_was_used(fetched, samples, capsys):
    options = ["score", "samples", "--reference", NAME, "--convention", "offline", "--metric", "frechet"]
    assert main([*options, "--out", "out"]) == 0
    shown = capsys.readouterr().out
    assert f"reference  {NAME}: 20 images, 64x64, adm statistics {fetched[:12]}" in shown
    assert main([*options, "--out", "out", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["reference"]["digest"], document["reference"]["n"]) == (fetched, 20)
    (metric,) = document["metrics"]
    assert metric["value"] > 0
    assert metric["reference"] == {"name": NAME, "digest": fetched}
    main(["score", "samples", "--reference", str(kept.locate(NAME).path), *options[4:], "--out", "by-path", "--json"])
    by_path = json.loads(capsys.readouterr().out)
    assert by_path["metrics"][0]["value"] == metric["value"]
    assert "count_differs" in metric["flags"]  # published numbers are of 50,000 samples


def test_score_stops_before_the_pass_if_it_is_not_here(folder, samples, tmp_path, capsys):
    assert main(["score", "samples", "--reference", NAME]) == 3
    assert f"arbench references fetch {NAME}" in capsys.readouterr().err
    assert not (tmp_path / "scores").exists()
    assert main(["score", "samples", "--reference", "adm:imagenet64"]) == 2
    assert "did you mean adm:imagenet-64" in capsys.readouterr().err
    assert main(["score", "samples", "--reference", "edn2:img64"]) == 2
    assert "did you mean edm2:img64" in capsys.readouterr().err
    assert main(["score", NAME]) == 2
    assert "is not images" in capsys.readouterr().err


def test_the_format_cannot_be_said_to_be_another(fetched):
    with pytest.raises(InputError, match="published as adm"):
        kept.read(kept.locate(NAME), "pytorch-fid")
    read = kept.read(kept.locate(NAME), "adm")
    assert KnownReference(NAME, {}, read, read.identity, kept.locate(NAME)).named.digest == fetched


SUITE = f"""
suite: s
adapters: [raster/llamagen-mini]
settings: {{device: cpu}}
tasks:
  - generate: {{n: 16, batch: 16, reference: "{NAME}", conventions: [offline], metrics: [frechet]}}
"""


def plan(text: str) -> Any:
    return make_plan(parse(text, "s.yaml"))


def test_a_suite_says_before_the_run_what_is_missing_and_the_rest_still_runs(folder):
    first, second = plan(SUITE + "  - speed\n").cells
    assert (first.cell.task.task, first.outcome, second.outcome) == ("generate", "error", None)
    assert first.reason.startswith(f"the reference {NAME} is not here")
    assert f"next: arbench references fetch {NAME}" in first.reason
    with pytest.raises(MissingReference):
        plan(SUITE)
    with pytest.raises(UnknownName, match="did you mean adm:imagenet-64"):
        plan(SUITE.replace(NAME, "adm:imagenet64"))


def test_a_suite_takes_the_name(fetched, tmp_path):
    (cell,) = plan(SUITE).cells
    assert (cell.outcome, cell.data) == (None, {NAME: fetched})
    Path("s.yaml").write_text(SUITE)
    done = forked.arbench("run", "./s.yaml", "--track", "off", "--out", "run")
    assert done.returncode == 0, done.stdout + done.stderr
    (file,) = (tmp_path / "run" / "cells").glob("*/result.json")
    result = json.loads(file.read_text())
    metric = next(metric for metric in result["metrics"] if metric["name"] == "frechet")
    assert metric["value"] > 0
    assert metric["reference"] == {"name": NAME, "digest": fetched}
    assert result["reference"]["digest"] == fetched
    assert "size_differs" in metric["flags"]


@pytest.mark.usefixtures("folder")
def test_ls_of_names_lists_those_alone(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["references", "ls", NAME, "--json"]) == 0
    assert [row["name"] for row in json.loads(capsys.readouterr().out)] == [NAME]
    assert main(["references", "ls", NAME]) == 0
    assert len([line for line in capsys.readouterr().out.splitlines() if line.startswith(NAME)]) == 1
    assert main(["references", "ls", NAME[:-1]]) == 2
    assert f"did you mean {NAME}" in capsys.readouterr().err
    for action in (["ls"], ["add", NAME, "x.npz"]):
        assert main(["references", *action, "--from", "https://a.example/x"]) == 2
        assert "--from goes with fetch" in capsys.readouterr().err
