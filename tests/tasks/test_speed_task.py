"""The speed task on a clock moved by the adapter itself: latencies, phases and flags are then known exactly."""

import time
from dataclasses import astuple
from itertools import count
from types import SimpleNamespace
from typing import ClassVar

import numpy as np
import pytest
import tiny_adapters
import torch
from tiny_adapters import Blocks, Tinted

from arbench import registry
from arbench.errors import CellError
from arbench.images import unpack
from arbench.measure.clock import FakeClock
from arbench.measure.device_rates import Rates
from arbench.measure.guard import Reading, cores
from arbench.measure.kernels import Launched
from arbench.measure.probe import HostStamps
from arbench.protocols import NO_PROBE, Codes, Generated, Recorded
from arbench.spec.task import tasks
from arbench.spec.unit import Unit
from arbench.tasks.outputs import synthetic_images
from arbench.tasks.speed import Speed, numbers, served
from arbench.tasks.speed.work import SpeedWork

CLOCK = FakeClock()
OVERHEAD = 0.25


QUIET = Reading(0, 0, 0, 0)


def unit(batch):
    return Unit(index=0, start=batch, stop=batch)


class Clocked(Tinted):
    """Takes 1 s outside of phases, 2 s prefill and 3 steps of 1, 2 and 3 s a call, half of each inside `inner`."""

    @classmethod
    def load(cls, card, spec, tokenizer):
        CLOCK.advance(11)
        return super().load(card, spec, tokenizer)

    def prepare(self, batch, sampling):
        CLOCK.advance(5 * batch)
        super().prepare(batch, sampling)

    def sample(self, request, sampling, *, probe=NO_PROBE):
        CLOCK.advance(1 if probe is NO_PROBE else 1 + OVERHEAD)
        with probe("prefill"):
            CLOCK.advance(2)
            ids = self.draw(request)
        for index in range(3):
            with probe("ar", index=index, tokens=1):
                CLOCK.advance((index + 1) / 2)
                with probe("inner"):
                    CLOCK.advance((index + 1) / 2)
        return Generated(codes=Codes(ids=(ids,)), outer_steps=3, forwards=6)


class ClockedBlocks(Blocks):
    """4 s to encode, 8 s to decode."""

    def encode(self, images, *, noise=None):
        CLOCK.advance(4)
        return super().encode(images)

    def decode(self, codes, *, probe=NO_PROBE):
        with probe("decode"):
            CLOCK.advance(8)
        return super().decode(codes, probe=NO_PROBE)


@pytest.fixture
def clocked(monkeypatch):
    cards = {
        "raster/tinted": tiny_adapters.card("raster/tinted", implementation="clocked:Clocked"),
        "tokenizers/blocks": tiny_adapters.card("tokenizers/blocks", implementation="clocked:ClockedBlocks"),
    }
    classes = {"clocked:Clocked": Clocked, "clocked:ClockedBlocks": ClockedBlocks}
    monkeypatch.setattr(registry, "cards", lambda: cards)
    monkeypatch.setattr(registry, "resolve", classes.__getitem__)
    return SpeedWork(lambda device: CLOCK, lambda device: HostStamps(CLOCK.now), look=lambda: QUIET)


def by_key(finished):
    """By name, batch size, operation and phase, as far as a number has them."""
    places = [], ["batch"], ["batch", "operation"], ["batch", "operation", "phase"], ["rate"], ["bound"]
    assert all(list(metric.at) in places for metric in finished.metrics)
    found = {(metric.name, *metric.at.values()): metric for metric in finished.metrics}
    assert len(found) == len(finished.metrics)
    return found


