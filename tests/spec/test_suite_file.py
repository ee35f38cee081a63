"""Reading suites: values, changes, and errors that name file, line and a likely key."""

from __future__ import annotations

import re

import pytest

from arbench.errors import ConfigError, UnknownName
from arbench.spec import suite_file
from arbench.tasks.generate import Generate
from arbench.tasks.speed import Speed

GOOD = """suite: mine
adapters: [raster/llamagen-mini]
settings:
  seed: 3
tasks:
  - generate:
      n: 50
  - speed
sampling:
  "raster/*": {top_k: 10}
"""


def test_values_and_their_origins():
    read = suite_file.parse(GOOD, "mine.yaml")
    assert read.suite.settings.seed == 3
    assert read.suite.tasks == (Generate(n=50), Speed())
    assert read.suite.sampling == {"raster/*": {"top_k": 10}}
    assert read.origins["settings", "seed"] == "mine.yaml:4"
    assert read.origins["tasks", 0, "n"] == "mine.yaml:7"


def test_changes_win_and_say_so():
    read = suite_file.parse(GOOD, "mine.yaml", ["generate.n=7", "settings.seed=9", "speed.batches=[2,4]"])
    assert read.suite.tasks == (Generate(n=7), Speed(batches=(2, 4)))
    assert read.suite.settings.seed == 9
    assert read.origins["tasks", 0, "n"] == "--set generate.n=7"


@pytest.mark.parametrize(
    ("change", "places"),
    [
        ("settings={seed: 9}", [("settings",), ("settings", "seed")]),
        ("adapters=[a/b, c/d]", [("adapters", 0), ("adapters", 1)]),
        ('sampling={"raster/*": {guidance: {scale: 2}}}', [("sampling", "raster/*", "guidance", "scale")]),
        ('sampling."next_scale/*".top_k=2', [("sampling", "next_scale/*"), ("sampling", "next_scale/*", "top_k")]),
        ("generate.conventions=[adm, offline]", [("tasks", 0, "conventions"), ("tasks", 0, "conventions", 1)]),
        ("tasks=[speed, generate: {n: 3}]", [("tasks", 0), ("tasks", 1), ("tasks", 1, "n")]),
        ("weights={inception: a.pth}", [("weights", "inception")]),
    ],
)
def test_all_that_a_change_brings_comes_from_it(change, places):
    read = suite_file.parse(GOOD, "mine.yaml", [change])
    assert [read.origins[place] for place in places] == [f"--set {change}"] * len(places)


def test_a_change_that_replaces_a_mapping_takes_its_lines_away():
    read = suite_file.parse(GOOD, "mine.yaml", ["settings={dtype: bfloat16}"])
    assert ("settings", "seed") not in read.origins
    assert read.suite.settings.seed == 0


@pytest.mark.parametrize("change", ["tasks=[3]", "tasks=[sped]", "tasks=[generate: {n: -1}]", "tasks=3"])
def test_errors_in_a_change_of_all_tasks(change):
    with pytest.raises(ConfigError) as caught:
        suite_file.parse(GOOD, "mine.yaml", [change])
    assert caught.value.what.startswith(f"--set {change}: ")


