"""Downloads a file when a verb was asked to: over https, within bounds, resumed, whole or not at all.

What has arrived lies beside the file, in `.NAME.part`, which the process that is at it has locked: a second one waits.
"""

from __future__ import annotations

import fcntl
import hashlib
import ipaddress
import json
import os
import re
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.client import HTTPException, HTTPMessage
from pathlib import Path
from typing import IO, Any, BinaryIO

from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from arbench.errors import ArbenchError, ConfigError, InputError, PrerequisiteError, StoreError

_CHUNK = 1 << 20
_TIMEOUT_S = 60
LIMIT = 16 << 30
"""Bytes that a file of unknown size may have."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A file to fetch. `by_hand` says how to use it without a connection, and `elsewhere` how to keep it in another
    folder. `size` is in bytes, where it is known; `known`: its digest is, so that any beginning may be gone on with.
    """

    url: str
    by_hand: str
    elsewhere: str
    size: int | None = None
    known: bool = False


def download(wanted: Wanted, target: Path, accept: Callable[[str], None]) -> None:
    """Puts the file at `target`. `accept` is called with its sha256, and raises for what is another file.

    Raises `ConfigError` for an address that is not https, `PrerequisiteError` if the server cannot be reached, cuts
    its answer off or sends one that makes no sense, `InputError` for a file that is too long, and `StoreError` where
    the folder cannot be written.
    """
    check_address(wanted.url, wanted.by_hand)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        before = _state(target)
        with _part(target) as (file, part):
            if _state(target) != before:  # another process has just put it there
                return
            try:
                _receive(wanted, file, part)
                file.flush()
                os.fsync(file.fileno())
                with part.open("rb") as whole:
                    digest = hashlib.file_digest(whole, "sha256").hexdigest()
                accept(digest)
            except ArbenchError as error:
                if not isinstance(error, PrerequisiteError):  # it is another file, and not the beginning of this one
                    _remove(part)
                raise
            part.replace(target)
            _origin(part).unlink(missing_ok=True)
    except OSError as error:
        raise StoreError(f"cannot write {target}", error.strerror or str(error), wanted.elsewhere) from error


def check_address(url: str, by_hand: str) -> None:
    """Raises `ConfigError` for anything but https; http is for this machine alone, where nobody is in between."""
    try:
        parts = urllib.parse.urlsplit(url)
        host, _ = parts.hostname or "", parts.port
    except ValueError as error:
        raise ConfigError(f"cannot fetch from {url!r}", str(error), by_hand) from error
    if host and (parts.scheme == "https" or (parts.scheme == "http" and _is_loopback(host))):
        return
    raise ConfigError(
        f"cannot fetch from {url!r}", "only https addresses, and http on this machine (127.0.0.1)", by_hand
    )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


# ---- what has arrived ------------------------------------------------------------------------------------------------


@contextmanager
def _part(target: Path) -> Iterator[tuple[BinaryIO, Path]]:
    """The file that holds what has arrived, locked; an empty one is not left behind."""
    part = target.with_name(f".{target.name}.part")
    while True:
        file = part.open("ab+")
        fcntl.flock(file, fcntl.LOCK_EX)
        if part.exists() and os.path.samestat(part.stat(), os.fstat(file.fileno())):
            break
        file.close()  # the one that was waited for is done with it
    try:
        yield file, part
    finally:
        if _state(part) is not None and os.fstat(file.fileno()).st_size == 0:
            _remove(part)
        file.close()


def _origin(part: Path) -> Path:
    """Where what has arrived comes from: address, and the server's mark of this very file."""
    return part.with_name(f"{part.name}.json")


def _remove(part: Path) -> None:
    for path in (part, _origin(part)):
        path.unlink(missing_ok=True)


def _state(path: Path) -> tuple[int, int] | None:
    with suppress(OSError):
        stat = path.stat()
        return stat.st_ino, stat.st_mtime_ns
    return None


def _mark_of(part: Path, url: str) -> str | None:
    """The server's mark of what has arrived from `url`, "" if it gave none; None if it came from elsewhere."""
    try:
        origin = json.loads(_origin(part).read_bytes())
        return str(origin["mark"]) if origin["url"] == url else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


# ---- the server's answer ---------------------------------------------------------------------------------------------