def test_generator_latency_phases_and_counts(clocked, cell, through):
    task = Speed(batches=(1, 4), min_calls=10, min_seconds=1, max_seconds=500)
    finished, _ = through(cell("raster/tinted", task), clocked)
    metrics = by_key(finished)
    latency = metrics["latency", 1, "sample"]  # 1 outside + 2 prefill + 6 steps + 8 decode
    assert latency.value == pytest.approx(17)
    assert (latency.unit, latency.direction, latency.measure, latency.n) == ("s", "lower", "speed", 10)
    assert (latency.interval.low, latency.interval.high) == pytest.approx((17, 17))
    assert latency.interval.method == "order statistics of calls"
    assert latency.interval.covers == "value"
    assert latency.flags == ()
    assert metrics["images-per-second", 4, "sample"].value == pytest.approx(4 / 17)
    assert metrics["images-per-second", 4, "sample"].direction == "higher"
    assert metrics["latency-spread", 1, "sample"].value == pytest.approx(0, abs=1e-12)
    assert metrics["first-call", 1, "sample"].value == pytest.approx(17)
    assert metrics["load",].value == pytest.approx(11)
    assert metrics["prepare", 4].value == pytest.approx(20)
    assert metrics["probe-overhead", 1, "sample"].value == pytest.approx(OVERHEAD / 17)
    assert metrics["phase-closure", 1, "sample"].value == pytest.approx(16 / (17 + OVERHEAD))
    assert metrics["phase-closure", 1, "sample"].flags == ("open_phases",)
    assert (metrics["steps",].value, metrics["forwards",].value) == (3, 6)
    assert metrics["inner-steps",].value == 0  # it reads no weights
    exact = {name for name, *_ in (key for key, metric in metrics.items() if metric.measure != "speed")}
    assert exact == {
        "steps",
        "forwards",
        "tokens",
        "flops",
        "traffic",
        "operations",
        "weight-passes",
        "inner-steps",
        "kernels",
    }


def test_what_a_first_call_compiles_is_part_of_prepare(clocked, cell, through):
    task = Speed(batches=(1,), min_calls=3, min_seconds=1, max_seconds=500)
    finished, _ = through(cell("raster/tinted", task, compile=True), clocked)
    metrics = by_key(finished)
    assert metrics["prepare", 1].value == pytest.approx(5 + 17)
    assert metrics["first-call", 1, "sample"].value == pytest.approx(17)


class Weighed(Clocked):
    """Each of its 3 steps multiplies the batch, guided, by a matrix of 64 x 64 float32."""

    def sample(self, request, sampling, *, probe=NO_PROBE):
        generated = super().sample(request, sampling, probe=probe)
        for index in range(3):
            with probe("ar", index=index, tokens=1):
                self.weight @ torch.ones(64, 2 * len(request.sample_ids))
        return generated

    weight = torch.ones(64, 64)


def test_counts_and_the_time_they_take_at_least(clocked, cell, through, monkeypatch):
    monkeypatch.setattr(registry, "resolve", {"clocked:Clocked": Weighed, "clocked:ClockedBlocks": ClockedBlocks}.get)
    work = SpeedWork(
        lambda device: CLOCK,
        lambda device: HostStamps(CLOCK.now),
        lambda device, dtype: Rates(1e3, 1e3),
        look=lambda: QUIET,
    )
    finished, _ = through(cell("raster/tinted", Speed(batches=(1, 4), min_calls=6, max_seconds=500)), work)
    metrics = by_key(finished)
    assert metrics["kernels", 1, "sample"].reason == "only a GPU has kernels to launch"
    for batch in (1, 4):
        at = batch, "sample"
        assert metrics["flops", *at].value == 3 * 2 * 64 * 64 * 2 * batch
        assert metrics["flops", *at].extras["ar"] == metrics["flops", *at].value
        assert metrics["weight-passes", *at, "ar"].value == 3
        assert metrics["traffic", *at].extras["weights"] >= 3 * 4 * 64 * 64
        assert metrics["speed-of-light", *at].value == pytest.approx(
            max(metrics["flops", *at].value, metrics["traffic", *at].extras["weights"]) / 1e3, rel=0.05
        )
        assert metrics["limit-share", *at].value == metrics["speed-of-light", *at].value / metrics["latency", *at].value
        assert metrics["limit-share", *at].flags == ("above_limit",)  # it computes in no time at all
    assert metrics["tokens",].value == 6
    assert (metrics["copy-bandwidth",].value, metrics["matrix-rate",].value) == (1e3, 1e3)


