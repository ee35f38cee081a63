"""The precision of a mode: what it sets, and that it puts it back. The settings exist without a GPU."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from arbench.features.extractor import Mode
from arbench.features.networks.precision import precision

pytestmark = pytest.mark.numerical


def settings() -> tuple[str, str]:
    cudnn: Any = torch.backends.cudnn
    return torch.backends.cuda.matmul.fp32_precision, cudnn.conv.fp32_precision


@pytest.mark.parametrize(("mode", "inside"), [("parity", "ieee"), ("fast", "tf32")])
@pytest.mark.filterwarnings("ignore:.*CUDA is not available")
def test_cuda_settings_hold_inside_and_come_back(mode: Mode, inside: str) -> None:
    before = settings()
    seen = []

    def fail() -> None:
        with precision(torch.device("cuda"), mode):
            seen.append(settings())
            raise MemoryError

    with pytest.raises(MemoryError):
        fail()
    assert seen == [(inside, inside)]
    assert settings() == before
    assert isinstance(torch.backends.cudnn.allow_tf32, bool)  # the older interface can still be read


@pytest.mark.parametrize("mode", ["parity", "fast"])
def test_a_cpu_stays_in_float32(mode: Mode) -> None:
    before = settings()
    with precision(torch.device("cpu"), mode):
        assert settings() == before
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.float32
