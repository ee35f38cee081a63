"""`objects`: errors inside boxes against NumPy, packaged photographs, files of boxes, and likeness of faces."""

from __future__ import annotations

import json

import numpy as np
import pytest
from pydantic import ValidationError

from arbench.data.boxes import PHOTOGRAPHS, Box, read_boxes, windows
from arbench.data.readers.mnist import mnist5k
from arbench.errors import InputError, Unsupported
from arbench.tasks.objects import PACKAGED, Objects
from arbench.tasks.objects import work as objects
from arbench.tasks.objects.work import SIZES


def values(finished, name):
    return {tuple(metric.at.values()): metric.value for metric in finished.metrics if metric.name == name}


@pytest.fixture
def pictures(tmp_path):
    """Three digits as PNG, and the boxes of four places in them."""
    from PIL import Image

    images = mnist5k("heldout").load(range(3))
    (tmp_path / "pages").mkdir()
    for number, image in enumerate(images):
        Image.fromarray(image.transpose(1, 2, 0)).save(tmp_path / "pages" / f"{number}.png")
    return images, tmp_path / "pages"


ROWS = [("0.png", 4, 6, 10, 8, "face"), ("2.png", 0, 0, 32, 16, ""), ("2.png", 8, 10, 20, 20, "thing")]


def written(folder, rows, kind):
    names = ("image", "x", "y", "width", "height", "label")
    file = folder / f"boxes.{kind}"
    if kind == "json":
        file.write_text(json.dumps([dict(zip(names, row, strict=True)) for row in rows]))
    else:
        file.write_text("\n".join([",".join(names), *(",".join(map(str, row)) for row in rows)]))
    return file


@pytest.mark.parametrize("kind", ["csv", "json"])
def test_errors_inside_boxes_of_a_file(cell, through, pictures, tmp_path, kind):
    """Those of blocks of 4 x 4 greys, worked out by NumPy."""
    images, pages = pictures
    task = Objects(images=str(pages), boxes=str(written(tmp_path, ROWS, kind)), pictures=3)
    finished, _ = through(cell("tokenizers/blocks", task))
    grey = images.astype(np.float64).mean(1).reshape(3, 8, 4, 8, 4).mean((2, 4)) / 255
    after = np.repeat(np.repeat(np.round(grey * 15 + 0.01) * 17, 4, 1), 4, 2)
    squares = ((after[:, None] - images) ** 2).mean(1)
    inside = [squares[int(name[0]), y : y + h, x : x + w] for name, x, y, w, h, _ in ROWS]
    error = np.sqrt(np.concatenate([each.ravel() for each in inside]).mean())
    found = values(finished, "box-error")
    assert found[()] == pytest.approx(error)
    assert found["face",] == found["below 16",] == pytest.approx(np.sqrt(inside[0].mean()))
    both = np.concatenate([inside[1].ravel(), inside[2].ravel()])  # 32 x 16 is like a square of 22.6
    assert found["16 to 32",] == pytest.approx(error_of(both))
    assert found["thing",] == pytest.approx(error_of(inside[2]))
    psnr = [10 * np.log10(255**2 / each.mean()) for each in inside]
    assert values(finished, "box-psnr")[()] == pytest.approx(np.mean(psnr))
    mask = np.zeros((3, 32, 32), bool)
    for name, x, y, w, h, _ in ROWS:
        mask[int(name[0]), y : y + h, x : x + w] = True
    assert values(finished, "outside-error")[()] == pytest.approx(np.sqrt(squares[[0, 2]][~mask[[0, 2]]].mean()))
    (face,) = (metric for metric in finished.metrics if metric.name == "face-similarity")
    assert face.value is None
    assert face.reason == "no weights of sface: arbench weights fetch sface, or --weights sface=PATH"
    assert finished.gallery is not None
    assert finished.gallery.ids.tolist() == [0, 2]


def error_of(squares):
    return np.sqrt(squares.mean())


