"""Several processes that write to one place at once: each ends well, or says why not, and what is there is whole."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from arbench.files import remove_leftovers, replacing, write_atomic

COUNT = 4
SUITE = (
    "suite: s\nadapters: [raster/llamagen-mini]\ntasks:\n  - generate: {reference: mnist5k/heldout, n: 8, batch: 8}\n"
)
GATED = """
import sys, time
from pathlib import Path
gate = Path(sys.argv[1])
{imports}
gate.with_name(f"{{gate.name}}-{{sys.argv[2]}}").touch()
while not gate.exists():
    time.sleep(0.002)
try:
    for again in range({times}):
        {body}
except ArbenchError as error:
    sys.exit(str(error))
"""


def at_once(folder: Path, imports: str, body: str, times: int = 1) -> list[tuple[int, str]]:
    """Runs `body` in several processes that begin in the same moment; exit code and error text of each."""
    code = GATED.format(imports=f"from arbench.errors import ArbenchError\n{imports}", body=body, times=times)
    gate = folder / "gate"
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(gate), str(number)],
            cwd=folder, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        )
        for number in range(COUNT)
    ]  # fmt: skip
    deadline = time.monotonic() + 120
    while len(list(folder.glob("gate-*"))) < COUNT and time.monotonic() < deadline:
        time.sleep(0.01)
    gate.touch()
    found = []
    for process in processes:
        _, error = process.communicate(timeout=240)
        found.append((process.returncode, error))
    return found


SCORING = """
from arbench.score.folder import ScoreFolder
from arbench.spec.result import Metric, Result
def result(number):
    return Result(
        result_id=f"res-{number:012d}", settings_id="set-1", adapter="images", family="images", kind="images",
        task="score", parameters={}, sampling=None, load={}, outcome="ok",
        metrics=(Metric(name="fid", value=float(number), n=8, convention="adm"),), started="2000-01-01T00:01:00+00:00",
    )
"""


@pytest.mark.parametrize("which", ["the same result", "results of their own"])
def test_scores_into_one_folder(which: str, tmp_path: Path) -> None:
    number = "0" if which == "the same result" else "100 * int(sys.argv[2]) + again"
    body = f"ScoreFolder(Path('out'), 't', ()).add(result({number}), b'per image')"
    assert at_once(tmp_path, SCORING, body, times=5) == [(0, "")] * COUNT
    out = tmp_path / "out"
    cells = [json.loads(path.read_bytes()) for path in out.glob("cells/*/result.json")]
    assert len(cells) == (1 if which == "the same result" else 5 * COUNT)
    records = [json.loads(line) for line in (out / "journal.jsonl").read_text().splitlines()]
    assert [record["kind"] for record in records] == ["session", "started", "finished", "ended"] * 5 * COUNT
    assert json.loads((out / "run.json").read_bytes())["run_id"] == "out"
    import pyarrow.parquet as pq

    assert pq.read_table(out / "results.parquet").num_rows == len(cells)
    assert list(out.rglob(".*.tmp")) == []


STARTING = """
from arbench.run.start import start
from arbench.spec.suite_file import read
suite = read("./s.yaml", [], {})
"""


def test_runs_into_one_folder_one_gets_it(tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text(SUITE)
    done = at_once(tmp_path, STARTING, "start(suite, out=Path('out'), track='off', device='cpu')")
    assert sorted(code for code, _ in done) == [0, *[1] * (COUNT - 1)]
    assert all("next:" in error for code, error in done if code)
    assert (tmp_path / "out" / "run.json").exists()


def test_runs_that_begin_in_one_second_have_folders_of_their_own(tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text(SUITE)
    assert at_once(tmp_path, STARTING, "start(suite, track='off', device='cpu')") == [(0, "")] * COUNT
    runs = [json.loads(path.read_bytes())["run_id"] for path in (tmp_path / "runs").glob("*/run.json")]
    assert sorted(runs) == sorted(path.name for path in (tmp_path / "runs").iterdir())
    assert len(runs) == COUNT


def test_reports_to_one_file(tmp_path: Path) -> None:
    body = "write_report([Path('out')], Path('page.html'))"
    imports = f"{SCORING}\nfrom arbench.report.page import write_report"
    assert at_once(tmp_path, imports, "ScoreFolder(Path('out'), 't', ()).add(result(1), None)") == [(0, "")] * COUNT
    (tmp_path / "gate").unlink()
    for path in tmp_path.glob("gate-*"):
        path.unlink()
    assert at_once(tmp_path, imports, body, times=2) == [(0, "")] * COUNT
    assert (tmp_path / "page.html").read_text().rstrip().endswith("</html>")
    assert list(tmp_path.glob(".*.tmp")) == []


WRITING = """
import numpy as np
from types import SimpleNamespace as Made
from arbench.cli import export
class Stream:
    def __init__(self, cell): self.value = cell.value
    def __iter__(self):
        for index in range(20):
            yield Made(image=np.full((3, 8, 8), self.value, np.uint8), index=index)
export.CellStream = Stream
"""


def test_exports_into_one_folder_never_mix(tmp_path: Path) -> None:
    body = "export._folder(Made(value=10 * int(sys.argv[2]), count=20), Path('images'))"
    done = at_once(tmp_path, WRITING, body)
    assert sorted(code for code, _ in done) == [0, *[1] * (COUNT - 1)]
    assert all("is not empty" in error for code, error in done if code)
    assert len({path.read_bytes() for path in (tmp_path / "images").iterdir()}) == 1
    assert len(list((tmp_path / "images").iterdir())) == 20
    assert list(tmp_path.glob(".*")) == []


def test_a_resumed_run_leaves_alone_what_another_process_is_writing(tmp_path: Path) -> None:
    (tmp_path / ".left.1-x.tmp").write_bytes(b"of a killed process")
    with replacing(tmp_path / "page.html") as file:
        file.write(b"half")
        remove_leftovers(tmp_path)
        assert len(list(tmp_path.glob(".*.tmp"))) == 1
        file.write(b" and half")
    assert (tmp_path / "page.html").read_bytes() == b"half and half"
    write_atomic(tmp_path / "page.html", b"again")
    assert [path.name for path in tmp_path.iterdir()] == ["page.html"]
