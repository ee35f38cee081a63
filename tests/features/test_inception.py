"""Inception-2015 against torch-fidelity's and clean-fid's networks with the same random weights; its file layouts."""

from __future__ import annotations

import pickle
import struct
from pathlib import Path

import cleanfid.inception_pytorch
import cleanfid.resize
import numpy as np
import pytest
import torch
import torchmetrics.image.fid
from torch import nn
from torch.nn import functional
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

from arbench.errors import CheckpointError, InputError, MissingWeights
from arbench.features import recipes
from arbench.features.extractor import FeatureExtractor, deviation
from arbench.features.networks import inception, inception_blocks, inception_weights
from arbench.features.weight_files import Weights

pytestmark = pytest.mark.numerical

BLOCKS = {
    "a": "conv branch1x1 tower/conv branch5x5_1 tower/conv_1 branch5x5_2 tower_1/conv branch3x3dbl_1 "
    "tower_1/conv_1 branch3x3dbl_2 tower_1/conv_2 branch3x3dbl_3 tower_2/conv branch_pool",
    "b": "conv branch3x3 tower/conv branch3x3dbl_1 tower/conv_1 branch3x3dbl_2 tower/conv_2 branch3x3dbl_3",
    "c": "conv branch1x1 tower/conv branch7x7_1 tower/conv_1 branch7x7_2 tower/conv_2 branch7x7_3 "
    "tower_1/conv branch7x7dbl_1 tower_1/conv_1 branch7x7dbl_2 tower_1/conv_2 branch7x7dbl_3 "
    "tower_1/conv_3 branch7x7dbl_4 tower_1/conv_4 branch7x7dbl_5 tower_2/conv branch_pool",
    "d": "tower/conv branch3x3_1 tower/conv_1 branch3x3_2 tower_1/conv branch7x7x3_1 tower_1/conv_1 branch7x7x3_2 "
    "tower_1/conv_2 branch7x7x3_3 tower_1/conv_3 branch7x7x3_4",
    "e": "conv branch1x1 tower/conv branch3x3_1 tower/mixed/conv branch3x3_2a tower/mixed/conv_1 branch3x3_2b "
    "tower_1/conv branch3x3dbl_1 tower_1/conv_1 branch3x3dbl_2 tower_1/mixed/conv branch3x3dbl_3a "
    "tower_1/mixed/conv_1 branch3x3dbl_3b tower_2/conv branch_pool",
}
MIXED = dict(zip(["5b", "5c", "5d", "6a", "6b", "6c", "6d", "6e", "7a", "7b", "7c"], "aaabccccdee", strict=True))


def tensorflow_names() -> dict[str, str]:
    """PyTorch layer -> TensorFlow layer, written down independently of the package."""
    stem = ["Conv2d_1a_3x3", "Conv2d_2a_3x3", "Conv2d_2b_3x3", "Conv2d_3b_1x1", "Conv2d_4a_3x3"]
    names = {layer: f"conv_{i}" if i else "conv" for i, layer in enumerate(stem)}
    for i, (place, kind) in enumerate(MIXED.items()):
        words = BLOCKS[kind].split()
        block = f"mixed_{i}" if i else "mixed"
        names |= {
            f"Mixed_{place}.{branch}": f"{block}/{tf}" for tf, branch in zip(words[::2], words[1::2], strict=True)
        }
    return names


def shapes() -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in inception.uninitialised().state_dict().items()}


@pytest.fixture(scope="module")
def state(inception_state) -> dict[str, torch.Tensor]:
    return inception_state


@pytest.fixture(scope="module")
def file(inception_file) -> Path:
    return inception_file


@pytest.fixture(scope="module")
def weights(file, tmp_path_factory) -> Weights:
    return Weights({"inception": file}, tmp_path_factory.mktemp("empty"))


def photographs(n: int, height: int, width: int) -> list[np.ndarray]:
    """Smooth pictures with some noise, (3, H, W)."""
    draw = np.random.default_rng(1)
    y, x = np.mgrid[0:height, 0:width]
    made = []
    for _ in range(n):
        planes = [np.sin(x / draw.uniform(5, 60) + y / draw.uniform(5, 60) + draw.uniform(0, 6)) for _ in range(3)]
        made.append(
            (127 + 100 * np.stack(planes) + draw.normal(0, 15, (3, height, width))).clip(0, 255).astype(np.uint8)
        )
    return made


@pytest.fixture(scope="module")
def images() -> list[np.ndarray]:
    return photographs(4, 96, 128)


@pytest.fixture(scope="module")
def reference(file) -> FeatureExtractorInceptionV3:
    outputs = ["2048", "logits_unbiased", "logits"]
    return FeatureExtractorInceptionV3("inception", outputs, feature_extractor_weights_path=str(file))


