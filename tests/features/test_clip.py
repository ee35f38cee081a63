"""CLIP: small random networks of open_clip in every file layout; preparation against torchvision, PIL and clean-fid."""

from __future__ import annotations

import copy
import hashlib
import pickle
import sys
import types
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from numpy.typing import NDArray
from open_clip.model import CLIP
from PIL import Image
from safetensors.torch import save_file
from skimage.data import chelsea
from torch import nn
from torchvision import transforms

from arbench.errors import CheckpointError, InputError
from arbench.features.networks.clip import Clip, TextEncoder, configuration, encode_prompts, load, uninitialised
from arbench.features.networks.torchscript import read_torchscript
from arbench.features.weight_files import WeightFile, Weights

pytestmark = pytest.mark.numerical

CONFIG = {
    "embed_dim": 16,
    "quick_gelu": True,
    "vision_cfg": {"image_size": 64, "layers": 2, "width": 64, "patch_size": 16},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2},
}
PROMPTS = ["a photo of a cat", "Two dogs, running!", "the number 7", "a cat " * 60]


@pytest.fixture(scope="module")
def network() -> Any:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    return CLIP(**CONFIG).eval()


@pytest.fixture(scope="module")
def folder(network: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same weights in four layouts."""
    folder = tmp_path_factory.mktemp("clip")
    torch.save(network.state_dict(), folder / "plain.bin")
    torch.save(
        {"epoch": 3, "state_dict": {f"module.{k}": v for k, v in network.state_dict().items()}}, folder / "train.pt"
    )
    save_file(network.state_dict(), folder / "new.safetensors")
    archive(network, folder / "openai.pt")
    return folder


def archive(network: Any, path: Path) -> None:
    """A TorchScript archive as OpenAI's: sizes kept as tensors, which are not weights."""
    network = copy.deepcopy(network)
    for name, size in (("input_resolution", 64), ("context_length", 77), ("vocab_size", 49408)):
        network.__dict__.pop(name, None)
        network.register_buffer(name, torch.tensor(size))
    example = {"encode_image": torch.rand(1, 3, 64, 64), "encode_text": torch.zeros(1, 77, dtype=torch.long)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch would rather have torch.export
        torch.jit.save(torch.jit.trace_module(network, example, check_trace=False), path)


def weight_file(path: Path) -> WeightFile:
    return WeightFile("clip-vitb32", path, hashlib.sha256(path.read_bytes()).hexdigest())


def extractor(folder: Path, recipe: str = "clip-b32/clean", name: str = "plain.bin") -> Clip:
    ours = Clip(recipe, weight_file(folder / name), "cpu", "parity", CONFIG)
    ours.batch = 2
    return ours


def photograph(height: int = 300, width: int = 451) -> NDArray[np.uint8]:
    return np.ascontiguousarray(chelsea()[:height, :width])


def prepared(ours: Clip, image: NDArray[np.uint8]) -> NDArray[np.float32]:
    tensor = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))[None]
    return ours.prepare(tensor)[0].numpy()  # type: ignore[no-any-return]


MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
SIZES = [(300, 451), (300, 200), (299, 451), (64, 64), (50, 33), (65, 64)]


@pytest.mark.parametrize("name", ["plain.bin", "train.pt", "new.safetensors", "openai.pt"])
def test_every_layout_gives_open_clips_embeddings(network: Any, folder: Path, name: str) -> None:
    ours = extractor(folder, name=name)
    images = list(np.random.default_rng(0).integers(0, 256, (3, 3, 64, 64), dtype=np.uint8))
    with torch.inference_mode():
        expected = network.encode_image(ours.prepare(torch.from_numpy(np.stack(images)))).numpy()
    found = ours(images)["image"]
    assert found.shape == (3, 16)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    encoder = TextEncoder(weight_file(folder / name), "cpu", "parity", CONFIG)
    with torch.inference_mode():
        texts = network.encode_text(open_clip.tokenizer.SimpleTokenizer()(PROMPTS)).numpy()
    np.testing.assert_allclose(encoder(PROMPTS), texts, atol=1e-6)


