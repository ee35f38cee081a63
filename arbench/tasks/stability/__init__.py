"""Stability: how much codes change under small changes of the image, and when a reconstruction is encoded."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from ...spec.task import Effort, MetricInfo, Pick, Rates, TaskDefinition
from ...spec.unit import cut
from ..on_images import OnImages

ENCODINGS = 8
"""Of an image: itself twice, five perturbations, the flipped one. Rounds come on top."""


class Stability(OnImages):
    """Tokenizers: codes under small changes of the image, and of their own reconstructions."""

    task: Literal["stability"] = "stability"
    """Name of the task."""
    rounds: int = Field(default=3, ge=1)
    """How often an image is encoded and decoded again."""


def _effort(spec: Stability, rates: Rates) -> Effort:
    return Effort((spec.n or 0) * rates.image * (ENCODINGS / 2 + spec.rounds), spec.batch)


TASK = TaskDefinition(
    name="stability",
    spec=Stability,
    work="arbench.tasks.stability.work:StabilityWork",
    version=2,
    kinds=frozenset({"tokenizer"}),
    group="Stability",
    metrics=(
        MetricInfo("token-change", "fraction", "lower", "share of codes that a small change of the image changes"),
        MetricInfo("latent-change", "fraction", "lower", "|z' - z| / |z| of an image's latents, likewise"),
        MetricInfo("token-agreement", "fraction", "higher", "share of codes that come back from the reconstruction"),
        MetricInfo(
            "flip-agreement",
            "fraction",
            "higher",
            "codes of the mirrored image that are mirrored",
            column=False,
        ),
        MetricInfo("deterministic", "fraction", "higher", "images with the same codes and pixels twice", column=False),
        MetricInfo("psnr-round", "dB", "higher", "of the image after so many rounds, to the original", column=False),
    ),
    summary=(Pick("token-agreement", at={"round": 1}), Pick("latent-change")),
    units=lambda spec: cut(spec.n),
    effort=_effort,
    data=lambda spec: (spec.images,),
    counted="n",
    transport=frozenset({"batch"}),
)
