"""Adapters small enough to know by heart: block tokenizers, generators with and without one, ones that misbehave."""

import math

import torch
from torch.nn import functional

from arbench.adapters.tokenizers.image_files.cards import CARDS as FILES
from arbench.adapters.tokenizers.wavelet_codec.cards import WAVELET
from arbench.features.extractor import FeatureExtractor
from arbench.protocols import NO_PROBE, Card, Codes, Generated, TokenSpec

SIDE = 32
LEVELS = 16
SPEC = TokenSpec(kind="discrete", layout="grid", levels=((8, 8),), vocabulary=LEVELS)
CODECS = (*FILES, WAVELET)
BOTH = frozenset({"edits", "scores"})


def card(name, **changes):
    kind = "tokenizer" if name.startswith("tokenizers/") else "generator"
    fields = {
        "name": name,
        "kind": kind,
        "family": "tokenizers" if kind == "tokenizer" else "raster",
        "implementation": "tiny_adapters:Blocks" if kind == "tokenizer" else "tiny_adapters:Tinted",
        "summary": "tiny",
        "resolution": SIDE,
    }
    if kind == "generator":
        fields |= {"condition": "class", "classes": 10, "tokenizer": "tokenizers/blocks"}
    else:
        fields |= {"tokens": SPEC}
    return Card(**(fields | changes))


class Blocks:
    """Codes of 4 x 4 blocks: their mean grey in 16 levels. Decoding an image made of such blocks is exact."""

    loads = 0

    def __init__(self, card, spec):
        self.card, self.load_spec, self.closed = card, spec, False
        self.decoded = []

    @classmethod
    def load(cls, card, spec):
        Blocks.loads += 1
        return cls(card, spec)

    @property
    def spec(self):
        return self.card.tokens

    def encode(self, images, *, noise=None):
        grey = functional.avg_pool2d(images.mean(1, keepdim=True), 4)  # (B, 1, 8, 8)
        ids = (grey * (LEVELS - 1) + 0.01).round()  # no ties, for float32 and float64 alike
        ids = ids.long().flatten(1)
        return Codes(ids=(ids,), latents=grey)

    def decode(self, codes, *, probe=NO_PROBE):
        with probe("decode"):
            self.decoded.append((len(codes.ids[0]), codes.latents is None))
            grey = codes.ids[0].float().reshape(-1, 1, 8, 8) / (LEVELS - 1)
            return functional.interpolate(grey, scale_factor=4).expand(-1, 3, -1, -1)

    def close(self):
        self.closed = True


class Telltale(Blocks):
    """Its images show how many rows were decoded together and at which of them an image stood."""

    def decode(self, codes, *, probe=NO_PROBE):
        images = super().decode(codes, probe=probe).clone()
        rows = torch.arange(len(images), dtype=torch.float32)
        images[:, 0, 0, 0] = len(images) / 255
        images[:, 1, 0, 0] = rows / 255
        return images


class Jittery(Blocks):
    """Other codes at every call."""

    calls = 0

    def encode(self, images, *, noise=None):
        self.calls += 1
        codes = super().encode(images)
        return Codes(ids=((codes.ids[0] + self.calls) % LEVELS,))


class Leaning(Blocks):
    """Its images lie a block to the right of what was encoded: a planted fault."""

    def decode(self, codes, *, probe=NO_PROBE):
        return super().decode(codes, probe=probe).roll(4, dims=-1)


