"""`arbench weights` against a real server on this machine."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from arbench.cli import weights
from arbench.errors import CheckpointError, ConfigError, PrerequisiteError, StoreError, UnknownName
from arbench.features.weight_files import WEIGHTS, KnownWeights, Official

CONTENT = bytes(range(256)) * 20_000  # several chunks
DIGEST = hashlib.sha256(CONTENT).hexdigest()


class Handler(BaseHTTPRequestHandler):
    asked: list[str]

    def do_GET(self) -> None:
        self.asked.append(self.path)
        if self.path == "/gone":
            self.send_error(404)
            return
        body = {"/other": b"something else", "/cut": CONTENT[:1000]}.get(self.path, CONTENT)
        self.send_response(200)
        self.send_header("Content-Length", str(len(CONTENT) if self.path == "/cut" else len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[HTTPServer]:
    Handler.asked = []
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
        ("/other", CheckpointError, "is not one-long.pth"),
        ("/cut", PrerequisiteError, "cut off"),
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
    with pytest.raises(ConfigError, match="only http"):
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
