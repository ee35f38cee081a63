"""Checkpoints: read them without running their code, rename and load them strictly, or draw random weights."""

from __future__ import annotations

import argparse
import io
import pickle
import pickletools
import re
import struct
import zipfile
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from arbench.errors import CheckpointError, MissingWeights, NoDevice
from arbench.protocols import Card, LoadSpec

from .kinds import looks_like, recognise

SHOWN = 6
"""Groups of keys an error lists before it only counts."""

OfficialNames = Callable[[str], tuple[str, ...]]
"""One of our parameter names -> the official key, or the keys whose tensors are joined along dimension 0."""

Module = TypeVar("Module", bound=nn.Module)

# ---- reading ---------------------------------------------------------------------------------------------------------


def read_state_dict(path: Path, wrapper: tuple[str, ...] = ()) -> dict[str, Tensor]:
    """The tensors of a safetensors file or a torch pickle, on the CPU, by name.

    The first key of `wrapper` that the file has is unwrapped; without any the file itself must be the state dict.
    Pickles are never executed. Raises CheckpointError: unreadable, truncated, unsafe, or not a dict of tensors.
    """
    content = _read(path)
    if not isinstance(content, Mapping):
        raise _error(path, f"it holds a {type(content).__name__}, not a dict of tensors")
    for key in wrapper:
        if isinstance(content.get(key), Mapping):
            content = content[key]
            break
    others = [key for key, value in content.items() if not (isinstance(key, str) and isinstance(value, Tensor))]
    if others or not content:
        found = ", ".join(f"{key!r}: {type(content[key]).__name__}" for key in list(content)[:SHOWN]) or "nothing"
        wanted = (
            f"none of the keys {', '.join(map(repr, wrapper))} holds them" if wrapper else "it must hold them itself"
        )
        raise _error(path, f"it is not a dict of tensors ({wanted}); found {found}{_within(content)}")
    return dict(content)


def _within(content: Mapping[Any, Any]) -> str:
    """ "; what it looks like" for a file whose state dict is under a key that was not looked for."""
    for key, value in content.items():
        if isinstance(value, Mapping):
            kind = recognise([name for name in value if isinstance(name, str)])
            if kind:
                return f"; under {key!r} it looks like {kind}"
    return ""


def _error(path: Path, why: str, hint: str = "give the official file of this adapter (`arbench ls adapters`)") -> Any:
    return CheckpointError(f"cannot use the checkpoint {path}", why, hint)


def _read(path: Path) -> Any:
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            head = file.read(512)
    except FileNotFoundError:
        raise _error(path, "there is no such file", "check the path") from None
    except IsADirectoryError:
        raise _error(path, "it is a folder", "name the weight file inside it") from None
    except PermissionError:
        raise _error(path, "no permission to read it", f"chmod u+r {path}") from None
    except OSError as error:
        raise _error(path, f"it cannot be read: {error.strerror}", "check the disk") from None
    if size == 0:
        raise _error(path, "the file is empty", "download it again")
    if head.startswith(b"version https://git-lfs"):
        raise _error(path, "it is a Git LFS pointer, not the weights", "git lfs pull")
    if head.lstrip()[:1] == b"<":
        raise _error(path, "it is a web page, not weights: the download went wrong", "download it again")
    if head[8:9] == b"{" and size >= 8:
        return _read_safetensors(path, size, head)
    if head.startswith((b"PK\x03\x04", b"\x80")):
        return _read_pickle(path, zipped=head.startswith(b"PK"))
    raise _error(path, "it is neither a safetensors file nor a torch checkpoint")


def _read_safetensors(path: Path, size: int, head: bytes) -> dict[str, Tensor]:
    try:
        return dict(load_file(path))
    except SafetensorError as error:
        (header,) = struct.unpack("<Q", head[:8])
        whole = 8 + header <= size and "incomplete" not in str(error).lower()
        why = f"its safetensors header is broken ({error})" if whole else "the file is truncated"
        raise _error(path, why, "download it again") from None
    except OSError as error:
        raise _error(path, f"it cannot be read: {error.strerror}", "check the disk") from None


def _read_pickle(path: Path, *, zipped: bool) -> Any:
    try:
        # training scripts keep their arguments beside the weights; a Namespace is data
        with torch.serialization.safe_globals([argparse.Namespace]), path.open("rb") as file:
            # torch takes any path that ends so for safetensors, whatever is in it; it maps paths only
            mapped = zipped and path.suffix != ".safetensors"
            return torch.load(str(path) if mapped else file, map_location="cpu", weights_only=True, mmap=mapped)
    except pickle.UnpicklingError:
        wanted = _code_wanted(path, zipped=zipped)
        if not wanted:
            raise _error(path, "its pickle is broken, or the file is truncated", "download it again") from None
        raise _error(
            path,
            f"it wants to execute code ({', '.join(wanted[:SHOWN])}) when loaded, and is refused",
            "use a safetensors file, or a file that holds nothing but tensors, from a source you trust",
        ) from None
    except PermissionError:
        raise _error(path, "no permission to read it", f"chmod u+r {path}") from None
    except (RuntimeError, EOFError, OSError, ValueError, KeyError, AttributeError, IndexError, TypeError):
        # torch reports a cut zip archive or pickle in any of these, with a page of its own internals
        raise _error(path, "the file is truncated or not a torch checkpoint", "download it again") from None


