"""The main tables: what may share a column or a row, and what may be called best."""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path
from typing import Any

import pytest
from synthetic_run import HELDOUT, NO_INCEPTION, PROVENANCE, make_result, metric, speed_parts

from arbench.report.columns import columns_of, labels
from arbench.report.everything import metric_rows
from arbench.report.export import to_csv, to_markdown
from arbench.report.folders import Entry, Planned
from arbench.report.plots import scatter
from arbench.report.rows import described, names
from arbench.report.tables import Table, make_table, marks
from arbench.spec.result import Metric, ReferenceSet, Result, SetSummary
from arbench.spec.sampling import Guidance, Sampling


def table_of(*results: Result, planned: tuple[Planned, ...] = (), kind: Any = "generator") -> Table:
    table = make_table([Entry(result, Path(), "run") for result in results], planned, kind)
    assert table is not None
    return table


def generate(adapter: str, *metrics: Metric, **rest: Any) -> Result:
    return make_result(adapter, "generator", "raster", "generate", metrics=metrics, **rest)


def test_what_a_column_shares_stands_in_its_heading() -> None:
    results = [
        generate(f"raster/{name}", metric("m", 1.0, n=512, flags=("small_n", *own)), metric("k", 2.0, n=n))
        for name, own, n in (("a", (), 10), ("b", ("odd",), 10), ("c", (), 20))
    ]
    table = make_table([Entry(result, Path(), "run") for result in results], (), "generator")
    assert table is not None
    shared = dict(
        zip([column.name for column in table.columns], zip(table.counts, table.flags, strict=True), strict=True)
    )
    assert shared == {"m": ("n 512", ("small_n",)), "k": ("", ())}
    place = [column.name for column in table.columns].index("m")
    assert {row.adapter: row.places[place].flags for row in table.rows} == {
        "raster/a": (), "raster/b": ("odd",), "raster/c": (),
    }  # fmt: skip


def test_best_needs_an_interval_that_overlaps_no_other() -> None:
    clear = [metric("m", 1.0, 0.1), metric("m", 2.0, 0.1), metric("m", 3.0, 1.5)]
    assert marks(clear, "lower") == ["best", "", ""]
    assert marks(clear, "higher") == ["", "tie", "tie"]


def test_a_wide_interval_further_down_makes_a_tie_too() -> None:
    assert marks([metric("m", 1.0, 0.1), metric("m", 2.0, 0.1), metric("m", 3.0, 2.5)], "lower") == ["tie", "", "tie"]


@pytest.mark.parametrize(
    ("metrics", "direction"),
    [
        ([metric("m", 1.0, 0.1)], "lower"),  # nothing to beat
        ([metric("m", 1.0, 0.1), None], "lower"),
        ([metric("m", 1.0, 0.1), metric("m", 9.0)], "lower"),  # a spread unknown
        ([metric("m", 1.0, 0.1), metric("m", 9.0, 0.1)], None),  # neither way is better
    ],
)
def test_no_mark_without_grounds(metrics: list[Metric | None], direction: Any) -> None:
    assert set(marks(metrics, direction)) == {""}


def test_conventions_never_share_a_column() -> None:
    table = table_of(
        generate("raster/a", metric("fid", 5.0, 0.1, convention="adm")),
        generate("raster/b", metric("fid", 3.0, 0.1, convention="clean-fid")),
    )
    assert [column.words for column in table.columns] == ["fid (adm)", "fid (clean-fid)"]
    assert [(heading.text, heading.columns) for heading in table.headings] == [
        ("Quality · adm", 1),
        ("Quality · clean-fid", 1),
    ]
    assert all(place.mark == "" for row in table.rows for place in row.places)
    for row in table.rows:
        assert sorted(place.metric is None for place in row.places) == [False, True]


def test_another_reference_is_another_column() -> None:
    train, other = ReferenceSet(name="train", digest="1" * 32), ReferenceSet(name="train", digest="2" * 32)
    table = table_of(
        generate("raster/a", metric("fid", 5.0, 0.1, reference=HELDOUT)),
        generate("raster/b", metric("fid", 3.0, 0.1, reference=train)),
        generate("raster/c", metric("fid", 3.0, 0.1, reference=other)),  # changed on disk
    )
    assert [column.note for column in table.columns] == [
        "reference mnist5k/heldout",
        "reference train 11111111",
        "reference train 22222222",
    ]


