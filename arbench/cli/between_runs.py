"""The verbs that are of several runs: what differs, whether a night is as good as before, where models stand."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from arbench.cli.options import Adapters, Json, Store
from arbench.cli.places import file_out, folder_out, here, results, whole


def compare(
    old: Annotated[Path, typer.Argument(metavar="OLD", help="Folder of a run or of scores.", parser=whole)],
    new: Annotated[Path, typer.Argument(metavar="NEW", help="Another one.", parser=whole)],
    names: Annotated[str | None, typer.Option("--names", metavar="OLD,NEW", help="What to call them.")] = None,
    tolerance: Annotated[
        list[str] | None,
        typer.Option(
            "--tolerance",
            metavar="NAME=AMOUNT",
            help="What counts as comparable: fid=0.3, latency=5%, quality=1%. Default: speed=5%, memory=2%.",
        ),
    ] = None,
    fail_on: Annotated[
        list[str] | None,
        typer.Option("--fail-on", metavar="NAME", help="Exit 1 if worse: any, quality, speed, memory, a metric."),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", metavar="FILE", help="The page. Default: NEW/compare.html.", parser=file_out(".html")
        ),
    ] = None,
    ab: Annotated[
        bool, typer.Option("--ab", help="Measure timings and memory of both again, in turn, in fresh processes.")
    ] = False,
    old_python: Annotated[
        str | None, typer.Option("--old-python", metavar="PYTHON", help="With --ab: the Python of the old build.")
    ] = None,
    json_output: Json = False,
) -> None:
    """Compare two runs, number by number."""
    from arbench.cli.compare import compare

    pythons = (old_python or sys.executable, sys.executable) if ab else None
    raise typer.Exit(compare(old, new, names, tolerance or [], fail_on or [], output, json_output, pythons))


def baseline(
    action: Annotated[
        str, typer.Argument(metavar="set|list|accept|quarantine|calibrate", help="What to do; see docs/gate.md.")
    ] = "list",
    names: Annotated[
        list[str] | None, typer.Argument(metavar="NAME DIR", help="The baseline and a run; a GLOB for quarantine.")
    ] = None,
    reason: Annotated[str | None, typer.Option("--reason", metavar="TEXT", help="Why it changes; kept.")] = None,
    seeds: Annotated[
        list[Path] | None,
        typer.Option(
            "--seeds", metavar="DIR", help="The same run under another seed; four and more of them.", parser=whole
        ),
    ] = None,
    sessions: Annotated[
        int, typer.Option("--sessions", metavar="N", help="With calibrate: how often the build is run against itself.")
    ] = 14,
    store: Store = Path("baselines"),
    json_output: Json = False,
) -> None:
    """Keep good runs that later ones are held against."""
    from arbench.cli.baseline import baseline

    raise typer.Exit(baseline(action, names or [], reason, seeds or [], sessions, store, json_output))


def gate(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The folder of tonight's run.", parser=whole)],
    name: Annotated[str, typer.Option("--baseline", metavar="NAME", help="See arbench baseline list.")],
    store: Store = Path("baselines"),
    good: Annotated[
        str | None,
        typer.Option("--good", metavar="PYTHON", help="Python of the last good build: decides suspects in turn."),
    ] = None,
    junit: Annotated[
        Path | None, typer.Option("--junit", metavar="FILE", help="JUnit XML.", parser=file_out(".xml"))
    ] = None,
    markdown: Annotated[
        Path | None, typer.Option("--markdown", metavar="FILE", help="For a job's summary.", parser=file_out(".md"))
    ] = None,
    json_output: Json = False,
) -> None:
    """Fail if tonight's run is worse than its baseline."""
    from arbench.cli.gate import run_gate

    raise typer.Exit(run_gate(folder, name, store, good, junit, markdown, json_output))


def history(
    folders: Annotated[
        list[str], typer.Argument(metavar="DIR...", help="Runs, folders that hold runs, or an MLflow address.")
    ],
    metric: Annotated[
        list[str] | None, typer.Option("--metric", metavar="GLOB", help="Only these metrics; may be repeated.")
    ] = None,
    adapter: Adapters = None,
    json_output: Json = False,
) -> None:
    """Show numbers over many nights, and when they changed."""
    from arbench.cli.history import history

    raise typer.Exit(history(folders, metric or [], adapter or [], json_output))


def bisect(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A run whose suite is measured again.", parser=results)],
    good: Annotated[str, typer.Option("--good", metavar="REV", help="A commit that was as it should be.")],
    metric: Annotated[str, typer.Option("--metric", metavar="NAME", help='latency, "latency (batch 16, sample)".')],
    bad: Annotated[str, typer.Option("--bad", metavar="REV", help="One that is not.")] = "HEAD",
    repository: Annotated[
        Path, typer.Option("--repository", metavar="DIR", help="The git repository with the adapter.", parser=here)
    ] = Path(),
    adapter: Annotated[str | None, typer.Option("--adapter", metavar="NAME", help="Where the run has several.")] = None,
    sources: Annotated[
        str | None,
        typer.Option("--sources", metavar="FOLDER", help="Where in it packages lie. Default: src if it is there."),
    ] = None,
    output: Annotated[
        Path,
        typer.Option("--output", "-o", metavar="DIR", help="What is known so far; resumes from it.", parser=folder_out),
    ] = Path("bisect"),
    json_output: Json = False,
) -> None:
    """Find the commit that made a number worse."""
    from arbench.cli.bisect import bisect

    raise typer.Exit(bisect(folder, repository, good, bad, metric, adapter, sources, output, json_output))


def leaderboard(
    folders: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[DIR]...", help="Runs and scores, or folders that hold them.", parser=results),
    ] = None,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="DIR", help="The folder of the site.", parser=folder_out)
    ] = Path("site"),
) -> None:
    """Write a leaderboard of measured and published numbers."""
    from arbench.cli.leaderboard import leaderboard

    raise typer.Exit(leaderboard(folders or [], output))


def validate(
    folders: Annotated[
        list[Path], typer.Argument(metavar="DIR...", help="Runs and scores, or folders that hold them.", parser=results)
    ],
    json_output: Json = False,
) -> None:
    """Check results before they go on a leaderboard."""
    from arbench.cli.validate import validate

    raise typer.Exit(validate(folders, json_output))


VERBS = (compare, baseline, gate, history, bisect, leaderboard, validate)
"""In the order of `arbench --help`."""
