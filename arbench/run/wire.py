"""Messages between supervisor and workers: JSON objects over a pipe, so that neither side unpickles anything."""

from __future__ import annotations

import json
from multiprocessing.connection import Connection
from typing import Any


def send(pipe: Connection, message: dict[str, Any]) -> None:
    pipe.send_bytes(json.dumps(message, allow_nan=False).encode())


def receive(pipe: Connection) -> dict[str, Any]:
    """The next message; EOFError or OSError at the end of the pipe."""
    message: dict[str, Any] = json.loads(pipe.recv_bytes())
    return message