@pytest.mark.parametrize(
    ("text", "where", "what", "why"),
    [
        (GOOD.replace("n: 50", "nn: 50"), "mine.yaml:7", "'nn'", "did you mean n?"),
        (GOOD.replace("seed: 3", "sede: 3"), "mine.yaml:4", "'sede'", "did you mean seed or seeds?"),
        (GOOD.replace("tasks:", "task:"), "mine.yaml:5", "'task'", "did you mean tasks?"),
        (GOOD.replace("- speed", "- sped"), "mine.yaml:8", "'sped'", "did you mean speed?"),
        (GOOD.replace("n: 50", "n: many"), "mine.yaml:7", "tasks.0.n", "many"),
        (GOOD.replace("n: 50", "n: -1"), "mine.yaml:7", "tasks.0.n", "-1"),
        (GOOD.replace("n: 50", f"n: {10**20}"), "mine.yaml:7", "at most 100,000,000 is expected", "1000000"),
        (
            GOOD.replace("- speed", f"- speed: {{processes: {10**9}}}"),
            "mine.yaml:8",
            "at most 1,000 is expected",
            "100",
        ),
        (GOOD.replace("- speed", "- speed: [1]"), "mine.yaml:8", "a task is written", "speed"),
        ("suite: [", "mine.yaml:1", "not valid YAML", "expected"),
        ("- a\n", "mine.yaml", "a suite is a mapping", "['a']"),
        ("", "mine.yaml", "a suite is a mapping", "null"),
    ],
)
def test_errors_name_the_line_and_the_likely_key(text, where, what, why):
    with pytest.raises(ConfigError) as caught:
        suite_file.parse(text, "mine.yaml")
    assert caught.value.what.startswith(where)
    assert what in caught.value.what
    assert why in caught.value.why
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("task", ["speed", "memory", "energy"])
@pytest.mark.parametrize(
    ("batches", "what"),
    [
        ("[0, 4]", "at least 1 is expected"),
        ("[-1]", "at least 1 is expected"),
        ("[]", "a list of at least one item is expected"),
        ("[4, 16, 4]", "4 stands there twice"),
        ("16", "a list is expected, as in [16]"),
    ],
)
def test_batch_sizes_are_counted_from_one_and_differ(task, batches, what):
    with pytest.raises(ConfigError) as caught:
        suite_file.parse(GOOD.replace("- speed", f"- {task}: {{batches: {batches}}}"), "mine.yaml")
    assert caught.value.what.startswith("mine.yaml:8: tasks.1.batches")
    assert what in caught.value.what


@pytest.mark.parametrize(("given", "least"), [("max_seconds: 1", 1), ("max_seconds: 30", 2), ("min_calls: 3", 2)])
def test_the_least_time_of_a_speed_cell_is_no_longer_than_the_most(given, least):
    found = suite_file.parse(GOOD.replace("- speed", f"- speed: {{{given}}}"), "mine.yaml").suite.tasks[1]
    assert found.min_seconds == least
    assert type(found).model_validate(found.plain()) == found


def test_a_limit_of_memory_without_a_search_is_an_error():
    with pytest.raises(ConfigError, match="limit: it holds for the search that `largest` asks for"):
        suite_file.parse(GOOD.replace("- speed", "- memory: {limit: 4}"), "mine.yaml")


@pytest.mark.parametrize(
    ("task", "key", "what"),
    [
        ("speed: {batches: [1], min_seconds: 9, max_seconds: 3}", "min_seconds", "9 is more than max_seconds, 3"),
        ("speed: {min_seconds: 90}", "min_seconds", "90 is more than max_seconds, 60"),
        ("memory: {batches: [1], limit: 4}", "limit", "it holds for the search that `largest` asks for"),
        ("generate: {n: 50, size: 32}", "size", "32 is that of a crop, and no crop is asked for"),
        ("generate: {prompts: p.txt, reference: null, split: val}", "split", "the reference is null"),
        ("generate: {prompts: p.txt, reference: null, kind: adm}", "kind", "the reference is null"),
        ("reconstruct: {batch: 8, crop: adm-center-crop-v1}", "crop", "the crop adm-center-crop-v1 needs a size"),
        ("detail: {n: 8, size: 32}", "size", "32 is that of a crop"),
        ("likelihood: {n: 8, size: 32}", "size", "32 is that of a crop"),
        ("rate: {n: 8, crop: adm-center-crop-v1}", "crop", "needs a size"),
        ("rate: {n: 8, crop: round, size: 8}", "crop", "a crop is one of"),
        ("rate: {n: 8, qualities: [5, 10, 5]}", "qualities", "5 stands there twice"),
        ("codes: {n: 8, noise: [0.5, 0.5]}", "noise", "0.5 stands there twice"),
        ("text: {show: 1, images: a, transcripts: b, size: 64}", "size", "that of cards that are drawn"),
        ("text: {show: 1, images: a}", "images", "images and transcripts are given together"),
        ("text: {show: 1, texts: null}", "texts", "it is a number where cards are drawn"),
        ("objects: {show: 1, images: a, boxes: b, size: 64}", "size", "that of the packaged photographs"),
        ("objects: {show: 1, boxes: b}", "boxes", "images and boxes are given together"),
    ],
)
def test_values_that_contradict_each_other_are_told_with_the_line_of_a_key(task, key, what):
    name, _, rest = task.partition(": {")
    keys = re.split(r", (?=\w+:)", rest.removesuffix("}"))
    text = "\n".join(["suite: s", "tasks:", f"  - {name}:", *(f"      {each}" for each in keys), ""])
    number = next(place for place, line in enumerate(text.splitlines(), 1) if line.strip().startswith(f"{key}:"))
    with pytest.raises(ConfigError) as caught:
        suite_file.parse(text, "mine.yaml")
    assert caught.value.what.startswith(f"mine.yaml:{number}: tasks.0")
    assert f"{key}: " in caught.value.what
    assert what in caught.value.what


