"""The tensors of a weight file, on the CPU: of the part that fits a network, and nothing of it is executed."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import NoReturn

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load
from torch import Tensor

from arbench.checkpoints import parts
from arbench.checkpoints.listing import AGAIN, Listing, list_tensors, refuse
from arbench.checkpoints.torch_format import Inert, StoredTensor, TorchFile, describe

from .kinds import recognise

FITS = 0.8
"""Share of a network's names that are there, from which on a file is taken for one of it that lacks some."""
SHOWN = 6
"""Entries that an error lists."""
HARMLESS = re.compile(
    r"(numpy|pathlib|argparse|collections|omegaconf|typing|datetime|torch|builtins|__builtin__|enum|uuid|decimal)\..*"
)
"""Whose objects may lie among the weights: they are not made, and nobody misses them."""
RUNS = re.compile(r"(builtins|__builtin__)\.(eval|exec|compile|open|__import__|getattr)|torch\.(load|hub\..*|jit\..*)")


def read_state_dict(path: Path, part: str = "") -> dict[str, Tensor]:
    """All tensors of a safetensors file, of shards by their index, or of a torch file, by dotted name below `part`.

    Raises CheckpointError: unreadable, truncated, unsafe, or without tensors.
    """
    listing = list_tensors(path)
    below = parts.find(listing, part) if part else ""
    prefix = f"{below}." if below else ""
    names = {name.removeprefix(prefix): name for name in listing.tensors if name.startswith(prefix)}
    if not names:
        _no_tensors(listing)
    _refuse_objects(listing, prefix)
    return tensors_of(listing, names)


def state_for(
    path: Path, part: str, wanted: Iterable[Collection[str]], order: tuple[str, ...] = ()
) -> tuple[dict[str, Tensor], str]:
    """The state dict of the part of a file that has most of the names of one of `wanted`, and what the part is called.

    `wanted` are the names that a network may have, officially or here. Of several such parts the one that `part` names,
    else the first by `order`, see `arbench.checkpoints.parts`.
    """
    listing = list_tensors(path)
    below = parts.find(listing, part) if part else ""
    everywhere = bool(part) and not below
    best: dict[str, int] = {}
    names: Collection[str] = ()
    for candidate in wanted:
        found = parts.fitting(listing, candidate, below)
        if everywhere:
            found = {prefix: count for prefix, count in found.items() if not prefix}
        if max(found.values(), default=0) > max(best.values(), default=0):
            best, names = found, candidate
    if not listing.tensors:
        _no_tensors(listing)
    if max(best.values(), default=0) >= FITS * len(names) > 0:
        prefix = parts.preferred(best, order)[0]
        if not part:
            prefix = _whole_system(listing, prefix, names)
    else:  # another network's file: the error of loading it says what it is
        prefix, best = _largest(listing, below), {}
    _refuse_objects(listing, prefix)
    return tensors_of(listing, parts.within(listing, prefix, names, best)), parts.stem(prefix)


def _whole_system(listing: Listing, prefix: str, wanted: Collection[str]) -> str:
    """`prefix`, or that of the dict around it where all of that is another system's network: HART's tokenizer holds one
    like VAR's, but is not one. Such a dict is not taken apart unless somebody asks for the part."""
    holders = [f"{name}." if name else "" for name in listing.dicts]
    around = max((each for each in holders if prefix.startswith(each)), key=len, default="")
    if around == prefix:
        return prefix
    whole = recognise([name.removeprefix(around) for name in listing.tensors if name.startswith(around)])
    return around if whole is not None and whole != recognise(wanted) else prefix


def _largest(listing: Listing, below: str) -> str:
    """The prefix of what is in a file that does not fit. Raises CheckpointError if that is several things."""
    inside = [name for name in listing.dicts if name.startswith(below) and not parts.in_training(name)]
    kinds = {}
    for name in inside:
        prefix = f"{name}." if name else ""
        kind = recognise([each.removeprefix(prefix) for each in listing.tensors if each.startswith(prefix)])
        if kind is not None:
            kinds[name] = kind
    if len(kinds) > 1:
        found = ", ".join(f"its part {name!r} looks like {kind}" for name, kind in list(kinds.items())[:SHOWN])
        refuse(listing.path, f"no part of it fits: {found}")
    chosen = next(iter(kinds), below or (inside[0] if len(inside) == 1 else ""))
    return f"{chosen}." if chosen else ""


def fitting_parts(path: Path, wanted: Iterable[Collection[str]]) -> list[str]:
    """The parts of a file in which all names of one of `wanted` are."""
    listing = list_tensors(path)
    return [
        parts.stem(prefix) or parts.WHOLE
        for candidate in wanted
        for prefix, count in parts.fitting(listing, candidate).items()
        if count == len(frozenset(candidate))
    ]


