"""Planning: which cells, in which order, under which values, and clear errors for what cannot be."""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys

import pytest
from PIL import Image

from arbench.errors import ConfigError, ImageError, MissingWeights, NoDevice, UnknownName
from arbench.run import device as devices
from arbench.run.device import machine, resolve_device
from arbench.run.plan import Plan, make_plan
from arbench.spec.suite_file import parse

SUITE = """suite: s
adapters: [farm/steady, farm/other]
tokenizers: [farm/tok]
settings: {device: cpu}
tasks:
  - speed: {batches: [1, 4]}
  - generate: {n: 100}
  - reconstruct
"""


def plan(text: str = SUITE, *changes: str, **options) -> Plan:
    return make_plan(parse(text, "s.yaml", changes), **options)


def labels(found: Plan) -> list[str]:
    return [planned.cell.label for planned in found.cells]


@pytest.mark.usefixtures("registered")
class TestCells:
    def test_quality_first_and_adapters_together(self):
        found = plan()
        assert labels(found) == [
            "generate farm/steady",
            "generate farm/other",
            "reconstruct farm/tok",
            "speed farm/steady",
            "speed farm/other",
            "speed farm/tok",
        ]
        assert [planned.exclusive for planned in found.cells] == [False] * 3 + [True] * 3
        assert [unit.name for unit in found.cells[0].units] == ["000000-000064", "000064-000100"]
        assert [unit.start for unit in found.cells[3].units] == [1, 4]
        assert Plan.model_validate_json(found.model_dump_json()) == found

    def test_globs_choose_the_kind_of_their_key(self):
        text = SUITE.replace("[farm/steady, farm/other]", '["farm/*t*"]')
        assert "generate farm/tok" not in labels(plan(text))
        with pytest.raises(ConfigError, match=r"s.yaml:2: 'farm/tok' is not a generator") as caught:
            plan(SUITE.replace("farm/steady", "farm/tok"))
        assert "list it under `tokenizers`" in caught.value.why
        with pytest.raises(ConfigError, match=r"s\.yaml:2") as caught:
            plan(SUITE.replace("farm/steady", "farm/stedy"))
        assert "farm/steady" in caught.value.why

    def test_adapter_globs_replace_the_lists(self):
        assert labels(plan(adapter_globs=["farm/ta*"])) == ["generate farm/talks", "speed farm/talks"]
        assert labels(plan(adapter_globs=["farm/tok"])) == ["reconstruct farm/tok", "speed farm/tok"]
        with pytest.raises(UnknownName, match="farm/zzz"):
            plan(adapter_globs=["farm/zzz"])

    def test_nothing_to_run(self):
        with pytest.raises(ConfigError, match="nothing to run: farm/steady with reconstruct"):
            plan("suite: s\nadapters: [farm/steady]\ntasks:\n  - reconstruct\n")
        with pytest.raises(ConfigError, match="nothing to run") as caught:
            plan("suite: s\ntasks:\n  - generate\n")
        assert "--adapter" in caught.value.why
        with pytest.raises(ConfigError, match="nothing to run") as caught:
            plan("suite: s\nadapters: [farm/steady]\ntasks: []\n")
        assert "lists no tasks" in caught.value.why

    def test_seeds_and_trainings_repeat_what_draws(self, tmp_path):
        files = [tmp_path / f"{name}.bin" for name in "abc"]
        for file in files:
            file.write_bytes(file.name.encode())
        paths = ", ".join(map(str, files))
        more = f"replicates: {{farm/steady: [{paths}]}}\n"
        found = plan(SUITE.replace("cpu}", "cpu, seed: 4, seeds: 2}") + more)
        drawn = [planned.cell for planned in found.cells if planned.cell.task.task == "generate"]
        assert [(cell.adapter, cell.settings.seed, cell.replicate) for cell in drawn] == [
            *(("farm/steady", seed, training) for training in (0, 1, 2) for seed in (4, 5)),
            ("farm/other", 4, 0), ("farm/other", 5, 0),
        ]  # fmt: skip
        assert drawn[1].label == "generate farm/steady (seed 5, training 1)"
        own = drawn[:6]
        assert len({cell.result_id for cell in own}) == 6
        assert [cell.weights_sha256["farm/steady"] for cell in own[::2]] == [
            hashlib.sha256(file.read_bytes()).hexdigest() for file in files
        ]
        assert {found.weights[name] for name in ("farm/steady", "farm/steady@1", "farm/steady@2")} == {*map(str, files)}
        (speed,) = [
            each.cell for each in found.cells if each.cell.task.task == "speed" and each.cell.adapter == "farm/steady"
        ]
        assert (speed.settings.seed, speed.settings_id, speed.replicates) == (4, own[0].settings_id, 1)
        assert plan(SUITE.replace("cpu}", "cpu, seed: 4}")).cells[1].cell.result_id == drawn[6].result_id
        with pytest.raises(ConfigError, match="farm/steady needs two weight files or more"):
            plan(SUITE + f"replicates: {{farm/steady: [{files[0]}]}}\n")
        with pytest.raises(ConfigError, match="no weight file at"):
            plan(SUITE + f"replicates: {{farm/steady: [{files[0]}, {tmp_path / 'd.bin'}]}}\n")

    def test_the_same_cell_twice(self):
        with pytest.raises(ConfigError, match="runs generate farm/steady twice"):
            plan("suite: s\nadapters: [farm/steady]\ntasks:\n  - generate\n  - generate: {batch: 3}\n")

    def test_n_is_what_the_source_has(self):
        found = plan(adapter_globs=["farm/tok"]).cells[0]
        assert found.cell.task.n == 1000
        assert found.units[-1].stop == 1000
        assert found.origins["task.n"] == "images in mnist5k/heldout"
        assert list(found.data) == ["mnist5k/heldout"]
        with pytest.raises(ConfigError, match=r"s.yaml:8: reconstruct.n is 1001") as caught:
            plan(SUITE.replace("- reconstruct", "- reconstruct: {n: 1001}"))
        assert "1000 images" in caught.value.why

    def test_a_reference_may_hold_several_sizes_and_images_to_reconstruct_may_not(self, tmp_path):
        for side in (32, 48):
            Image.new("RGB", (side, 32)).save(tmp_path / f"{side}.png")
        with pytest.raises(ImageError, match="differ in size"):
            plan(SUITE.replace("- reconstruct", f"- reconstruct: {{data: {tmp_path}}}"))
        found = plan(SUITE, f"reference={tmp_path}")
        notes = [note for planned in found.cells for note in planned.notes]
        assert any("differ in size: numbers will be flagged" in note for note in notes)

    def test_a_task_may_be_for_some_adapters(self):
        first = {planned.cell.label: planned.cell.result_id for planned in plan().cells}
        for globs, names in (
            ("[farm/steady]", {"farm/steady"}),
            ("['!farm/o*']", {"farm/steady"}),
            ("['farm/*', '!farm/steady']", {"farm/other"}),
            ("[]", {"farm/steady", "farm/other"}),
        ):
            found = plan(SUITE.replace("n: 100", f"n: 100, adapters: {globs}"))
            cells = [planned.cell for planned in found.cells]
            assert {cell.adapter for cell in cells if cell.task.task == "generate"} == names
            assert all(first[cell.label] == cell.result_id for cell in cells)
        with pytest.raises(ConfigError, match=r"s\.yaml:7: no adapter is named 'farm/stedy'") as caught:
            plan(SUITE.replace("n: 100", "n: 100, adapters: ['!farm/stedy']"))
        assert "farm/steady" in caught.value.why

    def test_identity_follows_what_changes_the_result(self):
        def ids(*changes: str, **options) -> list[str]:
            return [planned.cell.result_id for planned in plan(SUITE, *changes, **options).cells]

        same = ids()
        assert ids("settings.device=auto", device="cpu") == same
        assert ids("generate.batch=7", "generate.show=0") == same
        assert ids("settings.graph=auto") == same
        assert not set(ids("settings.graph=off")) & set(same)
        seeded = ids("settings.seed=1")
        assert not set(seeded) & set(same)
        fewer = ids("generate.n=99")
        assert [one == other for one, other in zip(fewer, same, strict=True)] == [False, False, *[True] * 4]

    def test_graphs_on_a_cpu(self):
        with pytest.raises(ConfigError, match="graph: on, but 'cpu' records no CUDA graphs"):
            plan(SUITE, "settings.graph=on")

    def test_random_weights_are_a_rehearsal_of_every_task(self):
        found = plan(SUITE, "settings.init=random")
        assert [planned.outcome for planned in found.cells] == [None] * 6
        assert not any(planned.cell.weights_sha256 for planned in found.cells)


