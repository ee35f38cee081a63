"""Options and arguments that several verbs share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from arbench.cli.places import file_out, folder_out, here

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
    typer.Option(
        metavar="URI",
        help="MLflow server or database; 'off' for none. Default: $MLFLOW_TRACKING_URI, else DIR/mlflow.db.",
    ),
]
Workers = Annotated[int | None, typer.Option(min=1, help="Worker processes for the quality tasks.")]
Executor = Annotated[
    str | None,
    typer.Option(metavar="local|ray", help="What does the units: this machine, or a Ray cluster. Default: local."),
]
Features = Annotated[
    str,
    typer.Option(
        "--executor", metavar="local|ray", help="What computes features: this process, or a Ray cluster's nodes."
    ),
]
Address = Annotated[
    str | None,
    typer.Option(metavar="HOST:PORT", help="The Ray cluster's. Default: $RAY_ADDRESS, else one on this machine."),
]
MaxParams = Annotated[
    int | None,
    typer.Option("--max-params", metavar="N", min=1, help="Leave out adapters with more parameters than this."),
]
WaitIdle = Annotated[
    float,
    typer.Option(
        "--wait-idle",
        metavar="SECONDS",
        min=0.0,
        help="Wait so long at most for other processes to end before each speed or memory cell.",
    ),
]
Weighted = Annotated[
    list[str] | None,
    typer.Option(
        "--weights",
        metavar="NAME=PATH",
        help="Weight file of an adapter or of a feature network, for instance inception=weights.pth; PATH#PART for"
        " one part of a file, such as #ema.",
    ),
]
Tasks = Annotated[
    list[str] | None, typer.Option("--task", metavar="NAME", help="Only this task of the suite; may be repeated.")
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")]
Mode = Annotated[
    str, typer.Option("--mode", help="parity: float32, as the reference tools. fast: folded, TF32 or bf16 on CUDA.")
]
OnBad = Annotated[str, typer.Option("--on-bad-image", metavar="error|skip", help="What to do with a broken image.")]
Limit = Annotated[int | None, typer.Option(min=1, metavar="N", help="Only the first N images.")]
Crop = Annotated[str, typer.Option("--crop", metavar="RECIPE", help="For instance adm-center-crop-v1; needs --size.")]
Size = Annotated[int | None, typer.Option("--size", min=1, metavar="PIXELS")]
Column = Annotated[str | None, typer.Option("--column", metavar="NAME", help="The image column of a parquet table.")]
Split = Annotated[str | None, typer.Option("--split", metavar="train|val", help="Which split the reference is.")]
Suite = Annotated[str, typer.Argument(metavar="SUITE", help="A suite's name, or the path of a .yaml file.")]
Only = Annotated[
    list[str] | None,
    typer.Option("--only", metavar="CHECK", help="Only these checks and what they need, for instance load,batch."),
]
RandomWeights = Annotated[bool, typer.Option("--random", help="Random weights in place of a checkpoint.")]
Out = Annotated[
    str | None,
    typer.Option(metavar="DIR", help="Where the run goes: a folder, or s3://..., gs://... Default: runs/<id>."),
]
Prompts = Annotated[
    Path | None,
    typer.Option("--prompts", metavar="FILE", help="For text-to-image models: one prompt per line.", parser=here),
]
Images = Annotated[
    Path | None, typer.Option("--images", metavar="DIR", help="A folder of PNG files per cell.", parser=folder_out)
]
Figures = Annotated[
    Path | None,
    typer.Option(
        "--figures", metavar="DIR", help="The report's plots as SVG and PDF, its tables as LaTeX.", parser=folder_out
    ),
]
Npz = Annotated[
    Path | None,
    typer.Option(
        "--npz", metavar="FILE", help="arr_0 and arr_1, as ADM's evaluator reads them.", parser=file_out(".npz")
    ),
]
Store = Annotated[Path, typer.Option("--store", metavar="DIR", help="Where baselines are kept.", parser=folder_out)]
