"""Parity: the recordings replay, a wrong weight or output is noticed, and broken goldens are clear errors."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from arbench.cli.parity import parity
from arbench.errors import ArbenchError, InputError, UnknownName, UsageError
from arbench.parity import TOLERANCE, Golden, compare, load_golden, replay_golden, replayer_path, replays
from arbench.registry import resolve

GOLDENS = Path(__file__).parent / "goldens"
NAMES = ("llamagen-c2i", "llamagen-t2i", "var", "var-shared-aln")


@pytest.fixture
def copied(tmp_path: Path) -> Callable[..., Path]:
    """Copies goldens to a scratch folder and returns the first."""

    def copy(*names: str) -> Path:
        for name in names:
            shutil.copytree(GOLDENS / name, tmp_path / name)
        return tmp_path / names[0]

    return copy


def edit(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    path = folder / "golden.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


@pytest.mark.parametrize("name", NAMES)
def test_recordings_replay(name: str) -> None:
    golden = load_golden(GOLDENS / name)
    verdicts = list(replay_golden(golden))
    assert len(verdicts) == sum(len(probe.outputs) for probe in golden.probes)
    assert [verdict for verdict in verdicts if not verdict.ok] == []
    for verdict in verdicts:
        assert verdict.error is not None
        assert verdict.error == 0 if verdict.output == "tokens" else verdict.error <= TOLERANCE


def test_weights_are_drawn_by_seed_and_key() -> None:
    golden = load_golden(GOLDENS / "llamagen-tokenizer")
    codes = golden.state["quantize.embedding.weight"]
    torch.testing.assert_close(codes.norm(dim=-1), torch.ones(64))
    # crc32(b"11:encoder.conv_in.bias") seeds numpy's RandomState; mean 0, std 0.1
    bias = golden.state["encoder.conv_in.bias"]
    assert bias.shape == (32,)
    assert bias.dtype == torch.float32
    assert 0.05 < bias.std().item() < 0.2
    assert "blocks.0.attn.zero_k_bias" in load_golden(GOLDENS / "var").state  # stored, not drawn


def test_every_known_golden_adapter_can_be_imported() -> None:
    for path in replays().values():
        assert callable(resolve(path))


def test_one_wrong_weight_fails(copied: Callable[..., Path]) -> None:
    golden = load_golden(copied("llamagen-c2i"))
    golden.state["layers.2.feed_forward.w2.weight"][0, 0] += 0.5
    verdict = next(iter(replay_golden(golden)))
    assert verdict.output == "logits"
    assert not verdict.ok
    assert verdict.error is not None
    assert verdict.error > TOLERANCE


def test_one_wrong_token_and_a_changed_setting_fail(
    copied: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    folder = copied("llamagen-c2i")
    tensors = load_file(folder / "data.safetensors")
    tensors["greedy"][0, 5] += 1
    save_file(tensors, folder / "data.safetensors")
    assert parity([folder], json_output=True) == 1
    document = json.loads(capsys.readouterr().out)
    assert document["ok"] is False
    assert document["passed"] == 2
    failed = [verdict for verdict in document["verdicts"] if not verdict["ok"]]
    assert [(verdict["probe"], verdict["error"]) for verdict in failed] == [("generate#1", pytest.approx(1 / 48))]


def test_lines_and_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    assert parity([GOLDENS / "llamagen-c2i"], json_output=False) == 0
    out = capsys.readouterr().out
    assert "\x1b" not in out
    lines = out.splitlines()
    assert len(lines) == 4
    assert lines[0].split()[:3] == ["llamagen-c2i", "logits", "logits"]
    assert all(line.split()[4] == "ok" for line in lines[:3])
    assert lines[3].startswith("3 of 3 outputs agree")


def test_json_is_one_document(capsys: pytest.CaptureFixture[str]) -> None:
    assert parity([GOLDENS / "llamagen-c2i"], json_output=True) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["ok"] is True
    assert document["unknown"] == {}
    assert document["passed"] == document["outputs"] == len(document["verdicts"]) == 3
    assert set(document["verdicts"][0]) == {"golden", "probe", "output", "error", "ok", "note"}


def test_cfg_interval_changes_the_outcome(copied: Callable[..., Path]) -> None:
    folder = copied("llamagen-c2i")
    edit(folder, lambda golden: golden["probes"][1]["settings"].update(cfg_interval=0))
    assert [verdict.ok for verdict in replay_golden(load_golden(folder))] == [True, False, True]


def test_comparison_rules() -> None:
    recorded = torch.tensor([3.0, 4.0])
    near, far = recorded + torch.tensor([4e-4, 0.0]), recorded + torch.tensor([6e-4, 0.0])
    assert compare("g", "p", "r", near, recorded).ok
    assert not compare("g", "p", "r", far, recorded).ok
    assert compare("g", "p", "r", far, recorded).error == pytest.approx(6e-4 / 5, rel=1e-3)
    assert not compare("g", "p", "r", torch.tensor([math.nan, 4.0]), recorded).ok
    assert compare("g", "p", "r", torch.tensor([math.nan, 4.0]), recorded).error is None
    assert "shape" in compare("g", "p", "r", recorded[:1], recorded).note
    assert not compare("g", "p", "r", None, recorded).ok
    assert compare("g", "p", "r", torch.zeros(2), torch.zeros(2)).ok
    assert not compare("g", "p", "r", torch.ones(2), torch.zeros(2)).ok


def test_a_file_beside_the_folders_is_passed_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`goldens/*` names the README too."""
    readme = tmp_path / "README.md"
    readme.write_text("recordings")
    assert parity([readme, GOLDENS / "llamagen-tokenizer"]) == 0
    assert "README.md is a file, not a recording: passed over" in capsys.readouterr().out
    with pytest.raises(InputError, match="it is a file"):
        parity([readme])


