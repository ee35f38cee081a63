"""`arbench weights` against a real server on this machine."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import ClassVar

import pytest

from arbench.cli import weights
from arbench.cli.download import Wanted, check_address, download
from arbench.cli.main import main
from arbench.errors import CheckpointError, ConfigError, InputError, PrerequisiteError, StoreError, UnknownName
from arbench.features.weight_files import WEIGHTS, KnownWeights, Official

CONTENT = bytes(range(256)) * 20_000  # several chunks
DIGEST = hashlib.sha256(CONTENT).hexdigest()


class Handler(BaseHTTPRequestHandler):
    """Serves `CONTENT`, or an odd answer, by the path; knows ranges where `mark` is set."""

    asked: list[str]
    ranges: list[str | None]
    mark = ""
    limit: int | None = None
    """Bytes after which it hangs up."""
    odd: ClassVar[dict[str, tuple[int, dict[str, str], bytes]]] = {
        "/odd/long": (200, {"Content-Length": str(len(CONTENT) + 1)}, CONTENT + b"!"),
        "/odd/endless": (200, {}, CONTENT * 2),
        "/odd/word": (200, {"Content-Length": "many"}, CONTENT),
        "/odd/negative": (200, {"Content-Length": "-1"}, CONTENT),
        "/odd/two": (200, {"Content-Length": f"{len(CONTENT)}, 7"}, CONTENT),
        "/odd/gzip": (200, {"Content-Encoding": "gzip"}, CONTENT),
        "/odd/part": (206, {"Content-Range": "bytes 5-9/10"}, CONTENT[5:10]),
        "/odd/none": (204, {}, b""),
        "/odd/empty": (200, {"Content-Length": "0"}, b""),
        "/odd/away": (302, {"Location": "http://example.invalid/one"}, b""),
        "/odd/file": (302, {"Location": "file:///etc/hostname"}, b""),
        "/odd/circle": (302, {"Location": "/odd/circle"}, b""),
    }

    def do_GET(self) -> None:
        self.asked.append(self.path)
        self.ranges.append(self.headers.get("Range"))
        if self.path in self.odd:
            status, headers, body = self.odd[self.path]
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            with contextlib.suppress(OSError):
                self.wfile.write(body)
            return
        if self.mark or self.limit is not None:
            self.serve_range()
            return
        if self.path == "/gone":
            self.send_error(404)
            return
        body = {"/other": b"something else", "/cut": CONTENT[:1000]}.get(self.path, CONTENT)
        self.send_response(200)
        self.send_header("Content-Length", str(len(CONTENT) if self.path == "/cut" else len(body)))
        self.end_headers()
        self.wfile.write(body)

    def serve_range(self) -> None:
        given = self.headers.get("Range")
        start = int(given.removeprefix("bytes=").removesuffix("-")) if given else 0
        if self.headers.get("If-Range") not in (None, self.mark):
            start = 0
        if start >= len(CONTENT):
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        if self.mark:
            self.send_header("ETag", self.mark)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(CONTENT) - 1}/{len(CONTENT)}")
        self.send_header("Content-Length", str(len(CONTENT) - start))
        self.end_headers()
        self.wfile.write(CONTENT[start:] if self.limit is None else CONTENT[start : start + self.limit])

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[HTTPServer]:
    Handler.asked, Handler.ranges, Handler.mark, Handler.limit = [], [], "", None
    made = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    yield made
    made.shutdown()
    made.server_close()


@pytest.fixture
def base(server, monkeypatch) -> str:
    for proxy in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(proxy, raising=False)
    return f"http://127.0.0.1:{server.server_port}"


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    folder = tmp_path / "weights"
    monkeypatch.setenv("ARBENCH_WEIGHTS", str(folder))
    return folder


@pytest.fixture
def one(base, cache, monkeypatch) -> KnownWeights:
    files = (
        Official("one-long.pth", f"{base}/one-long.pth", DIGEST, len(CONTENT)),
        Official("one.pt", f"{base}/one.pt", DIGEST),
    )
    entry = KnownWeights("one", "a network", "MIT", files)
    monkeypatch.setitem(WEIGHTS, "one", entry)
    return entry


def test_a_file_is_fetched_checked_and_not_fetched_again(one, cache, capsys):
    assert weights.fetch(["one"]) == 0
    assert (cache / "one-long.pth").read_bytes() == CONTENT
    assert [path.name for path in cache.iterdir()] == ["one-long.pth"], "nothing temporary is left"
    assert weights.fetch(["one"]) == 0
    assert Handler.asked == ["/one-long.pth"]
    assert "already there" in capsys.readouterr().out


def test_from_takes_the_file_elsewhere_and_knows_it_by_its_name(one, base, cache):
    weights.fetch(["one"], f"{base}/mirror/one.pt?x=1")
    assert (cache / "one.pt").read_bytes() == CONTENT
    assert Handler.asked == ["/mirror/one.pt?x=1"]


def test_a_damaged_file_is_fetched_again(one, cache):
    cache.mkdir()
    (cache / "one-long.pth").write_bytes(b"half")
    weights.fetch(["one"])
    assert (cache / "one-long.pth").read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("path", "error", "message"),
    [
        ("/other", InputError, "is not the file"),
        ("/gone", PrerequisiteError, "Not Found"),
    ],
)
def test_what_is_not_the_file_is_not_kept(one, base, cache, path, error, message):
    with pytest.raises(error, match=message):
        weights.fetch(["one"], base + path)
    assert list(cache.iterdir()) == []


def test_without_a_connection_the_error_says_what_to_do(one, base, server, cache):
    server.shutdown()
    server.server_close()
    with pytest.raises(PrerequisiteError) as caught:
        weights.fetch(["one"])
    assert f"{base}/one-long.pth" in caught.value.what
    assert "--weights NAME=PATH" in caught.value.hint
    assert list(cache.iterdir()) == []


def test_wrong_arguments(one, base, tmp_path):
    with pytest.raises(UnknownName, match="did you mean inception"):
        weights.fetch(["incepton"])
    with pytest.raises(ConfigError):
        weights.fetch([])
    with pytest.raises(ConfigError, match="one file"):
        weights.fetch(["one", "vgg16"], base)
    local = tmp_path / "one-long.pth"
    local.write_bytes(CONTENT)
    with pytest.raises(ConfigError, match="only https"):
        weights.fetch(["one"], local.as_uri())
    assert Handler.asked == []


def test_a_folder_that_cannot_be_made(one, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("ARBENCH_WEIGHTS", str(tmp_path / "file" / "weights"))
    with pytest.raises(StoreError, match="cannot write"):
        weights.fetch(["one"])


def test_the_list_tells_present_missing_and_damaged_without_a_connection(one, cache, capsys):
    cache.mkdir()
    weights.ls(json_output=True)
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert set(rows) == set(WEIGHTS)
    assert rows["one"]["state"] == "missing"
    (cache / "one.pt").write_bytes(CONTENT)
    weights.ls(json_output=True)
    row = next(row for row in json.loads(capsys.readouterr().out) if row["name"] == "one")
    assert (row["state"], row["file"], row["sha256"]) == ("present", "one.pt", DIGEST)
    (cache / "one-long.pth").write_bytes(b"half")
    weights.ls(json_output=True)
    row = next(row for row in json.loads(capsys.readouterr().out) if row["name"] == "one")
    assert row["state"] == "damaged"
    assert "one-long.pth" in row["problem"]
    weights.ls()
    shown = capsys.readouterr().out
    assert "damaged" in shown
    assert "inception" in shown
    assert Handler.asked == []


@pytest.mark.parametrize("path", list(Handler.odd))
def test_odd_answers_are_errors_and_nothing_is_kept(one, base, cache, path):
    with pytest.raises((ConfigError, InputError, PrerequisiteError)) as caught:
        weights.fetch(["one"], base + path)
    assert caught.value.why
    assert caught.value.hint
    assert list(cache.iterdir()) == []


def test_a_file_of_the_right_length_that_is_another_is_not_kept(one, base, cache, monkeypatch):
    monkeypatch.setitem(Handler.odd, "/odd/same", (200, {}, CONTENT[::-1]))
    with pytest.raises(CheckpointError, match="is not one-long"):
        weights.fetch(["one"], f"{base}/odd/same")
    assert list(cache.iterdir()) == []


@pytest.mark.parametrize("mark", ['"v1"', ""])
def test_what_was_cut_off_is_resumed(one, cache, mark):
    Handler.mark, Handler.limit = mark, 2_000_000
    for _ in range(2):
        with pytest.raises(PrerequisiteError, match="cut off"):
            weights.fetch(["one"])
    assert not (cache / "one-long.pth").exists()
    assert weights.fetch(["one"]) == 0
    assert Handler.ranges == [None, "bytes=2000000-", "bytes=4000000-"]
    assert (cache / "one-long.pth").read_bytes() == CONTENT
    assert [path.name for path in cache.iterdir()] == ["one-long.pth"]


def test_a_file_that_has_changed_meanwhile_or_that_cannot_be_told_is_begun_anew(base, tmp_path):
    digests: list[str] = []
    for before, after, known in (('"v1"', '"v2"', False), ("", "", False), ('W/"v1"', 'W/"v1"', False)):
        target = tmp_path / f"{len(digests)}.npz"
        wanted = Wanted(f"{base}/it", "by hand", "elsewhere", known=known)
        Handler.mark, Handler.limit = before, 1_000_000
        with pytest.raises(PrerequisiteError, match="cut off"):
            download(wanted, target, digests.append)
        Handler.mark, Handler.limit = after, len(CONTENT)
        download(wanted, target, digests.append)
        assert target.read_bytes() == CONTENT
    assert set(digests) == {DIGEST}


@pytest.mark.parametrize(
    ("address", "allowed"),
    [
        ("https://host/x", True), ("http://127.0.0.1:80/x", True), ("http://[::1]/x", True),
        ("http://localhost/x", True),
        ("http://host/x", False), ("http://127.0.0.1.evil.example/x", False), ("http://localhost.example/x", False),
        ("http://10.0.0.1/x", False), ("ftp://host/x", False), ("file:///etc/passwd", False), ("https:///x", False),
        ("http://[::1/x", False), ("https://host:port/x", False), ("x", False), ("", False),
        ("http://user@127.0.0.1@host/x", False),
    ],
)  # fmt: skip
def test_only_https_and_this_machine(address, allowed):
    if allowed:
        check_address(address, "by hand")
    else:
        with pytest.raises(ConfigError, match="cannot fetch from"):
            check_address(address, "by hand")


def test_a_file_without_a_published_digest_is_taken_only_when_told_so(base, cache, monkeypatch, capsys):
    entry = KnownWeights("bare", "a network", "MIT", (Official("bare.pb", f"{base}/bare.pb", ""),))
    monkeypatch.setitem(WEIGHTS, "bare", entry)
    for url in (None, f"{base}/mirror/bare.pb"):
        with pytest.raises(ConfigError, match="cannot be checked") as caught:
            weights.fetch(["bare"], url)
        assert "--unverified" in caught.value.hint
    assert Handler.asked == []
    assert weights.fetch(["bare"], unverified=True) == 0
    assert f"sha256 {DIGEST}: not checked" in capsys.readouterr().out
    assert weights.fetch(["bare"]) == 0
    assert "not checked" in capsys.readouterr().out


def test_ls_of_names_lists_those_alone(cache, capsys):
    assert main(["weights", "ls", "vgg16", "inception", "--json"]) == 0
    assert [row["name"] for row in json.loads(capsys.readouterr().out)] == ["vgg16", "inception"]
    assert main(["weights", "ls", "alexnet"]) == 0
    listed = capsys.readouterr().out
    assert "alexnet" in listed
    assert "inception" not in listed
    assert main(["weights", "ls", "incepton"]) == 2
    assert "did you mean inception?" in capsys.readouterr().err
    for option in (["--from", "https://a.example/x"], ["--unverified"]):
        assert main(["weights", "ls", "vgg16", *option]) == 2
        assert "go with fetch" in capsys.readouterr().err


def test_every_registered_file_has_a_whole_digest_or_none():
    for entry in WEIGHTS.values():
        for official in entry.files:
            assert len(official.sha256) in (0, 64), official.file
            assert not official.url or official.url.startswith("https://"), official.file


FETCH = """
import sys
from pathlib import Path
from arbench.cli.download import Wanted, download
download(Wanted(sys.argv[1], "by hand", "elsewhere"), Path(sys.argv[2]), lambda digest: None)
"""


def test_processes_that_fetch_one_file_at_once_all_find_it(base, tmp_path):
    command = [sys.executable, "-c", FETCH, f"{base}/it", str(tmp_path / "it.npz")]
    environment = {**os.environ, "no_proxy": "*"}
    processes = [subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL) for _ in range(4)]
    assert [process.wait(60) for process in processes] == [0] * 4
    assert (tmp_path / "it.npz").read_bytes() == CONTENT
    assert [path.name for path in tmp_path.iterdir()] == ["it.npz"]
