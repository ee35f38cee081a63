"""Reference statistics that others publish: name, address, format, and what is known of the images. Data only.

Facts are those of the publishers: guided-diffusion's evaluations/README.md, the table of precomputed data sets in the
README of clean-fid 0.1.35, and EDM2's README. None of them publishes digests.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ...errors import UnknownName

if TYPE_CHECKING:
    from .checks import Split
    from .model import Format

_ADM = "https://openaipublic.blob.core.windows.net/diffusion/jul-2021/ref_batches"
_CLEAN = "https://www.cs.cmu.edu/~clean-fid/stats"
_EDM2 = "https://nvlabs-fi-cdn.nvidia.com/edm2/dataset-refs"


@dataclass(frozen=True, slots=True)
class PublishedFile:
    """A file under its official name, which says what it holds. `sha256` is "" where none is published."""

    file: str
    url: str
    sha256: str = ""


@dataclass(frozen=True, slots=True)
class Published:
    """One reference.

    outputs: the "recipe:output" of its moments. files: the first holds the moments, others lie beside it and add to
    it. images: number of images behind the moments, None where it is not published. held: number of images that the
    file itself holds. expected: number of samples behind published numbers on it.
    """

    name: str
    title: str
    format: Format
    pixels: int
    split: Split
    outputs: tuple[str, ...]
    files: tuple[PublishedFile, ...]
    images: int | None = None
    held: int | None = None
    expected: int | None = None

    @property
    def family(self) -> str:
        return self.name.partition(":")[0]


def _adm() -> Iterator[Published]:
    """Moments over the whole training set, with 10,000 of its images for precision and recall."""
    files = {
        "imagenet-64": ("ImageNet 64 train (ADM)", 64, "imagenet/64/VIRTUAL_imagenet64_labeled.npz"),
        "imagenet-128": ("ImageNet 128 train (ADM)", 128, "imagenet/128/VIRTUAL_imagenet128_labeled.npz"),
        "imagenet-256": ("ImageNet 256 train (ADM)", 256, "imagenet/256/VIRTUAL_imagenet256_labeled.npz"),
        "imagenet-512": ("ImageNet 512 train (ADM)", 512, "imagenet/512/VIRTUAL_imagenet512.npz"),
        "lsun-bedroom-256": ("LSUN bedroom 256 train (ADM)", 256, "lsun/bedroom/VIRTUAL_lsun_bedroom256.npz"),
        "lsun-cat-256": ("LSUN cat 256 train (ADM)", 256, "lsun/cat/VIRTUAL_lsun_cat256.npz"),
        "lsun-horse-256": ("LSUN horse 256 train (ADM)", 256, "lsun/horse/VIRTUAL_lsun_horse256.npz"),
    }
    outputs = ("inception/tf1:pool3", "inception/tf1:spatial")
    for name, (title, pixels, path) in files.items():
        file = PublishedFile(path.rpartition("/")[2], f"{_ADM}/{path}")
        yield Published(f"adm:{name}", title, "adm", pixels, "train", outputs, (file,), held=10_000, expected=50_000)


def _clean_fid() -> Iterator[Published]:
    """Of mode "clean"; with the features themselves, for KID, where clean-fid offers them."""
    sets: tuple[tuple[str, int, str, Split, int, bool], ...] = (
        ("cifar10", 32, "train", "train", 50_000, False),
        ("cifar10", 32, "test", "val", 10_000, False),
        ("ffhq", 1024, "trainval", "unknown", 50_000, False),
        ("ffhq", 1024, "trainval70k", "unknown", 70_000, False),
        ("ffhq", 256, "trainval", "unknown", 50_000, False),
        ("ffhq", 256, "trainval70k", "unknown", 70_000, False),
        ("lsun_church", 256, "train", "train", 50_000, False),
        ("lsun_church", 256, "trainfull", "train", 126_227, False),
        ("lsun_horse", 256, "train", "train", 50_000, False),
        ("lsun_horse", 256, "trainfull", "train", 2_000_340, False),
        ("lsun_cat", 256, "train", "train", 50_000, False),
        ("lsun_cat", 256, "trainfull", "train", 1_657_264, False),
        ("afhq_cat", 512, "train", "train", 5_153, True),
        ("afhq_dog", 512, "train", "train", 4_739, True),
        ("afhq_wild", 512, "train", "train", 4_738, True),
        ("brecahad", 512, "train", "train", 1_944, True),
        ("metfaces", 1024, "train", "train", 1_336, True),
        ("horse2zebra", 256, "test", "val", 140, False),
        ("cat2dog", 256, "test", "val", 500, False),
    )
    for name, pixels, part, split, images, features in sets:
        stems = [f"{name}_clean_{part}_{pixels}", *([f"{name}_clean_{part}_{pixels}_kid"] if features else [])]
        files = tuple(PublishedFile(f"{stem}.npz", f"{_CLEAN}/{stem}.npz") for stem in stems)
        title, outputs = f"{name} {pixels} {part} (clean-fid)", ("inception/clean:pool3",)
        yield Published(
            f"clean-fid:{name}-{pixels}-{part}", title, "clean-fid", pixels, split, outputs, files, images=images
        )


def _edm2() -> Iterator[Published]:
    outputs = ("inception/grid-sample:pool3", "dinov2/edm2:cls")
    for pixels in (64, 512):
        file = PublishedFile(f"img{pixels}.pkl", f"{_EDM2}/img{pixels}.pkl")
        title = f"ImageNet {pixels} train (EDM2)"
        yield Published(f"edm2:img{pixels}", title, "edm2", pixels, "train", outputs, (file,), expected=50_000)


PUBLISHED: dict[str, Published] = {entry.name: entry for entry in (*_adm(), *_clean_fid(), *_edm2())}
FAMILIES = tuple(dict.fromkeys(entry.family for entry in PUBLISHED.values()))


def is_name(source: object) -> bool:
    """Whether a source names published statistics, rightly or with a slip in what follows the colon."""
    if not isinstance(source, str) or source.partition(":")[0] not in FAMILIES:
        return False
    return ":" in source and not Path(source).exists()


def known(name: str) -> Published:
    """The entry of this name. Raises `UnknownName`."""
    if name not in PUBLISHED:
        raise UnknownName("reference", name, PUBLISHED)
    return PUBLISHED[name]
