"""The registry: built-in cards, cards of installed packages, and its errors."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from arbench import registry, weights
from arbench.errors import ConfigError, InputError, MissingWeights, UnknownName
from arbench.protocols import StateDict, System


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


def test_the_path_of_a_system_is_the_name_of_its_cards():
    for card in registry.cards().values():
        family, system = card.implementation.split(".")[2:4]
        assert card.name.startswith(f"{family}/")
        assert card.family == family
        if family != "tokenizers":  # named after the system they were published with, or after what they are
            assert card.name.split("/")[1].startswith(f"{system}-")


def test_systems_are_listed_by_family_and_tokenizers_in_the_order_of_their_generators():
    systems = [system for system in registry.systems() if system.cards]
    folders = [tuple(system.cards[0].implementation.split(".")[2:4]) for system in systems]
    generators = [folder for folder in folders if folder[0] != "tokenizers"]
    families = ("raster", "next_scale", "random_order", "continuous", "hybrid", "other")
    assert generators == sorted(generators, key=lambda folder: (families.index(folder[0]), folder[1]))
    assert folders == generators + [folder for folder in folders if folder[0] == "tokenizers"]
    names = [system.name for system in systems]
    order = [names.index(name) for name in names[len(generators) :]]
    assert order == sorted(order)
    assert list(registry.cards()) == [card.name for system in registry.systems() for card in system.cards]


def test_everything_that_a_system_names_exists():
    for system in registry.systems():
        # parts of a system, to be replayed alone, have no files, and neither have codecs
        assert system.files or not any(card.parameters for card in system.cards)
        for file in system.files:
            file.check_patterns()
        for path in (*system.replays.values(), *system.training.values()):
            assert registry.resolve(path) is not None
        minis = {card.name for card in system.cards if card.checkpoint and card.checkpoint.packaged}
        assert set(system.training) == minis


def test_a_derived_card_is_validated():
    card = registry.card("raster/llamagen-mini")
    derived = card.derive(name="raster/other", classes=3)
    assert (derived.name, derived.classes, derived.config) == ("raster/other", 3, card.config)
    with pytest.raises(ValueError, match="clases"):
        card.derive(clases=3)
    with pytest.raises(ValueError, match="resolution"):
        card.derive(resolution="large")


def test_systems_refuse_what_cannot_be_right():
    card = registry.card("raster/llamagen-mini")
    with pytest.raises(ValueError, match="no card for the training of raster/other"):
        System(name="mine", cards=(card,), training={"raster/other": "mine.training:RECIPE"})
    with pytest.raises(ValueError, match="not a regular expression"):
        StateDict(what="a file", has=("(",)).check_patterns()
    with pytest.raises(ValueError, match="replays"):
        System(name="mine", cards=(card,), replays={"generator": "mine.adapter"})
    with pytest.raises(ValueError, match="has"):
        StateDict(what="anything", has=())


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
    assert names[:2] == ["next_scale/flowar-mini", "next_scale/var-mini"]
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


@pytest.mark.parametrize(
    ("implementation", "why"),
    [("nowhere.model:Mine", "nowhere"), ("json:Mine", None), ("antigravity:Mine", "outside of any package")],
)
def test_packaged_weights_lie_in_the_package_of_the_implementation(implementation, why):
    card = registry.card("raster/llamagen-mini").derive(implementation=implementation)
    if why is None:
        path = weights.find(card)
        assert path is not None
        assert path.parts[-3:] == ("json", "weights", "llamagen-mini.safetensors")
        return
    with pytest.raises(ConfigError, match=why):
        weights.find(card)


def package(folder: Path, body: str, offers: str = "CARDS") -> None:
    """A minimal installed distribution that offers an entry point."""
    (folder / "elsewhere.py").write_text(body)
    info = folder / "elsewhere-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: elsewhere\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[arbench.adapters]\nelsewhere = elsewhere:{offers}\n")


def ls(folder: Path) -> subprocess.CompletedProcess[str]:
    code = "import sys; from arbench.cli.main import main; sys.exit(main(['ls', 'adapters']))"
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={"PYTHONPATH": str(folder), "COLUMNS": "200"}
    )


def test_a_package_with_an_adapter_of_a_known_name_is_left_out_with_both_origins(tmp_path):
    package(
        tmp_path,
        "from arbench.registry import resolve\nCARDS = resolve('arbench.adapters.raster.llamagen:SYSTEM').cards[:1]\n",
    )
    result = ls(tmp_path)
    assert result.returncode == 0
    assert "one from arbench, one from elsewhere" in result.stderr
    assert "Traceback" not in result.stderr


def test_a_broken_package_is_named(tmp_path):
    package(tmp_path, "import not_there\n")
    result = ls(tmp_path)
    assert result.returncode == 0
    assert "package 'elsewhere' is broken and left out" in result.stderr
    assert "not_there" in result.stderr


SYSTEM = """
from arbench.protocols import StateDict, System
from arbench.registry import resolve