def test_the_name_of_a_reference_is_not_what_it_is() -> None:
    link = HELDOUT.model_copy(update={"name": "/data/link"})
    table = table_of(
        generate("raster/a", metric("fid", 5.0, 0.1, reference=HELDOUT)),
        generate("raster/b", metric("fid", 3.0, 0.1, reference=link)),
    )
    assert len(table.columns) == 1


@pytest.mark.parametrize(
    ("changed", "notes"),
    [
        ({"samples": SetSummary(source="x", n=50)}, ["images 1000", "images 50"]),
        ({"parameters": {"n": 50}, "samples": None}, ["images 1000", "images 50"]),
        ({"load": {"seed": 3}}, ["seed 0", "seed 3"]),
        ({"parameters": {"n": 1000, "mode": "fast"}}, ["mode parity", "mode fast"]),
    ],
)
def test_another_n_seed_or_mode_is_another_column(changed: dict[str, Any], notes: list[str]) -> None:
    table = table_of(
        generate("raster/a", metric("fid", 5.0, 0.1)), generate("raster/b", metric("fid", 3.0, 0.1), **changed)
    )
    assert [column.note for column in table.columns] == notes


def test_where_a_number_was_measured_is_another_column() -> None:
    timed = {"unit": "s", "measure": "speed"}
    metrics = (metric("latency", 0.1, at={"batch": b, "operation": "sample"}, **timed) for b in (16, 2))
    table = table_of(make_result("raster/a", "generator", "raster", "speed", metrics=tuple(metrics)))
    assert [column.words for column in table.columns] == ["latency (batch 2, sample)", "latency (batch 16, sample)"]


def test_metrics_of_codes_need_the_same_images() -> None:
    """They have no reference of their own: the digest of what was given decides."""

    def tokenizer(name: str, digest: str) -> Result:
        data = PROVENANCE.model_copy(update={"data": {"mnist5k/heldout": digest}})
        return make_result(
            name, "tokenizer", "tokenizers", "reconstruct", metrics=(metric("codebook-used", 0.5),), provenance=data
        )

    alike = table_of(tokenizer("tokenizers/a", "1" * 32), tokenizer("tokenizers/b", "1" * 32), kind="tokenizer")
    other = table_of(tokenizer("tokenizers/a", "1" * 32), tokenizer("tokenizers/b", "2" * 32), kind="tokenizer")
    assert (len(alike.columns), len(other.columns)) == (1, 2)
    assert other.columns[1].note == "digest of mnist5k/heldout 222222222222"


def test_transport_parameters_do_not_split_a_column() -> None:
    parameters = {"reference": "mnist5k/heldout", "n": 1000}
    table = table_of(
        generate("raster/a", metric("fid", 5.0, 0.1), parameters={**parameters, "batch": 8}),
        generate("raster/b", metric("fid", 3.0, 0.1), parameters={**parameters, "batch": 64}),
        generate("raster/c", metric("fid", 2.0, 0.1), parameters={**parameters, "conventions": ["adm", "offline"]}),
    )
    assert len(table.columns) == 1


def test_batch_sizes_that_were_measured_too_do_not_split_a_column() -> None:
    def speed(name: str, *batches: int) -> Result:
        metrics = tuple(metric("latency", 0.1, 0.01, unit="s", measure="speed", at={"batch": b}) for b in batches)
        return make_result(name, "generator", "raster", "speed", metrics=metrics, parameters={"batches": [*batches]})

    assert len(table_of(speed("raster/a", 1), speed("raster/b", 1, 16)).columns) == 2


def test_a_row_holds_one_settings_id() -> None:
    table = table_of(
        generate("raster/a", metric("fid", 5.0, 0.1), settings_id="set-one", result_id="res-1"),
        generate("raster/a", metric("fid", 4.0, 0.1), settings_id="set-two", result_id="res-2"),
        make_result(
            "raster/a", "generator", "raster", "speed", settings_id="set-two",
            metrics=(metric("latency", 0.1, 0.01, unit="s", measure="speed"),),
        ),
    )  # fmt: skip
    assert [row.settings_id for row in table.rows] == ["set-two", "set-one"]
    both, alone = table.rows
    assert both.complete
    assert alone.places[1].metric is None
    assert alone.places[1].title == "no speed cell with these settings"