def test_what_is_known_is_replayed_before_what_is_not_is_named(
    copied: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    folder = copied("llamagen-tokenizer")
    edit(folder, lambda golden: golden.update(adapter="llamagenn", name="stranger"))
    both = [folder, GOLDENS / "llamagen-c2i"]
    assert parity(both) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[-2].startswith("3 of 3 outputs agree (goldens: 1)")
    assert lines[-1].startswith("not replayed: stranger (")
    assert "llamagenn" in lines[-1]
    assert parity(both, json_output=True) == 1
    document = json.loads(capsys.readouterr().out)
    assert (document["ok"], document["passed"], list(document["unknown"])) == (False, 3, ["stranger"])


def test_no_goldens_is_a_usage_error() -> None:
    with pytest.raises(UsageError):
        parity([])


def test_missing_folder_and_files(tmp_path: Path, copied: Callable[..., Path]) -> None:
    with pytest.raises(InputError, match="no such folder"):
        parity([tmp_path / "nowhere"])
    with pytest.raises(InputError, match=r"no golden\.json"):
        parity([tmp_path])
    folder = copied("llamagen-c2i")
    (folder / "data.safetensors").unlink()
    with pytest.raises(InputError, match=r"no data\.safetensors"):
        parity([folder])


@pytest.mark.parametrize("keep", [0, 4, 100, -1])
def test_truncated_tensors(copied: Callable[..., Path], keep: int) -> None:
    folder = copied("llamagen-c2i")
    path = folder / "data.safetensors"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(InputError, match="cannot read"):
        load_golden(folder)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda golden: golden.update(format=2), "format"),
        (lambda golden: golden.pop("config"), "config"),
        (lambda golden: golden.update(component="picture"), "component"),
        (lambda golden: golden.update(probes=[]), "probes"),
        (lambda golden: golden["weights"]["drawn"].update({"norm.weight": ["x", 1, 1]}), "norm.weight"),
        (lambda golden: golden.update(tokenizer="../var-tokenizer"), "tokenizer"),
    ],
)
def test_broken_manifests_name_the_place(copied: Callable[..., Path], change: Any, named: str) -> None:
    folder = copied("llamagen-c2i")
    edit(folder, change)
    with pytest.raises(InputError) as caught:
        load_golden(folder)
    assert named in caught.value.why


