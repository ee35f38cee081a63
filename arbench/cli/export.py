"""`arbench export`: what a run keeps for other tools; here its samples, as images or as one npz."""

from __future__ import annotations

import errno
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.lib import format as npy
from rich.progress import track

from arbench.cli.places import results
from arbench.errors import OK, InputError, StoreError, UsageError, counted
from arbench.remote.address import is_address
from arbench.run.store import read_run
from arbench.score.cells import CellStream, SampledCell, cells_of, images_missing, is_run
from arbench.terminal import PlainConsole


def export(
    runs: Sequence[str],
    images: Path | None,
    npz: Path | None,
    figures: Path | None,
    layout: str | None,
    out: Path | None,
    track: str | None,
) -> int:
    """Does the one thing that is asked for: samples into `images` or `npz`, `figures`, or results in a `layout`."""
    asked = [value for value in (images, npz, figures, layout) if value is not None]
    if len(asked) != 1:
        why = "one of --images, --npz, --figures and --format"
        raise UsageError("name what is exported, and where to", why, "arbench export RUN --images DIR")
    if layout is None and (out is not None or track is not None):
        raise UsageError("--out and --track go with --format", "", "arbench export RUN --format mlflow --track URI")
    if layout is not None:
        from arbench.cli.export_results import export_results

        return export_results([results(run) for run in runs], layout, out, track)
    if figures is not None:
        from arbench.cli.export_figures import export_figures

        return export_figures([results(run) for run in runs], figures)
    if len(runs) > 1:
        raise UsageError("several runs", "samples are exported of one at a time", f"arbench export {runs[0]} ...")
    return _samples(runs[0], images, npz)


def _samples(run: str, images: Path | None, npz: Path | None) -> int:
    """Every cell's images below `images`, or one cell's into the file `npz`."""
    if not is_run(run):
        if not is_address(run):
            read_run(Path(run.partition(":")[0]))
        raise InputError(f"{run} is not the folder of a run", "it has no run.json with a plan", "arbench ls runs")
    cells = cells_of(run)
    for cell in cells:
        if cell.images_kept < cell.count:
            raise images_missing(cell)
    console = PlainConsole()
    if images is not None:
        for cell in cells:
            place = images if len(cells) == 1 else images / cell.cell.result_id
            _folder(cell, place)
            console.print(f"{cell.label}: {counted(cell.count, 'image')} in {place}", soft_wrap=True)
        return OK
    assert npz is not None
    if len(cells) > 1:
        names = ", ".join(each.cell.result_id for each in cells)
        raise UsageError(f"{run} has {len(cells)} cells with samples", f"one npz holds one: {names}", f"{run}:CELL")
    _npz(cells[0], npz)
    console.print(f"{cells[0].label}: {counted(cells[0].count, 'image')} in {npz}", soft_wrap=True)
    return OK


def _folder(cell: SampledCell, place: Path) -> None:
    """PNG files named by their sample ids, all in one folder: some numbers of other tools depend on their order."""
    from PIL import Image

    if place.exists() and (not place.is_dir() or any(place.iterdir())):
        what = f"{place} is not empty" if place.is_dir() else f"{place} is not a folder"
        raise UsageError(what, "samples go to a folder of their own", "name another --images DIR")
    stream, errors = CellStream(cell), PlainConsole(stderr=True)
    target = place.resolve()
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        # beside it, and renamed when all are there: the images of two exports never lie in one folder
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name[:100]}.", suffix=".tmp") as beside:
            whole = Path(beside) / "images"
            whole.mkdir()
            for picture in track(stream, f"writing {place}", cell.count, transient=True, console=errors):
                Image.fromarray(picture.image.transpose(1, 2, 0)).save(whole / f"{picture.index:06d}.png")
            whole.rename(target)
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST) and target.parent.is_dir():
            why = "another process has just written samples there"
            raise UsageError(f"{place} is not empty", why, "name another --images DIR") from error
        why = error.strerror or str(error)
        raise StoreError(f"cannot write images to {place}", why, "make room, or name another --images DIR") from error


def _npz(cell: SampledCell, path: Path) -> None:
    """arr_0: uint8 (N, H, W, 3), arr_1: int64 (N,) class ids where there are any; written image by image."""
    import zipfile

    from arbench.files import replacing

    if path.suffix != ".npz":
        raise UsageError(f"{path} does not end in .npz", "", f"--npz {path}.npz")
    labels: list[int] = []
    height, width = (int(side) for side in cell.units[0]["size"])

    def rows() -> Iterator[bytes]:
        stream, errors = CellStream(cell), PlainConsole(stderr=True)
        for picture in track(stream, f"writing {path}", cell.count, transient=True, console=errors):
            if picture.label is not None:
                labels.append(picture.label)
            yield np.ascontiguousarray(picture.image.transpose(1, 2, 0)).tobytes()

    with replacing(path) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        with archive.open("arr_0.npy", "w", force_zip64=True) as member:
            shape = (cell.count, height, width, 3)
            npy.write_array_header_1_0(member, {"descr": "|u1", "fortran_order": False, "shape": shape})
            for row in rows():
                member.write(row)
        if len(labels) == cell.count:
            with archive.open("arr_1.npy", "w") as member:
                npy.write_array(member, np.array(labels, dtype=np.int64), allow_pickle=False)
