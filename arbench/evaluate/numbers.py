"""From features to numbers: one estimator for each kind of definition, with moments and neighbour passes shared."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from ..errors import DamagedFile, InputError, counted
from ..features.feature_folder import PAIRS
from ..features.feature_set import PictureRecord
from ..metrics.estimate import Estimate, bounded, heavy_tailed, mean_with_interval, missing, share
from ..metrics.pairs import paired
from ..metrics.pairs.paired_sum import corpus
from ..metrics.pairs.ssim import RANGE
from ..metrics.sets.clip_score import clip_score, find_variant
from ..metrics.sets.device_kernel import device_sums
from ..metrics.sets.diversity import vendi, vendi_float32
from ..metrics.sets.extrapolation import fid_infinity
from ..metrics.sets.inception_score import inception_score
from ..metrics.sets.kernel import cmmd_float32
from ..metrics.sets.kernel_subsets import SUBSETS, kid_subsets
from ..metrics.sets.memorisation import mifid
from ..metrics.sets.per_class import PerClass, per_class, vendi_per_class
from ..registry import resolve
from ..spec.result import Metric
from . import paired_conventions
from .class_labels import class_names, titles
from .definition import Definition
from .inputs import Extras, Inputs, Number, Unavailable
from .pair_names import PairNames
from .pairs import BY_PLACE
from .question import weights_of


def numbers(
    wanted: Sequence[Definition], inputs: Inputs, progress: Callable[[int], None] = lambda done: None
) -> list[Metric]:
    """A metric for every definition; one that cannot be computed is null with the reason."""
    found: list[Metric] = []
    known: dict[str, Number] = {}
    for definition in wanted:
        progress(len(found))
        # conventions share numbers: torch-fidelity's FID does not depend on where its precision comes from
        same = f"{definition.kind} {definition.output} {sorted(definition.settings.items())}"
        if same not in known:
            try:
                known[same] = _number(definition, inputs)
            except Unavailable as reason:
                known[same] = missing(str(reason)), {}
            except DamagedFile:
                raise
            except InputError as error:  # an estimator has no number for these sets; the others may
                known[same] = missing(": ".join(part for part in (error.what, error.why) if part)), {}
        estimate, extras = known[same]
        found.append(_metric(definition, estimate, extras, inputs))
    progress(len(found))
    return found


def _metric(definition: Definition, estimate: Estimate, extras: Extras, inputs: Inputs) -> Metric:
    if estimate.value is not None:
        codes = [code for metrics, code in inputs.flags if not metrics or definition.metric in metrics]
        if inputs.unofficial & set(weights_of(definition)):
            codes.append("unofficial_weights")
        if inputs.more_files(definition):
            codes.append("more_files_than_the_tool")
        estimate = estimate.flagged(code for code in codes if code not in estimate.flags)
    compared = inputs.reference is not None and not definition.alone
    return estimate.metric(
        definition.metric,
        _how(definition, inputs),
        definition.unit,
        definition.direction,
        convention=definition.convention,
        reference=inputs.reference.named if inputs.reference is not None and compared else None,
        extras={name: value for name, value in extras.items() if value is not None},
    )


def _number(definition: Definition, inputs: Inputs) -> Number:
    """By the estimator of its kind, or by a function over vectors that the kind names: see `Definition`."""
    if definition.kind in ESTIMATORS:
        return ESTIMATORS[definition.kind](definition, inputs)
    function = resolve(definition.kind)
    rows = inputs.rows(definition.output)
    if definition.alone:
        return function(rows, **definition.settings), {}
    return function(rows, inputs.reference_rows(definition.output), **definition.settings), {}


def _how(definition: Definition, inputs: Inputs) -> str:
    """What decides the number, in words: preset, features with the digest of their weights, settings."""
    if definition.variant is not None:
        variant, _, originals = definition.variant.partition("@")
        treated = f"; originals as in {originals}" if originals else ""
        return f"{variant}: {paired.find(variant).convention}{treated}"
    found = inputs.samples.get(definition.recipe)
    output = found.outputs.get(definition.output) if found is not None else None
    features = f"{definition.output}, {output.convention}" if output is not None else definition.output
    settings = ", ".join(f"{name} {value}" for name, value in definition.settings.items() if name != "report")
    if definition.kind == "kid-subsets" and inputs.subset_size is not None:
        settings += f", subsets of {inputs.subset_size}"
    kind = definition.kind.rpartition(":")[2]
    return "; ".join(part for part in (definition.what, kind, features, settings) if part)


def _frechet(definition: Definition, inputs: Inputs) -> Number:
    estimate, extras = inputs.frechet(definition.output)
    route = definition.settings.get("root")
    if route is None or estimate.value is None or "rank_deficient" not in estimate.flags:
        return estimate, extras
    # with fewer images than dimensions the tool's own rounding is a part of its number
    value = inputs.frechet_by(route, definition.output)
    if value is None:
        return estimate.flagged(["tool_has_no_root"]), extras
    return _moved(estimate, value), {**extras, "exact": estimate.value}


def _infinity(definition: Definition, inputs: Inputs) -> Number:
    inputs.frechet(definition.output)  # the reasons that it may be missing are the same
    real = inputs.reference.moments(definition.output) if inputs.reference else None
    assert real is not None
    rows = inputs.rows(definition.output)
    # the distance is a line in 1 / n only from about D samples on
    smallest = max(len(rows) // 10, rows.shape[1]) if definition.settings["from"] == "D" else None
    found = fid_infinity(rows, real, smallest=smallest, root=definition.settings.get("root"))
    return found.estimate, {"slope": found.slope}


def _kid(definition: Definition, inputs: Inputs) -> Number:
    return inputs.kid(definition.output), {}


def _kid_subsets(definition: Definition, inputs: Inputs) -> Number:
    preset = SUBSETS[str(definition.settings["preset"])]
    if inputs.subset_size is not None:
        preset = replace(preset, size=inputs.subset_size)
    samples, reference = inputs.as_read(definition)
    sums = device_sums(inputs.device)
    found = kid_subsets(samples, reference, preset, sums)
    # a device adds up in float64 what the tools round
    estimate = found.estimate if sums is None or preset.double else found.estimate.flagged(["exact"])
    return estimate, {} if found.spread is None else {"std": found.spread}


def _inception_score(definition: Definition, inputs: Inputs) -> Number:
    (rows,) = inputs.as_read(definition)
    found = inception_score(rows, str(definition.settings["preset"]), labels_sorted=inputs.labels_sorted)
    return found.estimate, {"std": found.spread}


def _cmmd(definition: Definition, inputs: Inputs) -> Number:
    rows, real = inputs.rows(definition.output), inputs.reference_rows(definition.output)
    return _as_the_tool(inputs.cmmd(definition.output), lambda: cmmd_float32(rows, real))


def _vendi(definition: Definition, inputs: Inputs) -> Number:
    rows = inputs.rows(definition.output)
    if definition.settings.get("variant") != "float32":
        return vendi(rows), {}
    return _as_the_tool(vendi(rows), lambda: vendi_float32(rows))


def _as_the_tool(exact: Estimate, tools: Callable[[], float | None]) -> Number:
    """The tool's own rounded value with the exact one beside it; the exact one, flagged, where the tool's cannot be."""
    if exact.value is None:
        return exact, {}
    value = tools()
    if value is None:
        return exact.flagged(["exact"]), {}
    return _moved(exact, value), {"exact": exact.value}


def _moved(estimate: Estimate, value: float) -> Estimate:
    """`value` with the estimate's interval around it."""
    if estimate.value is None or estimate.low is None or estimate.high is None:
        return replace(estimate, value=value)
    by = value - estimate.value
    return bounded(replace(estimate, value=value, low=estimate.low + by, high=estimate.high + by))


