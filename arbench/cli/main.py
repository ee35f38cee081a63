"""The command line: declares every verb; a verb's module is imported when the verb is called."""

import gc
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from arbench import __version__
from arbench.cli import between_runs, on_disk, on_images, output
from arbench.cli.once import Verbs
from arbench.cli.options import (
    Adapters,
    Address,
    Device,
    Executor,
    Json,
    MaxParams,
    Only,
    Out,
    Prompts,
    RandomWeights,
    Sets,
    Store,
    Suite,
    Tasks,
    Track,
    WaitIdle,
    Weighted,
    Workers,
)
from arbench.cli.places import file_out, folder_out, here, results, resumed
from arbench.errors import INTERRUPTED, OK, ArbenchError, UsageError, printable

app = Verbs(
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
        str,
        typer.Argument(
            metavar="WHAT",
            help="adapters, tokenizers, metrics, conventions, recipes, suites, keys, datasets, references or runs.",
        ),
    ] = "adapters",
    family: Annotated[str | None, typer.Option(help="Only cards of a family, as raster or next_scale.")] = None,
    system: Annotated[str | None, typer.Option(help="Only cards of a system, as llamagen.")] = None,
    json_output: Json = False,
) -> None:
    """List adapters, metrics, suites, keys, data sets and runs."""
    from arbench.cli.ls import ls

    raise typer.Exit(ls(what, json_output, family, system))


@app.command()
def show(
    suite: Suite,
    adapter: Adapters = None,
    task: Tasks = None,
    change: Sets = None,
    weights: Weighted = None,
    resolved: Annotated[bool, typer.Option("--resolved", help="Every value, and where it comes from.")] = False,
    json_output: Json = False,
    max_params: MaxParams = None,
) -> None:
    """Show what a suite would run, and what it would cost."""
    from arbench.cli.show import show

    changes = [*(change or []), *([f"settings.max_params={max_params}"] if max_params else [])]
    raise typer.Exit(show(suite, adapter or [], task or [], changes, weights or [], resolved, json_output))


@app.command()
def run(
    suite: Suite,
    adapter: Adapters = None,
    task: Tasks = None,
    change: Sets = None,
    weights: Weighted = None,
    keep_images: Annotated[
        bool, typer.Option("--keep-images", help="Keep the images of all samples, not only the first 256 MB per cell.")
    ] = False,
    out: Out = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda or cuda:N.")] = None,
    workers: Workers = None,
    track: Track = None,
    wait_idle: WaitIdle = 0.0,
    max_params: MaxParams = None,
    shard: Annotated[
        str | None,
        typer.Option(
            "--shard", metavar="I/N", help="Do share I of N, for arbench merge; slurm: as the job's array says."
        ),
    ] = None,
    executor: Executor = None,
    address: Address = None,
) -> None:
    """Run a suite and write its report."""
    from arbench.cli.run import run

    changes = [*(change or []), *(["settings.keep_images=null"] if keep_images else [])]
    changes += [f"settings.max_params={max_params}"] if max_params else []
    where = (out, device, workers, track, wait_idle, shard, executor or "local", address)
    raise typer.Exit(run(suite, adapter or [], task or [], changes, weights or [], *where))


@app.command()
def audit(
    tokenizers: Annotated[
        list[str], typer.Argument(metavar="TOKENIZER...", help="Tokenizers by name or glob: arbench ls tokenizers.")
    ],
    data: Annotated[
        str | None, typer.Option(metavar="SOURCE", help="Images, as score reads them. Default: MNIST digits, 32 x 32.")
    ] = None,
    crop: Annotated[str | None, typer.Option(help="How they are cropped to the tokenizer's size.")] = None,
    size: Annotated[int | None, typer.Option(min=1, help="Side that they are cropped to, where any is taken.")] = None,
    n: Annotated[int | None, typer.Option("-n", min=1, help="Images, from the start.")] = None,
    change: Sets = None,
    weights: Weighted = None,
    out: Out = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda or cuda:N.")] = None,
    workers: Workers = None,
    track: Track = None,
) -> None:
    """Audit tokenizers: images, codes, stability, text."""
    from arbench.cli.audit import audit

    where = (out, device, workers, track)
    raise typer.Exit(audit(tokenizers, data, crop, size, n, change or [], weights or [], *where))