class Sparse(Blocks):
    """A planted fault: every other code is dead."""

    def encode(self, images, *, noise=None):
        return Codes(ids=(super().encode(images).ids[0] // 2 * 2,))


class Swapping(Blocks):
    """A planted fault: each code is decoded as its opposite."""

    def decode(self, codes, *, probe=NO_PROBE):
        return super().decode(Codes(ids=(LEVELS - 1 - codes.ids[0],)), probe=probe)


class Worded(Blocks):
    """With codewords, which are its greys."""

    def codewords(self):
        return torch.arange(LEVELS, dtype=torch.float32)[:, None]


class Scrambled(Worded):
    """Its codewords say nothing of what its codes look like."""

    def codewords(self):
        return super().codewords()[torch.tensor([0, 9, 4, 13, 2, 11, 6, 15, 8, 1, 12, 5, 10, 3, 14, 7])]


class Palette(Blocks):
    """A code for each pixel: the nearest of eight greys, 32 levels apart."""

    def encode(self, images, *, noise=None):
        return Codes(ids=((images.mean(1) * 255 / 32 - 0.5).round().clamp(0, 7).long().flatten(1),))

    def decode(self, codes, *, probe=NO_PROBE):
        return ((codes.ids[0].float() * 32 + 16) / 255).reshape(-1, 1, SIDE, SIDE).expand(-1, 3, -1, -1)


class Prefixed(Blocks):
    """With `decode_prefix`: blocks beyond the first tokens are black."""

    def decode_prefix(self, codes, count):
        kept = torch.arange(codes.ids[0].shape[1]) < count
        return self.decode(Codes(ids=(codes.ids[0] * kept,)))


class Backwards(Prefixed):
    """A planted fault: its tokens are decoded from the last to the first, and half of them makes noise."""

    def decode_prefix(self, codes, count):
        images = super().decode_prefix(codes, count)
        return images if count != 32 else 1 - images


class TwoScales(Blocks):
    """A pyramid of two levels, 1 + 4 tokens; the image is the sum of both."""

    def encode(self, images, *, noise=None):
        grey = images.mean(1, keepdim=True)
        coarse = (functional.adaptive_avg_pool2d(grey, 1) * 7).round().long().flatten(1)
        fine = (functional.adaptive_avg_pool2d(grey, 2) * 7).round().long().flatten(1)
        return Codes(ids=(coarse, fine))

    def decode(self, codes, *, probe=NO_PROBE):
        with probe("decode"):
            coarse, fine = (level.float() / 14 for level in codes.ids)
            grey = (coarse[:, :, None, None] + fine.reshape(-1, 1, 2, 2)).repeat_interleave(16, 2)
            return grey.repeat_interleave(16, 3).expand(-1, 3, -1, -1)


class Wide(Blocks):
    """Images of twice the size that its card says."""

    def decode(self, codes, *, probe=NO_PROBE):
        return functional.interpolate(super().decode(codes, probe=probe), scale_factor=2)


class Continuous(Blocks):
    """Latents only."""

    def encode(self, images, *, noise=None):
        return Codes(latents=functional.avg_pool2d(images, 4))

    def decode(self, codes, *, probe=NO_PROBE):
        return functional.interpolate(codes.latents, scale_factor=4).clamp(0, 1)


class Unscaled(Continuous):
    """A planted fault: latents are scaled on the way in, and nothing scales them back."""

    def encode(self, images, *, noise=None):
        return Codes(latents=0.18 * super().encode(images).latents)


class Posterior(Continuous):
    """With a posterior of standard deviation 1/2 everywhere."""

    def encode(self, images, *, noise=None):
        mean = super().encode(images).latents
        return Codes(latents=mean if noise is None else mean + noise.normal("posterior", mean.shape[1:]) / 2)


class Whole(Continuous):
    """Its latents are the pixels: nothing is lost. Those below lose one thing each, on purpose."""

    def encode(self, images, *, noise=None):
        return Codes(latents=images)

    def decode(self, codes, *, probe=NO_PROBE):
        return self.spoiled(codes.latents).clamp(0, 1)

    def spoiled(self, images):
        return images


class Blurred(Whole):
    def spoiled(self, images):
        return (images + images.roll(1, -1) + images.roll(1, -2) + images.roll((1, 1), (-1, -2))) / 4


class Halfway(Whole):
    """Half a pixel to the right."""

    def spoiled(self, images):
        return (images + images.roll(1, -1)) / 2


class Exchanged(Whole):
    """Blue for red."""

    def spoiled(self, images):
        return images.flip(1)


class Lifted(Whole):
    """A value range gone wrong: [-1, 1] is taken for [0, 1] on the way out."""

    def spoiled(self, images):
        return (images + 1) / 2


class Patchy(Whole):
    """Half of every pixel is the mean of its patch of 4 x 4."""

    def spoiled(self, images):
        return (images + functional.interpolate(functional.avg_pool2d(images, 4), scale_factor=4)) / 2


class Tinted:
    """A grey level around each class's own, drawn per token from the sample's noise."""

    def __init__(self, card, spec, tokenizer):
        self.card, self.load_spec, self.tokenizer = card, spec, tokenizer
        self.prepared, self.batches, self.closed = [], [], False

    @classmethod
    def load(cls, card, spec, tokenizer):
        return cls(card, spec, tokenizer)

    def prepare(self, batch, sampling):
        self.prepared.append(batch)

    def draw(self, request):
        batch = len(request.sample_ids)
        labels = torch.zeros(batch) if request.labels is None else request.labels.float()
        distance = torch.arange(LEVELS) - labels[:, None] * 1.5  # (B, V)
        weights = torch.exp(-(distance**2) / 8)[:, None].expand(-1, 64, -1)
        return request.noise.categorical(weights, "tokens")

    def sample(self, request, sampling, *, probe=NO_PROBE):
        self.batches.append(len(request.sample_ids))
        assert self.prepared[-1] == len(request.sample_ids)
        with probe("prefill"):
            ids = self.draw(request)
        return Generated(codes=Codes(ids=(ids,)), outer_steps=64, forwards=128)

    def close(self):
        assert self.tokenizer is None or not self.tokenizer.closed
        self.closed = True


class Direct(Tinted):
    """No tokenizer: images straight away."""

    def sample(self, request, sampling, *, probe=NO_PROBE):
        ids = self.draw(request)
        grey = functional.interpolate(ids.float().reshape(-1, 1, 8, 8) / (LEVELS - 1), scale_factor=4)
        return Generated(images=grey.expand(-1, 3, -1, -1), outer_steps=1, forwards=1)


class Repainted(Tinted):
    """Edits by drawing the tokens in the mask; its scores are the weights that it draws with."""

    def edit(self, request, codes, mask, sampling, *, probe=NO_PROBE):
        assert self.prepared[-1] == len(request.sample_ids)
        assert codes.latents is None
        ids = torch.where(mask.flatten(), self.draw(request), codes.ids[0])
        return Generated(codes=Codes(ids=(ids,)), outer_steps=1, forwards=1)

    def logits(self, request, codes):
        labels = torch.zeros(len(request.sample_ids)) if request.labels is None else request.labels.float()
        distance = torch.arange(LEVELS) - labels[:, None] * 1.5  # (B, V)
        return (-(distance**2) / 8)[:, None].expand(-1, 64, -1)


class Muddled(Repainted):
    """Scores of one token too few."""

    def logits(self, request, codes):
        return super().logits(request, codes)[:, 1:]


class Diverging(Direct):
    """The samples with id 5 and 70 are not finite."""

    def sample(self, request, sampling, *, probe=NO_PROBE):
        images = super().sample(request, sampling).images.clone()
        for row, sample_id in enumerate(request.sample_ids):
            if sample_id in (5, 70):
                images[row, 0, 3, 3] = math.nan
        return Generated(images=images)


class Signed(Direct):
    """Images in [-1, 1]."""

    def sample(self, request, sampling, *, probe=NO_PROBE):
        return Generated(images=super().sample(request, sampling).images * 2 - 1)


class Short(Tinted):
    """One token too few."""

    def draw(self, request):
        return super().draw(request)[:, :-1]


class Outside(Tinted):
    """A token that the vocabulary does not hold."""

    def draw(self, request):
        return super().draw(request) + LEVELS


class Mute(Tinted):
    """Neither codes nor images."""

    def sample(self, request, sampling, *, probe=NO_PROBE):
        return Generated()


class Constant(Direct):
    """The same image for everybody, as from a cache."""

    def sample(self, request, sampling, *, probe=NO_PROBE):
        return Generated(images=torch.full((len(request.sample_ids), 3, SIDE, SIDE), 0.5))


class Pooled(FeatureExtractor):
    """Features that can be checked by hand: means of the four quarters, by channel."""

    weights = None
    outputs = {"pooled": 12}  # noqa: RUF012
    batch = 16

    def __init__(self, recipe, device, mode):
        self.recipe, self.device, self.mode = recipe, torch.device(device), mode

    @property
    def convention(self):
        return f"quarters, {self.mode}"

    def prepare(self, images):
        return images.float()

    def forward(self, pixels):
        return {"pooled": functional.adaptive_avg_pool2d(pixels, 2).flatten(1)}


def load_pooled(recipe, weights, device, mode):
    return Pooled(recipe, device, mode)


CARDS = {
    entry.name: entry
    for entry in (
        card("tokenizers/blocks", implementation="tiny_adapters:Blocks"),
        card("tokenizers/telltale", implementation="tiny_adapters:Telltale"),
        *(
            card(f"tokenizers/{name}", implementation=f"tiny_adapters:{name.capitalize()}")
            for name in ("jittery", "leaning", "prefixed", "backwards", "sparse", "worded", "scrambled", "swapping")
        ),
        card(
            "tokenizers/scales",
            implementation="tiny_adapters:TwoScales",
            tokens=TokenSpec(kind="discrete", layout="pyramid", levels=((1, 1), (2, 2)), vocabulary=8),
        ),
        card(
            "tokenizers/palette",
            implementation="tiny_adapters:Palette",
            tokens=TokenSpec(kind="discrete", layout="grid", levels=((SIDE, SIDE),), vocabulary=8),
        ),
        card("tokenizers/wide", implementation="tiny_adapters:Wide"),
        *(
            card(
                f"tokenizers/{name}",
                implementation=f"tiny_adapters:{name.capitalize()}",
                tokens=TokenSpec(kind="continuous", layout="grid", levels=((8, 8),), channels=3),
            )
            for name in ("continuous", "unscaled", "posterior")
        ),
        *(
            card(
                f"tokenizers/{name}",
                implementation=f"tiny_adapters:{name.capitalize()}",
                tokens=TokenSpec(kind="continuous", layout="grid", levels=((8, 8),), channels=48),
            )
            for name in ("whole", "blurred", "halfway", "exchanged", "lifted", "patchy")
        ),
        *CODECS,
        card("raster/tinted"),
        card("raster/telltale", tokenizer="tokenizers/telltale"),
        card("raster/wide", tokenizer="tokenizers/wide"),
        card("raster/repainted", implementation="tiny_adapters:Repainted", offers=BOTH),
        card("raster/classless", implementation="tiny_adapters:Repainted", offers=BOTH, condition="none", classes=None),
        card("raster/muddled", implementation="tiny_adapters:Muddled", offers=BOTH),
        card("raster/pretends", offers=BOTH),
        card("raster/direct", implementation="tiny_adapters:Direct", tokenizer=None),
        card("raster/free", condition="none", classes=None),
        card("raster/text", condition="text", classes=None),
        card("raster/seven", classes=7),
        card("raster/diverging", implementation="tiny_adapters:Diverging", tokenizer=None),
        card("raster/signed", implementation="tiny_adapters:Signed", tokenizer=None),
        card("raster/short", implementation="tiny_adapters:Short"),
        card("raster/outside", implementation="tiny_adapters:Outside"),
        card("raster/mute", implementation="tiny_adapters:Mute"),
        card("raster/constant", implementation="tiny_adapters:Constant", tokenizer=None),
    )
}
