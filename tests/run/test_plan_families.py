"""Planning every shipped family: knobs it lacks, random weights, weights that are not there."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from arbench import registry, weights
from arbench.cli.main import main
from arbench.errors import MissingWeights
from arbench.protocols import Card
from arbench.run.plan import PlannedCell, make_plan
from arbench.run.results import flagged
from arbench.spec.result import Metric
from arbench.spec.suite_file import parse
from arbench.tasks.outputs import measured_request

GENERATORS = [card for card in registry.cards().values() if card.kind == "generator"]
OFFICIAL = [card for card in registry.cards().values() if card.checkpoint and not card.checkpoint.packaged]
FAMILIES = ("raster", "random_order", "next_scale", "continuous", "hybrid")
FIRST = ("llamagen-", "var-", "randar-", "rar-", "mar-", "hart-")
"""Systems by which the families of knobs are told."""
KNOBS = {
    "guidance": "{scale: 3.25}",
    "temperature": "0.5",
    "top_k": "2",
    "top_p": "0.5",
    "steps": "2",
    "inner_steps": "7",
    "order": "raster",
}


def planned(tasks: str, sampling: str = "", init: str = "random") -> dict[str, PlannedCell]:
    """The cells of all generators and one task, by adapter."""
    text = "suite: s\nadapters: ['*/*']\n" + f"settings: {{device: cpu, init: {init}}}\ntasks: [{tasks}]\n{sampling}"
    return {cell.cell.adapter: cell for cell in make_plan(parse(text, "s.yaml", [])).cells}


def test_every_family_has_generators() -> None:
    assert {card.family for card in GENERATORS} >= set(FAMILIES)
    assert len(OFFICIAL) > 25


@pytest.mark.parametrize("knob", KNOBS)
def test_a_knob_that_a_family_lacks_is_unsupported_before_anything_runs(knob: str) -> None:
    cells = planned("speed", f"sampling: {{'*': {{{knob}: {KNOBS[knob]}}}}}\n")
    assert cells.keys() == {card.name for card in GENERATORS}
    for card in GENERATORS:
        cell = cells[card.name]
        if knob in card.supports:
            assert cell.outcome is None, cell.reason
        else:
            assert cell.outcome == "unsupported"
            assert cell.reason == f"{card.name}: it does not honour {knob}"
    first = [card for card in GENERATORS if card.name.split("/")[1].startswith(FIRST)]
    lacking = {card.family for card in first if knob not in card.supports}
    assert (
        lacking
        == {
            "guidance": set(),
            "temperature": set(),
            "top_k": {"continuous"},
            "top_p": {"continuous"},
            "steps": {"raster", "next_scale", "hybrid", "random_order"},  # RAR of the last; RandAR chooses its passes
            "inner_steps": {"raster", "random_order", "next_scale"},
            "order": {"raster", "next_scale", "continuous", "hybrid"},
        }[knob]
    )


def test_a_knob_of_another_family_is_unsupported_and_the_accepted_ones_are_named() -> None:
    cells = planned("speed", "sampling: {'*': {extra: {more_smooth: true}}}\n")
    assert cells["hybrid/hart-0.7b"].outcome is None
    assert cells["continuous/mar-base"].reason == "continuous/mar-base: it has no knob more_smooth (accepts none)"
    refused = cells["random_order/randar-0.3b-512"].reason
    assert "no knob more_smooth (accepts spatial_guidance" in refused


def test_random_weights_go_through_every_task() -> None:
    for task in ("speed", "memory"):
        assert {cell.outcome for cell in planned(task).values()} == {None}
    for task in ("generate", "likelihood"):
        cells = planned(task)
        assert None in {cell.outcome for cell in cells.values()}
        assert not any("random weights" in cell.reason for cell in cells.values())
    assert all(cell.cell.weights_sha256 == {} for cell in planned("speed").values())


def test_missing_weights_say_which_file_from_where_under_which_licence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ARBENCH_WEIGHTS", str(tmp_path))
    for card in OFFICIAL:
        assert card.checkpoint is not None
        with pytest.raises(MissingWeights) as caught:
            weights.locate(card)
        error = caught.value
        assert error.what == f"no weights for {card.name}"
        assert f"{card.checkpoint.file} from https://" in error.why
        assert f"licence of the weights: {card.weights_licence}" in error.why
        assert card.weights_licence != "unknown"
        assert str(tmp_path / card.checkpoint.file) in error.hint
        assert f"--weights {card.name}=PATH" in error.hint


def test_a_run_of_an_official_size_without_its_file_says_what_to_fetch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ARBENCH_WEIGHTS", str(tmp_path / "weights"))
    suite = tmp_path / "s.yaml"
    suite.write_text("suite: s\nadapters: [continuous/mar-base]\nsettings: {device: cpu}\ntasks: [speed]\n")
    assert main(["run", str(suite), "--out", str(tmp_path / "run"), "--track", "off"]) == 3
    shown = "".join(capsys.readouterr().err.split())
    assert "checkpoint-last.pthfromhttps://www.dropbox.com/" in shown
    assert "licenceoftheweights:notstated(repository:MIT)" in shown
    assert str(tmp_path / "weights" / "checkpoint-last.pth") in shown


def test_files_of_one_name_lie_in_folders_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARBENCH_WEIGHTS", str(tmp_path))
    base, large = registry.card("continuous/mar-base"), registry.card("continuous/mar-large")
    (tmp_path / "checkpoint-last.pth").touch()
    own = tmp_path / large.name / "checkpoint-last.pth"
    own.parent.mkdir(parents=True)
    own.touch()
    assert weights.locate(base) == tmp_path / "checkpoint-last.pth"
    assert weights.locate(large) == own


def unpublished() -> Card:
    card = registry.card("raster/llamagen-b-256")
    return card.model_copy(update={"name": "raster/unpublished", "checkpoint": None})


def test_a_size_without_a_published_file_is_not_taken_for_one_that_needs_none(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    card = unpublished()
    with pytest.raises(MissingWeights, match=r"no official file of this size is known.*licence of the weights"):
        weights.locate(card)
    file = tmp_path / "mine.pt"
    file.touch()
    assert weights.locate(card, {card.name: str(file)}) == file
    untrained = card.model_copy(update={"trained_on": ""})
    assert weights.locate(untrained) is None
    cards = {each.name: each for each in (card, untrained.model_copy(update={"name": "raster/untrained"}))}
    monkeypatch.setattr(registry, "cards", lambda: cards)
    monkeypatch.setattr(registry, "origins", lambda: dict.fromkeys(cards, "arbench"))
    assert main(["ls", "adapters", "--family", "raster"]) == 0
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines() if line.startswith("raster/")}
    assert "no file published" in lines["raster/unpublished"]
    assert "none needed" in lines["raster/untrained"]


def test_no_shipped_card_with_weights_reads_none_needed() -> None:
    for card in registry.cards().values():
        if card.parameters:
            assert card.checkpoint is not None or not weights.known(card)


def test_models_of_captions_are_measured_with_features_of_the_encoders_length() -> None:
    texts = [card for card in GENERATORS if card.condition == "text"]
    assert {card.family for card in texts} == {"raster", "hybrid", "next_scale"}
    for card in texts:
        assert card.captions is not None
        request = measured_request(card, (4, 5), 0, "cpu")
        assert request.captions is not None
        assert request.caption_mask is not None
        assert request.labels is None
        assert tuple(request.captions.shape) == (2, *card.captions)
        assert request.caption_mask.shape == request.captions.shape[:2]
        again = measured_request(card, (5,), 0, "cpu").captions
        assert again is not None
        assert again[0].equal(request.captions[1])  # a sample's own, whatever the batch
    labels = measured_request(registry.card("continuous/mar-base"), (3,), 0, "cpu").labels
    assert labels is not None
    assert labels.tolist() == [3]


def test_numbers_of_random_weights_are_flagged(tmp_path: Path) -> None:
    suite = tmp_path / "s.yaml"
    suite.write_text(
        "suite: s\nadapters: [hybrid/hart-mini]\nsettings: {device: cpu, init: random}\n"
        "tasks: [memory: {batches: [1]}]\n"
    )
    assert main(["run", str(suite), "--out", str(tmp_path / "run"), "--track", "off"]) == 0
    (path,) = (tmp_path / "run").glob("cells/*/result.json")
    result = json.loads(path.read_text())
    assert result["outcome"] == "ok"
    assert len(result["metrics"]) > 3
    assert all("random_weights" in metric["flags"] for metric in result["metrics"])


def test_numbers_of_a_checkpoint_are_not_flagged() -> None:
    (planned_cell,) = make_plan(
        parse("suite: s\nadapters: [raster/llamagen-mini]\nsettings: {device: cpu}\ntasks: [speed]\n", "s.yaml", [])
    ).cells
    metric = Metric(name="latency", value=1.0, n=1, flags=("drift",))
    assert flagged(metric, planned_cell.cell) == metric
    settings = planned_cell.cell.settings.model_copy(update={"init": "random"})
    random = planned_cell.cell.model_copy(update={"settings": settings})
    assert flagged(metric, random).flags == ("drift", "random_weights")


def test_a_run_of_a_knob_that_is_lacking_measures_nothing_and_says_why(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    suite = tmp_path / "s.yaml"
    suite.write_text(
        "suite: s\nadapters: [continuous/mar-base]\nsettings: {device: cpu, init: random}\ntasks: [speed]\n"
        "sampling: {continuous/*: {top_p: 0.9}}\n"
    )
    assert main(["run", str(suite), "--out", str(tmp_path / "run"), "--track", "off"]) == 3  # nothing measured
    shown = " ".join(capsys.readouterr().out.split())
    assert "unsupported speed continuous/mar-base: continuous/mar-base: it does not honour top_p" in shown
    (path,) = (tmp_path / "run").glob("cells/*/result.json")
    result = json.loads(path.read_text())
    assert (result["outcome"], result["reason"]) == ("unsupported", "continuous/mar-base: it does not honour top_p")


@pytest.mark.parametrize(
    ("adapter", "settings", "problem"),
    [
        ("random_order/rar-b", "order: halton", "order halton (has native, raster, random)"),
        (
            "continuous/mar-base",
            "guidance: {scale: 2.0, schedule: cosine_power}",
            "guidance.schedule cosine_power (has constant, linear)",
        ),
        (
            "raster/llamagen-b-256",
            "guidance: {scale: 2.0, schedule: linear}",
            "guidance.schedule linear (has constant)",
        ),
    ],
)
def test_a_choice_that_a_family_lacks_is_unsupported_before_anything_runs(
    adapter: str, settings: str, problem: str
) -> None:
    cells = planned("speed", f"sampling: {{'*': {{{settings}}}}}\n")
    assert cells[adapter].reason == f"{adapter}: it does not honour {problem}"
    assert cells["random_order/randar-0.3b-512"].reason == ""  # which has them all
