"""The generate task: what a sample is must not depend on how it was asked for, and wrong outputs are named."""

import io

import numpy as np
import pytest
from PIL import Image
from tiny_adapters import Blocks

from arbench.data.readers.mnist import mnist5k
from arbench.errors import CellError, Unsupported
from arbench.images import digests, unpack
from arbench.metrics.sets.frechet import frechet
from arbench.metrics.sets.kernel import kid
from arbench.metrics.sets.neighbours import precision_recall
from arbench.spec.cell import Unit
from arbench.spec.suite import Generate
from arbench.tasks.generate import GenerateTask


def measured(cell, context, adapter, unit=Unit(index=0, start=0, stop=40), **task):  # noqa: B008
    one = cell(adapter, Generate(n=unit.stop, **task))
    return GenerateTask().measure(one, unit, context)


def by_name(finished):
    return {metric.name: metric for metric in finished.metrics}


@pytest.mark.parametrize("adapter", ["raster/tinted", "raster/telltale", "raster/direct"])
def test_arrays_are_bitwise_the_same_at_every_batch_size(cell, context, adapter):
    unit = Unit(index=1, start=64, stop=128)
    first = measured(cell, context, adapter, unit, batch=64)
    for batch in (1, 7, 200):
        other = measured(cell, context, adapter, unit, batch=batch)
        assert first.keys() == other.keys()
        for name in first:
            np.testing.assert_array_equal(first[name], other[name], err_msg=f"{name} at batch {batch}")


def test_a_shorter_run_is_the_beginning_of_a_longer_one(cell, context):
    """The telltale tokenizer would show a last batch that is decoded smaller than the others."""
    short = measured(cell, context, "raster/telltale", Unit(index=0, start=0, stop=37))
    long = measured(cell, context, "raster/telltale", Unit(index=0, start=0, stop=64))
    for name in short:
        np.testing.assert_array_equal(short[name], long[name][:37], err_msg=name)


def test_sampling_uses_the_batch_asked_for_and_never_more_than_the_unit(cell, context):
    generator = context.generator(cell("raster/tinted", Generate()))
    measured(cell, context, "raster/tinted", batch=16)
    assert generator.batches == [16, 16, 8]
    assert generator.prepared == [16, 8]
    generator.batches.clear()
    measured(cell, context, "raster/tinted", batch=500)
    assert generator.batches == [40]


def test_a_discrete_tokenizer_decodes_from_ids_alone_in_one_fixed_batch(cell, context):
    tokenizer = context.generator(cell("raster/tinted", Generate())).tokenizer
    measured(cell, context, "raster/tinted")
    assert {batch for batch, _ in tokenizer.decoded} == {16}
    assert all(no_latents for _, no_latents in tokenizer.decoded)


def test_what_a_unit_holds(cell, context):
    arrays = measured(cell, context, "raster/seven", Unit(index=0, start=0, stop=20))
    assert arrays["sample_ids"].tolist() == list(range(20))
    assert arrays["labels"].tolist() == [number % 7 for number in range(20)]
    assert (arrays["tokens"].dtype, arrays["tokens"].shape) == (np.int32, (20, 64))
    assert (arrays["images"].dtype, arrays["images"].shape) == (np.uint8, (20, 3, 32, 32))
    assert (arrays["features"].dtype, arrays["features"].shape) == (np.float32, (20, 12))
    assert arrays["digests"].tolist() == digests(arrays["images"])
    # a block's grey is its token
    np.testing.assert_array_equal(arrays["images"][:, 0, ::4, ::4].reshape(20, 64), arrays["tokens"] * 17)


def test_other_seeds_are_other_samples_and_labels_stay(cell, context):
    unit = Unit(index=0, start=0, stop=20)
    task = Generate(n=20)
    one = GenerateTask().measure(cell("raster/tinted", task, seed=0), unit, context)
    two = GenerateTask().measure(cell("raster/tinted", task, seed=1), unit, context)
    assert not (one["tokens"] == two["tokens"]).all(1).any()
    np.testing.assert_array_equal(one["labels"], two["labels"])


def test_an_unconditional_model_gets_no_labels(cell, context):
    assert set(measured(cell, context, "raster/free")["labels"].tolist()) == {-1}


