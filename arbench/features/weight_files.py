"""Weight files of feature extractors: known names and digests, where a file is and how to get it. Imports no torch."""

from __future__ import annotations

import functools
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from .. import weights
from ..checkpoints.parts import split
from ..errors import CheckpointError, ConfigError, InputError, MissingWeights, UnknownName
from ..files import state_of
from ..remote.address import is_address
from ..remote.cached import local


@dataclass(frozen=True, slots=True)
class Official:
    """A file as it is published. `sha256` is the whole digest or the beginning of it, "" where none is published."""

    file: str
    url: str
    sha256: str
    bytes: int | None = None

    def matches(self, digest: str) -> bool:
        return bool(self.sha256) and digest.startswith(self.sha256)


@dataclass(frozen=True, slots=True)
class KnownWeights:
    """One set of weights and every file that holds it; the first is the one that `arbench weights fetch` gets."""

    name: str
    what: str
    licence: str
    files: tuple[Official, ...]


def _dinov2(letter: str, network: str, sha256: str = "", size: int | None = None) -> KnownWeights:
    name = f"dinov2_vit{letter}14"
    url = f"https://dl.fbaipublicfiles.com/dinov2/{name}/{name}_pretrain.pth"
    file = Official(f"{name}_pretrain.pth", url, sha256, size)
    return KnownWeights(f"dinov2-vit{letter}14", f"DINOv2 {network} of FD-DINOv2", "Apache-2.0", (file,))


_PTH = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"
_GITHUB = "https://github.com"
_CLIP = "https://openaipublic.azureedge.net/clip/models"
_CLIP_B32 = "40d365715913c9da98579312b702a82c18be219cc2a73407c4526f58eba950af"
_CLIP_L14 = "b8cca3fd41ae0c99ba7e8951adf17d267cdb84cd88be6f7c2e0eca1737a03836"
_CLIP_L14_336 = "3035c92b350959924f9f00213499208652fc7ea050643e8b385c2dac08641f02"

WEIGHTS: dict[str, KnownWeights] = {
    entry.name: entry
    for entry in (
        KnownWeights(
            "inception",
            "Inception-2015 of FID, IS and KID",
            "Apache-2.0",
            (
                Official(
                    "pt_inception-2015-12-05-6726825d.pth",
                    f"{_GITHUB}/mseitzer/pytorch-fid/releases/download/fid_weights/pt_inception-2015-12-05-6726825d.pth",
                    _PTH,
                    95_628_359,
                ),
                Official(
                    "weights-inception-2015-12-05-6726825d.pth",
                    f"{_GITHUB}/toshas/torch-fidelity/releases/download/v0.2.0/weights-inception-2015-12-05-6726825d.pth",
                    _PTH,
                    95_628_359,
                ),
                Official(
                    "inception-2015-12-05.pt",
                    "https://nvlabs-fi-cdn.nvidia.com/stylegan2-ada-pytorch/pretrained/metrics/inception-2015-12-05.pt",
                    "f58cb9b6ec323ed63459aa4fb441fe750cfe39fafad6da5cb504a16f19e958f4",
                    95_607_719,
                ),
                Official(
                    "classify_image_graph_def.pb",
                    "https://openaipublic.blob.core.windows.net/diffusion/jul-2021/ref_batches/classify_image_graph_def.pb",
                    "",
                ),
            ),
        ),
        _dinov2("s", "ViT-S/14"),
        _dinov2("b", "ViT-B/14"),
        _dinov2("l", "ViT-L/14", "d5383ea8f4877b2472eb973e0fd72d557c7da5d3611bd527ceeb1d7162cbf428", 1_217_586_395),
        _dinov2("g", "ViT-g/14"),
        KnownWeights(
            "clip-vitb32",
            "CLIP ViT-B/32 of CLIP-FID and CLIPScore",
            "MIT",
            (
                Official("ViT-B-32.pt", f"{_CLIP}/{_CLIP_B32}/ViT-B-32.pt", _CLIP_B32, 353_976_522),
                # open_clip calls the file of every model alike, so that in one folder it needs this name
                Official("clip-vitb32.safetensors", "", ""),
            ),
        ),
        KnownWeights(
            "clip-vitl14",
            "CLIP ViT-L/14 of torchmetrics' CLIPScore",
            "MIT",
            (
                Official("ViT-L-14.pt", f"{_CLIP}/{_CLIP_L14}/ViT-L-14.pt", _CLIP_L14),
                Official("clip-vitl14.safetensors", "", ""),
            ),
        ),
        KnownWeights(
            "clip-vitl14-336",
            "CLIP ViT-L/14 at 336 pixels of CMMD",
            "MIT",
            (
                Official("ViT-L-14-336px.pt", f"{_CLIP}/{_CLIP_L14_336}/ViT-L-14-336px.pt", _CLIP_L14_336),
                Official("clip-vitl14-336.safetensors", "", ""),
            ),
        ),
        KnownWeights(
            "vgg16",
            "VGG16 of torch-fidelity's precision and recall, LPIPS (vgg) and DISTS",
            "BSD-3-Clause",
            (
                Official(
                    "vgg16-397923af.pth",
                    "https://download.pytorch.org/models/vgg16-397923af.pth",
                    "397923af8e79cdbb6a7127f12361acd7a2f83e06b05044ddf496e83de57a5bf0",
                ),
            ),
        ),
        KnownWeights(
            "sface",
            "SFace, embeddings of faces, as OpenCV runs it",
            "Apache-2.0",
            (
                Official(
                    "face_recognition_sface_2021dec.onnx",
                    f"{_GITHUB}/opencv/opencv_zoo/raw/main/models/face_recognition_sface/face_recognition_sface_2021dec.onnx",
                    "",
                ),
            ),
        ),
        KnownWeights(
            "alexnet",
            "AlexNet of LPIPS (alex)",
            "BSD-3-Clause",
            (
                Official(
                    "alexnet-owt-7be5be79.pth",
                    "https://download.pytorch.org/models/alexnet-owt-7be5be79.pth",
                    "7be5be791159472b1fbf3c69796f7cb30dca7ad8466c2df70058c37116cdee02",
                    244_408_911,
                ),
            ),
        ),
    )
}


