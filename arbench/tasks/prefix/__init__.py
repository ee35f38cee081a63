"""Prefix: what an image looks like from the first of its codes alone, and how many of them it takes."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from ...spec.task import Effort, MetricInfo, Pick, Rates, TaskDefinition
from ...spec.unit import cut
from ..on_images import OnImages

DECODINGS = 10
"""Prefixes of an image, about."""


class Prefix(OnImages):
    """Tokenizers: images decoded from the first levels of a pyramid, or the first tokens of a sequence."""

    task: Literal["prefix"] = "prefix"
    """Name of the task."""
    within: float = Field(default=1.0, gt=0)
    """An image is taken as there where its PSNR is so many dB from that of all codes."""
    show: int = Field(default=8, ge=0)
    """The prefixes of the first `show` images are kept for the report."""


def _effort(spec: Prefix, rates: Rates) -> Effort:
    return Effort((spec.n or 0) * rates.image * DECODINGS / 2, spec.batch)


TASK = TaskDefinition(
    name="prefix",
    spec=Prefix,
    work="arbench.tasks.prefix.work:PrefixWork",
    version=1,
    kinds=frozenset({"tokenizer"}),
    group="Prefix",
    metrics=(
        MetricInfo("prefix-needed", "fraction", "lower", "share of the tokens that brings an image within 1 dB of all"),
        MetricInfo("prefix-psnr", "dB", "higher", "from the first levels or tokens alone", column=False),
        MetricInfo("prefix-monotone", "fraction", "higher", "images whose PSNR never falls with a longer prefix"),
    ),
    summary=(Pick("prefix-needed"),),
    units=lambda spec: cut(spec.n),
    effort=_effort,
    data=lambda spec: (spec.images,),
    counted="n",
    transport=frozenset({"batch", "show"}),
)
