"""The work of `likelihood`: teacher-forced scores of held-out codes, of their own class and of another."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...errors import CellError
from ...metrics.estimate import Estimate, mean_with_interval, missing
from ...protocols import Codes, Generator, Scores
from ...spec.cell import Cell
from ...spec.result import Metric
from ...spec.task import Data
from ...spec.unit import Unit
from ..base import Arrays, Context, Finished, Stored, joined
from ..outputs import classes_of, encode, from_ids_alone, load, request_for
from . import Likelihood


class LikelihoodWork:
    """A unit is a range of image indices. Sampling settings play no part: scores are unguided."""

    def measure(self, cell: Cell, unit: Unit, context: Context) -> Arrays:
        task = cell.task
        assert isinstance(task, Likelihood)
        generator, tokenizer, source = (
            context.generator(cell),
            context.tokenizer(cell),
            context.source(Data(task.data, task.crop, task.size)),
        )
        scores, card, ids = _scores(generator), generator.card, range(unit.start, unit.stop)
        originals = load(source, ids, card, "likelihood")
        classes = classes_of(source, ids, card, "likelihood")
        conditions = {"nats": classes}
        if card.condition == "class":
            conditions["nats_wrong_class"] = (classes + 1) % (card.classes or 1)
        found: dict[str, list[NDArray[np.float64]]] = {name: [] for name in conditions}
        for start in range(0, len(ids), task.batch):
            rows = slice(start, min(start + task.batch, len(ids)))
            codes = from_ids_alone(encode(tokenizer, originals[rows], context.device), tokenizer.spec)
            for name, labels in conditions.items():
                # the same noise for both: models of random order draw it from there
                request = request_for(card, ids[rows], cell.settings.seed, context.device, labels[rows])
                logits = scores.logits(request, codes)
                found[name].append(negative_log_likelihood(logits, codes, card.name).cpu().numpy())
            context.progress(rows.stop)
        return {
            "image_ids": np.array(ids, dtype=np.int64),
            "classes": classes,
            **{name: np.concatenate(parts) for name, parts in found.items()},
        }

    def finish(self, cell: Cell, units: Sequence[Stored], context: Context) -> Finished:
        card, spec = context.tokenizer(cell).card, context.tokenizer(cell).spec
        nats, values = joined(units, "nats"), 3 * card.resolution**2
        wrong = gap = missing("the generator has no classes", len(nats))
        if "nats_wrong_class" in units[0]:
            other = joined(units, "nats_wrong_class")
            wrong, gap = mean_with_interval(other / spec.tokens), mean_with_interval((other - nats) / spec.tokens)
        bits = nats / math.log(2)
        what = f"codes of {card.name}; teacher-forced, unguided"
        return Finished(
            (
                _lower(mean_with_interval(nats / spec.tokens), "nats-per-token", what, "nats"),
                _lower(mean_with_interval(bits), "bits-per-image", what, "bits"),
                _lower(
                    mean_with_interval(bits / values),
                    "bits-per-dimension",
                    f"{what}; over {values} pixel values, but of the codes, which are lossy: no bound for pixels",
                    "bits",
                ),
                _lower(wrong, "nats-per-token-wrong-class", f"{what}; given the class after the image's own", "nats"),
                gap.metric("nats-per-token-gap", f"{what}; of the class after the own less the own", "nats", "higher"),
            )
        )


def negative_log_likelihood(logits: Tensor, codes: Codes, adapter: str) -> Tensor:
    """(B,) float64 nats of codes, all levels side by side, under logits (B, tokens, V). Raises CellError."""
    ids = torch.cat(codes.ids, dim=1)
    if tuple(logits.shape[:2]) != tuple(ids.shape):
        raise CellError(f"{adapter}: logits for {tuple(ids.shape)} tokens expected", f"found {tuple(logits.shape)}")
    chosen = logits.gather(-1, ids.unsqueeze(-1)).squeeze(-1).float()
    nats = (logits.float().logsumexp(-1) - chosen).double().sum(1)
    if not bool(nats.isfinite().all()):
        raise CellError(f"{adapter}: logits are not finite", "", "try dtype float32")
    return nats


def _scores(generator: Generator) -> Scores:
    if not isinstance(generator, Scores):
        raise CellError(
            f"{generator.card.name}: its card offers `scores`",
            "its class has no `logits`",
            f"arbench check {generator.card.name}",
        )
    return generator


def _lower(estimate: Estimate, name: str, how: str, unit: str) -> Metric:
    return estimate.metric(name, how, unit, "lower")
