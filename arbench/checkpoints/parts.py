"""Which part of a weight file is loaded: the one that was named, else the one that fits and is meant for sampling.

A part is a dotted prefix of names: `ema`, `trainer.var_wo_ddp`, `state_dict.model`. Where several fit, the order is
that of the adapter's card, which follows the system's official evaluation; then averaged weights go first.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import CheckpointError, closest
from ..remote.address import is_address
from ..remote.cached import local
from .listing import Listing
from .torch_format import StoredTensor

AVERAGED = re.compile(
    r"(?i:(.*[_-])?(ema|averaged?|avg|swa|shadow|polyak)(model|net|network|weights|params|[_-].*|\d*))"
    r"|[a-z]+E(ma|MA)([A-Z_].*)?"
)
"""A part of a name that says that these weights are a mean over training: ema, model_ema, EMAModel, netEMA, shadow."""
TRAINING = re.compile(r"optim\w*|opt|\w*_opt|\w*optimizer\w*|(lr_)?schedulers?|(grad_)?scaler|loops|callbacks")
"""What training keeps beside the weights, tensors of the same shapes among it."""
ALIKE = 0.5
"""Share of names that two parts have in common, of the larger one's, from which on they are the same network twice."""

WHOLE = "."
"""The part that is everything."""


def split(text: str | Path) -> tuple[Path, str]:
    """Path and part of "PATH#PART"; a file whose own name has the sign is that file. Of an address, that of a copy."""
    if isinstance(text, str) and is_address(text):
        address, _, part = text.partition("#")
        return Path(local(address)), part
    path = Path(text)
    before, sign, part = str(text).rpartition("#")
    if not sign or not before or path.exists():
        return path, ""
    return Path(before), part


def join(path: Path, part: str) -> str:
    return f"{path}#{part}" if part else str(path)


def averaged(name: str) -> bool:
    pieces = name.split(".")
    return "online" not in pieces[-1] and any(AVERAGED.fullmatch(piece) for piece in pieces)


def preferred(parts: Collection[str], order: Sequence[str] = ()) -> list[str]:
    """`parts`, the one to load first; with or without their last dot. `order` are names from the card."""

    def rank(prefix: str) -> tuple[int, bool]:
        name = stem(prefix)
        pieces = name.split(".")
        places = [place for place, wanted in enumerate(order) if wanted in (name, pieces[0], pieces[-1])]
        return min(places, default=len(order)), not averaged(name)

    return sorted(parts, key=rank)


def stem(prefix: str) -> str:
    """A prefix as a part is called: without the dot, and without what data parallelism adds."""
    pieces = prefix.rstrip(".").split(".")
    while len(pieces) > 1 and pieces[-1] == "module":
        pieces.pop()
    return ".".join(pieces)


def in_training(name: str) -> bool:
    return any(TRAINING.fullmatch(piece) for piece in name.split("."))


def parts(listing: Listing) -> list[str]:
    """The parts that somebody may mean: dicts that hold tensors, and the first piece of names in them."""
    dicts = frozenset(listing.dicts)
    holders = [name for name in listing.dicts if name and not in_training(name)]
    firsts = Counter(prefix for name in listing.tensors for prefix in _firsts(dicts, name) if not in_training(name))
    inner = [name for name, _ in firsts.most_common() if name not in dicts]
    return list(dict.fromkeys(stem(name) for name in (*holders, *inner)))


def _firsts(dicts: Collection[str], name: str) -> list[str]:
    """The prefixes one and two pieces below the dict that a tensor is in."""
    pieces = name.split(".")
    depth = next((n for n in range(len(pieces) - 1, 0, -1) if ".".join(pieces[:n]) in dicts), 0)
    return [".".join(pieces[: depth + count]) for count in (1, 2) if len(pieces) > depth + count]


def find(listing: Listing, part: str) -> str:
    """The full name of the part that is asked for; its last pieces are enough where one part alone ends so.

    "." is the file as a whole, whose name is "".

    Raises `CheckpointError` with the closest parts there are.
    """
    if part == WHOLE:
        return ""
    if any(name.startswith(f"{part}.") for name in listing.tensors):
        return part
    known = parts(listing)
    ends = [name for name in known if name.endswith(f".{part}")]
    if len(ends) == 1:
        return ends[0]
    close = ends or closest(part, known)
    if close:
        why = f"did you mean {' or '.join(close)}?"
    else:
        why = f"it has {', '.join(known[:8])}" if known else "it is one state dict, without parts"
    hint = f"--weights NAME={join(listing.path, (close or known)[0])}" if close or known else "leave the part out"
    raise CheckpointError(f"{listing.path} has no part {part!r}", why, hint)


# ---- before anything is built ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Twins:
    """Parts that are the same network twice: the one to load first."""

    parts: tuple[str, ...]
    names: frozenset[str]
    """Of the tensors of the first, without the prefix."""


Fits = Callable[[Collection[str]], bool]


