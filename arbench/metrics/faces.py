"""Likeness of faces by SFace (Zhong et al., 2021), which OpenCV runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import PrerequisiteError

WEIGHTS = "sface"
SIDE = 112
"""Of the squares that the network takes."""


class Faces:
    """The network in an ONNX file. Raises PrerequisiteError if OpenCV is not here, or cannot use the file."""

    def __init__(self, path: Path) -> None:
        try:
            import cv2
        except ImportError as error:
            raise PrerequisiteError("OpenCV is not installed", str(error), "pip install 'arbench[ocr]'") from None
        self._cv2: Any = cv2
        try:
            self._network: Any = self._cv2.FaceRecognizerSF.create(str(path), "")
        except self._cv2.error as error:
            why = str(error).strip().partition("\n")[0]
            raise PrerequisiteError(f"OpenCV cannot use {path}", why, "name the file of SFace") from None
        self.convention = f"SFace by OpenCV {cv2.__version__}, squares of {SIDE} pixels, not aligned by landmarks"

    def similarity(self, one: NDArray[np.uint8], other: NDArray[np.uint8]) -> float:
        """Cosine, -1 to 1, of the embeddings of two images (3, h, w) of a face."""
        a, b = (np.asarray(self._embedded(image), np.float64).ravel() for image in (one, other))
        return float(a @ b) / max(float(np.linalg.norm(a)) * float(np.linalg.norm(b)), 1e-12)

    def _embedded(self, image: NDArray[np.uint8]) -> Any:
        picture = np.ascontiguousarray(image[::-1].transpose(1, 2, 0))
        resized = self._cv2.resize(picture, (SIDE, SIDE), interpolation=self._cv2.INTER_LINEAR)
        return self._network.feature(resized)
