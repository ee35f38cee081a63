"""Bytes of an image file to uint8 RGB: the one policy on what is read, how pixels become RGB, and what is refused.

Read: PNG, JPEG, WebP, BMP, GIF, TIFF and PPM (PGM, PBM), told by content, not by name. Each conversion is named, to be
counted:

- "grey": repeated in all three channels; "1-bit" likewise, as 0 and 255.
- "16-bit": the upper 8 bits are kept (Pillow's own rule for 16-bit colour; its `convert` would clip 16-bit grey).
- "palette": expanded. "palette with transparency": expanded and laid over white.
- "alpha over white": an alpha channel, or one colour marked transparent, is laid over white, opaque pixels unchanged.
- "CMYK" (YCCK too) and "YCbCr": by Pillow's formula, no colour profile is applied to any image.
- "first frame": of an animation, or of a file with several pictures.
- "EXIF rotation ignored": pixels stay as stored, as in every metric tool.

Refused, with the reason that is counted: "empty file", "not an image" (nor one of the formats above), "truncated",
"unreadable pixels" (the decoder gave up), "pixels without 8-bit meaning" (floats, 32-bit integers, Lab), "too large"
(beyond the bound of `arbench.limits`: 2**26 pixels, or 2**28 bytes on disk), "no permission", "unreadable file" (links
to nothing, pipes, errors).
A file whose pixels are all there but whose end mark is missing is read. JPEG has no checksum: bytes changed inside one
may go unseen. Nothing is ever handed to Ghostscript or unpickled.
"""

from __future__ import annotations

import io
import re
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile, UnidentifiedImageError

from ...limits import VARIABLE, max_bytes, max_pixels
from .budget import reserve

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "PPM")
READABLE = frozenset({"1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr"})
"""Pillow's modes with 8 bits a channel or fewer; 16-bit grey is told apart by `_is_grey16`."""
ORIENTATION = 0x0112
WORKING_BYTES = 20
"""A pixel at most, while it is decoded, laid over white and turned into an array."""
PPM = re.compile(rb"P[56]\s+(?:#[^\n]*\s+)*(?P<width>\d{1,9})\s+(?P<height>\d{1,9})\s+(?P<most>\d{1,5})\s")
"""The header of binary grey and colour pixels (netpbm's pgm(5), ppm(5))."""


class BadImage(Exception):
    """One image cannot be used: `reason` from the short list above, `detail` for a message."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = detail or reason


@dataclass(frozen=True, slots=True)
class Decoded:
    image: NDArray[np.uint8]
    """(3, H, W) RGB."""
    converted: tuple[str, ...] = ()
    """What was done to the pixels, by the names above."""


def decode(data: bytes) -> Decoded:
    """The first picture in the bytes of an image file. Raises `BadImage`."""
    if not data:
        raise BadImage("empty file")
    refuse_bytes(len(data))
    if ImageFile.LOAD_TRUNCATED_IMAGES and _cut_short(data):  # set by much training code; Pillow is then silent
        raise BadImage("truncated")
    try:
        with _opened(io.BytesIO(data)) as image:
            return from_pil(image)
    except BadImage:
        raise
    except Exception as error:  # Pillow's decoders raise of every kind on a damaged file
        raise pil_error(error, cut=_cut_short(data)) from error


def _opened(file: Path | IO[bytes]) -> Image.Image:
    """Pillow refuses what is above twice its own limit, and warns above that: ours holds where it is higher."""
    if Image.MAX_IMAGE_PIXELS is not None and max_pixels() > Image.MAX_IMAGE_PIXELS:
        Image.MAX_IMAGE_PIXELS = max_pixels()
    return Image.open(file, formats=FORMATS)


def decode_file(path: Path) -> Decoded:
    """As `decode`. Raises `BadImage` also for what cannot be opened."""
    return decode(read(path))


def read(path: Path) -> bytes:
    """The bytes of a regular file of sane size. Raises `BadImage`."""
    try:
        _check_file(path)
        reserve(path.stat().st_size)
        return path.read_bytes()
    except OSError as error:
        raise _os_error(error) from error


def header_size(file: Path | IO[bytes]) -> tuple[int, int]:
    """(height, width) from the header, without decoding. Raises `BadImage`."""
    try:
        if isinstance(file, Path):
            _check_file(file)
        with _opened(file) as image:
            _check(image)
            return image.height, image.width
    except BadImage:
        raise
    except OSError as error:  # Pillow's own have no number
        raise _os_error(error) if error.errno else pil_error(error) from error
    except Exception as error:
        raise pil_error(error) from error


def _check_file(path: Path) -> None:
    """Opening a pipe would wait for its writer."""
    found = path.stat()
    if not stat.S_ISREG(found.st_mode):
        raise BadImage("unreadable file", "it is not a regular file")
    refuse_bytes(found.st_size)


def refuse_bytes(count: int) -> None:
    """Raises `BadImage` for a file beyond the bound."""
    if count > (bound := max_bytes()):
        raise BadImage("too large", f"{count} bytes; the bound is {bound} ({VARIABLE})")


def _os_error(error: OSError) -> BadImage:
    reason = "no permission" if isinstance(error, PermissionError) else "unreadable file"
    return BadImage(reason, error.strerror or str(error))


def from_pil(image: Image.Image) -> Decoded:
    """(3, H, W) RGB of a Pillow image, loaded or not. Raises `BadImage`, or what Pillow's decoder raises."""
    _check(image)
    converted = []
    if getattr(image, "is_animated", False):
        image.seek(0)
        converted.append("first frame")
    sixteen = _is_grey16(image) or any(";16" in str(tile[3]) for tile in getattr(image, "tile", ()))
    if sixteen:
        converted.append("16-bit")
    reserve(WORKING_BYTES * image.width * image.height)
    image.load()
    if _is_grey16(image):
        pixels = _grey16(image)
        converted.append("alpha over white" if "transparency" in image.info else "grey")
    else:
        pixels, how = _rgb(image)
        converted += how
    if _rotated(image):
        converted.append("EXIF rotation ignored")
    return Decoded(np.ascontiguousarray(pixels.transpose(2, 0, 1)), tuple(converted))


