"""`arbench doctor`: a row for each thing that it looks at, and it is what errors recommend."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from arbench.cli.main import main
from arbench.measure import guard
from arbench.measure.guard import Disturbance
from arbench.run import doctor

ROOT = Path(__file__).parents[2]


def test_it_says_how_everything_is(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert main(["doctor", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    checks = {each["check"] for each in found["findings"]}
    assert {"python", "device", "processor", "memory", "processes", "disk", "weights", "adapters", "extras"} <= checks
    assert all(each["next"] for each in found["findings"] if each["state"] != "ok")
    assert found["fit_to_measure"] == (not any(each["spoils"] for each in found["findings"]))
    assert main(["doctor"]) == 0
    assert "0 failures" in capsys.readouterr().out


def test_a_failure_is_the_exit_code(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ARBENCH_WEIGHTS", str(tmp_path))
    (tmp_path / "alexnet-owt-7be5be79.pth").write_bytes(b"not it")
    assert main(["doctor", "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert not found["ok"]
    assert any(each["state"] == "fail" and "damaged" in each["what"] for each in found["findings"])


def test_a_check_that_breaks_is_a_finding(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def broken() -> None:
        raise OSError("no such thing here")

    monkeypatch.setattr(doctor, "_memory", broken)
    rows = {each.check: each for each in doctor.examine(tmp_path)}
    assert rows["memory"].state == "warn"
    assert "no such thing" in rows["memory"].what
    assert "extras" in rows


def test_what_is_counted_is_in_the_singular(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = [doctor.Finding("memory", "fail", "all taken", "wait"), doctor.Finding("load", "warn", "busy", "wait")]
    monkeypatch.setattr(doctor, "examine", lambda *_: found)
    assert main(["doctor"]) == 1
    assert "1 failure, 1 warning\n" in capsys.readouterr().out


def test_no_device_is_a_plain_fact(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "cuda_devices", lambda: 0)
    (row,) = doctor._device()
    assert row.state == "ok"
    assert "no CUDA device" in row.what


def test_it_needs_no_torch() -> None:
    code = "import sys; from arbench.cli.main import main; main(['doctor']); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode == 0


def test_every_command_that_errors_recommend_exists() -> None:
    verbs = set()
    for place in ("arbench", "adapters"):
        for path in (ROOT / place).rglob("*.py"):
            verbs |= set(re.findall(r"`arbench ([a-z]+)", path.read_text(encoding="utf-8")))
    assert "doctor" in verbs
    for verb in sorted(verbs):
        assert main([verb, "--help"]) == 0, verb


def test_what_would_spoil_a_measurement_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for others, words in ((1.5, "timings taken now would be flagged: load"), (0.0, "")):
        busy = Disturbance(others, 0.0)
        monkeypatch.setattr(guard, "wait_idle", lambda seconds, *, pause, found=busy: found)
        monkeypatch.setattr(guard, "cores", lambda: 2)
        monkeypatch.setattr(doctor, "_processes", lambda: iter(()))
        monkeypatch.setattr(doctor, "_processor", lambda: iter(()))
        (load,) = doctor._load()
        assert (load.spoils, load.state) == ((True, "warn") if others else (False, "ok"))
        monkeypatch.setattr(doctor, "examine", lambda runs, load=load: [load])
        main(["doctor"])
        assert words in capsys.readouterr().out
