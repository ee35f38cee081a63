"""Tasks as everything but their workers sees them: what a definition must hold, and tasks of installed packages."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pydantic import ValidationError

import arbench.tasks
from arbench import registry
from arbench.cli.main import main
from arbench.errors import ConfigError
from arbench.spec import suite_file
from arbench.spec.cell import Cell, make_cell
from arbench.spec.result import Metric
from arbench.spec.sampling import Sampling
from arbench.spec.suite import Settings, Suite
from arbench.spec.task import Data, Pick, Rates, TaskDefinition, tasks
from arbench.tasks.edit import Edit
from arbench.tasks.generate import Generate
from arbench.tasks.reconstruct import Reconstruct

CROP = "adm-center-crop-v1"
RATES = Rates(image=0.5, flops=8e9, pixels=3 * 32 * 32)

# ---- ours ------------------------------------------------------------------------------------------------------------

QUALITY = [
    "codes",
    "detail",
    "edit",
    "generate",
    "likelihood",
    "objects",
    "perturb",
    "predict",
    "prefix",
    "rate",
    "reconstruct",
    "stability",
    "text",
]
BUILT_IN = [*QUALITY, "energy", "memory", "speed"]
"""Those that measure alone last."""


def test_those_that_measure_alone_come_last() -> None:
    names = list(tasks())
    assert names == BUILT_IN
    assert [tasks()[name].exclusive for name in names] == [False] * len(QUALITY) + [True] * 3
    with pytest.raises(TypeError):
        tasks()["mine"] = tasks()["edit"]  # type: ignore[index]


@pytest.mark.parametrize("definition", tasks().values(), ids=tasks())
def test_a_definition_agrees_with_itself(definition: TaskDefinition) -> None:
    spec = definition.spec.model_validate({})
    fields = definition.spec.model_fields
    assert spec.task == definition.name
    with pytest.raises(ValidationError):
        definition.spec.model_validate({"task": "another"})
    assert definition.transport <= set(fields)
    assert definition.in_key <= set(fields)
    assert definition.counted == "" or definition.counted in fields
    assert definition.version >= 1
    assert definition.group
    names = [info.name for info in definition.metrics]
    assert len(set(names)) == len(names)
    assert not [name for name in names if re.search(r"\d", re.sub(r"-p\d\d|l1", "", name))]
    assert {pick.name for pick in definition.summary} <= set(names)
    assert any(info.column for info in definition.metrics)
    assert definition.info(names[0]) is definition.metrics[0]
    assert definition.info("no-such-number") is None
    assert not definition.counted or definition.data(spec) or getattr(spec, definition.counted) is not None
    work = registry.resolve(definition.work)()
    assert callable(work.measure)
    assert callable(work.finish)


@pytest.mark.parametrize("definition", tasks().values(), ids=tasks())
def test_more_work_is_cut_into_more_units_and_takes_longer(definition: TaskDefinition) -> None:
    count = definition.counted or "n"
    few, many = ({"batches": (1,)}, {"batches": (1, 4)}) if definition.exclusive else ({count: 64}, {count: 200})
    cuts = [definition.units(definition.spec.model_validate(values)) for values in (few, many)]
    assert [len(cut) for cut in cuts] == ([1, 2] if definition.exclusive else [1, 4])
    assert [unit.index for unit in cuts[1]] == list(range(len(cuts[1])))
    efforts = [definition.effort(definition.spec.model_validate(values), RATES) for values in (few, many)]
    assert efforts[1].seconds > efforts[0].seconds > 0
    assert efforts[1].batch >= 1
    assert efforts[1].disk_bytes >= efforts[0].disk_bytes


def test_the_data_of_a_task_is_prepared_as_its_fields_say() -> None:
    assert tasks()["generate"].data(Generate(reference="adm.npz")) == (Data("adm.npz", mixed=True),)
    task = Reconstruct(data="folder:x", crop=CROP, size=64)
    assert tasks()["reconstruct"].data(task) == (Data("folder:x", CROP, 64),)
    assert tasks()["speed"].data(tasks()["speed"].spec.model_validate({})) == ()


def test_the_weights_behind_numbers_are_named_with_them() -> None:
    needed = tasks()["generate"].weights(Generate(conventions=("offline", "adm", "torch-fidelity")))
    assert list(needed) == ["inception", "vgg16"]
    assert needed["inception"].startswith("adm fid, adm sfid, adm is, adm precision, adm recall, torch-fidelity fid")
    assert needed["vgg16"] == "torch-fidelity precision, torch-fidelity recall"
    assert tasks()["generate"].weights(Generate(conventions=("adm",), metrics=("is",))) == {"inception": "adm is"}
    assert tasks()["reconstruct"].weights(Reconstruct(conventions=("pairs",), metrics=("lpips-*",))) == {
        "alexnet": "pairs lpips-alex",
        "vgg16": "pairs lpips-vgg",
    }
    assert tasks()["generate"].weights(Generate(conventions=("offline",))) == {}


# ---- fields of tasks that compare ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"conventions": ["adn"]}, "unknown convention: 'adn'; did you mean adm"),
        ({"conventions": "ofline"}, "did you mean offline"),
        ({"metrics": ["fdi"]}, "unknown metric of the conventions asked for: 'fdi'; did you mean fid"),
        ({"conventions": ["offline"], "metrics": ["fid"]}, "unknown metric of the conventions asked for: 'fid'"),
        ({"conventions": ["pairs"]}, "these metrics compare pairs of images"),
        ({"conventions": ["pairs", "adm"], "metrics": ["psnr"]}, "these metrics compare pairs of images"),
        ({"crop": CROP}, f"the crop {CROP} needs a size"),
        ({"crop": "round", "size": 32}, "a crop is one of adm-center-crop-v1, .*, none"),
        ({"size": 0}, "(greater than or equal to|at least) 1"),
        ({"mode": "quick"}, "'parity' or 'fast'"),
        ({"error": "bootstrap"}, "'delta' or 'jackknife'"),
        ({"kid_subset_size": 1}, "(greater than or equal to|at least) 2"),
    ],
)
def test_wrong_fields_are_named(values: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Generate.model_validate(values)
    text = "suite: s\ntasks:\n  - generate:\n" + "".join(f"      {name}: {value}\n" for name, value in values.items())
    with pytest.raises(ConfigError, match=message) as caught:
        suite_file.parse(text, "s.yaml")
    assert caught.value.what.startswith("s.yaml:")


def test_a_mistake_in_a_suite_has_its_line() -> None:
    text = "suite: s\ntasks:\n  - speed\n  - generate:\n      n: 8\n      conventions: [offline, adn]\n"
    with pytest.raises(ConfigError) as caught:
        suite_file.parse(text, "s.yaml")
    assert caught.value.what.startswith("s.yaml:6: tasks.1.conventions: ")
    assert "did you mean adm" in caught.value.what


def test_one_convention_needs_no_brackets_and_pairs_are_for_reconstructions() -> None:
    assert Generate.model_validate({"conventions": "adm"}).conventions == ("adm",)
    assert {item.metric for item in Reconstruct(conventions=("pairs",)).question().definitions()} >= {"psnr", "ssim"}
    assert Reconstruct().question().paired
    assert not Generate().question().paired
    assert Generate(kind="adm", split="val").question().kind == "adm"


# ---- what is stored --------------------------------------------------------------------------------------------------


def cell(
    task: Generate | Edit, *, features: dict[str, str] | None = None, data: str = "00", **settings: object
) -> Cell:
    card = registry.card("raster/llamagen-mini")
    return make_cell(
        card,
        task,
        Settings.model_validate(settings),
        Sampling(),
        {card.name: "aa"},
        data={"mnist5k/heldout": data},
        machine="cpu",
        features_sha256=features,
    )


def test_a_cell_survives_being_stored_with_all_fields_of_its_task() -> None:
    for task in (Generate(n=7, conventions=("adm",), kind="adm"), Edit(mask=(0, 0, 1, 0.5), condition="next")):
        one = cell(task, features={"inception": "bb"})
        stored = one.model_dump_json()
        assert json.loads(stored)["task"]["task"] == task.task
        back = Cell.model_validate_json(stored)
        assert back == one
        assert type(back.task) is type(task)
    suite = Suite(suite="s", tasks=(Generate(n=7), Edit()))
    assert Suite.model_validate_json(suite.model_dump_json()) == suite


def test_a_stored_task_that_is_not_known() -> None:
    value = cell(Generate()).plain()
    value["task"]["task"] = "generat"
    with pytest.raises(ValidationError, match="unknown task 'generat'; known: codes, detail, edit, generate"):
        Cell.model_validate(value)


def test_what_changes_numbers_changes_the_identity_and_nothing_else_does() -> None:
    base = cell(Generate())
    others = [
        cell(Generate(conventions=("offline",))),
        cell(Generate(metrics=("fid",))),
        cell(Generate(mode="fast")),
        cell(Generate(error="jackknife")),
        cell(Generate(split="val")),
        cell(Generate(), features={"inception": "bb"}),
        cell(Generate(), features={"inception": "cc"}),
        cell(Generate(), data="01"),
    ]
    assert len({base.result_id, *(other.result_id for other in others)}) == len(others) + 1
    assert {other.settings_id for other in others} == {base.settings_id}
    for same in (cell(Generate(show=0, batch=1)), cell(Generate(), keep_images=None), cell(Generate(), keep_images=0)):
        assert (same.result_id, same.settings_id) == (base.result_id, base.settings_id)


def test_a_new_version_of_a_task_is_another_result(monkeypatch: pytest.MonkeyPatch) -> None:
    from dataclasses import replace

    before = cell(Generate())
    known = dict(tasks())
    changed = known | {"generate": replace(known["generate"], version=99)}
    monkeypatch.setattr("arbench.spec.cell.tasks", lambda: changed)
    after = cell(Generate())
    assert after.result_id != before.result_id
    assert after.settings_id == before.settings_id


# ---- numbers for the summary -----------------------------------------------------------------------------------------


def metric(value: float | None, **at: str | int) -> Metric:
    return Metric(name="latency", value=value, n=1, at=at, reason="" if value else "none")


def test_a_pick_is_by_place_and_prefers_a_value() -> None:
    found = [metric(None, batch=1, operation="encode"), metric(2, batch=1, operation="decode"), metric(3, batch=8)]
    assert Pick("latency").of(found) is found[1]
    assert Pick("latency", "last").of(found) is found[2]
    assert Pick("latency", at={"operation": "encode"}).of(found) is found[0]  # a null is better than nothing
    assert Pick("latency", at={"batch": 1, "operation": "decode"}).of(found) is found[1]
    assert Pick("latency", at={"operation": "sample"}).of(found) is None
    assert Pick("load").of(found) is None


# ---- those of installed packages -------------------------------------------------------------------------------------

MINE = """
from typing import Literal

