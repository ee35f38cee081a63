"""Settings that a card cannot honour as they are: refused in words when a run is planned, never clamped."""

from __future__ import annotations

import pytest

from arbench import registry
from arbench.cli.main import main
from arbench.errors import ConfigError
from arbench.run.resolve import resolve_sampling
from arbench.spec import suite_file

MINIS = {
    "randar": "random_order/randar-mini",
    "rar": "random_order/rar-mini",
    "mar": "continuous/mar-mini",
    "hart": "hybrid/hart-mini",
    "var": "next_scale/var-mini",
    "llamagen": "raster/llamagen-mini",
}
SUITE = "suite: s\nadapters: ['*/*']\ntasks: [{generate: {n: 10}}]\n"


def problem(name: str, *changes: str) -> str:
    sets = [f'sampling."{name}".{change}' for change in changes]
    (resolved,) = resolve_sampling(registry.card(name), suite_file.parse(SUITE, "s.yaml", sets))
    return resolved.problem


@pytest.mark.parametrize(
    ("system", "changes", "words"),
    [
        ("randar", ["steps=1"], "steps 1 (takes 2 to 64)"),
        ("randar", ["steps=65"], "steps 65 (takes 2 to 64)"),
        ("mar", ["steps=32"], "steps 32 (takes 1 to 16)"),
        ("mar", ["inner_steps=1"], "inner_steps 1 (takes 2 to 1000)"),
        ("hart", ["inner_steps=1001"], "inner_steps 1001 (takes 2 to 1000)"),
        ("hart", ["extra.last_scale_iterations=17"], "extra.last_scale_iterations 17 (takes 1 to 16)"),
        ("hart", ["extra.last_scale_iterations=true"], "extra.last_scale_iterations true (takes 1 to 16)"),
        ("hart", ["extra.residual=maybe"], "extra.residual maybe (has false, true)"),
        ("var", ["top_k=513"], "top_k 513 (it has 512 codes)"),
        ("llamagen", ["top_k=257"], "top_k 257 (it has 256 codes)"),
        ("llamagen", ["guidance.start=5"], "guidance.start 5 (a constant schedule has no start)"),
        ("rar", ["guidance.power=3"], "guidance.power 3 (a constant schedule has no power)"),
        ("rar", ["order=halton"], "order halton"),
        ("rar", ["steps=3"], "it does not honour steps"),
    ],
)
def test_what_would_be_clamped_or_ignored_is_refused(system, changes, words):
    assert words in problem(MINIS[system], *changes)


def test_spatial_guidance_below_one_would_be_off():
    assert "extra.spatial_guidance 0.5" in problem("random_order/randar-0.3b-512", "extra.spatial_guidance=0.5")


@pytest.mark.parametrize(
    ("system", "changes"),
    [
        ("randar", ["steps=2"]),
        ("randar", ["steps=64", "order=halton"]),
        ("mar", ["steps=16", "inner_steps=1000"]),
        ("mar", ["steps=1", "temperature=0"]),
        ("hart", ["extra.residual=false", "extra.last_scale_iterations=16"]),
        ("llamagen", ["top_k=256", "top_p=1.0", "temperature=0", "guidance.until=0.5"]),
        ("rar", ["guidance.schedule=constant"]),
    ],
)
def test_what_is_honoured_exactly_is_not_refused(system, changes):
    assert problem(MINIS[system], *changes) == ""


def test_every_card_honours_its_own_settings():
    for card in registry.cards().values():
        assert card.refused(card.native) == [], card.name


@pytest.mark.parametrize(
    ("change", "hint"),
    [
        ("top_k=0", "write null"),
        ("top_k=-1", "write null"),
        ("top_p=0", "write null"),
        ("top_p=2", "1.0 for off"),
        ("steps=0", "write null"),
        ("inner_steps=0", "write null"),
        ("temperature=-1", "0 takes the most likely token"),
        ("temperature=1e-9", "0 takes the most likely token"),
        ("guidance.scale=-1", "1 is off"),
        ("guidance.until=7", "0 is off"),
    ],
)
def test_papers_words_for_off_are_told_ours(change, hint):
    with pytest.raises(ConfigError) as caught:
        problem(MINIS["randar"], change)
    assert hint in caught.value.hint
    assert caught.value.what.startswith("--set ")


def test_the_command_says_so(capsys):
    arguments = ["show", "quickstart", "--adapter", "random_order/randar-mini", "--task", "generate"]
    assert main([*arguments, "--set", 'sampling."random_order/*".steps=1']) == 0
    assert "unsupported: generate random_order/randar-mini: " in (out := capsys.readouterr().out)
    assert "steps 1 (takes 2 to 64)" in out
    assert main([*arguments, "--set", 'sampling."random_order/*".guidance.scale=0']) == 0
    assert "guidance.scale 0 samples without the condition; 1 is off" in capsys.readouterr().out
