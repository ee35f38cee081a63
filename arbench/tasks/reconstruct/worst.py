"""Pictures of the reconstructions that came out worst: by PSNR, and by LPIPS where it was measured."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from ...features.unit_features import VALUE
from ...gallery import Gallery
from ..base import Stored
from . import Reconstruct

AMPLIFIED = 4
"""Factor on the absolute differences, without which most look black."""
WORST = 16
"""Pictures of those that came out worst."""
LPIPS = ("lpips-alex", "lpips-vgg")
"""The first that the units hold decides."""

Images = NDArray[np.uint8]
Load = Callable[[NDArray[np.int64]], Images]
"""The originals of sample ids."""


def differences(before: Images, after: Images) -> Images:
    """`AMPLIFIED` times the absolute differences, bytes."""
    found: Images = (np.abs(before.astype(np.int16) - after) * AMPLIFIED).clip(0, 255).astype(np.uint8)
    return found


def by_psnr(task: Reconstruct, units: Sequence[Stored], load: Load) -> Gallery | None:
    """The images of highest mean squared error among those whose reconstructions are kept, worst first."""

    def error(unit: Stored) -> NDArray[np.float64]:
        before = load(unit["sample_ids"])
        found: NDArray[np.float64] = np.square(before.astype(np.float32) - unit["images"]).mean(
            axis=(1, 2, 3), dtype=np.float64
        )
        return found

    def words(first: float, last: float, count: int) -> str:
        ends = [10 * np.log10(255.0**2 / max(each, 1e-9)) for each in (first, last)]
        why = "" if any(_lpips(unit) for unit in units) else " The worst by LPIPS are not told: it was not measured"
        why += " (its weights: arbench weights fetch alexnet)." if why else ""
        return f"Lowest PSNR of the {count} that are kept, worst first: {ends[0]:.1f} to {ends[1]:.1f} dB.{why}"

    return _gallery(f"Worst reconstructions of {task.data}", task, units, load, error, words)


def by_lpips(task: Reconstruct, units: Sequence[Stored], load: Load) -> Gallery | None:
    """Those of highest LPIPS, worst first; None where no convention asked for it, or its weights are not here."""
    name = next((found for unit in units if (found := _lpips(unit))), None)
    if name is None:
        return None

    def words(first: float, last: float, count: int) -> str:
        return f"Highest {name} of the {count} that are kept, worst first: {first:.3f} to {last:.3f}."

    title = f"Worst reconstructions of {task.data} in LPIPS"
    return _gallery(title, task, units, load, lambda unit: np.asarray(unit[VALUE + name], np.float64), words)


def _lpips(unit: Stored) -> str | None:
    """The variant that a unit holds of its images; None too where these are too small for it."""
    return next((n for n in LPIPS if VALUE + n in unit and not np.isnan(unit[VALUE + n]).any()), None)


def _gallery(
    title: str,
    task: Reconstruct,
    units: Sequence[Stored],
    load: Load,
    error: Callable[[Stored], NDArray[np.float64]],
    words: Callable[[float, float, int], str],
) -> Gallery | None:
    """Of most `error` (n,), told by `words` of the first's, the last's and the number; None if all are shown anyway."""
    ids, errors, count = np.zeros(0, np.int64), np.zeros(0), 0
    kept, labels = np.zeros((0, 3, 1, 1), np.uint8), np.zeros(0, np.int64)
    for unit in units:
        if "images" not in unit or task.show == 0:
            continue
        after, own = unit["images"], unit["sample_ids"]
        count += len(own)
        ids, errors = np.concatenate([ids, own]), np.concatenate([errors, error(unit)])
        kept = np.concatenate([kept, after]) if len(kept) else after
        labels = np.concatenate([labels, unit["labels"]])
        worst = np.argsort(-errors, kind="stable")[:WORST]
        ids, errors, kept, labels = ids[worst], errors[worst], kept[worst], labels[worst]
    if count <= WORST:  # they are all shown
        return None
    originals = load(ids)
    return Gallery(
        title,
        "rows",
        words(float(errors[0]), float(errors[-1]), count),
        ids,
        np.stack([labels, labels, labels]),
        ("original", "", f"|difference| × {AMPLIFIED}"),
        (True, False, False),
        np.stack([originals, kept, differences(originals, kept)]),
    )
