"""The edit task: the mask in pixels and tokens, what is put back, and who is asked for what."""

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from tiny_adapters import CARDS, SPEC, card

from arbench import registry
from arbench.data.indexed import ArraySource
from arbench.data.readers.mnist import mnist5k
from arbench.errors import CellError, ImageError, Unsupported
from arbench.metrics.sets.frechet import frechet
from arbench.protocols import TokenSpec
from arbench.run.plan import make_plan
from arbench.spec import suite_file
from arbench.spec.cell import make_cell
from arbench.spec.suite import Settings
from arbench.spec.task import Data, tasks
from arbench.spec.unit import Unit
from arbench.tasks.edit import Edit
from arbench.tasks.edit.work import MASKED, EditWork, pixel_mask, psnr_where, token_mask


@torch.inference_mode()
def measured(cell, context, adapter="raster/repainted", unit=Unit(index=0, start=0, stop=20), **task):  # noqa: B008
    return EditWork().measure(cell(adapter, Edit(n=unit.stop, **task)), unit, context)


def by_name(finished):
    """All numbers but those of the originals."""
    found = [metric for metric in finished.metrics if not metric.at]
    assert len({metric.name for metric in found}) == len(found)
    return {metric.name: metric for metric in found}


def unable(card, spec):
    return tasks()["edit"].why_unable(card, spec)


# ---- the mask --------------------------------------------------------------------------------------------------------


def box(top, left, bottom, right, side=32):
    cells = np.zeros((side, side), dtype=bool)
    cells[top:bottom, left:right] = True
    return cells


@pytest.mark.parametrize(
    ("mask", "expected"),
    [
        ("centre", box(8, 8, 24, 24)),
        ("border", ~box(8, 8, 24, 24)),
        ("lower", box(16, 0, 32, 32)),
        ("left", box(0, 0, 32, 16)),
        ((0.0, 0.5, 0.25, 1.0), box(0, 16, 8, 32)),
        ((0.1, 0.1, 0.9, 0.9), box(3, 3, 29, 29)),
        ((0.5, 0.5, 0.501, 0.501), box(16, 16, 17, 17)),
        ((0.999, 0.999, 1.0, 1.0), box(31, 31, 32, 32)),
    ],
)
def test_masks_in_pixels(mask, expected):
    np.testing.assert_array_equal(pixel_mask(mask, 32), expected)


@pytest.mark.parametrize("mask", ["center", 3, [0, 0, 1], [0, 0, 1.2, 1], [0.5, 0, 0.5, 1], [0, 0.6, 1, 0.4], None])
def test_masks_that_are_none(mask):
    with pytest.raises(ValidationError, match=r"centre, border, lower, left, or a box \[top, left, bottom, right\]"):
        Edit(mask=mask)


def test_a_box_survives_being_stored():
    task = Edit(mask=[0, 0, 1, 0.5])
    assert task.mask == (0.0, 0.0, 1.0, 0.5)
    assert Edit.model_validate_json(task.model_dump_json()) == task
    assert Edit.model_validate(task.plain()) == task


def test_a_token_is_redrawn_if_its_cell_holds_a_pixel_of_the_mask():
    found = token_mask(box(4, 7, 9, 8), SPEC)  # 8 x 8 tokens of 4 pixels
    assert found.nonzero().tolist() == [[1, 1], [2, 1]]
    three = TokenSpec(kind="discrete", layout="pyramid", levels=((1, 1), (3, 3)), vocabulary=2)
    assert token_mask(box(10, 0, 11, 1), three).nonzero().tolist() == [[0, 0], [1, 0]]  # a cell has 10 2/3 pixels
    with pytest.raises(Unsupported, match="sequence"):
        token_mask(box(0, 0, 1, 1), TokenSpec(kind="discrete", layout="sequence", levels=((32,),), vocabulary=2))


