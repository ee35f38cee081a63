"""The command line: declares every verb; a verb's module is imported when the verb is called."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from arbench import __version__
from arbench.errors import INTERRUPTED, OK, ArbenchError

app = typer.Typer(
    name="arbench",
    help="Benchmark autoregressive image generators and visual tokenizers: quality, speed and memory under the same"
    " settings, with error bars.",
    epilog="Start with: arbench run quickstart",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
Adapters = Annotated[
    list[str] | None,
    typer.Option("--adapter", metavar="GLOB", help="Only adapters of this name or glob; may be repeated."),
]
Sets = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change a value of the suite, for instance generate.n=100."),
]
Track = Annotated[
    str | None,
    typer.Option(metavar="URI", help="MLflow server or database; 'off' for none. Default: DIR/mlflow.db."),
]
Workers = Annotated[int | None, typer.Option(min=1, help="Worker processes for the quality tasks.")]
Suite = Annotated[str, typer.Argument(metavar="SUITE", help="A suite's name, or the path of a .yaml file.")]


def _show_version(value: bool) -> None:
    if value:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def _options(
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version and stop.")
    ] = False,
) -> None:
    """Options of every verb; `--debug` is read by `main` itself, so that it works for errors at start-up too."""


@app.command()
def ls(
    what: Annotated[
        str, typer.Argument(metavar="WHAT", help="adapters, tokenizers, metrics, suites, datasets or runs.")
    ] = "adapters",
    json_output: Json = False,
) -> None:
    """List adapters, metrics, suites, data sets and runs."""
    from arbench.cli.ls import ls

    raise typer.Exit(ls(what, json_output))


@app.command()
def show(
    suite: Suite,
    adapter: Adapters = None,
    change: Sets = None,
    resolved: Annotated[bool, typer.Option("--resolved", help="Every value, and where it comes from.")] = False,
    json_output: Json = False,
) -> None:
    """Show what a suite would run, and what it would cost."""
    from arbench.cli.show import show

    raise typer.Exit(show(suite, adapter or [], change or [], resolved, json_output))


@app.command()
def run(
    suite: Suite,
    adapter: Adapters = None,
    change: Sets = None,
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="Where the run goes. Default: runs/<id>.")] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda or cuda:N.")] = None,
    workers: Workers = None,
    track: Track = None,
) -> None:
    """Run a suite and write its report."""
    from arbench.cli.run import run

    raise typer.Exit(run(suite, adapter or [], change or [], out, device, workers, track))


@app.command()
def resume(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The folder of the run.")],
    workers: Workers = None,
    track: Track = None,
) -> None:
    """Go on with an interrupted run where it stopped."""
    from arbench.cli.resume import resume

    raise typer.Exit(resume(folder, workers, track))


@app.command()
def status(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The folder of the run.")],
    json_output: Json = False,
) -> None:
    """List the outcomes of a run."""
    from arbench.cli.status import status

    raise typer.Exit(status(folder, json_output))


@app.command()
def report(
    folders: Annotated[list[Path], typer.Argument(metavar="DIR...", help="Folders of runs.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Default: DIR/report.html.")
    ] = None,
) -> None:
    """Write the HTML report of one or more runs."""
    from arbench.cli.report import report

    raise typer.Exit(report(folders, output))


@app.command()
def parity(
    goldens: Annotated[list[Path], typer.Argument(metavar="GOLDEN...", help="Folders of recordings.")],
    json_output: Json = False,
) -> None:
    """Replay recordings of official code through adapters."""
    from arbench.cli.parity import parity

    raise typer.Exit(parity(goldens, json_output))


def main(arguments: list[str] | None = None) -> int:
    """Runs one command and returns its exit code; an `ArbenchError` becomes its message on stderr."""
    arguments = sys.argv[1:] if arguments is None else arguments
    debug = "--debug" in arguments
    # accepted after the verb too, where people type it
    rest = [argument for argument in arguments if argument != "--debug"]
    try:
        code = app(args=["--debug", *rest] if debug else rest, prog_name="arbench")
        return int(code or OK)
    except SystemExit as stop:
        return int(stop.code or OK) if not isinstance(stop.code, str) else 1
    except ArbenchError as error:
        if debug:
            raise
        print(f"arbench: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("arbench: interrupted", file=sys.stderr)
        return INTERRUPTED


def entry() -> None:
    """The console script."""
    sys.exit(main())
