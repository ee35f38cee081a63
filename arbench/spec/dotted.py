"""The dotted keys of `--set`: `sampling."raster/*".top_k` is three parts, a quoted one whole whatever dots it has."""

from __future__ import annotations

import re

_PART = re.compile(r""""(?P<double>[^"]*)"|'(?P<single>[^']*)'|(?P<plain>[^."']+)""")


def key_parts(key: str) -> tuple[str, ...]:
    """The parts of `key`; ValueError, saying what is wrong, for an empty part or a quote that is not closed."""
    parts: list[str] = []
    place = 0
    while True:
        found = _PART.match(key, place)
        part = next((text for text in found.groups() if text is not None), "") if found else ""
        if found is None or not part:
            quoted = key[place : place + 1] in ("'", '"')
            raise ValueError("a quote is not closed" if quoted and found is None else "a part of the key is empty")
        parts.append(part)
        place = found.end()
        if place == len(key):
            return tuple(parts)
        if key[place] != ".":
            raise ValueError(
                "a quoted part is followed by a dot" if key[place - 1] in "'\"" else "a quote inside a part"
            )
        place += 1
