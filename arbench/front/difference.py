"""`arbench.difference(...)`: two runs or scores on disk, number by number, as the command `arbench compare` has it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..compare import words
from ..compare.comparison import RunComparison, compare_folders, plain_difference
from ..compare.difference import Difference
from .nights import Folder, folder_of
from .tables import Table

if TYPE_CHECKING:
    import pandas


@dataclass(frozen=True)
class RunDifference:
    """The differences of two folders' numbers, `comparison`. In a notebook it shows itself as a table."""

    comparison: RunComparison

    @property
    def differences(self) -> tuple[Difference, ...]:
        return self.comparison.differences

    def worse(self, *names: str) -> list[Difference]:
        """Regressions among metrics, or quality, speed and memory; without names among all numbers."""
        return self.comparison.worse(names or ("any",))

    def frame(self) -> pandas.DataFrame:
        """One row per number: old, new, change with low and high, verdict."""
        import pandas

        rows = [
            {"model": model.name, **plain_difference(each)}
            for model in self.comparison.models
            for each in model.differences
        ]
        return pandas.DataFrame(rows)

    def __repr__(self) -> str:
        return "\n\n".join(table.text() for table in self._tables())

    def _repr_html_(self) -> str:
        return "".join(table.html() for table in self._tables())

    def _tables(self) -> list[Table]:
        tables = []
        for model in self.comparison.models:
            lines = [words.line(each) for each in words.shown(model.differences)]
            tables.append(
                Table(
                    ("number", *self.comparison.names, "change", "paired", "verdict"),
                    tuple((one.head, one.old, one.new, one.change, one.pairing, one.verdict) for one in lines),
                    frozenset((1, 2, 3)),
                    title=model.name,
                    notes=tuple(f"differs: {setting.words}" for setting in model.settings),
                )
            )
        return tables


def difference(
    old: Folder, new: Folder, *, names: tuple[str, str] | None = None, tolerance: Sequence[str] = ()
) -> RunDifference:
    """Each number of `new` against that of `old`, paired by sample where the samples have the same ids.

    Folders of runs or of scores, or what `arbench.run` and `arbench.score(..., out=DIR)` return. `tolerance` is what
    counts as comparable: ["fid=0.3", "latency=5%"].
    """
    return RunDifference(compare_folders(folder_of(old), folder_of(new), names, tolerance))