from arbench.spec.task import Effort, MetricInfo, TaskDefinition, TaskSpec
from arbench.spec.unit import cut


class Mine(TaskSpec):
    task: Literal["NAME"] = "NAME"
    images: int = 100


TASK = TaskDefinition(
    name="NAME", spec=Mine, work="elsewhere_work:Work", version=1, kinds=frozenset({"generator"}), group="Mine",
    metrics=(MetricInfo("mine", "m", "higher", "what I measure"),), summary=(),
    units=lambda spec: cut(spec.images), effort=lambda spec, rates: Effort(1.0, 1), exclusive=True,
)
"""

Install = Callable[..., None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """`install(body, attribute)`: a distribution that offers `elsewhere_tasks:attribute` as a task."""

    def write(body: str, attribute: str = "TASK", point: str = "mine") -> None:
        (tmp_path / "elsewhere_tasks.py").write_text(body)
        info = tmp_path / "elsewhere-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: elsewhere\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[arbench.tasks]\n{point} = elsewhere_tasks:{attribute}\n")
        monkeypatch.syspath_prepend(tmp_path)
        tasks.cache_clear()

    yield write
    tasks.cache_clear()
    sys.modules.pop("elsewhere_tasks", None)


def test_a_task_of_a_package_is_one_like_any_other(install: Install, capsys: pytest.CaptureFixture[str]) -> None:
    install(MINE.replace("NAME", "mine"))
    assert list(tasks())[-1] == "mine"
    assert list(tasks())[:-1] == BUILT_IN
    text = "suite: s\ntasks:\n  - mine: {images: 7}\n  - generate\n"
    read = suite_file.parse(text, "s.yaml", ["mine.images=9"])
    assert read.suite.tasks[0].plain() == {"task": "mine", "images": 9}
    assert Suite.model_validate_json(read.suite.model_dump_json()) == read.suite
    with pytest.raises(ConfigError, match=r"s.yaml:3: unknown key 'image'") as caught:
        suite_file.parse(text.replace("images", "image"), "s.yaml")
    assert caught.value.why == "did you mean images?"
    with pytest.raises(ConfigError, match="unknown task 'mien'") as caught:
        suite_file.parse(text.replace("mine", "mien"), "s.yaml")
    assert caught.value.why == "did you mean mine?"
    assert main(["ls", "metrics", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert {"name": "mine", "of": "mine", "unit": "m", "direction": "higher", "what": "what I measure"} in rows
    assert "elsewhere_work" not in sys.modules


def test_without_the_package_its_suite_has_an_unknown_task() -> None:
    with pytest.raises(ConfigError, match="unknown task 'mine'"):
        suite_file.parse("suite: s\ntasks:\n  - mine: {images: 7}\n", "s.yaml")


@pytest.mark.parametrize(
    ("body", "attribute", "what", "why"),
    [
        (MINE.replace("NAME", "speed"), "TASK", "two tasks are named 'speed'", "one from arbench, one from elsewhere"),
        (
            "import not_there\n",
            "TASK",
            "elsewhere_tasks:TASK: ",
            "elsewhere_tasks:TASK: ModuleNotFoundError: No module named 'not_there'",
        ),
        ("", "TASK", "elsewhere_tasks:TASK: ", "AttributeError"),
        (
            MINE.replace("NAME", "mine"),
            "Mine",
            "a TaskDefinition is expected",
            "this is a ModelMetaclass",
        ),
    ],
)
def test_what_a_package_offers_wrongly_is_named(
    install: Install, capsys: pytest.CaptureFixture[str], body: str, attribute: str, what: str, why: str
) -> None:
    install(body, attribute)
    assert list(tasks()) == BUILT_IN
    note = capsys.readouterr().err
    assert note.startswith("note: package 'elsewhere' is broken and left out: ")
    assert what in note
    assert why in note
    assert main(["ls", "metrics"]) == 0
    assert capsys.readouterr().err == ""  # it is said once


def test_a_package_below_tasks_without_a_definition_is_no_task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "helpers").mkdir()
    (tmp_path / "helpers" / "__init__.py").write_text("")
    monkeypatch.setattr(arbench.tasks, "__path__", [*arbench.tasks.__path__, str(tmp_path)])
    tasks.cache_clear()
    assert "helpers" not in tasks()
    assert list(tasks()) == BUILT_IN
    tasks.cache_clear()
    sys.modules.pop("arbench.tasks.helpers", None)
