"""Where an adapter's weights are: given by path, shipped in the package, or in the weights folder."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path

from .errors import ConfigError, InputError, MissingWeights
from .spec.card import Card


def folder() -> Path:
    """`$ARBENCH_WEIGHTS`, else `~/.cache/arbench/weights`."""
    given = os.environ.get("ARBENCH_WEIGHTS")
    return Path(given) if given else Path.home().joinpath(".cache", "arbench", "weights")


def known(card: Card) -> bool:
    """Whether the weights that `card` needs are a file of a known name; true as well of an adapter that needs none.

    An official size that was trained, but of which no file was published, is not.
    """
    return card.checkpoint is not None or not (card.trained_on and card.parameters)


def find(card: Card, given: Mapping[str, str] | None = None) -> Path | None:
    """The weight file of `card`, or None if it is nowhere (or if the adapter needs none).

    `given` maps names to "PATH" or "PATH#PART" (see `weight_parts`). In the weights folder a file may lie in a folder
    of the adapter's name: some models publish files of one name.
    """
    text = (given or {}).get(card.name)
    if text is not None:
        # here, as most commands are given no file and reading one takes much code
        from .checkpoints.listing import list_tensors
        from .checkpoints.parts import split

        path, _ = split(text)
        if not path.exists():
            raise InputError(f"no weight file at {path}", f"given for {card.name}", "check the path")
        if path.is_dir() and not (card.checkpoint is not None and card.checkpoint.folder):
            list_tensors(path)  # says which of its files to name
        return path
    if card.checkpoint is None:
        return None
    if card.checkpoint.folder:
        return Path(card.checkpoint.file)
    if card.checkpoint.packaged:
        return _beside(card) / card.checkpoint.file
    within = folder()
    places = (within.joinpath(card.name, card.checkpoint.file), within / card.checkpoint.file)
    return next((place for place in places if place.is_file()), None)


def _beside(card: Card) -> Path:
    """The folder `weights` of the package that the implementation of `card` is in; the module is not imported."""
    module = card.implementation.partition(":")[0]
    try:
        spec = find_spec(module)
    except (ImportError, ValueError) as error:
        raise ConfigError(f"cannot find the weights of {card.name}", str(error), "repair its package") from None
    if spec is None or not spec.parent:
        why = f"there is no module {module}" if spec is None else f"{module} is a module outside of any package"
        raise ConfigError(
            f"cannot find the weights of {card.name}", why, "put it in a package that has a folder `weights`"
        )
    return Path(str(files(spec.parent) / "weights"))


def locate(card: Card, given: Mapping[str, str] | None = None) -> Path | None:
    """As `find`, but a checkpoint that is needed and not there is an error that says where to get it."""
    path = find(card, given)
    if path is not None or (card.checkpoint is None and known(card)):
        return path
    licence = f"licence of the weights: {card.weights_licence}"
    if card.checkpoint is None:
        raise MissingWeights(
            f"no weights for {card.name}",
            f"no official file of this size is known; the code is at {card.source} ({licence})",
            f"give a file, --weights {card.name}=PATH, or rehearse with --set init=random",
        )
    file = card.checkpoint.file
    raise MissingWeights(
        f"no weights for {card.name}",
        f"the official file is {file} from {card.checkpoint.source} ({licence})",
        f"put it at {folder() / file} (or in {folder() / card.name}, if another model's file has that name), "
        f"or give it: --weights {card.name}=PATH",
    )


def sha256(path: Path) -> str:
    """Hex sha256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