@pytest.mark.usefixtures("registered")
class TestSampling:
    def sampling(self, overrides: str, name: str = "farm/steady"):
        found = plan(SUITE + "sampling:\n" + overrides)
        return next(planned for planned in found.cells if planned.cell.adapter == name)

    def test_native_then_overrides_field_by_field(self):
        planned = self.sampling(
            "  'farm/*': {temperature: 0.9, guidance: {scale: 3.0, schedule: linear}, extra: {wobble: 2}}\n"
            "  farm/steady:\n"
            "    guidance:\n"
            "      scale: 4.0\n"
        )
        sampling = planned.cell.sampling
        assert (sampling.temperature, sampling.guidance.scale, sampling.guidance.schedule) == (0.9, 4.0, "linear")
        assert sampling.extra == {"wobble": 2}
        assert planned.outcome is None
        assert planned.origins["sampling.temperature"] == "s.yaml:10"
        assert planned.origins["sampling.guidance.schedule"] == "s.yaml:10"
        assert planned.origins["sampling.guidance.scale"] == "s.yaml:13"
        assert planned.origins["sampling.top_k"] == "default"
        untouched = self.sampling("  farm/other: {temperature: 0.9}\n")
        assert untouched.cell.sampling.temperature == 0.5
        assert untouched.origins["sampling.temperature"] == "card"

    @pytest.mark.parametrize(
        ("override", "what", "why"),
        [
            ("  farm/steady: {temprature: 1}\n", "s.yaml:10: unknown sampling field 'temprature'", "temperature"),
            ("  farm/steady:\n    guidance: {scael: 1}\n", "s.yaml:11: unknown guidance field 'scael'", "scale"),
            ("  farm/stedy: {top_k: 1}\n", "s.yaml:10: unknown generator in sampling: 'farm/stedy'", "farm/steady"),
            ("  farm/tok: {top_k: 1}\n", "s.yaml:10: unknown generator in sampling: 'farm/tok'", "farm/talks"),
            ("  farm/steady: {guidance: 3}\n", "s.yaml:10: guidance is a mapping", "3"),
            ("  farm/steady: {top_p: 3}\n", "s.yaml:10: sampling of farm/steady: top_p", "3"),
            ("  'nobody/*': {top_p: 3}\n", "s.yaml:10: unknown generator", ""),
        ],
    )
    def test_mistakes_name_their_line(self, override, what, why):
        with pytest.raises(ConfigError, match=re.escape(what)) as caught:
            self.sampling(override)
        assert why in caught.value.why

    def test_a_knob_that_is_not_supported_is_a_cell_that_says_so(self):
        planned = self.sampling("  farm/*: {top_k: 5}\n")
        assert planned.outcome == "unsupported"
        assert planned.reason == "farm/steady: it does not honour top_k"
        planned = self.sampling("  farm/*: {extra: {wiggle: 5}}\n")
        assert planned.reason == "farm/steady: it has no knob wiggle (accepts wobble)"

    def test_asking_for_the_native_value_is_no_request(self):
        assert self.sampling("  farm/*: {top_k: null, order: native}\n").outcome is None


