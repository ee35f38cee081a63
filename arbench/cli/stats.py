"""`arbench stats`: reference statistics of a source, readable by other tools where their formats allow."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from arbench.errors import OK, InputError, UnknownName

if TYPE_CHECKING:
    from arbench.data.statistics.write import Layout
    from arbench.features.extract import Networks
    from arbench.score.request import ScoreRequest

RECIPES: dict[str, tuple[str, ...]] = {
    "adm": ("inception/tf1",),
    "pytorch-fid": ("inception/half-pixel",),
    "clean-fid": ("inception/clean",),
    "torch-fidelity": ("inception/tf1",),
}
"""What each foreign layout is bound to; our own takes any."""


def stats(
    request: ScoreRequest,
    output: Path,
    layout: str,
    recipes: Sequence[str],
    keep_features: bool,
    networks: Networks | None = None,
) -> int:
    """Extracts the features of `request.samples` and writes their statistics to `output`."""
    from rich.text import Text

    from arbench.cli.score import progress_bar
    from arbench.data.statistics.model import describe
    from arbench.data.statistics.read import read_statistics
    from arbench.data.statistics.write import LAYOUTS
    from arbench.score.reference_statistics import write
    from arbench.terminal import PlainConsole

    if layout not in LAYOUTS:
        raise UnknownName("layout of statistics", layout, LAYOUTS, f"--format {LAYOUTS[0]}")
    if output.is_dir():
        raise InputError(f"{output} is a folder", "statistics are one file", f"--output {output / 'statistics.npz'}")
    chosen: Layout = layout
    wanted = tuple(recipes) or RECIPES.get(layout) or default_recipes(request)
    with progress_bar(PlainConsole(stderr=True)) as progress:
        write(request, wanted, output, chosen, keep_features, progress, networks)
    console = PlainConsole()
    # a file that its reader refuses would be found out much later
    for name, value in describe(read_statistics(output, kind=chosen)):
        console.print(Text(f"{name:24} {value}"), soft_wrap=True)
    return OK


def default_recipes(request: ScoreRequest) -> tuple[str, ...]:
    """Of our own layout: the standard Inception features if their weights are here, and the offline ones."""
    standard = ("inception/tf1",) if request.weights.find("inception") is not None else ()
    return (*standard, "efficientnet-lite0")
