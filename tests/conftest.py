"""Shared by all tests: one torch thread, GPU tests deselected (and counted aloud) where there is no GPU."""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")

import gc
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

SLOW = (
    "test_end_to_end.py",
    "test_against_tools.py",
    "test_protocol_suites.py",
    "test_docs.py",
    "test_score_runs.py",
    "test_readme.py",
    "test_resume.py",
    "test_engine.py",
    "test_checkpoint_recipe.py",
    "test_score_command.py",
    "test_bombs.py",
    "test_floor.py",
    "test_ray.py",
    "test_second_wave.py",
    "test_check.py",
    "test_report_browser.py",
    "test_accessibility.py",
    "test_text_generator.py",
    "test_other_peoples_code.py",
)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    # the files that take minutes first, so that no process is left alone with one of them at the end
    items.sort(key=lambda item: SLOW.index(item.path.name) if item.path.name in SLOW else len(SLOW))
    if torch.cuda.is_available():
        return
    needs_gpu = [item for item in items if item.get_closest_marker("gpu")]
    if needs_gpu:
        config.hook.pytest_deselected(items=needs_gpu)
        items[:] = [item for item in items if item not in needs_gpu]
        config.stash[_LEFT_OUT] = len(needs_gpu)


_LEFT_OUT = pytest.StashKey[int]()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    left_out = config.stash.get(_LEFT_OUT, 0)
    if left_out:
        terminalreporter.write_line(f"{left_out} GPU tests did not run: this machine has no CUDA device")


@pytest.fixture(scope="module", autouse=True)
def collected() -> None:
    """What a module leaves alive is not work for the collector from then on: it grows to millions of objects."""
    gc.collect()
    gc.freeze()


def pytest_unconfigure() -> None:
    gc.unfreeze()  # libraries count what is left at the end


@pytest.fixture(scope="session")
def inception_state() -> dict[str, torch.Tensor]:
    """Weights of Inception-2015 that keep the size of activations through the depth: features are far from constant."""
    from arbench.features.networks.inception import uninitialised

    draw = torch.Generator().manual_seed(0)
    state = {}
    for name, tensor in uninitialised().state_dict().items():
        shape = tensor.shape
        normal = torch.randn(shape, generator=draw) if len(shape) else torch.zeros(())
        if name.endswith("conv.weight"):
            state[name] = normal * (2 / (shape[1] * shape[2] * shape[3])) ** 0.5
        elif name == "fc.weight":
            state[name] = normal * 0.05
        elif name.endswith(("bn.weight", "running_var")):
            state[name] = 1 + 0.3 * normal.tanh()
        elif not name.endswith("num_batches_tracked"):
            state[name] = 0.1 * normal
    return state


@pytest.fixture(scope="session")
def inception_file(inception_state, tmp_path_factory) -> Path:
    """Those weights in the layout of pytorch-fid and torch-fidelity, whose files hold the counters too."""
    from arbench.features.networks.inception import uninitialised

    path = tmp_path_factory.mktemp("weights") / "random.pth"
    names = [name for name in uninitialised().state_dict() if name.endswith("num_batches_tracked")]
    torch.save(inception_state | {name: torch.tensor(0) for name in names}, path)
    return path


@pytest.fixture(scope="session", autouse=True)
def no_cache_of_the_users(shared_cache: Path) -> Iterator[None]:
    """What a test starts finds its own cache, and leaves nothing in the home directory."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ARBENCH_CACHE", str(shared_cache))
        yield


@pytest.fixture(scope="session")
def shared_cache(tmp_path_factory, worker_id) -> Path:
    """One cache of reference features for all test processes: a file in it appears whole or not at all."""
    root = tmp_path_factory.getbasetemp()
    return (root if worker_id == "master" else root.parent) / "cache"
