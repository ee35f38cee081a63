"""Does the gate find what it must, and keep quiet where nothing has changed? Nights are simulated.

python benchmarks/gate.py [--nights 1000] [--seed 0] [--write docs/gate-simulation.md]

On the CPU, seconds.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from arbench.compare import screen

Floats = NDArray[np.float64]
HISTORY, CALLS = 20, 30
SESSIONS = (0.004, 0.01, 0.02)
CHANGES = (0.0, 0.02, 0.03, 0.05, 0.10)
CORRELATIONS = (0.98, 0.95, 0.9)
TEXT = """# Simulation of the gate

Timings: {nights} nights for each row, each with {history} nights before it. A night's session lies off by a normal
factor (the noise of the row); its reading is the median of {calls} calls, 0.5 % apart with a tail to the right; 2 % of
nights, before or now, are bad ones of +6 %. "screened": the night is beyond the prediction interval and by more than
2 %, and is only suspect. "confirmed": so are both builds, run in turn in fresh processes ({rounds} rounds, up to
{more}); each process lies off by a third of the session's noise, or by all of it (pessimistic). False alarms are the
rows of +0 %.

| noise between sessions | change | screened | confirmed | left open | confirmed, pessimistic | left open |
|---|---|---|---|---|---|---|
{timings}

Quality: {nights} nights for each row. One unit is the spread between seeds. The night's samples are paired with the
baseline's by id; the correlation of the two numbers is what redrawn samples leave of it (a change of rounding redraws
few). "independent" are nights without common ids. A change counts from a third of a unit on, to either side.

| correlation of the numbers | change | alarm | ambiguous |
|---|---|---|---|
{quality}

Made by `python benchmarks/gate.py --nights {nights} --seed {seed}`.
"""


@dataclass(frozen=True)
class Machine:
    """Relative readings of calls in sessions and processes."""

    draw: np.random.Generator
    session: float

    def readings(self, shape: tuple[int, ...], off: Floats) -> Floats:
        """Medians of calls, (shape), of sessions that lie `off` in logarithms."""
        calls = self.draw.gamma(4, 0.0025, (*shape, CALLS))  # standard deviation 0.5 %, skewed
        return np.asarray(np.exp(off + np.median(calls, axis=-1)), np.float64)

    def nights(self, shape: tuple[int, ...]) -> Floats:
        bad = 0.06 * (self.draw.random(shape) < 0.02)
        return self.readings(shape, self.session * self.draw.normal(size=shape) + np.log1p(bad))

    def processes(self, shape: tuple[int, ...], spread: float) -> Floats:
        return self.readings(shape, spread * self.draw.normal(size=shape))


def timing(machine: Machine, change: float, nights: int) -> tuple[float, ...]:
    """Percent of nights that are screened; confirmed and left open; the same pessimistically."""
    band = screen.band(machine.nights((nights, HISTORY)))
    suspect = band.beyond(machine.nights((nights,)) * (1 + change), screen.EFFECT["speed"]) == 1
    found = [100 * float(suspect.mean())]
    for spread in (machine.session / 3, machine.session):
        good, new = (machine.processes((nights, screen.MORE), spread) for _ in range(2))
        decision = decided(good, new * (1 + change))
        found += [100 * float((suspect & (decision == word)).mean()) for word in ("slower", "open")]
    return tuple(found)


def decided(good: Floats, new: Floats) -> NDArray[np.str_]:
    """As `arbench.compare.in_turn` goes on: round by round while it is open."""
    effect = screen.EFFECT["speed"]
    decision = screen.confirmed(good[:, : screen.ROUNDS], new[:, : screen.ROUNDS]).decision(effect)
    for rounds in range(screen.ROUNDS + 1, screen.MORE + 1):
        later = screen.confirmed(good[:, :rounds], new[:, :rounds]).decision(effect)
        decision = np.where(decision == "open", later, decision)
    return decision


def quality(draw: np.random.Generator, correlation: float | None, change: float, nights: int) -> tuple[float, float]:
    """Percent of alarms, and of ambiguous verdicts."""
    error = (2 * (1 - (correlation or 0.0))) ** 0.5
    found = screen.beyond_seeds(change + error * draw.normal(size=nights), error, 1.0, paired=correlation is not None)
    return 100 * float(np.mean(np.abs(found) == 1)), 100 * float(np.mean(found == 2))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nights", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--write", type=Path)
    options = parser.parse_args()
    draw = np.random.default_rng(options.seed)
    timings = []
    for session in SESSIONS:
        for change in CHANGES:
            row = timing(Machine(draw, session), change, options.nights)
            timings.append(f"| {session:.1%} | {change:+.0%} | " + " | ".join(f"{each:.1f} %" for each in row) + " |")
    numbers = []
    for correlation in (*CORRELATIONS, None):
        for shift in (0.0, 1.0, 2.0, 3.0):
            alarm, open_ = quality(draw, correlation, shift, options.nights)
            name = "independent" if correlation is None else f"{correlation:g}"
            numbers.append(f"| {name} | {shift:+.0f} | {alarm:.1f} % | {open_:.1f} % |")
    text = TEXT.format(
        nights=options.nights, history=HISTORY, calls=CALLS, rounds=screen.ROUNDS, more=screen.MORE, seed=options.seed,
        timings="\n".join(timings), quality="\n".join(numbers),
    )  # fmt: skip
    print(text)
    if options.write:
        options.write.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
