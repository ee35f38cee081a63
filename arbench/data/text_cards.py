"""Cards with text whose words are known exactly: drawn from a seed, of many sizes, contrasts and angles."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
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
_CYRILLIC = """
берег билет ветер вода ворота город гора двор дерево дом дорога завод зеркало зерно земля карта книга колесо корабль
костёр лампа лес лист лодка мост музей небо огонь озеро окно остров парк песок письмо поезд поле река рынок сад свеча
снег стакан стена стол стул туман улица фонарь хлеб храм цветок часы чашка школа яблоко ящик
"""
_GREEK = """
άγαλμα αγορά αέρας άμμος βιβλίο βουνό βροχή γάλα γέφυρα γράμμα δάσος δέντρο δρόμος ζάχαρη ήλιος θάλασσα θέατρο
ιστορία καράβι καρέκλα κήπος κλειδί λάμπα λιμάνι λουλούδι μήλο μουσείο νερό νησί ξύλο ουρανός παράθυρο πέτρα ποτάμι
πλατεία ρολόι σπίτι σχολείο τραπέζι τρένο φεγγάρι φωτιά χάρτης χέρι χιόνι ψωμί
"""
_HAN = """
山水 火山 大学 中国 人口 海水 天空 花火 石油 電車 学生 先生 生花 水道 東西 南北 日本 文明 文学 書店 音楽 工場 公園 社会
時間 空間 地下 土地 木工 金星 白雲 青空 牛肉 名前 新聞 自由 世界 平和 安全 美人 風雨 手足 心中 耳目 車道 食品
"""
_KANA = """
さくら やま かわ うみ そら ほし つき はな とり いぬ ねこ さかな くるま でんわ えんぴつ つくえ まど ひかり かぜ
テレビ カメラ ホテル バス ピアノ ノート テーブル コーヒー ケーキ メロン レモン トマト ロケット ラジオ タクシー
"""
_CJK = ("ipaexg.ttf",)


@dataclass(frozen=True, slots=True)
class Script:
    """Fonts and words of a script, and what stands between words. package: of the fonts."""

    words: tuple[str, ...]
    fonts: tuple[str, ...] = FONTS
    package: str = "matplotlib"
    between: str = " "


SCRIPTS = {
    "latin": Script(WORDS),
    "cyrillic": Script(tuple(_CYRILLIC.split())),
    "greek": Script(tuple(_GREEK.split())),
    "han": Script(tuple(_HAN.split()), _CJK, "matplotlib_fontja", ""),
    "kana": Script(tuple(_KANA.split()), _CJK, "matplotlib_fontja", ""),
}
"""By name. The font of the last two is IPAex Gothic, whose package is in the extra `ocr`."""


@dataclass(frozen=True, slots=True)
class Card:
    """An image (3, side, side) of bytes and what is written on it, words apart by one space, lines in reading order."""

    image: NDArray[np.uint8]
    text: str
    pixels: int
    """Of the font."""
    script: str = "latin"


def fitting(side: int) -> tuple[int, ...]:
    """The sizes at which a card of this side holds a short word."""
    return tuple(pixels for pixels in SIZES if 3.2 * pixels <= side)


def why_not_drawn(script: str) -> str:
    """Why cards of a script cannot be drawn; "" where they can."""
    package = SCRIPTS[script].package
    return "" if find_spec(package) else f"no font of {script}: pip install 'arbench[ocr]'"


def cards(side: int, numbers: range, seed: int, scripts: Sequence[str] = ("latin",)) -> list[Card]:
    """The cards of these numbers: card i depends on `seed`, `scripts` and i alone.

    Scripts take turns, then the sizes that fit. Where there is no font, a card is blank and has no text.
    """
    sizes = fitting(side)
    if not sizes:
        return []
    found = []
    for index in numbers:
        script, pixels = scripts[index % len(scripts)], sizes[index // len(scripts) % len(sizes)]
        if why_not_drawn(script):
            found.append(Card(np.full((3, side, side), 255, np.uint8), "", pixels, script))
        else:
            found.append(_card(side, pixels, index, seed, script))
    return found


def _card(side: int, pixels: int, index: int, seed: int, script: str) -> Card:
    draw = np.random.Generator(np.random.Philox(key=[seed, index]))
    kind = SCRIPTS[script]
    name = kind.fonts[int(draw.integers(len(kind.fonts)))]
    font = ImageFont.truetype(str(_folder(kind.package) / name), pixels)
    contrast, dark = CONTRASTS[int(draw.integers(len(CONTRASTS)))], bool(draw.integers(2))
    angle = float(draw.uniform(*ANGLES)) if draw.integers(2) else 0.0
    low, high = round(127.5 * (1 - contrast)), round(127.5 * (1 + contrast))
    paper, ink = (low, high) if dark else (high, low)
    margin = 0.1 if angle else 0.04
    room = side * (1 - 2 * margin)
    lines = _lines(draw, font, kind, room, max(1, min(4, int(room / (LINE * pixels)))))
    sheet = Image.new("L", (side, side), paper)
    pen = ImageDraw.Draw(sheet)
    top = (side - LINE * pixels * len(lines)) / 2
    for number, line in enumerate(lines):
        pen.text((side * margin, top + number * LINE * pixels), line, font=font, fill=ink)
    if angle:
        sheet = sheet.rotate(angle, Image.Resampling.BICUBIC, fillcolor=paper)
    image = np.broadcast_to(np.asarray(sheet), (3, side, side)).copy()
    return Card(image, " ".join(lines), pixels, script)


def _lines(draw: np.random.Generator, font: ImageFont.FreeTypeFont, kind: Script, room: float, count: int) -> list[str]:
    """Lines of words, each as long as there is room for; the shortest word where none fits."""
    lines: list[str] = []
    for _ in range(count):
        words: list[str] = []
        for place in draw.permutation(len(kind.words)):
            if len(words) == 3:
                break
            if font.getlength(kind.between.join([*words, kind.words[place]])) <= room:
                words.append(kind.words[place])
        if words:
            lines.append(kind.between.join(words))
    return lines or [min(kind.words, key=font.getlength)]


def _folder(package: str) -> Path:
    """Where a package keeps its fonts, without importing it: Matplotlib's additions change its settings."""
    if package != "matplotlib":
        spec = find_spec(package)
        assert spec is not None
        assert spec.origin is not None
        return Path(spec.origin).parent / "fonts"
    import matplotlib

    return Path(matplotlib.get_data_path()) / "fonts" / "ttf"
