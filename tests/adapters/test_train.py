"""Training: resumable to the same weights, a function of the seed, and a command that writes weights and a card."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, TypeAlias

import pytest
import torch
from torch import Tensor, nn

from arbench import registry
from arbench.adapters.layers.checkpoint import read_state_dict, seeded
from arbench.adapters.layers.multiscale import Network as MSVQNetwork
from arbench.adapters.tokenizers.llamagen.network import Network as VQNetwork
from arbench.adapters.tokenizers.llamagen.training import training_of
from arbench.adapters.train.__main__ import main
from arbench.adapters.train.codebook import VQTraining
from arbench.adapters.train.digits import mnist_batches
from arbench.adapters.train.loop import Metrics, fit, rate
from arbench.adapters.train.multiscale import MultiScaleTraining
from arbench.errors import OK, USAGE, InputError

CPU = torch.device("cpu")
Training: TypeAlias = VQTraining | MultiScaleTraining


def tiny(kind: str) -> Training:
    with seeded(0):
        if kind == "vq":
            config = {"ch": 32, "encoder_ch_mult": (1, 1, 1), "decoder_ch_mult": (1, 1, 1), "z_channels": 8}
            return training_of(VQNetwork({**config, "codebook_size": 16, "num_res_blocks": 1}))
        config = {"ch": 32, "ch_mult": (1, 1, 1, 1), "z_channels": 4, "v_patch_nums": (1, 2, 4), "vocab_size": 16}
        return MultiScaleTraining(MSVQNetwork({**config, "num_res_blocks": 1}))


def run(training: Training, steps: int = 5, seed: int = 0, **options: Any) -> Metrics:
    batches = mnist_batches(4, seed, CPU)
    return fit(
        training,
        training.loss,
        batches,
        steps=steps,
        learning_rate=1e-3,
        seed=seed,
        after_step=training.after_step,
        save_every=1,
        **options,
    )


class Stopped(Exception):
    pass


@pytest.mark.parametrize("kind", ["vq", "msvq"])
def test_an_interrupted_run_ends_with_the_same_weights(kind: str, tmp_path: Path) -> None:
    whole, interrupted, resumed = tiny(kind), tiny(kind), tiny(kind)
    run(whole)
    state = tmp_path / "t.state"

    def stop(step: int, metrics: Metrics) -> None:
        if step == 4:
            raise Stopped

    with pytest.raises(Stopped):
        run(interrupted, state_path=state, on_step=stop)
    seen: list[int] = []
    run(resumed, state_path=state, on_step=lambda step, metrics: seen.append(step))
    assert seen == [4, 5]  # step 4 was not saved yet
    for key, value in whole.state_dict().items():
        assert torch.equal(resumed.state_dict()[key], value), key


def test_a_seed_decides_everything(tmp_path: Path) -> None:
    first, again, other = tiny("vq"), tiny("vq"), tiny("vq")
    before = torch.get_rng_state()
    run(first)
    torch.rand(3)  # other use of the global generator changes nothing
    run(again)
    run(other, seed=1)
    key = "network.quantize.embedding.weight"
    assert torch.equal(first.state_dict()[key], again.state_dict()[key])
    assert not torch.equal(first.state_dict()[key], other.state_dict()[key])
    torch.set_rng_state(before)


def test_a_state_of_other_settings_is_refused(tmp_path: Path) -> None:
    state = tmp_path / "t.state"
    run(tiny("vq"), steps=3, state_path=state)
    with pytest.raises(InputError, match="cannot resume"):
        run(tiny("vq"), steps=4, state_path=state)
    state.write_bytes(b"not a state")
    with pytest.raises(InputError, match="not a training state"):
        run(tiny("vq"), steps=3, state_path=state)


def test_fit_against_a_known_optimum() -> None:
    """Least squares: the averaged weights end at the solution."""
    with seeded(0):
        truth, x = torch.tensor([[2.0, -1.0, 0.5]]), torch.randn(64, 3)
        module = nn.Linear(3, 1, bias=False)

    def loss(batch: Tensor, generator: torch.Generator) -> tuple[Tensor, Metrics]:
        return (module(batch) - batch @ truth.T).square().mean(), {}

    metrics = fit(module, loss, lambda step: x, steps=400, learning_rate=0.05, seed=0, ema=0.9)
    assert torch.allclose(module.weight, truth, atol=1e-3)
    assert metrics.keys() == {"loss"}


def test_learning_rate_rises_then_falls() -> None:
    rates = [rate(step / 100, 0.1, 0.05) for step in range(101)]
    assert max(rates) == rates[10] == 1.0
    assert rates[:11] == sorted(rates[:11])
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[-1] == pytest.approx(0.05)


def test_codes_nobody_chose_are_restarted() -> None:
    training = tiny("vq")
    weight = training.network.quantize.embedding.weight
    with torch.no_grad():
        weight[3:] = -1e3  # far from everything, all in one direction
    before = weight.detach().clone()
    _, metrics = training.loss(mnist_batches(4, 0, CPU)(0), torch.Generator())
    assert metrics.keys() == {"psnr", "matching"}
    training.after_step(0, 100, torch.Generator().manual_seed(0))
    moved = (weight.detach() != before).any(dim=1)
    assert moved.sum() >= 10  # all but those in use
    used = training.idle == 0
    assert bool(used.all())
    training.idle += 100
    late = weight.detach().clone()
    training.after_step(99, 100, torch.Generator().manual_seed(0))
    assert torch.equal(weight.detach(), late)  # near the end nothing is moved any more


def test_batches_cover_each_digit_once_an_epoch() -> None:
    load = mnist_batches(1000, 3, CPU, flat=True)
    images = torch.cat([load(step)[0] for step in range(4)])
    labels = torch.cat([load(step)[1] for step in range(4)])
    assert torch.unique(images.flatten(1), dim=0).shape[0] == 4000
    assert labels.bincount().tolist() == [400] * 10
    shifted, same = mnist_batches(1000, 3, CPU)(0)
    assert torch.equal(same, labels[:1000])
    assert float((shifted - images[:1000]).abs().max()) > 0
    # shifts lose no ink: the margin is as wide as they are
    assert torch.allclose(shifted.sum(dim=(1, 2, 3)), images[:1000].sum(dim=(1, 2, 3)))


def test_the_command_writes_weights_and_a_card(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "w.safetensors"
    assert main(["tokenizers/var-mini", "--steps", "1", "--out", str(out), "--seed", "3"]) == OK
    card = json.loads(out.with_suffix(".json").read_text())
    assert {key: card[key] for key in ("name", "steps", "seed")} == {
        "name": "tokenizers/var-mini",
        "steps": 1,
        "seed": 3,
    }
    assert card["measured"].keys() == {"heldout_psnr_db", "codes_used", "code_perplexity"}
    mini = registry.card("tokenizers/var-mini")
    assert card["parameters"] == mini.parameters == sum(t.numel() for t in read_state_dict(out).values())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["w.json", "w.safetensors"]
    assert "parameters" in capsys.readouterr().err


def test_the_command_suggests_names(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["tokenizers/llamagn-mini"]) == USAGE
    assert "did you mean tokenizers/llamagen-mini" in capsys.readouterr().err
    assert main(["tokenizers/var-mini", "--steps", "0"]) == USAGE
    assert main(["tokenizers/var-mini", "--out", str(tmp_path / "no" / "w.safetensors")]) == USAGE
    assert main(["--list"]) == OK
    assert "tokenizers/llamagen-mini" in capsys.readouterr().out
