"""What estimators ask for: vectors, moments and neighbour passes of two sets, each computed once and shared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..features.feature_set import Features
from ..features.weight_files import Weights
from ..metrics.estimate import Estimate
from ..metrics.rows import Rows
from ..metrics.sets.device_kernel import pair_sums
from ..metrics.sets.device_moments import moments_on
from ..metrics.sets.frechet import frechet, jackknife
from ..metrics.sets.kernel import Kind, Sums, cmmd, kid
from ..metrics.sets.moments import Moments
from ..metrics.sets.neighbour_passes import Distance
from ..metrics.sets.neighbours import Neighbours
from ..metrics.sets.published_roots import Route, frechet_distance_by
from .class_labels import class_names, matched, titles_matched
from .definition import Definition
from .known_reference import KnownReference
from .odd_files import TEXT_ORDER, in_text_order, more_than

Extras = dict[str, float | None]
Number = tuple[Estimate, Extras]


class Unavailable(Exception):
    """A number cannot be computed; the message says why."""


@dataclass(slots=True)
class Inputs:
    """The two sides, and what several numbers share."""

    samples: Mapping[str, Features]
    reference: KnownReference | None
    reasons: Mapping[str, str]
    """Recipe -> why it has no features."""
    paired: bool = False
    """Whether each sample is a reconstruction of the reference image at its place."""
    error: str = "delta"
    device: str = "cpu"
    ks: Sequence[int] = (3,)
    """Every k of the neighbour metrics asked for: one pass serves them all."""
    subset_size: int | None = None
    """Of the kernel distances over subsets, if not the convention's own."""
    flags: Sequence[tuple[tuple[str, ...], str]] = ()
    """(metrics concerned, all if empty; code)."""
    unofficial: Set[str] = frozenset()
    """Weights, by registry name, whose file is none that is known."""
    labels_sorted: bool = False
    missing_variants: Mapping[str, str] = field(default_factory=dict)
    """Metric of pairs -> why it is missing."""
    prompts: Sequence[str] = ()
    """What each sample was made from, in the order of the source."""
    weights: Weights | None = None
    per_image: dict[str, NDArray[Any]] = field(default_factory=dict)
    """Values of single samples that come out on the way, by column name."""
    _moments: dict[str, Moments] = field(default_factory=dict)
    _frechet: dict[str, Number] = field(default_factory=dict)
    _by_root: dict[tuple[Route, str], float | None] = field(default_factory=dict)
    _kid: dict[str, Estimate] = field(default_factory=dict)
    _neighbours: dict[str, Neighbours] = field(default_factory=dict)

    def rows(self, output: str) -> Rows:
        recipe = output.partition(":")[0]
        if recipe not in self.samples:
            raise Unavailable(self.reasons.get(recipe, f"no features of {recipe}"))
        return self.samples[recipe].rows(output)

    def reference_rows(self, output: str) -> Rows:
        rows = self.known_reference().rows(output)
        if rows is None:
            raise Unavailable(self.known_reference().why_no_rows(output))
        return rows

    def as_read(self, definition: Definition) -> tuple[Rows, ...]:
        """Vectors of the samples, then of the reference if it needs one, as the preset's tool would read the files."""
        recipe, known = definition.recipe, self.reference
        found = [(self.rows(definition.output), self.samples.get(recipe))]
        if not definition.alone:
            found.append((self.reference_rows(definition.output), known.sets.get(recipe) if known else None))
        as_text = definition.settings["preset"] in TEXT_ORDER
        return tuple(in_text_order(*each) if as_text else each[0] for each in found)

    def more_files(self, definition: Definition) -> bool:
        """Whether a folder of either side holds images that the convention's tool would not take."""
        mine, known = self.samples.get(definition.recipe), self.reference
        theirs = known.sets.get(definition.recipe) if known is not None and not definition.alone else None
        return any(more_than(definition.convention, one) for one in (mine, theirs))

    def known_reference(self) -> KnownReference:
        if self.reference is None:
            raise Unavailable("no reference was given: --reference SOURCE of arbench score, `reference` of a task")
        return self.reference

    def moments(self, output: str) -> Moments:
        if output not in self._moments:
            self._moments[output] = moments_on(self.rows(output), self.device)
        return self._moments[output]

    def frechet(self, output: str) -> Number:
        """The Frechet distance with the error method's interval; the jackknife also tells its bias at this n."""
        if output not in self._frechet:
            rows = self.rows(output)
            real = self.known_reference().moments(output)
            if real is None:
                raise Unavailable(self.known_reference().why_no_moments(output))
            found = frechet(rows, real, method=self.error, known=self.moments(output))
            extras: Extras = {}
            if self.error == "jackknife" and found.value is not None:
                cut = jackknife(rows, real, known=self.moments(output))
                if not isinstance(cut, Estimate):
                    extras = {"jackknife_bias": cut.bias, "corrected": cut.corrected.value}
            self._frechet[output] = (found, extras)
        return self._frechet[output]

    def frechet_by(self, route: Route, output: str) -> float | None:
        """The distance by a tool's own root (seconds at D = 2048), or None where the tool gives up."""
        if (route, output) not in self._by_root:
            real = self.known_reference().moments(output)
            if real is None:
                raise Unavailable(self.known_reference().why_no_moments(output))
            self._by_root[route, output] = frechet_distance_by(route, self.moments(output), real.moments)
        return self._by_root[route, output]

    def kid(self, output: str) -> Estimate:
        """The kernel distance over all pairs."""
        if output not in self._kid:
            rows, real = self.rows(output), self.reference_rows(output)
            known = partial(self._kernel_sums, output, "polynomial")
            self._kid[output] = kid(rows, real, known=known, sums=pair_sums(self.device))
        return self._kid[output]

    def cmmd(self, output: str) -> Estimate:
        """The exact one."""
        rows, real = self.rows(output), self.reference_rows(output)
        known = partial(self._kernel_sums, output, "gaussian")
        return cmmd(rows, real, known=known, sums=pair_sums(self.device))

    def _kernel_sums(self, output: str, kernel: Kind) -> Sums:
        """Of the reference alone."""
        found = self.known_reference().kernel_sums(output, kernel, self.device)
        assert found is not None
        return found

    def neighbours(self, output: str, distance: Distance = "float32", limit: int | None = None) -> Neighbours:
        """`limit`: so many vectors of each side at most, and as many of one as of the other.

        They are drawn as dgm-eval does, which leaves the seed to the caller: here as after `numpy.random.seed(0)`.
        """
        key = f"{output} {distance} {limit}"
        if key not in self._neighbours:
            rows, real = self.rows(output), self.reference_rows(output)
            chosen = None
            if limit is not None:
                draw, size = np.random.RandomState(0), min(limit, len(rows), len(real))
                chosen, mine = (np.sort(draw.choice(len(each), size, replace=False)) for each in (real, rows))
                real, rows = real[chosen], rows[mine]
            found = partial(self.known_reference().radii, output, distance=distance, device=self.device, chosen=chosen)
            self._neighbours[key] = Neighbours(
                rows, real, self.ks, distance=distance, device=self.device, reference_radii=found
            )
        return self._neighbours[key]

    def labels(self, output: str) -> tuple[Any, Any]:
        """Of samples and of reference images, equal where the classes are."""
        recipe = output.partition(":")[0]
        mine = self.samples[recipe].labels if recipe in self.samples else None
        theirs = self.known_reference().labels(recipe)
        if mine is None or theirs is None:
            side = "samples have" if mine is None else "reference has"
            raise Unavailable(f"the {side} no labels: sub-folders as classes, or labels beside the images")
        names, other = self._class_names(recipe)
        return matched(mine, names, theirs, other)

    def class_titles(self, output: str) -> Mapping[int, str]:
        """Of `labels`, where they stand for names."""
        return titles_matched(*self._class_names(output.partition(":")[0]))

    def _class_names(self, recipe: str) -> tuple[Mapping[int, str], Mapping[int, str]]:
        return class_names(self.samples[recipe]), class_names(self.known_reference().sets[recipe])
