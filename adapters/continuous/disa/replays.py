"""Recordings of DiSA's forks of MAR, xAR and FlowAR, replayed with the networks of these."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from arbench.errors import InputError
from arbench.protocols import Guidance
from arbench.seeds import Greedy

from ...layers.checkpoint import with_state
from ...layers.config import from_upstream
from ...layers.diffusion_head import Step, reverse_steps, spaced
from ...next_scale.flowar.adapter import replay as replay_flowar
from ..mar import adapter as mar
from ..mar.network import TRAINING_ONLY, Config, Network, official_names
from ..xar.adapter import replay as replay_xar
from .processes import Sampler, annealed_steps, process

Call = Callable[[str, Mapping[str, Any], Mapping[str, Tensor]], dict[str, Tensor]]
SAMPLERS: dict[str, Sampler] = {"DiSA": "ancestral", "DDIM": "ddim", "DPM_Solver": "dpm-solver"}
SAMPLERS |= {"DPM_Solver++": "dpm-solver"}
ANNEALING = frozenset({"diff_sampler", "diff_annealing_strategy", "diff_upper_steps", "diff_lower_steps"})
UNUSED = (*TRAINING_ONLY, *ANNEALING)


def replay(
    config: Mapping[str, Any],
    state: dict[str, Tensor],
    tokenizer: tuple[Mapping[str, Any], dict[str, Tensor]] | None = None,
) -> Call:
    """A function that repeats a recorded probe (name, settings, inputs) with the network of a recording."""
    others: dict[str, Callable[..., Call]] = {"xAR": replay_xar, "FlowAR": replay_flowar}
    if config.get("class") in others:
        return others[config["class"]](config, state, tokenizer)
    ours = from_upstream(Config, config, UNUSED)
    network = with_state(lambda: Network(ours), state, card_name="DiSA's MAR", names=official_names)

    @torch.inference_mode()
    def call(probe: str, settings: Mapping[str, Any], inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        if probe != "generate":
            raise InputError(f"no probe {probe!r} for DiSA's MAR", "known: generate", "")
        settings = {**config, **settings}
        mar.check_silent({k: v for k, v in settings.items() if k not in config}, mar.SETTINGS | ANNEALING)
        sampling = mar.upstream_sampling({k: v for k, v in settings.items() if k != "num_sampling_steps"})
        processes = upstream_processes(settings, mar.iterations(sampling))
        if settings.get("diff_sampler", "default").startswith("DPM"):
            sampling = sampling.model_copy(update={"guidance": Guidance()})
        labels = inputs["class_ids"]
        latents, _, _ = mar.generate(
            network, labels, sampling, Greedy(len(labels)), processes=processes, order=inputs["order"]
        )
        return {"latents": latents, "steps": torch.tensor([len(each) for each in processes])}

    return call


def upstream_processes(settings: Mapping[str, Any], iterations: int) -> list[tuple[Step, ...]]:
    """The process of each iteration, from upstream's arguments; its `default` sampler anneals nothing."""
    first, last = settings.get("diff_upper_steps", 50), settings.get("diff_lower_steps", 5)
    if settings.get("diff_sampler", "default") == "default":
        return [reverse_steps(spaced(first))] * iterations
    sampler = SAMPLERS[settings["diff_sampler"]]
    counts = annealed_steps(iterations, first, last, settings.get("diff_annealing_strategy", "linear"))
    return [process(sampler, count) for count in counts]
