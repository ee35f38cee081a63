"""Packages that offer adapters, conventions and tasks and are broken: named once and left out, and the rest works."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests import forked

ADAPTERS = "arbench.adapters"
GROUPS = (ADAPTERS, "arbench.conventions", "arbench.tasks")
LISTS = {ADAPTERS: "adapters", "arbench.conventions": "conventions", "arbench.tasks": "metrics"}

BODIES = {
    "sys.exit(0)": "import sys; sys.exit(0)",
    "sys.exit('bye')": "import sys; sys.exit('bye')",
    "KeyboardInterrupt": "raise KeyboardInterrupt",
    "a base of its own": "class Mine(BaseException): pass\nraise Mine('gone')",
    "an import": "import not_there",
    "a syntax error": "def (:",
    "no such name": "OTHER = 1",
    "None": "OFFER = None",
    "a number": "OFFER = 3",
    "a tuple of numbers": "OFFER = (1, 2)",
    "text": "OFFER = 'raster/mine'",
    "an iterator that raises": "def each():\n    yield 1\n    raise RuntimeError('half way')\nOFFER = each()",
    "an error without text": "raise ValueError",
    "prints, and is broken": "import os\nprint('HI')\nos.system('echo HO')\nos.write(1, b'HU')\nraise ValueError",
}
TWICE = """
from arbench.registry import resolve
BASE = resolve('arbench.adapters.raster.llamagen:SYSTEM').cards[0]
OFFER = (BASE.derive(name='raster/twice'), BASE.derive(name='raster/twice'))
"""
GOOD = """
print('loading', flush=True)
import os, warnings
os.write(1, b'from below')
warnings.warn('old')
from arbench.registry import resolve
OFFER = (resolve('arbench.adapters.raster.llamagen:SYSTEM').cards[0].derive(name='raster/mine'),)
"""


def install(folder: Path, name: str, body: str, *groups: str, points: str | None = None) -> Path:
    """A distribution `name` that offers `OFFER` of its module in each group."""
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.py").write_text(body)
    info = folder / f"{name}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(points or "".join(f"[{group}]\ne = {name}:OFFER\n" for group in groups))
    return folder


def arbench(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(folder), "COLUMNS": "200"}
    return forked.arbench(*words, env=environment)


@pytest.mark.parametrize("what", BODIES)
def test_a_broken_package_is_named_once_and_the_rest_works(what: str, tmp_path: Path) -> None:
    # metrics list what tasks and conventions report: all three groups are read, adapters besides
    place = install(tmp_path / "site", "evil", BODIES[what], *GROUPS)
    for words in (("ls", "adapters"), ("ls", "metrics")):
        done = arbench(place, *words, "--json")
        assert done.returncode == 0, done.stderr
        assert len(json.loads(done.stdout)) > 20
        assert "Traceback" not in done.stderr
        assert done.stderr.count("note: package 'evil' is broken and left out: evil:OFFER: ") >= 1
        lines = [line for line in done.stderr.splitlines() if line.startswith("note:")]
        assert len(lines) == len(set(lines))
    assert ("HI" in done.stderr) == ("HI" in BODIES[what])


def test_a_name_of_a_broken_package_is_told_to_be_that(tmp_path: Path) -> None:
    place = install(tmp_path / "site", "evil", "import sys; sys.exit(0)", *GROUPS)
    done = arbench(place, "check", "raster/mine")
    assert done.returncode == 2
    assert "unknown adapter" in done.stderr
    assert "repair the broken package 'evil' (evil:OFFER: SystemExit: 0)" in done.stderr
    (tmp_path / "s.yaml").write_text("suite: s\ntasks: [mine]\n")
    done = arbench(place, "show", str(tmp_path / "s.yaml"))
    assert done.returncode == 2
    assert "unknown task 'mine'" in done.stderr
    assert "repair the broken package 'evil'" in done.stderr


def test_a_name_twice_in_one_package_leaves_it_out(tmp_path: Path) -> None:
    done = arbench(install(tmp_path / "site", "evil", TWICE, ADAPTERS), "ls", "adapters", "--json")
    assert done.returncode == 0
    assert "raster/twice" not in done.stdout
    assert "two adapters are named 'raster/twice': one from evil, one from evil" in done.stderr


def test_a_good_package_that_prints_and_warns_is_there_and_json_stays_json(tmp_path: Path) -> None:
    place = install(tmp_path / "site", "mine", GOOD, ADAPTERS)
    install(place, "evil", "raise SystemExit", ADAPTERS)
    done = arbench(place, "ls", "adapters", "--json")
    assert done.returncode == 0
    assert "raster/mine" in [row["name"] for row in json.loads(done.stdout)]
    assert "loading" in done.stderr
    assert "from below" in done.stderr


@pytest.mark.parametrize("points", ["[arbench.adapters]\nmine = \n", "[arbench.adapters]\nmine = no such thing\n"])
def test_damaged_metadata_of_one_package_leaves_the_others_alone(points: str, tmp_path: Path) -> None:
    place = install(tmp_path / "site", "mine", GOOD, ADAPTERS)
    install(place, "evil", "", points=points)
    done = arbench(place, "ls", "adapters", "--json")
    assert done.returncode == 0, done.stderr
    assert "raster/mine" in [row["name"] for row in json.loads(done.stdout)]
    assert "package 'evil' is broken and left out" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("body", ["import sys; sys.exit(0)", "raise KeyboardInterrupt", "1 / 0"])
def test_an_adapter_whose_own_module_is_broken_fails_alone(body: str, tmp_path: Path) -> None:
    """The card can be read, and what it names cannot be imported: its cell is an error with a reason."""
    cards = GOOD.replace(
        "name='raster/mine'", "name='raster/mine', checkpoint=None, implementation='evil_network:Mine'"
    )
    place = install(tmp_path / "site", "mine", cards, ADAPTERS)
    (place / "evil_network.py").write_text(body)
    suite = tmp_path / "s.yaml"
    suite.write_text(
        "suite: s\nadapters: [raster/mine, raster/llamagen-mini]\nsettings: {init: random}\n"
        "tasks:\n  - generate: {reference: mnist5k/heldout, n: 4, batch: 4}\n"
    )
    words = ("--out", str(tmp_path / "run"), "--track", "off", "--workers", "1")
    done = arbench(place, "run", str(suite), *words)
    outcomes = {}
    for path in (tmp_path / "run").glob("cells/*/result.json"):
        result = json.loads(path.read_bytes())
        outcomes[result["adapter"]] = (result["outcome"], result["reason"])
    assert done.returncode == 4, done.stdout + done.stderr
    assert outcomes["raster/llamagen-mini"][0] == "ok"
    outcome, reason = outcomes["raster/mine"]
    assert outcome == "error"
    assert body.partition(" ")[2].partition(":")[0] in reason or "ZeroDivisionError" in reason or "SystemExit" in reason
    checked = arbench(place, "check", "raster/mine")
    assert checked.returncode not in (0, 130)


def test_ctrl_c_while_a_package_is_slow_is_the_users(tmp_path: Path) -> None:
    flag = tmp_path / "begun"
    body = f"import time\nfrom pathlib import Path\nPath({str(flag)!r}).touch()\ntime.sleep(100)"
    place = install(tmp_path / "site", "slow", body, ADAPTERS)
    process = subprocess.Popen(
        [sys.executable, "-m", "arbench", "ls", "adapters"],
        env={**os.environ, "PYTHONPATH": str(place)}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # background jobs inherit that it is ignored
    )  # fmt: skip
    deadline = time.monotonic() + 60
    while not flag.exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "broken" not in err
