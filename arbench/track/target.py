"""Where results are tracked: an MLflow address, and whether it can be used, before anything is computed."""

from __future__ import annotations

import logging
import os
import re
import shlex
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote

from ..errors import ArbenchError, ConfigError, PrerequisiteError, StoreError
from . import database

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

ADDRESS = "MLFLOW_TRACKING_URI"
OFF = "off"
ARTIFACTS = "mlartifacts"
SQLITE = "sqlite:///"
WITH_DRIVER = "sqlite+pysqlite:///"
ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_LOGGING_LEVEL": "ERROR",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",  # we retry once ourselves
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "5",
}
REACH_SECONDS = 3.0
_OPTIONS = re.compile(r"\?\w+=[^&?#]*(&\w+=[^&?#]*)*$")
"""What SQLAlchemy takes as options at the end of an address; any other question mark is one of the path."""


@dataclass(frozen=True, slots=True)
class Target:
    """A store of MLflow. `database` is its file, where it has one, and `artifacts` the folder for files of a database;
    None where the store keeps them itself. `own`: the database of one run, in the run's folder.
    """

    uri: str
    database: Path | None = None
    artifacts: Path | None = None
    own: bool = False

    @property
    def shown(self) -> str:
        """The address without a password."""
        return re.sub(r"(://[^/@:]*):[^/@]*@", r"\1:***@", self.uri)

    @property
    def view(self) -> str:
        """What to type, or open, to see it."""
        return f"mlflow ui --backend-store-uri {shlex.quote(self.shown)}" if _is_database(self.uri) else self.shown


class Unreachable(ConnectionError):
    """A server that does not answer at all; asking again only costs time."""


def of_environment() -> str | None:
    """The address in `MLFLOW_TRACKING_URI`, if there is one."""
    return os.environ.get(ADDRESS, "").strip() or None


def absolute(address: str | None) -> str | None:
    """`address`, a file's made absolute: a run is resumed from anywhere."""
    if address is None or not address.startswith((SQLITE, WITH_DRIVER)):
        return address
    path, options = _split(address)
    return f"{SQLITE}{path.absolute()}{options}" if path.name and str(path) != ":memory:" else address


def own(folder: Path) -> Target:
    """The database of the run in `folder`; its artifacts lie beside it and move with it."""
    path = folder.absolute() / "mlflow.db"
    return Target(sqlite_uri(path), path, path.with_name(ARTIFACTS), own=True)


def target(address: str, folder: Path) -> Target:
    """The store at `address`, for the run in `folder`. Artifacts go beside a database file, so that all of its runs
    find theirs however long any one run's folder lives; those of a database server go beside the folder.

    Raises `ConfigError` for a database without a file.
    """
    if address.startswith(("sqlite:", "sqlite+")):
        path, options = _split(address)
        if not path.name or str(path) == ":memory:":
            raise ConfigError(
                f"cannot track in {address!r}",
                "it names no file",
                f"--track {SQLITE}{folder.absolute().parent}/runs.db",
            )
        path = path.absolute()
        if path == folder.absolute() / "mlflow.db":
            return replace(own(folder), uri=sqlite_uri(path, options))
        return Target(sqlite_uri(path, options), path, path.with_name(ARTIFACTS))
    return Target(address, None, folder.absolute().parent / ARTIFACTS if _is_database(address) else None)


def sqlite_uri(path: Path, options: str = "") -> str:
    """The address by which SQLAlchemy opens this very file, whatever characters its name has."""
    text = str(path)
    if tuple(int(part) for part in version("sqlalchemy").split(".")[:2]) >= (2, 1):
        escaped = text.replace("%", "%25").replace("?", "%3F")
        # in an address without a driver, MLflow takes the escapes for the name of a folder, and makes it
        return f"{SQLITE if escaped == text else WITH_DRIVER}{escaped}{options}"
    if "?" in text:  # before 2.1 nothing could be escaped, but in an address of SQLite's own
        return f"{SQLITE}file:{quote(text)}{options or '?'}{'&' if options else ''}uri=true"
    return f"{SQLITE}{text}{options}"


def _split(address: str) -> tuple[Path, str]:
    """Path and options of a sqlite address. A file that is there is meant as it is written, escapes or not."""
    text = re.sub(r"^sqlite(\+\w+)?:(///|//)?", "", address)
    found = _OPTIONS.search(text)
    options = found.group() if found is not None and not Path(text).exists() else ""
    written = Path(text.removesuffix(options) if options else text)
    readings = (written, Path(unquote(str(written))))
    there = [path for path in readings if path.exists()] or [path for path in readings if path.parent.exists()]
    return (there or [written])[0], options


def _is_database(address: str) -> bool:
    return re.match(r"(sqlite|postgresql|mysql|mssql)(\+\w+)?:", address) is not None


# ---- asking ----------------------------------------------------------------------------------------------------------


def check(store: Target, without: str) -> None:
    """Asks the store for an answer, and makes a database that is not there yet. `without` is how to go on untracked.

    Raises `ConfigError` for what MLflow takes for no store, `PrerequisiteError` for a server that gives no answer, and
    `StoreError` for a database that cannot be used.
    """
    try:
        connect(store).search_experiments(max_results=1)
    except ArbenchError:
        raise
    except Exception as error:
        raise _unusable(store, error, without) from error


def _unusable(store: Target, error: Exception, without: str) -> ArbenchError:
    why = reason(error)
    if store.database is not None:
        return StoreError(f"cannot track in {store.shown}", why, f"check the path, or {without}")
    if store.uri.startswith(("http:", "https:")):
        return PrerequisiteError(f"cannot track at {store.shown}", why, f"start the server, or {without}")
    if _is_database(store.uri):
        return PrerequisiteError(f"cannot track in {store.shown}", why, f"check the address, or {without}")
    path = store.uri.removeprefix("file://")
    hint = f"--track {SQLITE}{Path(path).absolute() / 'mlflow.db'}" if "://" not in path else without
    return ConfigError(f"MLflow cannot track in {store.shown!r}", why, hint)


def reason(error: BaseException) -> str:
    """The first lines of an error, in one."""
    text = " ".join(str(error).split()) or "no message"
    return f"{type(error).__name__}: {text:.300}"


def connect(store: Target) -> MlflowClient:
    """A client of the store, for which a database is made first where there is none. Raises what MLflow raises."""
    for key, value in ENVIRONMENT.items():
        os.environ.setdefault(key, value)
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    _reach(store.uri)
    if store.database is not None:
        database.check(store.database, own=store.own)
    from mlflow.tracking import MlflowClient

    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.ERROR)
    if store.database is not None:
        database.make(store.database, _builder(MlflowClient))
    return MlflowClient(tracking_uri=store.uri, registry_uri=store.uri)


def _builder(client: type[MlflowClient]) -> Callable[[Path], None]:
    def build(path: Path) -> None:
        uri = sqlite_uri(path)
        client(tracking_uri=uri, registry_uri=uri).search_experiments(max_results=1)

    return build


def _reach(uri: str) -> None:
    """Asks an http server for any answer, as MLflow's own calls wait far longer for one that is not there."""
    if not uri.startswith(("http://", "https://")):
        return
    import requests

    try:
        requests.head(uri, timeout=REACH_SECONDS, allow_redirects=False)
    except requests.RequestException as error:
        raise Unreachable(f"no answer within {REACH_SECONDS:.0f} s ({type(error).__name__})") from error
