"""The closing summary: the numbers that the tasks' definitions pick, with their convention and place."""

from __future__ import annotations

import io

from rich.console import Console

from arbench.run.summary import heading, main_metrics, print_summary
from arbench.spec.flags import FLAGS
from arbench.spec.result import Interval, Metric, Result
from arbench.spec.sampling import Guidance, Sampling

REASON = "no weights of inception: arbench weights fetch inception"


def number(name: str, value: float | None = 1.0, **rest: object) -> Metric:
    return Metric(name=name, value=value, n=10, **({"reason": REASON} if value is None else {}), **rest)


def timed(name: str, batch: int, operation: str = "sample", value: float = 0.05) -> Metric:
    unit = "s" if name == "latency" else "images/s"
    return number(name, value, unit=unit, at={"batch": batch, "operation": operation}, measure="speed")


def result(task: str, *metrics: Metric, adapter: str = "raster/a", **rest: object) -> Result:
    fields = {"result_id": f"res-{task}", "settings_id": "set-1", "adapter": adapter, "family": "raster", "task": task}
    fields |= {"kind": "generator", "parameters": {}, "outcome": "ok", "metrics": metrics} | rest
    return Result(**fields)


def printed(*results: Result) -> str:
    console = Console(file=io.StringIO(), width=100)
    print_summary(console, results)
    return console.file.getvalue()  # type: ignore[attr-defined]


def test_the_definition_picks() -> None:
    speed = [timed(name, batch) for batch in (1, 16) for name in ("latency", "images-per-second")]
    assert [metric.key.place for metric in main_metrics(result("speed", *speed))] == [
        "batch 1, sample",
        "batch 16, sample",
    ]
    quality = [number("kid"), number("frechet", convention="offline"), number("fid", convention="adm")]
    assert [metric.name for metric in main_metrics(result("generate", *quality))] == ["fid", "frechet"]
    assert [metric.name for metric in main_metrics(result("not-installed", *quality))] == ["kid", "frechet"]


def test_headings_tell_the_convention_of_quality_and_the_place_of_timings() -> None:
    assert heading(number("fid", convention="adm")) == "fid\n(adm)"
    assert heading(number("class-agreement")) == "class-agreement\n(arbench)"
    assert heading(timed("latency", 1)) == "latency\nbatch 1,\nsample"


def test_dashes_and_flags_are_explained_once_below_the_table() -> None:
    fid = {"convention": "adm"}
    text = printed(
        result("generate", number("fid", 9.0, flags=("small_n",), **fid)),
        result("generate", number("fid", 8.0, flags=("small_n",), **fid), adapter="raster/b", result_id="res-b"),
        result("generate", number("fid", None, **fid), adapter="raster/c", result_id="res-c"),
    )
    lines = text.splitlines()
    assert lines[1].split() == ["raster/a", "9*"]
    assert f"- fid (adm) of raster/c: {REASON}" in lines
    assert lines.count(f"* small n: {FLAGS['small_n']} (fid (adm))") == 1


def test_rows_have_intervals_and_failures_come_last() -> None:
    span = Interval(low=8.5, high=9.5, method="delta")
    frechet = number("frechet", 9.0, interval=span, convention="offline")
    text = printed(
        result("generate", number("fid", None, convention="adm"), frechet),
        result("generate", number("frechet", 8.0, convention="offline"), adapter="raster/b", result_id="res-b"),
        result("speed", timed("latency", 1)),
        result("memory", outcome="oom", reason="needs 9 GB"),
    )
    lines = text.splitlines()
    assert "[8.5, 9.5]" in text
    assert "50 ms" in text
    assert sum("(offline)" in line for line in lines) == 1
    assert "(adm)" not in text.partition("not measured")[0]  # no column of dashes
    assert f"not measured: fid (adm): {REASON}" in lines
    assert lines[-1] == "oom: memory raster/a: needs 9 GB"


def swept(scale: float, value: float) -> Result:
    interval = Interval(low=value - 0.5, high=value + 0.5, method="test")
    metric = Metric(
        name="frechet",
        value=value,
        n=10,
        convention="offline",
        direction="lower",
        interval=interval,
        flags=("small_n",),
    )
    sampling = Sampling(guidance=Guidance(scale=scale))
    return result("generate", metric, settings_id=f"set-{scale}", result_id=f"res-{scale}", sampling=sampling)


def test_each_setting_of_a_sweep_has_a_row_and_the_best_is_told() -> None:
    shown = printed(swept(1, 12.0), swept(2, 10.0), swept(4, 10.5))
    for scale in ("1.0", "2.0", "4.0"):
        assert f"guidance.scale {scale}" in shown
    assert "best frechet (offline) of a: 10 [9.5, 10.5] at guidance scale 2; not told from it: 2 to 4" in shown


def test_failures_of_two_tasks_and_of_settings_are_told_apart() -> None:
    shown = printed(
        *(
            result("generate", outcome="oom", reason=f"needs {scale} GB", settings_id=f"set-{scale}", **of)
            for scale in (3, 2)
            for of in (
                {
                    "result_id": f"res-{scale}-{reference}",
                    "parameters": {"n": 8, "reference": reference},
                    "sampling": Sampling(guidance=Guidance(scale=scale)),
                }
                for reference in ("one", "two")
            )
        )
    )
    assert "oom: generate raster/a (guidance 3, reference one): needs 3 GB" in shown
    assert "oom: generate raster/a (guidance 2, reference two): needs 2 GB" in shown
