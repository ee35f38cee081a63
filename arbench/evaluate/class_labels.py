"""Classes of two sets brought together: by number where both have numbers, by name where folders have names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

from ..data.readers.listing import INTEGER, WORDNET_ID
from ..errors import InputError
from ..features.feature_set import Features

Labels = NDArray[np.int64]


def class_names(features: Features) -> Mapping[int, str]:
    """Label -> name, where the first folder of every picture's key is its class; else empty."""
    found: dict[int, str] = {}
    for picture in features.pictures:
        name, inside, _ = picture.key.partition("/")
        if picture.label is None or not inside or found.setdefault(picture.label, name) != name:
            return {}
    return found


def matched(mine: Labels, names: Mapping[int, str], theirs: Labels, other: Mapping[int, str]) -> tuple[Labels, Labels]:
    """(n,) labels of samples and of reference images, equal where the classes are.

    `names` and `other` are those of `class_names`. Labels that are the place of a folder's name among its neighbours
    mean nothing in another set: such classes are matched by name. Raises `InputError` where one set has names, and the
    other numbers alone, and where no class is in both.
    """
    if not _by_place(names) and not _by_place(other):
        if not np.isin(mine, theirs).any():
            raise _nothing_shared(*({str(label) for label in labels.tolist()} for labels in (mine, theirs)))
        return mine, theirs
    if not names or not other:
        side, one = ("samples", names or other) if names else ("reference", other)
        raise InputError(
            f"the classes of the {side} have names ({', '.join(sorted(one.values())[:3])}), the others' are numbers",
            "which name is which number is not known: folders with numbers as names would tell",
        )
    if not {*names.values()} & {*other.values()}:
        raise _nothing_shared(names.values(), other.values())
    ids = {name: place for place, name in titles_matched(names, other).items()}
    return _renumbered(mine, names, ids), _renumbered(theirs, other, ids)


def titles(names: Mapping[int, str]) -> Mapping[int, str]:
    """Label -> name of the classes of one set; empty where the label is what the name states."""
    return names if _by_place(names) else {}


def titles_matched(names: Mapping[int, str], other: Mapping[int, str]) -> Mapping[int, str]:
    """The same of labels as `matched` gives them."""
    if not _by_place(names) and not _by_place(other):
        return {}
    return dict(enumerate(sorted({*names.values(), *other.values()})))


def _nothing_shared(mine: Iterable[str], theirs: Iterable[str]) -> InputError:
    one, other = (", ".join(sorted(names)[:3]) for names in (mine, theirs))
    return InputError(
        "samples and reference have no class in common", f"{one} against {other}: names count to the letter"
    )


def _by_place(names: Mapping[int, str]) -> bool:
    """Whether the labels are the places of the names, not the numbers or official ids that they state."""
    found = names.values()
    stated = all(INTEGER.fullmatch(name) for name in found) or all(WORDNET_ID.fullmatch(name) for name in found)
    return bool(names) and not stated


def _renumbered(labels: Labels, names: Mapping[int, str], ids: Mapping[str, int]) -> Labels:
    return np.array([ids[names[label]] for label in labels.tolist()], dtype=np.int64)