def tensors_of(listing: Listing, names: Mapping[str, str]) -> dict[str, Tensor]:
    """{new name: tensor} of {new name: name in the file}."""
    if listing.torch_file is not None:
        file = listing.torch_file
        if file.form == "pickle":
            refuse(listing.path, "it is a pickle that torch has not written", "write it with torch.save or safetensors")
        return _of_torch(file, {new: listing.tensors[name].tensor for new, name in names.items()})
    files: dict[Path, dict[str, str]] = {}
    for new, name in names.items():
        place = listing.tensors[name]
        files.setdefault(place.path, {})[new] = place.name
    state: dict[str, Tensor] = {}
    for path, wanted in files.items():
        state |= _of_shard(path, wanted, listing)
    return {name: state[name] for name in names}


def _of_shard(path: Path, wanted: Mapping[str, str], listing: Listing) -> dict[str, Tensor]:
    try:
        if not _in_utf8(path):
            held = load(path.read_bytes())
            return {new: held[name] for new, name in wanted.items()}
        with safe_open(path, "pt") as file:
            return {new: file.get_tensor(name) for new, name in wanted.items()}
    except SafetensorError as error:
        if listing.form == "shards":  # of torch's own format, as pytorch_model.bin.index.json names them
            shard = list_tensors(path)
            if shard.torch_file is not None:
                return tensors_of(shard, wanted)
        refuse(path, f"its safetensors header is broken ({error})", AGAIN)
    except OSError as error:
        refuse(path, f"it cannot be read: {error.strerror or error}", "check the disk")


def _of_torch(file: TorchFile, wanted: Mapping[str, StoredTensor]) -> dict[str, Tensor]:
    storages: dict[str, torch.UntypedStorage] = {}
    whole: torch.UntypedStorage | None = None
    state: dict[str, Tensor] = {}
    try:
        with file.path.open("rb") as stream:
            for name, tensor in wanted.items():
                file.span(tensor)  # torch does not say it that clearly
                if tensor.storage not in storages:
                    first, size = file.storages[tensor.storage]
                    as_torch_writes = file.form == "zip" and first % 64 == 0
                    if as_torch_writes and _in_utf8(file.path):  # mapped, not read
                        if whole is None:
                            length = file.path.stat().st_size
                            whole = torch.UntypedStorage.from_file(str(file.path), False, length)
                        storages[tensor.storage] = whole[first : first + size]
                    else:
                        stream.seek(first)
                        data = bytearray(stream.read(size))
                        held = torch.frombuffer(data, dtype=torch.uint8) if size else torch.empty(0, dtype=torch.uint8)
                        storages[tensor.storage] = held.untyped_storage()
                empty: Tensor = torch.empty(0, dtype=getattr(torch, tensor.dtype))
                state[name] = empty.set_(storages[tensor.storage], tensor.start, tensor.shape, tensor.stride)  # type: ignore[call-overload]
    except (RuntimeError, OSError, ValueError, KeyError, TypeError, AttributeError):
        refuse(file.path, "the file is truncated or not a torch checkpoint", AGAIN)
    return state


def _in_utf8(path: Path) -> bool:
    """Whether torch and safetensors, which take no other names, can open it by its path."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return False
    return True


# ---- what is wrong ---------------------------------------------------------------------------------------------------


def _refuse_objects(listing: Listing, prefix: str) -> None:
    """Refuses objects of unknown classes in the part itself, where somebody may have meant a weight."""
    for name, value in listing.others.items():
        if not name.startswith(prefix) or (not prefix and listing.dicts != ("",)) or not isinstance(value, Inert):
            continue
        if prefix and parts.in_training(name.removeprefix(prefix)):
            continue
        if RUNS.fullmatch(value.named) or not HARMLESS.fullmatch(value.named):
            refuse(
                listing.path,
                f"its entry {name!r} is {describe(value)}: making that would execute code, and is refused",
                f"save without it: a dict of tensors, without {name!r}",
            )


def _no_tensors(listing: Listing) -> NoReturn:
    entries = list(listing.others.items())
    found = ", ".join(f"{name!r}: {describe(value)}" for name, value in entries[:SHOWN]) or "nothing"
    more = f" and {len(entries) - SHOWN} more" if len(entries) > SHOWN else ""
    kind = recognise(list(listing.others))
    refuse(
        listing.path, f"it is not a dict of tensors; found {found}{more}" + (f"; it looks like {kind}" if kind else "")
    )
