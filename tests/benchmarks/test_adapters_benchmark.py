"""The plain loops of `benchmarks/plain_loops.py` and ours draw the same samples, from the same probabilities."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from arbench.protocols import Sampling
from arbench.registry import card
from arbench.registry import cards as every_card
from arbench.seeds import Greedy, Philox, noise_for, sample_seed

FOLDER = Path(__file__).parents[2] / "benchmarks"
SYSTEMS = ("LlamaGen", "RAR", "RandAR", "VAR", "MAR", "HART")
DISCRETE = tuple(name for name in SYSTEMS if name != "MAR")
BATCH = 5


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def loops(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    return imported("plain_loops", monkeypatch)


def imported(name: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(FOLDER)
    monkeypatch.delitem(sys.modules, name, raising=False)  # there is a package of the name "adapters" as well
    return importlib.import_module(name)


class Seen(Philox):
    """Noise that keeps the probabilities that are drawn from, in the order of drawing."""

    def __init__(self, batch: int) -> None:
        super().__init__([sample_seed(7, sample) for sample in range(batch)])
        self.probabilities: list[Tensor] = []

    def categorical(self, probabilities: Tensor, stream: str, start: int = 0) -> Tensor:
        self.probabilities.append(probabilities)
        return super().categorical(probabilities, stream, start)


SECOND = (
    *("D-AR", "taming", "RQ-Transformer", "ARPG", "LPD", "NAR", "PAR", "DetailFlow", "TiTok", "TiTok U-ViT", "MaskBit"),
    *("Halton-MaskGIT", "FlexVAR", "Infinity", "FlowAR", "DiSA FlowAR", "xAR", "DiSA xAR", "DiSA MAR", "FAR", "ARINAR"),
    *("TransDiff", "TransDiff MRAR", "ACDiT", "BitDance", "BitDance 4x", "FractalGen AR", "FractalGen MAR"),
)
WITHOUT = {"cca_llamagen", "npp", "cca_var", "distilled_decoding"}
"""Other weights of LlamaGen and VAR, and one or two whole passes: there is no loop."""


def test_all_systems_have_a_loop(loops: ModuleType) -> None:
    assert loops.NAMES == SYSTEMS + SECOND
    cards = [loops.card_of(name, "tiny")[0] for name in SYSTEMS]
    cards += [small.card for small in loops.systems("tiny").values()]
    generators = [each for each in every_card().values() if each.kind == "generator"]
    folders = [{each.implementation.split(".")[3] for each in some} for some in (generators, cards)]
    assert folders[0] - folders[1] == WITHOUT


@pytest.mark.parametrize("name", SECOND)
def test_samples_equal_those_of_the_plain_loop(name: str, loops: ModuleType) -> None:
    system = loops.build(name, "tiny")
    (ids, numbers), plain = (
        loop(system.request(3, noise_for(3, range(3)))) for loop in (system.by_ours, system.by_plain)
    )
    if ids is None:
        assert numbers.std() > 0
        assert (numbers - plain[1]).norm() <= 1e-5 * plain[1].norm()
    else:
        assert torch.equal(ids, plain[0])
        assert len(ids.unique()) > 1


@pytest.mark.parametrize("name", SYSTEMS)
@pytest.mark.parametrize("how", ["greedy", "drawn", "filtered"])
def test_tokens_equal_those_of_the_plain_loop(name: str, how: str, loops: ModuleType) -> None:
    system = loops.build(name, "tiny")
    sampling: Sampling = system.sampling
    if how == "filtered" and "top_k" in system.model.card.supports:
        sampling = sampling.model_copy(update={"top_k": 9, "top_p": 0.9, "temperature": 0.8})

    def drawn(loop: Any) -> Any:
        noise = Greedy(BATCH) if how == "greedy" else noise_for(3, range(BATCH))
        return loop(system.request(BATCH, noise), sampling)

    ours, plain = drawn(system.by_ours), drawn(system.by_plain)
    assert (ours[0] is None) == (name == "MAR")
    if ours[0] is not None:
        assert ours[0].shape == (BATCH, system.tokens)
        assert torch.equal(ours[0], plain[0])
        assert len(ours[0].unique()) > 3  # not one token all over
    if plain[1] is not None:
        assert (ours[1] - plain[1]).norm() <= 1e-5 * plain[1].norm()


@pytest.mark.parametrize("name", DISCRETE)
def test_probabilities_equal_those_without_a_cache(name: str, loops: ModuleType) -> None:
    system = loops.build(name, "tiny")
    cached, uncached = Seen(BATCH), Seen(BATCH)
    system.by_ours(system.request(BATCH, cached))
    system.by_plain(system.request(BATCH, uncached))
    assert len(cached.probabilities) == len(uncached.probabilities) > 2
    for ours, plain in zip(cached.probabilities, uncached.probabilities, strict=True):
        assert ours.shape == plain.shape
        assert (ours - plain).norm() <= 1e-5 * plain.norm()


def test_loops_with_other_weights_differ(loops: ModuleType) -> None:
    """So that the tests above can fail: a change in one loop's network is seen in its tokens."""
    one, other = loops.build("RAR", "tiny"), loops.build("RAR", "tiny")
    other.model.network.head.weight.mul_(1.5)
    ours, theirs = one.by_ours(one.request(BATCH))[0], other.by_plain(other.request(BATCH))[0]
    assert not torch.equal(ours, theirs)