@pytest.mark.usefixtures("registered")
class TestWeights:
    TEXT = "suite: s\nadapters: [farm/weighty, farm/steady]\nsettings: {device: cpu}\ntasks:\n  - generate: {n: 8}\n"

    def test_missing_for_one_cell(self):
        first, second = plan(self.TEXT).cells
        assert (first.outcome, second.outcome) == ("error", None)
        assert first.reason.startswith("no weights for farm/weighty; the official file is farm-weighty.bin")

    def test_missing_for_all(self):
        with pytest.raises(MissingWeights, match="no weights for farm/weighty"):
            plan(self.TEXT, adapter_globs=["farm/weighty"])

    def test_found_by_folder_or_path_with_its_digest(self, registered, tmp_path):
        digest = hashlib.sha256(b"hay").hexdigest()
        (tmp_path / "weights").mkdir()
        (tmp_path / "weights" / "farm-weighty.bin").write_bytes(b"hay")
        found = plan(self.TEXT)
        assert found.cells[0].cell.weights_sha256 == {"farm/weighty": digest}
        (tmp_path / "mine.bin").write_bytes(b"straw")
        given = plan(self.TEXT + f"weights: {{farm/weighty: {tmp_path / 'mine.bin'}}}\n")
        assert given.weights == {"farm/weighty": str(tmp_path / "mine.bin")}
        assert given.cells[0].cell.result_id != found.cells[0].cell.result_id
        with pytest.raises(ConfigError, match=r"s\.yaml:6: no weight file at /nowhere"):
            plan(self.TEXT + "weights: {farm/weighty: /nowhere}\n")
        with pytest.raises(
            ConfigError, match=r"s.yaml:6: weights for an unknown adapter or feature network: 'farm/wighty'"
        ):
            plan(self.TEXT + "weights: {farm/wighty: /nowhere}\n")

    def test_those_of_feature_networks_are_part_of_the_identity_and_never_needed(self, tmp_path):
        text = self.TEXT.replace("{n: 8}", "{n: 8, conventions: [offline, adm]}").replace("farm/weighty, ", "")
        without = plan(text)
        (cell,) = without.cells
        assert (cell.outcome, cell.cell.features_sha256, without.weights) == (None, {}, {})
        assert cell.notes[0] == (
            "generate: no weights of inception, so these will be null: adm fid, adm sfid, adm is, adm precision, "
            "adm recall (arbench weights fetch inception, or --weights inception=PATH)"
        )
        file = tmp_path / "mine.pth"
        file.write_bytes(b"grass")
        found = plan(text + f"weights: {{inception: {file}}}\n")
        (cell,) = found.cells
        assert cell.cell.features_sha256 == {"inception": hashlib.sha256(b"grass").hexdigest()}
        assert found.weights == {"inception": str(file)}
        assert not any("no weights" in note for note in cell.notes)
        assert cell.cell.result_id != without.cells[0].cell.result_id
        assert cell.cell.settings_id == without.cells[0].cell.settings_id
        offline = plan(text.replace(", adm", "") + f"weights: {{inception: {file}}}\n").cells[0]
        assert offline.cell.features_sha256 == {}  # it needs none

    def test_what_a_size_of_subsets_will_change_is_known_before(self):
        unused = "kid_subset_size changes nothing: no metric asked for is over subsets"
        for conventions, told in (("offline", unused), ("clean-fid", "clean-fid kid will be null: 8 samples, subsets")):
            given = f"{{n: 8, kid_subset_size: 24, conventions: [{conventions}]}}"
            (cell,) = plan(self.TEXT.replace("{n: 8}", given).replace("farm/weighty, ", "")).cells
            assert sum(told in note for note in cell.notes) == 1

    def test_random_weights_need_no_file(self):
        found = plan(self.TEXT.replace("generate: {n: 8}", "speed"), "settings.init=random")
        assert [planned.outcome for planned in found.cells] == [None, None]
        assert found.cells[0].cell.weights_sha256 == {}


