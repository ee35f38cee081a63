"""The plan of a run: every adapter through every task that applies to it, fully resolved, in order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .. import registry, weight_parts, weights
from ..adapter_code import code_of, roots_of
from ..checkpoints.parts import join
from ..data.digest import count_of, digest_of
from ..errors import (
    FEW,
    ArbenchError,
    ConfigError,
    MissingReference,
    MissingWeights,
    PrerequisiteError,
)
from ..features.weight_files import feature_weights
from ..spec.base import Frozen
from ..spec.card import Card
from ..spec.cell import Cell, make_cell, told_apart, trained
from ..spec.result import Outcome
from ..spec.suite import Settings, check_graph
from ..spec.suite_file import SuiteFile, where
from ..spec.task import TaskSpec, tasks
from ..spec.unit import Unit
from .chosen import cards_of, check_task_globs, check_weight_names, tasks_of
from .cost import NO_COST, estimate
from .device import Place, cores, machine, resolve_device
from .pace import learned
from .resolve import Resolved, check_overrides, resolve_sampling
from .sweep import words

BASE_DISK_BYTES = 50_000_000
"""Report, MLflow database and journal."""


class PlannedCell(Frozen):
    """A cell, the units it is cut into, and what it will take.

    `outcome` is None for a cell to be run; "unsupported" or "error" with a `reason` for one that cannot be.
    `origins` says where each value came from, by dotted name: "file:line", "--set ...", "card" or "default".
    """

    cell: Cell
    units: tuple[Unit, ...]
    exclusive: bool
    minutes: float
    modelled: float | None = None
    """Minutes by the cost model alone, before what earlier runs on this machine have shown; None: the same."""
    gigabytes: float
    disk_bytes: int
    data: dict[str, str]
    """Data source -> digest."""
    notes: tuple[str, ...] = ()
    """What is known before the run: numbers that will be null, a reference of another size."""
    origins: dict[str, str]
    outcome: Outcome | None = None
    reason: str = ""
    code: str = ""
    """Digest of the code of the adapter and its tokenizer; "" where it is not known."""
    partial: bool = False
    """Whether `units` are a shard's share: the cell has its result once `arbench merge` has them all."""

    @property
    def samples(self) -> int:
        """Images the cell works on; 0 for tasks that count calls."""
        return 0 if self.exclusive else sum(unit.stop - unit.start for unit in self.units)


class Plan(Frozen):
    """Cells in the order they run: one adapter's together, one setting of a sweep after the other, quality before speed
    and memory."""

    device: str
    machine: str
    weights: dict[str, str]
    """Name of an adapter, or of a feature network's weights -> absolute path of the file, perhaps with #PART."""
    cells: tuple[PlannedCell, ...]

    @property
    def minutes(self) -> float:
        return sum(cell.minutes for cell in self.cells if cell.outcome is None)

    @property
    def gigabytes(self) -> float:
        """Peak memory of the largest cell."""
        return max((cell.gigabytes for cell in self.cells if cell.outcome is None), default=0.0)

    @property
    def disk_bytes(self) -> int:
        return BASE_DISK_BYTES + sum(cell.disk_bytes for cell in self.cells if cell.outcome is None)


