"""What of a suite is run: its adapters and tasks, or those that the command names; errors tell the suite's line."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from .. import registry
from ..checkpoints.parts import split
from ..errors import ArbenchError, ConfigError, UnknownName, suggestion
from ..features.weight_files import WEIGHTS
from ..remote.cached import local
from ..spec.card import Card
from ..spec.suite_file import SuiteFile, where
from ..spec.task import TaskSpec


def cards_of(suite_file: SuiteFile, globs: Sequence[str]) -> list[Card]:
    """Generators, then tokenizers, each in the order of their patterns, those that are too large left out."""
    suite = suite_file.suite
    if globs:
        found = registry.matching(globs)
        cards = [card for kind in ("generator", "tokenizer") for card in found if card.kind == kind]
    else:
        cards = [
            *_of_kind(suite_file, "adapters", "generator", suite.adapters),
            *_of_kind(suite_file, "tokenizers", "tokenizer", suite.tokenizers),
        ]
    most = suite.settings.max_params
    kept = [card for card in cards if most is None or (card.parameters or 0) <= most]
    if cards and not kept:
        least = min(cards, key=lambda card: card.parameters or 0)
        raise ConfigError(
            f"nothing to run: all adapters have more than {most:,} parameters",
            f"the smallest is {least.name} with {least.parameters:,}",
            "raise it: --max-params N",
        )
    return kept


def _of_kind(suite_file: SuiteFile, key: str, kind: str, patterns: Sequence[str]) -> list[Card]:
    chosen: dict[str, Card] = {}
    for index, pattern in enumerate(patterns):
        place = where(suite_file, (key, index))
        try:
            found = registry.matching([pattern])
        except ArbenchError as error:
            raise ConfigError(f"{place}: {error.what}", error.why, error.hint) from error
        wanted = [card for card in found if card.kind == kind]
        if not wanted:
            other = "tokenizers" if key == "adapters" else "adapters"
            raise ConfigError(
                f"{place}: {pattern!r} is not a {kind}", f"it is a {found[0].kind}: list it under `{other}`"
            )
        chosen.update({card.name: card for card in wanted})
    return list(chosen.values())


def tasks_of(suite_file: SuiteFile, names: Sequence[str]) -> list[tuple[int, TaskSpec]]:
    """The suite's tasks with their places, only those of `names` if there are any."""
    own = list(dict.fromkeys(task.task for task in suite_file.suite.tasks))
    for name in names:
        if name not in own:
            raise UnknownName(f"task of {suite_file.path}", name, own, f"--task {own[0]}" if own else "")
    return [(index, task) for index, task in enumerate(suite_file.suite.tasks) if not names or task.task in names]


def check_weight_names(suite_file: SuiteFile) -> None:
    """Raises ConfigError, with its line, for weights of nobody, and for a file that is not there."""
    suite = suite_file.suite
    files = [("weights", name, path) for name, path in suite.weights.items()]
    files += [("replicates", name, path) for name, paths in suite.replicates.items() for path in paths]
    for key, name, path in files:
        place = where(suite_file, (key, name))
        if name not in WEIGHTS and name not in registry.cards():
            hint = "arbench ls adapters, or arbench weights ls"
            error = UnknownName("adapter or feature network", name, [*registry.cards(), *WEIGHTS], hint)
            raise ConfigError(f"{place}: weights for an {error.what}", error.why, error.hint)
        file = Path(local(path)) if name in WEIGHTS else split(path)[0]
        if not file.exists() or (name in WEIGHTS and not file.is_file()):
            raise ConfigError(f"{place}: no weight file at {file}", f"given for {name}", "check the path")


def check_task_globs(suite_file: SuiteFile) -> None:
    """Raises ConfigError, with its line, for a glob of a task's adapters that matches no adapter that is registered."""
    names = list(registry.cards())
    for index, task in enumerate(suite_file.suite.tasks):
        for glob in (each.removeprefix("!") for each in task.adapters):
            if not any(fnmatchcase(name, glob) for name in names):
                raise ConfigError(
                    f"{where(suite_file, ('tasks', index, 'adapters'))}: no adapter is named {glob!r}",
                    suggestion(glob, names),
                    "arbench ls adapters, or arbench ls tokenizers",
                )
