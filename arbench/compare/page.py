"""The HTML page of a comparison: one file with everything in it, readable without scripts."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from urllib.parse import quote

import numpy as np
from markupsafe import Markup

from .. import __version__
from ..files import write_atomic
from ..report.page import asset, environment
from ..report.pictures import encode_all
from . import words
from .comparison import ChangedSamples, RunComparison, plain_difference

BUDGET = 3_000_000
"""Bytes of all pictures of a page."""


def write_page(comparison: RunComparison, output: Path) -> Path:
    """The page at `output`, replaced in one step. Raises `StoreError` where it cannot be written."""
    write_atomic(output, render(comparison).encode(), "arbench compare A B -o FILE")
    return output


def render(comparison: RunComparison) -> str:
    """The page as text."""
    grids = sum(len(model.samples) for model in comparison.models) or 1
    return environment().get_template("compare.html").render(
        comparison=comparison,
        version=__version__,
        css=Markup(asset("report.css")),
        script=Markup(asset("report.js")),
        more_script=Markup(asset("compare.js")),
        verdicts=list(dict.fromkeys(each.verdict for each in comparison.differences if each.verdict != "not measured")),
        csv="data:text/csv;charset=utf-8," + quote(to_csv(comparison)),
        json="data:application/json;charset=utf-8," + quote(json.dumps(comparison.plain())),
        counts=words.counts(comparison.models),
        models=[
            {
                "name": model.name,
                "settings": model.settings,
                "failed": model.failed,
                "lines": [(words.line(each), each) for each in words.shown(model.differences)],
                "details": [
                    (words.line(each), each)
                    for each in model.differences
                    if each not in words.shown(model.differences) and each.verdict != "not measured"
                ],
                "missing": words.missing(model.differences),
                "samples": [grid(each, BUDGET // grids) for each in model.samples],
            }
            for model in comparison.models
        ],
        notes=(words.COVERS, words.SESSIONS),
    )  # fmt: skip


def to_csv(comparison: RunComparison) -> str:
    """A row per number, in the units of the results, with the fields that `plain_difference` has."""
    rows = [{"model": each.model, **plain_difference(each)} for each in comparison.differences]
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, list(rows[0]) if rows else ["model"], lineterminator="\n")
    writer.writeheader()
    writer.writerows(row | {"at": json.dumps(row["at"]) if row["at"] else ""} for row in rows)
    return buffer.getvalue()


def grid(samples: ChangedSamples, budget: int) -> dict[str, object]:
    """Rows old, new and difference; a column for each sample."""
    most = samples.most
    if not most:
        return {"about": words.about(samples), "ids": (), "rows": ()}
    old, new = (np.stack(images) for images in zip(*((each.old, each.new) for each in most), strict=True))
    apart = np.abs(old.astype(np.int16) - new).astype(np.uint8)
    rows = zip(("old", "new", "|difference|"), encode_all([old, new, apart], budget), strict=True)
    return {"about": words.about(samples), "ids": most, "rows": list(rows)}
