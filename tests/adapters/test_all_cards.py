"""A walk over all cards: parameters beside the published count, files and licences, a tiny one of every class."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from arbench import registry
from arbench.protocols import Card
from tests.adapters import test_second_wave as second_wave
from tests.adapters import test_token_systems as token_systems
from tests.adapters.test_checkpoint_kinds import whole_network

PUBLISHED = {
    "raster/cca_llamagen-": "b-384 111M, l-384 343M, xl-384 775M, xxl-384 1411M, 3b-384 3097M",
    "raster/dar-": "l 343.0M, xl 775.0M",
    "raster/llamagen-": "b-256 111M, b-384 111M, l-256 343M, l-384 343M, "
    "xl-384 775M, xxl-384 1.4B, 3b-384 3.1B, t2i-xl-256 775M, t2i-xl-512 775M",
    "raster/npp-": "b-256 111M, l-256 343M, xl-256 775M, xxl-256 1411M",
    "raster/rq-transformer-": "480m 480.9M, 821m 820.9M, 1.4b 1387.5M, 1.4b-50e 1.4B, 3.8b-50e 3822.5M",
    "raster/taming-gpt-": "1.4b 1411M",
    "next_scale/cca_var-": "d16 310M, d20 601M, d24 1033M, d30 2010M",
    "next_scale/flexvar-": "d16 311M, d20 601M, d24 1034M",
    "next_scale/flowar-": "s 172M, l 587M, h 1913M",
    "next_scale/infinity-": "2b 2205M",
    "next_scale/var-": "d16 310M, d20 600M, d24 1.0B, d30 2.0B, d36-s 2.3B",
    "random_order/arpg-": "l 320M, xl 719M, xxl 1302M",
    "random_order/halton-maskgit-": "tiny-256 23.0M, small-256 69.4M, base-256 142.2M, large-384 480.0M",
    "random_order/lpd-": "l-256 337M, xl-256 752M, xxl-256 1412M, l-512 338M, xl-512 753M",
    "random_order/maskbit-": "10bit 305M, 12bit 305M, 14bit 304.93M, 16bit 305M, 18bit 305M",
    "random_order/nar-": "b-256 131M, m-256 295M, l-256 373M, xl-256 816M",
    "random_order/par-": "xl-4x 775M, xxl-4x 1411M, 3b-4x 3097M, 3b-16x 3097M",
    "random_order/randar-": "0.3b 0.3B, 0.3b-maskgit 0.3B, 0.7b 0.7B, "
    "1.4b 1.4B, 0.3b-512 0.3B, 0.7b-512 0.7B, 1.4b-512 1.4B",
    "random_order/rar-": "b 261M, l 461M, xl 955M, xxl 1.5B",
    "random_order/titok-": "l32 177.2M, b64 177.2M, s128 295.0M",
    "continuous/arinar-": "base 192M",
    "continuous/disa-": "mar-base 208M, mar-large 478M, mar-huge 942M, xar-b 173M, "
    "xar-l 608M, xar-h 1186M, flowar-s 172M, flowar-l 587M, flowar-h 1913M",
    "continuous/far-": "base 208M, large 426M, huge 812M",
    "continuous/mar-": "base 208M, large 479M, huge 943M",
    "continuous/transdiff-": "b 290M, l 683M, h 1328M, b-mrar 290M, l-mrar 683M, h-mrar 1328M, l-512 683M",
    "continuous/xar-": "b 173M, l 608M, h 1186M",
    "hybrid/acdit-": "xl 675M, h 951M",
    "hybrid/bitdance-": "b-1x 242M, b-4x 260M, b-16x 260M, l-1x 527M, h-1x 1008M",
    "hybrid/fractalgen-": "ar-64 442M, mar-64 432M, mar-base-256 186M, mar-large-256 437M, mar-huge-256 850M",
    "hybrid/hart-": "0.7b 0.7B",
    "other/distilled_decoding-": "var-d16 328M, var-d20 635M, var-d24 1092M, llamagen-b 98M, llamagen-l 326M",
    "tokenizers/dar-": "v1 300.0M",
    "tokenizers/rq-vae-": "imagenet 104.4M",
    "tokenizers/flexvar-": "vae 72M",
    "tokenizers/infinity-": "d16 110M, d24 110M, d32 110M, d64 110M, d32-reg 110M",
    "tokenizers/maskbit-": "14bit 54.49M",
    "tokenizers/titok-": "l32 641.1M, b64 204.8M, s128 83.7M, bl64-vq8k 390.0M, sl256-vq8k 330.3M, bl64-vae-c16 389.4M",
    "tokenizers/bitdance-": "d16c32 460M",
    "tokenizers/sd-vae-": "f8 84M",
}
"""Beginning of names -> for each the parameters that a paper or README states, or that the official class prints."""
NOT_PUBLISHED = (
    "random_order/detailflow-",
    "random_order/halton-maskgit-small-384",
    "random_order/halton-maskgit-base-384",
)
"""Generators whose authors state no number of parameters."""
TRIED_ELSEWHERE = ("tokenizers/maskgit-vqgan", "tokenizers/jpeg", "tokenizers/wavelet")
"""Their contract is in test_rar.py and test_tokenizers.py."""
MILLIONS = {"M": 1, "B": 1000}
NETWORKS = [card for card in registry.cards().values() if card.parameters]


def published() -> Iterator[tuple[str, float, float]]:
    """Name, millions of parameters, and what they were rounded to, at most one in a hundred."""
    for stem, sizes in PUBLISHED.items():
        for size in sizes.split(", "):
            name, stated = size.split()
            unit = MILLIONS[stated[-1]] / 10 ** len(stated[:-1].partition(".")[2])
            number = float(stated[:-1]) * MILLIONS[stated[-1]]
            yield stem + name, number, max(unit, number / 100)


def official(card: Card) -> bool:
    return card.checkpoint is not None and not card.checkpoint.packaged


def test_every_network_has_the_parameters_of_its_card() -> None:
    counted: dict[tuple[str, str], int] = {}
    for card in NETWORKS:
        key = (card.implementation.rpartition(".")[0], repr(sorted(card.config.items())))
        if key not in counted:
            counted[key] = sum(tensor.numel() for tensor in whole_network(card).state_dict().values())
        assert counted[key] == card.parameters, card.name


def test_parameters_are_the_published_ones() -> None:
    stated = {name: (number, near) for name, number, near in published()}
    for name, (number, near) in stated.items():
        parameters = registry.card(name).parameters
        assert parameters is not None
        assert abs(parameters / 1e6 - number) <= near, name
    generators = {card.name for card in NETWORKS if card.kind == "generator" and official(card)}
    assert {name for name in generators - stated.keys() if not name.startswith(NOT_PUBLISHED)} == set()


@pytest.mark.parametrize("system", registry.systems(), ids=lambda system: system.name)
def test_cards_say_where_files_and_figures_are_from(system: registry.System) -> None:
    for card in system.cards:
        assert card.code_licence != "unknown" != card.weights_licence
        assert not card.refused(card.native)
        if card.parameters:
            assert card.checkpoint is not None, card.name
        assert all(claim.source for claim in card.published), card.name


def test_a_tiny_one_of_every_class_keeps_the_contract() -> None:
    tried = [*second_wave.TINY, *second_wave.TOKENIZERS, *TRIED_ELSEWHERE]
    tried += [name for name, *_ in (*token_systems.TINY.values(), *token_systems.GENERATORS.values())]
    tried += [card.name for card in NETWORKS if not official(card)]  # the minis, whole
    there = {registry.card(name).implementation for name in tried}
    assert {card.implementation for card in registry.cards().values()} == there
