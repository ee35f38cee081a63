"""Parity: replaying recordings of a system's official code ("goldens") through our adapter.

A golden is a folder with `golden.json` (configuration, how to draw the weights, what to call) and
`data.safetensors` (inputs and recorded outputs). Integer outputs must be equal; a tensor may differ by a relative
error ||ours - recorded|| / ||recorded|| of 1e-4.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from .errors import ArbenchError, ConfigError, InputError, UnknownName
from .registry import resolve, systems
from .spec.problem import said

if TYPE_CHECKING:
    from torch import Tensor

TOLERANCE = 1e-4

State = tuple[dict[str, Any], "dict[str, Tensor]"]
"""A system's configuration and its official state dict."""
Replay = Callable[[str, Mapping[str, Any], Mapping[str, "Tensor"]], Mapping[str, "Tensor"]]
"""(probe, upstream settings, inputs by role) -> outputs by role."""


class _Part(BaseModel):
    """Goldens come from outside and carry notes of their own, so unknown keys are let through."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)


class Probe(_Part):
    name: str
    settings: dict[str, Any] = Field(default_factory=dict)
    inputs: dict[str, str]
    outputs: dict[str, str] = Field(min_length=1)


class _Weights(_Part):
    seed: int
    drawn: dict[str, tuple[tuple[int, ...], float, float]] = Field(default_factory=dict)
    l2_normalized: tuple[str, ...] = ()


class _Manifest(_Part):
    format: Literal[1]
    name: str
    adapter: str
    component: Literal["tokenizer", "generator"]
    config: dict[str, Any]
    probes: tuple[Probe, ...] = Field(min_length=1)
    tokenizer: str | None = Field(default=None, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    weights: _Weights


@dataclass(frozen=True, slots=True)
class Golden:
    """One recording. `state` is the official state dict, `tensors` the recorded inputs and outputs."""

    name: str
    folder: Path
    adapter: str
    component: str
    config: dict[str, Any]
    probes: tuple[Probe, ...]
    state: dict[str, Tensor]
    tensors: dict[str, Tensor]
    tokenizer: str | None


@dataclass(frozen=True, slots=True)
class Verdict:
    """How one output of one probe compares.

    `error` is the relative error of a tensor, or the share of integers that differ; None where the two cannot be
    compared, and then `note` says why.
    """

    golden: str
    probe: str
    output: str
    error: float | None
    ok: bool
    note: str = ""


def load_golden(folder: Path) -> Golden:
    """Read a golden and rebuild its official state dict. Raises InputError for a folder that is not a whole golden."""
    manifest = _manifest(folder)
    stored = _tensors(folder / "data.safetensors")
    prefix = "weights/"
    state = {key: _drawn(manifest.weights, key) for key in manifest.weights.drawn}
    state.update({key.removeprefix(prefix): value for key, value in stored.items() if key.startswith(prefix)})
    tensors = {key: value for key, value in stored.items() if not key.startswith(prefix)}
    for probe in manifest.probes:
        for key in (*probe.inputs.values(), *probe.outputs.values()):
            if key not in tensors:
                raise InputError(
                    f"{folder / 'data.safetensors'} lacks the tensor {key!r}",
                    f"probe {probe.name!r} of {manifest.name} names it",
                    "copy the folder again",
                )
    return Golden(
        name=manifest.name,
        folder=folder,
        adapter=manifest.adapter,
        component=manifest.component,
        config=manifest.config,
        probes=manifest.probes,
        state=state,
        tensors=tensors,
        tokenizer=manifest.tokenizer,
    )


def _manifest(folder: Path) -> _Manifest:
    path = folder / "golden.json"
    if not path.is_file():
        why = "no golden.json in it" if folder.is_dir() else "it is a file" if folder.exists() else "no such folder"
        raise InputError(f"{folder} is not a golden", why, "name a folder that holds golden.json and data.safetensors")
    try:
        return _Manifest.model_validate_json(path.read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise InputError(
            f"cannot read {path}", f"{place}: {said(first)}" if place else said(first), "copy the folder again"
        ) from error


def _tensors(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if not path.is_file():
        raise InputError(
            f"no {path.name} in {path.parent}", "the recorded tensors are missing", "copy the folder again"
        )
    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise InputError(
            f"cannot read {path}", str(error), "the file is damaged or cut short: copy it again"
        ) from error


def _drawn(weights: _Weights, key: str) -> Tensor:
    """A tensor of the state dict: normal numbers from a generator seeded by the golden's seed and the key."""
    import numpy as np
    import torch

    shape, mean, std = weights.drawn[key]
    generator = np.random.RandomState(zlib.crc32(f"{weights.seed}:{key}".encode()))
    tensor = torch.from_numpy(np.asarray(mean + std * generator.standard_normal(shape)).astype(np.float32))
    return torch.nn.functional.normalize(tensor, dim=-1) if key in weights.l2_normalized else tensor


