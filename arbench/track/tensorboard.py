"""Runs as folders of TensorBoard: a run of it per settings, whose HParams page plots quality against speed."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from ..errors import PrerequisiteError, UsageError
from .settings import Cell, SettingsRecord, records


def write(run_id: str, run: Mapping[str, Any], cells: Sequence[Cell], out: Path) -> int:
    """Event files below `out`/`run_id`, a folder for each settings; returns how many.

    Raises `PrerequisiteError` without the package `tensorboard`, `UsageError` where the folder is not empty: event
    files of two exports would lie over each other.
    """
    try:
        import tensorboard  # noqa: F401
    except ImportError as error:
        raise PrerequisiteError(
            "--format tensorboard needs the package tensorboard", str(error), "pip install tensorboard"
        ) from error
    place = out / run_id
    if place.exists() and any(place.iterdir()):
        raise UsageError(f"{place} is not empty", "event files go to a folder of their own", "name another --out DIR")
    found = records(run, cells)
    for number, own in enumerate(found):
        _write(own, place / f"{number:03d} {re.sub(r'[^-.=+ 0-9A-Za-z]', '_', own.name)}"[:200])
    return len(found)


def _write(own: SettingsRecord, folder: Path) -> None:
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.plugins.hparams.summary_v2 import hparams_pb
    from tensorboard.summary.writer.event_file_writer import EventFileWriter

    writer = EventFileWriter(str(folder))
    start = own.seconds or None
    told = {**own.params, **{name: text for name, text in own.tags.items() if name.startswith("arbench.") and text}}
    writer.add_event(Event(wall_time=start, summary=hparams_pb(told, trial_id=own.settings_id, start_time_secs=start)))
    for step, metrics in enumerate(own.metrics):
        values = [Summary.Value(tag=name, simple_value=value) for name, value in metrics.items()]
        writer.add_event(Event(wall_time=start, step=step, summary=Summary(value=values)))
    for task, sheet in own.sheets.items():
        width, height = Image.open(io.BytesIO(sheet)).size
        drawn = Summary.Image(height=height, width=width, colorspace=3, encoded_image_string=sheet)
        value = Summary.Value(tag=f"{task}/samples", image=drawn)
        writer.add_event(Event(wall_time=start, step=0, summary=Summary(value=[value])))
    writer.close()
