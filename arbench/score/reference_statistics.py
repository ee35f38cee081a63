"""Reference statistics of a source: one pass over its images, moments of every output, one file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..data.indexed import ImageSource
from ..data.reading import fingerprint
from ..data.sources import open_source
from ..data.statistics.write import Layout, write_statistics
from ..errors import InputError
from ..evaluate.set_identity import identity_of
from ..features import recipes as registry
from ..features.extract import Extractors, Job, Networks, Progress, features_of
from ..features.feature_folder import cache_folder
from ..metrics.sets.moments import Moments, moments
from .generated import mark_of, opener
from .request import ScoreRequest

LOGITS = ("logits", "logits_unbiased")


def write(
    request: ScoreRequest,
    recipes: Sequence[str],
    output: Path,
    layout: Layout,
    keep_features: bool,
    progress: Progress,
    networks: Networks | None = None,
) -> Path:
    """Extracts (or finds in the cache) the features of `request.samples`, and writes `output`.

    `networks` compute them, if not this process.

    Raises `MissingWeights` if a recipe's weights are nowhere.
    """
    needed = {weight for name in recipes for weight in registry.find(name).weights}
    request.refuse_unasked(set(), needed)
    for weight in sorted(needed):
        request.weights.locate(weight)
    request.refuse_over_input(output, "--output ANOTHER")
    request.refuse_unused()
    mark = mark_of(request.samples, request.adapters) or fingerprint(request.samples)
    folder = cache_folder() / f"score-{mark}" if mark else output.parent / f"{output.stem}-features"
    extractors = networks or Extractors(request.weights, request.device, request.mode)
    sets = features_of(
        Job(request.samples, request.reading, folder, open=opener(request.device, request.adapters), mark=mark),
        recipes,
        extractors,
        progress,
    )
    found: dict[str, Moments] = {}
    for one in sets.values():
        for name in one.outputs:
            if name.partition(":")[2] not in LOGITS:  # nobody compares moments of logits
                found[name] = moments(one.rows(name))
    rows = {name: one.rows(name) for one in sets.values() for name in one.outputs} if keep_features else None
    files = [request.weights.find(weight) for name in recipes for weight in registry.find(name).weights]
    return write_statistics(
        output,
        found,
        identity_of(next(iter(sets.values())), crop=request.reading.crop, split=request.question.split),
        layout=layout,
        weights={file.name: file.sha256 for file in files if file is not None},
        settings={"mode": request.mode, **{name: str(value) for name, value in request.reading.settings().items()}},
        features=rows,
        images=_images(request) if layout == "adm" else None,
    )


def _images(request: ScoreRequest) -> ImageSource | None:
    """ADM's own command computes precision and recall from the images in the file: those of an npz go along."""
    if request.reading.crop != "none" or not request.samples.endswith(".npz"):
        return None
    try:
        return open_source(request.samples)
    except InputError:
        return None