def test_half_precision_weights_run_in_float32(network: Any, folder: Path, tmp_path: Path) -> None:
    torch.save({name: tensor.half() for name, tensor in network.state_dict().items()}, tmp_path / "half.bin")
    image = photograph().transpose(2, 0, 1)
    half, full = extractor(tmp_path, name="half.bin")([image])["image"], extractor(folder)([image])["image"]
    assert half.dtype == np.float32
    np.testing.assert_allclose(half, full, atol=2e-2 * np.abs(full).max())
    assert not np.array_equal(half, half.astype(np.float16).astype(np.float32))


@pytest.mark.parametrize("size", SIZES)
def test_the_clean_recipe_prepares_as_torchvision(folder: Path, size: tuple[int, int]) -> None:
    image = photograph(*size)
    bicubic = transforms.InterpolationMode.BICUBIC
    reference = transforms.Compose(
        [
            transforms.Resize(64, interpolation=bicubic),
            transforms.CenterCrop(64),
            transforms.ToTensor(),
            transforms.Normalize(MEAN, STD),
        ]
    )
    np.testing.assert_allclose(prepared(extractor(folder), image), reference(Image.fromarray(image)).numpy(), atol=1e-6)


@pytest.mark.parametrize("size", [(300, 451), (300, 200), (299, 301), (64, 90)])
def test_the_clean_recipe_prepares_as_clean_fid(
    folder: Path, size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "clip", types.ModuleType("clip"))  # OpenAI's package: its network is not used here
    from cleanfid.clip_features import img_preprocess_clip

    image = photograph(*size)
    ours = extractor(folder)
    ours.side = 224
    levels = (prepared(ours, image) * np.array(STD)[:, None, None] + np.array(MEAN)[:, None, None]) * 255
    expected = img_preprocess_clip(image).transpose(2, 0, 1)
    np.testing.assert_allclose(levels, expected, atol=1e-3)


@pytest.mark.parametrize("size", SIZES)
def test_cmmd_crops_to_a_square_and_resizes_with_pil(folder: Path, size: tuple[int, int]) -> None:
    image = photograph(*size)
    short = min(size)
    top, left = (size[0] - short) // 2, (size[1] - short) // 2
    square = Image.fromarray(image[top : top + short, left : left + short])
    levels = np.asarray(square.resize((64, 64), Image.Resampling.BICUBIC), np.float32)
    expected = ((levels / 255 - np.array(MEAN, np.float32)) / np.array(STD, np.float32)).transpose(2, 0, 1)
    np.testing.assert_allclose(prepared(extractor(folder, "clip-l14-336/cmmd"), image), expected, atol=1e-6)


@pytest.mark.parametrize("size", [*SIZES, (67, 64), (64, 71), (64, 66)])
def test_the_hf_recipe_crops_as_hugging_faces_processor(folder: Path, size: tuple[int, int]) -> None:
    from transformers.models.clip import image_processing_pil_clip

    image = photograph(*size)
    theirs = image_processing_pil_clip.CLIPImageProcessorPil(
        size={"shortest_edge": 64}, crop_size={"height": 64, "width": 64}
    )
    expected = np.asarray(theirs(Image.fromarray(image), return_tensors="np")["pixel_values"][0])
    np.testing.assert_allclose(prepared(extractor(folder, "clip-b32/hf"), image), expected, atol=1e-5)


def test_the_hf_crop_differs_by_a_pixel_where_the_excess_is_3_modulo_4(folder: Path) -> None:
    hf, clean = extractor(folder, "clip-b32/hf"), extractor(folder)
    for excess in range(8):
        image = photograph(64, 64 + excess)
        assert np.array_equal(prepared(hf, image), prepared(clean, image)) is (excess % 4 != 3)