def test_metrics_are_those_of_the_joined_features(cell, through):
    finished, units = through(cell("raster/tinted", Generate(n=150, show=25)))
    metrics = by_name(finished)
    assert [len(unit["sample_ids"]) for unit in units] == [64, 64, 22]
    pixels = mnist5k("heldout").load(range(1000)).astype(np.float64)
    reference = pixels.reshape(1000, 3, 2, 16, 2, 16).mean((3, 5)).reshape(1000, 12)
    features = np.concatenate([unit["features"] for unit in units])
    expected = precision_recall(features, reference.astype(np.float32))
    # the reference here is averaged in float64, the task's in float32
    assert metrics["frechet-pooled"].value == pytest.approx(frechet(features, reference).value, rel=1e-5)
    assert metrics["kid-pooled"].value == pytest.approx(kid(features, reference).value, rel=1e-4)
    assert metrics["precision-pooled"].value == pytest.approx(expected.precision.value, abs=0.01)
    assert metrics["recall-pooled"].value == pytest.approx(expected.recall.value, abs=0.01)
    directions = {name: metric.direction for name, metric in metrics.items()}
    assert directions == {
        "frechet-pooled": "lower",
        "kid-pooled": "lower",
        "precision-pooled": "higher",
        "recall-pooled": "higher",
        "class-agreement": "higher",
    }
    for metric in finished.metrics:
        assert metric.measure == "quality"
        assert metric.interval.low <= metric.value <= metric.interval.high
        assert metric.n in (150, 1000)
    assert "not FID" in metrics["frechet-pooled"].convention
    assert "n=1000" in metrics["frechet-pooled"].convention


def test_class_agreement_counts_predictions(cell, through):
    finished, units = through(cell("raster/tinted", Generate(n=70)))
    predicted = np.concatenate([unit["predicted"] for unit in units])
    metric = by_name(finished)["class-agreement"]
    assert metric.value == np.mean(predicted == np.arange(70) % 10)
    assert "mnist-classifier" in metric.convention


@pytest.mark.parametrize(
    ("adapter", "reason"),
    [("raster/free", "not conditioned on the 10 classes"), ("raster/seven", "not conditioned on the 10 classes")],
)
def test_class_agreement_without_fitting_classes_is_null(cell, through, adapter, reason):
    metric = by_name(through(cell(adapter, Generate(n=20)))[0])["class-agreement"]
    assert metric.value is None
    assert reason in metric.reason


def test_a_handful_of_samples_gives_null_with_a_reason(cell, through):
    metrics = by_name(through(cell("raster/tinted", Generate(n=4)))[0])
    for name in ("frechet-pooled", "kid-pooled", "precision-pooled", "recall-pooled"):
        assert metrics[name].value is None
        assert metrics[name].reason


def test_shown_samples_are_kept_as_arrays_and_as_a_sheet(cell, through):
    finished, units = through(cell("raster/direct", Generate(n=70, show=25)))
    shown = unpack(finished.artifacts["samples.npz"])
    assert shown["sample_ids"].tolist() == list(range(25))
    assert shown["labels"].tolist() == [number % 10 for number in range(25)]
    np.testing.assert_array_equal(shown["images"], units[0]["images"][:25])
    sheet = np.asarray(Image.open(io.BytesIO(finished.artifacts["samples.png"])))
    assert sheet.shape == (3 * 34 - 2, 10 * 34 - 2, 3)
    np.testing.assert_array_equal(sheet[34:66, 34:66], shown["images"][11].transpose(1, 2, 0))


def test_no_samples_to_show(cell, through):
    assert through(cell("raster/direct", Generate(n=20, show=0)))[0].artifacts == {}


def test_samples_that_are_not_finite_are_named(cell, context):
    with pytest.raises(CellError, match="raster/diverging: 1 of 16 images are not finite") as caught:
        measured(cell, context, "raster/diverging", batch=16)
    assert caught.value.why == "sample ids 5"
    with pytest.raises(CellError) as caught:
        measured(cell, context, "raster/diverging", Unit(index=1, start=64, stop=128))
    assert caught.value.why == "sample ids 70"


@pytest.mark.parametrize(
    ("adapter", "message"),
    [
        ("raster/short", r"raster/short: token ids of shapes \[\(40, 64\)\] expected[^\n]*\n[^\n]*\(40, 63\)"),
        ("raster/outside", r"raster/outside: token ids are 0 to 15"),
        ("raster/mute", "raster/mute: `sample` returns codes"),
        ("raster/signed", r"raster/signed: images in \[0, 1\] expected"),
        ("raster/wide", r"tokenizers/wide: images of shape \(16, 3, 32, 32\) expected[^\n]*\n[^\n]*\(16, 3, 64, 64\)"),
    ],
)
def test_wrong_outputs_are_named_with_what_was_expected(cell, context, adapter, message):
    with pytest.raises(CellError, match=message):
        measured(cell, context, adapter)


def test_a_text_model_is_not_asked_for_classes(cell, context):
    with pytest.raises(Unsupported, match="raster/text is conditioned on text"):
        measured(cell, context, "raster/text")


def test_units_measured_before_finish_without_sampling_again(cell, context, through):
    """As after a resume: another process finishes what is on disk."""
    one = cell("raster/tinted", Generate(n=70))
    _, units = through(one)
    generator = context.generator(one)
    generator.batches.clear()
    Blocks.loads = 0
    GenerateTask().finish(one, units, context)
    assert generator.batches == []