def _code_wanted(path: Path, *, zipped: bool) -> list[str]:
    """What a refused pickle would call, read from its opcodes without running them; data types left out."""
    found: list[str] = []
    try:
        if zipped:
            with zipfile.ZipFile(path) as archive:
                name = next(name for name in archive.namelist() if name.endswith("data.pkl"))
                found += _globals(io.BytesIO(archive.read(name)))
        else:
            with path.open("rb") as file:
                for _ in range(5):  # the old format is a chain of pickles: magic, version, system, content, keys
                    found += _globals(file)
    except (OSError, ValueError, IndexError, StopIteration, zipfile.BadZipFile):
        pass
    harmless = r"torch\.(_utils\._rebuild_\w+|\w+Storage|Size|device|b?float\d+|u?int\d+)|collections\.OrderedDict"
    return [name for name in dict.fromkeys(found) if not re.fullmatch(harmless + r"|argparse\.Namespace", name)]


def _globals(stream: IO[bytes]) -> list[str]:
    found: list[str] = []
    strings: list[str] = []
    try:
        for opcode, argument, _ in pickletools.genops(stream):
            if opcode.name == "GLOBAL":
                found.append(str(argument).replace(" ", "."))
            elif opcode.name == "STACK_GLOBAL" and len(strings) >= 2:
                found.append(".".join(strings[-2:]))
            elif isinstance(argument, str):
                strings.append(argument)
    except ValueError:  # cut in the middle: what was found so far still counts
        pass
    return found


# ---- loading ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Renamed:
    """An official state dict under our names, and all that did not fit, under the official names."""

    state: dict[str, Tensor]
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    misshapen: tuple[tuple[str, tuple[int, ...], tuple[int, ...]], ...]
    """(key, its shape in the file, the shape we need)."""


def replace_all(name: str, pairs: Iterable[tuple[str, str]]) -> str:
    """`name` with the first of every pair replaced by the second, one pair after the other."""
    for old, new in pairs:
        name = name.replace(old, new)
    return name


def replace_patterns(name: str, pairs: Iterable[tuple[str, str]]) -> str:
    """`name` with the regular expression of every pair replace_all, one pair after the other."""
    for pattern, new in pairs:
        name = re.sub(pattern, new, name)
    return name