# ---- a unit ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mask", ["centre", "border", (0.03, 0.4, 0.7, 0.55)])
def test_pixels_outside_are_the_originals_and_tokens_inside_are_drawn(cell, context, mask):
    arrays = measured(cell, context, mask=mask)
    originals, pixels = mnist5k("heldout").load(range(20)), pixel_mask(mask, 32)
    np.testing.assert_array_equal(arrays["images"][..., ~pixels], originals[..., ~pixels])
    # a block's grey is its token; the mask cuts through blocks, so compare pixel by pixel
    drawn = np.kron(arrays["tokens"].reshape(20, 8, 8) * 17, np.ones((4, 4), dtype=int))
    np.testing.assert_array_equal(arrays["images"][:, 0][:, pixels], drawn[:, pixels])
    kept = ~token_mask(pixels, SPEC).flatten().numpy()
    tokenizer = context.generator(cell("raster/repainted", Edit())).tokenizer
    codes = tokenizer.encode(torch.from_numpy(originals).float() / 255).ids[0].numpy()
    np.testing.assert_array_equal(arrays["tokens"][:, kept], codes[:, kept])
    assert (arrays["tokens"][:, ~kept] != codes[:, ~kept]).mean() > 0.5


def test_the_class_asked_for(cell, context):
    labels = mnist5k("heldout").labels[:20]
    same, following = measured(cell, context), measured(cell, context, condition="next")
    np.testing.assert_array_equal(same["labels"], labels)
    np.testing.assert_array_equal(following["labels"], (labels + 1) % 10)
    np.testing.assert_array_equal(following["classes"], labels)
    inside = pixel_mask("centre", 32)
    means = {name: arrays["images"][:, 0][:, inside].mean(1) for name, arrays in (("s", same), ("n", following))}
    # Tinted draws about 1.5 levels brighter for the next class, and far darker for class 0 after 9
    np.testing.assert_array_equal(means["n"] > means["s"], labels < 9)


def test_arrays_are_bitwise_the_same_at_every_batch_size(cell, context):
    unit = Unit(index=1, start=64, stop=100)
    first = measured(cell, context, unit=unit, batch=64)
    for batch in (1, 7):
        other = measured(cell, context, unit=unit, batch=batch)
        assert first.keys() == other.keys()
        for name in first:
            np.testing.assert_array_equal(first[name], other[name], err_msg=f"{name} at batch {batch}")


def test_an_image_is_redrawn_from_the_seed_of_its_index(cell, context):
    whole = measured(cell, context, unit=Unit(index=0, start=0, stop=20))
    part = measured(cell, context, unit=Unit(index=0, start=12, stop=20))
    np.testing.assert_array_equal(whole["images"][12:], part["images"])
    unit, task = Unit(index=0, start=0, stop=20), Edit(n=20)
    with torch.inference_mode():
        other = EditWork().measure(cell("raster/repainted", task, seed=1), unit, context)
    assert not (whole["images"] == other["images"]).all(axis=(1, 2, 3)).any()


# ---- metrics ---------------------------------------------------------------------------------------------------------


