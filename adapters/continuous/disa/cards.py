"""Cards of DiSA: the models of others under its settings. Imports no torch."""

from __future__ import annotations

from typing import Any

from arbench.protocols import Card, Guidance, Sampling

from ...next_scale.flowar.cards import CARDS as FLOWAR
from ..mar.cards import CARDS as MAR
from ..xar.cards import CARDS as XAR

_BY_NAME = {card.name: card for card in (*MAR, *XAR, *FLOWAR)}
_SOURCE = "github.com/Qinyu-Allen-Zhao/DiSA at 283fa59be538e2c33043427c45f7b8db40a0dfc6"
LAST = "last_inner_steps"


def _on_mar(size: str, cfg: float) -> Card:
    """The README's command."""
    mar = _BY_NAME[f"continuous/mar-{size}"]
    settings: dict[str, Any] = {"num_iter": 64, "cfg": cfg, "cfg_schedule": "linear", "temperature": 1.0}
    settings |= {"diff_upper_steps": 50, "diff_lower_steps": 5, "diff_annealing_strategy": "linear"}
    return mar.derive(
        name=f"continuous/disa-mar-{size}",
        implementation="arbench.adapters.continuous.disa.mar_adapter:DiSAMAR",
        summary=f"{mar.summary.partition(',')[0]} with DiSA: from 50 diffusion steps down to 5",
        native=Sampling(guidance=Guidance(scale=cfg, schedule="linear"), steps=64, inner_steps=50, extra={LAST: 5}),
        limits={**mar.limits, "steps": (2, 256), f"extra.{LAST}": (2, 1000)},
        choices={
            **mar.choices,
            "extra.annealing": ("linear", "cosine", "two-stage", "constant"),
            "extra.sampler": ("ancestral", "ddim", "dpm-solver"),
        },
        extra={
            LAST: "diffusion steps of the last iteration; those of the first are inner_steps",
            "annealing": "how the steps go from the first to the last iteration",
            "sampler": "ancestral (DiSA's), ddim, or dpm-solver, which knows no guidance",
        },
        upstream_settings={**settings, "diff_sampler": "DiSA"},
        source=f"{_SOURCE} (folder MAR_DiSA)",
        published=(),
    )


def _on_flow(name: str, attribute: str, first: int, cfg: float) -> Card:
    """xAR or FlowAR, whose own classes anneal their flow's steps; the README's command."""
    base = _BY_NAME[name]
    native = base.native
    extra = {**native.extra, LAST: 15}
    return base.derive(
        name=f"continuous/disa-{name.partition('/')[2]}",
        family="continuous",
        implementation=f"arbench.adapters.continuous.disa.{attribute}",
        summary=f"{base.summary.partition(',')[0]} with DiSA: from {first} flow steps down to 15",
        native=Sampling(guidance=Guidance(scale=cfg, schedule="linear"), inner_steps=first, extra=extra),
        upstream_settings={"flow_upper_steps": first, "flow_lower_steps": 15, "cfg": cfg},
        source=f"{_SOURCE} (folders xAR_DiSA, FlowAR_DiSA)",
        published=(),
    )


CARDS: tuple[Card, ...] = (
    _on_mar("base", 2.9),
    _on_mar("large", 3.0),
    _on_mar("huge", 3.3),
    _on_flow("continuous/xar-b", "xar_adapter:DiSAXAR", 50, 2.7),
    _on_flow("continuous/xar-l", "xar_adapter:DiSAXAR", 50, 2.3),
    _on_flow("continuous/xar-h", "xar_adapter:DiSAXAR", 50, 2.2),
    _on_flow("next_scale/flowar-s", "flowar_adapter:DiSAFlowAR", 25, 4.2),
    _on_flow("next_scale/flowar-l", "flowar_adapter:DiSAFlowAR", 25, 2.4),
    _on_flow("next_scale/flowar-h", "flowar_adapter:DiSAFlowAR", 50, 2.4),
)
