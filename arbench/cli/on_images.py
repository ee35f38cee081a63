"""The verbs that are of images, whoever made them: score them, export them, sum them up as a reference."""

from pathlib import Path
from typing import Annotated

import typer

from arbench.cli.options import (
    Address,
    Column,
    Crop,
    Device,
    Features,
    Figures,
    Images,
    Json,
    Limit,
    Mode,
    Npz,
    OnBad,
    Size,
    Split,
    Weighted,
)
from arbench.cli.places import file_out, folder_out, here


def score(
    samples: Annotated[
        str,
        typer.Argument(
            metavar="SAMPLES",
            help="Folder, npz, npy, pt, zip, tar, parquet, generator:NAME, runs/DIR[:CELL], features.",
        ),
    ],
    reference: Annotated[
        str | None,
        typer.Option(
            "--reference", "-r", metavar="REF", help="Images, a file of statistics, or a name: arbench ls references."
        ),
    ] = None,
    metric: Annotated[
        list[str] | None, typer.Option("--metric", metavar="GLOB", help="Only these metrics; may be repeated.")
    ] = None,
    convention: Annotated[
        list[str] | None,
        typer.Option("--convention", "-c", metavar="NAMES", help="adm,torch-fidelity,... See: arbench ls conventions."),
    ] = None,
    weights: Weighted = None,
    paired: Annotated[
        bool, typer.Option("--paired", help="Each sample is a reconstruction of the reference image of its name.")
    ] = False,
    device: Device = "auto",
    mode: Mode = "parity",
    on_bad: OnBad = "error",
    limit: Limit = None,
    reference_crop: Annotated[
        str, typer.Option("--reference-crop", metavar="RECIPE", help="Crop the reference's images; needs --size.")
    ] = "none",
    size: Size = None,
    reference_kind: Annotated[
        str | None,
        typer.Option(
            "--reference-kind", metavar="FORMAT", help="Format of the reference file, if it does not state it."
        ),
    ] = None,
    split: Split = None,
    column: Column = None,
    reference_column: Annotated[
        str | None, typer.Option("--reference-column", metavar="NAME", help="That of the reference, if it is another.")
    ] = None,
    error: Annotated[
        str, typer.Option("--error", metavar="delta|jackknife", help="Error bar of the Frechet distances.")
    ] = "delta",
    subset_size: Annotated[
        int | None, typer.Option("--kid-subset-size", min=2, metavar="N", help="Default: the convention's own, 1000.")
    ] = None,
    prompts: Annotated[
        Path | None,
        typer.Option(
            "--prompts",
            metavar="FILE",
            help="One prompt per line: for CLIPScore, and for a text-to-image generator.",
            parser=here,
        ),
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="A reference that does not fit is an error.")] = False,
    shard: Annotated[
        str, typer.Option("--shard", metavar="I/N", help="Extract features of shard I of N only.")
    ] = "0/1",
    out: Annotated[
        str | None, typer.Option(metavar="DIR", help="Or an address. Default: scores/<name of SAMPLES>.")
    ] = None,
    executor: Features = "local",
    address: Address = None,
    track: Annotated[
        str | None, typer.Option(metavar="URI", help="MLflow server or database, off. Default: MLFLOW_TRACKING_URI.")
    ] = None,
    json_output: Json = False,
) -> None:
    """Score images that exist already, or the samples of a run."""
    from arbench.cli.score import networks_of, parse_names, parse_shard, request_of
    from arbench.cli.score import score as run_score
    from arbench.data.prompts import read_prompts
    from arbench.remote.upload import uploading

    with networks_of(executor, address, device, weights or [], mode) as networks, uploading(out) as folder:
        request = request_of(
            samples,
            reference,
            weights=weights or [],
            mode=mode,
            device=networks.device if networks else device,
            on_bad=on_bad,
            limit=limit,
            column=column,
            reference_column=reference_column,
            split=split,
            conventions=parse_names(convention or []),
            metrics=parse_names(metric or []),
            reference_crop=reference_crop,
            reference_size=size,
            reference_kind=reference_kind,
            paired=paired,
            error=error,
            subset_size=subset_size,
            strict=strict,
            prompts=read_prompts(prompts),
            shard=parse_shard(shard),
            out=folder,
        )
        code = run_score(request, json_output, track, networks)
    raise typer.Exit(code)


def export(
    runs: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN[:CELL]...", help="Folders of runs; for samples one, perhaps with one of its cells."
        ),
    ],
    images: Images = None,
    npz: Npz = None,
    figures: Figures = None,
    layout: Annotated[
        str | None, typer.Option("--format", metavar="NAME", help="Results for mlflow, tensorboard or wandb.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Where the folders of tensorboard and wandb go.", parser=folder_out),
    ] = None,
    track: Annotated[
        str | None, typer.Option(metavar="URI", help="MLflow server or database. Default: MLFLOW_TRACKING_URI.")
    ] = None,
) -> None:
    """Write samples, figures or results for other programs."""
    from arbench.cli.export import export

    raise typer.Exit(export(runs, images, npz, figures, layout, out, track))


def stats(
    source: Annotated[str, typer.Argument(metavar="SOURCE", help="Images, as for score.")],
    output: Annotated[
        Path,
        typer.Option(
            "--output", "-o", metavar="FILE", help="For instance reference.npz.", parser=file_out(".npz", ".pt")
        ),
    ],
    layout: Annotated[
        str, typer.Option("--format", help="arbench, adm, pytorch-fid, clean-fid or torch-fidelity.")
    ] = "arbench",
    recipe: Annotated[
        list[str] | None, typer.Option("--recipe", metavar="NAME", help="Features; see: arbench ls recipes.")
    ] = None,
    keep_features: Annotated[bool, typer.Option("--keep-features", help="For KID, precision, ...")] = False,
    weights: Weighted = None,
    device: Device = "auto",
    mode: Mode = "parity",
    on_bad: OnBad = "error",
    limit: Limit = None,
    crop: Crop = "none",
    size: Size = None,
    column: Column = None,
    split: Split = None,
    executor: Features = "local",
    address: Address = None,
) -> None:
    """Write the reference statistics of a set of images."""
    from arbench.cli.score import networks_of, parse_names, request_of
    from arbench.cli.stats import stats as run_stats

    with networks_of(executor, address, device, weights or [], mode) as networks:
        request = request_of(
            source,
            None,
            weights=weights or [],
            mode=mode,
            device=networks.device if networks else device,
            on_bad=on_bad,
            limit=limit,
            crop=crop,
            size=size,
            column=column,
            split=split,
        )
        code = run_stats(request, output, layout, parse_names(recipe or []), keep_features, networks)
    raise typer.Exit(code)


VERBS = (score, export, stats)
"""In the order of `arbench --help`."""