def test_kernels_are_of_whole_calls_without_marks(clocked, cell, through):
    """Each operation of a call, stood in for by a kernel, and the decoder's too."""
    seen = []

    def launched(call, device):
        call()
        seen.append((device, CLOCK.now()))
        return Launched(485, 3)

    work = SpeedWork(
        lambda device: CLOCK, lambda device: HostStamps(CLOCK.now), look=lambda: QUIET, kernels_of=launched
    )
    finished, _ = through(cell("raster/tinted", Speed(batches=(1, 4), processes=2, min_calls=3, max_seconds=500)), work)
    metrics = by_key(finished)
    assert len(seen) == 2, "in the first process of each batch size"
    assert metrics["kernels", 4, "sample"].value == 485
    assert metrics["kernels", 4, "sample"].extras == {"copies": 3}
    assert metrics["kernels", 4, "sample"].reason == ""


def test_decoder_in_and_out_are_both_there(clocked, cell, through):
    metrics = by_key(through(cell("raster/tinted", Speed(batches=(1, 4), max_seconds=500)), clocked)[0])
    assert metrics["latency", 4, "sample"].value == pytest.approx(17)
    assert metrics["latency", 4, "draw"].value == pytest.approx(9)
    assert metrics["images-per-second", 4, "draw"].value == pytest.approx(4 / 9)
    assert metrics["latency", 4, "draw"].interval.low == pytest.approx(9)


def test_without_a_tokenizer_there_is_no_decoder_to_leave_out(cell, through):
    metrics = by_key(through(cell("raster/direct", Speed(batches=(1,), min_calls=3, min_seconds=0)))[0])
    assert metrics["latency", 1, "draw"].value is None
    assert "without a decoder" in metrics["latency", 1, "draw"].reason


def test_the_batch_that_saturates():
    """A call takes 1 s and 0.1 s an image: throughput rises to 10 images/s."""
    sweep = {batch: batch / (1 + 0.1 * batch) for batch in (1, 16, 64, 256, 1024)}
    best, batch = numbers.saturation(sweep)
    assert (best.value, batch.value) == (sweep[1024], 256)
    _, none = numbers.saturation({1: 1.0, 4: 2.0})
    assert (none.value, none.reason) == (None, "still rising at batch 4, the largest measured")


def test_one_call_is_one_call():
    assert numbers.too_few(1, 0.9) == "1 call; a 90th percentile needs 29"
    assert numbers.too_few(29, 0.9) == ""


def test_a_server_of_fixed_calls(clocked, cell, through, monkeypatch):
    """A call takes 17 s whatever its batch: one at a time 1 image in 17 s, four at a time 4."""
    monkeypatch.setattr(served, "REQUESTS", 2000)
    task = Speed(batches=(1, 4), max_seconds=500, arrivals=(0.01, 0.1, 0.3), bound=34.0)
    metrics = by_key(through(cell("raster/tinted", task), clocked)[0])
    assert metrics["response-p50", 0.01].value == pytest.approx(17)
    assert 17 < metrics["response-p50", 0.1].value < metrics["response-p95", 0.1].value < 60
    assert metrics["response-p95", 0.3].value is None
    assert metrics["response-p95", 0.3].reason == "the queue grows without end: 0.2353 images/s are served"
    assert 0.01 < metrics["rate-within-bound", 34.0].value < 4 / 17
    assert metrics["response-p95", 0.1].how.endswith("seed 0; simulated")
    slow = by_key(through(cell("raster/tinted", Speed(batches=(1,), max_seconds=500, bound=16.0)), clocked)[0])
    assert slow["rate-within-bound", 16.0].reason == "one request alone takes longer than 16 s"