def _receive(wanted: Wanted, file: BinaryIO, part: Path) -> None:
    """Adds to `file` what is missing, or begins anew where the server cannot go on, or the file is another now."""
    mark = _mark_of(part, wanted.url)
    begun = os.fstat(file.fileno()).st_size
    if mark is None or not (mark or wanted.known) or (wanted.size is not None and begun >= wanted.size):
        begun = 0
    try:
        answer = _ask(wanted, begun, mark or "")
        with answer:
            start, total = _place(wanted, answer, begun)
            os.ftruncate(file.fileno(), start)
            headers = answer.headers
            weak = (headers.get("ETag") or "").startswith("W/")
            mark = "" if weak else headers.get("ETag") or headers.get("Last-Modified") or ""
            _origin(part).write_text(json.dumps({"url": wanted.url, "mark": mark}), encoding="utf-8")
            _copy(wanted, answer, file, start, total, part.name[1:].removesuffix(".part"))
    except (urllib.error.URLError, HTTPException, TimeoutError, ConnectionError) as error:
        why = str(getattr(error, "reason", None) or error)
        raise PrerequisiteError(f"cannot fetch {wanted.url}", why, f"without a connection, {wanted.by_hand}") from error
    except ValueError as error:
        raise PrerequisiteError(f"cannot fetch {wanted.url}", str(error), wanted.by_hand) from error


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows none that leaves https."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> urllib.request.Request | None:
        check_address(newurl, "give the address of the file itself with --from")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _ask(wanted: Wanted, begun: int, mark: str) -> Any:
    headers = {"User-Agent": "arbench", "Accept-Encoding": "identity"}
    if begun:
        headers |= {"Range": f"bytes={begun}-"} | ({"If-Range": mark} if mark else {})
    opener = urllib.request.build_opener(_Redirects)
    try:
        return opener.open(urllib.request.Request(wanted.url, headers=headers), timeout=_TIMEOUT_S)
    except urllib.error.HTTPError as error:
        if error.code == 416 and begun:  # it has no such part: the file has changed
            error.close()
            return _ask(wanted, 0, "")
        raise


def _place(wanted: Wanted, answer: Any, begun: int) -> tuple[int, int | None]:
    """Where the answer's bytes go, and how long the whole file is, if that is known.

    Raises `ValueError` for headers that make no sense, `InputError` for a file that is too long.
    """
    encoding = (answer.headers.get("Content-Encoding") or "identity").strip().lower()
    if encoding != "identity":
        raise ValueError(f"the server sends it as {encoding}, which was not asked for")
    lengths = {text.strip() for line in answer.headers.get_all("Content-Length") or [] for text in line.split(",")}
    if len(lengths) > 1 or not all(re.fullmatch(r"[0-9]{1,18}", text) for text in lengths):
        raise ValueError(f"the server says that it sends {' and '.join(sorted(lengths))!r} bytes")
    length = int(lengths.pop()) if lengths else None
    start = 0
    if answer.status == 206:
        stated = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+|\*)", (answer.headers.get("Content-Range") or "").strip())
        if stated is None or int(stated[1]) != begun or not begun:
            raise ValueError(f"the server sends another part than was asked for: {answer.headers.get('Content-Range')}")
        start = begun
    elif answer.status != 200:
        raise ValueError(f"the server answers {answer.status}, and sends no file")
    total = start + length if length is not None else None
    if total is not None and wanted.size is not None and total != wanted.size:
        raise _another(wanted, f"{total} bytes are sent, the file has {wanted.size}")
    if total is not None and total > LIMIT:
        raise _another(wanted, f"{total} bytes are sent, more than {LIMIT} are never taken")
    return start, total


def _copy(wanted: Wanted, answer: Any, file: BinaryIO, received: int, total: int | None, name: str) -> None:
    most = wanted.size if wanted.size is not None else LIMIT
    with _progress() as bar:
        task = bar.add_task(name, total=total or wanted.size, completed=received)
        while chunk := answer.read(_CHUNK):
            received += len(chunk)
            if received > most:
                os.ftruncate(file.fileno(), 0)
                raise _another(wanted, f"more than {most} bytes are sent")
            file.write(chunk)
            bar.update(task, advance=len(chunk))
    file.flush()
    expected = total if total is not None else wanted.size
    if expected is not None and received != expected:
        raise PrerequisiteError(
            f"{wanted.url} was cut off", f"{received} of {expected} bytes arrived", "fetch it again: it is resumed"
        )
    if not received:
        raise ValueError("the server sends an empty file")


def _another(wanted: Wanted, why: str) -> InputError:
    return InputError(f"what {wanted.url} sends is not the file", why, f"nothing was kept; {wanted.by_hand}")


def _progress() -> Progress:
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
