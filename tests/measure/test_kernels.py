"""Kernels by the profiler: a recorded trace of a GPU, and what a CPU or a silent profiler says."""

from types import SimpleNamespace

import pytest
from torch.autograd import DeviceType

from arbench.measure.kernels import Launched, launched, tally


def event(name, kind=DeviceType.CUDA, marked=False):
    return SimpleNamespace(name=name, device_type=kind, is_user_annotation=marked)


def test_kernels_copies_and_what_is_neither():
    found = tally(
        [
            event("cudaLaunchKernel", DeviceType.CPU),
            event("void at::native::vectorized_elementwise_kernel<4, at::native::FillFunctor<float> >"),
            event("cudaGraphLaunch", DeviceType.CPU),
            event("nvjet_tst_128x128_64x6_2x1_v_bz_TNN"),
            event("Memcpy DtoD (Device -> Device)"),
            event("Memset (Device)"),
            event("a range of the program", marked=True),
            event("flash_fwd_kernel"),
        ]
    )
    assert found == Launched(3, 2)


def test_where_no_kernel_is_seen_there_is_none_and_a_reason():
    assert tally([event("cudaLaunchKernel", DeviceType.CPU)]).kernels is None
    assert "CUPTI" in tally([event("Memcpy HtoD (Pageable -> Device)")]).reason


def test_a_cpu_makes_no_call():
    assert launched(lambda: pytest.fail("called"), "cpu") == Launched(None, 0, "only a GPU has kernels to launch")