def test_broken_json(copied: Callable[..., Path]) -> None:
    folder = copied("llamagen-c2i")
    (folder / "golden.json").write_text('{"format": 1,')
    with pytest.raises(InputError, match=r"cannot read .*golden\.json"):
        load_golden(folder)
    (folder / "golden.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match=r"cannot read .*golden\.json"):
        load_golden(folder)


@pytest.mark.parametrize(
    ("change", "error", "named"),
    [
        (lambda golden: golden.update(adapter="llamagenn"), UnknownName, "did you mean llamagen?"),
        (lambda golden: golden["probes"][0].update(name="sing"), InputError, "sing"),
        (lambda golden: golden["probes"][0]["inputs"].update(tokens="tokenz"), InputError, "tokenz"),
        (lambda golden: golden["probes"][0]["inputs"].pop("tokens"), InputError, "tokens"),
        (lambda golden: golden["probes"][1]["settings"].update(warmth=3), InputError, "warmth"),
        (lambda golden: golden["probes"][1]["settings"].update(greedy=False), InputError, "greedy"),
        (lambda golden: golden["config"].update(n_layer=4), ArbenchError, "layers.*.attention.wqkv.weight"),
        (lambda golden: golden["config"].update(depth=4), ArbenchError, "depth"),
        (lambda golden: golden["config"].update(num_classes=11), ArbenchError, "embedding_table"),
        (lambda golden: golden["weights"]["drawn"].pop("norm.weight"), ArbenchError, "norm.weight"),
    ],
)
def test_what_cannot_be_replayed_is_an_error_of_exit_code_2(
    copied: Callable[..., Path], change: Any, error: type[ArbenchError], named: str
) -> None:
    folder = copied("llamagen-c2i")
    edit(folder, change)
    with pytest.raises(error) as caught:
        parity([folder])
    assert named in str(caught.value)
    assert caught.value.exit_code == 2


def test_a_generator_without_its_tokenizer(copied: Callable[..., Path]) -> None:
    alone = copied("var")
    with pytest.raises(InputError, match="var-tokenizer"):
        parity([alone])
    edit(alone, lambda golden: golden.pop("tokenizer"))
    with pytest.raises(InputError, match="alone"):
        parity([alone])


def test_a_recording_that_does_not_fit_its_configuration(copied: Callable[..., Path]) -> None:
    folder = copied("llamagen-c2i")
    tensors = load_file(folder / "data.safetensors")
    tensors["cond"] = tensors["cond"] + 100
    save_file(tensors, folder / "data.safetensors")
    with pytest.raises(InputError, match="cannot be replayed"):
        parity([folder])


def recorded(golden: Golden) -> tuple[dict[str, Any], dict[str, Tensor], dict[str, Tensor]]:
    """Settings, inputs and outputs of the first generation of a golden."""
    probe = next(probe for probe in golden.probes if probe.name == "generate")
    inputs, outputs = ({role: golden.tensors[key] for role, key in of.items()} for of in (probe.inputs, probe.outputs))
    return dict(probe.settings), inputs, outputs


@pytest.mark.parametrize("name", ["var", "hart"])
def test_a_generator_samples_its_own_scales_whatever_list_its_tokenizer_was_recorded_with(name: str) -> None:
    golden, tokenizer = load_golden(GOLDENS / name), load_golden(GOLDENS / f"{name}-tokenizer")
    call = resolve(replayer_path(golden))(
        golden.config, golden.state, ({**tokenizer.config, "v_patch_nums": [1, 2]}, tokenizer.state)
    )
    settings, inputs, outputs = recorded(golden)
    found = call("generate", settings, inputs)
    assert torch.equal(found["tokens"], outputs["tokens"])
    assert (found["images"] - outputs["images"]).norm() <= TOLERANCE * outputs["images"].norm()


def test_captions_of_a_recording_may_be_masked_and_its_sampling_stopped_early() -> None:
    golden = load_golden(GOLDENS / "llamagen-t2i")
    call = resolve(replayer_path(golden))(golden.config, golden.state, None)
    settings, inputs, outputs = recorded(golden)
    few = call("generate", {**settings, "max_new_tokens": 5}, inputs)["tokens"]
    assert torch.equal(few, outputs["tokens"][:, :5])
    given = {"captions": inputs["captions"], "tokens": outputs["tokens"]}
    mask = torch.ones(given["captions"].shape[:2], dtype=torch.int64)
    mask[:, :2] = 0
    masked = call("logits", {}, {**given, "emb_masks": mask})["logits"]
    other = {**given, "captions": torch.where(mask.bool().unsqueeze(-1), given["captions"], 5.0)}
    assert torch.equal(call("logits", {}, {**other, "emb_masks": mask})["logits"], masked)
    assert not torch.allclose(call("logits", {}, given)["logits"], masked)