def small_batch(recipe: str, weights: Weights, mode: str = "parity") -> FeatureExtractor:
    extractor = recipes.load(recipe, weights, mode=mode)
    extractor.batch = 4  # a batch as large as the test's, so that nothing is computed in vain
    return extractor


@pytest.fixture(scope="module")
def tf1(weights) -> FeatureExtractor:
    return small_batch("inception/tf1", weights)


@pytest.fixture(scope="module")
def tf1_found(tf1, images) -> dict[str, np.ndarray]:
    return tf1(images)


def apart(ours: np.ndarray, theirs: np.ndarray) -> float:
    """Largest difference relative to the largest value."""
    assert ours.shape == theirs.shape
    return float(np.abs(ours - theirs).max() / np.abs(theirs).max())


def test_all_outputs_equal_torch_fidelity(reference, tf1_found, images):
    kept = []
    reference.Mixed_6d.register_forward_hook(lambda _module, _input, output: kept.append(output))
    with torch.inference_mode():
        pool3, unbiased, logits = (x.numpy() for x in reference(torch.from_numpy(np.stack(images))))
    assert pool3.std(axis=0).mean() > 0.01 * np.abs(pool3).mean(), "the random network tells images apart"
    assert apart(tf1_found["pool3"], pool3) < 1e-6
    assert apart(tf1_found["logits_unbiased"], unbiased) < 1e-6
    assert apart(tf1_found["logits"], logits) < 1e-6
    spatial = kept[0][:, :7].permute(0, 2, 3, 1).reshape(len(images), -1).numpy()
    assert spatial.shape == (4, 2023)
    assert apart(tf1_found["spatial"], spatial) < 1e-6
    assert {name: rows.shape[1] for name, rows in tf1_found.items()} == recipes.find("inception/tf1").outputs


POOLS = {
    inception_blocks.average: lambda x: functional.avg_pool2d(x, 3, 1, 1, count_include_pad=False),
    inception_blocks.maximum: lambda x: functional.max_pool2d(x, 3, 1, 1),
    inception_blocks.halved: lambda x: functional.max_pool2d(x, 3, 2),
}


