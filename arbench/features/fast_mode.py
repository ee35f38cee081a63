"""How far fast mode is from parity mode: measured on fixed images, once per machine and network, and kept."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..errors import StoreError
from ..files import write_atomic
from ..json_text import parse_json
from ..measure.provenance import device_name, packages
from ..spec.identity import identity
from .extractor import FeatureExtractor, deviation
from .feature_folder import NUMBERS, cache_folder

PROBE = 16
"""Images of the probe set."""
SIDE = 256
VERSION = 1
"""Changes with the images of the probe set."""


def probe_images() -> list[NDArray[np.uint8]]:
    """PROBE images (3, SIDE, SIDE), always the same: waves of every length over a slope of colours, with noise."""
    draw, found = np.random.RandomState(0), []
    y, x = np.mgrid[0:SIDE, 0:SIDE] / SIDE
    for index in range(PROBE):
        waves = np.zeros((3, SIDE, SIDE))
        for octave in range(7):
            direction, phase = draw.uniform(0, 2 * np.pi, 2)
            wave = np.sin(2 * np.pi * 2**octave * (x * np.cos(direction) + y * np.sin(direction)) + phase)
            waves += draw.uniform(-1, 1, (3, 1, 1)) * wave / (1 + octave)
        slope = draw.uniform(-1, 1, (3, 1, 1)) * x + draw.uniform(-1, 1, (3, 1, 1)) * y
        noise = draw.standard_normal((3, SIDE, SIDE)) * (index % 4) / 8
        found.append(np.clip(127.5 + 70 * (waves + slope + noise), 0, 255).astype(np.uint8))
    return found


def kept_deviation(fast: FeatureExtractor, parity: Callable[[], FeatureExtractor]) -> float:
    """Largest relative deviation of `fast` from parity on the probe images; `parity` is loaded only to measure it.

    A file that is damaged is measured again, and the log says so.
    """
    path = place(fast)
    if (known := _read(path)) is not None:
        return known
    found = deviation(fast, parity(), probe_images())
    if math.isfinite(found):
        try:
            write_atomic(path, json.dumps({"deviation": found}).encode(), "set ARBENCH_CACHE to a folder")
        except StoreError as error:
            logging.getLogger(__name__).info("%s: %s; it will be measured again", error.what, error.why)
    return found


def place(fast: FeatureExtractor) -> Path:
    """Where it is kept: another recipe, weight file, torch, device, batch, compilation or version has another."""
    facts = {
        "version": [VERSION, NUMBERS],
        "recipe": fast.recipe,
        "weights": fast.weights.sha256 if fast.weights is not None else "",
        "compiled": fast.compiled,
        "batch": fast.batch,
        "device": device_name(str(fast.device)),
        "packages": dict(packages(("torch", "torchvision", "timm", "open-clip-torch"))),
    }
    return cache_folder() / f"{identity(facts, 'fast')}.json"


def _read(path: Path) -> float | None:
    try:
        found = parse_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        found = str(error)
    value = found.get("deviation") if isinstance(found, dict) else None
    if isinstance(value, float | int) and math.isfinite(value) and value >= 0:
        return float(value)
    logging.getLogger(__name__).warning("%s is damaged; fast mode is measured again", path)
    return None
