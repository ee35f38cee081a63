"""`arbench.gate(...)`, `arbench.history(...)`, `arbench.leaderboard(...)`: what becomes of many runs, on objects."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..compare import baseline as baselines
from ..compare import gate_output
from ..compare.gate import Gated, Verdicts
from ..compare.gate import gate as gate_run
from ..errors import UsageError
from ..remote.cached import local_folder
from ..report import history as series
from ..report.history import Series, series_of
from ..report.series import nights, runs_in
from ..report.site import write_site
from .run import Run
from .score import Score
from .tables import Table

if TYPE_CHECKING:
    import pandas

Folder = str | Path | Run | Score


def folder_of(given: Folder) -> Path:
    """Where a run or a score is. Raises `UsageError` for a score that is in no folder."""
    found = given.folder if isinstance(given, Run | Score) else local_folder(given)
    if found is None:
        raise UsageError("this score is in no folder", "its samples are not on disk", "arbench.score(..., out=DIR)")
    return found


@dataclass(frozen=True)
class Gate:
    """A gated run. `exit_code` is that of the command: 1 only for a regression, 3 where something was not measured."""

    verdicts: Verdicts

    @property
    def exit_code(self) -> int:
        return self.verdicts.exit_code

    @property
    def numbers(self) -> tuple[Gated, ...]:
        return self.verdicts.numbers

    def frame(self) -> pandas.DataFrame:
        """One row per number."""
        import pandas

        return pandas.DataFrame([asdict(each) | {"change": each.change} for each in self.numbers])

    def __repr__(self) -> str:
        return self._table().text()

    def _repr_html_(self) -> str:
        return self._table().html()

    def _table(self) -> Table:
        rows = tuple((*gate_output.row(each), each.why) for each in self.numbers)
        header = ("verdict", "model", "number", "baseline", "tonight", "change", "why")
        return Table(header, rows, frozenset((3, 4, 5)), title=gate_output.headline(self.verdicts))


def gate(folder: Folder, baseline: str, *, store: str | Path = baselines.STORE) -> Gate:
    """The verdicts of a run against a baseline, which `arbench baseline set` has made; the night is recorded."""
    return Gate(gate_run(folder_of(folder), baselines.read(Path(store), baseline)))


@dataclass(frozen=True)
class History:
    """Numbers of many nights as series."""

    series: tuple[Series, ...]

    def frame(self) -> pandas.DataFrame:
        """One row per number and night."""
        import pandas

        rows = [
            {
                "adapter": each.model,
                "settings_id": each.settings_id,
                "setting": each.setting,
                "number": each.words,
                "unit": each.unit,
                "run_id": night.run_id,
                "started": night.started,
                "git": night.git,
                "value": value,
            }
            for each in self.series
            for night, value in zip(each.nights, each.values, strict=True)
        ]
        return pandas.DataFrame(rows)

    def __repr__(self) -> str:
        return self._table().text()

    def _repr_html_(self) -> str:
        return self._table().html()

    def _table(self) -> Table:
        rows = []
        for each in self.series:
            known = [value for _, value in each.known]
            ends = [series.value_text(each, known[place]) for place in (0, -1)]
            told = "; ".join(each.told(step) for step in each.steps)
            rows.append((each.title, each.words, str(len(known)), *ends, series.bars(each.values), told))
        return Table(("model", "number", "nights", "first", "last", "", "steps"), tuple(rows), frozenset((2, 3, 4)))


def history(*folders: Folder) -> History:
    """The numbers that several runs have under the same settings. A folder may also hold runs."""
    return History(tuple(series_of(nights(runs_in([folder_of(each) for each in folders])))))


def leaderboard(*folders: Folder, out: str | Path = "site") -> Path:
    """Writes the site of `arbench leaderboard` and returns its first page; without folders, of published figures."""
    places: Sequence[Path] = runs_in([folder_of(each) for each in folders]) if folders else []
    return write_site(places, Path(out)).files[0]
