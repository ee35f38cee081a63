"""The training loop of the minis: seeded, explicit and resumable to the same weights."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from arbench.errors import InputError

from ..layers.checkpoint import OfficialNames

Batch = TypeVar("Batch")
Metrics = dict[str, float]


@dataclass(frozen=True, slots=True)
class TrainingRecipe:
    """How one mini is trained: for how long, on what, and what `prepare` sets up for a seed and device.

    `prepare(seed, device)` returns the task; called only when the mini is trained.
    """

    steps: int
    batch: int
    learning_rate: float
    data: str
    prepare: Callable[[int, torch.device], Task]
    ema: float = 0.99
    weight_decay: float = 0.0


@dataclass(frozen=True, slots=True)
class Task:
    """What `fit` trains and what is kept of it.

    module: all trained weights and training-only buffers. loss: of a batch, with numbers to show. batches: a pure
    function of the step. after_step(step, steps, generator) may edit the module. weights: the tensors to ship.
    measure: the quality of the module as it is then (the averaged weights), on held-out data.
    """

    module: nn.Module
    loss: Callable[[Any, torch.Generator], tuple[Tensor, Metrics]]
    batches: Callable[[int], Any]
    weights: Callable[[], Mapping[str, Tensor]]
    measure: Callable[[], Metrics]
    after_step: Callable[[int, int, torch.Generator], None] | None = None


def fit(
    module: nn.Module,
    loss_of_batch: Callable[[Batch, torch.Generator], tuple[Tensor, Metrics]],
    batches: Callable[[int], Batch],
    *,
    steps: int,
    learning_rate: float,
    seed: int,
    warmup: float = 0.05,
    final: float = 0.02,
    betas: tuple[float, float] = (0.9, 0.95),
    weight_decay: float = 0.0,
    clip: float = 1.0,
    ema: float = 0.99,
    after_step: Callable[[int, int, torch.Generator], None] | None = None,
    on_step: Callable[[int, Metrics], None] | None = None,
    state_path: Path | None = None,
    save_every: int = 50,
    settings: Mapping[str, Any] | None = None,
) -> Metrics:
    """Train `module` in place with AdamW and leave the moving average of its weights in it.

    `batches(step)` and the generator given to `loss_of_batch` and `after_step` depend on the seed and the step alone,
    so a run that resumes from `state_path` ends with the same weights as one that was never interrupted. The learning
    rate rises over the first `warmup` (a fraction of the steps), then falls as a cosine to `final` times its peak.
    Weight decay is for matrices and convolutions only. Returns the last smoothed metrics, "loss" among them.
    `settings` are kept in the state and must be the same when it is taken up; else InputError.
    """
    parameters = {name: p for name, p in module.named_parameters() if p.requires_grad}
    optimizer = torch.optim.AdamW(
        [
            {"params": [p for p in parameters.values() if p.ndim >= 2], "weight_decay": weight_decay},
            {"params": [p for p in parameters.values() if p.ndim < 2], "weight_decay": 0.0},
        ],
        lr=learning_rate,
        betas=betas,
    )
    average = {name: p.detach().clone() for name, p in parameters.items()}
    smooth: Metrics = {}
    identity = json.dumps(
        {"seed": seed, "steps": steps, "learning_rate": learning_rate, **(settings or {})}, sort_keys=True
    )
    start = 0
    if state_path is not None and state_path.is_file():
        saved = _read_state(state_path, identity)
        module.load_state_dict(saved["module"])
        optimizer.load_state_dict(saved["optimizer"])
        for name, tensor in saved["average"].items():
            average[name].copy_(tensor)
        smooth, start = saved["smooth"], saved["step"]
    module.train()
    for step in range(start, steps):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate * rate(step / steps, warmup, final)
        generator = step_generator(seed, step)
        loss, metrics = loss_of_batch(batches(step), generator)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(parameters.values(), clip)
        optimizer.step()
        if after_step is not None:
            after_step(step, steps, generator)
        decay = min(ema, (1 + step) / (10 + step))  # a short memory at first, when the weights are still bad
        with torch.no_grad():
            for name, parameter in parameters.items():
                average[name].lerp_(parameter, 1 - decay)
        metrics = {"loss": loss.item(), **metrics}
        smooth = {key: 0.98 * smooth.get(key, value) + 0.02 * value for key, value in metrics.items()}
        if on_step is not None:
            on_step(step + 1, smooth)
        if state_path is not None and (step + 1) % save_every == 0 and step + 1 < steps:
            state = {"module": module.state_dict(), "optimizer": optimizer.state_dict(), "average": average}
            _write_state(state_path, {**state, "smooth": smooth, "step": step + 1, "settings": identity})
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(average[name])
    module.eval()
    return smooth


def rate(progress: float, warmup: float, final: float) -> float:
    """The factor on the learning rate at `progress` in [0, 1]."""
    if progress < warmup:
        return (progress + 1e-3) / (warmup + 1e-3)
    ramp = (progress - warmup) / (1 - warmup)
    return final + (1 - final) * (1 + math.cos(math.pi * ramp)) / 2


def step_generator(seed: int, step: int) -> torch.Generator:
    """The randomness of one training step, on the CPU."""
    word = np.random.SeedSequence([seed, step]).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(word >> np.uint64(1)))


def _write_state(path: Path, state: Mapping[str, Any]) -> None:
    temporary = path.with_name(path.name + ".part")
    torch.save(state, temporary)
    temporary.replace(path)


def _read_state(path: Path, identity: str) -> dict[str, Any]:
    try:
        saved = torch.load(path, map_location="cpu", weights_only=True)
        theirs = saved["settings"]
    except Exception:  # torch fails on a foreign file in many ways
        raise InputError(f"cannot resume from {path}", "it is not a training state", f"delete {path}") from None
    if theirs != identity:
        raise InputError(
            f"cannot resume from {path}",
            f"it was written with {theirs}, not {identity}",
            f"use the same options, or delete {path}",
        )
    return dict(saved)


def official_state(network: nn.Module, names: OfficialNames) -> Mapping[str, Tensor]:
    """The state of `network` under the official keys."""
    state: dict[str, Tensor] = {}
    for name, tensor in network.state_dict().items():
        keys = names(name)
        state |= dict(zip(keys, tensor.chunk(len(keys)), strict=True))
    return state
