"""Files that are not images: what they are, told by content, and what to do with them."""

from __future__ import annotations

import shlex
from collections import Counter
from pathlib import Path
from typing import NoReturn

from ...checkpoints.torch_format import BROKEN, Inert, Program, StoredTensor, describe, is_torch, read_torch_file
from ...errors import ImageError, InputError

MOMENTS = ("mu", "sigma")
QUANTISE = "quantise float images in [0, 1] with arbench.images.to_uint8, which names its rounding"
SAVED = "save uint8 images on 0..255, (N, H, W, 3) or (N, 3, H, W), with numpy.save"
HEAD = 64
"""Bytes that tell most files."""


def refuse_statistics(path: Path) -> NoReturn:
    raise ImageError(
        f"{path} holds statistics, not images",
        "it has mu and sigma, the moments of features: a reference can be that, samples cannot",
        f"arbench score SAMPLES --reference {shlex.quote(str(path))}",
    )


def refuse_weights(path: Path, count: int, what: str) -> NoReturn:
    raise ImageError(
        f"{path} holds weights, not images",
        f"it is {what} of {count} tensors",
        f"arbench run SUITE --weights NAME={shlex.quote(str(path))}",
    )


def refuse(path: Path, head: bytes, kinds: str) -> NoReturn:
    """Raises `ImageError` or `InputError` for a file that no reader takes."""
    if head[8:9] == b"{" and len(head) > 8:
        length = int.from_bytes(head[:8], "little")
        with path.open("rb") as file:
            file.seek(8)
            found = file.read(min(length, 1 << 24)).count(b"data_offsets")
        refuse_weights(path, found, "a safetensors file")
    if head.startswith(b"\x80"):
        _refuse_pickle(path)
    if head.startswith(b"version https://git-lfs"):
        raise InputError(f"{path} is a Git LFS pointer, not the file", "only its address was copied", "git lfs pull")
    if head.lstrip()[:1] == b"<":
        why = "a download that asks for a login, or an address that has moved, gives such a page"
        raise InputError(f"{path} is a web page, not images", why, "download it again")
    if not head:
        raise InputError(f"{path} is empty", "nothing was written, or the disk was full", "write or copy it again")
    if head.lstrip()[:1] in (b"{", b"[") and path.suffix.lower() in (".json", ".jsonl"):
        raise ImageError(f"{path} is JSON, not images", "images are files, archives, arrays or tables", f"name {kinds}")
    if path.suffix.lower() in (".csv", ".tsv", ".txt"):
        what = f"{path} is text, not images"
        raise ImageError(what, "a list of names is not read", f"name the folder of the images: {path.parent}")
    raise InputError(f"cannot tell what {path} is", f"it is none of {kinds}", "write kind:PATH")


def _refuse_pickle(path: Path) -> NoReturn:
    from ..statistics import pickles

    try:
        content = pickles.load(path)
    except InputError:
        content = None
    held = content if isinstance(content, dict) else {}
    if set(MOMENTS) <= held.keys() or any(isinstance(v, dict) and set(MOMENTS) <= v.keys() for v in held.values()):
        refuse_statistics(path)
    what = f"a dict of {', '.join(map(str, list(held)[:6]))}" if held else "Python objects"
    raise ImageError(f"{path} is a pickle, not images", f"it holds {what}; pickles are never executed", SAVED)


def holds_images(path: Path) -> bool:
    """Whether a file of `torch.save` holds images rather than statistics or features."""
    try:
        with path.open("rb") as file:
            if not is_torch(path, file.read(HEAD)):
                return False
        content = read_torch_file(path).content
    except (*BROKEN, Program):  # its reader says what is wrong
        return False
    values = content.values() if isinstance(content, dict) else [content]
    return any(isinstance(value, StoredTensor) and len(value.shape) == 4 for value in values)


def refuse_torch(path: Path, content: object) -> NoReturn:
    """For a torch file whose content is not an array of uint8 images."""
    what = f"{path} is a torch file, but not of images"
    if isinstance(content, StoredTensor):
        why = f"it is {describe(content)}; images are uint8 (N, 3, H, W)"
        raise ImageError(what, why, advice(content.shape, content.dtype))
    if isinstance(content, dict) and not isinstance(content, Inert):
        if set(MOMENTS) <= content.keys():
            refuse_statistics(path)
        tensors = {key: value for key, value in content.items() if isinstance(value, StoredTensor)}
        pictures = [value for value in tensors.values() if len(value.shape) == 4 and value.shape[1] in (1, 3)]
        if len(pictures) == 1 and len(tensors) <= 3:
            why = f"its array is {describe(pictures[0])}; images are uint8 (N, 3, H, W)"
            raise ImageError(what, why, advice(pictures[0].shape, pictures[0].dtype))
        nested = any(isinstance(value, dict) and value for value in content.values())
        if len(tensors) > 1 or nested:
            names = ", ".join(map(str, list(content)[:6]))
            raise ImageError(
                f"{path} holds weights, not images",
                f"it is a torch file with {names}",
                f"arbench run SUITE --weights NAME={shlex.quote(str(path))}",
            )
    count = f" of {len(content)}" if isinstance(content, list | tuple) else ""
    why = f"it is a {describe(content)}{count}; images are one uint8 tensor (N, 3, H, W)"
    raise ImageError(what, why, "torch.save(torch.stack(images), FILE), or " + SAVED)


def advice(shape: tuple[int, ...], dtype: str) -> str:
    """What to do with an array that is not one of images."""
    if len(shape) == 2:
        return "these look like features, a vector per row: name the images that they are of"
    if len(shape) == 4 and "float" in dtype:
        return QUANTISE
    if len(shape) == 3 and 3 in (shape[0], shape[2]):
        return "this looks like one image: put it into an array of several, (N, 3, H, W)"
    if len(shape) == 3:
        return "grey images need an axis for their channel: numpy.save(FILE, images[..., None])"
    return SAVED


def inside(folder: Path) -> tuple[str, str]:
    """What a folder without images has instead, and what to name."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())[:10_000]
    if not files:
        return "it is empty", "check the path"
    counts = Counter(path.suffix.lower() or path.name for path in files)
    found = ", ".join(f"{count} {suffix}" for suffix, count in counts.most_common(4))
    if any(path.name == "features.json" for path in files):
        return f"it holds features that arbench has extracted ({found})", f"arbench score {folder} --reference REF"
    able = [path for path in files if path.suffix.lower() in (".npz", ".npy", ".pt", ".pth", ".zip", ".parquet")]
    return f"it holds {found}", f"name the file itself: {able[0]}" if able else "check the path"
