"""Provenance: what is recorded of software, machine, weights and data."""

import platform
import subprocess
from importlib.metadata import version

import pytest
import torch

import arbench
from arbench.measure import provenance
from arbench.measure.threads import SAMPLING_THREADS
from arbench.spec.cell import Cell
from arbench.spec.suite import Settings
from arbench.tasks.generate import Generate
from arbench.tasks.reconstruct import Reconstruct
from arbench.tasks.speed import Speed


def cell(task, **data):
    return Cell(
        adapter="raster/none",
        kind="generator",
        family="raster",
        task=task,
        settings=Settings(),
        sampling=None,
        weights_sha256={"raster/none": "ab" * 32},
        data=data,
        settings_id="set-0",
        result_id="res-0",
    )


@pytest.mark.parametrize("task", [Generate(reference="mine"), Reconstruct(data="mine")])
def test_everything_that_can_change_a_number(task, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("SECRET_TOKEN", "hidden")
    found = provenance.provenance("cpu", cell(task, mine="cd" * 16), {"inception": "ef" * 32})
    assert found.arbench == arbench.__version__
    assert found.python == platform.python_version()
    assert found.packages["torch"] == version("torch")
    assert found.threads == torch.get_num_threads()
    assert found.sampling_threads == SAMPLING_THREADS
    assert found.weights == {"raster/none": "ab" * 32, "inception": "ef" * 32}
    assert found.data == {"mine": "cd" * 16}
    assert found.environment["OMP_NUM_THREADS"] == "1"
    assert found.environment["torch.float32_matmul_precision"] == torch.get_float32_matmul_precision()
    assert "hidden" not in found.model_dump_json()
    assert found.device.startswith("cpu: ")
    assert found.device.endswith("cores)")


def test_a_timing_has_no_data_and_no_threads_of_samples():
    found = provenance.provenance("cpu", cell(Speed()), {})
    assert (found.data, found.sampling_threads) == ({}, None)


def test_packages_that_are_not_installed_are_left_out():
    assert dict(provenance.packages(("numpy", "surely-not-installed"))) == {"numpy": version("numpy")}


def test_the_commit_is_of_the_package_and_not_of_a_folder_around_it(tmp_path):
    def git(*arguments):
        identity = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
        done = subprocess.run(["git", "-C", str(tmp_path), *identity, *arguments], check=True, capture_output=True)
        return done.stdout.decode().strip()

    mine, foreign = tmp_path / "mine", tmp_path / "site-packages" / "foreign"
    for folder in (mine, foreign):
        folder.mkdir(parents=True)
        (folder / "__init__.py").write_text("")
    assert provenance.commit(mine) == ""
    git("init", "-q")
    git("add", "mine")
    git("commit", "-qm", "first")
    git("tag", "v1")
    provenance.commit.cache_clear()
    assert provenance.commit(mine) == git("rev-parse", "HEAD")
    assert provenance.commit(foreign) == ""
    (mine / "__init__.py").write_text("x = 1")
    provenance.commit.cache_clear()
    assert provenance.commit(mine) == git("rev-parse", "HEAD") + "-dirty"