@pytest.mark.parametrize(
    ("task", "what"),
    [
        ("speed: {batches: [x]}", "tasks.0.batches.0: a whole number is expected (and 1 more)\n  why:  found 'x'"),
        ("speed: {batches: {a: 1}}", "a list is expected, as in [one, two]\n  why:  found {'a': 1}"),
        ("speed: {batches: null}", "a list is expected, as in [one, two]\n  why:  found null"),
        ("speed: {min_seconds: x}", "min_seconds: a number is expected"),
        ("speed: {min_seconds: .inf}", "min_seconds: a finite number is expected"),
        ("speed: {min_seconds: -1}", "min_seconds: at least 0 is expected"),
        ("speed: {max_seconds: 0}", "max_seconds: a number above 0 is expected"),
        ("speed: {min_calls: 3.5}", "min_calls: a whole number is expected"),
        ("generate: {floor: maybe}", "floor: true or false is expected"),
        ("generate: {floor: [1]}", "floor: true or false is expected"),
        ("generate: {reference: 3}", 'reference: text is expected, as in "3"'),
        ("generate: {reference: 2026-01-01}", "reference: text is expected\n  why:  found 2026-01-01"),
        ("generate: {split: test}", "split: 'train' or 'val' is expected"),
        ("rate: {qualities: [1]}", "qualities: a list of at least 2 items is expected"),
        ("rate: {qualities: [100, 3]}", "qualities.0: at most 95 is expected"),
    ],
)
def test_what_is_wrong_with_a_value_is_told_in_words_of_a_suite(task, what):
    with pytest.raises(ConfigError) as caught:
        suite_file.parse(f"suite: s\ntasks:\n  - {task}\n", "mine.yaml")
    assert what in str(caught.value)


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("settings: 3", "settings: a mapping is expected, as in {key: value}"),
        ("settings: {compile: 3}", "settings.compile: true or false is expected"),
        ("settings: {seeds: 1000}", "settings.seeds: at most 100 is expected"),
        ("sampling: []", "sampling: a mapping is expected, as in {key: value}"),
        ("sampling: {3: {top_k: 1}}", 'sampling.3: text is expected, as in "3"'),
        ("weights: {a: [b]}", "weights.a: text is expected\n  why:  found ['b']"),
        ("3: 4", 'text is expected, as in "3"'),
    ],
)
def test_what_is_wrong_with_a_key_of_a_suite_is_told_likewise(line, what):
    with pytest.raises(ConfigError) as caught:
        suite_file.parse(f"suite: s\ntasks: [speed]\n{line}\n", "mine.yaml")
    assert what in str(caught.value)


def test_a_key_that_is_missing_is_told_with_the_command_that_lists_keys():
    with pytest.raises(ConfigError) as caught:
        suite_file.parse("tasks: [speed]\n", "mine.yaml")
    assert str(caught.value).splitlines() == [
        "mine.yaml:1: suite: it is needed, and missing",
        "  next: arbench show SUITE --resolved lists every key",
    ]


def test_a_rate_of_arrivals_stands_there_once():
    with pytest.raises(ConfigError, match="5 stands there twice"):
        suite_file.parse(GOOD.replace("- speed", "- speed: {arrivals: [5, 5]}"), "mine.yaml")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("generate.n", "KEY=VALUE"),
        ("memory.batches=[1]", "no task 'memory'"),
        ("genrate.n=1", "unknown key 'genrate'"),
        ("generate.n=[", "not valid YAML"),
        ("generate=1", "name a key"),
        ("generate.m=1", "unknown key 'm'"),
        ("suite.x=1", "no keys below"),
    ],
)
def test_bad_changes(change, message):
    with pytest.raises(ConfigError, match=message.replace("[", r"\[")):
        suite_file.parse(GOOD, "mine.yaml", [change])


def test_unknown_suite_has_a_suggestion(tmp_path):
    with pytest.raises(UnknownName, match="did you mean quickstart"):
        suite_file.read("quikstart")
    with pytest.raises(ConfigError, match="no suite file"):
        suite_file.read(str(tmp_path / "none.yaml"))


