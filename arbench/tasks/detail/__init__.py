"""Detail: where reconstructions lose what: edges and texture, high frequencies, colour, place, borders of patches."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from ...spec.task import Effort, MetricInfo, Pick, Rates, TaskDefinition
from ...spec.unit import cut
from ..on_images import OnImages


class Detail(OnImages):
    """Tokenizers: errors of reconstructions by region and frequency, their colour, place, and borders of patches."""

    task: Literal["detail"] = "detail"
    """Name of the task."""
    show: int = Field(default=8, ge=0)
    """The regions of the first `show` images are kept for the report."""


def _effort(spec: Detail, rates: Rates) -> Effort:
    return Effort((spec.n or 0) * (rates.image + rates.pixels * 1e-7), spec.batch)


TASK = TaskDefinition(
    name="detail",
    spec=Detail,
    work="arbench.tasks.detail.work:DetailWork",
    version=1,
    kinds=frozenset({"tokenizer"}),
    group="Detail",
    metrics=(
        MetricInfo("region-error", "levels", "lower", "root mean square error of flat places, texture and edges"),
        MetricInfo("high-frequency-ratio", "", None, "power above half of the highest frequency, 1: all of it"),
        MetricInfo("chroma-error", "levels", "lower", "root mean square error of Cb and Cr"),
        MetricInfo("blocking", "", None, "jumps at borders of patches against those within, 1: as in the originals"),
        MetricInfo("error-spectrum", "", "lower", "power of the error over that of the originals", column=False),
        MetricInfo("spectrum-ratio", "", None, "power of the reconstructions over the originals'", column=False),
        MetricInfo("colour-shift", "levels", None, "mean difference of a channel", column=False),
        MetricInfo("channel-gain", "", None, "slope of a channel against the original's", column=False),
        MetricInfo("channel-offset", "levels", None, "value of a channel where the original's is 0", column=False),
        MetricInfo("channels-in-order", "fraction", "higher", "images no other order of channels fits", column=False),
        MetricInfo("displacement", "pixels", None, "by which reconstructions lie beside the originals", column=False),
    ),
    summary=(Pick("region-error", at={"region": "edges"}), Pick("high-frequency-ratio")),
    units=lambda spec: cut(spec.n),
    effort=_effort,
    data=lambda spec: (spec.images,),
    counted="n",
    transport=frozenset({"batch", "show"}),
)
