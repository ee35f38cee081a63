"""The generate task: what a sample is must not depend on how it was asked for, and wrong outputs are named."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from arbench.data.readers.mnist import mnist5k
from arbench.errors import CellError, Unsupported
from arbench.features.unit_features import UnitFeatures, UnitFile
from arbench.gallery import Gallery
from arbench.images import digests
from arbench.metrics.sets.frechet import frechet
from arbench.metrics.sets.kernel import kid
from arbench.metrics.sets.neighbours import precision_recall
from arbench.spec.unit import Unit, cut
from arbench.tasks.compared import keeps_images
from arbench.tasks.generate import Generate
from arbench.tasks.generate.work import GenerateWork


@torch.inference_mode()
def measured(cell, context, adapter, unit=Unit(index=0, start=0, stop=40), **task):  # noqa: B008
    one = cell(adapter, Generate(n=unit.stop, **task))
    return GenerateWork().measure(one, unit, context)


def numbers(finished, convention="offline"):
    """The numbers of a convention by name."""
    return {metric.name: metric for metric in finished.metrics if metric.convention == convention}


def agreement(finished):
    return numbers(finished, "arbench")["class-agreement"]


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
    assert short.keys() == long.keys()
    for name in short:
        whole = name == "size" or name.startswith("convention:")  # of the unit, not of each sample
        np.testing.assert_array_equal(short[name], long[name] if whole else long[name][:37], err_msg=name)


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
    features = arrays["features:efficientnet-lite0:pooled"]
    assert (features.dtype, features.shape) == (np.float32, (20, 12))
    quarters = arrays["images"].reshape(20, 3, 2, 16, 2, 16).mean((3, 5)).reshape(20, 12)
    np.testing.assert_allclose(features, quarters, rtol=1e-6)
    assert str(arrays["convention:efficientnet-lite0:pooled"]) == "quarters, parity"
    assert arrays["digests"].tolist() == digests(arrays["images"])
    assert arrays["keys"].tolist() == [f"sample-{number:06d}" for number in range(20)]
    assert arrays["size"].tolist() == [32, 32]
    assert not [name for name in arrays if "inception" in name]  # whose weights are not here
    # a block's grey is its token
    np.testing.assert_array_equal(arrays["images"][:, 0, ::4, ::4].reshape(20, 64), arrays["tokens"] * 17)


def test_other_seeds_are_other_samples_and_labels_stay(cell, context):
    unit = Unit(index=0, start=0, stop=20)
    task = Generate(n=20)
    with torch.inference_mode():
        one = GenerateWork().measure(cell("raster/tinted", task, seed=0), unit, context)
        two = GenerateWork().measure(cell("raster/tinted", task, seed=1), unit, context)
    assert not (one["tokens"] == two["tokens"]).all(1).any()
    np.testing.assert_array_equal(one["labels"], two["labels"])


def test_an_unconditional_model_gets_no_labels(cell, context):
    assert set(measured(cell, context, "raster/free")["labels"].tolist()) == {-1}


def test_numbers_are_those_of_the_joined_features(cell, through):
    finished, units = through(cell("raster/tinted", Generate(n=150, show=25)))
    metrics = numbers(finished)
    assert [len(unit["sample_ids"]) for unit in units] == [64, 64, 22]
    pixels = mnist5k("heldout").load(range(1000)).astype(np.float64)
    reference = pixels.reshape(1000, 3, 2, 16, 2, 16).mean((3, 5)).reshape(1000, 12)
    features = np.concatenate([unit["features:efficientnet-lite0:pooled"] for unit in units])
    expected = precision_recall(features, reference.astype(np.float32))
    # the reference here is averaged in float64, the task's in float32
    assert metrics["frechet"].value == pytest.approx(frechet(features, reference).value, rel=1e-5)
    assert metrics["kid"].value == pytest.approx(kid(features, reference).value, rel=1e-4)
    assert metrics["precision"].value == pytest.approx(expected.precision.value, abs=0.01)
    assert metrics["recall"].value == pytest.approx(expected.recall.value, abs=0.01)
    directions = {
        "frechet": "lower",
        "frechet-infinity": "lower",
        "kid": "lower",
        "mind": "lower",
        "precision": "higher",
        "recall": "higher",
        "density": "higher",
        "coverage": "higher",
        "auth-pct": "higher",
        "realism": "higher",
        "vendi": "higher",
        "vendi-per-class": "higher",
        "neighbour-agreement": "higher",
        "frechet-per-class": "lower",
    }
    assert {name: metric.direction for name, metric in metrics.items()} == directions
    for name, metric in metrics.items():
        assert metric.measure == "quality"
        if metric.value is None:
            assert metric.reason, name
            continue
        assert metric.n in (150, 1000)
        if metric.interval is not None:
            assert metric.interval.low <= metric.value <= metric.interval.high
        if name != "vendi":
            assert metric.reference.name == "mnist5k/heldout"
            assert len(metric.reference.digest) == 32
    for name in ("frechet", "kid", "precision", "recall"):
        assert metrics[name].interval is not None, name
    assert metrics["vendi"].reference is None
    assert "efficientnet-lite0:pooled, quarters, parity" in metrics["frechet"].how


def test_both_sets_are_summed_up(cell, through):
    finished, units = through(cell("raster/seven", Generate(n=70)))
    assert (finished.samples.source, finished.samples.n) == ("raster/seven", 70)
    assert (finished.samples.sizes, finished.samples.classes) == ({"32x32": 70}, 7)
    assert finished.samples.labels_sorted is False
    assert (finished.reference.source, finished.reference.n) == ("mnist5k/heldout", 1000)
    assert (finished.reference.sizes, finished.reference.classes) == ({"32x32": 1000}, 10)
    assert finished.reference.digest == numbers(finished)["frechet"].reference.digest
    codes = [remark.code for remark in finished.remarks]
    assert "reference_is_val" in codes
    assert set(codes) <= set(numbers(finished)["frechet"].flags)
    assert finished.weights == {}
    assert len(UnitFeatures("x", units, "efficientnet-lite0")) == 70


def test_a_convention_whose_weights_are_missing_is_null_and_says_how_to_get_them(cell, through):
    """The one sampling still gives the numbers of the other."""
    finished, _ = through(cell("raster/tinted", Generate(n=70)))
    missing = numbers(finished, "adm")
    assert list(missing) == ["fid", "sfid", "is", "precision", "recall"]
    for metric in missing.values():
        assert metric.value is None
        assert metric.reason == (
            "no weights of inception: arbench weights fetch inception, or --weights inception=PATH"
        )
    assert numbers(finished)["frechet"].value is not None


def test_only_the_numbers_asked_for(cell, through):
    task = Generate(n=70, conventions=["offline"], metrics=["fre*t", "kid"])
    finished, _ = through(cell("raster/tinted", task))
    assert set(numbers(finished)) == {"frechet", "kid"}
    assert agreement(finished).value is not None  # the task's own


def test_a_jackknife_has_the_same_value_and_another_error_bar(cell, through):
    found = [
        numbers(through(cell("raster/tinted", Generate(n=70, metrics=["frechet"], error=error)))[0])["frechet"]
        for error in ("delta", "jackknife")
    ]
    assert found[0].value == pytest.approx(found[1].value, rel=1e-12)
    assert found[0].key == found[1].key
    assert found[0].interval.method != found[1].interval.method


def test_class_agreement_counts_predictions(cell, through):
    finished, units = through(cell("raster/tinted", Generate(n=70)))
    predicted = np.concatenate([unit["predicted"] for unit in units])
    metric = agreement(finished)
    assert metric.value == np.mean(predicted == np.arange(70) % 10)
    assert "mnist-classifier" in metric.how


@pytest.mark.parametrize(
    ("adapter", "reason"),
    [("raster/free", "not conditioned on the 10 classes"), ("raster/seven", "not conditioned on the 10 classes")],
)
def test_class_agreement_without_fitting_classes_is_null(cell, through, adapter, reason):
    metric = agreement(through(cell(adapter, Generate(n=20)))[0])
    assert metric.value is None
    assert reason in metric.reason


def test_a_handful_of_samples_gives_null_with_a_reason(cell, through):
    metrics = numbers(through(cell("raster/tinted", Generate(n=4)))[0])
    for name in ("frechet", "kid", "precision", "recall"):
        assert metrics[name].value is None
        assert metrics[name].reason


def test_shown_samples_are_kept_as_arrays_and_as_a_sheet(cell, through, tmp_path):
    finished, units = through(cell("raster/direct", Generate(n=70, show=25)))
    (tmp_path / "pictures.npz").write_bytes(finished.gallery.pack())
    shown = Gallery.read(tmp_path / "pictures.npz")
    assert (shown.layout, shown.names, shown.shared) == ("sheet", ("",), (False,))
    assert shown.ids.tolist() == list(range(25))
    assert shown.labels.tolist() == [[number % 10 for number in range(25)]]
    np.testing.assert_array_equal(shown.images[0], units[0]["images"][:25])
    sheet = np.asarray(Image.open(io.BytesIO(finished.gallery.sheet())))
    assert sheet.shape == (3 * 34 - 2, 10 * 34 - 2, 3)
    np.testing.assert_array_equal(sheet[34:66, 34:66], shown.images[0, 11].transpose(1, 2, 0))


def test_the_worst_are_furthest_from_the_reference(cell, through):
    finished, units = through(cell("raster/tinted", Generate(n=70, show=25)))
    worst, source = finished.worst, mnist5k("heldout")
    samples = np.concatenate([unit["features:efficientnet-lite0:pooled"] for unit in units]).astype(np.float64)
    real = source.load(range(1000)).astype(np.float64).reshape(1000, 3, 2, 16, 2, 16).mean((3, 5)).reshape(1000, 12)
    apart = np.sqrt(((samples[:, None] - real[None]) ** 2).sum(2))
    assert worst.ids.tolist() == np.argsort(-apart.min(1), kind="stable")[:16].tolist()
    assert worst.names == ("", "nearest real image")
    near = apart.argmin(1)[worst.ids]
    np.testing.assert_array_equal(worst.images[1], source.load(near.tolist()))
    assert worst.labels.tolist() == [(worst.ids % 10).tolist(), source.labels[near].tolist()]
    assert f"distance {apart.min(1).max():.3g} to" in worst.lead


def test_without_a_number_of_single_samples_the_worst_have_a_reason(cell, through, tmp_path):
    statistics = tmp_path / "reference.npz"
    np.savez(statistics, mu=np.zeros(2048), sigma=np.eye(2048))
    finished, _ = through(cell("raster/direct", Generate(n=20, reference=str(statistics), kind="adm")))
    assert len(finished.worst.ids) == 0
    assert "only their statistics" in finished.worst.lead
    assert through(cell("raster/direct", Generate(n=16)))[0].worst is None  # all of them are shown


def test_more_to_show_than_there_are(cell, through):
    finished, _ = through(cell("raster/direct", Generate(n=20, show=100)))
    assert finished.gallery.ids.tolist() == list(range(20))


def test_no_samples_to_show(cell, through):
    finished, _ = through(cell("raster/direct", Generate(n=20, show=0)))
    assert finished.gallery is None
    assert (finished.files, finished.latency) == ({}, None)


@pytest.mark.parametrize(
    ("megabytes", "show", "kept"),
    [
        (None, 0, [True] * 3),
        (256, 0, [True] * 3),
        (0, 0, [False] * 3),
        (0, 1, [True, False, False]),
        (0, 65, [True, True, False]),
        (1, 0, [True] * 3),  # 150 images of 3072 bytes
    ],
)
def test_images_are_kept_up_to_a_size_and_always_to_be_shown(cell, through, megabytes, show, kept):
    one = cell("raster/direct", Generate(n=150, show=show), keep_images=megabytes)
    finished, units = through(one)
    assert ["images" in unit for unit in units] == kept
    assert all("features:efficientnet-lite0:pooled" in unit for unit in units)
    assert numbers(finished)["frechet"].value is not None
    assert (finished.gallery is None) == (show == 0)


def test_the_limit_is_in_megabytes_from_the_first_sample_on(cell):
    """Samples 0 to 325 are just under 1 MB, and a unit is kept as a whole or not."""
    one = cell("raster/direct", Generate(n=1000), keep_images=1)
    kept = [keeps_images(one, unit, 3072, 0) for unit in cut(1000)]
    assert kept == [unit.stop <= 325 for unit in cut(1000)]
    assert sum(kept) == 5


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
    first, units = through(one)
    generator = context.generator(one)
    generator.batches.clear()
    again = GenerateWork().finish(one, [UnitFile(unit.path) for unit in units], context)
    assert generator.batches == []
    assert again.metrics == first.metrics