def replays() -> dict[tuple[str, str], str]:
    """(system, component) of a golden -> "module:function" that builds its replay, of all systems that have one."""
    known: dict[tuple[str, str], str] = {}
    for system in systems():
        for component, path in system.replays.items():
            if (system.name, component) in known:
                raise ConfigError(
                    f"two systems replay a {component} of {system.name!r}",
                    f"{known[system.name, component]} and {path}",
                    "rename one of the systems",
                )
            known[system.name, component] = path
    return known


def replayer_path(golden: Golden) -> str:
    """The "module:function" that replays goldens of this system. Raises UnknownName if there is no adapter for it."""
    known = replays()
    names = {system for system, _ in known}
    hint = "replay systems that have an adapter: arbench ls adapters"
    if golden.adapter not in names:
        raise UnknownName("system of a golden", golden.adapter, names, hint)
    if (golden.adapter, golden.component) not in known:
        raise InputError(f"no {golden.component} of {golden.adapter} can be replayed", "it has no adapter", hint)
    return known[golden.adapter, golden.component]


def replayer(golden: Golden) -> Replay:
    """The adapter's side of a golden, built with its weights (and its tokenizer's, from the sibling folder)."""
    tokenizer: State | None = None
    if golden.tokenizer is not None:
        beside = load_golden(golden.folder.absolute().parent / golden.tokenizer)
        tokenizer = (beside.config, beside.state)
    replay: Replay = resolve(replayer_path(golden))(golden.config, golden.state, tokenizer)
    return replay


def replay_golden(golden: Golden) -> Iterator[Verdict]:
    """Run every probe; one verdict for each recorded output. Raises ArbenchError for what cannot be replayed at all."""
    replay = replayer(golden)
    for index, probe in enumerate(golden.probes):
        inputs = {role: golden.tensors[key] for role, key in probe.inputs.items()}
        try:
            outputs = replay(probe.name, probe.settings, inputs)
        except ArbenchError:
            raise
        except (RuntimeError, ValueError, KeyError, IndexError, TypeError) as error:
            raise InputError(
                f"{golden.name}: probe {probe.name!r} cannot be replayed",
                f"{type(error).__name__}: {error}",
                "check the recording's shapes against its configuration, or run again with --debug",
            ) from error
        label = probe.name if _once(golden.probes, probe.name) else f"{probe.name}#{index}"
        for role, key in probe.outputs.items():
            yield compare(golden.name, label, role, outputs.get(role), golden.tensors[key])


def _once(probes: Sequence[Probe], name: str) -> bool:
    return sum(probe.name == name for probe in probes) == 1


def compare(golden: str, probe: str, role: str, ours: Tensor | None, recorded: Tensor) -> Verdict:
    """Integers must be equal, floats within `TOLERANCE` of the recorded norm."""
    if ours is None:
        return Verdict(golden, probe, role, None, False, "the adapter gives no such output")
    if ours.shape != recorded.shape:
        return Verdict(golden, probe, role, None, False, f"shape {tuple(ours.shape)}, not {tuple(recorded.shape)}")
    if not recorded.is_floating_point():
        share = (ours.cpu() != recorded).double().mean().item() if recorded.numel() else 0.0
        return Verdict(golden, probe, role, share, share == 0.0)
    norm = recorded.double().norm().item()
    error = (ours.cpu().double() - recorded.double()).norm().item() / (norm or 1.0)
    if not math.isfinite(error):
        return Verdict(golden, probe, role, None, False, "not finite")
    return Verdict(golden, probe, role, error, error <= TOLERANCE)
