"""The registry: built-in cards, cards of installed packages, and its errors."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from arbench import registry, weights
from arbench.errors import InputError, MissingWeights, UnknownName


def test_cards_are_complete_and_consistent():
    cards = registry.cards()
    assert {"raster/llamagen-mini", "next_scale/var-mini"} <= set(cards)
    for name, card in cards.items():
        assert name == card.name
        assert card.implementation.count(":") == 1
        if card.kind == "generator":
            assert name.startswith(f"{card.family}/")
            assert card.tokenizer is None or card.tokenizer in cards
            assert card.condition != "class" or card.classes
        else:
            assert name.startswith("tokenizers/")
            assert card.tokens is not None
        for claim in card.published:
            assert claim.source


def test_every_implementation_exists_and_has_the_protocol():
    from arbench.protocols import Generator, Tokenizer

    for card in registry.cards().values():
        implementation = registry.resolve(card.implementation)
        wanted = Generator if card.kind == "generator" else Tokenizer
        missing = [name for name in vars(wanted) if not name.startswith("_") and not hasattr(implementation, name)]
        # attributes set per instance are checked where adapters are loaded
        assert set(missing) <= {"card", "spec", "tokenizer"}, f"{card.name}: {missing}"


def test_unknown_names_get_suggestions():
    with pytest.raises(UnknownName, match="did you mean raster/llamagen-mini"):
        registry.card("raster/lamagen-mini")
    with pytest.raises(UnknownName, match="did you mean"):
        registry.card("llamagen-mini")
    with pytest.raises(UnknownName):
        registry.matching(["no/*"])


def test_globs_keep_the_order_given_and_repeat_nothing():
    names = [card.name for card in registry.matching(["next_scale/*-mini", "*/*-mini"])]
    assert names[0] == "next_scale/var-mini"
    assert len(names) == len(set(names))


def test_missing_weights_say_which_file_from_where_and_where_to_put_it(tmp_path, monkeypatch):
    monkeypatch.setenv("ARBENCH_WEIGHTS", str(tmp_path))
    card = registry.card("next_scale/var-d16")
    with pytest.raises(MissingWeights) as caught:
        weights.locate(card)
    message = str(caught.value)
    assert "var_d16.pth" in message
    assert str(tmp_path / "var_d16.pth") in message
    assert card.weights_licence in message
    (tmp_path / "var_d16.pth").write_bytes(b"x")
    assert weights.locate(card) == tmp_path / "var_d16.pth"
    with pytest.raises(InputError, match="no weight file"):
        weights.locate(card, {card.name: str(tmp_path / "other.pth")})


def test_shipped_weights_are_there():
    for card in registry.cards().values():
        if card.checkpoint and card.checkpoint.packaged:
            path = weights.locate(card)
            assert path is not None
            assert path.is_file(), card.name


def package(folder: Path, body: str) -> None:
    """A minimal installed distribution that offers an entry point."""
    (folder / "elsewhere.py").write_text(body)
    info = folder / "elsewhere-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: elsewhere\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[arbench.adapters]\nelsewhere = elsewhere:CARDS\n")


def ls(folder: Path) -> subprocess.CompletedProcess[str]:
    code = "import sys; from arbench.cli.main import main; sys.exit(main(['ls', 'adapters']))"
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={"PYTHONPATH": str(folder), "COLUMNS": "200"}
    )


def test_two_adapters_of_one_name_are_refused_with_both_origins(tmp_path):
    package(
        tmp_path,
        "from arbench.registry import resolve\nCARDS = resolve('arbench.adapters.index:CARDS')[:1]\n",
    )
    result = ls(tmp_path)
    assert result.returncode == 2
    assert "one from arbench, one from elsewhere" in result.stderr
    assert "Traceback" not in result.stderr


def test_a_broken_package_is_named(tmp_path):
    package(tmp_path, "import not_there\n")
    result = ls(tmp_path)
    assert result.returncode == 2
    assert "package 'elsewhere' cannot be loaded" in result.stderr
    assert "not_there" in result.stderr
