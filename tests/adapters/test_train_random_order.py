"""Training of RAR and RandAR: the orders, their annealing, resumption, and a loss that is the order's own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from arbench.adapters.layers.checkpoint import seeded
from arbench.adapters.layers.config import from_upstream
from arbench.adapters.random_order.randar.network import Config as RandARConfig
from arbench.adapters.random_order.randar.network import Network as RandARNetwork
from arbench.adapters.random_order.randar.training import always
from arbench.adapters.random_order.rar import network as rar
from arbench.adapters.random_order.rar.training import random_share
from arbench.adapters.train.__main__ import recipe, weight_file
from arbench.adapters.train.any_order import AnyOrder
from arbench.adapters.train.loop import Metrics, fit, step_generator
from arbench.adapters.train.tokens import epochs

TOKENS, CODES, CLASSES = 16, 12, 4
RASTER = torch.arange(TOKENS)


def tiny(kind: str) -> AnyOrder:
    with seeded(0):
        if kind == "rar":
            config: dict[str, Any] = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
            config |= {"intermediate_size": 32, "image_seq_len": TOKENS, "condition_num_classes": CLASSES}
            network = rar.Network(from_upstream(rar.Config, config | {"codebook_size": CODES}, rar.TRAINING_ONLY))
            with torch.no_grad():
                for parameter in network.parameters():
                    parameter.add_(0.1 * torch.randn_like(parameter))  # nothing is without effect
            return AnyOrder(network, network.score, CLASSES, random_share)
        config = {"dim": 16, "n_layer": 1, "n_head": 2, "multiple_of": 16, "num_classes": CLASSES}
        other = RandARNetwork(from_upstream(RandARConfig, config | {"vocab_size": CODES, "block_size": TOKENS}))
        return AnyOrder(other, other.score_in_order, CLASSES, always)


def examples(seed: int) -> Any:
    """Sequences whose first token in raster order decides all the others, which random orders must find out."""
    first = torch.arange(32) % CODES
    return epochs((first[:, None] + RASTER) % CODES, first % CLASSES, seed, batch=8)


def run(training: AnyOrder, steps: int = 6, seed: int = 0, **options: Any) -> Metrics:
    return fit(
        training,
        training.loss,
        examples(seed),
        steps=steps,
        learning_rate=3e-3,
        seed=seed,
        after_step=training.after_step,
        save_every=1,
        **options,
    )


def orders_at(training: AnyOrder, progress: float, count: int = 2000) -> Tensor:
    training.progress.fill_(progress)
    return training.orders(count, TOKENS, step_generator(0, 0))


def test_rar_s_orders_are_random_first_and_raster_last() -> None:
    training = tiny("rar")
    shares = []
    for progress in (0.0, 0.5, 0.625, 0.75, 1.0):
        orders = orders_at(training, progress)
        assert torch.equal(orders.sort(dim=1).values, RASTER.expand(2000, -1))
        shares.append((orders != RASTER).any(dim=1).double().mean().item())
    assert shares[:2] == [1, 1]
    assert shares[2] == pytest.approx(0.5, abs=0.05)  # 4.5 standard errors
    assert shares[3:] == [0, 0]
    assert random_share(0.55) == pytest.approx(0.8)


def test_randar_s_orders_stay_random_and_favour_no_place() -> None:
    training = tiny("randar")
    for progress in (0.0, 1.0):
        orders = orders_at(training, progress)
        assert bool((orders != RASTER).any(dim=1).all())
        seen = orders[:, 0].bincount(minlength=TOKENS)
        assert seen.min() >= 80  # 125 expected, standard error 10.8
        assert seen.max() <= 170


@pytest.mark.parametrize("kind", ["rar", "randar"])
def test_the_loss_is_that_of_the_tokens_in_their_order(kind: str) -> None:
    training = tiny(kind)
    tokens, labels = examples(0)(0)
    logits, targets = training.predict(labels, tokens, step_generator(0, 3))
    order = training.orders(*tokens.shape, step_generator(0, 3))
    assert torch.equal(targets, tokens.gather(1, order))
    expected = training.score(labels, tokens, order)
    torch.testing.assert_close(F.cross_entropy(logits.mT, targets), F.cross_entropy(expected.mT, targets))
    raster = training.score(labels, tokens, RASTER.expand(len(tokens), -1))
    assert not torch.allclose(logits, raster)


@pytest.mark.parametrize("kind", ["rar", "randar"])
def test_an_interrupted_run_ends_with_the_same_weights(kind: str, tmp_path: Path) -> None:
    whole, interrupted, resumed = tiny(kind), tiny(kind), tiny(kind)
    run(whole)
    assert whole.progress == 1
    state = tmp_path / "t.state"

    def stop(step: int, metrics: Metrics) -> None:
        if step == 5:  # RAR's orders are changing here
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(interrupted, state_path=state, on_step=stop)
    seen: list[int] = []
    run(resumed, state_path=state, on_step=lambda step, metrics: seen.append(step))
    assert seen == [5, 6]
    for key, value in whole.state_dict().items():
        assert torch.equal(resumed.state_dict()[key], value), key


def test_a_seed_decides_everything() -> None:
    first, again, other = tiny("rar"), tiny("rar"), tiny("rar")
    run(first)
    torch.rand(3)  # other use of the global generator changes nothing
    run(again)
    run(other, seed=1)
    key = "network.head.weight"
    assert torch.equal(first.state_dict()[key], again.state_dict()[key])
    assert not torch.equal(first.state_dict()[key], other.state_dict()[key])


@pytest.mark.parametrize("kind", ["rar", "randar"])
def test_training_learns_and_is_measured_the_same_each_time(kind: str) -> None:
    training = tiny(kind)
    tokens, labels = examples(1)(0)
    before = training.measure(tokens, labels)
    assert training.measure(tokens, labels) == before
    run(training, steps=40)
    after = training.measure(tokens, labels)
    assert after["heldout_nats_per_token"] < before["heldout_nats_per_token"] - 0.1


def test_both_minis_have_a_recipe() -> None:
    for name in ("random_order/rar-mini", "random_order/randar-mini"):
        assert recipe(name).steps > 0
        assert weight_file(name) == Path(f"{name.split('/')[1]}.safetensors")