def test_speed_of_another_machine_is_another_column_and_row() -> None:
    def speed(device: str, seconds: float) -> Result:
        return make_result(
            "raster/a", "generator", "raster", "speed", result_id=f"res-{device}",
            metrics=(metric("latency", seconds, 0.001, unit="s", measure="speed"),),
            provenance=PROVENANCE.model_copy(update={"device": device}),
        )  # fmt: skip

    table = table_of(speed("cuda:0: big", 0.01), speed("cpu: small", 0.2))
    assert len(table.columns) == len(table.rows) == 2
    assert {column.note for column in table.columns} == {"device cuda:0: big", "device cpu: small"}


def test_the_newest_good_result_of_an_identity_stands() -> None:
    old = generate("raster/a", metric("fid", 5.0, 0.1), started="2000-01-01T00:00:00+00:00")
    new = generate("raster/a", metric("fid", 4.0, 0.1), started="2000-01-02T00:00:00+00:00")
    broken = generate("raster/a", outcome="error", reason="x", started="2000-01-03T00:00:00+00:00")
    table = table_of(new, broken, old)
    assert table.rows[0].places[0].text == "4.00"
    assert table.older == 2


def test_missing_values_say_why() -> None:
    table = table_of(
        generate("raster/a", metric("fid", 5.0, 0.1), metric("kid", 1.0, 0.1)),
        generate("raster/b", metric("fid", 6.0, 0.1), metric("kid", None, reason="too few samples")),
        generate("raster/c", outcome="oom", reason="needs 9 GB"),
        make_result(
            "raster/d", "generator", "raster", "memory", metrics=(metric("peak-memory", 9.0, measure="memory"),)
        ),
        planned=(Planned("raster/d", "generate", "res-x"),),
    )
    places = {row.adapter: row.places[1] for row in table.rows}
    assert places["raster/b"].title == "too few samples"
    assert (places["raster/c"].title, places["raster/c"].outcome) == ("oom: needs 9 GB", "oom")
    assert (places["raster/d"].title, places["raster/d"].outcome) == ("generate has not run yet", "to do")
    assert all(places[name].metric is None for name in ("raster/b", "raster/c", "raster/d"))


def test_best_first_and_rows_without_the_number_last() -> None:
    table = table_of(
        generate("raster/a", metric("fid", 12.0, 0.1)),
        generate("raster/b", outcome="error", reason="x"),
        generate("raster/c", metric("fid", 9.0, 0.1)),
    )
    assert [row.adapter for row in table.rows] == ["raster/c", "raster/a", "raster/b"]


def test_csv_has_plain_values_in_base_units() -> None:
    latency = metric("latency", 0.0125, 0.0005, unit="s", n=20, measure="speed", at={"batch": 1})
    result = make_result("raster/a", "generator", "raster", "speed", metrics=(latency,))
    rows = list(csv.DictReader(io.StringIO(to_csv(table_of(result)))))
    assert rows == [
        {
            "adapter": "raster/a",
            "settings_id": result.settings_id,
            "device": PROVENANCE.device,
            "latency (batch 1) [s] ↓": "0.0125",
            "latency (batch 1) [s] ↓ low": repr(0.0125 - 0.0005),
            "latency (batch 1) [s] ↓ high": repr(0.0125 + 0.0005),
            "latency (batch 1) [s] ↓ n": "20",
        }
    ]


def test_markdown_is_a_table_with_the_best_in_bold() -> None:
    table = table_of(
        generate("raster/a|b", metric("fid", 12.0, 0.1)),
        generate("raster/c", metric("fid", 9.0, 0.1)),
        generate("raster/d", outcome="oom", reason="x"),
    )
    assert to_markdown(table).splitlines() == [
        "| adapter | fid (arbench) ↓ |",
        "| --- | ---: |",
        "| raster/c | **9.00** [8.90 – 9.10] |",
        "| raster/a\\|b | 12.00 [11.90 – 12.10] |",
        "| raster/d | – oom |",
    ]


