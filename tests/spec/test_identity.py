"""Identities: what changes them, and what must not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from arbench import registry
from arbench.spec.cell import make_cell
from arbench.spec.identity import canonical_json, identity
from arbench.spec.result import Metric
from arbench.spec.sampling import Guidance, Sampling
from arbench.spec.suite import Settings
from arbench.tasks.generate import Generate
from arbench.tasks.speed import Speed

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(), json_values, max_size=5))
def test_identity_does_not_depend_on_key_order(value):
    backwards = dict(reversed(list(value.items())))
    assert identity(value, "x") == identity(backwards, "x")


def test_nan_has_no_identity():
    with pytest.raises(ValueError, match="JSON"):
        canonical_json({"a": float("nan")})


def cell(task=None, settings=None, sampling=None, machine="cpu", weights="aa"):
    card = registry.card("raster/llamagen-mini")
    return make_cell(
        card,
        task or Generate(),
        settings or Settings(),
        sampling or Sampling(),
        {card.name: weights},
        data={"mnist5k/heldout": "00"},
        machine=machine,
    )


def test_quality_and_speed_of_one_setting_share_their_settings_id():
    quality, speed = cell(Generate()), cell(Speed())
    assert quality.settings_id == speed.settings_id
    assert quality.result_id != speed.result_id


def test_transport_is_not_identity():
    assert cell(Generate(batch=1)).result_id == cell(Generate(batch=64)).result_id
    assert cell(settings=Settings(device="cpu")).result_id == cell(settings=Settings(device="auto")).result_id
    assert cell(Generate(), machine="a").result_id == cell(Generate(), machine="b").result_id


def test_what_changes_the_output_changes_the_identity():
    base = cell()
    others = [
        cell(Generate(n=10)),
        cell(settings=Settings(seed=1)),
        cell(settings=Settings(dtype="bfloat16")),
        cell(sampling=Sampling(top_k=5)),
        cell(sampling=Sampling(guidance=Guidance(scale=2))),
        cell(weights="bb"),
    ]
    assert len({base.result_id, *(other.result_id for other in others)}) == 7
    assert cell(Speed(), machine="a").result_id != cell(Speed(), machine="b").result_id
    assert cell(Speed(batches=(1,))).result_id != cell(Speed(batches=(2,))).result_id


def test_a_null_metric_needs_a_reason():
    with pytest.raises(ValidationError, match="needs a reason"):
        Metric(name="fid", value=None, n=3)
    with pytest.raises(ValidationError):
        Metric(name="fid", value=float("nan"), n=3)


def test_guidance_schedules():
    linear = Guidance(scale=2.5, schedule="linear")
    assert [linear.weight(i / 3) for i in range(4)] == [1.0, 1.5, 2.0, 2.5]
    cosine = Guidance(scale=3, schedule="cosine_power", power=2)
    assert cosine.weight(0) == 1
    assert cosine.weight(1) == pytest.approx(3)
    assert cosine.weight(0.5) == pytest.approx(1 + (1 - 2**-0.5))
    assert not Guidance().on
    assert not Guidance(scale=3, until=0).on
    assert Guidance(scale=1.5).on
