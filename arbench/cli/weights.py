"""`arbench weights`: lists the weights of feature extractors and downloads them, only when asked."""

from __future__ import annotations

import json
import urllib.parse
from collections.abc import Sequence
from pathlib import Path

from arbench.cli.download import Wanted, check_address, download
from arbench.errors import OK, CheckpointError, ConfigError
from arbench.features.weight_files import WEIGHTS, KnownWeights, Official, Weights, known
from arbench.terminal import Column, PlainConsole, print_table
from arbench.weights import folder

_BY_HAND = "copy the file here and name it: --weights NAME=PATH"


def ls(names: Sequence[str] = (), json_output: bool = False) -> int:
    """Prints every set of weights, or those of these names: where its file is, or the file it needs, and the licence.

    Raises `UnknownName`.
    """
    weights = Weights({}, folder())
    rows = [_row(entry, weights) for entry in (map(known, dict.fromkeys(names)) if names else WEIGHTS.values())]
    if json_output:
        print(json.dumps(rows, indent=2))
        return OK
    columns = [Column(name, whole=name in ("name", "file")) for name in ("name", "file", "state", "licence", "what")]
    console = PlainConsole()
    print_table(console, columns, [[str(row[column.head]) for column in columns] for row in rows])
    console.print(f"folder: {weights.cache}", soft_wrap=True)
    return OK


def _row(entry: KnownWeights, weights: Weights) -> dict[str, str | int | None]:
    first = entry.files[0]
    row: dict[str, str | int | None] = {
        "name": entry.name,
        "file": first.file,
        "state": "missing",
        "path": None,
        "problem": None,
        "sha256": first.sha256,
        "bytes": first.bytes,
        "licence": entry.licence,
        "what": entry.what,
        "url": first.url,
    }
    try:
        found = weights.find(entry.name)
    except CheckpointError as error:
        return row | {"state": "damaged", "problem": f"{error.what}: {error.why}"}
    if found is None:
        return row
    state = "present" if found.official else "present, digest unknown"
    return row | {"state": state, "file": found.path.name, "path": str(found.path), "sha256": found.sha256}


def fetch(names: Sequence[str], url: str | None = None, unverified: bool = False) -> int:
    """Downloads weights into the cache folder and checks their sha256; `url` names another place for one file, and
    `unverified` takes a file whose sha256 nobody has published.

    Raises `UnknownName`, `PrerequisiteError` where the server cannot be reached, `CheckpointError` for a wrong digest
    and `StoreError` where the folder cannot be written. A file appears in the folder whole or not at all.
    """
    if not names:
        raise ConfigError("no weights named", f"known: {', '.join(WEIGHTS)}", "arbench weights fetch NAME")
    if url is not None and len(names) != 1:
        raise ConfigError("--from gives the place of one file", f"{len(names)} names are given", "name one")
    entries = [known(name) for name in names]
    weights = Weights({}, folder())
    console = PlainConsole()
    for entry in entries:
        try:
            found = weights.find(entry.name)
        except CheckpointError:
            found = None  # a damaged file is what fetching again is for
        if found is not None:
            checked = "" if found.official else f", sha256 {found.sha256}: not checked, none is published"
            console.print(f"{entry.name}: already there, {found.path}{checked}", soft_wrap=True)
            continue
        path, digest = _download(_official(entry, url), url, weights.cache, unverified)
        checked = "" if digest is None else f", sha256 {digest}: not checked, none is published"
        console.print(f"{entry.name}: {path}{checked}", soft_wrap=True)
    return OK


def _official(entry: KnownWeights, url: str | None) -> Official:
    """The file that is fetched: the one the URL names, else the first."""
    name = Path(urllib.parse.urlsplit(url).path).name if url else ""
    return next((official for official in entry.files if official.file == name), entry.files[0])


def _download(official: Official, url: str | None, folder: Path, unverified: bool) -> tuple[Path, str | None]:
    """Where the file is now, and its sha256 if that could not be checked."""
    source, target = url or official.url, folder / official.file
    if not source:
        raise ConfigError(f"{official.file} is published nowhere", "it is converted by hand", _BY_HAND)
    check_address(source, _BY_HAND)
    if not official.sha256 and not unverified:
        raise ConfigError(
            f"{official.file} cannot be checked",
            "no sha256 of it is published: whatever the server sends would be taken for it",
            f"to take it all the same: --unverified; or {_BY_HAND}",
        )
    found: list[str] = []

    def accept(digest: str) -> None:
        found.append(digest)
        if official.sha256 and not official.matches(digest):
            raise CheckpointError(
                f"what {source} sends is not {official.file}",
                f"its sha256 begins {digest[:8]}, that of {official.file} begins {official.sha256[:8]}",
                "nothing was kept; weights of your own are named with --weights NAME=PATH",
            )

    elsewhere = "set ARBENCH_WEIGHTS to another folder"
    download(Wanted(source, _BY_HAND, elsewhere, official.bytes, bool(official.sha256)), target, accept)
    return target, None if official.sha256 or not found else found[0]
