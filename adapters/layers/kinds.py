"""What a state dict belongs to, told by its keys, so that an error about a wrong file can say which one it is."""

from __future__ import annotations

from collections.abc import Collection

from arbench.protocols import StateDict
from arbench.registry import systems

OTHERS = (
    StateDict(what="an Inception network", has=(r"Mixed_5b\..*",)),
    StateDict(what="a training state of arbench", has=(r"arbench_training",)),
)
"""Files of no system."""


def recognise(keys: Collection[str]) -> str | None:
    """What a state dict seems to belong to, judged by its keys: "A or B" if several fit, None if nothing we know."""
    known = (*(file for system in systems() for file in system.files), *OTHERS)
    return " or ".join(dict.fromkeys(file.what for file in known if file.fits(keys))) or None


def looks_like(found: Collection[str], wanted: Collection[str]) -> str:
    """ "it looks like A, not B; " from the keys of a file and those that were looked for; "" if nothing is known."""
    kind, other = recognise(found), recognise(wanted)
    if kind is None:
        return ""
    return f"it looks like {kind}{f', not {other}' if other and other not in kind.split(' or ') else ''}; "
