"""Measured and published: which of our numbers stands beside a claim, and what is said of how the two differ."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from synthetic_run import HELDOUT, NO_INCEPTION, make_result, metric, write_cell
from test_report_page import read

from arbench import registry
from arbench.report.page import write_report
from arbench.report.published import Published, evaluator, metric_name, published
from arbench.spec.card import Card, Claim
from arbench.spec.result import Metric, Result, SetSummary
from arbench.spec.sampling import Guidance, Sampling

NATIVE = Sampling(guidance=Guidance(scale=2.0), top_k=900)
STATED = {"cfg_scale": 2.0, "top_k": 900, "images": 50000, "image_size": 256, "evaluator": "ADM", "precision": "bf16"}
NAME = "raster/example"


def card(*claims: Claim) -> Card:
    return Card(
        name=NAME, kind="generator", family="raster", implementation="x:Y", summary="", resolution=256, native=NATIVE,
        upstream_settings={"cfg_scale": 2.0, "top_k": 900}, published=claims,
    )  # fmt: skip


def claim(name: str = "fid", value: float = 3.0, **settings: Any) -> Claim:
    return Claim(metric=name, value=value, settings=STATED | settings, source="README")


def generate(*metrics: Metric, n: int = 50000, **rest: Any) -> Result:
    samples = SetSummary(source=NAME, n=n, sizes={"256x256": n})
    fields = {"sampling": NATIVE, "samples": samples, "load": {"dtype": "bfloat16"}} | rest
    return make_result(NAME, "generator", "raster", "generate", metrics=metrics, **fields)


def rows(results: list[Result], *claims: Claim) -> list[Published]:
    return published(results, {NAME: card(*claims)})


def fid(value: float | None, convention: str = "adm", **rest: Any) -> Metric:
    return metric("fid", value, 0.1 if value else None, convention=convention, reference=HELDOUT, **rest)


def test_the_same_under_the_same_settings_differs_in_nothing() -> None:
    (row,) = rows([generate(fid(3.25))], claim())
    assert (row.convention, row.measured, row.difference) == ("adm", "3.25 [3.15 – 3.35]", "+0.25")
    assert (row.differing, row.missing) == ((), "")


def test_the_convention_of_the_claim_is_preferred() -> None:
    ours = generate(fid(9.0, "torch-fidelity"), fid(3.1, "adm"), fid(8.0, "clean-fid"))
    assert rows([ours], claim())[0].measured.startswith("3.10")
    assert rows([ours], claim(evaluator="torch-fidelity (fork)"))[0].measured.startswith("9.00")


def test_another_convention_stands_in_and_is_named() -> None:
    ours = generate(fid(None, "adm", reason=NO_INCEPTION), fid(8.0, "clean-fid"))
    (row,) = rows([ours], claim())
    assert (row.convention, row.difference) == ("clean-fid", "+5")
    assert row.differing == ("convention clean-fid, published by ADM",)


def test_what_is_null_says_why_and_what_to_type() -> None:
    (row,) = rows([generate(fid(None, reason=NO_INCEPTION))], claim())
    assert (row.measured, row.convention, row.missing) == ("–", "adm", NO_INCEPTION)


def test_a_metric_that_is_not_there_is_named() -> None:
    (row,) = rows([generate(metric("frechet", 9.0, 1.0, convention="offline"))], claim())
    assert row.missing == "no metric named 'fid' in these results"


@pytest.mark.parametrize(
    ("changed", "settings", "expected"),
    [
        ({"n": 1000}, {}, "1,000 images, published 50,000"),
        ({"load": {"dtype": "float32"}}, {}, "float32, published bf16"),
        ({}, {"data": "ImageNet val"}, "reference mnist5k/heldout, published ImageNet val"),
        ({}, {"image_size_eval": 512}, "256x256 pixels, published 512x512"),
        ({"sampling": NATIVE.model_copy(update={"top_k": None})}, {}, "top_k none, published 900"),
        (
            {"sampling": NATIVE.model_copy(update={"guidance": Guidance(scale=1.5)})},
            {},
            "guidance.scale 1.5, published 2",
        ),
        ({}, {"cfg_scale": 4.0}, "cfg_scale 2.0, published 4.0"),
    ],
)
def test_each_setting_that_differs_is_said(changed: dict[str, Any], settings: dict[str, Any], expected: str) -> None:
    (row,) = rows([generate(fid(3.25), **changed)], claim(**settings))
    assert row.differing == (expected,)


def test_a_setting_that_the_claim_leaves_out_is_said() -> None:
    incomplete = Claim(metric="fid", value=3.0, settings={"top_k": 900, "images": 50000}, source="README")
    (row,) = rows([generate(fid(3.25))], incomplete)
    assert row.differing == ("cfg_scale 2.0, published without stating it",)


def test_the_native_sampling_is_compared_where_an_adapter_was_run_with_several() -> None:
    other = NATIVE.model_copy(update={"top_k": 10})
    results = [
        generate(fid(2.0), sampling=other, settings_id="set-2", result_id="res-2"),
        generate(fid(3.25)),
        generate(fid(2.5), sampling=other, settings_id="set-3", result_id="res-3"),
    ]
    assert rows(results, claim())[0].measured.startswith("3.25")


@pytest.mark.parametrize(
    ("name", "ours"), [("fid", "fid"), ("rFID", "rfid"), ("inception_score", "is"), ("precision", "precision")]
)
def test_names_of_claims(name: str, ours: str) -> None:
    assert metric_name(claim(name)) == ours


def test_every_claim_of_a_card_names_a_metric_and_a_convention_that_exist() -> None:
    from arbench.evaluate.conventions import conventions

    known = {definition.metric for convention in conventions().values() for definition in convention.definitions}
    claims = [each for one in registry.cards().values() for each in one.published]
    assert {metric_name(each) for each in claims} <= known
    assert {evaluator(each) for each in claims} <= {"", *conventions()}


def test_a_card_s_claims_stand_in_the_page(new_run: Callable[..., Path]) -> None:
    known = next(card for card in registry.cards().values() if card.published and card.kind == "generator")
    first = known.published[0]
    folder = new_run(generators=(), tokenizers=())
    write_cell(
        folder,
        make_result(
            known.name, "generator", known.family, "generate", sampling=known.native,
            metrics=(metric(metric_name(first), first.value + 0.25, 0.1, convention=evaluator(first)),),
        ),
    )  # fmt: skip
    text = read(write_report([folder], folder / "report.html")).text
    section = " ".join(text[text.index("Measured and published") :].split())
    for expected in ("+0.25", first.source, f"{first.value:g}", evaluator(first), "1,000 images, published 50,000"):
        assert expected in section
