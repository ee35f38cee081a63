"""The figure of a leaderboard: quality against cost, a point for each row."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

from . import number
from .boards import Board, BoardRow

LEAST = 2
"""Points from which on a board has a figure."""
WIDTH, HEIGHT, LEFT, BOTTOM = 760, 300, 56, 40


def scatter(board: Board) -> str:
    """An SVG of quality against cost on a logarithmic axis, a point for each row, "" with fewer than `LEAST` points.

    Scripts draw the front of the rows that are shown.
    """
    if board.quality is None or board.cost is None:
        return ""
    points = [(place, *_point(board, row, board.quality, board.cost)) for place, row in enumerate(board.rows)]
    known = [(place, x, y) for place, x, y in points if x is not None and y is not None and x > 0]
    if len(known) < LEAST:
        return ""
    logs, values = [math.log10(x) for _, x, _ in known], [y for _, _, y in known]
    (x0, x1), (y0, y1) = _range(logs), _range(values)

    def at(log: float, y: float) -> tuple[float, float]:
        across = LEFT + (WIDTH - LEFT - 12) * (log - x0) / (x1 - x0)
        return across, 10 + (HEIGHT - BOTTOM - 10) * (y1 - y) / (y1 - y0)

    cost, quality = board.columns[board.cost], board.columns[board.quality]
    parts = [f'<line class="axis" x1="{LEFT}" y1="{HEIGHT - BOTTOM}" x2="{WIDTH - 12}" y2="{HEIGHT - BOTTOM}"/>']
    for value in _ticks(y0, y1):
        _, down = at(x0, value)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - 12}" y1="{down:.1f}" y2="{down:.1f}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{down + 4:.1f}" text-anchor="end">{value:g}</text>')
    for log in _log_ticks(x0, x1):
        across, _ = at(log, y0)
        label = number.count(round(10**log)) if cost.words == "parameters" else f"{10**log:.3g}"
        parts.append(f'<text x="{across:.1f}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle">{label}</text>')
    parts.append('<path class="front" d=""/>')
    for (place, _, y), log in zip(known, logs, strict=True):
        across, down = at(log, y)
        row = board.rows[place]
        title = escape(f"{row.model}: {row.cells[board.quality].text} at {row.cells[board.cost].text}")
        place_of = f'cx="{across:.1f}" cy="{down:.1f}" r="5" class="{escape(row.family)}"'
        parts.append(f'<circle data-row="{place}" {place_of}><title>{title}</title></circle>')
    judged = f"{quality.words}{f', {quality.unit},' if quality.unit else ''}"
    words = f"{judged} {'below' if quality.direction == 'lower' else 'above'} is better"
    axis = f"{cost.words}{f', {cost.unit}' if cost.unit else ''} (log scale)"
    parts.append(f'<text x="{LEFT}" y="{HEIGHT - 4}">{escape(axis)}; {escape(words)}</text>')
    better = "up" if quality.direction == "higher" else "down"
    label = escape(f"{quality.words} against {cost.words}: the same numbers as the table below")
    head = f'<svg class="board" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" data-better="{better}" aria-label="{label}">'
    return f"{head}{''.join(parts)}</svg>"


def _point(board: Board, row: BoardRow, quality: int, cost: int) -> tuple[float | None, float | None]:
    """Cost and quality in the units of their columns, as the table has them."""
    x, y = (
        None if (value := row.cells[place].value) is None else value / board.columns[place].scale
        for place in (cost, quality)
    )
    return x, y


def _range(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    margin = 0.08 * (high - low) or 0.1 * abs(high) or 1.0
    return low - margin, high + margin


def _ticks(low: float, high: float) -> list[float]:
    step = 10 ** math.floor(math.log10((high - low) / 3))
    step *= 5 if (high - low) / step > 15 else 2 if (high - low) / step > 6 else 1
    first = math.ceil(low / step)
    return [round(step * place, 10) for place in range(first, math.floor(high / step) + 1)]


def _log_ticks(low: float, high: float) -> list[float]:
    found = [
        math.log10(factor) + power
        for power in range(math.floor(low), math.ceil(high) + 1)
        for factor in (1, 2, 5)
        if low <= math.log10(factor) + power <= high
    ]
    return found if len(found) <= 8 else [each for each in found if abs(each - round(each)) < 1e-9]
