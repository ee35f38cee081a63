"""The contract of a generator, check by check, on four samples."""

from __future__ import annotations

from ..errors import Unsupported
from ..measure.probe import HostStamps, PhaseProbe
from ..protocols import Generator, Sampling, Watchable
from ..seeds import Extreme
from . import abilities
from .calls import BATCHES, IDS, GeneratorCalls
from .knobs import KNOBS, guidances, guided, plain, unknown_extra, variants
from .memory import bytes_left
from .returned import SAME, check_close, check_codes, check_images, difference, networks_of, pick, tensors_of, unchanged
from .verdict import Broken, Check, NotApplicable, describe
from .work import work_of

HALF = 1.2
"""Guidance doubles the rows of all but a few layers, so it gives them at least this many times the numbers."""
COUNTED = (1, 16)
"""Samples whose work is counted. One is not enough where few rows are filled up: both halves then are as many as one.
The 16 tokens of as many samples are not filled up, nor are the rows of both halves."""


class GeneratorChecks(GeneratorCalls):
    """`checks()` in order; the first sample is kept and the others are compared with it."""

    def checks(self) -> list[Check]:
        return [
            ("protocol", self.protocol),
            ("sample", self.sample),
            ("codes", self.codes),
            ("images", self.images),
            ("same seeds", self.same_seeds),
            ("batch", self.batch),
            ("other seeds", self.other_seeds),
            ("condition", self.condition),
            ("prepare", self.prepare),
            ("recording", self.recording),
            ("native settings", self.native),
            ("unsupported knobs", self.unsupported),
            ("supported knobs", self.supported),
            ("guidance", self.guidance),
            ("guidance off", self.guidance_off),
            ("probe", self.probe),
            ("scores", lambda: abilities.scores(self)),
            ("edit", lambda: abilities.edit(self)),
            ("rare draws", self.rare_draws),
            ("memory", self.memory),
            ("close", self.close),
            ("inputs", self.watch.inputs),
            ("global state", self.watch.verdict),
        ]

    # ---- what it makes -------------------------------------------------------------------------------------------

    def protocol(self) -> str:
        if not isinstance(self.model, Generator):
            raise Broken("the class lacks one of card, tokenizer, load, prepare, sample, close")
        tokenizer, tokens = self.model.tokenizer, self.card.tokens
        if tokenizer is not None and tokens is not None:
            theirs = tokenizer.spec.kind, tokenizer.spec.vocabulary, tokenizer.spec.channels
            if theirs != (tokens.kind, tokens.vocabulary, tokens.channels):
                raise Broken(
                    f"the card's tokens are {(tokens.kind, tokens.vocabulary, tokens.channels)}, "
                    f"those of {tokenizer.card.name} {theirs}"
                )
        return f"a generator of {self.card.condition} conditions"

    def sample(self) -> str:
        self.ready(len(IDS), plain(self.card))
        generated = self.call(IDS)
        if generated.codes is None and generated.images is None:
            raise Broken("neither codes nor images")
        if generated.outer_steps < 1 or generated.forwards < 1:
            raise Broken(f"outer_steps is {generated.outer_steps} and forwards {generated.forwards}: both count from 1")
        self._generated = generated
        return f"{len(IDS)} samples in {generated.outer_steps} steps"

    def codes(self) -> str:
        if self.generated.codes is None:
            raise NotApplicable("it makes images directly")
        if self.card.tokens is None:
            raise Broken("it makes codes, and `tokens` of its card is empty")
        return check_codes(self.card.tokens, self.generated.codes, len(IDS))

    def images(self) -> str:
        images = self.generated.images
        if images is None:
            tokenizer, codes = self.model.tokenizer, self.generated.codes
            if tokenizer is None or codes is None:
                raise Broken("it makes codes and has no tokenizer to decode them")
            with self.watch("decode", codes=codes):
                images = tokenizer.decode(codes)
        return check_images(images, len(IDS), self.card.resolution)

    # ---- noise ---------------------------------------------------------------------------------------------------

    def same_seeds(self) -> str:
        apart = difference(self.drawn(IDS), self.reference)
        if apart > 0:
            raise Broken(f"the same call again gives another sample ({apart:.2g} apart): does all noise come from it?")
        return "the same call gives the same sample"

    def batch(self) -> str:
        for ids in BATCHES:
            apart = difference(self.drawn(ids), pick(self.reference, ids))
            if apart > SAME:
                raise Broken(
                    f"samples {ids} in a batch of {len(ids)} are not those in a batch of {len(IDS)} ({apart:.2g} "
                    "apart): draw from request.noise, a row for a sample"
                )
        return "samples are the same in batches of 1, 3 and 4, wherever they are in it"

    def other_seeds(self) -> str:
        other = self.drawn(IDS, seed=1)
        if not unchanged(self.first, self.reference):
            raise Broken("a later call overwrites what an earlier one returned: return a copy of what is kept")
        same = [i for i in IDS if difference(pick(other, (i,)), pick(self.reference, (i,))) <= SAME]
        if same:
            raise Broken(f"{len(same)} of {len(IDS)} samples are the same with another seed: is request.noise used?")
        return "every sample differs with another seed"

    def condition(self) -> str:
        """The same noise under another class or prompt, guided where that is possible, since it then shows most."""
        kind, _ = self.card.condition, self.generated
        known = self.card.classes or 0 if kind == "class" else len(set(self.prompts))
        if kind == "none" or known < 2:
            raise NotApplicable("there is only one condition")
        sampling = guided(self.card) if "guidance" in self.card.supports else plain(self.card)
        ours, other = (self.sampled(self.request(IDS, shift=shift), sampling) for shift in (0, 1))
        if difference(tensors_of(other.codes, other.images), tensors_of(ours.codes, ours.images)) == 0:
            field = "labels" if kind == "class" else "prompts"
            raise Broken(f"samples are the same with other {field}: is `request.{field}` used?")
        return "samples differ under another one"

    def prepare(self) -> str:
        _ = self.generated
        for ids in ((1,), IDS):
            self.ready(len(ids), plain(self.card))
            apart = difference(self.drawn(ids), pick(self.reference, ids))
            if apart > SAME:
                raise Broken(f"after `prepare` for a batch of {len(ids)} samples differ ({apart:.2g} apart)")
        return "for batches of 1 and 4"

    def recording(self) -> str:
        _ = self.generated
        if not isinstance(self.model, Watchable):
            raise NotApplicable("it has no `reads_back`: its calls are as they are")
        samplings = [plain(self.card), *([guided(self.card)] if "guidance" in self.card.supports else [])]
        for sampling in samplings:
            with self.watch("prepare"):
                why = self.model.reads_back(len(IDS), sampling)
            if why:
                return f"no CUDA graph, calls stay eager: {why}"
        return "a call reads nothing back: on a GPU it can be one CUDA graph"

    def rare_draws(self) -> str:
        """In range as well: a head may have more outputs than there are codes, and 1 - 2^-53 may be rounded to 1."""
        try:
            self.check_range(self.generated, len(IDS))
        except Broken:
            raise NotApplicable("common ones are out of range") from None
        try:
            self.sampled(self.request(IDS, noise=Extreme(len(IDS), self.device)))
        except (Exception, SystemExit) as error:  # its own network cannot look such a token up
            raise Broken(f"a rare draw raises {describe(error)}; is all that can be drawn a code?") from None
        if self.out_of_range:
            raise Broken(f"a rare draw is out of range: {self.out_of_range}")
        return "in range, for the lowest and highest numbers that noise can give too"

    def memory(self) -> str:
        _ = self.generated
        grown = bytes_left(lambda: self.call(IDS))
        if grown:
            raise Broken(f"every call leaves {grown:,} bytes of tensors behind: keep nothing of a call")
        return "a call leaves nothing behind"

    # ---- knobs ---------------------------------------------------------------------------------------------------

    def native(self) -> str:
        try:
            self.ready(1, self.card.native)
        except Unsupported as error:
            raise Broken(f"the card's own `native` settings are refused: {error.what}") from None
        return "`prepare` takes them"

    def unsupported(self) -> str:
        _ = self.generated
        trials = {knob: variants(self.card, knob)[0] for knob in ("guidance", *KNOBS) if knob not in self.card.supports}
        trials["extra.no_such_knob"] = unknown_extra(self.card)
        complaints: dict[str, list[str]] = {}
        for knob, sampling in trials.items():
            complaint = self._refusal(sampling)
            if complaint:
                complaints.setdefault(complaint, []).append(knob)
        if complaints:
            raise Broken("; ".join(f"{', '.join(knobs)}: {complaint}" for complaint, knobs in complaints.items()))
        return f"refused: {', '.join(trials)}"

    def _refusal(self, sampling: Sampling) -> str:
        """What is wrong with how it refuses, empty if nothing."""
        try:
            self.call((0,), sampling)
        except Unsupported:
            return ""
        except (Exception, SystemExit) as error:
            return f"raises {describe(error)}, which is not an Unsupported"
        return "accepted and not in `supports` of the card; raise Unsupported"

    def supported(self) -> str:
        knobs = [knob for knob in ("guidance", *KNOBS) if knob in self.card.supports]
        strange = sorted(self.card.supports - {"guidance", *KNOBS})
        if strange:
            raise Broken(f"`supports` has {', '.join(strange)}, which is not a field of Sampling")
        if not knobs:
            raise NotApplicable("the card supports none")
        idle = [knob for knob in knobs if not self._counts(knob)]
        if idle:
            raise Broken(f"{', '.join(idle)} changes nothing, and the card supports it")
        untried = ", ".join(sorted(self.card.extra.keys()))
        return f"each changes the sample: {', '.join(knobs)}" + (f" (not tried: {untried})" if untried else "")

    def _counts(self, knob: str) -> bool:
        generated, refusals = self.generated, []
        trials = variants(self.card, knob)
        for sampling in trials:
            try:
                other = self.call(IDS, sampling)
            except Unsupported as error:  # an order or schedule that the family lacks
                refusals.append(error.what)
                continue
            steps = (other.outer_steps, other.forwards) != (generated.outer_steps, generated.forwards)
            if steps or difference(tensors_of(other.codes, other.images), self.reference) > 0:
                return True
        if len(refusals) == len(trials):
            raise Broken(f"{knob} is in `supports` and refused: {refusals[0]}")
        return False

    def guidance(self) -> str:
        if "guidance" not in self.card.supports:
            raise NotApplicable("the card does not support it")
        seen, refused = {"full": self.drawn(IDS, guided(self.card))}, []
        for name, sampling in guidances(self.card, self.generated.outer_steps).items():
            try:
                drawn = self.drawn(IDS, sampling)
            except Unsupported:
                refused.append(name)
                continue
            if any(difference(drawn, other) == 0 for other in seen.values()):
                advice = "" if name == "another scale" else ": raise Unsupported for a schedule that it lacks"
                raise Broken(f"{name} is accepted and changes nothing{advice}")
            seen[name] = drawn
        ways = f"own samples: {', '.join(seen)}"
        return ways + (f"; refused: {', '.join(refused)}" if refused else "")

    # ---- work ----------------------------------------------------------------------------------------------------

    def guidance_off(self) -> str:
        off = self.generated
        if off.forwards != off.outer_steps:
            raise Broken(f"{off.forwards} forwards in {off.outer_steps} steps without guidance: one a step is enough")
        if "guidance" not in self.card.supports:
            return f"{off.forwards} forwards in as many steps; the card has no guidance"
        on = self.call(IDS, guided(self.card))
        if on.forwards < 2 * off.forwards:
            raise Broken(f"{on.forwards} forwards with guidance, {off.forwards} without: a guided one counts as two")
        times = self._times_the_work()
        if times is not None and times < HALF:
            raise Broken(f"guidance takes {times:.2f} times the work of none: is the batch doubled without it?")
        ratio = f", {times:.1f} times the work" if times is not None else ""
        return f"{off.forwards} forwards in as many steps; {on.forwards} with guidance{ratio}"

    def _times_the_work(self) -> float | None:
        """The work of guided samples over that of others, as soon as it is `HALF` for a number of them; None if
        nothing can be counted."""
        times = None
        for samples in COUNTED:
            work, more = (self._work(samples, sampling) for sampling in (plain(self.card), guided(self.card)))
            times = more / work if work else None
            if times is None or times >= HALF:
                break
        return times

    def _work(self, samples: int, sampling: Sampling) -> int:
        """Of so many samples; 0 if the adapter has no torch modules."""
        networks = networks_of(self.model, outside=self.model.tokenizer)
        return work_of(networks, lambda probe: self.call(range(samples), sampling, probe=probe))

    def probe(self) -> str:
        reference = self.reference
        marks = PhaseProbe(HostStamps())
        marks.start()
        generated = self.call(IDS, probe=marks)
        trace = marks.finish()
        if difference(tensors_of(generated.codes, generated.images), reference) > 0:
            raise Broken("samples differ when a probe is given")
        entries = trace.entries()
        steps = entries.get("prefill", 0) + entries.get("ar", 0)
        if steps != generated.outer_steps:
            raise Broken(f"prefill and ar are entered {steps} times in {generated.outer_steps} steps: mark every step")
        marked = sum(span.tokens for span in trace.spans if span.phase in ("prefill", "ar"))
        if not marked:
            raise Broken("prefill and ar say `tokens=` 0: give the tokens of each step")
        return ", ".join(f"{phase} x {count}" for phase, count in entries.items()) + f", {marked} tokens"

    def close(self) -> str:
        model = self.model
        self._generated = None

        def close() -> None:
            with self.watch("close"):
                model.close()

        return check_close(model, close, outside=model.tokenizer)
