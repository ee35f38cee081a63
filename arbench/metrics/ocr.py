"""Text of an image by RapidOCR, whose wheel holds its networks."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import PrerequisiteError

SAME_LINE = 0.5
"""Boxes whose middles are nearer than this share of their height stand in one line."""


class Ocr:
    """Reads text on the CPU. Raises PrerequisiteError if RapidOCR, ONNX Runtime or the networks are not here."""

    def __init__(self, device: str) -> None:
        try:
            from rapidocr import RapidOCR

            self._engine: Any = RapidOCR(params={"Global.log_level": "error"})
        except ImportError as error:
            raise PrerequisiteError("no OCR is installed", str(error), "pip install 'arbench[ocr]'") from None
        except Exception as error:  # its networks are downloaded where the wheel has none
            raise PrerequisiteError("the OCR cannot be loaded", str(error), "pip install 'arbench[ocr]'") from None
        self._known = self._characters()
        self.convention = f"rapidocr {version('rapidocr')}, its own detector and recogniser"

    def _characters(self) -> frozenset[str]:
        """What its recogniser can write, which is loaded with the first image."""
        self._engine(np.full((48, 320, 3), 255, np.uint8), use_det=False, use_cls=True)
        return frozenset(self._engine.text_rec.postprocess_op.character) | {" "}

    def unknown(self, text: str) -> str:
        """The characters of a text that its recogniser cannot write, each once."""
        return "".join(dict.fromkeys(character for character in text if character not in self._known))

    def read(self, image: NDArray[np.uint8]) -> str:
        """The text of an image (3, H, W), lines from the top, words of a line from the left, apart by spaces."""
        picture = np.ascontiguousarray(image[::-1].transpose(1, 2, 0))
        found = self._engine(picture, use_det=True, use_cls=True)  # it keeps what it was told last
        if found.boxes is None or found.txts is None:
            return ""
        boxes = np.asarray(found.boxes, np.float64)  # (k, 4 corners, 2)
        middle, height = boxes[:, :, 1].mean(1), boxes[:, :, 1].max(1) - boxes[:, :, 1].min(1)
        left = boxes[:, :, 0].min(1)
        lines: list[list[int]] = []
        for place in np.argsort(middle, kind="stable").tolist():
            last = lines[-1][-1] if lines else None
            if last is not None and middle[place] - middle[last] < SAME_LINE * min(height[place], height[last]):
                lines[-1].append(place)
            else:
                lines.append([place])
        return " ".join(found.txts[place] for line in lines for place in sorted(line, key=lambda each: left[each]))