# ---- what is shown ----


def test_definitions_say_what_is_shown_and_in_what_order() -> None:
    ours, standard = {"convention": "offline"}, {"convention": "adm"}
    table = table_of(
        generate(
            "raster/a",
            *(metric(name, 1.0, 0.1, **ours) for name in ("vendi", "recall", "frechet")),
            metric("mine", 1.0, 0.1, convention="elsewhere"),
            metric("class-agreement", 0.9, 0.1),
            *(metric(name, 1.0, 0.1, **standard) for name in ("is", "fid")),
        )
    )
    assert [(column.words, column.shown) for column in table.columns] == [
        ("fid (adm)", True),
        ("is (adm)", True),
        ("frechet (offline)", True),
        ("recall (offline)", True),
        ("vendi (offline)", False),
        ("class-agreement (arbench)", True),
        ("mine (elsewhere)", True),  # no definition lists it
    ]
    assert table.hidden == 1
    assert [(heading.columns, heading.shown) for heading in table.headings] == [(2, 2), (3, 2), (1, 1), (1, 1)]
    assert "vendi" in to_csv(table)
    assert "vendi" not in to_markdown(table)


def test_a_part_of_a_number_is_not_shown_from_the_start() -> None:
    result = make_result(
        "tokenizers/a", "tokenizer", "tokenizers", "reconstruct",
        metrics=tuple(metric("codebook-used", 0.5, at=at) for at in ({}, {"level": 0}, {"level": 1})),
    )  # fmt: skip
    table = table_of(result, kind="tokenizer")
    assert [(column.metric.place, column.shown) for column in table.columns] == [
        ("", True), ("level 0", False), ("level 1", False),
    ]  # fmt: skip


def test_a_task_that_is_not_installed_is_a_group_with_all_its_columns() -> None:
    result = make_result(
        "raster/a", "generator", "raster", "farm", parameters={"cows": 3}, metrics=(metric("milk", 1.0, 0.1),)
    )
    table = table_of(result, generate("raster/a", metric("fid", 1.0, 0.1)))
    assert [(column.group, column.name, column.shown) for column in table.columns] == [
        ("Quality", "fid", True),
        ("farm", "milk", True),
    ]
    other = result.model_copy(update={"parameters": {"cows": 4}, "adapter": "raster/b", "result_id": "res-b"})
    assert [column.note for column in table_of(result, other).columns] == ["cows 3", "cows 4"]


def test_what_was_not_measured_is_listed_with_its_reason() -> None:
    null = {"convention": "adm", "reason": NO_INCEPTION}
    table = table_of(
        generate("raster/a", metric("frechet", 5.0, 0.1), metric("fid", None, **null), metric("sfid", None, **null)),
        generate("raster/b", metric("frechet", 6.0, 0.1), metric("fid", None, **null)),
    )
    assert [(column.name, column.empty) for column in table.columns] == [
        ("frechet", False),
        ("fid", True),
        ("sfid", True),
    ]
    assert [place.title for place in table.rows[0].places[1:]] == [NO_INCEPTION, NO_INCEPTION]
    assert all(row.complete for row in table.rows)
    assert [row.adapter for row in table.rows] == ["raster/a", "raster/b"]
    (unmeasured,) = table.unmeasured
    assert unmeasured.columns == ("fid (adm)", "sfid (adm)")
    assert unmeasured.reason == NO_INCEPTION


# ---- rows that differ in what no words tell ----


def weighted(digest: str, value: float, **rest: Any) -> list[Result]:
    provenance = PROVENANCE.model_copy(update={"weights": {"raster/a": digest, "tokenizers/t": "00" * 32}})
    own = {"settings_id": f"set-{digest[:2]}", "provenance": provenance, **rest}
    parts, record, _ = speed_parts("sample", value / 100, 1, 4)
    more, again, _ = speed_parts("sample", value / 20, 16, 4)
    return [
        generate("raster/a", metric("frechet", value, 0.1), result_id=f"res-{digest[:2]}-{value}", **own),
        make_result(
            "raster/a", "generator", "raster", "speed", metrics=tuple(parts + more), speed=(record, again),
            result_id=f"res-{digest[:2]}-speed", **own,
        ),
    ]  # fmt: skip


