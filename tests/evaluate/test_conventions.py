"""Conventions: what they must hold, how they are chosen, and those of installed packages."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from arbench.cli.main import main
from arbench.errors import UnknownName, UsageError
from arbench.evaluate import conventions as known
from arbench.evaluate.conventions import conventions, definitions, needed_recipes, select
from arbench.evaluate.inputs import Inputs
from arbench.evaluate.known_reference import KnownReference
from arbench.evaluate.numbers import ESTIMATORS, numbers
from arbench.evaluate.question import Question, available_recipes
from arbench.features.recipes import RECIPES
from arbench.features.weight_files import Weights
from arbench.registry import resolve
from arbench.tasks.generate import Generate


@pytest.mark.parametrize("name", conventions())
def test_a_convention_agrees_with_itself(name: str) -> None:
    convention = conventions()[name]
    assert convention.name == name
    assert convention.what
    metrics = [item.metric for item in convention.definitions]
    assert len(set(metrics)) == len(metrics)
    for item in convention.definitions:
        assert item.convention == name
        assert item.kind in ESTIMATORS or callable(resolve(item.kind))
        assert item.what
        if item.output:
            recipe, _, output = item.output.partition(":")
            assert output in RECIPES[recipe].outputs
        else:
            assert item.variant is not None


def test_one_metric_means_one_thing_in_every_convention() -> None:
    """Its unit and direction do not depend on who computes it."""
    found: dict[str, set[tuple[str, str | None]]] = {}
    for convention in conventions().values():
        for item in convention.definitions:
            found.setdefault(item.metric, set()).add((item.unit, item.direction))
    assert {metric: ways for metric, ways in found.items() if len(ways) > 1} == {}


def test_numbers_are_chosen_by_globs_in_the_order_of_the_conventions() -> None:
    chosen = definitions(select(["adm", "offline", "adm"]), ["fid", "k*"])
    assert [(item.convention, item.metric) for item in chosen] == [("adm", "fid"), ("offline", "kid")]
    assert needed_recipes(chosen) == ["inception/tf1", "efficientnet-lite0"]
    with pytest.raises(UnknownName, match="unknown convention: 'amd'"):
        select(["amd"])
    with pytest.raises(UnknownName, match="did you mean sfid"):
        definitions(select(["adm"]), ["fid", "sfdi"])
    with pytest.raises(UsageError, match="compare pairs of images"):
        Question(("pairs",)).definitions()


def test_a_recipe_without_weights_says_how_to_get_them(tmp_path: Path) -> None:
    found, reasons = available_recipes(["inception/tf1", "efficientnet-lite0"], Weights({}, tmp_path))
    assert found == ["efficientnet-lite0"]
    assert reasons == {
        "inception/tf1": "no weights of inception: arbench weights fetch inception, or --weights inception=PATH"
    }


# ---- those of installed packages -------------------------------------------------------------------------------------

MINE = """
from arbench.evaluate.conventions import Convention, Definition
from arbench.metrics.estimate import Estimate

def shift(rows, reference, by):
    return Estimate(by * float(rows[:].mean() - reference[:].mean()), n=len(rows))

def mean(rows):
    return Estimate(float(rows[:].mean()), n=len(rows))

POOLED = "efficientnet-lite0:pooled"
CONVENTION = Convention("NAME", "how I do it", (
    Definition("shift", "NAME", "elsewhere_conventions:shift", POOLED, {"by": 2.0}, "m", "lower", "how far it is"),
    Definition("mean", "NAME", "elsewhere_conventions:mean", POOLED, direction=None, what="mean", alone=True),
    Definition("kid", "NAME", "kid", POOLED, {}, "", "lower", "theirs"),
))
BOTH = [CONVENTION, Convention("NAME-2", "and so", ())]
NUMBER = 3
"""

Install = Callable[..., None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """`install(body, attribute)`: a distribution that offers `elsewhere_conventions:attribute`."""

    def write(body: str, attribute: str = "CONVENTION") -> None:
        (tmp_path / "elsewhere_conventions.py").write_text(body)
        info = tmp_path / "elsewhere-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: elsewhere\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[{known.GROUP}]\nmine = elsewhere_conventions:{attribute}\n")
        monkeypatch.syspath_prepend(tmp_path)
        conventions.cache_clear()

    yield write
    conventions.cache_clear()
    sys.modules.pop("elsewhere_conventions", None)


class Held:
    """A set of features in memory."""

    labels = None

    def __init__(self, value: float) -> None:
        self.vectors = np.random.default_rng(0).normal(value, 1, (50, 8)).astype(np.float32)
        self.outputs: dict[str, object] = {}

    def rows(self, output: str) -> np.ndarray:
        return self.vectors


def test_a_convention_of_a_package_brings_metrics_of_its_own(
    install: Install, capsys: pytest.CaptureFixture[str]
) -> None:
    install(MINE.replace("NAME", "mine"))
    assert list(conventions())[-1] == "mine"
    assert Generate(conventions=("mine",), metrics=("shift",)).conventions == ("mine",)
    reference = KnownReference("memory", {"efficientnet-lite0": Held(1.0)})  # type: ignore[dict-item]
    inputs = Inputs({"efficientnet-lite0": Held(3.0)}, reference, {})  # type: ignore[dict-item]
    shift, mean, kid = numbers(conventions()["mine"].definitions, inputs)
    assert (shift.name, shift.convention, shift.unit, shift.direction) == ("shift", "mine", "m", "lower")
    assert shift.value == pytest.approx(4.0, abs=1e-5)
    assert shift.how == "how far it is; shift; efficientnet-lite0:pooled; by 2.0"
    assert shift.reference is not None
    assert shift.reference.name == "memory"
    assert mean.value == pytest.approx(3.0, abs=0.3)
    assert (mean.direction, mean.reference) == (None, None)
    assert kid.value is not None
    assert main(["ls", "conventions"]) == 0
    assert "how I do it" in " ".join(capsys.readouterr().out.split())


def test_a_package_may_offer_several(install: Install) -> None:
    install(MINE.replace("NAME", "mine"), "BOTH")
    assert list(conventions())[-2:] == ["mine", "mine-2"]


@pytest.mark.parametrize(
    ("body", "attribute", "what", "why"),
    [
        (MINE.replace("NAME", "adm"), "CONVENTION", "two conventions are named 'adm'", "from arbench, one from elsewh"),
        ("import not_there\n", "CONVENTION", "elsewhere_conventions:CONVENTION: ", "not_there"),
        ("", "CONVENTION", "elsewhere_conventions:CONVENTION: ", "AttributeError"),
        (MINE, "NUMBER", "a Convention is expected", "is or holds a int"),
        (MINE + "LIST = ['adm']\n", "LIST", "a Convention is expected", "is or holds a str"),
        (MINE, "shift", "a Convention is expected", "is or holds a function"),
    ],
)
def test_what_a_package_offers_wrongly_is_named(
    install: Install, capsys: pytest.CaptureFixture[str], body: str, attribute: str, what: str, why: str
) -> None:
    install(body, attribute)
    assert list(conventions()) == list(known.BUILT_IN)
    note = capsys.readouterr().err
    assert note.startswith("note: package 'elsewhere' is broken and left out: ")
    assert what in note
    assert why in note
    assert main(["ls", "conventions"]) == 0
    assert capsys.readouterr().err == ""  # it is said once
