"""`arbench.score` and `arbench.compare`: the command's digits from any kind of images, as tables."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
import torch
from PIL import Image

import arbench
from arbench.cli.main import main
from arbench.errors import ArbenchError, ImageError, UnknownName, UsageError
from arbench.front.images import Images
from arbench.table import COLUMNS

OFFLINE = {"conventions": "offline", "device": "cpu"}


def folder_of(images, place):
    place.mkdir()
    for index, image in enumerate(images):
        Image.fromarray(image.transpose(1, 2, 0)).save(place / f"{index:03d}.png")
    return place


def test_digits_are_those_of_the_command(digits, others, here, capsys):
    folder_of(digits, here / "samples")
    folder_of(others, here / "reference")
    command = ["score", "samples", "--reference", "reference", "--convention", "offline,adm", "--out", "out"]
    assert main([*command, "--device", "cpu", "--json"]) == 0
    expected = json.loads(capsys.readouterr().out)["metrics"]
    found = arbench.score("samples", "reference", conventions=["offline", "adm"], device="cpu")
    assert [metric.plain() for metric in found.metrics] == expected
    assert any(metric["value"] is not None for metric in expected)
    assert capsys.readouterr() == ("", "")


def test_all_kinds_of_images_give_one_number(digits, others, here):
    class Dataset(torch.utils.data.Dataset):
        def __len__(self):
            return len(digits)

        def __getitem__(self, index):
            return torch.from_numpy(digits[index]), index % 10

    class Names(Dataset):
        def __getitem__(self, index):
            return {"image": Image.fromarray(digits[index].transpose(1, 2, 0)), "label": index % 10}

    folder_of(others, here / "reference")
    kinds = {
        "channels first": digits,
        "channels last": np.ascontiguousarray(digits.transpose(0, 2, 3, 1)),
        "tensor": torch.from_numpy(digits),
        "pillow": [Image.fromarray(image.transpose(1, 2, 0)) for image in digits],
        "dataset": Dataset(),
        "dictionaries": Names(),
        "loader": torch.utils.data.DataLoader(Dataset(), batch_size=16),
        "iterator": iter(digits),
        "images": Images(digits),
    }
    values = {}
    for kind, images in kinds.items():
        reference = others if kind == "tensor" else "reference"
        values[kind] = arbench.score(images, reference, metrics="frechet", **OFFLINE)["frechet"].value
    assert values["tensor"] is not None
    assert set(values.values()) == {values["tensor"]}, values
    assert [path.name for path in here.iterdir()] == ["reference"]  # nothing else is kept


def test_labels_of_objects_count(digits, others):
    labels = np.arange(40) % 10
    reference = Images(others, np.arange(40) % 10)
    with_labels = arbench.score(Images(digits, labels), reference, metrics="neighbour-agreement", **OFFLINE)
    without = arbench.score(digits, reference, metrics="neighbour-agreement", **OFFLINE)
    assert with_labels["neighbour-agreement"].value > 0.3  # chance: 0.1
    assert without["neighbour-agreement"].value is None


def test_a_folder_keeps_results_and_never_takes_one_array_for_another(digits, others, here):
    options = {"metrics": "frechet", "out": here / "kept", **OFFLINE}
    first = arbench.score(digits[:20], others, **options)
    second = arbench.score(digits[20:], others, **options)
    third = arbench.score(digits[:20], digits, **options)
    assert len({score["frechet"].value for score in (first, second, third)}) == 3
    assert len(list((here / "kept" / "cells").iterdir())) == 3
    assert not (here / "kept" / "features").exists()
    assert first.folder == here / "kept"
    files = folder_of(digits[:20], here / "files")
    assert arbench.score(files, others[:20], out=here / "files-kept", **OFFLINE).folder.is_dir()


def test_pairs_of_objects(digits):
    damaged = digits // 2
    score = arbench.score(damaged, digits, paired=True, device="cpu")
    expected = np.mean(
        [10 * np.log10(255**2 / np.mean((a.astype(float) - b) ** 2)) for a, b in zip(damaged, digits, strict=True)]
    )
    assert score["offline-pairs/psnr"].value == pytest.approx(expected, rel=1e-5)


def test_mistakes_are_told_with_the_next_step(digits, others):
    with pytest.raises(ImageError, match="to_uint8"):
        arbench.score(digits / 255, others, **OFFLINE)
    with pytest.raises(UnknownName, match="did you mean offline"):
        arbench.score(digits, others, conventions="ofline")
    with pytest.raises(UnknownName, match="parity"):
        arbench.score(digits, others, mode="quick")
    with pytest.raises(UnknownName, match="inception"):
        arbench.score(digits, others, weights={"incepton": "file.pth"})
    with pytest.raises(UsageError, match="limit is 0"):
        arbench.score(digits, others, limit=0)
    with pytest.raises(ArbenchError, match="no file or folder"):
        arbench.score("nowhere", others, **OFFLINE)


@pytest.fixture(scope="module")
def two(digits, others):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ARBENCH_WEIGHTS", "none")
        options = {"conventions": "offline,adm", "device": "cpu"}
        return arbench.score(digits[:20], others, **options), arbench.score(digits[20:], others, **options)


def test_a_score_is_a_table_and_a_frame(two):
    score = two[0]
    metric = score["offline/frechet"]
    assert metric == score["frechet"]
    for text in (repr(score), score._repr_html_()):
        assert f"{metric.value:.3g}" in text
        assert "arbench weights fetch inception" in text
        assert "rank_deficient" in text
    assert score._repr_html_().count("<tr>") == len(score.metrics) + 1
    frame = score.frame()
    assert tuple(frame.columns) == COLUMNS
    assert frame.loc[frame.metric == "frechet", "value"].item() == metric.value
    with pytest.raises(UnknownName, match="did you mean offline/frechet"):
        score["ofline/frechet"]
    with pytest.raises(UsageError, match=r"several have it: .*adm/precision"):
        score["precision"]
    with pytest.raises(dataclasses.FrozenInstanceError):
        score.results = ()


def test_names_of_files_are_no_markup(digits, others, here):
    place = folder_of(digits[:20], here / "<b>&")
    score = arbench.score(place, others, metrics="frechet", **OFFLINE)
    assert "<b>" not in score._repr_html_()
    assert "&lt;b&gt;&amp;" in score._repr_html_()


def test_scores_side_by_side(two):
    comparison = arbench.compare(ours=two[0], theirs=two[1])
    frame = comparison.frame()
    assert list(frame.adapter) == ["ours", "theirs"]
    for row, score in zip(frame.to_dict("records"), two, strict=True):
        metric = score["frechet"]
        assert row["offline/frechet"] == metric.value
        assert (row["offline/frechet.low"], row["offline/frechet.high"]) == (metric.interval.low, metric.interval.high)
        assert f"{metric.value:.3g}" in repr(comparison)
        assert f"{metric.value:.3g}" in comparison._repr_html_()
    assert not any("fid" in name for name in frame.columns)  # no value anywhere
    assert "more columns: .frame()" in repr(comparison)
    assert len(arbench.compare(comparison, third=two[0]).frame()) == 3


def test_two_values_for_one_place_need_names(two):
    same = [
        dataclasses.replace(score, results=(score.results[0].model_copy(update={"settings_id": "set-1"}),))
        for score in two
    ]
    with pytest.raises(UsageError, match="name them"):
        arbench.compare(*same)
    assert len(arbench.compare(same[0], same[0]).frame()) == 1
    with pytest.raises(UsageError, match="nothing to compare"):
        arbench.compare()
