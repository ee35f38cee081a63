"""`arbench references`: published reference statistics, fetched only when asked, or added from a file."""

from __future__ import annotations

import hashlib
import urllib.parse
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

from arbench.terminal import PlainConsole

from ..data.statistics import kept
from ..data.statistics.kept import Kept
from ..data.statistics.published import PUBLISHED, Published, known
from ..errors import OK, ConfigError, DamagedFile, InputError, UnknownName, UsageError, counted
from ..files import replacing
from .download import Wanted, download

_ANOTHER_FOLDER = "set ARBENCH_REFERENCES to another folder"
_CHUNK = 1 << 20


def references(action: str, names: Sequence[str], url: str | None, json_output: bool) -> int:
    """Does one of the verb's actions. Raises `UnknownName` for any other."""
    if action == "fetch":
        return fetch(names, url)
    if url is not None:
        raise UsageError("--from goes with fetch", f"{action} fetches nothing", "arbench references fetch NAME")
    if action == "add":
        return add(names)
    if action != "ls":
        raise UnknownName("action of references", action, ("ls", "fetch", "add"), "arbench references fetch NAME")
    from .ls import ls

    return ls("references", json_output, names=names)


def rows(names: Sequence[str] = ()) -> list[dict[str, Any]]:
    """A row for each published reference, or those of these names: what it is, which conventions it serves, whether it
    is here. Raises `UnknownName`."""
    from ..evaluate.conventions import conventions

    served: dict[str, list[str]] = {}
    for convention in conventions().values():
        for output in {item.output for item in convention.definitions if not item.alone and not convention.paired}:
            served.setdefault(output, []).append(convention.name)
    chosen = map(known, dict.fromkeys(names)) if names else PUBLISHED.values()
    return [_row(entry, served) for entry in chosen]


def _row(entry: Published, served: dict[str, list[str]]) -> dict[str, Any]:
    problem = ""
    try:
        state, pin = kept.state(entry)
        if state == "changed":
            problem = f"not what was kept before: arbench references fetch {entry.name}"
    except DamagedFile as error:
        state, pin, problem = "changed", None, f"{error.what}: {error.why}"
    here = kept.files_of(entry)
    files = [
        {
            "file": each.file,
            "url": each.url,
            "published_sha256": each.sha256 or None,
            "sha256": pin.files[each.file].sha256 if pin is not None and each.file in pin.files else None,
            "bytes": pin.files[each.file].bytes if pin is not None and each.file in pin.files else None,
            "path": str(here[each.file]) if each.file in here else None,
        }
        for each in entry.files
    ]
    return {
        "name": entry.name,
        "title": entry.title,
        "images": kept.count(entry, pin),
        "pixels": entry.pixels,
        "format": entry.format,
        "conventions": ", ".join(dict.fromkeys(name for key in entry.outputs for name in served.get(key, ()))),
        "state": state,
        "digest": files[0]["sha256"],
        "problem": problem,
        "fetched_from": pin.origin if pin is not None else None,
        "files": files,
    }


def fetch(names: Sequence[str], url: str | None = None) -> int:
    """Downloads references into their folder; `url` names another place for one of them.

    What is there and unchanged is left alone. Raises `UnknownName`, `PrerequisiteError` where the server cannot be
    reached, `DamagedFile` or `InputError` for another file than expected, `StoreError` where the folder cannot be
    written. A file appears in the folder whole or not at all.
    """
    if not names:
        raise ConfigError("no reference named", "arbench ls references has the names", "arbench references fetch NAME")
    if url is not None and len(names) != 1:
        raise ConfigError("--from gives the place of one reference", f"{len(names)} names are given", "name one")
    console = PlainConsole()
    for entry in [known(name) for name in names]:
        found = _intact(entry)
        if found is not None and len(found.pin.files) == len(entry.files):
            console.print(f"{entry.name}: already there, {_summary(found)}", soft_wrap=True)
            continue
        _fetch(entry, url)
        found = _pinned(entry, url or entry.files[0].url)
        console.print(f"{entry.name}: {_summary(found)}", soft_wrap=True)
    return OK


def _intact(entry: Published) -> Kept | None:
    try:
        return kept.find(entry.name)
    except DamagedFile:
        return None  # what fetching again is for


def _fetch(entry: Published, url: str | None) -> None:
    """Other files than the first are looked for beside it, if it comes from elsewhere."""
    for each in entry.files:
        source = each.url
        if url is not None:
            source = url if each is entry.files[0] else urllib.parse.urljoin(url, each.file)
        by_hand = f"copy {each.file} here: arbench references add {entry.name} FILE"
        wanted = Wanted(source, by_hand, _ANOTHER_FOLDER, known=bool(each.sha256))
        download(wanted, kept.place(entry) / each.file, partial(_accepted, entry, each.file, source))


def _accepted(entry: Published, file: str, source: str, digest: str) -> None:
    """The file that is known by its digest, or the first that was ever kept."""
    kept.accept(entry, file, digest, source)


def add(names: Sequence[str]) -> int:
    """Keeps a file that the user has, as what it is published as; features for KID are taken along if beside it."""
    if len(names) != 2:
        raise ConfigError(
            "a name and a file are needed", f"{len(names)} arguments are given", "arbench references add NAME FILE"
        )
    entry, path = known(names[0]), Path(names[1]).expanduser()
    if not path.is_file():
        raise InputError(f"no file at {path}", f"given for {entry.name}", "check the path")
    for each in entry.files:
        given = path if each is entry.files[0] else path.with_name(each.file)
        if given.is_file():
            _place(entry, each.file, str(given), partial(_copy, given))
    found = _pinned(entry, str(path.resolve()))
    PlainConsole().print(f"{entry.name}: {_summary(found)}", soft_wrap=True)
    return OK


def _copy(path: Path, file: BinaryIO) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as source:
        while chunk := source.read(_CHUNK):
            digest.update(chunk)
            file.write(chunk)
    return digest.hexdigest()


def _place(entry: Published, file: str, source: str, write: Callable[[BinaryIO], str]) -> None:
    """A file of `entry` in its folder, if what is written is the one that is known by its digest, or the first."""
    with replacing(kept.place(entry) / file, _ANOTHER_FOLDER) as target:
        kept.accept(entry, file, write(target), source)


def _pinned(entry: Published, origin: str) -> Kept:
    """What was put there, read and pinned; nothing is kept of what is not this reference."""
    try:
        return kept.pin(entry, origin)
    except InputError as error:
        for each in entry.files:
            with suppress(FileNotFoundError):
                (kept.place(entry) / each.file).unlink()
        why = ": ".join(part for part in (error.what, error.why) if part)
        raise InputError(f"{origin} is not {entry.name}", why, "nothing was kept; check the address or path") from error


def _summary(found: Kept) -> str:
    count = "number of images not stated" if found.images is None else counted(found.images, "image")
    return f"{found.path}, {count}, sha256 {found.sha256}"