@pytest.mark.parametrize("size", [(300, 451), (299, 200), (256, 256), (64, 64)])
def test_the_llamagen_recipe_prepares_as_its_evaluation(folder: Path, size: tuple[int, int]) -> None:
    image = Image.fromarray(photograph(*size))
    data = transforms.Compose(
        [
            transforms.Lambda(lambda picture: transforms.functional.center_crop(picture, min(picture.size))),
            transforms.Resize(256, interpolation=transforms.InterpolationMode.LANCZOS),
            transforms.ToTensor(),
            transforms.Normalize([0.5] * 3, [0.5] * 3),
        ]
    )
    levels = ((data(image) + 1) * 127.5).clamp(0, 255).to(torch.uint8).permute(1, 2, 0).numpy()
    of_clip = transforms.Compose(
        [
            transforms.Resize(64, interpolation=transforms.InterpolationMode.BICUBIC),
            transforms.CenterCrop(64),
            transforms.ToTensor(),
            transforms.Normalize(MEAN, STD),
        ]
    )
    expected = of_clip(Image.fromarray(levels)).numpy()
    found = prepared(extractor(folder, "clip-b32/llamagen"), np.asarray(image))
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_cmmd_has_unit_length_and_clean_has_not(folder: Path) -> None:
    images = [photograph(64, 64).transpose(2, 0, 1), photograph()[100:164, 100:164].transpose(2, 0, 1)]
    raw, unit = extractor(folder)(images)["image"], extractor(folder, "clip-l14-336/cmmd")(images)["image"]
    np.testing.assert_allclose(unit, raw / np.linalg.norm(raw, axis=1, keepdims=True), atol=1e-6)
    assert np.abs(np.linalg.norm(raw, axis=1) - 1).max() > 0.01


def test_the_callers_batch_changes_nothing(folder: Path) -> None:
    ours = extractor(folder)
    images = list(np.random.default_rng(3).integers(0, 256, (5, 3, 40, 70), dtype=np.uint8))
    together = ours(images)["image"]
    np.testing.assert_array_equal(together, np.concatenate([ours([image])["image"] for image in images]))
    encoder = TextEncoder(weight_file(folder / "plain.bin"), "cpu", "parity", CONFIG)
    encoder.batch = 3
    alone = np.concatenate([encoder([prompt]) for prompt in PROMPTS])
    np.testing.assert_array_equal(encoder(PROMPTS), alone)
    assert encoder([]).shape == (0, 16)


def test_prompts_that_are_cut_are_named(folder: Path) -> None:
    encoder = TextEncoder(weight_file(folder / "plain.bin"), "cpu", "parity", CONFIG)
    assert encoder.too_long([*PROMPTS, "cat " * 75, "cat " * 76]) == [3, 5]
    with pytest.raises(InputError, match="sequence of strings"):
        encoder("a cat")