def test_a_tokenizer_serves_no_requests(clocked, cell, through):
    task = Speed(batches=(1,), min_calls=3, max_seconds=500, arrivals=(0.1,), bound=34.0)
    metrics = by_key(through(cell("tokenizers/blocks", task), clocked)[0])
    for key in (("response-p50", 0.1), ("response-p95", 0.1), ("rate-within-bound", 34.0)):
        assert metrics[key].value is None
        assert metrics[key].reason == "a server is asked for images: for generators"


@pytest.mark.parametrize(
    ("recorded", "said", "flag"),
    [
        (Recorded(True), "each call one replayed CUDA graph", "eager_phases"),
        (Recorded(False, "reads a number, in a.py, line 3"), "no CUDA graph: reads a number, in a.py, line 3", ""),
        (Recorded(False), "", ""),
    ],
)
def test_a_replayed_call_says_so_and_that_its_phases_are_eager(
    clocked, cell, through, monkeypatch, recorded, said, flag
):
    monkeypatch.setattr(Clocked, "recorded", lambda self, batch, sampling: recorded, raising=False)
    finished, _ = through(cell("raster/tinted", Speed(batches=(1,), min_calls=3, max_seconds=500)), clocked)
    metrics = by_key(finished)
    how = metrics["latency", 1, "sample"].how
    assert how.endswith(f"; {said}" if said else "synchronisation")
    for name in ("probe-overhead", "phase-closure"):
        metric = metrics[name, 1, "sample"]
        assert (flag in metric.flags) == bool(flag)
        assert ("phases are of eager calls, 1.01 times as long" in metric.how) == bool(flag)


def test_phases_are_exclusive_and_their_shares_add_up(clocked, cell, through):
    finished, _ = through(cell("raster/tinted", Speed(batches=(2,), min_calls=3, max_seconds=500)), clocked)
    (record,) = finished.speed
    assert (record.batch, record.operation) == (2, "sample")
    assert record.seconds == pytest.approx(17)
    phases = {phase.phase: (phase.seconds, phase.calls) for phase in record.phases}
    assert phases == {
        "prefill": (pytest.approx(2), 1),
        "ar": (pytest.approx(3), 3),
        "inner": (pytest.approx(3), 3),
        "decode": (pytest.approx(8), 1),
        "gap": (pytest.approx(1 + OVERHEAD), 1),
    }
    assert list(phases) == ["prefill", "ar", "inner", "decode", "gap"]
    assert sum(phase.share for phase in record.phases) == pytest.approx(1)


def test_raw_seconds_and_the_step_curve_are_kept(clocked, cell, through):
    finished, _ = through(cell("raster/tinted", Speed(batches=(1, 4), min_calls=7, max_seconds=500)), clocked)
    raw = unpack(finished.latency)
    assert raw["batch"].tolist() == [1, 4]
    assert raw["operation"].tolist() == ["sample", "sample"]
    np.testing.assert_allclose(raw["seconds"], np.full((2, 7), 17))
    np.testing.assert_allclose(raw["warmup"], np.full((2, 3), 17))
    np.testing.assert_allclose(raw["steps"], np.tile([1, 2, 3], (2, 5, 1)))
    np.testing.assert_allclose(raw["traced"], np.full((2, 5), 17 + OVERHEAD))


def test_raw_seconds_of_different_numbers_of_calls_are_filled_up(clocked, cell, through):
    """Of a unit of an earlier session that had more patience, for instance."""
    one = cell("raster/tinted", Speed(batches=(1,), min_calls=7, max_seconds=500))
    two = cell("raster/tinted", Speed(batches=(4,), min_calls=4, max_seconds=500, interval=None))
    (first,), (second,) = (through(each, clocked)[1] for each in (one, two))
    raw = unpack(clocked.finish(one, [first, second], SimpleNamespace(device="cpu")).latency)
    assert raw["seconds"].shape == (2, 7)
    assert np.isnan(raw["seconds"]).tolist() == [[False] * 7, [False] * 4 + [True] * 3]
    np.testing.assert_allclose(raw["seconds"][1, :4], 17)