@dataclass(frozen=True, slots=True)
class WeightFile:
    """A file that was found. `official` is the name of the registered file with this digest, or "" for any other."""

    name: str
    path: Path
    sha256: str
    official: str = ""


@dataclass(frozen=True, slots=True)
class Weights:
    """Where to look: `given` maps registry names to paths (from `--weights NAME=PATH`), then the cache folder."""

    given: Mapping[str, Path]
    cache: Path

    def find(self, name: str) -> WeightFile | None:
        """The file of this name, or None if it is nowhere.

        A given file may have any digest: then `official` is "". Raises `InputError` for a given path that is not a file
        and `CheckpointError` for a pickle or for a file in the cache that is not what its name says.
        """
        entry = known(name)
        if name in self.given:
            return _given(entry, Path(self.given[name]))
        for official in entry.files:
            path = self.cache / official.file
            if path.is_file():
                digest = sha256(path)
                _check(official, digest, path)
                return WeightFile(name, path, digest, official.file if official.matches(digest) else "")
        return None

    def locate(self, name: str) -> WeightFile:
        """As `find`, but raises `MissingWeights`, saying where to get it."""
        found = self.find(name)
        if found is None:
            entry = known(name)
            first = entry.files[0]
            raise MissingWeights(
                f"no weights {name!r} ({entry.what})",
                f"{first.file} is not in {self.cache}; it comes from {first.url} (licence: {entry.licence})",
                f"arbench weights fetch {name}, or --weights {name}=PATH",
            )
        return found


def known(name: str) -> KnownWeights:
    """The entry of this name. Raises `UnknownName`."""
    if name not in WEIGHTS:
        raise UnknownName("weights", name, WEIGHTS, "arbench weights ls")
    return WEIGHTS[name]


def parse_given(pairs: Sequence[str], adapters: Collection[str]) -> dict[str, str]:
    """{name: path} of ["NAME=PATH", ...], where a name is that of an adapter or of a feature network's weights.

    Raises `ConfigError` for anything else, `UnknownName` for an unknown name.
    """
    given: dict[str, str] = {}
    for pair in pairs:
        name, equals, path = pair.partition("=")
        if not equals or not name or not path:
            raise ConfigError(
                f"--weights {pair!r} is not NAME=PATH", "", f"for instance --weights {next(iter(WEIGHTS))}=FILE"
            )
        if name not in WEIGHTS and name not in adapters:
            raise UnknownName(
                "adapter or feature network", name, [*WEIGHTS, *adapters], "arbench weights ls, arbench ls adapters"
            )
        if name in given:
            raise ConfigError(f"--weights names {name!r} twice", f"{given[name]} and {path}", "leave one out")
        given[name] = path if is_address(path) else str(Path(path).expanduser())
    return given


def refuse_missing(given: Mapping[str, str]) -> None:
    """Raises `InputError` for a file that is not there, though nothing may ask for it: its name or path is a mistake.
    Files at addresses are looked for where they are read."""
    for name, path in given.items():
        if is_address(path):
            continue
        file = Path(path) if name in WEIGHTS else split(path)[0]
        if not (file.is_file() if name in WEIGHTS else file.exists()):
            raise InputError(f"no weight file at {file}", f"given for {name}", "check the path")


def feature_weights(given: Mapping[str, str]) -> Weights:
    """Where feature networks' weights are looked for: those of `given` that are such, then the weights folder."""
    return Weights({name: Path(local(path)) for name, path in given.items() if name in WEIGHTS}, weights.folder())


def _check(official: Official, digest: str, path: Path) -> None:
    """Raises `CheckpointError` if a file that calls itself official has another digest."""
    if official.sha256 and not official.matches(digest):
        raise CheckpointError(
            f"{path} is damaged or another file",
            f"its sha256 begins {digest[:8]}, that of {official.file} begins {official.sha256[:8]}",
            "delete it and fetch it again; weights of your own are named with --weights NAME=PATH",
        )


def _given(entry: KnownWeights, path: Path) -> WeightFile:
    if not path.is_file():
        raise InputError(f"no weight file at {path}", f"given for {entry.name}", "check the path")
    if path.suffix in (".pkl", ".pickle"):
        raise CheckpointError(
            f"{path.name} is a Python pickle, which arbench does not open",
            "opening one can run any code that its author put there",
            f"arbench weights fetch {entry.name}, or name one of: {', '.join(o.file for o in entry.files)}",
        )
    digest = sha256(path)
    official = next((o.file for o in entry.files if o.matches(digest)), "")
    return WeightFile(entry.name, path, digest, official)


def sha256(path: Path) -> str:
    """Hex sha256 of a file, computed once in a process for as long as the file stays what it is."""
    return _digest(path.resolve(), state_of(path))


@functools.lru_cache(maxsize=64)
def _digest(path: Path, state: tuple[int, ...]) -> str:
    return weights.sha256(path)
