"""docs/systems.md is what the cards, the recordings and the sources say."""

from __future__ import annotations

from pathlib import Path

from arbench import registry
from arbench.cli.systems_page import page

PAGE = Path(__file__).parents[2] / "docs" / "systems.md"


def test_the_page_is_what_the_systems_say() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert text == page(), "docs/systems.md is out of date: python -m arbench.cli.systems_page docs/systems.md"


def test_every_card_and_every_recording_has_its_place() -> None:
    text = PAGE.read_text(encoding="utf-8")
    for name in registry.cards():
        assert text.count(f"| `{name}` |") == 1, name
    rows = [line for line in text.splitlines() if line.startswith("| `")]
    told = {each.strip() for row in rows if row.count("|") == 8 for each in row.split("|")[5].split(",")}
    here = {path.parent.name for path in (PAGE.parents[1] / "tests" / "goldens").glob("*/golden.json")}
    assert here <= told, here - told
