"""Which adapter is checked, with what weights, and whether this machine can: decided before anything is loaded."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from .. import registry, weight_parts, weights
from ..errors import ConfigError, MissingWeights, UsageError
from ..protocols import Card, Generator, LoadSpec, System, Tokenizer
from . import names
from .verdict import Check, NotApplicable, Verdict, describe, verdicts

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
        used = theirs, _load_spec(theirs, found, given, device, random=random and found is None)
    _check_memory(card, used[0] if used else None, device)
    return Plan(card, _load_spec(card, path, given, device, random=random), used, tuple(prompts))


def _load_spec(
    card: Card, path: Path | None, given: Mapping[str, str] | None, device: str, *, random: bool
) -> LoadSpec:
    part = "" if path is None else weight_parts.part_of(card, path, given).name
    # the work of a call is counted by the modules that it runs through, and a replayed one runs through none
    return LoadSpec(weights=path, init="random" if random else "checkpoint", device=device, graph="off", part=part)


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


Tell = Callable[[int, int, str], None]
"""Is told which check begins: its number from 1, how many there are, its name."""


def check(plan: Plan, only: Sequence[str] = (), tell: Tell = lambda number, count, name: None) -> Iterator[Verdict]:
    """A verdict for every part of the contract, or for those of `only` and what they need.

    Loading comes first, and nothing else if it fails.
    """
    from .watch import Watch

    name, watch = plan.card.name, Watch()
    wanted = names.chosen(plan.card.kind, only)
    tell(1, len(wanted), "load")
    try:
        with watch("load", card=plan.card):
            model, tokenizer = _load(plan)
    except (Exception, SystemExit) as error:
        yield Verdict(name, "load", "FAIL", describe(error))
        return
    part = f", {plan.load.part}" if plan.load.part else ""
    weighted = f"with its weights{part}" if plan.load.weights else "it needs no weights"
    yield Verdict(name, "load", "ok", "random weights" if plan.load.init == "random" else weighted)
    before: dict[str, str] = {}
    if watch.drew and "same weights" in wanted:
        tell(2, len(wanted), "same weights")
        before, model, tokenizer = _loaded_again(plan, model, tokenizer)
    try:
        for number, (title, each) in enumerate(_checks(plan, model, tokenizer, watch, before, wanted), 2):
            tell(number, len(wanted), title)
            yield from verdicts(name, [(title, each)])
    finally:
        if tokenizer is not None:
            tokenizer.close()


def _loaded_again(plan: Plan, model: Any, tokenizer: Any) -> tuple[dict[str, str], Any, Any]:
    """What the model held, and it and its tokenizer again, under another state of the global generators."""
    from .loaded import fingerprint, other_random_state

    before = fingerprint(model, tokenizer)
    for each in (model, tokenizer):
        if each is not None:
            each.close()
    with other_random_state():
        return before, *_load(plan)


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


def _checks(
    plan: Plan, model: Any, tokenizer: Any, watch: Watch, before: dict[str, str], wanted: Sequence[str]
) -> list[Check]:
    from . import loaded
    from .generator import GeneratorChecks
    from .tokenizer import TokenizerChecks

    def same_weights() -> str:
        if not before:
            raise NotApplicable("loading draws from no global generator")
        return loaded.check_same(before, loaded.fingerprint(model, tokenizer))

    device, card = plan.load.device, plan.card
    own = (
        TokenizerChecks(model, card, device, watch).checks()
        if card.kind == "tokenizer"
        else GeneratorChecks(model, card, device, plan.prompts, watch).checks()
    )
    every: list[Check] = [
        ("same weights", same_weights),
        ("parameters", lambda: loaded.parameters(model, tokenizer, card.parameters)),
        *own,
    ]
    return [each for each in every if each[0] in wanted]


# ---- names -----------------------------------------------------------------------------------------------------------


def chosen(asked: Sequence[str]) -> list[Card]:
    """Cards by name or glob, or at "module:attribute" (cards or systems) for adapters that are not installed yet."""
    found: list[Card] = []
    for name in asked:
        if ":" not in name or registry.bridged(name) is not None:
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