@app.command()
def resume(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The folder of the run.", parser=resumed)],
    workers: Workers = None,
    track: Track = None,
    wait_idle: WaitIdle = 0.0,
    executor: Executor = None,
    address: Address = None,
) -> None:
    """Resume an interrupted run where it stopped."""
    from arbench.cli.resume import resume

    raise typer.Exit(resume(folder, workers, track, wait_idle, executor, address))


@app.command()
def status(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The folder of the run.", parser=results)],
    json_output: Json = False,
) -> None:
    """List the outcomes of a run."""
    from arbench.cli.status import status

    raise typer.Exit(status(folder, json_output))


@app.command()
def report(
    folders: Annotated[
        list[Path], typer.Argument(metavar="DIR...", help="Folders of runs and of scores.", parser=results)
    ],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="Default: DIR/report.html.", parser=file_out(".html")),
    ] = None,
    baseline: Annotated[
        str | None, typer.Option("--baseline", metavar="NAME", help="Show the differences to it: its name, or a DIR.")
    ] = None,
    store: Store = Path("baselines"),
) -> None:
    """Write the HTML report of runs and scores."""
    from arbench.cli.report import report

    raise typer.Exit(report(folders, output, baseline, store))


for of_several in between_runs.VERBS:
    app.command()(of_several)


@app.command()
def parity(
    goldens: Annotated[list[Path], typer.Argument(metavar="GOLDEN...", help="Folders of recordings.", parser=here)],
    json_output: Json = False,
) -> None:
    """Replay recordings of official code through adapters."""
    from arbench.cli.parity import parity

    raise typer.Exit(parity(goldens, json_output))


@app.command()
def check(
    names: Annotated[
        list[str],
        typer.Argument(metavar="ADAPTER...", help="Names or globs, or module:CARD of your own in this folder."),
    ],
    random: RandomWeights = False,
    weights: Weighted = None,
    prompts: Prompts = None,
    device: Device = "cpu",
    only: Only = None,
    json_output: Json = False,
) -> None:
    """Try the contract of an adapter on four samples."""
    from arbench.cli.check import check

    code = check(
        names, json_output, random=random, device=device, weights=weights or [], prompts=prompts, only=only or []
    )
    raise typer.Exit(code)


@app.command()
def captions(
    adapter: Annotated[str, typer.Argument(metavar="ADAPTER", help="The text-to-image model the captions are for.")],
    prompts: Annotated[Path, typer.Argument(metavar="PROMPTS", help="A text file, one prompt per line.", parser=here)],
    encoder: Annotated[
        str, typer.Option("--encoder", metavar="PATH", help="The text encoder: a folder, or a name in the local cache.")
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="DIR", help="Where the files go.", parser=folder_out)
    ],
    instruction: Annotated[
        Path | None,
        typer.Option("--instruction", metavar="FILE", help="For HART: what goes before every prompt.", parser=here),
    ] = None,
    device: Device = "auto",
    dtype: Annotated[str, typer.Option("--dtype", help="float32, bfloat16 or float16.")] = "float32",
) -> None:
    """Encode prompts for a text-to-image model, by transformers."""
    from arbench.cli.captions import captions

    raise typer.Exit(captions(adapter, prompts, encoder, output, device=device, dtype=dtype, instruction=instruction))


for of_images in on_images.VERBS:
    app.command()(of_images)


for of_a_folder in on_disk.VERBS:
    app.command()(of_a_folder)