def test_the_prefix_of_a_variant_goes_before_each_prompt(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("arbench.features.networks.clip.configuration", lambda name: CONFIG)
    weights = Weights({"clip-vitb32": folder / "openai.pt"}, tmp_path)
    plain = encode_prompts(["A photo depicts a cat"], weights)
    np.testing.assert_array_equal(encode_prompts(["a cat"], weights, prefix="A photo depicts "), plain)
    assert not np.array_equal(encode_prompts(["a cat"], weights), plain)


@pytest.mark.parametrize(
    ("name", "parameters", "visual", "side", "layers"),
    [
        # model cards of open_clip: 151.28 M and 427.94 M parameters
        ("ViT-B-32-quickgelu", 151_277_313, 87_849_216, 224, 12),
        ("ViT-L-14-336-quickgelu", 427_944_193, 304_293_888, 336, 24),
    ],
)
def test_the_full_networks_are_openais(name: str, parameters: int, visual: int, side: int, layers: int) -> None:
    config = configuration(name)
    network: Any = uninitialised(config)
    assert all(tensor.is_meta for tensor in network.parameters())
    assert sum(tensor.numel() for tensor in network.parameters()) == parameters
    assert sum(tensor.numel() for tensor in network.visual.parameters()) == visual
    assert (config["vision_cfg"]["image_size"], config["quick_gelu"]) == (side, True)

    def block(prefix: str, number: int) -> set[str]:
        parts = ("ln_1.weight", "ln_1.bias", "ln_2.weight", "ln_2.bias", "attn.in_proj_weight", "attn.in_proj_bias")
        parts += ("attn.out_proj.weight", "attn.out_proj.bias")
        parts += ("mlp.c_fc.weight", "mlp.c_fc.bias", "mlp.c_proj.weight", "mlp.c_proj.bias")
        return {f"{prefix}transformer.resblocks.{number}.{part}" for part in parts}

    names = {"positional_embedding", "text_projection", "logit_scale", "token_embedding.weight"}
    names |= {"ln_final.weight", "ln_final.bias", "visual.class_embedding", "visual.positional_embedding"}
    names |= {"visual.proj", "visual.conv1.weight"}
    names |= {f"visual.{norm}.{part}" for norm in ("ln_pre", "ln_post") for part in ("weight", "bias")}
    for number in range(layers):
        names |= block("visual.", number)
    for number in range(12):
        names |= block("", number)
    assert set(network.state_dict()) == names


def test_another_network_is_refused(folder: Path, tmp_path: Path) -> None:
    weights = Weights({"clip-vitb32": folder / "plain.bin"}, tmp_path)
    with pytest.raises(CheckpointError, match=r"missing: visual\.transformer\.resblocks\.2\."):
        load("clip-b32/clean", weights, "cpu", "parity")


def test_an_archive_runs_no_code(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (tmp_path / "touched",)

    with zipfile.ZipFile(tmp_path / "evil.pt", "w") as file:
        file.writestr("evil/constants.pkl", pickle.dumps(()))
        file.writestr("evil/data.pkl", pickle.dumps({"weight": Evil()}, protocol=2))
    with pytest.raises(CheckpointError, match="no code in a weight file can run"):
        extractor(tmp_path, name="evil.pt")
    assert not (tmp_path / "touched").exists()


def test_a_pickle_with_code_is_refused(tmp_path: Path) -> None:
    torch.save(nn.Linear(2, 2), tmp_path / "whole.pt")
    with pytest.raises(CheckpointError, match="cannot read the weights"):
        extractor(tmp_path, name="whole.pt")


def test_a_damaged_archive_is_refused(folder: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(folder / "openai.pt") as whole, zipfile.ZipFile(tmp_path / "torn.pt", "w") as torn:
        for name in whole.namelist():
            data = whole.read(name)
            torn.writestr(name, data[: len(data) // 2] if name.endswith("data/3") else data)
    with pytest.raises(CheckpointError, match=r"data/3 holds \d+ bytes"):
        read_torchscript(tmp_path / "torn.pt")


def test_a_tensor_beyond_its_storage_is_refused(tmp_path: Path) -> None:
    # a GLOBAL, its arguments and a persistent id by hand: (4,) numbers from a storage of 2
    storage = b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x02tQ"
    tensor = b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + b"K\x00(K\x04t(K\x01t\x89NtR"
    with zipfile.ZipFile(tmp_path / "beyond.pt", "w") as file:
        file.writestr("beyond/constants.pkl", pickle.dumps(()))
        file.writestr("beyond/data/0", np.zeros(2, np.float32).tobytes())
        file.writestr("beyond/data.pkl", b"\x80\x02}X\x01\x00\x00\x00w" + tensor + b"s.")
    with pytest.raises(CheckpointError, match="out of bounds"):
        read_torchscript(tmp_path / "beyond.pt")
