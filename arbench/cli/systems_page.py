"""docs/systems.md, what is known of every system: `python -m arbench.cli.systems_page FILE`, in a checkout."""

from __future__ import annotations

import ast
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from .. import registry
from ..spec.card import Card, Claim
from ..spec.reference import table
from ..spec.system import System
from .systems_without_code import WITHOUT_CODE, Published

ROOT = Path(__file__).parents[2]
LAYERS = "layers"
HEAD = """# Systems

What runs here, and how it is known to be right; `python -m arbench.cli.systems_page docs/systems.md` writes it.
Recordings are of the official code on small random configurations, in `tests/goldens`; `arbench parity` replays them.
Lines are those of the system's own folder, blocks the modules of `adapters/layers` that it stands on.
"""
ELSEWHERE = """## Systems without public code

Nothing of these runs here; the figures are those of their abstracts. A folder of their images, where there is one, can
be given to `arbench score` and compared with what runs here.
"""
ELSEWHERE_HEAD = ("system", "family", "paper", "what it is", "published", "code")


def page() -> str:
    """All of the page."""
    systems = [system for system in registry.systems() if _folder(system) is not None]
    rows = [_row(system) for system in systems]
    head = ("system", "what it is", "sizes", "licence of code; weights", "recordings", "lines", "blocks")
    cards = [_card(card) for system in systems for card in system.cards]
    return (
        f"{HEAD}\n{len(systems)} systems, {len(cards)} cards.\n\n{table(head, rows)}\n\n## Cards\n\n"
        "Published figures have the settings of their source; `arbench ls adapters --json` says where files are."
        "\n\n"
        f"{table(('card', 'parameters', 'official file', 'published'), cards)}\n\n{ELSEWHERE}\n"
        f"{table(ELSEWHERE_HEAD, [_elsewhere(each) for each in WITHOUT_CODE])}\n"
    )


def _folder(system: System) -> Path | None:
    """The folder of a system that ships with arbench."""
    places = [*(card.implementation for card in system.cards), *system.replays.values()]
    parts = places[0].partition(":")[0].split(".") if places else []
    if parts[:2] != ["arbench", "adapters"]:
        return None
    return ROOT.joinpath(*parts[1:4])


def _row(system: System) -> tuple[str, ...]:
    folder = _folder(system)
    assert folder is not None
    cards = system.cards
    sizes = ", ".join(card.name.rpartition("/")[2] for card in cards)
    licences = f"{_all(card.code_licence for card in cards)}; {_all(card.weights_licence for card in cards)}"
    sources = sorted(folder.glob("*.py"))
    lines = sum(len(path.read_text(encoding="utf-8").splitlines()) for path in sources)
    return (
        f"`{folder.parent.name}/{folder.name}`",
        _told(folder / "__init__.py"),
        sizes,
        licences,
        ", ".join(_recordings(system)) or "none",
        str(lines),
        ", ".join(sorted({block for path in sources for block in _blocks(path)})) or "none",
    )


def _all(values: Iterator[str]) -> str:
    return ", ".join(dict.fromkeys(values))


def _told(path: Path) -> str:
    """The sentence with which a package begins."""
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return " ".join(text.partition("\n\n")[0].split())


def _blocks(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module is not None:
            parts = node.module.split(".")
            if LAYERS in parts:
                yield from [parts[-1]] if parts[-1] != LAYERS else [name.name for name in node.names]


def _recordings(system: System) -> list[str]:
    kinds, found = set(system.replays), []
    for path in sorted((ROOT / "tests" / "goldens").glob("*/golden.json")):
        golden = json.loads(path.read_text(encoding="utf-8"))
        if golden["adapter"] == system.name and golden["component"] in kinds:
            found.append(path.parent.name)
    return found


def _elsewhere(system: Published) -> tuple[str, ...]:
    return (*system[:4], system.figures or "no figures", system.code)


def _card(card: Card) -> tuple[str, ...]:
    parameters = "" if card.parameters is None else f"{card.parameters:,}"
    file = "" if card.checkpoint is None else "shipped" if card.checkpoint.packaged else f"`{card.checkpoint.file}`"
    return f"`{card.name}`", parameters, file, "; ".join(map(_claim, card.published))


def _claim(claim: Claim) -> str:
    settings = ", ".join(f"{name} {value}" for name, value in claim.settings.items())
    return f"{claim.metric} {claim.value:g}" + (f" ({settings})" if settings else "")


def main(arguments: Sequence[str]) -> int:
    for argument in arguments:
        Path(argument).write_text(page(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