def _mifid(definition: Definition, inputs: Inputs) -> Number:
    distance, _ = _frechet(definition, inputs)
    return mifid(distance, inputs.rows(definition.output), inputs.reference_rows(definition.output)), {}


def _per_class(definition: Definition, inputs: Inputs) -> Number:
    rows, real = inputs.rows(definition.output), inputs.reference_rows(definition.output)
    mine, theirs = inputs.labels(definition.output)
    found = per_class(rows, mine, real, theirs)
    return found.mean, _each_class(found, inputs.class_titles(definition.output))


def _vendi_per_class(definition: Definition, inputs: Inputs) -> Number:
    rows, labels = inputs.rows(definition.output), inputs.samples[definition.recipe].labels
    if labels is None:
        raise Unavailable("the samples have no labels: sub-folders as classes, or labels beside the images")
    found = vendi_per_class(rows, labels)
    return found.mean, _each_class(found, titles(class_names(inputs.samples[definition.recipe])))


def _each_class(found: PerClass, named: Mapping[int, str]) -> Extras:
    """The value of each class, by its name where it has one: places of names differ from set to set."""
    return {f"class {named.get(label, label)}": each.value for label, each in found.classes.items()}


def _realism(definition: Definition, inputs: Inputs) -> Number:
    values, estimate = inputs.neighbours(definition.output).realism(int(definition.settings["k"]))
    if not np.isnan(values).any():
        inputs.per_image[definition.metric] = values
    return estimate, {}


def _neighbours(definition: Definition, inputs: Inputs) -> Number:
    settings = definition.settings
    shared = inputs.neighbours(definition.output, settings["distance"], settings.get("limit"))
    k = int(settings["k"])
    if settings["report"] == "precision":
        return shared.precision_recall(k, settings["test"]).precision, {}
    if settings["report"] == "recall":
        return shared.precision_recall(k, settings["test"]).recall, {}
    both = shared.density_coverage(k)
    return (both.density if settings["report"] == "density" else both.coverage), {}


def _auth_pct(definition: Definition, inputs: Inputs) -> Number:
    return inputs.neighbours(definition.output).auth_pct(), {}