@pytest.mark.parametrize("pool", POOLS)
@pytest.mark.parametrize("shape", [(2, 35, 17, 35), (1, 1, 5, 5), (3, 288, 8, 8), (16, 7, 3, 3)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_pools_are_torchs_to_the_bit(pool, shape, dtype):
    x = torch.randn(shape, dtype=dtype, generator=torch.Generator().manual_seed(0)) * 100
    for given in (x, x.to(memory_format=torch.channels_last), x.transpose(2, 3)):
        assert torch.equal(pool(given), POOLS[pool](given.contiguous()))
    assert pool(x).is_contiguous()


def test_clean_equals_clean_fid(state, images, weights, monkeypatch):
    monkeypatch.setattr(cleanfid.inception_pytorch, "load_state_dict_from_url", lambda *_a, **_k: state)
    net = cleanfid.inception_pytorch.InceptionV3([3], resize_input=False, normalize_input=False).eval()
    resize = cleanfid.resize.build_resizer("clean")
    pixels = torch.from_numpy(np.stack([resize(image.transpose(1, 2, 0)) for image in images])).permute(0, 3, 1, 2)
    with torch.inference_mode():
        theirs = net((pixels.contiguous() - 128) / 128)[0].flatten(1).numpy()
    assert apart(small_batch("inception/clean", weights)(images)["pool3"], theirs) < 1e-6


def test_half_pixel_equals_pytorch_fid(state, images, weights, monkeypatch):
    monkeypatch.setattr(cleanfid.inception_pytorch, "load_state_dict_from_url", lambda *_a, **_k: state)
    net = cleanfid.inception_pytorch.InceptionV3([3], resize_input=False).eval()
    unit = torch.from_numpy(np.stack(images)).float() / 255
    with torch.inference_mode():
        resized = nn.functional.interpolate(unit, size=(299, 299), mode="bilinear", align_corners=False)
        theirs = net(resized)[0].flatten(1).numpy()
    assert apart(small_batch("inception/half-pixel", weights)(images)["pool3"], theirs) < 1e-6


def test_antialias_equals_torchmetrics(file, images, weights):
    net = torchmetrics.image.fid.NoTrainInceptionV3("inception", ["2048"], feature_extractor_weights_path=str(file))
    with torch.inference_mode():
        theirs = net(torch.from_numpy(np.stack(images))).numpy()
    assert apart(small_batch("inception/antialias", weights)(images)["pool3"], theirs) < 1e-6


def test_float64_equals_torch_fidelity_in_float64(file, images, weights):
    net = FeatureExtractorInceptionV3("inception", ["2048"], feature_extractor_weights_path=str(file))
    # as 1d-tokenizer sets it; torch-fidelity's own option for it selects float32
    net.feature_extractor_internal_dtype = torch.float64
    net.double()
    extractor = recipes.load("inception/tf1-float64", weights)
    extractor.batch = 1
    with torch.inference_mode():
        theirs = net(torch.from_numpy(images[0][None]))[0].numpy()
    # computed in float64 and rounded to float32 at the end, so that only the last bit may differ
    assert apart(extractor(images[:1])["pool3"], theirs) < 1.2e-7


def test_batch_and_company_do_not_change_a_bit(tf1, tf1_found, images):
    odd = photographs(1, 80, 64)
    together = tf1([*images[:3], *odd, images[3]])  # two batches, one of mixed sizes
    alone = tf1(images[3:])
    pair = tf1(images[1:3])
    for name in tf1.outputs:
        np.testing.assert_array_equal(together[name][:3], tf1_found[name][:3])
        np.testing.assert_array_equal(together[name][4], tf1_found[name][3])
        np.testing.assert_array_equal(alone[name][0], tf1_found[name][3])
        np.testing.assert_array_equal(pair[name], tf1_found[name][1:3])


def test_fast_mode_states_how_far_it_is_off(weights, tf1, tf1_found, images):
    fast = small_batch("inception/tf1", weights, "fast")
    found = deviation(fast, tf1, images)
    assert 0 < found < 2e-5  # float32 rounding through 48 layers; bf16 would give 1e-2
    assert "fast" in fast.convention
    assert "parity" in tf1.convention
    with pytest.raises(InputError):
        deviation(fast, tf1, [])


def test_loading_draws_no_random_numbers(weights):
    before = torch.get_rng_state()
    recipes.load("inception/tf1", weights)
    assert torch.equal(before, torch.get_rng_state())


# the TensorFlow GraphDef, encoded here by hand


def varint(value: int) -> bytes:
    out = b""
    while value > 127:
        out += bytes([value & 127 | 128])
        value >>= 7
    return out + bytes([value])


def field(number: int, content: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(content)) + content


def constant(name: str, values: np.ndarray, as_list: bool = False) -> bytes:
    dims = b"".join(field(2, b"\x08" + varint(size)) for size in values.shape)
    data = field(5, values.astype("<f4").tobytes()) if as_list else field(4, values.astype("<f4").tobytes())
    tensor = b"\x08\x01" + field(2, dims) + data
    attributes = field(5, field(1, b"dtype") + field(2, b"\x30\x01"))
    attributes += field(5, field(1, b"value") + field(2, field(8, tensor)))
    return field(1, field(1, name.encode()) + field(2, b"Const") + attributes)


def graph(state: dict[str, torch.Tensor], gamma: bool) -> bytes:
    """With other things that a real graph holds: an input node, an integer constant, versions, a batch norm node."""
    nodes = [field(1, field(1, b"DecodeJpeg/contents") + field(2, b"Placeholder"))]
    shape = b"\x08\x03" + field(2, field(2, b"\x08\x02")) + field(4, struct.pack("<2i", 1, 2048))
    nodes.append(
        field(1, field(1, b"shape") + field(2, b"Const") + field(5, field(1, b"value") + field(2, field(8, shape))))
    )
    epsilon = field(5, field(1, b"variance_epsilon") + field(2, varint(4 << 3 | 5) + struct.pack("<f", 1e-3)))
    nodes.append(field(1, field(1, b"conv/batchnorm") + field(2, b"BatchNormWithGlobalNormalization") + epsilon))
    for ours, theirs in tensorflow_names().items():
        nodes.append(constant(f"{theirs}/conv2d_params", state[f"{ours}.conv.weight"].permute(2, 3, 1, 0).numpy()))
        for key, name in (("bias", "beta"), ("running_mean", "moving_mean"), ("running_var", "moving_variance")):
            nodes.append(
                constant(f"{theirs}/batchnorm/{name}", state[f"{ours}.bn.{key}"].numpy(), as_list=key == "bias")
            )
        if gamma:
            nodes.append(constant(f"{theirs}/batchnorm/gamma", state[f"{ours}.bn.weight"].numpy()))
    nodes.append(constant("softmax/weights", state["fc.weight"].T.numpy()))
    nodes.append(constant("softmax/biases", state["fc.bias"].numpy()))
    return b"".join(nodes) + field(4, b"\x08\x08")


def read(path: Path) -> dict[str, torch.Tensor]:
    file = Weights({"inception": path}, path.parent).locate("inception")
    return inception_weights.read(file, inception.uninitialised().state_dict())


def assert_same(found: dict[str, torch.Tensor], state: dict[str, torch.Tensor]) -> None:
    assert found.keys() == state.keys()
    assert all(torch.equal(found[name], state[name]) for name in state)


def test_the_tensorflow_graph_gives_the_same_weights(state, tmp_path):
    path = tmp_path / "classify_image_graph_def.pb"
    path.write_bytes(graph(state, gamma=True))
    assert len(tensorflow_names()) == 94
    assert_same(read(path), state)


def test_a_graph_without_gamma_has_gamma_one(state, tmp_path):
    path = tmp_path / "graph.pb"
    path.write_bytes(graph(state, gamma=False))
    ones = {n: torch.ones_like(v) for n, v in state.items() if n.endswith("bn.weight")}
    assert_same(read(path), state | ones)


def test_a_cut_graph_is_refused(state, tmp_path):
    path = tmp_path / "graph.pb"
    content = graph(state, gamma=True)
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(CheckpointError, match="cut off"):
        read(path)


# StyleGAN's TorchScript


class Layer(nn.Module):
    def __init__(self, state: dict[str, torch.Tensor], ours: str) -> None:
        super().__init__()
        self.weight = nn.Parameter(state[f"{ours}.conv.weight"])
        self.beta = nn.Parameter(state[f"{ours}.bn.bias"])
        self.register_buffer("mean", state[f"{ours}.bn.running_mean"])
        self.register_buffer("var", state[f"{ours}.bn.running_var"])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = nn.functional.conv2d(x, self.weight)
        return nn.functional.batch_norm(y, self.mean, self.var, bias=self.beta, eps=1e-3).relu()


class Folder(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


def torchscript(state: dict[str, torch.Tensor], path: Path) -> None:
    net = Folder()
    net.add_module("layers", Folder())
    for ours, theirs in tensorflow_names().items():
        block, _, rest = theirs.partition("/")
        inner = [rest.replace("/", "_")] if block in ("mixed_9", "mixed_10") else rest.split("/")
        at = net.layers
        *folders, last = [block, *inner] if rest else [block]
        for name in folders:
            if name not in dict(at.named_children()):
                at.add_module(name, Folder())
            at = at.get_submodule(name)
        at.add_module(last, Layer(state, ours))
    net.add_module("output", nn.Linear(2048, 1008))
    net.output.load_state_dict({"weight": state["fc.weight"], "bias": state["fc.bias"]})
    torch.jit.script(net.eval()).save(path)


def test_stylegans_torchscript_gives_the_same_weights(state, tmp_path):
    path = tmp_path / "inception-2015-12-05.pt"
    torchscript(state, path)
    ones = {n: torch.ones_like(v) for n, v in state.items() if n.endswith("bn.weight")}
    assert_same(read(path), state | ones)


def test_another_torchscript_is_refused(tmp_path):
    path = tmp_path / "other.pt"
    torch.jit.script(Folder()).save(path)
    weights = Weights({"inception": path}, tmp_path)
    with pytest.raises(CheckpointError):
        recipes.load("inception/tf1", weights)


# files that cannot be used


class Evil:
    def __reduce__(self):
        return (Path.touch, (Path("evil-was-run"),))


def test_a_pickle_with_code_is_refused_and_not_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "weights.pth"
    torch.save({"fc.weight": Evil()}, path)
    with pytest.raises(CheckpointError, match="cannot read the weights"):
        read(path)
    plain = tmp_path / "plain.pth"
    plain.write_bytes(pickle.dumps(Evil()))
    with pytest.raises(CheckpointError):
        read(plain)
    assert not Path("evil-was-run").exists()


def test_missing_unexpected_and_misshapen_names_are_all_told(state, tmp_path):
    path = tmp_path / "w.pth"
    wrong = {name: value for name, value in state.items() if not name.startswith("Mixed_5b.branch1x1")}
    wrong |= {"AuxLogits.fc.bias": torch.zeros(3), "fc.bias": torch.zeros(1000)}
    torch.save(wrong, path)
    with pytest.raises(CheckpointError) as caught:
        recipes.load("inception/tf1", Weights({"inception": path}, tmp_path))
    message = str(caught.value)
    assert "missing: Mixed_5b.branch1x1.conv.weight" in message
    assert "unexpected: AuxLogits.fc.bias" in message
    assert "fc.bias (1000,) for (1008,)" in message


def test_cut_and_empty_files_are_refused(file, tmp_path):
    cut = tmp_path / "cut.pth"
    cut.write_bytes(file.read_bytes()[:100_000])
    with pytest.raises(CheckpointError, match="cannot read"):
        read(cut)
    empty = tmp_path / "empty.pth"
    empty.touch()
    with pytest.raises(CheckpointError, match="empty"):
        read(empty)
    text = tmp_path / "page.pth"
    text.write_text("<html>404 not found</html>")
    with pytest.raises(CheckpointError, match="cannot read"):
        read(text)


def test_no_file_at_all_says_how_to_get_one(tmp_path):
    with pytest.raises(MissingWeights, match="arbench weights fetch inception"):
        recipes.load("inception/tf1", Weights({}, tmp_path))