def test_two_weight_files_have_labels_of_their_own() -> None:
    results = [*weighted("ab" * 32, 5.0), *weighted("cd" * 32, 6.0)]
    table = table_of(*results)
    words = "float32 · guidance 2 · top-k 100 · weights "
    assert [row.settings for row in table.rows] == [words + "abababab", words + "cdcdcdcd"]
    assert set(names(results).values()) == {"a (weights abababab)", "a (weights cdcdcdcd)"}


def test_settings_that_are_plainer_are_named_by_what_they_lack() -> None:
    plain, guided = Sampling(top_k=100), Sampling(guidance=Guidance(scale=2.0), top_k=100)
    hot = guided.model_copy(update={"temperature": 1.5, "guidance": Guidance(scale=3.0)})
    one, two, three = (
        generate("raster/a", metric("m", 1.0), settings_id=f"set-{index}", sampling=each, result_id=f"res-{index}")
        for index, each in enumerate((plain, guided, hot))
    )
    assert list(names([one, two]).values()) == ["a (no guidance)", "a (guidance 2)"]
    assert list(names([one, two, three]).values()) == [
        "a (no guidance · default temperature)", "a (guidance 2)", "a (guidance 3 · temperature 1.5)"
    ]  # fmt: skip


def test_two_weight_files_are_two_lines_of_the_figure() -> None:
    entries = [Entry(result, Path(), "run") for result in (*weighted("ab" * 32, 5.0), *weighted("cd" * 32, 6.0))]
    table = make_table(entries, (), "generator")
    assert table is not None
    drawn = scatter(entries, table)
    assert drawn is not None
    svg = drawn.svg()
    assert len(set(re.findall(r'id="(point-[^"]*-\d+)(?<!--\d)"', svg))) == 4
    assert svg.count("weights-abababab") == svg.count("weights-cdcdcdcd") > 0


def test_one_settings_id_on_two_devices_are_two_lines_of_the_figure() -> None:
    there = PROVENANCE.model_copy(update={"device": "cuda: another", "weights": {"raster/a": "ab" * 32}})
    results = [*weighted("ab" * 32, 5.0), *weighted("ab" * 32, 6.0, provenance=there)]
    entries = [Entry(result, Path(), "run") for result in results]
    table = make_table(entries, (), "generator")
    assert table is not None
    drawn = scatter(entries, table)
    assert drawn is not None
    assert len(set(re.findall(r'id="(point-[^"]*-\d+)(?<!--\d)"', drawn.svg()))) == 4


def test_settings_that_words_leave_out_are_told_where_they_differ() -> None:
    sampling = Sampling(guidance=Guidance(scale=2.0), top_k=100)
    half = sampling.model_copy(update={"guidance": Guidance(scale=2.0, until=0.5)})
    results = [
        generate("raster/a", metric("m", 1.0), settings_id="set-1", sampling=sampling),
        generate("raster/a", metric("m", 2.0), settings_id="set-2", sampling=half, result_id="res-2"),
        generate("raster/b", metric("m", 2.0), settings_id="set-3"),
        generate("raster/b", metric("m", 2.0), settings_id="set-4", result_id="res-4"),
    ]
    told = {
        key[1]: words.removeprefix("float32 · guidance 2 · top-k 100 · ") for key, words in described(results).items()
    }
    assert told == {
        "set-1": "guidance until 1.0",
        "set-2": "guidance until 0.5",
        "set-3": "set-3",  # nothing that is known tells them apart
        "set-4": "set-4",
    }


def test_all_metrics_say_their_settings_and_what_differs_between_runs() -> None:
    first, second = weighted("ab" * 32, 5.0)[0], weighted("cd" * 32, 6.0)[0]
    second = second.model_copy(update={"load": {**second.load, "seed": 7}})
    rows = metric_rows([Entry(first, Path(), "run-a"), Entry(second, Path(), "run-b")])
    words = "float32 · guidance 2 · top-k 100"
    assert [row.settings for row in rows] == [
        f"{words} · weights abababab · seed 0 · run run-a",
        f"{words} · weights cdcdcdcd · seed 7 · run run-b",
    ]
    (alone,) = metric_rows([Entry(first, Path(), "run-a")])
    assert alone.settings == words


