"""What the metric tools do with odd files, and what arbench does under their names: the tables of docs/odd-files.md.

    python benchmarks/odd_files.py [--write docs/odd-files.md]

For each kind a folder of plain files with some odd ones is made, and listed and read by each tool's own code and by
arbench: which files are taken, in which order, with which pixels, before any resizing. A few seconds.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from glob import glob
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cleanfid.utils
import numpy as np
import torch_fidelity.datasets
import torch_fidelity.utils
from numpy.typing import NDArray
from PIL import Image

from arbench.data.sources import open_stream
from arbench.errors import ArbenchError
from arbench.evaluate.odd_files import TEXT_ORDER, flags_of, in_text_order, more_files

Pixels = NDArray[Any]
Save = Callable[[Path], object]
SIDE = 24
BEGIN, END = "<!-- generated: odd files -->", "<!-- end -->"


@dataclass(frozen=True, slots=True)
class Taken:
    """The files that a tool takes, in its order, each with its pixels (H, W, 3), or why it cannot be read."""

    files: Mapping[str, Pixels | str]


# ---- the tools -------------------------------------------------------------------------------------------------------


def _each(paths: Sequence[str], folder: Path, read: Callable[[int], Pixels]) -> Taken:
    found: dict[str, Pixels | str] = {}
    for index, path in enumerate(paths):
        key = str(Path(path).relative_to(folder.resolve()))
        try:
            found[key] = read(index)
        except Exception as error:  # whatever the tool's reader raises is what its user sees
            found[key] = type(error).__name__
    return Taken(found)


def by_torch_fidelity(folder: Path) -> Taken:
    """Its defaults: no sub-folders, `png,jpg,jpeg`."""
    paths = torch_fidelity.utils.glob_samples_paths(str(folder.resolve()), False, "png,jpg,jpeg", "jpg,jpeg", False)
    images = torch_fidelity.datasets.ImagesPathDataset(paths)
    return _each(paths, folder, lambda index: images[index].numpy().transpose(1, 2, 0))


def by_clean_fid(folder: Path) -> Taken:
    """What enters its resizing. The listing is inside a function that also runs the network: its two lines, run here
    with its own list of suffixes."""
    # pathlib's glob would also give hidden files
    below = str(folder.resolve() / "**" / "*.")
    paths = sorted(path for suffix in cleanfid.utils.EXTENSIONS for path in glob(below + suffix, recursive=True))  # noqa: PTH207
    images = cleanfid.utils.ResizeDataset(paths, mode="clean")
    seen: list[Pixels] = []
    images.custom_image_tranform = lambda pixels: (seen.append(pixels), np.zeros((2, 2, 3), np.uint8))[1]

    def read(index: int) -> Pixels:
        seen.clear()
        images[index]
        return seen[0]

    return _each(paths, folder, read)


def by_pytorch_fid(folder: Path) -> Taken:
    from pytorch_fid import fid_score

    found = (path for suffix in fid_score.IMAGE_EXTENSIONS for path in folder.resolve().glob(f"*.{suffix}"))
    paths = sorted(found)
    images = fid_score.ImagePathDataset(paths)
    return _each([str(path) for path in paths], folder, lambda index: np.asarray(images[index]))


TOOLS: Mapping[str, Callable[[Path], Taken]] = {
    "torch-fidelity": by_torch_fidelity,
    "clean-fid": by_clean_fid,
    "pytorch-fid": by_pytorch_fid,
}
"""Convention -> how its tool reads a folder."""

# ---- arbench ---------------------------------------------------------------------------------------------------------


def by_us(folder: Path, convention: str) -> tuple[Taken, tuple[str, ...]]:
    """What is read under a convention, in the order in which its vectors enter order-dependent metrics; and flags."""
    stream, pictures, found = open_stream(folder), [], {}
    try:
        for picture in stream:
            pictures.append(picture)
            found[picture.key] = picture.image.transpose(1, 2, 0)
    except ArbenchError as error:
        return Taken({"": error.why or error.what}), ()
    features: Any = SimpleNamespace(tally=stream.tally, pictures=pictures)
    flags = [*flags_of(features, "samples"), *more_files([convention], {"samples": features})]
    order = np.arange(len(pictures), dtype=np.float32)[:, None]
    if convention in TEXT_ORDER:
        order = in_text_order(order, features)
    keys = [pictures[int(place)].key for place in order[:, 0]]
    return Taken({key: found[key] for key in keys}), tuple(flag.code for flag in flags)


def difference(theirs: Taken, ours: Taken, flags: Sequence[str]) -> str:
    """What differs, in a few words; with the flags that say so on the number."""
    if "" in ours.files:
        return f"error: {ours.files['']}"
    words = []
    only_theirs, only_ours = theirs.files.keys() - ours.files, ours.files.keys() - theirs.files.keys()
    if only_theirs:
        words.append(f"{len(only_theirs)} not read here")
    if only_ours:
        words.append(f"{len(only_ours)} more read here")
    both = [key for key in theirs.files if key in ours.files]
    failed = [theirs.files[key] for key in both if isinstance(theirs.files[key], str)]
    if failed:
        words.append(f"read here, where the tool ends with {failed[0]}")
    read = [key for key in both if not isinstance(theirs.files[key], str)]
    apart = max((_apart(theirs.files[key], ours.files[key]) for key in read), default=0)
    words.append(f"pixels up to {apart} apart" if apart else "same pixels" if read else "")
    if both != [key for key in ours.files if key in theirs.files]:
        words.append("another order")
    told = ", ".join(f"`{flag}`" for flag in flags)
    return "; ".join(word for word in words if word) + (f" ({told})" if told else "")


def _apart(one: Any, other: Any) -> int:
    if one.shape != other.shape:
        return 255
    return int(np.abs(one.astype(np.int64) - other.astype(np.int64)).max())


def described(taken: Taken, of: int) -> str:
    failed = sum(isinstance(pixels, str) for pixels in taken.files.values())
    return f"{len(taken.files)} of {of} files" + (f", {failed} of them an error" if failed else "")


# ---- the odd files ---------------------------------------------------------------------------------------------------


def noise(seed: int, *shape: int, dtype: Any = np.uint8) -> Any:
    return np.random.default_rng(seed).integers(0, np.iinfo(dtype).max, shape, dtype=dtype)


def picture(seed: int, side: int = SIDE) -> Image.Image:
    return Image.fromarray(noise(seed, side, side, 3))


def _transparent_palette(path: Path) -> None:
    image = picture(3).quantize(16)
    image.save(path, transparency=0)


def _rotated(path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(noise(5, SIDE, SIDE // 2, 3)).save(path, exif=exif, quality=95)


def _with_alpha(mode: str) -> Save:
    bands = {"RGBA": 4, "LA": 2}[mode]
    return lambda path: Image.fromarray(noise(2, SIDE, SIDE, bands), mode).save(path)


def _as(suffix: str, mode: str = "RGB") -> dict[str, Save]:
    return {f"b.{suffix}": lambda path: picture(4).convert(mode).save(path)}


KINDS: Mapping[str, Mapping[str, Save]] = {
    "RGB PNG": {},
    "RGBA PNG": {"b.png": _with_alpha("RGBA")},
    "grey PNG with alpha (LA)": {"b.png": _with_alpha("LA")},
    "palette PNG": {"b.png": lambda path: picture(3).quantize(16).save(path)},
    "palette PNG with transparency": {"b.png": _transparent_palette},
    "grey PNG": {"b.png": lambda path: picture(4).convert("L").save(path)},
    "1-bit PNG": {"b.png": lambda path: picture(4).convert("1").save(path)},
    "16-bit grey PNG": {"b.png": lambda path: Image.fromarray(noise(6, SIDE, SIDE, dtype=np.uint16)).save(path)},
    "CMYK JPEG": {"b.jpg": lambda path: picture(4).convert("CMYK").save(path)},
    "EXIF-rotated JPEG": {"b.jpg": _rotated},
    "names without leading zeros": {f"{n}.png": lambda path, n=n: picture(n).save(path) for n in range(1, 12)},
    "upper-case suffix .PNG": {"b.PNG": lambda path: picture(4).save(path)},
    "upper-case suffix .TIF": {"b.TIF": lambda path: picture(4).save(path)},
    "files in sub-folders": {f"n/{n}.png": lambda path, n=n: picture(n).save(path) for n in (7, 8)},
    "mixed sizes": {"b.png": lambda path: picture(9, 31).save(path)},
    "a hidden file .b.png": {".b.png": lambda path: picture(4).save(path)},
    "ppm": _as("ppm"),
    "pgm": _as("pgm", "L"),
    "tif": _as("tif"),
    "bmp": _as("bmp"),
    "webp": {"b.webp": lambda path: picture(4).save(path, lossless=True)},
    "gif": {"b.gif": lambda path: picture(4).quantize(16).save(path)},
    "jfif": {"b.jfif": lambda path: picture(4).save(path, "JPEG")},
    "npy": {"b.npy": lambda path: np.save(path, noise(4, SIDE, SIDE, 3))},
    "a text file named .png": {"b.png": lambda path: path.write_text("no picture")},
    "a JPEG cut short": {"b.jpg": lambda path: _cut(path)},
}
"""Kind -> file name -> how it is written. Three plain PNG files stand beside them."""


def _cut(path: Path) -> None:
    picture(4, 64).save(path, "JPEG")
    path.write_bytes(path.read_bytes()[:900])


def rows(kinds: Sequence[str] = tuple(KINDS)) -> list[list[str]]:
    """A row per kind: the kind, then for each tool what it takes and how arbench differs under its name."""
    found = []
    for kind in kinds:
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place)
            for index, name in enumerate(("a.png", "c.png", "d.png")):
                picture(100 + index).save(folder / name)
            for name, save in KINDS[kind].items():
                (folder / name).parent.mkdir(exist_ok=True)
                save(folder / name)
            count = sum(path.is_file() for path in folder.rglob("*"))
            row = [kind]
            for convention, read in TOOLS.items():
                theirs = read(folder)
                ours, flags = by_us(folder, convention)
                row += [described(theirs, count), difference(theirs, ours, flags)]
            found.append(row)
    return found


def table(found: Sequence[Sequence[str]]) -> str:
    heads = ["kind"]
    for tool in TOOLS:
        heads += [f"{tool} {importlib.metadata.version(tool)} takes", "arbench under its name"]
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in found)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", type=Path, metavar="FILE", help="put the table in place of the one in this page")
    arguments = parser.parse_args()
    made = table(rows())
    if arguments.write is None:
        print(made)
        return
    before, _, rest = arguments.write.read_text(encoding="utf-8").partition(BEGIN)
    arguments.write.write_text(f"{before}{BEGIN}\n{made}\n{END}{rest.partition(END)[2]}", encoding="utf-8")


if __name__ == "__main__":
    main()
