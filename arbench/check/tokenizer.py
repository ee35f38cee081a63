"""The contract of a tokenizer, check by check, on four images."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..measure.probe import HostStamps, PhaseProbe
from ..protocols import NO_PROBE, Card, Codes, Noise, Prefix, Probe, Tokenizer
from ..seeds import noise_for
from .memory import bytes_left
from .returned import (
    SAME,
    check_close,
    check_codes,
    check_images,
    check_type,
    check_types,
    copied_codes,
    difference,
    pick,
    tensors_of,
    unchanged,
)
from .verdict import Broken, Check, NotApplicable
from .watch import Watch

COUNT = 4
BATCHES = ((3,), (2, 0, 3))
"""Images alone, and in another place of a smaller batch."""


def pictures(count: int, side: int, device: str) -> Tensor:
    """(count, 3, side, side) in [0, 1]: waves of other lengths and colours, with noise, the same at every call."""
    draw = torch.Generator().manual_seed(0)
    place = torch.linspace(0, 1, side)
    waves = [
        torch.sin(6 * (row + 1) * (place[:, None] + (channel + 1) * place) + row)
        for row in range(count)
        for channel in range(3)
    ]
    clean = torch.stack(waves).reshape(count, 3, side, side)
    noisy: Tensor = 0.5 + 0.35 * clean + 0.1 * torch.randn(count, 3, side, side, generator=draw)
    return noisy.clamp(0, 1).to(device)


class TokenizerChecks:
    """`checks()` in order; the first codes and images are kept and the others are compared with them."""

    def __init__(self, model: Tokenizer, card: Card, device: str = "cpu", watch: Watch | None = None) -> None:
        self.model = model
        self.card = card
        self.device = device
        self.watch = watch or Watch()
        self.given = pictures(COUNT, card.resolution, device)
        self._codes: Codes | None = None
        self._images: Tensor | None = None
        self._returned: tuple[Tensor, ...] = ()  # those of the first calls themselves, not copies
        self._shown: tuple[Tensor, ...] = ()

    def checks(self) -> list[Check]:
        return [
            ("protocol", self.protocol),
            ("encode", self.encode),
            ("decode", self.decode),
            ("ids alone", self.ids_alone),
            ("all codes", self.all_codes),
            ("same images", self.same_images),
            ("batch", self.batch),
            ("seeds", self.seeds),
            ("prefix", self.prefix),
            ("probe", self.probe),
            ("memory", self.memory),
            ("close", self.close),
            ("inputs", self.watch.inputs),
            ("global state", self.watch.verdict),
        ]

    def encoded(self, images: Tensor, noise: Noise | None = None) -> Codes:
        with self.watch("encode", images=images, noise=noise):
            codes = self.model.encode(images, noise=noise)
        check_types(codes)
        return codes

    def decoded(self, codes: Codes, probe: Probe = NO_PROBE) -> Tensor:
        with self.watch("decode", codes=codes):
            images = self.model.decode(codes, probe=probe)
        check_type("images", images, Tensor)
        return images

    @property
    def codes(self) -> Codes:
        if self._codes is None:
            raise NotApplicable("it does not encode")
        return self._codes

    @property
    def images(self) -> Tensor:
        if self._images is None:
            raise NotApplicable("it does not decode")
        return self._images

    def protocol(self) -> str:
        if not isinstance(self.model, Tokenizer):
            raise Broken("the class lacks one of card, spec, load, encode, decode, close")
        if self.model.spec != self.card.tokens:
            raise Broken("`spec` is not what `tokens` of the card says")
        return f"a {self.model.spec.kind} tokenizer, {self.model.spec.layout}"

    def encode(self) -> str:
        codes = self.encoded(self.given)
        note = check_codes(self.model.spec, codes, COUNT)
        self._codes, self._returned = copied_codes(codes), tensors_of(codes)
        return note

    def decode(self) -> str:
        images = self.decoded(self.codes)
        note = check_images(images, COUNT, self.card.resolution)
        self._images, self._shown = images.clone(), (images,)
        return note

    def ids_alone(self) -> str:
        if self.model.spec.kind != "discrete":
            raise NotApplicable("its images need latents as well")
        apart = difference((self.decoded(self.codes.without_latents()),), (self.images,))
        if apart > SAME:
            raise Broken(f"without latents the same ids give other images ({apart:.2g} apart)")
        return "give the same images"

    def all_codes(self) -> str:
        vocabulary = self.model.spec.vocabulary
        if self.model.spec.kind != "discrete" or vocabulary is None:
            raise NotApplicable("its codes are not a finite set")
        if self.model.spec.variable_length:
            raise NotApplicable("not every row of its codes is of an image")
        last = vocabulary - 1
        ids = tuple((torch.arange(one.numel()) % 2 * last).view_as(one).to(self.device) for one in self.codes.ids)
        check_images(self.decoded(Codes(ids=ids, lengths=self.codes.lengths)), COUNT, self.card.resolution)
        return f"the first and the last, {last}, can be decoded"

    def same_images(self) -> str:
        if difference(tensors_of(self.encoded(self.given)), tensors_of(self.codes)) > 0:
            raise Broken("the same images again give other codes")
        if difference((self.decoded(self.codes),), (self.images,)) > 0:
            raise Broken("the same codes again give other images")
        return "the same images give the same codes, and those the same images"

    def batch(self) -> str:
        for rows in BATCHES:
            self._compare(rows)
        for name, first, kept in (
            ("encode", self._returned, tensors_of(self.codes)),
            ("decode", self._shown, (self.images,)),
        ):
            if not unchanged(first, kept):
                raise Broken(f"a later `{name}` overwrites what an earlier one returned: return a copy of what is kept")
        return "codes and images are the same in batches of 1, 3 and 4, wherever they are in it"

    def _compare(self, rows: Sequence[int]) -> None:
        where = f"in a batch of {len(rows)} and of {COUNT}"
        apart = difference(_in_use(self.encoded(self.given[list(rows)])), _in_use(_rows_of(self.codes, rows)))
        if apart > SAME:
            raise Broken(f"codes of the same image differ {where} ({apart:.2g} apart)")
        apart = difference((self.decoded(_rows_of(self.codes, rows)),), pick((self.images,), rows))
        if apart > SAME:
            raise Broken(f"images of the same codes differ {where} ({apart:.2g} apart)")

    def seeds(self) -> str:
        if self.model.spec.kind != "continuous":
            raise NotApplicable("its codes are not drawn")
        drawn = [tensors_of(self.encoded(self.given, noise_for(seed, range(COUNT), self.device))) for seed in (0, 0, 1)]
        if difference(drawn[1], drawn[0]) > 0:
            raise Broken("the same noise gives other latents")
        return "the same noise gives the same latents" + (
            "" if difference(drawn[2], drawn[0]) > 0 else "; they do not depend on it"
        )

    def prefix(self) -> str:
        if not isinstance(self.model, Prefix):
            raise NotApplicable("it has no `decode_prefix`")
        spec = self.model.spec
        count = len(spec.levels) if spec.layout == "pyramid" else spec.tokens
        if spec.variable_length:
            count = self.codes.ids[0].shape[1]
        with self.watch("decode_prefix", codes=self.codes):
            first, whole = (self.model.decode_prefix(self.codes, n) for n in (1, count))
        check_images(first, COUNT, self.card.resolution)
        check_images(whole, COUNT, self.card.resolution)
        apart = difference((whole,), (self.images,))
        if spec.kind == "discrete" and apart > SAME:
            raise Broken(f"all {count} decode to other images than `decode` ({apart:.2g} apart)")
        return f"1 and all {count} can be decoded"

    def probe(self) -> str:
        marks = PhaseProbe(HostStamps())
        marks.start()
        self.decoded(self.codes, probe=marks)
        entries = marks.finish().entries()
        if not entries.get("decode"):
            raise Broken("`decode` does not enter the phase decode")
        if set(entries) != {"decode"}:
            raise Broken(f"`decode` enters {', '.join(entries)}: all of it is the phase decode")
        return f"decode x {entries['decode']}"

    def memory(self) -> str:
        codes = self.codes
        for name, call in (("encode", lambda: self.encoded(self.given)), ("decode", lambda: self.decoded(codes))):
            grown = bytes_left(call)
            if grown:
                raise Broken(f"every `{name}` leaves {grown:,} bytes of tensors behind: keep nothing of a call")
        return "a call leaves nothing behind"

    def close(self) -> str:
        model = self.model

        def close() -> None:
            with self.watch("close"):
                model.close()

        return check_close(model, close)


def _rows_of(codes: Codes, rows: Sequence[int]) -> Codes:
    return Codes(
        ids=pick(codes.ids, rows),
        latents=None if codes.latents is None else codes.latents[list(rows)],
        lengths=None if codes.lengths is None else codes.lengths[list(rows)],
    )


def _in_use(codes: Codes) -> tuple[Tensor, ...]:
    """All that describes a batch; of variable length no wider than the longest in it."""
    if codes.lengths is None:
        return tensors_of(codes)
    return (*(ids[:, : int(codes.lengths.max())] for ids in codes.ids), codes.lengths)
