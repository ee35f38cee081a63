"""`arbench.load`: samples are those of a run, sampling is checked as a suite's, tokenizers encode and decode."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image

import arbench
from arbench import registry
from arbench.errors import (
    CheckpointError,
    ConfigError,
    ImageError,
    InputError,
    MissingWeights,
    UnknownName,
    Unsupported,
    UsageError,
)
from arbench.score.cells import cells_of
from arbench.weights import find


def test_samples_are_those_of_a_run(model):
    suite = {
        "suite": "small",
        "adapters": ["raster/llamagen-mini"],
        "settings": {"seed": 3, "device": "cpu"},
        "sampling": {"raster/*": {"guidance": {"scale": 1.5}, "top_k": 50}},
        "tasks": [{"generate": {"n": 8, "batch": 3, "conventions": ["offline"], "metrics": ["vendi"]}}],
    }
    done = arbench.run(suite, out="run", track="off", progress=False)
    (cell,) = cells_of("run")
    images = model.sample(8, seed=3, guidance=1.5, top_k=50)
    assert np.array_equal(images.array, cell.units[0]["images"])
    assert np.array_equal(images.labels, cell.units[0]["labels"])
    assert images.origin["settings_id"] == done.results[0].settings_id
    assert not np.array_equal(images.array, model.sample(8, seed=3).array)


def test_the_first_samples_whatever_the_batch(model):
    images = model.sample(8, seed=0)
    assert np.array_equal(images.array, model.sample(8, batch=5).array)
    assert np.array_equal(images.array[:4], model.sample(4).array)
    stream = arbench.score("generator:raster/llamagen-mini", "mnist5k/heldout", limit=8, metrics="vendi")
    assert arbench.score(images).results[0].samples.digest == stream.results[0].samples.digest


def test_classes(model):
    assert model.sample(12).labels.tolist() == [*range(10), 0, 1]
    assert model.sample(3, classes=7).labels.tolist() == [7, 7, 7]
    assert model.sample(5, classes=[1, 4]).labels.tolist() == [1, 4, 1, 4, 1]
    by_class = model.sample(3, classes=[2, 0, 2]).array
    assert np.array_equal(by_class[1], model.sample(2, classes=[5, 0]).array[1])
    for wrong in (10, [-1], [], [0.5], "3"):
        with pytest.raises(UsageError, match="classes 0 to 9"):
            model.sample(2, classes=wrong)
    with pytest.raises(UsageError, match="n is 0"):
        model.sample(0)


def test_sampling_is_refused_as_in_a_suite(model):
    with pytest.raises(ConfigError, match=r"unknown sampling field 'top_kk'\n.*did you mean top_k"):
        model.sample(1, top_kk=3)
    with pytest.raises(ConfigError, match=r"unknown guidance field 'scal'\n.*did you mean scale"):
        model.sample(1, guidance={"scal": 2.0})
    with pytest.raises(ConfigError, match=r"temperature: .*at least 0 is expected"):
        model.sample(1, temperature=-1)
    with pytest.raises(Unsupported, match=r"does not honour inner_steps\n.*top_k"):
        model.sample(1, inner_steps=3)
    with pytest.raises(Unsupported, match="has no knob speed"):
        model.sample(1, extra={"speed": 3})
    with pytest.raises(Unsupported, match="reads no prompts"):
        model.sample(1, prompts=["a cat"])


def test_images_show_and_save_themselves(model, here):
    images = model.sample(12)
    assert repr(images) == "12 images of 32 x 32 from raster/llamagen-mini"
    page = images._repr_html_()
    assert page.count("<img") == 12
    assert 'title="11: class 1"' in page
    assert Image.open(io.BytesIO(images._repr_png_())).size[0] > 300
    frame = images.frame()
    assert frame.label.tolist() == images.labels.tolist()
    assert frame.digest.nunique() == 12
    place = images.save("saved")
    assert np.array_equal(np.asarray(Image.open(place / "000011.png")).transpose(2, 0, 1), images.array[11])
    with pytest.raises(UsageError, match="not empty"):
        images.save(place)


def test_images_of_a_model_are_scored_under_its_name(model):
    score = arbench.score(model.sample(20), "mnist5k/heldout", conventions="offline", device="cpu")
    (result,) = score.results
    assert (result.adapter, result.family, result.kind) == ("raster/llamagen-mini", "raster", "generator")
    assert result.sampling == registry.card("raster/llamagen-mini").native
    assert score["neighbour-agreement"].value > 0.5


def test_a_tokenizer(digits):
    with arbench.load("tokenizers/var-mini", device="cpu") as tokenizer:
        source = arbench.load("next_scale/var-mini", device="cpu")
        codes = tokenizer.encode("mnist5k/heldout", limit=20, batch=7)
        assert [level.shape[0] for level in codes.ids] == [20] * len(tokenizer.card.tokens.levels)
        again = tokenizer.reconstruct(digits[:20])
        assert np.array_equal(tokenizer.decode(codes).array, again.array)
        assert tokenizer.reconstruct("mnist5k/heldout", limit=20).labels.tolist() == [*range(10)] * 2
        assert np.array_equal(source.reconstruct(digits[:20]).array, again.array)  # a generator's own tokenizer
        assert arbench.score(again, digits[:20], paired=True, device="cpu")["offline-pairs/psnr"].value > 15
        assert source.reconstruct(digits[:2]).name == again.name == "tokenizers/var-mini"
        assert source.reconstruct(digits[:2]).origin == again.origin
        with pytest.raises(Unsupported, match="reconstruct"):
            tokenizer.sample(2)
        with pytest.raises(ImageError, match="takes 32 x 32 images"):
            tokenizer.encode(digits[:, :, :16, :16])
        with pytest.raises(ImageError, match="to_uint8"):
            tokenizer.encode(torch.zeros(2, 3, 32, 32))


def test_loading():
    with pytest.raises(UnknownName, match="did you mean raster/llamagen-mini"):
        arbench.load("raster/llamagen-mni")
    with pytest.raises(MissingWeights, match="the official file is"):
        arbench.load("next_scale/var-d16")
    with pytest.raises(InputError, match="no weight file at nowhere"):
        arbench.load("raster/llamagen-mini", weights="nowhere")
    file = find(registry.card("raster/llamagen-mini"))
    other = find(registry.card("tokenizers/llamagen-mini"))
    for given in (file, str(file), {"raster/llamagen-mini": file, "tokenizers/llamagen-mini": other}):
        arbench.load("raster/llamagen-mini", given, device="cpu").close()
    with pytest.raises(CheckpointError):
        arbench.load("raster/llamagen-mini", weights=other, device="cpu")
    with pytest.raises(UnknownName, match="float32"):
        arbench.load("raster/llamagen-mini", dtype="float31")
    with arbench.load("raster/llamagen-mini", init="random", device="cpu") as model:
        assert "random weights" in repr(model)
        assert "10 classes" in model._repr_html_()
        assert model.sample(2).array.shape == (2, 3, 32, 32)
    with pytest.raises(UsageError, match="closed"):
        model.sample(1)