BASE = resolve("arbench.adapters.raster.llamagen:SYSTEM").cards[0]
SYSTEM = System(
    name="elsewhere",
    cards=(BASE.derive(name="raster/elsewhere-mini", implementation="elsewhere.adapter:Mine"),),
    files=(StateDict(what="an elsewhere generator", has=("elsewhere_table",)),),
    replays={"generator": "elsewhere.adapter:replay"},
    training={"raster/elsewhere-mini": "elsewhere.training:RECIPE"},
)
SYSTEMS = (SYSTEM, System(name="further", cards=(BASE.derive(name="raster/further"),)))
"""


@pytest.fixture(params=["SYSTEM", "SYSTEMS"])
def elsewhere(request, tmp_path, monkeypatch):
    """An installed package that offers a system, or several."""
    package(tmp_path, "", request.param)
    (tmp_path / "elsewhere.py").unlink()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "__init__.py").write_text(SYSTEM)
    (tmp_path / "elsewhere" / "adapter.py").write_text("raise ImportError('not before it is needed')")
    monkeypatch.syspath_prepend(tmp_path)
    registry._load.cache_clear()
    yield tmp_path / "elsewhere"
    registry._load.cache_clear()
    sys.modules.pop("elsewhere", None)


def test_a_system_of_an_installed_package_is_one_like_any_other(elsewhere, capsys):
    from arbench.adapters.layers.kinds import recognise
    from arbench.adapters.train.__main__ import main
    from arbench.parity import replays

    card = registry.card("raster/elsewhere-mini")
    assert registry.origins()[card.name] == "elsewhere"
    assert list(registry.cards())[-1] in {card.name, "raster/further"}  # after the built-in ones
    assert weights.find(card) == elsewhere / "weights" / "llamagen-mini.safetensors"
    assert replays()["elsewhere", "generator"] == "elsewhere.adapter:replay"
    assert recognise(["elsewhere_table"]) == "an elsewhere generator"
    assert main(["--list"]) == 0
    assert card.name in capsys.readouterr().out.splitlines()


def test_what_is_neither_card_nor_system_is_a_clear_error(tmp_path):
    package(tmp_path, "CARDS = ('raster/mine',)\n")
    result = ls(tmp_path)
    assert result.returncode == 0
    assert "package 'elsewhere' is broken and left out" in result.stderr
    assert "Traceback" not in result.stderr


def test_a_package_whose_patterns_are_none_is_left_out(tmp_path):
    package(tmp_path, SYSTEM.replace('has=("elsewhere_table",)', 'has=("ok", "(")'), "SYSTEMS")
    result = ls(tmp_path)
    assert result.returncode == 0
    assert "package 'elsewhere' is broken and left out" in result.stderr
    assert "'(' is not a regular expression" in result.stderr


@pytest.mark.parametrize(
    ("body", "why"), [("import not_there", "not_there"), ("", "SYSTEM"), ("SYSTEM = 3", "SYSTEM is a int")]
)
def test_a_broken_system_is_named(body, why, tmp_path, monkeypatch):
    import arbench.adapters.raster as family

    (tmp_path / "halfway").mkdir()
    (tmp_path / "halfway" / "__init__.py").write_text(body)
    monkeypatch.setattr(family, "__path__", [*family.__path__, str(tmp_path)])
    registry._load.cache_clear()
    with pytest.raises(ConfigError, match=r"the system arbench\.adapters\.raster\.halfway cannot be loaded") as caught:
        registry.systems()
    assert why in caught.value.why
    registry._load.cache_clear()
    sys.modules.pop("arbench.adapters.raster.halfway", None)
