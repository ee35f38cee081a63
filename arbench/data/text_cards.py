"""Cards with text whose words are known exactly: drawn from a seed, of many sizes, contrasts and angles."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

SIZES = (8, 12, 16, 24, 32, 48, 64)
"""Of the font, in pixels."""
FONTS = ("DejaVuSans.ttf", "DejaVuSans-Bold.ttf", "DejaVuSerif.ttf", "DejaVuSansMono.ttf")
"""Those that come with Matplotlib."""
CONTRASTS = (1.0, 0.7, 0.4)
"""Difference of ink and paper, of the whole range."""
ANGLES = (-5.0, 5.0)
"""Degrees that every other card is turned by at most."""
_TEXT = """
able acid anchor apple arrow autumn badge bakery barn basin bell bench bird blanket boat bottle branch brick bridge
bucket cabin cable candle canyon carpet castle chain chapel cherry circle clock cloud coast coffee copper corner
cotton cradle crystal curtain desert dinner dragon drum eagle engine fabric feather fence field finger flag forest
fork fossil garden gate glass globe grain guitar hammer harbour helmet honey horse island jacket jungle kettle kitchen
ladder lantern leaf lemon letter library lizard magnet map marble market meadow mirror monkey museum napkin needle
ocean orange organ oven paint palace paper pencil pepper piano pilot planet plate pocket pond quarry rabbit radio rain
ribbon river rocket salad saddle school shadow ship silver sock spoon station stone storm sugar table teacher temple
ticket tiger tower tractor tunnel turtle valley velvet violin wagon wallet water whale wheel window
"""
WORDS = tuple(_TEXT.split())
"""What is written: nouns without capitals, hyphens and figures."""
LINE = 1.4
"""Of a line's height, in font sizes."""


@dataclass(frozen=True, slots=True)
class Card:
    """An image (3, side, side) of bytes and what is written on it, words apart by one space, lines in reading order."""

    image: NDArray[np.uint8]
    text: str
    pixels: int
    """Of the font."""


def fitting(side: int) -> tuple[int, ...]:
    """The sizes at which a card of this side holds a short word."""
    return tuple(pixels for pixels in SIZES if 3.2 * pixels <= side)


def cards(side: int, numbers: range, seed: int) -> list[Card]:
    """The cards of these numbers: card i depends on `seed` and i alone, its size is i mod those that fit."""
    sizes = fitting(side)
    return [_card(side, sizes[index % len(sizes)], index, seed) for index in numbers] if sizes else []


def _card(side: int, pixels: int, index: int, seed: int) -> Card:
    draw = np.random.Generator(np.random.Philox(key=[seed, index]))
    name = FONTS[int(draw.integers(len(FONTS)))]
    font = ImageFont.truetype(str(_folder() / name), pixels)
    contrast, dark = CONTRASTS[int(draw.integers(len(CONTRASTS)))], bool(draw.integers(2))
    angle = float(draw.uniform(*ANGLES)) if draw.integers(2) else 0.0
    low, high = round(127.5 * (1 - contrast)), round(127.5 * (1 + contrast))
    paper, ink = (low, high) if dark else (high, low)
    margin = 0.1 if angle else 0.04
    room = side * (1 - 2 * margin)
    lines = _lines(draw, font, room, max(1, min(4, int(room / (LINE * pixels)))))
    sheet = Image.new("L", (side, side), paper)
    pen = ImageDraw.Draw(sheet)
    top = (side - LINE * pixels * len(lines)) / 2
    for number, line in enumerate(lines):
        pen.text((side * margin, top + number * LINE * pixels), line, font=font, fill=ink)
    if angle:
        sheet = sheet.rotate(angle, Image.Resampling.BICUBIC, fillcolor=paper)
    image = np.broadcast_to(np.asarray(sheet), (3, side, side)).copy()
    return Card(image, " ".join(lines), pixels)


def _lines(draw: np.random.Generator, font: ImageFont.FreeTypeFont, room: float, count: int) -> list[str]:
    """Lines of words, each as long as there is room for; the shortest word where none fits."""
    lines: list[str] = []
    for _ in range(count):
        words: list[str] = []
        for place in draw.permutation(len(WORDS)):
            if len(words) == 3:
                break
            if font.getlength(" ".join([*words, WORDS[place]])) <= room:
                words.append(WORDS[place])
        if words:
            lines.append(" ".join(words))
    return lines or [min(WORDS, key=font.getlength)]


def _folder() -> Path:
    import matplotlib

    return Path(matplotlib.get_data_path()) / "fonts" / "ttf"
