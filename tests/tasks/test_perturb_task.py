"""`perturb` against NumPy: how many codes become others, and where the nearest latents lie."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tiny_adapters import SPEC

from arbench.data.readers.mnist import mnist5k
from arbench.protocols import Codes
from arbench.seeds import noise_for
from arbench.tasks.perturb import Perturb
from arbench.tasks.perturb.work import halfway, perturbed


def test_the_share_of_codes_becomes_others_drawn_evenly():
    ids = torch.full((400, 64), 3)
    changed = perturbed(Codes(ids=(ids,)), SPEC, 0.25, noise_for(0, range(400))).ids[0]
    hit = changed != ids
    assert hit.float().mean().item() == pytest.approx(0.25, abs=0.01)
    counts = torch.bincount(changed[hit], minlength=16)
    assert counts[3] == 0
    assert counts[torch.arange(16) != 3].float().std() < 40  # of 427 each
    part = perturbed(Codes(ids=(ids[:5],)), SPEC, 0.25, noise_for(0, range(5))).ids[0]
    torch.testing.assert_close(part, changed[:5])


def test_the_middle_of_the_nearest():
    latents = torch.tensor([[0.0, 0], [1, 0], [10, 0], [10, 4]])[:, :, None, None]
    middle = halfway(latents)[:, :, 0, 0]
    assert middle.tolist() == [[0.5, 0], [0.5, 0], [10, 2], [10, 2]]
    torch.testing.assert_close(halfway(latents[:1]), latents[:1])


def by_name(finished):
    return {metric.name: metric for metric in finished.metrics}


def test_all_codes_exchanged_lose_the_image(cell, through):
    some, _ = through(cell("tokenizers/blocks", Perturb(n=20, share=0.05, show=3)))
    all_, _ = through(cell("tokenizers/blocks", Perturb(n=20, share=1.0)))
    few, many = by_name(some), by_name(all_)
    assert few["psnr"].value > many["psnr"].value + 3
    assert few["class-agreement"].value > many["class-agreement"].value
    assert few["frechet"].at == {"codes": "5 % exchanged"}
    assert some.gallery.images.shape == (2, 3, 3, 32, 32)


def test_images_between_the_nearest_latents(cell, through):
    """The decoder is linear, so the image is the middle of the two nearest images of block means."""
    finished, units = through(cell("tokenizers/continuous", Perturb(n=70, show=70)))
    images = mnist5k("heldout").load(range(70))
    means = images.astype(np.float64).reshape(70, 3, 8, 4, 8, 4).mean((3, 5))
    apart = ((means[:, None] - means[None]) ** 2).sum((2, 3, 4))
    np.fill_diagonal(apart, np.inf)
    middle = (means + means[apart.argmin(1)]) / 2
    shown = np.concatenate([unit["images"] for unit in units]).astype(np.float64)
    np.testing.assert_allclose(shown[..., ::4, ::4], middle, atol=0.51)
    assert by_name(finished)["frechet"].at == {"codes": "half way to the nearest"}