# ---- scores ----


def score(adapter: str, *metrics: Metric, **rest: Any) -> Result:
    """As `arbench score` writes it of a run's cell."""
    parameters = {"samples": "runs/x", "reference": "elsewhere", "n": 1000, "conventions": ["adm"], "mode": "parity"}
    parameters |= {"kid_subset_size": None, "crop": "none", "cell": {"task": "generate", "n": 1000, "mode": "parity"}}
    fields = {"parameters": parameters, "samples": SetSummary(source="runs/x", n=1000), "result_id": "res-score"} | rest
    return make_result(adapter, "generator", "raster", "score", metrics=metrics, **fields)


def test_a_score_stands_in_the_row_and_column_of_the_run() -> None:
    fid = {"convention": "adm", "reference": HELDOUT}
    elsewhere = PROVENANCE.model_copy(update={"device": "cuda:0: scored there"})
    table = table_of(
        generate("raster/a", metric("fid", None, reason=NO_INCEPTION, **fid), metric("frechet", 9.0, 0.1)),
        make_result(
            "raster/a", "generator", "raster", "speed",
            metrics=(metric("latency", 0.1, 0.01, unit="s", measure="speed"),),
        ),
        generate("raster/b", metric("fid", 6.0, 0.1, **fid)),
        score("raster/a", metric("fid", 5.0, 0.1, **fid), provenance=elsewhere, started="2000-01-02T00:00:00+00:00"),
    )  # fmt: skip
    assert [column.name for column in table.columns] == ["fid", "frechet", "latency"]
    assert [row.adapter for row in table.rows] == ["raster/a", "raster/b"]
    assert [place.text for place in table.rows[0].places] == ["5.00", "9.00", "100"]
    assert table.rows[0].device == PROVENANCE.device
    assert table.unmeasured == ()


def test_a_score_of_edits_is_no_score_of_samples() -> None:
    shared = {"convention": "offline", "reference": HELDOUT}
    edited = score("raster/a", metric("frechet", 2.0, 0.1, **shared))
    edited = edited.model_copy(update={"parameters": {**edited.parameters, "cell": {"task": "edit", "mask": "left"}}})
    table = table_of(generate("raster/a", metric("frechet", 9.0, 0.1, **shared)), edited)
    assert [(column.group, column.name) for column in table.columns] == [("Quality", "frechet"), ("Edits", "frechet")]


def test_scored_images_have_a_table_of_their_own() -> None:
    folder = score("/data/samples", metric("fid", 5.0, 0.1, convention="adm"), sampling=None)
    folder = folder.model_copy(update={"kind": "images", "family": "images", "load": {"device": "cpu"}})
    table = table_of(folder, kind="images")
    assert [(row.adapter, row.settings) for row in table.rows] == [("/data/samples", "")]
    assert [column.words for column in table.columns] == ["fid (adm)"]


# ---- names for programs ----


def test_labels_are_readable_and_unique() -> None:
    timed = {"unit": "s", "measure": "speed", "at": {"batch": 16, "operation": "decode"}}
    other = ReferenceSet(name="a=b,[c]", digest="1" * 32)
    results = [
        generate("raster/a", metric("fid", 5.0, convention="adm", reference=HELDOUT), metric("class-agreement", 1.0)),
        generate("raster/b", metric("fid", 5.0, convention="adm", reference=other)),
        make_result("raster/a", "generator", "raster", "speed", metrics=(metric("latency", 0.1, **timed),)),
        make_result("raster/a", "generator", "raster", "edit", metrics=(metric("class-agreement", 1.0),)),
    ]
    assert labels(columns_of(results)[0]) == [
        "adm/fid[reference=mnist5k/heldout]",
        "adm/fid[reference=a b  c ]",
        "class-agreement[group=quality]",
        "class-agreement[group=edits]",
        "latency[batch=16,operation=decode]",
    ]
