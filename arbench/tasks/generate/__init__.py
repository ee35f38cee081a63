"""Generate: sample by class from per-sample seeds, and compare with a reference set under every convention."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from ...evaluate.question import Question
from ...spec.task import Data, MetricInfo, Pick, TaskDefinition
from ...spec.unit import cut
from ..compared import IN_KEY, Compared, effort, forewarnings, weights_needed


class Generate(Compared):
    """Generators: sample, and compare with a reference set. Sample id i has class `i % classes`."""

    task: Literal["generate"] = "generate"
    reference: str = "mnist5k/heldout"
    """Images, as `arbench score` reads them, a file of reference statistics, or a name of `arbench ls references`."""
    kind: str | None = None
    """Format of a file of statistics, if it does not state it: "adm", ..."""
    split: Literal["train", "val"] | None = None
    """Which split the reference is, if its name does not tell."""
    conventions: tuple[str, ...] = ("offline", "adm")
    n: int = Field(default=1000, ge=1)
    batch: int = Field(default=64, ge=1)
    show: int = Field(default=40, ge=0)
    """The first `show` sample ids are kept for the report's grid."""

    def question(self, *, paired: bool = False, kind: str | None = None, split: str | None = None) -> Question:
        return super().question(kind=self.kind, split=self.split)


TASK = TaskDefinition(
    name="generate",
    spec=Generate,
    work="arbench.tasks.generate.work:GenerateWork",
    version=2,
    kinds=frozenset({"generator"}),
    group="Quality",
    metrics=(
        MetricInfo("fid", "", "lower", "Frechet distance of Inception features, as the convention has it"),
        MetricInfo("sfid", "", "lower", "the same of spatial features"),
        MetricInfo("is", "", "higher", "Inception Score"),
        MetricInfo("frechet", "", "lower", "Frechet distance of other features, which is not FID"),
        MetricInfo("kid", "", "lower", "kernel distance"),
        MetricInfo("precision", "", "higher", "share of samples inside a reference image's k-neighbour ball"),
        MetricInfo("recall", "", "higher", "share of reference images inside a sample's k-neighbour ball"),
        MetricInfo("class-agreement", "fraction", "higher", "share of samples classified as the class asked for"),
        MetricInfo("fid-infinity", "", "lower", "FID extrapolated to infinitely many samples", column=False),
        MetricInfo("frechet-infinity", "", "lower", "the Frechet distance extrapolated likewise", column=False),
        MetricInfo("mind", "", "lower", "sliced Wasserstein distance of the features", column=False),
        MetricInfo("density", "", "higher", "reference balls around a sample, over k", column=False),
        MetricInfo("coverage", "", "higher", "share of reference balls that hold a sample", column=False),
        MetricInfo("auth-pct", "", "higher", "share of samples that are not near-copies", column=False),
        MetricInfo("vendi", "", "higher", "effective number of different samples", column=False),
        MetricInfo(
            "neighbour-agreement", "", "higher", "nearest reference image has the label asked for", column=False
        ),
        MetricInfo("fid-per-class", "", "lower", "mean over classes of each class's own FID", column=False),
        MetricInfo("frechet-per-class", "", "lower", "the same of other features", column=False),
    ),
    summary=(Pick("fid"), Pick("frechet")),
    units=lambda spec: cut(spec.n),
    effort=lambda spec, rates: effort(spec, spec.n, spec.batch, rates),
    data=lambda spec: (Data(spec.reference, spec.crop, spec.size),),
    weights=weights_needed,
    notes=lambda card, spec: forewarnings(card, spec, spec.n, Data(spec.reference, spec.crop, spec.size)),
    transport=frozenset({"batch", "show"}),
    in_key=IN_KEY | {"reference", "kind", "split"},
)