def twins(listing: Listing, order: Sequence[str] = (), fits: Fits = lambda names: False) -> list[Twins]:
    """The networks that are in the file more than once, the largest first. `fits`: names are of what is looked for."""
    groups: list[tuple[list[str], frozenset[str]]] = []
    for part, names in _candidates(listing, order, fits).items():
        for members, known in groups:
            if len(names & known) >= ALIKE * max(len(names), len(known)):
                members.append(part)
                break
        else:
            groups.append(([part], names))
    found = []
    for members, names in groups:
        distinct = preferred(list(dict.fromkeys(map(stem, members))), order)
        if len(distinct) > 1:
            found.append(Twins(tuple(distinct), names))
    return sorted(found, key=lambda each: -len(each.names))


def unread(listing: Listing) -> list[str]:
    """Averaged weights that no network can be given: a list without names, or names whose dots were left out."""
    lists = [
        name
        for name, value in listing.others.items()
        if averaged(name) and isinstance(value, list | tuple) and any(isinstance(each, StoredTensor) for each in value)
    ]
    prefixes = _prefixes(listing)
    joined = {name: {each.replace(".", "") for each in names} for name, names in prefixes.items()}
    for name, names in prefixes.items():
        if averaged(name) and not any("." in each for each in names):
            others = [each for other, each in joined.items() if other != name and not averaged(other)]
            if any(len(each & names) >= ALIKE * len(each) for each in others):
                lists.append(name)
    return lists


def _prefixes(listing: Listing) -> dict[str, set[str]]:
    """The first piece of names in a dict, whole -> what is behind it."""
    dicts, found = frozenset(listing.dicts), dict[str, set[str]]()
    for name in listing.tensors:
        for prefix in _firsts(dicts, name)[:1]:
            if not in_training(prefix):
                found.setdefault(prefix, set()).add(name.removeprefix(f"{prefix}."))
    return found


def _candidates(listing: Listing, order: Sequence[str], fits: Fits) -> dict[str, frozenset[str]]:
    """Part -> its names, without what they all begin with.

    Dicts that hold tensors; and within a dict, prefixes, if one of them says that it is a mean or is of the card, or
    those of a network that `fits`.
    """
    inside: dict[str, set[str]] = {name: set() for name in listing.dicts if not in_training(name) and not _number(name)}
    for name, place in listing.tensors.items():
        for holder in inside:
            if not holder or name.startswith(f"{holder}."):
                rest = name.removeprefix(f"{holder}." if holder else "")
                if "." in rest or place.tensor.shape not in ((), (1,)):  # no count such as AveragedModel's n_averaged
                    inside[holder].add(rest)
    prefixes = _prefixes(listing)
    lasts = {name: name.rpartition(".")[2] for name in prefixes}
    marked = any(averaged(last) or last in order for last in lasts.values())
    for name, names in prefixes.items():
        if name not in inside and (marked or fits(_unprefixed(names))):
            inside[name] = names
    return {name: _unprefixed(names) for name, names in inside.items() if names}


def _number(name: str) -> bool:
    return name.rpartition(".")[2].lstrip("-").isdigit() and not averaged(name)  # as "ema_0.999" is


def _unprefixed(names: Collection[str]) -> frozenset[str]:
    """`names` without the pieces that all of them begin with."""
    split_names = [name.split(".") for name in names]
    shared = 0
    shortest = min(len(pieces) for pieces in split_names) - 1
    while shared < shortest and len({pieces[shared] for pieces in split_names}) == 1:
        shared += 1
    return frozenset(".".join(pieces[shared:]) for pieces in split_names)


# ---- once it is known what is looked for -----------------------------------------------------------------------------


def fitting(listing: Listing, wanted: Collection[str], below: str = "") -> dict[str, int]:
    """Prefix -> how many of the names `wanted` stand behind it; only those with the most. Empty if there are none."""
    names, counts = frozenset(wanted), Counter[str]()
    base = f"{below}." if below else ""
    for name in listing.tensors:
        if not name.startswith(base):
            continue
        start = len(base)
        while start >= 0:
            if name[start:] in names:
                counts[name[:start]] += 1
            dot = name.find(".", start)
            start = dot + 1 if dot >= 0 else -1
    most = max(counts.values(), default=0)
    return {prefix: count for prefix, count in counts.items() if count == most}


def within(listing: Listing, prefix: str, wanted: Collection[str], twins_of: Collection[str]) -> dict[str, str]:
    """Name behind `prefix` -> whole name, for what belongs to the part: no optimizer's state, and no twin below it."""
    firsts = {name.partition(".")[0] for name in wanted}
    lower = [other for other in twins_of if other != prefix and other.startswith(prefix) and prefix in twins_of]
    found = {}
    for name in listing.tensors:
        rest = name.removeprefix(prefix)
        if not name.startswith(prefix) or any(name.startswith(other) for other in lower):
            continue
        first = rest.partition(".")[0]
        if first not in firsts and TRAINING.fullmatch(first):
            continue
        found[rest] = name
    return found
