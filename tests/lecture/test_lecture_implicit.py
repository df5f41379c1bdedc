"""Implicit regularisation in the lecture: claims that a broken technique must not pass."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers.demonstrations import claims_seen

from geotl.lecture import implicit
from geotl.lecture.recipes import Descent, Stopping
from geotl.lecture.samples import draw, network, plain_training, sample, tiles_of
from geotl.training.learner import Learner

pytestmark = pytest.mark.usefixtures("lecture_cache")
SMALL = {"seed": 0, "shots": 2, "test_tiles": 18, "seeds": 2, "epochs": 2}


def test_gradient_descent_from_zero_ends_at_the_pseudoinverses_solution() -> None:
    shown = implicit.gradient_descent(Descent())
    assert claims_seen(shown) == {"least": True, "start": True}
    assert shown.values["away"] < 1e-14
    short = implicit.gradient_descent(Descent(steps=5))
    assert not claims_seen(short)["least"]


def test_from_elsewhere_gradient_descent_keeps_what_no_equation_sees() -> None:
    random = np.random.default_rng(1)
    matrix, target = random.standard_normal((4, 9)), random.standard_normal(4)
    start = random.standard_normal(9)
    end = implicit.descend(matrix, target, start, 3000).end
    unseen = np.eye(9) - np.linalg.pinv(matrix) @ matrix
    np.testing.assert_allclose(unseen @ end, unseen @ start, atol=1e-10)


@pytest.mark.parametrize("patience", [2, 0])
def test_early_stopping_and_checkpoint_keep_the_same_epoch(
    patience: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Accuracies .5 .6 .7 .69 .68: patience 2 ends after epoch 5, a checkpoint runs on."""
    accuracies = iter([0.5, 0.6, 0.7, 0.69, 0.68, 0.66, 0.65])
    weights = []

    def told(self: Learner, positions: torch.Tensor, _: int) -> None:
        weights.append(self.model.head.weight.detach().clone())
        self.log("val_loss", 1 - next(accuracies), batch_size=len(positions))

    monkeypatch.setattr(Learner, "validation_step", told)
    numbers = Stopping(**SMALL | {"epochs": 7}, backbone="lenet5", cut_after="c1")
    source, rows = sample(numbers.region, numbers.bands), draw(numbers, 0)
    start = network(source, rows.split.train, numbers, 0)
    training = plain_training(numbers, 0).changed(patience=patience)
    sides = (tiles_of(source, part) for part in (rows.split.train, rows.split.test))
    fit = implicit.checkpointed(start, *sides, training)
    assert len(fit.history.epochs) == (5 if patience else 7)
    assert fit.history.best_epoch == 2  # the third
    assert torch.equal(fit.kept.head.weight, weights[2])
    assert torch.equal(fit.last.head.weight, weights[-1])
    assert not torch.equal(weights[2], weights[-1])


def test_an_epoch_kept_that_is_the_last_one_avoids_nothing() -> None:
    numbers = Stopping(
        **SMALL | {"epochs": 3, "test_tiles": 400}, backbone="lenet5", cut_after="c1", input_px=16
    )
    pairs = [implicit.stopped(numbers, number) for number in range(2)]
    same = [replace(one, train=(1.0, 1.0), test=(0.4, 0.4)) for one in pairs]
    assert claims_seen(implicit.stopping_shown(same, 3)) == {
        "earlier": False,  # patience 3 of 3 epochs
        "overfitting": False,
        "checkpoint": True,
    }
    better = [
        replace(one, train=(1.0, 0.7), test=(0.4, 0.5 + n / 99)) for n, one in enumerate(pairs)
    ]
    crossed = [replace(better[0], complete=pairs[1].complete), better[1]]
    assert claims_seen(implicit.stopping_shown(better, 4))["overfitting"]
    assert claims_seen(implicit.stopping_shown(better, 4))["earlier"]
    assert not claims_seen(implicit.stopping_shown(crossed, 4))["checkpoint"]
