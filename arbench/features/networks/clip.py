"""OpenAI's CLIP (Radford et al., arXiv 2103.00020) in open_clip's networks: images for CLIP-FID and CMMD, and prompts.

A weight file may be OpenAI's own TorchScript archive (ViT-B-32.pt, ViT-L-14-336px.pt) or a state dict in open_clip's
names (.pt, .bin, .safetensors). All are read without running code in them: of an archive only the tensors are taken,
see `arbench.features.networks.torchscript`. Nothing is ever downloaded.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ...errors import InputError, UnknownName
from ..extractor import FeatureExtractor, Mode
from ..to_device import batch_for
from ..weight_files import WeightFile, Weights
from .checkpoint import assign, check_names, read_state_dict
from .pil_resize import resized
from .pixels import CLIP_MEAN, CLIP_STD, constant, standardise
from .precision import precision

NETWORKS = {
    "clip-b32/clean": ("clip-vitb32", "ViT-B-32-quickgelu"),
    "clip-b32/hf": ("clip-vitb32", "ViT-B-32-quickgelu"),
    "clip-b32/llamagen": ("clip-vitb32", "ViT-B-32-quickgelu"),
    "clip-l14/hf": ("clip-vitl14", "ViT-L-14-quickgelu"),
    "clip-l14-336/cmmd": ("clip-vitl14-336", "ViT-L-14-336-quickgelu"),
}
"""Recipe -> weight file in the registry, configuration of open_clip. OpenAI's networks use x sigmoid(1.702 x)."""

CPU_BATCH = 8
MEGABYTES = 24
"""Of activations for one image: the hidden layer of ViT-L/14's MLP at 336 before and after its GELU."""
TEXT_BATCH = {"cpu": 16, "cuda": 256}
IGNORED = ("input_resolution", "context_length", "vocab_size")
"""Sizes that OpenAI's archives keep as tensors."""

Config = Mapping[str, Any]
Tower = Literal["image", "text"]


def load(recipe: str, weights: Weights, device: str, mode: Mode) -> FeatureExtractor:
    """The extractor of one of `NETWORKS`. Raises `MissingWeights`, `CheckpointError`."""
    file, config = _network_of(recipe)
    return Clip(recipe, weights.locate(file), device, mode, config)


def load_text(recipe: str, weights: Weights, device: str, mode: Mode) -> TextEncoder:
    """The encoder of prompts that goes with an image recipe. Raises `MissingWeights`, `CheckpointError`."""
    file, config = _network_of(recipe)
    return TextEncoder(weights.locate(file), device, mode, config)


def _network_of(recipe: str) -> tuple[str, Config]:
    if recipe not in NETWORKS:
        raise UnknownName("CLIP recipe", recipe, NETWORKS, "arbench ls metrics")
    file, name = NETWORKS[recipe]
    return file, configuration(name)


class Clip(FeatureExtractor):
    """Image embeddings as "image" (n, embed_dim).

    clip-b32/clean: the shorter side to 224 by PIL bicubic, centre crop, embedding as it is. hf: the same, the crop one
    pixel further up or left where the excess is 3 modulo 4. llamagen: a square of 256 first, see `as_llamagen`.
    clip-l14-336/cmmd: centre crop to a square, PIL bicubic to 336, embedding of unit length. `config` is an open_clip
    configuration.
    """

    def __init__(self, recipe: str, file: WeightFile, device: str, mode: Mode, config: Config) -> None:
        self.recipe, self.weights, self.mode = recipe, file, mode
        self.device = torch.device(device)
        self.outputs = {"image": int(config["embed_dim"])}
        self.batch = batch_for(self.device, CPU_BATCH, MEGABYTES)
        self.side = int(config["vision_cfg"]["image_size"])
        self.network = tower("image", file, config).to(self.device)

    def prepare(self, images: Tensor) -> Tensor:
        step = STEPS[self.recipe.partition("/")[2]]
        return standardise(step(images, self.side), CLIP_MEAN, CLIP_STD)

    def forward(self, pixels: Tensor) -> dict[str, Tensor]:
        with precision(self.device, self.mode):
            embeddings: Tensor = self.network(pixels)  # (n, embed_dim)
        embeddings = embeddings.float()
        if self.recipe == "clip-l14-336/cmmd":
            embeddings = embeddings / embeddings.norm(dim=1, keepdim=True)
        return {"image": embeddings}


class TextEncoder:
    """Text embeddings (n, embed_dim) of prompts, as the network gives them, in batches of one size."""

    def __init__(self, file: WeightFile, device: str, mode: Mode, config: Config) -> None:
        from open_clip.tokenizer import SimpleTokenizer

        self.weights, self.mode = file, mode
        self.device = torch.device(device)
        self.length = int(config["embed_dim"])
        self.batch = TEXT_BATCH.get(self.device.type, 16)
        self.context = int(config["text_cfg"]["context_length"])
        self.network: Any = tower("text", file, config).to(self.device)
        self._tokenizer = SimpleTokenizer(context_length=self.context)

    def __call__(self, prompts: Sequence[str]) -> NDArray[np.float32]:
        """A prompt with more tokens than fit (75 for OpenAI's networks) is cut, as everywhere; see `too_long`."""
        check_prompts(prompts)
        embeddings = np.empty((len(prompts), self.length), dtype=np.float32)
        for start in range(0, len(prompts), self.batch):
            part = list(prompts[start : start + self.batch])
            tokens = self._tokenizer(part + part[-1:] * (self.batch - len(part))).to(self.device)  # (batch, context)
            with torch.inference_mode(), precision(self.device, self.mode):
                rows = self.network.encode_text(tokens)
            embeddings[start : start + len(part)] = rows[: len(part)].float().cpu().numpy()
        return embeddings

    def too_long(self, prompts: Sequence[str]) -> list[int]:
        """The numbers of the prompts that do not fit and are cut."""
        check_prompts(prompts)
        room = self.context - 2  # start and end
        return [index for index, prompt in enumerate(prompts) if len(self._tokenizer.encode(prompt)) > room]