def _feature_distance(definition: Definition, inputs: Inputs) -> Number:
    """1 - cosine of each sample's features and its original's, averaged."""
    recipe = definition.recipe
    reference = inputs.known_reference().sets.get(recipe)
    rows, real = inputs.rows(definition.output), inputs.reference_rows(definition.output)
    if reference is None or not inputs.paired:
        raise Unavailable("samples and reference were not said to be pairs: --paired")
    mine, theirs = inputs.samples[recipe].pictures, reference.pictures
    if [picture.index for picture in mine] != [picture.index for picture in theirs]:
        raise Unavailable("samples and originals do not have the same places in their sets")
    names = PairNames(len(mine), len(theirs))
    apart = names.first_apart([one.key for one in mine], [one.key for one in theirs])
    if apart:
        raise Unavailable(f"sample {apart[0]} has {apart[1]} at its place, and pairs have the same names")
    values = paired.feature_cosine(rows, real)
    inputs.per_image[definition.metric] = values
    return mean_with_interval(values).flagged(["paired_by_place"] if names.by_place else []), {}


def _neighbour_agreement(definition: Definition, inputs: Inputs) -> Number:
    shared = inputs.neighbours(definition.output)
    mine, theirs = inputs.labels(definition.output)
    nearest = shared.nearest_reference()
    if isinstance(nearest, Estimate):
        return nearest, {}
    inputs.per_image["nearest_reference"] = nearest
    found = share(int(np.count_nonzero(theirs[nearest] == mine)), len(mine))
    return found if np.isin(mine, theirs).all() else found.flagged(["classes_absent"]), {}


def _clip_score(definition: Definition, inputs: Inputs) -> Number:
    rows = inputs.rows(definition.output)
    if not inputs.prompts or inputs.weights is None:
        raise Unavailable("no prompts were given: --prompts FILE of arbench score, `prompts` of a generate task")
    variant = str(definition.settings["variant"])
    prompts = prompts_of(inputs.samples[definition.recipe].pictures, inputs.prompts)
    from ..features.networks.clip import encode_prompts

    prefix = find_variant(variant).prefix
    text = encode_prompts(prompts, inputs.weights, definition.recipe, inputs.device, prefix=prefix)
    values, estimate = clip_score(rows, text, variant)
    inputs.per_image[f"{definition.metric}"] = values
    return estimate, {}


def prompts_of(pictures: Sequence[PictureRecord], prompts: Sequence[str]) -> Sequence[str]:
    """The prompt of each picture: that at its place in the source, where bad images that are left out have theirs.

    Raises `Unavailable` where there are not as many prompts as images.
    """
    places = [picture.index for picture in pictures]
    if places == list(range(len(prompts))):
        return prompts
    if places != list(range(len(places))) and len(prompts) > places[-1]:
        return [prompts[place] for place in places]
    both = f"{counted(len(places), 'image')} and {counted(len(prompts), 'prompt')}"
    raise Unavailable(f"{both}: each has its own, those left out as bad too")


def _paired(definition: Definition, inputs: Inputs) -> Number:
    key = str(definition.settings["variant"])
    if PAIRS not in inputs.samples:
        raise Unavailable("samples and reference were not said to be pairs: --paired")
    if key in inputs.missing_variants:
        raise Unavailable(inputs.missing_variants[key])
    variant = key.partition("@")[0]
    pictures = inputs.samples[PAIRS].pictures
    known = [(picture.values.get(key), picture.height * picture.width) for picture in pictures]
    left = [(value, pixels) for value, pixels in known if value is not None]
    if not left:
        least = paired.find(variant).smallest
        return missing(f"images are smaller than {least} x {least}", len(pictures)), {}
    found = corpus(variant, [value for value, _ in left], [size for _, size in left])
    flags = _convention_flags(definition.convention)
    if any(BY_PLACE in picture.values for picture in pictures):
        flags = (*flags, "paired_by_place")
    if variant == "psnr" and any(value >= _identical(pixels) for value, pixels in left):
        flags = (*flags, "identical_pairs")
    if found.low is not None and heavy_tailed(np.array([value for value, _ in left])):
        found, flags = replace(found, low=None, high=None, method=""), (*flags, "heavy_tails")
    return found.flagged((*flags, *(["some_too_small"] if len(left) < len(pictures) else []))), {}


def _identical(pixels: int) -> float:
    """The PSNR that identical images of so many pixels are given: that of one value off by one, less rounding."""
    return 10 * math.log10(RANGE**2 * 3 * pixels) - 1e-9


def _convention_flags(name: str) -> tuple[str, ...]:
    known = paired_conventions.CONVENTIONS.get(name)
    return known.flags if known is not None else ()


ESTIMATORS: dict[str, Callable[[Definition, Inputs], Number]] = {
    "frechet": _frechet,
    "frechet-infinity": _infinity,
    "kid": _kid,
    "kid-subsets": _kid_subsets,
    "inception-score": _inception_score,
    "cmmd": _cmmd,
    "vendi": _vendi,
    "mifid": _mifid,
    "per-class": _per_class,
    "neighbours": _neighbours,
    "vendi-per-class": _vendi_per_class,
    "realism": _realism,
    "auth-pct": _auth_pct,
    "feature-distance": _feature_distance,
    "neighbour-agreement": _neighbour_agreement,
    "clip-score": _clip_score,
    "paired": _paired,
}
