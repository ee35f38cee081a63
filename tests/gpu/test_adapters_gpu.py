"""Generators on CUDA: minis draw the same as on the CPU, official sizes run in bf16, nothing waits, compiling works."""

from __future__ import annotations

from typing import Literal

import pytest
import torch
from on_gpu import GENERATORS, MINIS, close, load
from torch import Tensor

from arbench import registry
from arbench.protocols import Card, Codes, Generator, Sampling
from arbench.tasks.outputs import check_generated, check_images, measured_request

pytestmark = [pytest.mark.gpu, pytest.mark.usefixtures("exact")]

OFFICIAL = [card for card in GENERATORS if not (card.checkpoint and card.checkpoint.packaged)]
SMALLEST = sorted(
    {
        min((c for c in OFFICIAL if c.implementation == card.implementation), key=lambda c: c.parameters or 0).name
        for card in OFFICIAL
    }
    | {card.name for card in OFFICIAL if card.condition == "text" and card.resolution <= 256}
)
SAMPLES = 100
NEAR = 1e-3
"""Relative difference of latents of one sample: rounding, after some tens of diffusion steps."""


def drawn(model: Generator, count: int, device: str) -> Codes:
    sampling = model.card.native
    model.prepare(count, sampling)
    generated = model.sample(measured_request(model.card, range(count), 0, device), sampling)
    codes = check_generated(model, generated, count).codes
    assert codes is not None
    return codes


def alike(one: Codes, other: Codes) -> int:
    """How many samples are the same: all tokens equal, or where there are none the latents but for rounding."""
    if one.ids:
        same = [(a.cpu() == b.cpu()).all(1) for a, b in zip(one.ids, other.ids, strict=True)]
        return int(torch.stack(same).all(0).sum())
    assert one.latents is not None
    assert other.latents is not None
    a, b = one.latents.cpu().flatten(1), other.latents.cpu().flatten(1)
    return int(((a - b).norm(dim=1) <= NEAR * b.norm(dim=1)).sum())


def decoded(model: Generator, codes: Codes) -> Tensor:
    assert model.tokenizer is not None
    images = model.tokenizer.decode(codes)
    return check_images(images, range(len(images)), model.card.resolution, model.card.name)


def test_every_family_has_a_mini_and_an_official_size() -> None:
    families = {"raster", "random_order", "next_scale", "continuous", "hybrid"}
    assert {registry.card(name).family for name in MINIS} == families
    assert {registry.card(name).family for name in SMALLEST} == families


@pytest.mark.parametrize("name", MINIS)
def test_minis_draw_the_same_samples_as_on_the_cpu(name: str) -> None:
    card = registry.card(name)
    on_cpu, on_gpu = load(card, device="cpu"), load(card, device="cuda", graph="off")
    expected, got = drawn(on_cpu, SAMPLES, "cpu"), drawn(on_gpu, SAMPLES, "cuda")
    assert alike(got, expected) >= 0.99 * SAMPLES
    images, there = decoded(on_cpu, expected), decoded(on_gpu, got).cpu()
    close_by = (images - there).abs().flatten(1).mean(1) < 0.01
    assert int(close_by.sum()) >= 0.99 * SAMPLES
    close(on_cpu)
    close(on_gpu)


@pytest.mark.parametrize("name", MINIS)
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_minis_in_half_precision(name: str, dtype: Literal["bfloat16", "float16"]) -> None:
    model = load(registry.card(name), device="cuda", dtype=dtype)
    images = decoded(model, drawn(model, 16, "cuda"))
    assert images.flatten(1).std(0).mean() > 0.02  # sixteen samples of ten classes are not one picture
    close(model)


def quick(card: Card) -> Sampling:
    """Native, with few steps where they can be chosen: a test need not take an official run's time."""
    few = {name: 8 for name in ("steps", "inner_steps") if name in card.supports and card.family == "continuous"}
    return card.native.model_copy(update=few)


@pytest.mark.parametrize("name", SMALLEST)
def test_official_sizes_run_in_bf16(name: str) -> None:
    torch.cuda.empty_cache()
    before = torch.cuda.memory_allocated()
    card = registry.card(name)
    model = load(card, device="cuda", dtype="bfloat16", graph="off")
    sampling = quick(card)
    model.prepare(2, sampling)
    generated = model.sample(measured_request(card, range(2), 0, "cuda"), sampling)
    codes = check_generated(model, generated, 2).codes
    assert codes is not None
    assert decoded(model, codes).isfinite().all()
    assert torch.cuda.memory_allocated() - before > 2 * (card.parameters or 0)  # two bytes a parameter
    close(model)
    del model, codes, generated
    assert torch.cuda.memory_allocated() - before < 128 * 2**20  # workspaces of the libraries stay


@pytest.mark.parametrize("name", MINIS)
def test_sampling_does_not_wait_for_the_device(name: str) -> None:
    card = registry.card(name)
    model, sampling = load(card, device="cuda", graph="off"), card.native
    drawn(model, 4, "cuda")  # what is set up once may wait
    request = measured_request(card, range(4), 0, "cuda")
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        generated = model.sample(request, sampling)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    check_generated(model, generated, 4)
    close(model)


@pytest.mark.parametrize("name", MINIS)
def test_compiled_minis_draw_the_same_samples(name: str) -> None:
    card = registry.card(name)
    torch.compiler.reset()
    plain, compiled = load(card, device="cuda"), load(card, device="cuda", compile=True)
    expected = drawn(plain, SAMPLES, "cuda")
    for _ in range(2):  # the second call meets what the first compiled
        assert alike(drawn(compiled, SAMPLES, "cuda"), expected) >= 0.99 * SAMPLES
    close(plain)
    close(compiled)


@pytest.mark.parametrize("name", MINIS)
def test_samples_do_not_depend_on_the_batch(name: str) -> None:
    model = load(registry.card(name), device="cuda")
    whole = drawn(model, 32, "cuda")
    alone = [drawn(model, count, "cuda") for count in (1, 7)]
    for few in alone:
        count = len(few.ids[0]) if few.ids else len(few.latents)  # type: ignore[arg-type]
        first = Codes(
            ids=tuple(level[:count] for level in whole.ids),
            latents=None if whole.latents is None else whole.latents[:count],
        )
        assert alike(few, first) >= count - 1
    close(model)
