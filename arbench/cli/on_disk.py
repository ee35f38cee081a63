"""The verbs that are of the folders of runs: join shards, check what is on disk, delete what nothing needs."""

from pathlib import Path
from typing import Annotated

import typer

from arbench.cli.options import Json, Track
from arbench.cli.places import here, whole

Run = Annotated[Path, typer.Argument(metavar="DIR", help="The folder of the run.", parser=whole)]


def merge(
    folders: Annotated[
        list[Path],
        typer.Argument(metavar="DIR...", help="Folders that run --shard or score --shard wrote.", parser=whole),
    ],
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="DIR", help="Where the whole goes; shards may follow.", parser=here)
    ],
    track: Track = None,
) -> None:
    """Join the shards of a run, or of features."""
    from arbench.cli.merge import merge

    raise typer.Exit(merge(folders, out, track))


def verify(folder: Run, json_output: Json = False) -> None:
    """Check the files of a run by their digests."""
    from arbench.cli.verify import verify

    raise typer.Exit(verify(folder, json_output))


def gc(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The folder of the run.", parser=here)],
    yes: Annotated[bool, typer.Option("--yes", help="Delete it. Without: only say what would be.")] = False,
    json_output: Json = False,
) -> None:
    """Delete what nothing needs from the folder of a run."""
    from arbench.cli.gc import gc

    raise typer.Exit(gc(folder, yes, json_output))


VERBS = (merge, verify, gc)
"""In the order of `arbench --help`."""