def test_metrics(cell, through):
    finished, units = through(cell("raster/repainted", Edit(n=70, show=6)))
    metrics = by_name(finished)
    assert metrics["unchanged-outside"].value == 1
    predicted = np.concatenate([unit["predicted"] for unit in units])
    labels, originals = mnist5k("heldout").labels[:70], mnist5k("heldout").load(range(70))
    assert metrics["class-agreement"].value == np.mean(predicted == labels)
    (original,) = (metric for metric in finished.metrics if metric.at)
    assert (original.name, original.at) == ("class-agreement", {"images": "originals"})
    labelled = np.concatenate([unit["predicted_original"] for unit in units])
    assert original.value == np.mean(labelled == labels) > 0.9
    # decoded pixels outside are greys of blocks, whatever was drawn inside
    blocks = originals.mean(1).reshape(70, 8, 4, 8, 4).mean((2, 4)) / 17
    decoded = np.kron((blocks + 0.01).round() * 17, np.ones((4, 4)))[:, None]
    outside = ~pixel_mask("centre", 32)
    squares = np.square(decoded - originals)[..., outside].mean((1, 2))
    expected = np.mean(10 * np.log10(255**2 / squares))
    assert metrics["psnr-outside"].value == pytest.approx(expected, abs=1e-6)
    assert metrics["psnr-outside-tokenizer"].value == pytest.approx(expected, abs=1e-6)
    rows = np.concatenate([unit["features:efficientnet-lite0:pooled"] for unit in units])
    reference = mnist5k("heldout").load(range(1000)).astype(float).reshape(1000, 3, 2, 16, 2, 16).mean((3, 5))
    expected = frechet(rows, reference.reshape(1000, 12)).value  # averaged in float64, the task's in float32
    assert metrics["frechet"].value == pytest.approx(expected, rel=1e-4)
    assert (metrics["frechet"].convention, metrics["frechet"].reference.name) == ("offline", "mnist5k/heldout")
    for metric in finished.metrics:
        assert metric.n == 70
        assert metric.interval.low <= metric.value <= metric.interval.high
    shown = finished.gallery
    assert (shown.layout, shown.ids.tolist()) == ("rows", list(range(6)))
    assert (shown.names, shown.shared) == (("original", "mask", ""), (True, True, False))
    np.testing.assert_array_equal(shown.images[0], originals[:6])
    np.testing.assert_array_equal(shown.images[1][..., outside], originals[:6][..., outside])
    assert (shown.images[1][..., ~outside] == np.array(MASKED)[:, None]).all()
    np.testing.assert_array_equal(shown.images[2], units[0]["images"][:6])
    np.testing.assert_array_equal(shown.labels, [labels[:6]] * 3)
    assert shown.title == "Inpainting: centre redrawn, the image’s own class (mnist5k/heldout)"


def test_psnr_of_chosen_pixels():
    images = np.zeros((2, 3, 4, 4), dtype=np.uint8)
    others = images.copy()
    others[0, :, 0, 0] = 10
    others[0, :, 3, 3] = 200  # not looked at
    pixels = np.zeros((4, 4), dtype=bool)
    pixels[0] = True
    expected = [10 * np.log10(255**2 / 25), 10 * np.log10(255**2 * 12)]  # the second: one of twelve values off by one
    np.testing.assert_allclose(psnr_where(pixels, others, images), expected, rtol=1e-12)


def test_a_mask_of_everything_leaves_nothing_to_compare(cell, through):
    metrics = by_name(through(cell("raster/repainted", Edit(n=20, mask=(0, 0, 1, 1), show=0)))[0])
    for name in ("unchanged-outside", "psnr-outside", "psnr-outside-tokenizer"):
        assert metrics[name].value is None
        assert metrics[name].reason == "the mask leaves no pixel outside"
    assert metrics["class-agreement"].value is not None


def test_a_model_without_classes_has_no_agreement(cell, through):
    finished, units = through(cell("raster/classless", Edit(n=20)))
    metrics = by_name(finished)
    assert metrics["class-agreement"].value is None
    assert "not conditioned on the 10 classes" in metrics["class-agreement"].reason
    assert set(units[0]["labels"].tolist()) == {-1}
    assert metrics["unchanged-outside"].value == 1


# ---- what does not fit -----------------------------------------------------------------------------------------------


def test_a_class_without_edit_is_named(cell, context):
    with pytest.raises(CellError, match="raster/pretends: its card offers `edits`"):
        measured(cell, context, "raster/pretends")


