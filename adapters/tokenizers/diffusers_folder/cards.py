"""A card from a folder of `diffusers`: what its configuration says, and what the network makes of an empty image.

The network is built without memory (on PyTorch's `meta` device), so no weight is read.
"""

from __future__ import annotations

import functools
import hashlib
import json
import re
from pathlib import Path
from typing import Any

from arbench.errors import InputError, MissingWeights, PrerequisiteError, UsageError
from arbench.protocols import Card, Checkpoint

AUTOENCODERS = re.compile(r"Autoencoder|VQModel")
SIDE = 256
"""Side of the images of a model that does not say for which it was made."""


def card(name: str) -> Card:
    """The card of `diffusers:NAME`: a folder with a `config.json` or `model_index.json`, or a name on Hugging Face.

    Raises InputError for a folder of another kind, MissingWeights for a name that is not in the local cache.
    """
    folder = _component(_folder(name))
    state = (folder / "config.json").stat()
    return _card(name, folder, (state.st_size, state.st_mtime_ns, state.st_ctime_ns, state.st_ino))


def _folder(name: str) -> Path:
    path = Path(name)
    if path.exists() or name.startswith((".", "/", "~")) or name.count("/") != 1:
        if not path.is_dir():
            raise InputError(f"no folder {name}", "diffusers:PATH names a folder of that library", "check the path")
        return path.absolute()
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(name, local_files_only=True))
    except (LocalEntryNotFoundError, HFValidationError) as error:
        raise MissingWeights(
            f"no folder {name}, and no {name} in the cache of Hugging Face",
            str(error).partition("\n")[0],
            f"hf download {name}, or diffusers:FOLDER",
        ) from None


def _component(folder: Path) -> Path:
    """The folder of the autoencoder: the one given, or the part of a pipeline."""
    if (folder / "config.json").is_file():
        return folder
    index = folder / "model_index.json"
    if not index.is_file():
        why = "it holds neither config.json nor model_index.json"
        raise InputError(f"{folder} is not a folder of diffusers", why, "name a folder that save_pretrained wrote")
    parts = [
        part
        for part, value in _json(index).items()
        if isinstance(value, list) and len(value) == 2 and AUTOENCODERS.search(str(value[1]))
    ]
    found = [part for part in parts if (folder / part / "config.json").is_file()]
    if len(found) != 1:
        why = f"its autoencoders: {', '.join(found)}" if found else "model_index.json names none that is there"
        raise InputError(f"{folder} has not one autoencoder", why, "name the folder of one: diffusers:FOLDER/vae")
    return folder / found[0]


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read {path}", str(error), "save the folder again") from None
    if not isinstance(found, dict):
        raise InputError(f"cannot read {path}", "it is not a JSON object", "save the folder again")
    return found


@functools.lru_cache(maxsize=16)
def _card(name: str, folder: Path, state: tuple[int, int, int, int]) -> Card:
    config = _json(folder / "config.json")
    try:
        import diffusers
    except ImportError as error:
        raise PrerequisiteError(
            f"diffusers:{name} needs the library", str(error), "pip install 'arbench[diffusers]'"
        ) from None
    kind = getattr(diffusers, str(config.get("_class_name")), None)
    if kind is None or not AUTOENCODERS.search(kind.__name__):
        raise UsageError(
            f"diffusers:{name} is not an autoencoder",
            f"its class is {config.get('_class_name')}; diffusers is {diffusers.__version__}",
            "name the folder of a class Autoencoder... or VQModel",
        )
    from .shapes import measured

    found = measured(kind, config, _side(config))
    return Card(
        name=f"diffusers:{name}",
        kind="tokenizer",
        family="tokenizers",
        implementation=f"{__package__}.adapter:DiffusersAutoencoder",
        summary=f"{kind.__name__} of diffusers",
        resolution=found.side,
        multiple=found.multiple,
        config={**config, "frames": found.frames},
        version=int(hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()[:8], 16),
        tokens=found.tokens,
        parameters=found.parameters,
        code_licence="Apache-2.0",
        weights_licence="not stated in the folder",
        source=f"diffusers {diffusers.__version__}",
        checkpoint=Checkpoint(file=str(folder), source="the folder that is named", folder=True),
    )


def _side(config: dict[str, Any]) -> int:
    size = config.get("sample_size") or config.get("encoder_input_size")
    return size if isinstance(size, int) and size > 1 else SIDE