def test_packaged_photographs_from_near_and_far(cell, through):
    seen = windows(64)
    assert len(seen) == len(windows(32)) == len(windows(512)) == PACKAGED
    assert {each.box.label for each in seen} == {box.label for _, boxes in PHOTOGRAPHS for box in boxes}
    sides = [each.box.side for each in seen if each.box.label == "patch"]
    assert sides == sorted(sides, reverse=True)
    assert sides[0] == pytest.approx(64 / 1.5, abs=2)
    face = next(each for each in seen if each.box.label == "face")
    part = face.image[:, face.box.top : face.box.bottom, face.box.left : face.box.right].astype(float)
    assert part[0].mean() > part[2].mean() + 20  # skin
    whole, _ = through(cell("tokenizers/whole", Objects()))
    blurred, _ = through(cell("tokenizers/blurred", Objects()))
    assert set(values(whole, "box-error").values()) == {0}
    found = values(blurred, "box-error")
    assert {size for (size,) in (key for key in found if key) if size in SIZES} == {"below 16", "16 to 32"}
    assert found[()] > 0
    assert all(metric.n for metric in blurred.metrics)


def test_faces_are_compared_where_the_network_is(cell, through, monkeypatch, tmp_path):
    class Brightness:
        convention = "brightness"

        def __init__(self, path):
            assert path == file

        def similarity(self, one, other):
            assert one.shape == other.shape
            return float(other.mean() / one.mean())

    file = tmp_path / "weights" / "face_recognition_sface_2021dec.onnx"
    file.parent.mkdir()
    file.write_bytes(b"network")
    monkeypatch.setattr(objects, "Faces", Brightness)
    finished, _ = through(cell("tokenizers/whole", Objects()))
    (face,) = (metric for metric in finished.metrics if metric.name == "face-similarity")
    assert (face.value, face.n) == (1, 2)
    assert face.how.startswith("brightness")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (("7.png", 0, 0, 4, 4, ""), "no image 7.png"),
        (("0.png", 30, 0, 4, 4, ""), "is not within its image"),
        (("0.png", 3, 0, 0, 4, ""), "is not within its image"),
        (("0.png", "left", 0, 4, 4, ""), "cannot be read"),
        (("0.png", "nan", 0, 4, 4, ""), "cannot be read"),
        (("0.png", 0, 0, "inf", 4, ""), "cannot be read"),
        (("0.png", 0, 0, 4, 4, "x" * 200_000), "field larger"),
    ],
)
def test_boxes_that_cannot_be(tmp_path, row, message):
    with pytest.raises(InputError, match=message):
        read_boxes(written(tmp_path, [row], "csv"), ["0.png"], (32, 32))


def test_an_image_that_two_could_be_is_refused(tmp_path):
    """A stem that is another one's place, and names that stand in two folders; a whole name is always meant."""
    keys = ["1.png", "2.png", "3.png", "a/7.png", "b/7.png", "7"]
    for name in ("1", "2", "3", "7.png"):
        with pytest.raises(InputError, match="may be"):
            read_boxes(written(tmp_path, [(name, 0, 0, 4, 4, "")], "csv"), keys, (32, 32))
    for name, place in (("1.png", 0), ("b/7.png", 4), ("a/7", 3), ("7", 5), ("5", 5), ("0", 0)):
        rows = read_boxes(written(tmp_path, [(name, 0, 0, 4, 4, "")], "csv"), keys, (32, 32))
        assert [found for found, _ in rows] == [place]


def test_what_does_not_go_together(cell, through, tmp_path):
    (tmp_path / "empty.json").write_text("[]")
    with pytest.raises(InputError, match="holds no boxes"):
        read_boxes(tmp_path / "empty.json", ["0.png"], (32, 32))
    (tmp_path / "empty.json").write_text("{")
    with pytest.raises(InputError, match="cannot read"):
        read_boxes(tmp_path / "empty.json", ["0.png"], (32, 32))
    assert read_boxes(written(tmp_path, [("0", 1, 2, 3, 4, "a")], "csv"), ["x/a.png"], (32, 32)) == [
        (0, Box(1, 2, 4, 6, "a"))
    ]
    with pytest.raises(ValidationError, match="given together"):
        Objects(images="pages")
    with pytest.raises(ValidationError, match="pictures: null is for images"):
        Objects(pictures=None)
    with pytest.raises(Unsupported, match="21 windows of packaged photographs, not 22"):
        through(cell("tokenizers/whole", Objects(pictures=22)))
    with pytest.raises(Unsupported, match="does not take images of 64 x 64"):
        through(cell("tokenizers/blocks", Objects(size=64)))
