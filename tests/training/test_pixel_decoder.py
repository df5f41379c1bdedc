"""Training of a decoder: labelled pixels alone, frozen stages, the same bits, masks that move."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers.pixel_models import small_decoder

from geotl.models.backbone import freeze
from geotl.models.pixel_decoder import DecoderKind, PixelDecoder
from geotl.training.pixel_decoder import (
    IGNORED,
    DecoderLearner,
    DecoderPlan,
    Marks,
    Patches,
    fit_decoder,
    joined_folds,
    masked_loss,
    train_decoder,
)
from geotl.training.settings import Augmentation, DecoderSettings, Training, TrainSettings

pytestmark = pytest.mark.usefixtures("one_thread")
SIDE = 32
COUNT = 12


def made_patches(count: int = COUNT) -> Patches:
    """Patches of 48 px with one labelled pixel each, which alone is bright."""
    random = np.random.default_rng(3)
    image = random.integers(900, 1100, (count, 4, 48, 48)).astype(np.uint16)
    places = random.integers(16, 32, (count, 2))
    for patch, (row, col) in enumerate(places):
        image[patch, :, row, col] = 5000 + 100 * patch
    valid = np.ones((count, 1, 48, 48), bool)
    valid[:, :, :8] = False
    return Patches(
        image,
        valid,
        np.arange(count),
        places.astype(np.int64),
        np.full(4, 1000.0),
        np.full(4, 60.0),
    )


def made_marks(count: int = COUNT) -> Marks:
    rows = np.arange(count)
    return Marks(rows, rows % 3, 0.5 + rows / count)


def made_plan(epochs: int = 2, seed: int = 0, **augment: object) -> DecoderPlan:
    settings = DecoderSettings(patch_px=SIDE, epochs=epochs, batch_size=4)
    training = Training(TrainSettings(precision="float32"), Augmentation(**augment), seed)
    return DecoderPlan(settings, training, quiet=True)


def frozen_base(kind: DecoderKind = "unet") -> PixelDecoder:
    base = small_decoder(kind)
    freeze(base.backbone.requires_grad_(True), "layer1", allow_random=True)
    base.decoder.requires_grad_(True)
    base.head.requires_grad_(True)
    return base


@pytest.fixture(scope="module")
def trained() -> PixelDecoder:
    return train_decoder(frozen_base(), made_patches(), made_marks(), made_plan())


def state(network: PixelDecoder) -> dict[str, torch.Tensor]:
    return network.state_dict()


def same(one: PixelDecoder, other: PixelDecoder) -> bool:
    first, second = state(one), state(other)
    return all(torch.equal(first[name], second[name]) for name in first)


def test_pixels_without_a_label_change_neither_loss_nor_gradient() -> None:
    random = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 3, 8, 8, generator=random).requires_grad_()
    target, weight = torch.full((2, 8, 8), IGNORED), torch.ones(2, 8, 8)
    target[0, 2, 3], target[1, 5, 5], weight[1, 5, 5] = 1, 2, 3.0
    loss = masked_loss(logits, target, weight)
    loss.backward()
    own = torch.log_softmax(logits.detach(), dim=1)
    assert loss.item() == pytest.approx(-(own[0, 1, 2, 3] + 3 * own[1, 2, 5, 5]).item() / 4)
    touched = logits.grad.abs().sum(dim=1) > 0
    assert torch.nonzero(touched).tolist() == [[0, 2, 3], [1, 5, 5]]
    assert masked_loss(logits, target, torch.where(target < 0, 9.0, weight)) == loss


def test_labels_of_other_pixels_change_no_weight(trained: PixelDecoder) -> None:
    """More labelled pixels in the same patches, which this training does not have."""
    patches, marks = made_patches(), made_marks()
    others = np.clip(patches.places + 3, 16, 31)
    more = replace(
        patches,
        owner=np.concatenate([patches.owner, patches.owner]),
        places=np.concatenate([patches.places, others]),
    )
    assert same(train_decoder(frozen_base(), more, marks, made_plan()), trained)
    every = Marks(np.arange(2 * COUNT), np.tile(marks.labels[::-1], 2), np.tile(marks.weight, 2))
    assert not same(train_decoder(frozen_base(), more, every, made_plan()), trained)


def test_frozen_stages_and_statistics_stay_bit_for_bit(trained: PixelDecoder) -> None:
    before, after = state(frozen_base()), state(trained)
    frozen = [n for n in before if n.startswith(("backbone.stages.stem", "backbone.stages.layer1"))]
    norms = [n for n in before if n.startswith("backbone") and "running" in n]
    assert len(frozen) > 20
    assert len(norms) > 10
    assert all(torch.equal(before[name], after[name]) for name in {*frozen, *norms})
    learnt = [n for n in before if "layer2" in n and n.endswith("weight")]
    learnt += [n for n in before if n.startswith(("decoder", "head")) and "num_batches" not in n]
    assert not any(torch.equal(before[name], after[name]) for name in learnt)


@pytest.mark.parametrize("kind", ["unet", "fpn"])
def test_the_same_seed_gives_the_same_bits(kind: DecoderKind) -> None:
    """Dropout of the FPN included, whatever the global generator gave before."""
    found = []
    for begin, seed in ((98, 0), (99, 0), (98, 1)):
        torch.manual_seed(begin)
        base = frozen_base(kind)
        found.append(train_decoder(base, made_patches(), made_marks(), made_plan(seed=seed)))
    assert same(found[0], found[1])
    assert not same(found[0], found[2])


def batches(plan: DecoderPlan, epoch: int = 0) -> list[tuple[torch.Tensor, ...]]:
    learner = DecoderLearner(frozen_base(), made_patches(), made_marks(), plan)
    return [learner.batch(epoch, number) for number in range(learner.batches)]


@pytest.mark.parametrize("epoch", [0, 1])
def test_every_label_is_seen_once_in_an_epoch_with_its_weight(epoch: int) -> None:
    found = batches(made_plan(), epoch)
    weight = torch.cat([one[2][one[1] != IGNORED] for one in found])
    assert sorted(weight.tolist()) == pytest.approx(sorted(made_marks().weight.tolist()))
    assert all(one[1].shape[1:] == (SIDE, SIDE) for one in found)


def test_a_label_stays_on_its_pixel() -> None:
    """With flips, quarter turns and cuts: the class and the weight lie on the bright pixel."""
    marks, corners = made_marks(), set()
    for image, target, weight, _ in [
        one for epoch in range(3) for one in batches(made_plan(), epoch)
    ]:
        for tile, classes, own in zip(image, target, weight, strict=True):
            row, col = np.unravel_index(int(tile[0].argmax()), (SIDE, SIDE))
            patch = round((float(tile[0, row, col]) * 60 - 4000) / 100)
            assert classes[row, col] == marks.labels[patch]
            assert own[row, col] == pytest.approx(marks.weight[patch])
            assert (classes != IGNORED).sum() == 1
            corners.add((row, col))
    assert len(corners) > 20


@pytest.mark.parametrize(
    "kind",
    [
        {"rotate_deg": 40, "scale": (0.8, 1.6), "crop": 0.7},
        {"kornia": [{"RandomPerspective": {"distortion_scale": 0.3, "p": 1.0}}]},
        {"kornia": [{"RandomAffine": {"degrees": 30, "scale": [1.0, 1.5], "p": 0.8}}]},
    ],
    ids=["own", "perspective", "affine"],
)
def test_a_label_stays_on_its_pixel_when_the_image_is_resampled(kind) -> None:
    """Turned freely and enlarged, the marked pixel is the one that its brightness went to."""
    plan = made_plan(**kind)
    found = [one for epoch in range(4) for one in batches(plan, epoch)]
    images, targets = (torch.cat([one[part] for one in found]) for part in (0, 1))
    kept = (targets != IGNORED).flatten(1).sum(dim=1)
    assert kept.max() == 1
    assert kept.float().mean() > 0.7  # the others were cut off with their surroundings
    for tile, classes in zip(images[kept == 1], targets[kept == 1], strict=True):
        row, col = torch.nonzero(classes != IGNORED)[0].tolist()
        near = tile[0, max(0, row - 1) : row + 2, max(0, col - 1) : col + 2]
        assert near.max() == tile[0].max()


def test_invalid_pixels_are_zero_whatever_stands_in_them() -> None:
    patches = made_patches()
    dirty = replace(patches, image=np.where(patches.valid, patches.image, 65535))
    learners = [
        DecoderLearner(frozen_base(), one, made_marks(), made_plan()) for one in (patches, dirty)
    ]
    first, second = (
        torch.cat([one.batch(0, number)[0] for number in range(one.batches)]) for one in learners
    )
    assert torch.equal(first, second)
    assert (first == 0).all(dim=1).any()


def test_a_member_is_weighed_by_pixels_that_its_training_did_not_see() -> None:
    """In two trainings, joined from the three folds of the other members."""
    rows = np.arange(COUNT)
    folds = [(np.flatnonzero(rows % 3 != k), np.flatnonzero(rows % 3 == k)) for k in range(3)]
    asked: list[tuple[PixelDecoder, list[int]]] = []

    def predict(network: PixelDecoder, pixels: np.ndarray) -> np.ndarray:
        asked.append((network, pixels.tolist()))
        return np.tile(pixels.astype(np.float32), (3, 1)) * [[0], [0.1], [0.2]]

    patches, marks, plan = made_patches(), made_marks(), made_plan(1)
    found = fit_decoder(frozen_base(), patches, marks, folds, plan=plan, predict=predict)
    assert found.name == "decoder_unet"
    assert sorted(asked[0][1] + asked[1][1]) == rows.tolist()
    for (network, held), (fit, out) in zip(asked, joined_folds(folds, 2), strict=True):
        assert held == out.tolist()
        assert not {*fit} & {*out}
        assert same(network, train_decoder(frozen_base(), patches, marks.part(fit), plan))
    order = np.concatenate([out for _, out in folds])
    slope = found.member.held_out[:, 1] - found.member.held_out[:, 0]
    np.testing.assert_allclose(slope, 0.1 * order / found.member.temperature, atol=1e-6)
    alone = train_decoder(frozen_base(), patches, marks, plan)
    assert same(found.network, alone)