def make_plan(
    suite_file: SuiteFile,
    *,
    adapter_globs: Sequence[str] = (),
    task_names: Sequence[str] = (),
    device: str | None = None,
    must_run: bool = True,
    place: Place | None = None,
) -> Plan:
    """The plan of a suite.

    `adapter_globs` (`--adapter`) replace the suite's own lists: the cells are those of the registered adapters
    that match. `task_names` (`--task`) leave out its other tasks. `device` (`--device`) replaces the suite's;
    `place` is what it comes to where the run is not done here.
    With `must_run` it is an error if no cell at all can run. Errors: `ConfigError` and `UnknownName` for anything wrong
    in the suite, `NoDevice`, `MissingWeights` or `MissingReference` if no cell can run without what is missing.
    """
    suite = suite_file.suite
    check_overrides(suite_file, registry.cards().values())
    check_weight_names(suite_file)
    chosen = tasks_of(suite_file, task_names)
    check_task_globs(suite_file)
    if place is None:
        resolved = resolve_device(device or suite.settings.device)
        place = Place(resolved, machine(resolved))
    check_graph(suite.settings.graph, place.device)
    planner = _Planner(suite_file, place, device is not None)
    cards = cards_of(suite_file, adapter_globs)
    # quality cells share workers and go first, so that nothing runs beside a speed or memory cell
    cells = [
        planner.cell(card, index, setting, again)
        for exclusive in (False, True)
        for card in cards
        for setting in planner.settings_of(card)
        for index, task in chosen
        if card.kind in tasks()[task.task].kinds and tasks()[task.task].exclusive is exclusive and task.is_for(card)
        for again in planner.repetitions(card, task)
    ]
    if not cells:
        asked = ", ".join(dict.fromkeys(task.task for _, task in chosen))
        more = f" and {len(cards) - FEW} more" if len(cards) > FEW else ""
        names = (", ".join(card.name for card in cards[:FEW]) or "no adapters") + more
        raise ConfigError(f"nothing to run: {names} with {asked or 'no tasks'}", _why_nothing(suite_file, cards))
    _refuse_duplicates(cells)
    told = told_apart([planned.cell for planned in cells])
    cells = [planned.model_copy(update={"cell": cell}) for planned, cell in zip(cells, told, strict=True)]
    if must_run and planner.missing and not any(cell.outcome is None for cell in cells):
        raise planner.missing[0]
    return Plan(device=planner.settings.device, machine=planner.machine, weights=planner.weights, cells=tuple(cells))


@dataclass(frozen=True)
class _Again:
    """One of the repetitions of a cell: the seed of its samples, and which of how many trainings its weights are of."""

    seed: int
    replicate: int = 0
    replicates: int = 1
    words: str = ""


