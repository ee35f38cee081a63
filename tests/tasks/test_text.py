"""Text before and after a tokenizer: cards whose words are known, edit distances by hand, and the OCR itself."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError
from tiny_adapters import CARDS

from arbench.data.text_cards import SCRIPTS, SIZES, WORDS, cards, fitting, why_not_drawn
from arbench.errors import InputError, PrerequisiteError, Unsupported
from arbench.metrics.ocr import Ocr
from arbench.metrics.text import distances, rate
from arbench.tasks import context as contexts
from arbench.tasks.text import Text


def test_edits_by_hand():
    found = distances(["kitten  sits\n", "", "a b c", "Same"], ["sitting sits", "word", "a c", "same"])
    assert found.tolist() == [[3, 12, 1, 2], [4, 4, 1, 1], [2, 3, 1, 2], [1, 4, 1, 1]]
    estimate = rate(found[:, 0], found[:, 1])
    assert estimate.value == 10 / 23
    assert estimate.low < estimate.value < estimate.high
    assert rate(found[:0, 0], found[:0, 1]).reason == "no text in the reference"
    assert rate(np.array([0, 0, 1]), np.array([9, 9, 9])).low == 0  # no rate is below it
    none = rate(np.zeros(4, np.int64), np.full(4, 9))
    assert (none.value, none.low, none.flags) == (0, None, ("no_interval",))  # four pages tell little of a fifth


def test_cards_are_known_and_each_is_its_own():
    drawn = cards(256, range(14), 3)
    assert [card.pixels for card in drawn] == [*SIZES, *SIZES]
    for card in drawn:
        assert set(card.text.split()) <= set(WORDS)
        assert card.image.shape == (3, 256, 256)
        assert np.ptp(card.image) >= 0.4 * 255 - 2
    (alone,) = cards(256, range(9, 10), 3)
    np.testing.assert_array_equal(alone.image, drawn[9].image)
    assert alone.text == drawn[9].text
    assert cards(256, range(9, 10), 4)[0].text != alone.text
    assert fitting(32) == (8,)
    assert cards(16, range(3), 0) == []


class FakeOcr:
    """Reads the cards of 32 pixels that are as they were drawn, and nothing of others."""

    convention = "a reader for tests"

    def __init__(self, device):
        self.known = {card.image.tobytes(): card.text for card in cards(32, range(20), 0)}

    def read(self, image):
        return self.known.get(image.tobytes(), "")

    def unknown(self, text):
        return "".join(letter for letter in text if letter > "z")


def values(finished, name):
    return {tuple(metric.at.items()): metric.value for metric in finished.metrics if metric.name == name}


@pytest.fixture
def fake(monkeypatch):
    monkeypatch.setattr(contexts, "SHARED", {"ocr": "test_text:FakeOcr"})
    monkeypatch.setattr(contexts.registry, "resolve", _resolve(contexts.registry.resolve))


def _resolve(whole):
    return lambda path: FakeOcr if path == "test_text:FakeOcr" else whole(path)


def test_a_tokenizer_that_keeps_all_reads_as_before(cell, through, fake, monkeypatch):
    """The identity, and one that drops the text: constructed, and measured so."""
    blocks = contexts.registry.resolve(CARDS["tokenizers/continuous"].implementation)
    kept = []

    def encode(self, images, *, noise=None):
        kept.append(images)
        return whole(self, images)

    whole = blocks.encode
    monkeypatch.setattr(blocks, "encode", encode)
    monkeypatch.setattr(blocks, "decode", lambda self, codes, probe=None: kept[-1][[*range(5), *[4] * 11]])
    finished, _ = through(cell("tokenizers/continuous", Text(texts=5, show=2)))
    assert values(finished, "cer") == values(finished, "cer-original") == {(): 0, (("pixels", 8),): 0}
    assert values(finished, "word-accuracy") == {(): 1, (("pixels", 8),): 1}
    assert finished.gallery is not None
    assert finished.gallery.images.shape == (2, 2, 3, 32, 32)


def test_a_tokenizer_that_drops_text(cell, through, fake):
    """Blocks of 4 x 4 pixels leave nothing to read."""
    finished, _ = through(cell("tokenizers/blocks", Text(texts=20)))
    assert values(finished, "cer-original") == {(): 0, (("pixels", 8),): 0}
    assert values(finished, "cer") == {(): 1, (("pixels", 8),): 1}
    assert values(finished, "word-accuracy") == {(): 0, (("pixels", 8),): 0}
    assert all("a reader for tests" in metric.how for metric in finished.metrics)


def test_scripts_that_the_ocr_has_no_letters_for_are_null(cell, through, fake):
    """Never an error rate of 1: letters that a reader does not have are no fault of the tokenizer."""
    finished, _ = through(cell("tokenizers/blocks", Text(texts=6, scripts=("latin", "greek", "han"))))
    cer = {metric.at.get("script"): metric for metric in finished.metrics if metric.name == "cer"}
    assert cer["latin"].value == 1
    assert cer["latin"].n == 2
    assert (cer["greek"].value, cer["greek"].reason) == (None, "a reader for tests, knows no greek letters")
    assert cer["han"].value is None
    assert values(finished, "cer")[()] == 1
    own, _ = through(cell("tokenizers/blocks", Text(texts=2, scripts=("greek",))))
    assert {(metric.value, metric.reason) for metric in own.metrics if not metric.at} == {
        (None, "the OCR can read none of the texts")
    }


def test_cards_of_a_script_without_a_font_are_blank(monkeypatch):
    monkeypatch.setattr("arbench.data.text_cards.find_spec", lambda name: None if "fontja" in name else name)
    latin, han = cards(64, range(2), 0, ("latin", "han"))
    assert latin.text
    assert (han.text, int(han.image.min())) == ("", 255)
    assert why_not_drawn("han") == "no font of han: pip install 'arbench[ocr]'"
    assert why_not_drawn("greek") == ""


@pytest.mark.parametrize("script", SCRIPTS)
def test_each_script_has_its_letters(script):
    assert why_not_drawn(script) == ""  # the fonts are in the extra `dev`
    ranges = {"latin": "az", "cyrillic": "аё", "greek": "ΆϿ", "han": "一鿿", "kana": "ぁー"}
    low, high = ranges[script]
    drawn = cards(128, range(7), 0, (script,))
    assert {card.script for card in drawn} == {script}
    assert all(low <= letter <= high for card in drawn for letter in card.text.replace(" ", ""))
    assert all(np.ptp(card.image) > 50 for card in drawn)


def test_images_with_transcripts(cell, through, fake, tmp_path):
    drawn = cards(32, range(3), 0)
    (tmp_path / "pages").mkdir()
    for number, card in enumerate(drawn):
        Image.fromarray(card.image.transpose(1, 2, 0)).save(tmp_path / "pages" / f"{number}.png")
    lines = tmp_path / "lines.txt"
    lines.write_text("\n".join([drawn[0].text, drawn[1].text, drawn[2].text + " more"]) + "\n")
    task = Text(texts=3, images=str(tmp_path / "pages"), transcripts=str(lines))
    finished, _ = through(cell("tokenizers/blocks", task))
    total = sum(len(card.text) for card in drawn) + 5
    assert values(finished, "cer-original") == {(): 5 / total}
    lines.write_text("one\n")
    with pytest.raises(InputError, match=r"has 1 line, and .* 3 images"):
        through(cell("tokenizers/blocks", task))


def test_what_does_not_go_together():
    with pytest.raises(ValidationError, match="given together"):
        Text(images="pages")
    with pytest.raises(ValidationError, match="a number where cards"):
        Text(texts=None)


def test_cards_that_do_not_fit(cell, through, fake):
    with pytest.raises(Unsupported, match="does not take cards of 64 x 64"):
        through(cell("tokenizers/blocks", Text(size=64)))
    with pytest.raises(Unsupported, match="no text fits on 16 x 16"):
        through(cell("tokenizers/jpeg", Text(size=16)))


def test_without_an_ocr_numbers_are_null_with_the_reason(cell, through, monkeypatch):
    def missing(device):
        raise PrerequisiteError("no OCR is installed", "", "pip install 'arbench[ocr]'")

    monkeypatch.setattr(contexts, "SHARED", {"ocr": "arbench.metrics.ocr:Ocr"})
    monkeypatch.setattr("arbench.metrics.ocr.Ocr", missing)
    finished, _ = through(cell("tokenizers/blocks", Text(texts=2)))
    assert {(metric.value, metric.reason) for metric in finished.metrics} == {
        (None, "no OCR is installed (pip install 'arbench[ocr]')")
    }


def test_the_ocr_reads_cards_of_32_pixels():
    """Its error on unprocessed cards is below 3 %; the order of lines and words is that of reading."""
    pages = cards(256, range(4, 5), 0)
    assert pages[0].pixels == 32
    assert len(pages[0].text) > 20
    found = distances([Ocr("cpu").read(card.image) for card in pages], [card.text for card in pages])
    assert found[:, 0].sum() / found[:, 1].sum() < 0.03
