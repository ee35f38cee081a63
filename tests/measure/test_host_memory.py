"""Host memory: allocations of known size, in this process and in a child of a large parent."""

import mmap
import pathlib
import subprocess
import sys

import numpy as np
import psutil

from arbench.measure import memory
from arbench.measure.memory import HostMeter, driver_memory, meter_for

MIB = 1 << 20
CHILD = "from arbench.measure.memory import HostMeter; m = HostMeter(); print(m.current(), m.peak())"


def pages(size: int) -> np.ndarray:
    """Bytes straight from the system; malloc might hand out what this process has freed before."""
    block = np.frombuffer(mmap.mmap(-1, size), dtype=np.uint8)
    block[:] = 1
    return block


def test_the_peak_holds_an_allocation_that_is_gone_again():
    meter = HostMeter()
    meter.reset()
    before = meter.current()
    block = pages(64 * MIB)
    during = meter.current()
    del block
    # other threads of the process may move a few MiB
    assert 60 * MIB < during - before < 90 * MIB
    assert 60 * MIB < meter.peak() - before < 90 * MIB


def test_a_reset_forgets_an_earlier_peak():
    meter = HostMeter()
    block = pages(64 * MIB)
    high = meter.peak()
    del block
    if meter.reset():
        assert meter.peak() < high - 50 * MIB
    else:  # systems without a resettable mark
        assert meter.peak() >= high


def test_current_is_what_the_system_says():
    assert abs(HostMeter().current() - psutil.Process().memory_info().rss) < 8 * MIB


def test_what_is_free_is_given_back():
    """Freed blocks below one that stays in use are held by the C allocator until it is asked."""
    meter = HostMeter()
    meter.settle()
    before = meter.own()
    blocks = [bytearray(2**16) for _ in range(1024)]
    during = meter.own()
    last = blocks[-1]
    del blocks
    meter.settle()
    assert during - before > 60 * MIB
    assert meter.own() - before < 4 * MIB
    assert len(last) == 2**16


def test_pages_of_files_are_not_the_process_own(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(bytes(64 * MIB))
    meter = HostMeter()
    meter.settle()
    current, own = meter.current(), meter.own()
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as block:
        assert sum(block[:: mmap.PAGESIZE]) == 0
        assert meter.current() - current > 60 * MIB
        if pathlib.Path("/proc/self/smaps_rollup").exists():
            assert abs(meter.own() - own) < 4 * MIB


def test_where_the_system_does_not_tell_pages_apart_all_count(monkeypatch, tmp_path):
    monkeypatch.setattr(memory, "_ROLLUP", tmp_path / "missing")
    meter = HostMeter()
    assert abs(meter.own() - meter.current()) < 8 * MIB


def test_a_child_does_not_inherit_the_peak_of_a_large_parent():
    """ru_maxrss does, over fork and exec, which would add the supervisor's peak to every worker's."""
    block = pages(400 * MIB)
    done = subprocess.run([sys.executable, "-c", CHILD], capture_output=True, text=True, check=True)
    current, peak = map(int, done.stdout.split())
    # the kernel counts pages per CPU and adds them up loosely, so two readings differ by some of them
    assert peak > current - 4 * MIB
    if sys.platform == "linux":
        assert peak < len(block)


def test_without_a_driver_the_reason_is_given():
    assert isinstance(meter_for("cpu"), HostMeter)
    found, reason = driver_memory("cuda")
    assert (found is None) == bool(reason)