class _Planner:
    """Resolves cells one by one; keeps what they share (weight digests, sources) so that it is read once."""

    def __init__(self, suite_file: SuiteFile, place: Place, device_given: bool) -> None:
        self.suite_file = suite_file
        self.settings = suite_file.suite.settings.model_copy(update={"device": place.device})
        self.device_given = device_given
        self.machine = place.machine
        self.pace = learned(self.machine)
        self.weights: dict[str, str] = {}
        self.missing: list[PrerequisiteError] = []
        self._digests: dict[str, str] = {}
        self._parts: dict[str, str] = {}
        self._code: dict[tuple[Path, ...], str] = {}
        self._resolved: dict[str, list[Resolved]] = {}
        self.feature_weights = feature_weights(suite_file.suite.weights)

    def settings_of(self, card: Card) -> list[Resolved | None]:
        """Its settings under the suite: None for a tokenizer, several where the suite sweeps."""
        if card.kind != "generator":
            return [None]
        if card.name not in self._resolved:
            self._resolved[card.name] = resolve_sampling(card, self.suite_file)
        return [*self._resolved[card.name]]

    def repetitions(self, card: Card, task: TaskSpec) -> list[_Again]:
        """Every training of the adapter under every seed; what is measured alone on a machine only once."""
        definition, settings = tasks()[task.task], self.settings
        seeds = settings.seeds if definition.draws else 1
        trainings = 1 if definition.exclusive else len(self.suite_file.suite.replicates.get(card.name, ())) or 1
        return [
            _Again(
                settings.seed + seed,
                training,
                trainings,
                ", ".join(
                    [f"seed {settings.seed + seed}"] * (seeds > 1) + [f"training {training + 1}"] * (trainings > 1)
                ),
            )
            for training in range(trainings)
            for seed in range(seeds)
        ]

    def _given(self, replicate: int = 0) -> dict[str, str]:
        """Files of weights by name, those of one training where there are several."""
        suite = self.suite_file.suite
        trained = {name: paths[min(replicate, len(paths) - 1)] for name, paths in suite.replicates.items()}
        return {**suite.weights, **trained}

    def cell(self, card: Card, index: int, setting: Resolved | None, again: _Again) -> PlannedCell:
        task = self.suite_file.suite.tasks[index]
        definition = tasks()[task.task]
        origins = self._origins(task, index)
        lacking = self._lacking(task)
        if lacking is None:
            task = self._resolve_count(task, index, origins)
        tokenizer = registry.card(card.tokenizer) if card.tokenizer else None
        sampling = setting.sampling if setting else None
        outcome: Outcome | None = None
        reason = ""
        notes: list[str] = []
        digests: dict[str, str] = {}
        if setting is not None:
            origins |= {f"sampling.{name}": origin for name, origin in setting.origins.items()}
            reason = ("" if lacking else definition.why_unable(card, task)) or setting.problem
        if reason:
            outcome = "unsupported"
        elif lacking is not None:
            self.missing.append(lacking)
            outcome, reason = "error", one_line(lacking)
        for each in [card, *([tokenizer] if tokenizer else [])] if self.settings.init == "checkpoint" else []:
            try:
                digests |= self._weight_digests(each, again.replicate if each is card else 0)
            except MissingWeights as error:
                if outcome is None:
                    self.missing.append(error)
                    outcome, reason = "error", one_line(error)
                elif outcome == "error":
                    notes.append(f"missing too: {one_line(error)}")
        data: dict[str, str] = {}
        try:
            data = {each.name: digest_of(each) for each in definition.data(task)} if lacking is None else {}
        except MissingReference as error:
            if outcome is None:
                self.missing.append(error)
                outcome, reason = "error", one_line(error)
            elif outcome == "error":
                notes.append(f"missing too: {one_line(error)}")
        notes += [self._parts[name] for name in digests if self._parts.get(name)]
        features, about_features = self._features(task)
        notes += about_features
        notes += definition.notes(card, task) if lacking is None else ()
        if sampling is not None and sampling.guidance.scale == 0 and sampling.guidance.on:
            notes.append(f"{card.name}: guidance.scale 0 samples without the condition; 1 is off")
        missing = frozenset(definition.weights(task)) - set(features)
        cost = NO_COST
        if lacking is None:
            cost = estimate(card, tokenizer, task, self.settings, sampling, cores=cores(), missing=missing)
        cell = make_cell(
            card,
            task,
            self.settings.model_copy(update={"seed": again.seed}),
            sampling,
            digests,
            data=data,
            machine=self.machine,
            features_sha256=features,
            swept=", ".join(part for part in (words(setting.at) if setting else "", again.words) if part),
            replicate=(again.replicate, again.replicates),
        )
        return PlannedCell(
            cell=cell,
            units=definition.units(task) if lacking is None else (),
            exclusive=definition.exclusive,
            minutes=cost.minutes * (self.pace.factor(cell) or 1.0),
            modelled=cost.minutes,
            gigabytes=cost.gigabytes,
            disk_bytes=cost.disk_bytes,
            data=data,
            notes=tuple(notes),
            origins=origins,
            outcome=outcome,
            reason=reason,
            code=self._code_of(card),
        )

    def _code_of(self, card: Card) -> str:
        places = roots_of(card)
        if places not in self._code:
            self._code[places] = code_of(card)
        return self._code[places]

    def _lacking(self, task: TaskSpec) -> MissingReference | None:
        """Data that the suite needs and that was not given."""
        for data in tasks()[task.task].data(task):
            if (what := self.suite_file.suite.needs.get(data.source)) is not None:
                return MissingReference(f"no {data.source} given", what, f"--set sources.{data.source}=PATH")
        return None

    def _origins(self, task: TaskSpec, index: int) -> dict[str, str]:
        known = self.suite_file.origins
        origins = {
            f"task.{name}": known.get(("tasks", index, name), "default")
            for name in type(task).model_fields
            if name != "task"
        }
        origins |= {f"settings.{name}": known.get(("settings", name), "default") for name in Settings.model_fields}
        for place, origin in known.items():  # of parts of a value
            if place[:2] == ("tasks", index) and len(place) > 3:
                origins[".".join(map(str, ("task", *place[2:])))] = origin
        if self.device_given:
            origins["settings.device"] = "--device"
        return origins

    def _resolve_count(self, task: TaskSpec, index: int, origins: dict[str, str]) -> TaskSpec:
        """A number of images or prompts of None becomes the number that the source has."""
        definition = tasks()[task.task]
        name = definition.counted
        data = definition.counted_data(task)
        if data is None:
            return task
        asked, available = getattr(task, name), count_of(data)
        if asked is None:
            origins[f"task.{name}"] = f"{data.what} in {data.source}"
            return task.model_copy(update={name: available})
        if asked > available:
            place = where(self.suite_file, ("tasks", index, name))
            key = name if place.startswith(f"--set {name}=") else f"{task.task}.{name}"  # as it was given: to all tasks
            raise ConfigError(
                f"{place}: {task.task}.{name} is {asked}",
                f"{data.source} has {available} {data.what}",
                f"--set {key}={available}, or null for all",
            )
        return task

    def _features(self, task: TaskSpec) -> tuple[dict[str, str], list[str]]:
        """Digests of the feature networks' weights that are here, and what will be null without the others."""
        digests, notes = {}, []
        for name, numbers in tasks()[task.task].weights(task).items():
            file = self.feature_weights.find(name)
            if file is None:
                command = f"arbench weights fetch {name}, or --weights {name}=PATH"
                notes.append(f"{task.task}: no weights of {name}, so these will be null: {numbers} ({command})")
            else:
                self.weights[name] = str(file.path.resolve())
                digests[name] = file.sha256
        return digests, notes

    def _weight_digests(self, card: Card, replicate: int) -> dict[str, str]:
        key = trained(card.name, replicate)
        if key not in self._digests:
            given = self._given(replicate)
            path = weights.locate(card, given)
            if path is None:
                return {}
            if not path.exists():
                raise MissingWeights(
                    f"no weights for {card.name}",
                    f"{path} should have come with the package and is not there",
                    "install arbench again",
                )
            part = weight_parts.part_of(card, path, given)
            self.weights[key] = join(path.absolute(), part.name)  # shards lie beside a link, not its target
            self._digests[key] = weight_parts.digest_of(path, part.name)
            self._parts[card.name] = part.note
        return {card.name: self._digests[key]}


def one_line(error: ArbenchError) -> str:
    """An error's what, why and hint as one line, for a result's `reason`."""
    return "; ".join(part for part in (error.what, error.why, error.hint and f"next: {error.hint}") if part)


def _why_nothing(suite_file: SuiteFile, cards: Sequence[Card]) -> str:
    if not cards:
        return f"{suite_file.path} lists no adapters and no tokenizers; name some with --adapter"
    if not suite_file.suite.tasks:
        return f"{suite_file.path} lists no tasks"
    return "none of the tasks is for " + " or ".join(sorted({f"a {card.kind}" for card in cards}))


def _refuse_duplicates(cells: Sequence[PlannedCell]) -> None:
    seen: set[str] = set()
    for planned in cells:
        if planned.cell.result_id in seen:
            raise ConfigError(
                f"the suite runs {planned.cell.label} twice",
                "two of its tasks differ in nothing that changes the result",
                "remove one of them",
            )
        seen.add(planned.cell.result_id)


def longest_seconds(planned: PlannedCell) -> float:
    """The longer of both estimates of a cell in seconds, the basis of its timeout."""
    return 60 * max(planned.minutes, planned.modelled or 0.0)
