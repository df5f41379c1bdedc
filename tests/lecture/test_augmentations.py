"""Augmentation in the lecture: its promises, and claims that a broken one must not pass."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers.demonstrations import claims_seen
from torch import Tensor

from geotl.errors import RecipeError
from geotl.lecture import augmentations, samples
from geotl.lecture.figures import Bars, Pictures
from geotl.lecture.implicit import checkpointed
from geotl.lecture.recipes import NUMBERS, Remedies, Shift, Varied, load_lecture
from geotl.lecture.samples import draw, learn, network, plain_training, sample, tiles_of
from geotl.lecture.texts import Both
from geotl.models.backbone import freeze
from geotl.training import learner
from geotl.training.augment import augment
from geotl.training.settings import Augmentation

FIELDS = {
    "tiles": "fields",
    "shown": "vines",
    "seed": 0,
    "seeds": 3,
    "shots": 6,
    "test_tiles": 40,
    "epochs": 15,
    "batch_size": 12,
    "shift": Shift(rows_deg=(90.0, 90.0)),
}


pytestmark = pytest.mark.usefixtures("lecture_cache")


def without_effect(batch: dict[str, Tensor], *_: object, **__: object) -> dict[str, Tensor]:
    return batch


# ------------------------------------------------------------------------------------ promises

KINDS = {
    "turns": Augmentation(),
    "rotate": Augmentation(flips=False, quarter_turns=False, rotate_deg=180),
    "crop": Augmentation(flips=False, quarter_turns=False, crop=0.3),
    "noise": Augmentation(flips=False, quarter_turns=False, noise=0.5),
    "blur": Augmentation(flips=False, quarter_turns=False, blur=3.0),
    "erase": Augmentation(flips=False, quarter_turns=False, erase=1.0),
    "kornia": Augmentation(kornia=["RandomPerspective", {"RandomErasing": {"p": 1.0}}]),
}


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_augmentations_keep_their_promises(kind: Augmentation) -> None:
    numbers = NUMBERS["augmentation"](shots=4)
    source, rows = sample(numbers.region, numbers.bands), draw(numbers, 0)
    found = augmentations.promises(source, rows, kind)
    assert found.held, found.measured
    assert isinstance(found.measured, Both)


@pytest.mark.parametrize("name", ["turns", "noise", "blur", "erase"])
def test_a_broken_augmentation_does_not_pass(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(batch, *args, **more):
        after = augment(batch, *args, **more)
        return after | {"image": after["image"] * 1.05 + 1}

    monkeypatch.setattr(augmentations, "augment", broken)
    numbers = NUMBERS["augmentation"](shots=4)
    source, rows = sample(numbers.region, numbers.bands), draw(numbers, 0)
    assert not augmentations.promises(source, rows, KINDS[name]).held


# -------------------------------------------------------------------------------------- effects


def test_a_training_without_checkpoints_has_the_weights_and_epochs_of_one_with_them() -> None:
    """Noise, a frozen stage, three batches an epoch; watched or not."""
    numbers = Varied(shots=3, test_tiles=18, epochs=2, input_px=16, augment=KINDS["noise"])
    source, rows = samples.sample_of(numbers), draw(numbers, 0)
    start = network(source, rows.split.train, numbers, 3)
    freeze(start.backbone, start.backbone.stage_names[0], allow_random=True)
    before = {name: value.clone() for name, value in start.state_dict().items()}
    training = plain_training(numbers, 3).changed(batch_size=9)
    train, test = (tiles_of(source, part) for part in (rows.split.train, rows.split.test))
    whole = checkpointed(start, train, test, training)
    watched = learn(start, source, rows, training, watch=True)
    assert watched.epochs == [
        pytest.approx({name: line[name] for name in seen}, rel=1e-6)
        for line, seen in zip(whole.history.epochs, watched.epochs, strict=True)
    ]
    for quick in (watched.last, samples.trained(start, train, training)):
        state = quick.state_dict()
        assert all(
            torch.equal(value, state[name]) for name, value in whole.last.state_dict().items()
        )
        assert any(not torch.equal(value, before[name]) for name, value in state.items())
    assert all(torch.equal(value, before[name]) for name, value in start.state_dict().items())


def test_turning_finds_rows_that_run_elsewhere_and_a_broken_one_gains_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Arms that differ in nothing change by exactly 0: same start, order and test tiles."""
    numbers = Varied(**FIELDS, augment=Augmentation())
    shown = augmentations.augmentation(numbers)
    assert claims_seen(shown) == {"promise": True, "robust": True, "definition": True}
    assert np.mean(shown.values["altered"]["on"] - shown.values["altered"]["off"]) > 0.25
    before, previews, bars = shown.panels
    assert isinstance(before, Pictures)
    assert isinstance(previews, Pictures)
    assert isinstance(bars, Bars)
    assert (len(before.images), len(previews.images)) == (2, 9)
    monkeypatch.setattr(learner, "augment", without_effect)
    shown = augmentations.augmentation(numbers.model_copy(update={"epochs": 3}))
    assert claims_seen(shown) == {"promise": True, "robust": False, "definition": False}
    for place in shown.values.values():
        assert np.array_equal(place["off"], place["on"])


def test_noise_that_is_blur_does_not_lose_to_blur(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where both arms learn alike, blur cannot help more."""
    numbers = Remedies(**FIELDS, augment=KINDS["noise"])
    monkeypatch.setattr(learner, "augment", without_effect)
    numbers = numbers.model_copy(update={"epochs": 2, "shift": Shift(blur_px=2.0)})
    shown = augmentations.noise_for_blur(numbers)
    assert claims_seen(shown) == {"promise": True, "robust": False, "straight": False}
    assert len(shown.panels[-1].groups) == 3


def test_an_unknown_class_to_show_is_named() -> None:
    place = augmentations.setting(Varied(**FIELDS), 0)
    with pytest.raises(RecipeError, match="did you mean 'vines'"):
        augmentations._first_of(place, "vine")


def test_the_test_tiles_are_named_by_what_changed() -> None:
    words = [augmentations.shift_words(kind).en for kind in (Shift(), Shift(noise=1.0))]
    assert words == ["test tiles, as they are", "noisy test tiles"]


@pytest.mark.parametrize("override", ["shift.noise=4", "augment.noise=0.25"])
def test_a_number_of_a_section_is_changed_by_its_dotted_key(override: str) -> None:
    section, value = override.split(".noise=")
    before, after = (load_lecture("augment_noise", o)[2] for o in ((), (override,)))
    assert getattr(after, section).noise == float(value)
    kept = getattr(after, section).model_copy(update={"noise": getattr(before, section).noise})
    assert kept == getattr(before, section)