def test_few_calls_give_no_interval_and_no_percentile(clocked, cell, through):
    finished, _ = through(cell("raster/tinted", Speed(batches=(1,), min_calls=10, max_seconds=60)), clocked)
    metrics = by_key(finished)
    assert metrics["latency", 1, "sample"].n == 4
    assert metrics["latency", 1, "sample"].interval is None
    assert set(metrics["latency", 1, "sample"].flags) == {"few_calls", "no_interval"}
    assert metrics["latency-p90", 1, "sample"].value is None
    assert metrics["latency-p90", 1, "sample"].reason == "4 calls; a 90th percentile needs 29"
    assert metrics["latency-p99", 1, "sample"].reason == "4 calls; a 99th percentile needs 299"
    assert metrics["latency-device", 1, "sample"].value is None
    assert metrics["latency-device", 1, "sample"].reason == "only a GPU has a clock of its own"


@pytest.mark.parametrize("guard", [(), ("busy",)])
def test_the_interval_over_three_processes_is_of_another_run(clocked, cell, through, monkeypatch, guard):
    """Each process is slower than the one before it, and within one all calls are alike."""
    task = Speed(batches=(4,), processes=3, min_calls=10, min_seconds=0, max_seconds=500)
    names = [unit.name for unit in tasks()["speed"].units(task)]
    assert names == ["000004-000004", "000004-000005", "000004-000006"]
    assert tasks()["speed"].fresh_units(task)
    extra = iter((0, 1, 2))
    measure = clocked.measure
    monkeypatch.setattr(clocked, "measure", lambda *given: slower(measure(*given), next(extra), guard))
    finished, _ = through(cell("raster/tinted", task), clocked)
    metrics = by_key(finished)
    latency = metrics["latency", 4, "sample"]
    logs = np.log([17, 18, 19])
    # Student's t at 97.5 % with 2 degrees of freedom; of processes that are alike, or of a random walk
    reach = 4.302653 * logs.std(ddof=1) * (38 / 12 if guard else 2 / 3) ** 0.5
    assert latency.value == pytest.approx(np.exp(logs.mean()))
    assert (latency.interval.low, latency.interval.high) == pytest.approx(
        (np.exp(logs.mean() - reach), np.exp(logs.mean() + reach))
    )
    text = "Student's t over 3 processes, for another run of as many"
    assert latency.interval.method == text + (" on a machine that was not steady" if guard else "")
    assert latency.interval.covers == "another run"
    assert latency.n == 30
    assert latency.flags == guard  # the steps between processes are not drift
    assert metrics["latency-p90", 4, "sample"].value == pytest.approx(19)
    assert unpack(finished.latency)["seconds"].shape == (1, 30)


def slower(arrays, seconds, guard):
    return arrays | {
        "sample_seconds": arrays["sample_seconds"] + seconds,
        "sample_guard": np.array(guard, dtype="U24"),
    }


def test_a_percentile_where_there_are_enough_calls(clocked, cell, through):
    finished, _ = through(cell("raster/tinted", Speed(batches=(1,), min_calls=29, max_seconds=500)), clocked)
    metrics = by_key(finished)
    assert metrics["latency-p90", 1, "sample"].value == pytest.approx(17)
    assert metrics["latency-p95", 1, "sample"].value is None


def test_a_tokenizer_is_timed_in_both_directions_apart(clocked, cell, through):
    finished, _ = through(cell("tokenizers/blocks", Speed(batches=(2,), min_calls=6, max_seconds=500)), clocked)
    metrics = by_key(finished)
    assert metrics["latency", 2, "encode"].value == pytest.approx(4)
    assert metrics["latency", 2, "decode"].value == pytest.approx(8)
    assert metrics["images-per-second", 2, "decode"].value == pytest.approx(2 / 8)
    assert metrics["phase-closure", 2, "encode"].value == pytest.approx(1)
    assert [record.operation for record in finished.speed] == ["encode", "decode"]
    assert not {"steps", "forwards", "prepare"} & {metric.name for metric in finished.metrics}
    raw = unpack(finished.latency)
    assert (raw["batch"].tolist(), raw["operation"].tolist()) == ([2, 2], ["encode", "decode"])
    np.testing.assert_allclose(raw["seconds"], [[4] * 6, [8] * 6])