def test_a_local_folder_never_shadows_a_packaged_suite(tmp_path, monkeypatch):
    (tmp_path / "quickstart").write_text("suite: other\ntasks: []\n")
    monkeypatch.chdir(tmp_path)
    assert suite_file.read("quickstart").suite.suite == "quickstart"


@pytest.mark.parametrize("name", suite_file.names())
def test_packaged_suites_parse(name):
    assert suite_file.read(name).suite.suite == name


NEEDY = """suite: needy
adapters: [a]
needs:
  photos: 100 photographs, from their photographer
tasks:
  - generate: {reference: photos, n: 5}
  - reconstruct: {data: photos}
  - speed
"""


def test_a_field_alone_is_set_in_every_task_that_has_it_or_in_the_settings():
    found = suite_file.parse(NEEDY, "needy.yaml", ["n=7", "batches=[3]", "init=random", "reconstruct.n=2"])
    generate, reconstruct, speed = found.suite.tasks
    assert (generate.n, reconstruct.n, speed.batches) == (7, 2, (3,))
    assert found.suite.settings.init == "random"
    assert found.origins["tasks", 0, "n"] == "--set n=7"
    assert found.origins["settings", "init"] == "--set init=random"
    with pytest.raises(ConfigError, match=r"unknown key 'bathces'\n  why:  did you mean batches"):
        suite_file.parse(NEEDY, "needy.yaml", ["bathces=[3]"])


def test_a_source_stands_for_what_is_needed():
    found = suite_file.parse(NEEDY, "needy.yaml", ["sources.photos=/my/photos"])
    generate, reconstruct, _ = found.suite.tasks
    assert (generate.reference, reconstruct.data) == ("/my/photos", "/my/photos")
    assert found.origins["tasks", 1, "data"] == "--set sources.photos=/my/photos"
    assert suite_file.parse(NEEDY, "needy.yaml").suite.tasks[0].reference == "photos"
    with pytest.raises(ConfigError, match="the suite needs no 'fotos', but photos"):
        suite_file.parse(NEEDY, "needy.yaml", ["sources.fotos=/my/photos"])


SEVERAL = """suite: several
adapters: [toy/generator]
tasks:
  - generate: {reference: mnist5k/heldout}
"""


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        (
            SEVERAL + "replicates: {toy/generator: [a.pt]}\n",
            "5: replicates: toy/generator needs two weight files or more, each once",
        ),
        (SEVERAL + "sources: {photos: /my}\n", "5: sources: the suite needs no 'photos', but nothing"),
        (
            SEVERAL.replace("reference: mnist5k/heldout", "n: null"),
            "4: tasks.0: n: null is one sample for each prompt, and no prompts are given",
        ),
    ],
)
def test_a_rule_between_keys_names_the_line_of_one_and_not_all_that_was_found(changed, told):
    with pytest.raises(ConfigError) as raised:
        suite_file.parse(changed, "several.yaml")
    assert str(raised.value) == f"several.yaml:{told}"


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("settings: {seed: 1, seed: 2}", "'seed' stands here and in line 3"),
        ("suite: other", "'suite' stands here and in line 1"),
        ("sampling:\n  a/*: {top_k: 1}\n  'a/*': {top_k: 2}", "'a/\\*' stands here and in line 4"),
        ("settings: {seed: 064}", "'064' is a number in base 8"),
        ("settings: {seed: 1:30}", "'1:30' is a number in base 60"),
        ("settings: {seed: yes}", "a number is expected, and true is not one"),
        ("sampling:\n  a/*: {guidance: {scale: 1:30.5}}", "base 60"),
    ],
)
def test_what_yaml_would_read_as_something_else(line: str, why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        suite_file.parse(f"suite: mine\ntasks: [speed]\n{line}\n", "mine.yaml")


def test_numbers_of_set_are_read_alike() -> None:
    for change, why in {
        "generate.n=010": "base 8",
        "settings.seed=true": "true is not one",
        "speed.batches=[on, 2]": "true is not one",
        "settings={seed: 1, seed: 2}": "stands here",
    }.items():
        with pytest.raises(ConfigError, match=why):
            suite_file.parse(GOOD, "mine.yaml", [change])
    assert suite_file.parse(GOOD, "mine.yaml", ["settings.seed=0x10", "settings.compile=yes"]).suite.settings.seed == 16