def rename(
    official: Mapping[str, Tensor],
    shapes: Mapping[str, Sequence[int]],
    names: OfficialNames | None = None,
    ignored: Sequence[str] = (),
) -> Renamed:
    """official -> ours: the tensors for our parameters of the given `shapes`, renamed and joined as `names` says.

    `ignored` are regular expressions of official keys that may be there or not and are never loaded. Without `names`
    the keys are ours already.
    """
    state: dict[str, Tensor] = {}
    missing: list[str] = []
    misshapen: list[tuple[str, tuple[int, ...], tuple[int, ...]]] = []
    used: set[str] = set()
    for ours, shape in shapes.items():
        sources = names(ours) if names else (ours,)
        used.update(sources)
        absent = [key for key in sources if key not in official]
        missing += absent
        if absent:
            continue
        part = (shape[0] // len(sources), *shape[1:]) if shape else ()
        wrong = [(key, tuple(official[key].shape), part) for key in sources if tuple(official[key].shape) != part]
        misshapen += wrong
        if not wrong:
            tensors = [official[key] for key in sources]
            state[ours] = tensors[0] if len(tensors) == 1 else torch.cat(tensors)
    patterns = [re.compile(pattern) for pattern in ignored]
    unexpected = [key for key in official if key not in used and not any(p.fullmatch(key) for p in patterns)]
    return Renamed(state, tuple(missing), tuple(unexpected), tuple(misshapen))


def grouped(keys: Collection[str]) -> str:
    """All keys with numbers replaced by `*`, each pattern with its count; the first few, then how many more."""
    patterns = Counter(re.sub(r"(?<=\.)\d+(?=\.|$)", "*", key) for key in keys)
    shown = [f"{name} (x{n})" if n > 1 else name for name, n in list(patterns.items())[:SHOWN]]
    rest = sum(list(patterns.values())[SHOWN:])
    return ", ".join(shown) + (f", and {rest} more" if rest else "")


def load_strict(
    module: nn.Module,
    state: Mapping[str, Tensor],
    *,
    card_name: str,
    path: Path | None = None,
    names: OfficialNames | None = None,
    ignored: Sequence[str] = (),
) -> None:
    """Copy `state` into the parameters and persistent buffers of `module`, casting to their dtype and device.

    `state` is under the official names if `names` is given, and may then be under ours as well (files written here).
    Raises one CheckpointError that lists every missing and unexpected key and every wrong shape.
    """
    targets = module.state_dict(keep_vars=True)
    shapes = {name: tuple(tensor.shape) for name, tensor in targets.items()}
    renamed = rename(state, shapes, names, ignored)
    if names and (renamed.missing or renamed.unexpected):
        own = rename(state, shapes, None, ignored)
        if len(own.missing) + len(own.unexpected) < len(renamed.missing) + len(renamed.unexpected):
            renamed = own
    problems = []
    if renamed.missing:
        problems.append(f"{len(renamed.missing)} missing: {grouped(renamed.missing)}")
    if renamed.unexpected:
        problems.append(f"{len(renamed.unexpected)} unexpected: {grouped(renamed.unexpected)}")
    if renamed.misshapen:
        listed = [f"{key} is {theirs}, ours {ours}" for key, theirs, ours in renamed.misshapen[:SHOWN]]
        more = len(renamed.misshapen) - len(listed)
        problems.append(
            f"{len(renamed.misshapen)} of another shape: {', '.join(listed)}" + (f", and {more} more" if more else "")
        )
    if problems:
        looks = looks_like(state.keys(), [key for ours in shapes for key in (names(ours) if names else (ours,))])
        where = f" {path}" if path else ""
        raise CheckpointError(
            f"the checkpoint{where} does not fit {card_name}",
            looks + "\n        ".join(problems),
            f"give the official file of {card_name} (`arbench ls adapters --json` names it)",
        )
    with torch.no_grad():
        for name, target in targets.items():
            target.copy_(renamed.state[name])


class uninitialised(TorchFunctionMode):  # noqa: N801 (used like a function)
    """Within it modules are built without drawing their initial weights: faster, and no random state is touched.

    Weights hold whatever was in memory and must be loaded; computed buffers are right.
    """

    _DRAWS = frozenset(
        {
            Tensor.uniform_,
            Tensor.normal_,
            nn.init.uniform_,
            nn.init.normal_,
            nn.init.trunc_normal_,
            nn.init.kaiming_uniform_,
            nn.init.kaiming_normal_,
            nn.init.xavier_uniform_,
            nn.init.xavier_normal_,
        }
    )

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in self._DRAWS:
            return args[0] if args else kwargs["tensor"]
        return func(*args, **kwargs)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Within it the CPU's default generator starts from `seed`; its state is put back afterwards."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield


def device_of(spec: LoadSpec) -> torch.device:
    """The device asked for. Raises NoDevice if torch does not have it."""
    try:
        device = torch.device(spec.device)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError):
        raise NoDevice(
            f"no device {spec.device!r} here",
            "torch cannot allocate on it",
            "use --device cpu",
        ) from None
    return device


def with_state(
    build: Callable[[], Module],
    state: Mapping[str, Tensor],
    *,
    card_name: str,
    path: Path | None = None,
    names: OfficialNames | None = None,
    ignored: Sequence[str] = (),
) -> Module:
    """What `build` makes, in evaluation mode, with the weights `state`; see `load_strict`."""
    with uninitialised():
        module = build()
    load_strict(module, state, card_name=card_name, path=path, names=names, ignored=ignored)
    return module.eval()


def build_and_load(
    build: Callable[[], Module],
    card: Card,
    spec: LoadSpec,
    *,
    names: OfficialNames | None = None,
    ignored: Sequence[str] = (),
    seed: int = 0,
) -> Module:
    """The network of `card` as `spec` asks: weights loaded (or drawn from `seed`), dtype, device, inference only."""
    device, dtype = device_of(spec), getattr(torch, spec.dtype)
    if spec.init == "random":
        with seeded(seed):
            module = build()
    else:
        if spec.weights is None:
            raise MissingWeights(
                f"no weights given for {card.name}",
                "it was asked to load a checkpoint",
                "name one, or use init: random",
            )
        wrapper = card.checkpoint.wrapper if card.checkpoint else ()
        state = read_state_dict(spec.weights, wrapper)
        module = with_state(build, state, card_name=card.name, path=spec.weights, names=names, ignored=ignored)
    return module.to(device=device, dtype=dtype).eval().requires_grad_(False)


def compile_blocks(spec: LoadSpec, blocks: Iterable[nn.Module], *, dynamic: bool | None = None) -> None:
    """Compile each of `blocks` in place if `spec` asks for it; `dynamic` where lengths change from call to call."""
    if spec.compile:
        for block in blocks:
            block.compile(dynamic=dynamic)