def test_every_call_asks_for_other_samples(cell, context):
    seen = []

    generator = context.generator(cell("raster/tinted", Speed()))
    draw = generator.draw
    generator.draw = lambda request: (seen.append(request.sample_ids), draw(request))[1]
    one = cell("raster/tinted", Speed(batches=(3,), min_calls=3, min_seconds=0))
    SpeedWork().measure(one, unit(3), context)
    flat = [sample_id for ids in seen for sample_id in ids]
    assert flat == list(range(len(flat)))
    assert all(len(ids) == 3 for ids in seen)


def test_a_cached_output_is_flagged(cell, through):
    finished, _ = through(cell("raster/constant", Speed(batches=(1,), min_calls=3, min_seconds=0)))
    assert "repeated_output" in by_key(finished)["latency", 1, "sample"].flags


def test_real_time_of_a_model_without_tokenizer(cell, through):
    finished, units = through(cell("raster/direct", Speed(batches=(1,), min_calls=6, min_seconds=0)))
    metrics = by_key(finished)
    seconds = units[0]["sample_seconds"]
    assert metrics["latency", 1, "sample"].value == np.median(seconds)
    assert seconds.min() <= metrics["latency", 1, "sample"].interval.low <= metrics["latency", 1, "sample"].value
    (record,) = finished.speed
    assert [phase.phase for phase in record.phases] == ["gap"]
    assert metrics["phase-closure", 1, "sample"].value == 0


def test_counts_that_an_adapter_does_not_give_are_null(cell, through):
    metrics = by_key(through(cell("raster/constant", Speed(batches=(1,), min_calls=3, min_seconds=0)))[0])
    assert metrics["steps",].value is None
    assert metrics["steps",].reason == "the adapter does not count them"


@pytest.mark.parametrize(
    ("adapter", "message"),
    [
        ("raster/short", r"raster/short: token ids of shapes \[\(2, 64\)\] expected"),
        ("raster/mute", "raster/mute: `sample` returns codes"),
        ("raster/signed", r"raster/signed: images in \[0, 1\] expected"),
        ("raster/wide", r"images of shape \(2, 3, 32, 32\) expected"),
    ],
)
def test_wrong_outputs_are_named(cell, context, adapter, message):
    one = cell(adapter, Speed(batches=(2,), min_calls=3, min_seconds=0))
    with pytest.raises(CellError, match=message):
        SpeedWork().measure(one, unit(2), context)


def test_synthetic_images_are_smooth_distinct_and_the_same_in_any_batch():
    images = synthetic_images(0, range(6), 32, "cpu")
    assert images.shape == (6, 3, 32, 32)
    assert 0 < images.min() < 0.3 < 0.7 < images.max() < 1
    assert (images.diff(dim=-1).abs().mean() < 0.1).item()
    np.testing.assert_array_equal(images[4:5], synthetic_images(0, [4], 32, "cpu"))
    assert not (images[0] == images[1]).all()


# ---- adapters that misbehave in a known way --------------------------------------------------------------------------


class Slowing(Clocked):
    """Each call takes 1 % longer than the one before it."""

    calls = 0

    def sample(self, request, sampling, *, probe=NO_PROBE):
        self.calls += 1
        CLOCK.advance(0.17 * self.calls)
        return super().sample(request, sampling, probe=probe)


def test_calls_that_slow_down_are_flagged(clocked, cell, through, monkeypatch):
    monkeypatch.setattr(registry, "resolve", {"clocked:Clocked": Slowing, "clocked:ClockedBlocks": ClockedBlocks}.get)
    finished, _ = through(cell("raster/tinted", Speed(batches=(1,), max_seconds=500)), clocked)
    assert by_key(finished)["latency", 1, "sample"].flags == ("drift",)