def _check(image: Image.Image) -> None:
    if image.mode not in READABLE and not _is_grey16(image):
        raise BadImage("pixels without 8-bit meaning", f"pixels of kind {image.mode}, which have no 8-bit meaning")
    if image.width * image.height > (bound := max_pixels()):
        raise BadImage("too large", f"{image.width} x {image.height} pixels; the bound is {bound} ({VARIABLE} / 4)")
    if not image.width * image.height:
        raise BadImage("not an image", "it has no pixels")


def _is_grey16(image: Image.Image) -> bool:
    """Mode "I" is how Pillow before 11 opens a 16-bit grey PNG; elsewhere it is 32-bit."""
    return image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PNG")


def _grey16(image: Image.Image) -> NDArray[np.uint8]:
    """(H, W, 3)."""
    values = np.asarray(image).astype(np.uint32)
    grey = (values >> 8).astype(np.uint8)
    clear = image.info.get("transparency")
    if isinstance(clear, int):
        grey[values == clear] = 255
    return np.repeat(grey[:, :, None], 3, axis=2)


def _rgb(image: Image.Image) -> tuple[NDArray[np.uint8], list[str]]:
    """(H, W, 3), and the names of what was done."""
    names = {"1": "1-bit", "L": "grey", "LA": "grey", "P": "palette", "PA": "palette", "CMYK": "CMYK", "YCbCr": "YCbCr"}
    how = [names[image.mode]] if image.mode in names else []
    if image.has_transparency_data:
        how = ["palette with transparency"] if how == ["palette"] else [*how, "alpha over white"]
        layer = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), layer)
    return np.asarray(image if image.mode == "RGB" else image.convert("RGB")), how


def _rotated(image: Image.Image) -> bool:
    if "exif" not in image.info:
        return False
    try:
        return image.getexif().get(ORIENTATION, 1) not in (0, 1)
    except Exception:  # a damaged EXIF block says nothing about the pixels
        return False


def pil_error(error: Exception, cut: bool = False) -> BadImage:
    """What an error of Pillow means; `cut` if the file is known to lack its end."""
    text = (error.strerror or str(error)) if isinstance(error, OSError) else str(error)
    if isinstance(error, Image.DecompressionBombError | Image.DecompressionBombWarning):
        return BadImage("too large", text)
    if cut or "truncated" in text.lower():
        return BadImage("truncated", "truncated" if isinstance(error, UnidentifiedImageError) else text)
    if isinstance(error, UnidentifiedImageError):
        return BadImage("not an image")
    return BadImage("unreadable pixels", text or type(error).__name__)


def _cut_short(data: bytes) -> bool:
    """Whether bytes start as an image and lack their end, by the format's own marks."""
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return b"IEND" not in data[-64:]
    if data.startswith(b"\xff\xd8\xff"):
        return b"\xff\xd9" not in data[-64:]
    if data[:4] == b"RIFF" and data[8:12] in (b"WEBP", b""):
        return len(data) < 12 or int.from_bytes(data[4:8], "little") + 8 > len(data)
    if data[:3] == b"GIF":
        return data[-1:] != b";"
    if data[:2] == b"BM" and len(data) >= 6:
        return int.from_bytes(data[2:6], "little") > len(data)
    if (header := PPM.match(data)) is not None:
        width, height, most = (int(header[name]) for name in ("width", "height", "most"))
        channels, deep = 3 if data[:2] == b"P6" else 1, 2 if most > 255 else 1
        return header.end() + width * height * channels * deep > len(data)
    return False
