"""Lists of sampling values in a suite: the settings they stand for, as cells of a plan."""

from __future__ import annotations

import pytest

from arbench.cli.main import main
from arbench.errors import ConfigError
from arbench.run.plan import Plan, make_plan
from arbench.spec.suite_file import parse

RASTER, MAR = "raster/llamagen-mini", "continuous/mar-mini"


def plan(sampling: str, adapters: str = RASTER, changes: tuple[str, ...] = (), tasks: str = "speed") -> Plan:
    text = f"suite: s\nadapters: [{adapters}]\nsettings: {{device: cpu}}\ntasks: [{tasks}]\nsampling:\n{sampling}\n"
    return make_plan(parse(text, "s.yaml", changes))


def scales(found: Plan, name: str = RASTER) -> list[float]:
    cells = [cell.cell for cell in found.cells if cell.cell.adapter == name]
    return [cell.sampling.guidance.scale for cell in cells if cell.sampling]


def test_a_list_is_one_value_after_another():
    found = plan('  "*": {guidance: {scale: [1, 1.5, 4]}}')
    assert scales(found) == [1.0, 1.5, 4.0]
    assert [cell.cell.swept for cell in found.cells] == [f"guidance.scale {value}" for value in (1, 1.5, 4)]
    assert len({cell.cell.settings_id for cell in found.cells}) == 3
    assert found.cells[1].origins["sampling.guidance.scale"] == "s.yaml:6"
    assert "sampling.guidance" not in found.cells[1].origins or found.cells[1].origins["sampling.guidance"] == "card"


def test_a_setting_of_a_sweep_is_that_setting_alone():
    (alone,) = plan('  "*": {guidance: {scale: 1.5}}').cells
    swept = plan('  "*": {guidance: {scale: [1, 1.5]}}').cells[1]
    assert (swept.cell.settings_id, swept.cell.result_id) == (alone.cell.settings_id, alone.cell.result_id)
    assert alone.cell.swept == ""


def test_several_lists_are_a_grid_and_zip_pairs_them():
    lists = "guidance: {scale: [1, 2]}, top_k: [null, 10]"
    grid = [cell.cell.sampling for cell in plan(f'  "*": {{{lists}}}').cells]
    assert [(one.guidance.scale, one.top_k) for one in grid if one] == [(1, None), (1, 10), (2, None), (2, 10)]
    pairs = [cell.cell.sampling for cell in plan(f'  "*": {{{lists}, zip: true}}').cells]
    assert [(one.guidance.scale, one.top_k) for one in pairs if one] == [(1, None), (2, 10)]


def test_a_part_given_later_replaces_a_list_of_whole_values():
    found = plan('  "*": {guidance: [native, off]}\n  "raster/*": {guidance: {scale: [1, 2, 3]}}')
    assert scales(found) == [1, 2, 3]
    assert [cell.cell.swept for cell in found.cells] == [f"guidance.scale {value}" for value in (1, 2, 3)]
    changed = plan('  "*": {guidance: [native, off]}', changes=('sampling."raster/*".guidance.scale=[1, 2, 3]',))
    assert scales(changed) == [1, 2, 3]


def test_a_key_below_a_list_is_a_plain_error():
    with pytest.raises(ConfigError) as caught:
        plan('  "*": {guidance: [native, off]}', changes=('sampling."*".guidance.scale=2',))
    assert "'guidance' is a list, which has no keys" in str(caught.value)


def test_tasks_of_one_setting_stay_together_and_share_it():
    found = plan('  "*": {temperature: [1, 0.9]}', tasks="speed, memory")
    assert [(cell.cell.task.task, cell.cell.swept) for cell in found.cells] == [
        ("speed", "temperature 1"),
        ("memory", "temperature 1"),
        ("speed", "temperature 0.9"),
        ("memory", "temperature 0.9"),
    ]


def test_a_glob_reaches_the_adapters_it_matches_alone():
    found = plan('  "raster/*": {guidance: {scale: [1, 2, 3]}}', f"{RASTER}, {MAR}")
    assert len(scales(found, RASTER)) == 3
    assert len(scales(found, MAR)) == 1


def test_native_is_the_cards_own_value_and_off_none():
    found = plan('  "*": {guidance: [native, off]}', f"{RASTER}, {MAR}")
    assert scales(found, RASTER) == [2.0, 1.0]
    own, off = [cell.cell.sampling for cell in found.cells if cell.cell.adapter == MAR]
    assert own is not None
    assert off is not None
    assert (own.guidance.schedule, own.guidance.on, off.guidance.on) == ("linear", True, False)
    assert [cell.cell.swept for cell in found.cells][:2] == ["guidance native", "guidance off"]
    kept = plan('  "*": {guidance: {scale: [native, 5]}}', MAR)
    assert scales(kept, MAR) == [2.0, 5.0]


def test_settings_that_are_one_come_once():
    assert scales(plan('  "*": {guidance: {scale: [2, 2.0, native]}}')) == [2.0]


def test_a_list_in_set():
    change = 'sampling."raster/*".guidance.scale=[1, 1.5, 2, 4]'
    assert scales(plan("  {}", changes=(change,))) == [1.0, 1.5, 2.0, 4.0]
    found = plan(
        "  {}", changes=('sampling."*".top_k=[5, 10]', 'sampling."*".temperature=[1, 2]', 'sampling."*".zip=true')
    )
    assert [cell.cell.swept for cell in found.cells] == ["top_k 5, temperature 1", "top_k 10, temperature 2"]


@pytest.mark.parametrize(
    ("sampling", "what"),
    [
        ("guidance: {scale: []}", "the list of guidance.scale is empty"),
        ("top_k: [1, 2], top_p: [0.5], zip: true", "pairs lists of one length"),
        ("top_k: [1, x]", "top_k"),
        ("guidance: [native, 3]", "guidance is a mapping, native or off"),
        ("guidance: [{scal: 3}]", "unknown guidance field 'scal'"),
        ("zip: 3", "zip is true or false"),
        ("zib: true, top_k: [1, 2]", "did you mean zip"),
    ],
)
def test_what_is_no_sweep_is_refused(sampling: str, what: str):
    with pytest.raises(ConfigError, match=what):
        plan(f'  "*": {{{sampling}}}')


def test_unsupported_values_are_told_of_each_setting():
    found = plan('  "*": {top_p: [null, 0.5]}', MAR)
    assert [cell.outcome for cell in found.cells] == [None, "unsupported"]


def test_show_tells_settings_apart(capsys: pytest.CaptureFixture[str]):
    assert main(["show", "guidance"]) == 0
    shown = capsys.readouterr().out
    for scale in ("1", "1.5", "2", "4"):
        assert f"guidance.scale {scale} " in shown