def test_what_others_did_meanwhile_is_flagged_where_the_number_stands(clocked, cell, through):
    """In each look 10 s have passed, in which others used 3 cores and the host took 1 core."""
    step = Reading(wall=10, busy=35, own=5, stolen=10)
    looks = (Reading(*(index * each for each in astuple(step))) for index in count())
    work = SpeedWork(lambda device: CLOCK, lambda device: HostStamps(CLOCK.now), look=lambda: next(looks))
    metrics = by_key(through(cell("raster/tinted", Speed(batches=(1,), max_seconds=500)), work)[0])
    assert metrics["other-load", 1, "sample"].value == pytest.approx(3)
    assert metrics["stolen-time", 1, "sample"].value == pytest.approx(1 / cores())
    for name, operation in (("latency", "sample"), ("images-per-second", "sample"), ("latency", "draw")):
        assert set(metrics[name, 1, operation].flags) == {"busy", "stolen_time"}


def test_an_image_that_is_not_finite_stops_the_cell(cell, context):
    one = cell("raster/diverging", Speed(batches=(4,), min_calls=3, min_seconds=0))
    with pytest.raises(CellError, match=r"raster/diverging: .*finite"):
        SpeedWork().measure(one, unit(4), context)


class Sleeper(Tinted):
    """Sleeps 10 ms to prefill, in each of 3 steps and to decode, and keeps a log of how long that really took."""

    log: ClassVar[list[tuple[str, float]]] = []

    @classmethod
    def nap(cls, phase):
        start = time.perf_counter()
        time.sleep(0.010)
        cls.log.append((phase, time.perf_counter() - start))

    def sample(self, request, sampling, *, probe=NO_PROBE):
        start = time.perf_counter()
        with probe("prefill"):
            self.nap("prefill")
        for index in range(3):
            with probe("ar", index=index, tokens=1):
                self.nap("ar")
        with probe("decode"):
            self.nap("decode")
        grey = torch.full((1, 3, tiny_adapters.SIDE, tiny_adapters.SIDE), len(self.log) % 997 / 997)
        self.log.append(("all", time.perf_counter() - start))
        return Generated(images=grey)


def test_known_sleeps_are_measured_as_they_were(cell, through, monkeypatch):
    """Against the adapter's own log, as a busy machine wakes a sleeper late."""
    sleeping = tiny_adapters.card("raster/direct", tokenizer=None, implementation="sleeper:Sleeper")
    monkeypatch.setattr(registry, "cards", lambda: {"raster/direct": sleeping})
    monkeypatch.setattr(registry, "resolve", lambda name: Sleeper if name == "sleeper:Sleeper" else SpeedWork)
    Sleeper.log.clear()
    finished, (unit,) = through(cell("raster/direct", Speed(batches=(1,), min_calls=8, min_seconds=0, interval=None)))
    metrics = by_key(finished)
    whole = [seconds for phase, seconds in Sleeper.log if phase == "all"]
    first, timed, traced = len(unit["sample_warmup"]), len(unit["sample_seconds"]), len(unit["sample_traced"])
    assert len(whole) == first + timed + traced + 1  # and one that is counted
    own = np.array(whole[first : first + timed])
    assert metrics["latency", 1, "sample"].value == pytest.approx(np.median(own), rel=0.02)
    assert np.median(unit["sample_seconds"] - own) < 0.01 * 0.05  # of what the harness adds to a call of 50 ms
    per_call = [seconds for phase, seconds in Sleeper.log if phase != "all"]
    naps = np.array(per_call).reshape(-1, 5)[first + timed : first + timed + traced]
    asleep = naps.sum() / sum(whole[first + timed : first + timed + traced])
    assert metrics["phase-closure", 1, "sample"].value == pytest.approx(asleep, abs=0.02)
    (record,) = finished.speed
    found = {phase.phase: phase.seconds for phase in record.phases}
    assert found["prefill"] == pytest.approx(np.median(naps[:, 0]), rel=0.03)
    assert found["ar"] == pytest.approx(np.median(naps[:, 1:4].sum(axis=1)), rel=0.03)
    assert found["decode"] == pytest.approx(np.median(naps[:, 4]), rel=0.03)