def test_a_comparison_counts_samples_that_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = imported("adapters", monkeypatch)
    ids = torch.tensor([[1, 2], [3, 4], [5, 6]])
    assert bench.same_samples((ids, None), (ids.clone(), None)) == 3
    assert bench.same_samples((ids, None), (torch.tensor([[1, 2], [3, 0], [5, 6]]), None)) == 2
    values = torch.ones(3, 4)
    assert bench.same_samples((ids, values), (ids, values * torch.tensor([[1.0], [1.0], [1.1]]))) == 2
    times = iter(float(t) for t in (0, 1, 1, 3, 3, 7, 7, 8))  # the plain loop is the first in the second turn
    system = importlib.import_module("plain_loops").build("VAR", "tiny")
    row = bench.against_plain(system, 2, 2, lambda: next(times))
    assert (row.ours_s, row.plain_s, row.ratio, row.same) == (1.0, 3.0, 3.0, 2)
    assert row.interval is None
    interval = importlib.import_module("clocks_and_tables").median_interval
    assert interval([3.0, 1.0, 2.0, 6.0, 5.0]) is None
    assert interval([3.0, 1.0, 2.0, 6.0, 5.0, 4.0]) == (1, 6)  # 1 of 32 sets of six lies on one side of the median
    assert interval([float(i) for i in range(9)]) == (1, 7)
    assert row.rate(0.5) == (2 * 14 / 0.5, 4.0)


def test_official_sizes_are_measured_like_this_one(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = imported("official_sizes", monkeypatch)
    mini = card("next_scale/var-mini")
    small, large = bench.measure(mini, (1, 3), "cpu", calls=1)
    assert (small.adapter, small.batch, large.batch) == (mini.name, 1, 3)
    assert small.images_per_second > 0
    assert small.peak_bytes is None
    assert (small.forwards, small.peer_per_second, small.ratio, small.kernels) == (8, None, None, None)
    names = [each.name for each in bench.official_cards()]
    assert len(names) > 20
    assert not any("mini" in name for name in names)


def test_a_peer_is_measured_beside_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bench, mini = imported("official_sizes", monkeypatch), card("next_scale/var-mini")
    lines = (
        "calls = []",
        "def theirs(adapter, batch, device, dtype):",
        "    return None if batch == 1 else lambda: calls.append((adapter, batch, device, dtype))",
    )
    (tmp_path / "peer.py").write_text("\n".join(lines))
    peer = bench.peer_of(f"{tmp_path}/peer.py:theirs")
    small, large = bench.measure(mini, (1, 3), "cpu", "float32", calls=2, peer=peer, bandwidth=1e9)
    assert peer.__globals__["calls"] == [(mini.name, 3, "cpu", "float32")] * 3  # once before it is timed
    assert small.peer_per_second is None
    assert large.ratio == pytest.approx(large.images_per_second / large.peer_per_second)
    seconds = 3 / large.images_per_second
    assert large.bandwidth_share == pytest.approx(4 * mini.parameters * 8 / 1e9 / seconds)
    for wrong, why in ((f"{tmp_path}/none.py:theirs", "FILE.py:NAME"), (f"{tmp_path}/peer.py:ours", "has no 'ours'")):
        with pytest.raises(ValueError, match=why):
            bench.peer_of(wrong)


def test_the_command_prints_a_table_and_writes_its_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    bench, out = imported("adapters", monkeypatch), tmp_path / "numbers.json"
    words = ["--systems", "VAR", "--batches", "1", "--repeats", "1", "--json", str(out)]
    monkeypatch.setattr(sys, "argv", ["adapters.py", *words])
    bench.main()
    shown = capsys.readouterr().out
    assert "| VAR | 155 | 1 |" in shown
    assert "| 1 of 1 |" in shown
    (row,) = json.loads(out.read_text())["rows"]
    assert row["ratio"] == pytest.approx(row["plain_s"] / row["ours_s"])


def test_official_sizes_need_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = imported("adapters", monkeypatch)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(sys, "argv", ["adapters.py", "--official"])
    with pytest.raises(SystemExit, match="needs a CUDA device"):
        bench.main()


WAITS = {"_local_scalar_dense", "nonzero", "masked_select", "_unique2", "equal", "is_nonzero", "lift_fresh"}
"""Operations for which the host waits until a GPU has the number, or for which it copies numbers there."""


class Waits(TorchDispatchMode):
    """Counts them. An index by a mask counts as well: its size is only known once the mask is."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.name().removeprefix("aten::")
        masks = name.startswith("index.") and any(each is not None and each.dtype == torch.bool for each in args[1])
        if name in WAITS or masks or name == "repeat_interleave.Tensor":
            self.seen.append(name)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("name", SYSTEMS)
def test_no_loop_makes_the_host_wait(name: str, loops: ModuleType) -> None:
    system = loops.build(name, "tiny")
    system.by_ours(system.request(2))
    request = system.request(2)
    with Waits() as waits:
        system.by_ours(request)
    assert len(waits.seen) <= 1  # the time steps of a diffusion head, copied without waiting, once
    assert set(waits.seen) <= {"lift_fresh"}
    with Waits() as waits:
        int(torch.ones(3)[torch.ones(3, dtype=torch.bool)].sum().item())
    assert len(waits.seen) == 2  # such things would be seen