class TestDevice:
    def test_without_a_gpu(self, monkeypatch):
        monkeypatch.setattr(devices, "cuda_devices", lambda: 0)
        assert resolve_device("auto") == "cpu"
        with pytest.raises(NoDevice, match="no CUDA device, and cuda:1 is asked for"):
            resolve_device("cuda:1")
        with pytest.raises(ConfigError, match="unknown device 'gpu'"):
            resolve_device("gpu")

    def test_with_two(self, monkeypatch):
        monkeypatch.setattr(devices, "cuda_devices", lambda: 2)
        assert resolve_device("auto") == "cuda"
        assert resolve_device("cuda:1") == "cuda:1"
        assert devices.all_devices("cuda") == ("cuda:0", "cuda:1")
        with pytest.raises(NoDevice, match="no device cuda:2"):
            resolve_device("cuda:2")

    @pytest.mark.parametrize(
        ("visible", "count"), [(None, 3), ("", 0), ("1", 1), ("2,0", 2), ("-1", 0), ("0,9,1", 1), ("GPU-ab12", 1)]
    )
    def test_visible_devices(self, monkeypatch, visible, count):
        monkeypatch.setattr(devices, "_torch_has_cuda", lambda: True)
        monkeypatch.setattr(devices, "_gpu_names", lambda: ("A", "B", "C"))
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        if visible is not None:
            monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        devices.cuda_devices.cache_clear()
        assert devices.cuda_devices() == count
        devices.cuda_devices.cache_clear()

    def test_cores(self, monkeypatch, tmp_path):
        monkeypatch.setattr(devices.os, "sched_getaffinity", lambda pid: set(range(8)))
        monkeypatch.setattr(devices, "CPU_QUOTA", tmp_path / "cpu.max")
        monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
        assert devices.cores() == 8
        (tmp_path / "cpu.max").write_text("max 100000\n")
        assert devices.cores() == 8
        (tmp_path / "cpu.max").write_text("350000 100000\n")
        assert devices.cores() == 4
        (tmp_path / "cpu.max").write_text("20000 100000\n")
        assert devices.cores() == 1
        (tmp_path / "cpu.max").write_text("max 100000\n")
        monkeypatch.setenv("OMP_NUM_THREADS", "3")
        assert devices.cores() == 3
        assert machine("cpu").endswith(", 3 cores")

    def test_agrees_with_torch(self):
        import torch

        devices.cuda_devices.cache_clear()
        assert devices.cuda_devices() == torch.cuda.device_count()
        assert machine("cpu")


def test_planning_imports_no_torch(farm):
    """The command line answers `show` without the seconds that importing torch takes, of our tasks and of others."""
    more = "  - generate: {n: 8, conventions: [offline, adm]}\n  - speed\n  - memory\n"
    code = (
        "import sys; from arbench.cli.show import show\n"
        f"show({str(farm.suite(['steady'], more=more))!r}, [], [], ['settings.device=auto'], [], True, False)\n"
        "print('imported:', [name for name in ('torch', 'mlflow', 'pandas') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=farm.environment(), capture_output=True, text=True, check=True
    )
    assert "count farm/steady" in " ".join(done.stdout.split())
    assert done.stdout.splitlines()[-1] == "imported: []"
