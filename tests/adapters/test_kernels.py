"""The Triton kernels give what the plain paths give, in Triton's interpreter; on a GPU tests/gpu has them compiled."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from arbench import kernel_choice
from arbench.adapters.layers import attention, sampling
from arbench.measure.counts import attention_flops, count

PROGRAM = Path(__file__).with_name("interpreted_kernels.py")
needs_triton = pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="torch for a CPU has no Triton")


@pytest.fixture(scope="module")
def found() -> Any:
    done = subprocess.run(
        [sys.executable, PROGRAM], capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@needs_triton
def test_tokens_are_those_of_the_plain_path(found: Any) -> None:
    assert found["draws"]["number"] > 8000
    assert found["draws"]["wrong"] == []
    assert found["batches"] == {"every second": True, "bfloat16": True, "one": True}


@needs_triton
def test_attention_is_that_of_the_plain_path_and_spread_the_same(found: Any) -> None:
    assert len(found["attentions"]) == 12
    for each in found["attentions"]:
        assert each["worst"] < (2e-6 if "float32" in each["case"] else 1e-2), each
        assert each["same"], each


@needs_triton
def test_a_kernel_is_used_where_its_probe_agrees_and_else_the_plain_path(found: Any) -> None:
    chosen = found["chosen"]
    assert chosen["reads"] == ""  # a probe is not counted as the call reading back
    assert chosen["drawn"]
    assert chosen["mixed"]
    assert chosen["agreeing"] == {
        "arbench.draw_tokens (cpu, float32, 20 tokens, k 5, p None)": "Triton kernel",
        "arbench.decode_attention (cpu, float32, 2 heads of 8, 2 of keys)": "Triton kernel",
    }
    assert chosen["fallen"]
    assert len(chosen["told"]) == 1
    assert "tokens of the probe differ" in chosen["told"][0]
    assert "plain path: " in chosen["choices"]["arbench.draw_tokens (cpu, float32, 20 tokens, k 7, p None)"]


def test_a_probe_that_raises_and_one_that_cannot_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel_choice, "_CHOICES", {})
    calls = []

    def probe() -> str:
        calls.append(1)
        raise RuntimeError("no compiler\nand more")

    assert not kernel_choice.agreed("a", "x", probe, now=False)
    assert calls == []
    assert kernel_choice.choices() == {}
    with pytest.warns(RuntimeWarning, match="a uses its plain path \\(x\\): RuntimeError: no compiler$"):
        assert not kernel_choice.agreed("a", "x", probe)
    assert not kernel_choice.agreed("a", "x", probe)
    assert calls == [1]
    assert kernel_choice.agreed("a", "y", lambda: "")
    assert not kernel_choice.agreed("b", "y", probe, now=False)
    assert kernel_choice.choices() == {
        "arbench.a (x)": "plain path: RuntimeError: no compiler",
        "arbench.a (y)": "Triton kernel",
    }


def test_compiled_code_and_the_counter_see_one_operation(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the kernels left out, as on a device whose probe did not agree."""
    monkeypatch.setattr(sampling, "agreed", lambda *_, **__: False)
    monkeypatch.setattr(attention, "agreed", lambda *_, **__: False)
    query, key, value = torch.randn(2, 4, 1, 8), torch.randn(2, 2, 5, 8), torch.randn(2, 2, 5, 8)
    logits, uniform = torch.randn(2, 3, 20), torch.rand(2, 3, dtype=torch.float64)
    expected = attention.attend(query, key, value)
    counted = count(lambda _: torch.ops.arbench.decode_attention(query, key, value, None, None))
    assert counted.total("flops") == attention_flops(query, key, value)
    with torch.device("meta"), torch.inference_mode():
        on_meta = [each.to("meta") for each in (query, key, value)]
        assert torch.ops.arbench.decode_attention(*on_meta, None, None).shape == expected.shape
    with torch.inference_mode():
        assert torch.equal(torch.ops.arbench.decode_attention(query, key, value, None, None), expected)
        drawn = torch.ops.arbench.draw_tokens(logits, uniform, 5, 0.9, True)
        monkeypatch.setattr(sampling, "DRAWN_AT_ONCE", 40)
        assert torch.equal(torch.ops.arbench.draw_tokens(logits, uniform, 5, 0.9, True), drawn)
