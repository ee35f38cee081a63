"""The packaged digit classifier: its accuracy is what its card says, and agreement has an interval."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from arbench.data.readers.mnist import mnist5k
from arbench.errors import InputError
from arbench.metrics.classifier import DigitClassifier, card, class_agreement, train


@pytest.fixture(scope="module")
def classifier() -> DigitClassifier:
    torch.set_num_threads(1)
    return DigitClassifier()


def test_held_out_accuracy_is_that_of_the_card(classifier: DigitClassifier) -> None:
    source = mnist5k("heldout")
    predicted = classifier.predict(source.load(range(len(source))))
    agreement = class_agreement(predicted, source.labels)
    # rounding on another machine may move a doubtful digit or two
    assert agreement.value == pytest.approx(card()["heldout_accuracy"], abs=0.003)
    assert agreement.value >= 0.98
    assert agreement.method == "wilson"
    assert 0.97 < agreement.low < agreement.value < agreement.high < 1  # type: ignore[operator]


def test_it_was_trained_on_the_train_split_of_today() -> None:
    assert card()["data_digest"] == mnist5k("train").digest()


def test_predictions_do_not_depend_on_the_batch_and_colour_is_read_as_grey(classifier: DigitClassifier) -> None:
    images = mnist5k("heldout").load(range(40))
    whole = classifier.predict(images)
    assert np.array_equal(whole, np.concatenate([classifier.predict(images[i : i + 7]) for i in range(0, 40, 7)]))
    assert np.array_equal(whole, classifier.predict(torch.from_numpy(images)))
    assert whole.dtype == np.int64
    assert classifier.predict(images[:0]).shape == (0,)


def test_agreement_of_nothing_is_null_and_of_unequal_lengths_an_error() -> None:
    none = np.zeros(0, dtype=np.int64)
    assert class_agreement(none, none).reason == "no samples"
    with pytest.raises(InputError, match="one prediction per label"):
        class_agreement(none, np.zeros(2, dtype=np.int64))


def test_images_of_another_shape_are_refused(classifier: DigitClassifier) -> None:
    with pytest.raises(InputError, match="32, 32"):
        classifier.predict(np.zeros((1, 3, 28, 28), dtype=np.uint8))
    with pytest.raises(InputError, match="uint8"):
        classifier.predict(np.zeros((1, 3, 32, 32), dtype=np.float32))  # type: ignore[arg-type]


def test_training_repeats_and_learns() -> None:
    steps: list[int] = []
    network, facts = train(seed=1, epochs=2, batch=40, limit=400, progress=steps.append)
    assert sum(steps) == facts["steps"] == 20
    again, _ = train(seed=1, epochs=2, batch=40, limit=400)
    for a, b in zip(network.state_dict().values(), again.state_dict().values(), strict=True):
        assert torch.equal(a, b)
    assert facts["final_epoch_loss"] < np.log(10)