@app.command()
def weights(
    action: Annotated[str, typer.Argument(metavar="ls|fetch", help="List them, or download those named.")] = "ls",
    names: Annotated[list[str] | None, typer.Argument(metavar="NAME...")] = None,
    url: Annotated[str | None, typer.Option("--from", metavar="URL", help="Another place to fetch from.")] = None,
    unverified: Annotated[
        bool, typer.Option("--unverified", help="Take a file of which no sha256 is published.")
    ] = False,
    json_output: Json = False,
) -> None:
    """List the weights of feature extractors, or fetch them."""
    from arbench.cli import weights as verb
    from arbench.errors import UnknownName, UsageError

    if action == "fetch":
        raise typer.Exit(verb.fetch(names or [], url, unverified))
    if action != "ls":
        raise UnknownName("action of weights", action, ("ls", "fetch"), "arbench weights fetch NAME")
    if url is not None or unverified:
        raise UsageError("--from and --unverified go with fetch", "ls fetches nothing", "arbench weights fetch NAME")
    raise typer.Exit(verb.ls(names or [], json_output))


@app.command()
def references(
    action: Annotated[
        str, typer.Argument(metavar="ls|fetch|add", help="List them, download those named, or keep a file as NAME.")
    ] = "ls",
    names: Annotated[list[str] | None, typer.Argument(metavar="NAME...")] = None,
    url: Annotated[str | None, typer.Option("--from", metavar="URL", help="Another place to fetch from.")] = None,
    json_output: Json = False,
) -> None:
    """List published reference statistics, or fetch them."""
    from arbench.cli.references import references

    raise typer.Exit(references(action, names or [], url, json_output))


@app.command()
def doctor(json_output: Json = False) -> None:
    """Examine this machine: device, memory, disk, weights."""
    from arbench.cli.doctor import doctor

    raise typer.Exit(doctor(json_output))


def refuse_empty(arguments: list[str]) -> None:
    """An empty word is a shell variable that is not set: as a path it is the current folder. Raises UsageError."""
    for place, word in enumerate(arguments):
        if word == "" or (word.startswith("--") and word.endswith("=")):
            name = word or (arguments[place - 1] if place else "arbench")
            raise UsageError(
                f"nothing is given {'for ' if word else 'after '}{name.rstrip('=')}",
                "the word is empty, as from a shell variable that is not set",
                "give a value, or leave the option out",
            )


def refuse_no_folder() -> None:
    """Relative paths mean nothing in a folder that is gone, and torch does not load there. Raises UsageError."""
    try:
        Path.cwd()
    except FileNotFoundError as error:
        raise UsageError(
            "the current folder is gone", "it was removed or replaced after it was entered", "cd to another folder"
        ) from error


def main(arguments: list[str] | None = None) -> int:
    """Runs one command and returns its exit code; an `ArbenchError` becomes its message on stderr."""
    arguments = sys.argv[1:] if arguments is None else arguments
    debug = "--debug" in arguments
    # accepted after the verb too, where people type it
    rest = [argument for argument in arguments if argument != "--debug"]
    try:
        refuse_no_folder()
        refuse_empty(rest)
        code = app(args=["--debug", *rest] if debug else rest, prog_name="arbench")
        return int(code or OK)
    except SystemExit as stop:
        if _interrupted(stop):
            print("arbench: interrupted", file=sys.stderr)
        return int(stop.code or OK) if not isinstance(stop.code, str) else 1
    except ArbenchError as error:
        if debug:
            raise
        print(f"arbench: {printable(str(error))}", file=sys.stderr)
        return error.exit_code
    except OSError as error:
        if debug or error.errno not in output.FULL:
            raise
        return output.say_full(error)
    except KeyboardInterrupt:
        print("arbench: interrupted", file=sys.stderr)
        return INTERRUPTED


def _interrupted(stop: SystemExit) -> bool:
    """Whether it is what typer makes of an interrupt that no command has answered."""
    return stop.code == INTERRUPTED and isinstance(getattr(stop.__context__, "__cause__", None), KeyboardInterrupt)


def entry() -> None:
    """The console script."""
    # a fifth of the time of a listing: pydantic would look for plugins in what every installed package says of itself,
    # and the collector would walk all modules again and again while they are imported, and once more at the end
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    gc.set_threshold(50_000)
    output.prepare()
    code = output.flushed(main())
    if "torch" not in sys.modules:  # whose bindings report what is not taken down
        gc.freeze()
    sys.exit(code)
