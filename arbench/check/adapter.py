"""Which adapter is checked, with what weights, and whether this machine can: decided before anything is loaded."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from .. import registry, weights
from ..errors import ConfigError, MissingWeights, UsageError
from ..protocols import Card, Generator, LoadSpec, System, Tokenizer
from .verdict import Verdict, describe, verdicts

if TYPE_CHECKING:
    from torch import nn

    from .watch import Watch

MOST = 400_000_000
"""Parameters up to which an adapter is checked with its weights; a larger one only where memory allows, at random."""
BYTES = 6
"""Memory a parameter takes: 4 in float32, and half as much again for what is computed from it."""


@dataclass(frozen=True, slots=True)
class Plan:
    """An adapter to check, how it is loaded, and its tokenizer. Made by `plan`."""

    card: Card
    load: LoadSpec
    tokenizer: tuple[Card, LoadSpec] | None = None
    prompts: tuple[str, ...] = ()


def plan(
    card: Card,
    *,
    tokenizer: Card | None = None,
    random: bool = False,
    device: str = "cpu",
    given: Mapping[str, str] | None = None,
    prompts: Sequence[str] = (),
) -> Plan:
    """What checking `card` takes. `tokenizer` is the card to use in place of the one of that name.

    With `random` its own weights are drawn; its tokenizer's are too where there are none. Raises `MissingWeights`;
    `UsageError` for a size or a condition that cannot be checked like this.
    """
    if (card.parameters or 0) > MOST and not random:
        raise UsageError(
            f"{card.name} is too large to check: {(card.parameters or 0) / 1e6:.0f}M parameters",
            f"the contract is that of the class, and sizes up to {MOST / 1e6:.0f}M show it",
            "check a smaller size of the same family, or add --random",
        )
    path = None if random else _located(card, given)
    if card.condition == "text" and not prompts:
        raise UsageError(
            f"{card.name} needs prompts", "it makes images of captions", "--prompts FILE, a line for each prompt"
        )
    used: tuple[Card, LoadSpec] | None = None
    if card.tokenizer is not None:
        theirs = tokenizer or registry.card(card.tokenizer)
        found = weights.find(theirs, given) if random else _located(theirs, given)
        used = theirs, _load_spec(found, device, random=random and found is None)
    _check_memory(card, used[0] if used else None, device)
    return Plan(card, _load_spec(path, device, random=random), used, tuple(prompts))


def _load_spec(path: Path | None, device: str, *, random: bool) -> LoadSpec:
    return LoadSpec(weights=path, init="random" if random else "checkpoint", device=device)


def _located(card: Card, given: Mapping[str, str] | None) -> Path | None:
    try:
        return weights.locate(card, given)
    except MissingWeights as error:
        raise MissingWeights(error.what, error.why, f"{error.hint}; or add --random") from None


def _check_memory(card: Card, tokenizer: Card | None, device: str) -> None:
    size = card.parameters or 0
    needed, free = BYTES * (size + (tokenizer.parameters or 0 if tokenizer else 0)), _free_memory(device)
    if needed > free:
        raise UsageError(
            f"{card.name} does not fit: it takes about {needed / 1e9:.1f} GB, {free / 1e9:.1f} GB are free",
            f"it has {size / 1e6:.0f}M parameters",
            "check a smaller size of the same family",
        )


def _free_memory(device: str) -> float:
    if not device.startswith("cuda"):
        return float(psutil.virtual_memory().available)
    import torch

    return float(torch.cuda.mem_get_info(device)[0]) if torch.cuda.is_available() else math.inf  # loading says no


# ---- running ---------------------------------------------------------------------------------------------------------


def check(plan: Plan) -> Iterator[Verdict]:
    """A verdict for every part of the contract; loading comes first, and nothing else if it fails."""
    from .watch import Watch

    name, watch = plan.card.name, Watch()
    try:
        with watch("load"):
            model, tokenizer = _load(plan)
    except Exception as error:
        yield Verdict(name, "load", "FAIL", describe(error))
        return
    weighted = "with its weights" if plan.load.weights else "it needs no weights"
    yield Verdict(name, "load", "ok", "random weights" if plan.load.init == "random" else weighted)
    try:
        yield from _checks(plan, model, watch)
    finally:
        if tokenizer is not None:
            tokenizer.close()


def _load(plan: Plan) -> tuple[Generator | Tokenizer, Tokenizer | None]:
    implementation = registry.resolve(plan.card.implementation)
    if plan.card.kind == "tokenizer":
        model: Generator | Tokenizer = implementation.load(plan.card, plan.load)
        tokenizer = None
    else:
        if plan.tokenizer is not None:
            card, load = plan.tokenizer
            tokenizer = registry.resolve(card.implementation).load(card, load)
        else:
            tokenizer = None
        model = implementation.load(plan.card, plan.load, tokenizer)
    if plan.load.init == "random":
        _stir(model, tokenizer)
    return model, tokenizer


def _stir(model: object, tokenizer: object) -> None:
    """Draws the matrices that a new network leaves at zero: with them a condition or a knob would be without effect."""
    import torch

    from .returned import networks_of

    draw = torch.Generator().manual_seed(0)
    kept = {id(network) for network in networks_of(tokenizer)}
    for network in networks_of(model, outside=tokenizer):
        for parameter in () if id(network) in kept else _zeros(network):
            fan = math.prod(parameter.shape[1:]) if parameter.ndim == 4 else parameter.shape[-1]
            drawn = torch.randn(parameter.shape, generator=draw) / math.sqrt(fan)
            with torch.no_grad():
                parameter.copy_(drawn)


def _zeros(network: nn.Module) -> list[nn.Parameter]:
    return [p for p in network.parameters() if p.ndim > 1 and not bool(p.any())]


def _checks(plan: Plan, model: Any, watch: Watch) -> Iterator[Verdict]:
    from .generator import GeneratorChecks
    from .tokenizer import TokenizerChecks

    device = plan.load.device
    if plan.card.kind == "tokenizer":
        yield from verdicts(plan.card.name, TokenizerChecks(model, plan.card, device, watch).checks())
    else:
        checks = GeneratorChecks(model, plan.card, device, plan.prompts, watch)
        yield from verdicts(plan.card.name, checks.checks())


# ---- names -----------------------------------------------------------------------------------------------------------


def chosen(names: Sequence[str]) -> list[Card]:
    """Cards by name or glob, or at "module:attribute" (cards or systems) for adapters that are not installed yet."""
    found: list[Card] = []
    for name in names:
        if ":" not in name:
            found += registry.matching([name])
            continue
        value = registry.resolve(name)
        parts = value if isinstance(value, list | tuple) else (value,)
        cards = [card for part in parts for card in (part.cards if isinstance(part, System) else (part,))]
        if not cards or not all(isinstance(card, Card) for card in cards):
            hint = "name a Card, a System or a tuple of them"
            raise ConfigError(f"{name} is not a card", f"it is a {type(value).__name__}", hint)
        found += cards
    return list({card.name: card for card in found}.values())
