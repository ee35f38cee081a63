"""The worker's context: what is loaded, with what, how often, and what it says when it cannot."""

import pytest
import torch
from tiny_adapters import CARDS, Blocks, card

from arbench import registry
from arbench.errors import MissingWeights, NoDevice, UnknownName, Unsupported
from arbench.protocols import Checkpoint
from arbench.tasks.context import WorkerContext
from arbench.tasks.generate import Generate
from arbench.tasks.reconstruct import Reconstruct


def test_an_adapter_is_loaded_once_with_its_tokenizer(cell, context):
    Blocks.loads = 0
    one = cell("raster/tinted", Generate())
    generator = context.generator(one)
    assert generator.tokenizer is context.tokenizer(one) is context.tokenizer(cell("tokenizers/blocks", Reconstruct()))
    assert context.generator(cell("raster/tinted", Generate(n=5))) is generator
    assert context.generator(cell("raster/free", Generate())).tokenizer is generator.tokenizer
    assert Blocks.loads == 1


@pytest.mark.parametrize("change", [{"dtype": "bfloat16"}, {"init": "random"}, {"compile": True}, {"graph": "off"}])
def test_other_settings_are_another_load_and_reach_the_adapter(cell, context, change):
    first = context.generator(cell("raster/tinted", Generate()))
    other = context.generator(cell("raster/tinted", Generate(), **change))
    assert other is not first
    assert other.tokenizer is not first.tokenizer
    for spec in (other.load_spec, other.tokenizer.load_spec):
        assert {name: getattr(spec, name) for name in change} == change
        assert spec.device == "cpu"


def test_seed_and_device_setting_do_not_load_again(cell, context):
    first = context.generator(cell("raster/tinted", Generate()))
    assert context.generator(cell("raster/tinted", Generate(), seed=9, device="cpu")) is first


def test_close_closes_generators_before_tokenizers(cell, context):
    generator = context.generator(cell("raster/tinted", Generate()))
    context.close()
    assert generator.closed
    assert generator.tokenizer.closed


def test_weights_given_by_the_user_reach_the_adapter(cell, monkeypatch, tmp_path):
    file = tmp_path / "mine.safetensors"
    file.write_bytes(b"1234")
    checkpoint = Checkpoint(file="official.pt", source="https://example.org")
    cards = CARDS | {"raster/tinted": card("raster/tinted", checkpoint=checkpoint)}
    monkeypatch.setattr(registry, "cards", lambda: cards)
    monkeypatch.setenv("ARBENCH_WEIGHTS", str(tmp_path))
    one = cell("raster/tinted", Generate())
    with pytest.raises(MissingWeights, match=r"official\.pt from https://example\.org"):
        WorkerContext("cpu", {}).generator(one)
    context = WorkerContext("cpu", {"raster/tinted": str(file)})
    assert context.generator(one).load_spec.weights == file
    assert context.weight_files(one) == {"raster/tinted": file}
    random = cell("raster/tinted", Generate(), init="random")
    assert WorkerContext("cpu", {}).generator(random).load_spec.weights is None
    assert context.weight_files(random) == {}


def test_each_training_of_a_system_is_loaded_from_its_own_file(cell, tmp_path):
    files = [tmp_path / name for name in ("a", "b")]
    for file in files:
        file.write_bytes(b"1234")
    context = WorkerContext("cpu", {"raster/tinted": str(files[0]), "raster/tinted@1": str(files[1])})
    cells = [cell("raster/tinted", Generate()).model_copy(update={"replicate": place}) for place in (0, 1)]
    assert [context.generator(one).load_spec.weights for one in cells] == files
    assert [context.weight_files(one)["raster/tinted"] for one in cells] == files
    assert context.tokenizer(cells[0]) is context.tokenizer(cells[1])


def test_what_is_not_there_is_named(cell, context):
    with pytest.raises(Unsupported, match="tokenizers/blocks is a tokenizer, not a generator"):
        context.generator(cell("tokenizers/blocks", Reconstruct()))
    with pytest.raises(Unsupported, match="raster/direct has no tokenizer"):
        context.tokenizer(cell("raster/direct", Generate()))
    with pytest.raises(UnknownName, match="raster/tintd"):
        context.generator(cell("raster/tinted", Generate()).model_copy(update={"adapter": "raster/tintd"}))


def test_a_device_that_is_not_there(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(NoDevice, match="cuda:0"):
        WorkerContext("cuda:0", {}, lambda done: None)


def test_progress_goes_to_the_supervisor():
    told = []
    WorkerContext("cpu", {}, told.append).progress(7)
    assert told == [7]
