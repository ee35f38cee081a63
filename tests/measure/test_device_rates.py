"""Rates of the device: measured on a clock moved by hand, kept by what they depend on, and the limit they set."""

import json

import pytest
import torch

from arbench.measure import device_rates
from arbench.measure.clock import FakeClock
from arbench.measure.device_rates import Rates, key, measured, rates


@pytest.fixture
def kept(monkeypatch, tmp_path):
    monkeypatch.setenv(device_rates.FOLDER, str(tmp_path))
    return tmp_path / "device-rates.json"


@pytest.fixture
def asked(monkeypatch):
    """Devices and number formats that were measured; each measurement gives another rate."""
    seen = []

    def measured(device, dtype):
        seen.append((device, dtype))
        return Rates(len(seen) * 1e9, 1e12)

    monkeypatch.setattr(device_rates, "measured", measured)
    return seen


def test_the_best_call_counts_and_the_first_does_not(monkeypatch):
    clock = FakeClock()
    took = iter((9.0, 0.06, 0.05, 9.0, 0.2))  # of copying, then of multiplying

    def later(call):
        def timed(*args, **kwargs):
            clock.advance(next(took))
            return call(*args, **kwargs)

        return timed

    monkeypatch.setitem(device_rates.COPIED, "cpu", 400)
    monkeypatch.setattr(torch.Tensor, "copy_", later(torch.Tensor.copy_))
    monkeypatch.setattr(torch, "mm", later(torch.mm))
    found = measured("cpu", "float32", clock)
    assert found.bandwidth == pytest.approx(2 * 400 / 0.05)
    assert found.matrix == pytest.approx(2 * device_rates.SIDE["cpu"] ** 3 / 0.2)


def test_this_machine_has_rates():
    found = measured("cpu", "float32")
    assert 1e8 < found.bandwidth < 1e13
    assert 1e8 < found.matrix < 1e15


def test_measured_once_and_kept(kept, asked):
    assert rates("cpu", "float32") == rates("cpu", "float32") == Rates(1e9, 1e12)
    assert asked == [("cpu", "float32")]
    assert list(json.loads(kept.read_text())) == [key("cpu", "float32")]


def test_another_number_format_or_thread_count_has_its_own(kept, asked):
    before = torch.get_num_threads()
    try:
        found = [rates("cpu", "float32"), rates("cpu", "bfloat16")]
        torch.set_num_threads(before + 1)
        found.append(rates("cpu", "float32"))
    finally:
        torch.set_num_threads(before)
    assert len(set(found)) == 3
    assert rates("cpu", "float32") == found[0]


@pytest.mark.parametrize("text", ["", "{", "[]", '{"a": 3}', '{"a": {"bandwidth": "x", "matrix": 1}}'])
def test_a_damaged_file_is_measured_anew(kept, asked, text):
    kept.write_text(text)
    assert rates("cpu", "float32") == Rates(1e9, 1e12)
    assert rates("cpu", "float32") == Rates(1e9, 1e12)
    assert len(asked) == 1


def test_work_takes_the_longer_of_computing_and_moving():
    device = Rates(bandwidth=100, matrix=1000)
    assert device.least(flops=2000, traffic=100) == 2
    assert device.least(flops=2000, traffic=300) == 3