@pytest.mark.parametrize(
    ("labels", "message"),
    [(None, "needs the class of each image"), (np.arange(8) + 5, "knows classes 0 to 9")],
)
def test_images_without_fitting_classes_are_named(cell, context, labels, message):
    source = ArraySource("mnist5k/odd", np.zeros((8, 3, 32, 32), dtype=np.uint8), labels)
    context._sources[Data("mnist5k/odd")] = source
    with pytest.raises(ImageError, match=message):
        measured(cell, context, unit=Unit(index=0, start=0, stop=8), data="mnist5k/odd")


def test_images_of_another_size_are_named(cell, context):
    context._sources[Data("mnist5k/odd")] = ArraySource("mnist5k/odd", np.zeros((8, 3, 16, 16), dtype=np.uint8))
    with pytest.raises(ImageError, match="takes 32 x 32 images") as caught:
        measured(cell, context, unit=Unit(index=0, start=0, stop=8), data="mnist5k/odd")
    assert "task `edit`" in caught.value.hint


def test_who_cannot_edit_is_known_before_anything_is_loaded():
    offers = {"offers": frozenset({"edits"})}
    assert unable(CARDS["raster/repainted"], Edit()) == ""
    assert "does not offer `edits`" in unable(CARDS["raster/tinted"], Edit())
    assert "conditioned on text" in unable(card("raster/x", condition="text", **offers), Edit())
    classless = card("raster/x", condition="none", classes=None, **offers)
    assert unable(classless, Edit()) == ""
    assert "no classes to edit by" in unable(classless, Edit(condition="next"))
    flat = TokenSpec(kind="discrete", layout="sequence", levels=((32,),), vocabulary=2)
    assert "no place in the image" in unable(card("raster/x", tokens=flat, **offers), Edit())


# ---- the minis -------------------------------------------------------------------------------------------------------


@pytest.fixture
def shipped(monkeypatch):
    """The registry as it is, in place of the tiny one."""
    cards = registry._load()[0]
    monkeypatch.setattr(registry, "cards", lambda: cards)
    return cards


def test_the_suite_plans(shipped):
    plan = make_plan(suite_file.read("edit"), adapter_globs=["next_scale/var-mini", "raster/llamagen-mini"])
    outcomes = {}
    for planned in plan.cells:
        key = planned.cell.adapter.rpartition("/")[2], planned.cell.task.task
        outcomes.setdefault(key, []).append(planned.outcome)
        if planned.outcome == "unsupported":
            assert planned.reason.startswith("it cannot redraw a part of an image")
        else:
            assert planned.minutes > 0
            assert planned.samples == planned.cell.task.n
    assert outcomes == {
        ("llamagen-mini", "edit"): ["unsupported"] * 3,
        ("llamagen-mini", "likelihood"): [None],
        ("var-mini", "edit"): [None] * 3,
        ("var-mini", "likelihood"): [None],
    }
    everything = make_plan(suite_file.read("edit"))
    assert {"next_scale/var-mini", "raster/llamagen-mini"} <= {planned.cell.adapter for planned in everything.cells}


def test_a_mini_keeps_the_class_and_can_be_asked_for_another(shipped, real_cell, through):
    # what is left outside the centre still shows the old class, hence less for the next; chance is 0.1
    for condition, least in (("same", 0.8), ("next", 0.3)):
        finished, units = through(real_cell("next_scale/var-mini", Edit(n=64, condition=condition)))
        metrics = by_name(finished)
        assert metrics["unchanged-outside"].value == 1
        assert metrics["class-agreement"].value >= least
        assert metrics["psnr-outside"].value > 10
        assert metrics["psnr-outside-tokenizer"].value > metrics["psnr-outside"].value
        pixels = pixel_mask("centre", 32)
        originals = mnist5k("heldout").load(range(64))
        assert (units[0]["images"][..., pixels] != originals[..., pixels]).any(axis=(1, 2)).all()


@pytest.fixture
def real_cell(shipped):
    def build(adapter, task):
        native = shipped[adapter].native
        return make_cell(shipped[adapter], task, Settings(), native, {}, data={}, machine="here")

    return build
