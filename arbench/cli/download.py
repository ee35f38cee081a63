"""Downloads a file when a verb was asked to: with a bar, its sha256 on the way, and an error for half an answer."""

from __future__ import annotations

import hashlib
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from http.client import HTTPException
from typing import BinaryIO

from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from arbench.errors import ConfigError, PrerequisiteError

_CHUNK = 1 << 20
_TIMEOUT_S = 60


def download(url: str, name: str, file: BinaryIO, by_hand: str, size: int | None = None) -> str:
    """Copies what the server sends to `file` and returns its sha256.

    `name` is shown beside the bar, `by_hand` says how to use a file without a connection, and `size` is in bytes, for
    servers that do not tell. Raises `ConfigError` for what is not a web address, `PrerequisiteError` if the server
    cannot be reached or cuts its answer off.
    """
    if urllib.parse.urlsplit(url).scheme not in ("http", "https"):
        raise ConfigError(f"cannot fetch from {url!r}", "only http and https addresses", by_hand)
    digest = hashlib.sha256()
    received = 0
    request = urllib.request.Request(url, headers={"User-Agent": "arbench"})
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as answer:
            length = answer.headers.get("Content-Length")
            expected = int(length) if length else size
            with _progress() as bar:
                task = bar.add_task(name, total=expected)
                for chunk in _chunks(answer):
                    digest.update(chunk)
                    received += len(chunk)
                    file.write(chunk)
                    bar.update(task, advance=len(chunk))
    except (urllib.error.URLError, HTTPException, TimeoutError, ConnectionError) as error:
        why = str(getattr(error, "reason", None) or error)
        raise PrerequisiteError(f"cannot fetch {url}", why, f"without a connection, {by_hand}") from error
    if length and received != expected:
        raise PrerequisiteError(f"{url} was cut off", f"{received} of {expected} bytes arrived", "fetch it again")
    return digest.hexdigest()


def _chunks(answer: BinaryIO) -> Iterator[bytes]:
    while chunk := answer.read(_CHUNK):
        yield chunk


def _progress() -> Progress:
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
