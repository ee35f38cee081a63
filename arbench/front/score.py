"""`arbench.score(...)`: the numbers of images, by the engine of the command `arbench score`."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..data.crops import CROPS
from ..data.reading import GENERATOR, Reading
from ..errors import UnknownName, UsageError, counted
from ..evaluate.question import Question
from ..features.weight_files import WEIGHTS, feature_weights
from ..remote.upload import uploading
from ..run.device import resolve_device
from ..score.engine import score as score_request
from ..score.request import ScoreRequest
from ..spec.result import Metric, Result
from ..table import tidy_table
from .images import Images
from .sources import Names, WeightFiles, as_source, at_least, given_weights, names, one_of
from .tables import ARROWS, Table, count, number

if TYPE_CHECKING:
    import pandas

Progress = Callable[[str, int, int | None], None]


@dataclass(frozen=True)
class Score:
    """Numbers of one set of samples, or of each cell of a run. In a notebook it shows itself as a table.

    `score["adm/fid"]` is one number with its interval, `score.frame()` all of them. `folder` is where results and
    features are kept, if `out` named one.
    """

    results: tuple[Result, ...]
    folder: Path | None = None

    @property
    def metrics(self) -> tuple[Metric, ...]:
        return tuple(metric for result in self.results for metric in result.metrics)

    def __getitem__(self, name: str) -> Metric:
        """The number "convention/name", or "name" where one convention alone has it. Raises `UnknownName`."""
        if len(self.results) > 1:
            cells = ", ".join(result.adapter for result in self.results)
            raise UsageError(
                f"{name!r} of which samples?", f"this is the score of {cells}", "take one of .results, or .frame()"
            )
        known = {f"{metric.convention}/{metric.name}": metric for metric in self.metrics}
        found = [metric for full, metric in known.items() if name in (full, metric.name)]
        if len(found) == 1:
            return found[0]
        if found:
            alike = [full for full, metric in known.items() if metric.name == name]
            raise UsageError(
                f"{name!r} of which convention?", f"several have it: {', '.join(alike)}", f"[{alike[0]!r}]"
            )
        raise UnknownName("number", name, known, "print the score: it lists them")

    def frame(self) -> pandas.DataFrame:
        """One row per number, with the columns of `results.parquet`."""
        name = self.folder.name if self.folder else ""
        frame: pandas.DataFrame = tidy_table(name, self.results).to_pandas()
        return frame

    def __repr__(self) -> str:
        return "\n\n".join(_table(result).text() for result in self.results)

    def _repr_html_(self) -> str:
        return "".join(_table(result).html() for result in self.results)


def _table(result: Result) -> Table:
    """One row per number; below, what is odd about the two sets."""
    against = f" against {result.reference.source} ({counted(result.reference.n, 'image')})" if result.reference else ""
    rows = []
    for metric in result.metrics:
        value, interval = number(metric)
        said = metric.reason if metric.value is None else ", ".join(metric.flags)
        name = f"{metric.name}{ARROWS[metric.direction]}"
        rows.append((name, metric.convention, value, interval, count(metric.n), said))
    return Table(
        header=("metric", "convention", "value", "95 % interval", "n", "flags, or why it is missing"),
        rows=tuple(rows),
        numbers=frozenset((2, 3, 4)),
        title=f"{result.adapter}: {result.samples.n if result.samples else 0} images{against}",
        notes=tuple(f"{remark.code}: {remark.text}" for remark in result.remarks),
    )


def score(
    samples: Any,
    reference: Any = None,
    *,
    conventions: Names = (),
    metrics: Names = (),
    paired: bool = False,
    weights: WeightFiles | None = None,
    reference_crop: str = "none",
    size: int | None = None,
    reference_kind: str | None = None,
    split: str | None = None,
    limit: int | None = None,
    on_bad_image: str = "error",
    column: str | None = None,
    reference_column: str | None = None,
    error: str = "delta",
    kid_subset_size: int | None = None,
    prompts: Sequence[str] = (),
    strict: bool = False,
    mode: str = "parity",
    device: str = "auto",
    out: str | Path | None = None,
    progress: Progress | None = None,
) -> Score:
    """The numbers of `samples` against `reference`, as the command `arbench score` has them, digit for digit.

    Both may be an array or a tensor of uint8 images (n, 3, H, W) or (n, H, W, 3), a list of Pillow images, a torch
    Dataset or DataLoader, what a model has sampled, or all that the command reads: a path, "mnist5k/heldout",
    "generator:NAME", the folder of a run.

    conventions, metrics: names and globs, one by one or with commas; by default what the weights here allow.
    paired: samples are reconstructions of the reference's images. weights: files of feature networks and adapters by
    name. out: the folder, or address, that keeps results, and features where both sets are named; without it nothing is
    kept but a named reference's features, in the cache. progress: told what is read, how many are done and of how many.
    The others are the command's options.
    """
    one_of("mode", mode, ("parity", "fast"))
    one_of("on_bad_image", on_bad_image, ("error", "skip"))
    one_of("error", error, ("delta", "jackknife"))
    one_of("reference_crop", reference_crop, tuple(CROPS))
    if split is not None:
        one_of("split", split, ("train", "val"))
    for option, value, least in (("limit", limit, 1), ("size", size, 1), ("kid_subset_size", kid_subset_size, 2)):
        at_least(option, value, least)
    given = given_weights(weights)
    source, other = as_source(samples), as_source(reference)
    generated = isinstance(source, str) and source.startswith(GENERATOR)
    with tempfile.TemporaryDirectory(prefix="arbench-") as scratch, uploading(out) as folder:
        named = all(isinstance(each, str) or each is None for each in (source, other))
        request = ScoreRequest(
            source,
            other,
            Question(
                names(conventions), names(metrics), paired, reference_crop, size, reference_kind, split, error,
                kid_subset_size,
            ),
            feature_weights(given),
            {name: path for name, path in given.items() if name not in WEIGHTS},
            mode=mode,  # type: ignore[arg-type]
            device=resolve_device(device),
            reading=Reading(on_bad_image, limit, "none", None, column, tuple(prompts) if generated else ()),  # type: ignore[arg-type]
            reference_column=reference_column,
            strict=strict,
            prompts=tuple(prompts),
            out=folder if folder is not None else Path(scratch),
            origin=samples.origin if isinstance(samples, Images) else {},
            features=None if named else Path(scratch),
            argv=("arbench.score",),
        )  # fmt: skip
        results = score_request(request, progress or (lambda what, done, total: None))
    return Score(tuple(results), folder)
