"""Values of every knob of `Sampling` that are tried: those a card supports must count, the others be refused."""

from __future__ import annotations

from ..spec.card import Card
from ..spec.sampling import Guidance, Sampling

STRONG = 3.0
"""A guidance scale that shows."""
START = 2.0
"""Where a schedule that grows begins: of weight 1, a first step may leave out the pass without a condition."""

KNOBS: dict[str, tuple[object, ...]] = {
    "temperature": (0.25, 0.0),
    "top_k": (1,),
    "top_p": (0.05,),
    "steps": (2,),
    "inner_steps": (2,),
    "order": ("random", "raster", "halton"),
}
"""Knob -> values unlike `plain`'s, each of which would change a sample; tried until one does."""


def plain(card: Card) -> Sampling:
    """Guidance off, and few steps where they can be chosen, so that a check is quick."""
    few = {name: _few(card, name, 4) for name in ("steps", "inner_steps") if name in card.supports}
    return Sampling.model_validate(few)


def _few(card: Card, name: str, count: int) -> int:
    """`count`, or the nearest that the card takes."""
    least, most = card.limits.get(name, (count, count))
    return int(min(max(count, least), most))


def guided(card: Card) -> Sampling:
    """`plain` with strong guidance in every step, by the schedule of the card's own settings."""
    native = card.native.guidance
    schedule = native.schedule if native.on else "constant"
    start = 1.0 if schedule == "constant" else START
    guidance = Guidance(scale=STRONG, start=start, schedule=schedule, power=native.power)
    return plain(card).model_copy(update={"guidance": guidance})


def variants(card: Card, knob: str) -> list[Sampling]:
    """`plain` with `knob` set to each of its trial values."""
    if knob == "guidance":
        return [guided(card)]
    values = KNOBS[knob]
    if knob in card.limits and knob in card.supports:
        others = {_few(card, knob, 2), _few(card, knob, 3)} - {getattr(plain(card), knob)}
        values = tuple(others) or (_few(card, knob, 1),)
    return [plain(card).model_copy(update={knob: value}) for value in values]


def unknown_extra(card: Card) -> Sampling:
    """A setting that no family has."""
    return plain(card).model_copy(update={"extra": {"no_such_knob": 1}})


def guidances(card: Card, steps: int) -> dict[str, Sampling]:
    """`guided` in other ways: each must be refused, or give samples of its own, drawn in so many steps."""
    base = guided(card)
    ways: dict[str, dict[str, object]] = {
        "another scale": {"scale": 2 * STRONG, "start": 1.0 if base.guidance.schedule == "constant" else 2 * START},
        "until": {"until": 0.5},
        "constant": {"schedule": "constant", "start": 1.0},
        "linear": {"schedule": "linear", "start": START},
        "cosine_power": {"schedule": "cosine_power", "start": START, "power": 2.0},
    }
    ways.pop(base.guidance.schedule)
    if steps == 1:  # a share of one step is the step
        ways.pop("until")
    return {
        name: base.model_copy(update={"guidance": base.guidance.model_copy(update=way)}) for name, way in ways.items()
    }