def configuration(name: str) -> Config:
    """open_clip's configuration of this name, from the files that come with it."""
    import open_clip

    config: Config | None = open_clip.get_model_config(name)
    if config is None:
        raise UnknownName("open_clip network", name, open_clip.list_models(), "pip install --upgrade open-clip-torch")
    return config


def uninitialised(config: Config) -> nn.Module:
    """open_clip's network on the meta device."""
    from open_clip.model import CLIP

    with torch.device("meta"):
        network: nn.Module = CLIP(**config)
    return network


def tower(part: Tower, file: WeightFile, config: Config) -> nn.Module:
    """One half of the network with the weights of `file`, which must hold both, in float32 on the CPU.

    "image": (n, 3, S, S) -> (n, embed_dim). "text": a network whose `encode_text` takes tokens (n, context).
    """
    network: Any = uninitialised(config)
    state = from_official(read_state_dict(file.path))
    check_names(network.state_dict(), state, file, f"CLIP with {config['embed_dim']} dimensions")
    if part == "image":
        prefix = "visual."
        return assign(
            network.visual, {name.removeprefix(prefix): row for name, row in state.items() if name.startswith(prefix)}
        )
    network.visual = nn.Identity()
    assign(network, {name: row for name, row in state.items() if not name.startswith("visual.")})
    # no parameter, so not in the file, and still without numbers
    context = network.positional_embedding.shape[0]
    network.attn_mask = torch.full((context, context), float("-inf")).triu(1)
    return network  # type: ignore[no-any-return]


def from_official(official: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """open_clip's state dict from OpenAI's, whose names are the same, or from open_clip's own."""
    return {name: tensor for name, tensor in official.items() if name not in IGNORED and not name.endswith("attn_mask")}


def shorter_side_then_crop(images: Tensor, side: int) -> Tensor:
    """The shorter side to `side` by bicubic, then the centre, as torchvision's Resize and CenterCrop do it."""
    height, width = size = _shorter_side(images, side)
    return resized(images, size, box=_square(round((width - side) / 2), round((height - side) / 2), side))


def shorter_side_then_crop_down(images: Tensor, side: int) -> Tensor:
    """As `shorter_side_then_crop`, half a pixel of the excess rounded down: Hugging Face's image processor on PIL."""
    height, width = size = _shorter_side(images, side)
    return resized(images, size, box=_square((width - side) // 2, (height - side) // 2, side))


def crop_then_resize(images: Tensor, side: int) -> Tensor:
    """The central square, the odd pixel cut at the right or bottom, to `side` by bicubic."""
    height, width = images.shape[2:]
    short = min(width, height)
    left, top = (width - short) // 2, (height - short) // 2
    return resized(images[:, :, top : top + short, left : left + short], (side, side))


def as_llamagen(images: Tensor, side: int) -> Tensor:
    """LlamaGen's and GigaGAN's evaluation: central square, 256 by Lanczos, to [-1, 1] and back, truncated, then CLIP's.

    The offset of the square is rounded half to even. The way there and back is in float32, in which 63 of the 256
    levels come out one lower.
    """
    height, width = images.shape[2:]
    short = min(width, height)
    left, top = round((width - short) / 2), round((height - short) / 2)
    square = resized(images[:, :, top : top + short, left : left + short], (LLAMAGEN_SIDE, LLAMAGEN_SIDE), "lanczos")
    signed = (square.float() / constant(255, images.device) - 0.5) / 0.5
    return shorter_side_then_crop(((signed + 1) * 127.5).clamp(0, 255).to(torch.uint8), side)


def _shorter_side(images: Tensor, side: int) -> tuple[int, int]:
    """Height and width once the shorter one is `side`."""
    height, width = images.shape[2:]
    short = min(height, width)
    return int(side * height / short), int(side * width / short)


def _square(left: int, top: int, side: int) -> tuple[int, int, int, int]:
    return left, top, left + side, top + side


LLAMAGEN_SIDE = 256
STEPS = {
    "clean": shorter_side_then_crop,
    "hf": shorter_side_then_crop_down,
    "llamagen": as_llamagen,
    "cmmd": crop_then_resize,
}
"""The second part of a recipe's name -> how uint8 (n, 3, H, W) becomes (n, 3, side, side)."""


def check_prompts(prompts: Sequence[str]) -> None:
    if isinstance(prompts, str) or not all(isinstance(prompt, str) for prompt in prompts):
        raise InputError("prompts are a sequence of strings", f"found {type(prompts).__name__}")


def encode_prompts(
    prompts: Sequence[str],
    weights: Weights,
    recipe: str = "clip-b32/clean",
    device: str = "cpu",
    mode: Mode = "parity",
    prefix: str = "",
) -> NDArray[np.float32]:
    """(n, D) embeddings of `prefix` + prompt, by the network of an image recipe.

    Prompts of more than 75 tokens are cut, as in all tools (`TextEncoder.too_long` finds them). Raises
    `MissingWeights`, `CheckpointError`; `InputError` for anything but strings.
    """
    check_prompts(prompts)
    return load_text(recipe, weights, device, mode)([prefix + prompt for prompt in prompts])
