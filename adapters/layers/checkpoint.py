"""Checkpoints: find the part that fits, rename it and load it strictly, or draw random weights."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from arbench.checkpoints.parts import WHOLE, join
from arbench.errors import CheckpointError, MissingWeights, NoDevice
from arbench.protocols import Card, LoadSpec

from .kinds import looks_like
from .state_file import SHOWN, fitting_parts, read_state_dict, state_for

__all__ = [
    "OfficialNames",
    "build_and_load",
    "compile_blocks",
    "compile_passes",
    "device_of",
    "load_strict",
    "read_state_dict",
    "rename",
    "replace_all",
    "replace_patterns",
    "seeded",
    "uninitialised",
    "with_state",
]

OfficialNames = Callable[[str], tuple[str, ...]]
"""One of our parameter names -> the official key, or the keys whose tensors are joined along dimension 0."""

Module = TypeVar("Module", bound=nn.Module)

BACKEND = "inductor"
"""Of `torch.compile`."""

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
    part: str = "",
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
    if odd := _other_numbers(targets, renamed.state):
        problems.append(f"{len(odd)} of another kind of numbers: {', '.join(odd[:SHOWN])}")
    if problems:
        looks = looks_like(state.keys(), [key for ours in shapes for key in (names(ours) if names else (ours,))])
        where = f" {path}" if path else ""
        where += f", part {part}," if part else ""
        raise CheckpointError(
            f"the checkpoint{where} does not fit {card_name}",
            looks + "\n        ".join(problems),
            f"give the official file of {card_name} (`arbench ls adapters --json` names it)",
        )
    with torch.no_grad():
        for name, target in targets.items():
            target.copy_(renamed.state[name])


def _other_numbers(targets: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> list[str]:
    """Parameters that the file holds as other than real numbers (quantised ones are whole) or not all finite; each with
    what is wrong."""
    found = []
    for name, tensor in state.items():
        target = targets[name]
        if target.is_floating_point() and not tensor.is_floating_point():
            found.append(f"{name} is {str(tensor.dtype).removeprefix('torch.')}, ours real numbers")
        elif isinstance(target, nn.Parameter) and tensor.is_floating_point() and not _finite(tensor):
            found.append(f"{name} holds numbers that are not finite")
    return found


def _finite(tensor: Tensor) -> bool:
    if not tensor.numel():
        return True
    wide = tensor if tensor.dtype in (torch.float64, torch.float32, torch.float16, torch.bfloat16) else tensor.float()
    return bool(torch.isfinite(torch.stack(torch.aminmax(wide))).all())


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
        module = _from_file(build, card, spec, spec.weights, names, ignored)
    return module.to(device=device, dtype=dtype).eval().requires_grad_(False)


def _from_file(
    build: Callable[[], Module],
    card: Card,
    spec: LoadSpec,
    path: Path,
    names: OfficialNames | None,
    ignored: Sequence[str],
) -> Module:
    part = spec.part
    with uninitialised():
        module = build()
    _move_unfilled(module, torch.device(spec.device), getattr(torch, spec.dtype))
    ours = list(module.state_dict())
    wanted = [{key for name in ours for key in names(name)}, set(ours)] if names else [set(ours)]
    order = card.checkpoint.wrapper if card.checkpoint else ()
    state, loaded = state_for(path, part, wanted, order)
    try:
        load_strict(module, state, card_name=card.name, path=path, part=loaded, names=names, ignored=ignored)
    except CheckpointError as error:
        others = [fitting for fitting in fitting_parts(path, wanted) if fitting != (loaded or WHOLE)]
        if others:
            hint = f"another part has all the names: --weights {card.name}={join(path, others[0])}"
            raise CheckpointError(error.what, error.why, hint) from None
        raise
    return module.eval()


def _move_unfilled(module: nn.Module, device: torch.device, dtype: torch.dtype) -> None:
    """Parameters that hold nothing yet get places on the device, in their number format: nothing is copied for it."""
    for each in module.parameters():
        if each.device != device or (each.is_floating_point() and each.dtype != dtype):
            each.data = torch.empty_like(each, dtype=dtype if each.is_floating_point() else each.dtype, device=device)


def compile_passes(spec: LoadSpec, *passes: Callable[..., Any], dynamic: bool | None = None) -> None:
    """Compile whole passes in place if `spec` asks for it: modules, and methods of modules, with all that they call.

    What one block ends with and the next begins with becomes one kernel so. `dynamic` is as in `compile_blocks`.
    """
    if spec.compile:
        for each in passes:
            if isinstance(each, nn.Module):
                each.compile(backend=BACKEND, dynamic=dynamic)
            else:
                owner, name = each.__self__, each.__name__  # type: ignore[attr-defined]
                setattr(owner, name, torch.compile(each, backend=BACKEND, dynamic=dynamic))


def compile_blocks(spec: LoadSpec, blocks: Iterable[nn.Module], *, dynamic: bool | None = None) -> None:
    """Compile each of `blocks` in place if `spec` asks for it; `dynamic` where lengths change from call to call."""
    if spec.compile:
        for block in blocks:
            block.compile(backend=BACKEND, dynamic=dynamic)
