"""Soft targets: confident pixels alone, moved with the image, from a teacher that sees no more."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from test_pixel_decoder import (
    COUNT,
    frozen_base,
    made_marks,
    made_patches,
    made_plan,
    same,
)

from geotl.training.pixel_decoder import DecoderLearner, fit_decoder, joined_folds, train_decoder
from geotl.training.soft_targets import SoftTargets, soft_loss

pytestmark = pytest.mark.usefixtures("one_thread")
EACH = 4  # unlabelled pixels in a patch


def made_targets() -> SoftTargets:
    """Pixels beside the labelled ones, each for the class after the label's."""
    patches, marks = made_patches(), made_marks()
    owner = np.repeat(patches.owner, EACH)
    places = np.repeat(patches.places, EACH, axis=0)
    places[:, 1] += np.tile(1 + np.arange(EACH), COUNT)
    chances = np.full((len(owner), 3), 0.05)
    chances[np.arange(len(owner)), (np.repeat(marks.labels, EACH) + 1) % 3] = 0.9
    return SoftTargets.confident(owner, places, np.log(chances), 0.8)


def plan_of(weight: float = 1.0, **augment: object):
    plan = made_plan(1, **augment)
    return replace(plan, settings=plan.settings.model_copy(update={"unlabelled_weight": weight}))


def test_confident_pixels_alone_are_kept() -> None:
    log = np.log([[0.9, 0.1], [0.6, 0.4], [0.15, 0.85]])
    owner, places = np.array([4, 5, 6]), np.array([[1, 2], [3, 4], [5, 6]])
    found = SoftTargets.confident(owner, places, log, 0.8)
    assert found.owner.tolist() == [4, 6]
    assert found.places.tolist() == [[1, 2], [5, 6]]
    assert found.probabilities.dtype == np.float16
    np.testing.assert_allclose(found.probabilities, [[0.9, 0.1], [0.15, 0.85]], atol=1e-3)


def test_the_loss_is_the_cross_entropy_at_these_pixels() -> None:
    logits = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0)).requires_grad_()
    rows = torch.full((2, 8, 8), -1)
    rows[0, 2, 3], rows[1, 5, 5] = 1, 0
    chances = torch.tensor([[0.8, 0.1, 0.1], [0.0, 0.25, 0.75]])
    loss = soft_loss(logits, rows, chances)
    loss.backward()
    own = torch.log_softmax(logits.detach(), dim=1)
    wanted = -(chances[1] @ own[0, :, 2, 3] + chances[0] @ own[1, :, 5, 5]) / 2
    assert loss.item() == pytest.approx(wanted.item(), rel=1e-6)
    touched = logits.grad.abs().sum(dim=1) > 0
    assert torch.nonzero(touched).tolist() == [[0, 2, 3], [1, 5, 5]]
    assert soft_loss(logits, torch.full_like(rows, -1), chances).item() == 0


def test_soft_targets_change_the_weights_and_the_same_seed_gives_the_same_bits() -> None:
    given = frozen_base(), made_patches(), made_marks()
    first, second = (train_decoder(*given, plan_of(), made_targets()) for _ in range(2))
    assert same(first, second)
    assert not same(first, train_decoder(*given, plan_of()))
    assert not same(first, train_decoder(*given, plan_of(0.5), made_targets()))


def test_patches_without_a_training_label_have_no_part() -> None:
    soft, some = made_targets(), made_marks().part(np.arange(6))
    inside = soft.owner < 6
    fewer = SoftTargets(soft.owner[inside], soft.places[inside], soft.probabilities[inside])
    given = frozen_base(), made_patches(), some, plan_of()
    assert same(train_decoder(*given, soft), train_decoder(*given, fewer))


@pytest.mark.parametrize("augment", [{}, {"rotate_deg": 40, "scale": (0.8, 1.6), "crop": 0.7}])
def test_soft_targets_stay_on_their_pixels(augment: dict[str, object]) -> None:
    """Each lies on the pixel that is bright in its patch, and labels stay as they are."""
    patches, marks = made_patches(), made_marks()
    soft = SoftTargets(patches.owner, patches.places, np.eye(3)[marks.labels].astype(np.float16))
    plan = plan_of(**augment)
    learners = [DecoderLearner(frozen_base(), patches, marks, plan, s) for s in (soft, None)]
    for number in range(learners[0].batches):
        with_soft, without = (learner.batch(0, number) for learner in learners)
        assert all(torch.equal(with_soft[i], without[i]) for i in range(3))
        image, target, _, rows = with_soft
        assert torch.equal(rows >= 0, target >= 0)
        assert (without[3] == -1).all()
        for tile, own in zip(image, rows, strict=True):
            for row, col in torch.nonzero(own >= 0).tolist():
                near = tile[0, max(0, row - 1) : row + 2, max(0, col - 1) : col + 2]
                assert near.max() == tile[0].max()


def test_a_teacher_sees_the_training_pixels_of_its_decoder_alone() -> None:
    rows = np.arange(COUNT)
    folds = [(np.flatnonzero(rows % 4 != k), np.flatnonzero(rows % 4 == k)) for k in range(4)]
    asked: list[list[int]] = []

    def teach(some: np.ndarray) -> SoftTargets:
        asked.append(some.tolist())
        return made_targets()

    def predict(_: object, pixels: np.ndarray) -> np.ndarray:
        return np.zeros((3, len(pixels)), np.float32)

    given = frozen_base(), made_patches(), made_marks(), folds
    found = fit_decoder(*given, plan=plan_of(), predict=predict, teach=teach)
    assert same(found.network, train_decoder(*given[:3], plan_of(), made_targets()))
    assert asked[0] == rows.tolist()
    for some, (fit, out) in zip(asked[1:], joined_folds(folds, 2), strict=True):
        assert some == fit.tolist()
        assert not {*some} & {*out.tolist()}
