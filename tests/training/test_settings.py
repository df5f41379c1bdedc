"""What a training is before it meets tiles: weights by name, and settings replaced."""

from __future__ import annotations

import pytest

from geotl.training.settings import (
    Augmentation,
    Light,
    ProbeSettings,
    Training,
    TrainSettings,
    augmentation_keys,
)

BY_NAME = TrainSettings(class_weights={"water": 2.0, "field": 0.5})


def test_weights_given_by_name_come_in_the_order_of_the_classes() -> None:
    assert Training(BY_NAME, classes=("field", "water")).class_weights == (0.5, 2.0)
    assert Training(TrainSettings(class_weights="balanced")).class_weights == "balanced"
    assert Training().class_weights == "none"


def test_a_head_is_weighed_where_the_sampling_would_balance() -> None:
    training = Training(BY_NAME, classes=("field", "water"))
    assert training.head_weights == (0.5, 2.0)
    assert training.changed(balanced_sampling=True).head_weights == "balanced"


def test_a_changed_training_leaves_the_first_as_it_was() -> None:
    first = Training(seed=3, light=Light(1000.0))
    other = first.changed(lr=0.1)
    assert (first.settings.lr, other.settings.lr) == (0.001, 0.1)
    assert (other.seed, other.light, other.augmentation) == (3, Light(1000.0), first.augmentation)


@pytest.mark.parametrize(
    ("swa_from", "epoch"), [(None, None), (0.5, 2), (0.99, 3)], ids=["never", "half", "last"]
)
def test_averaging_begins_within_the_epochs(swa_from: float | None, epoch: int | None) -> None:
    assert TrainSettings(epochs=4, swa_from=swa_from).swa_epoch == epoch


def test_a_head_chooses_among_the_settings_of_its_kind() -> None:
    assert ProbeSettings(head="discriminant").head_settings == (0.1, 0.2, 0.4)
    assert ProbeSettings(penalties=(1.0,)).head_settings == (1.0,)


def test_every_variation_says_what_turns_it_off() -> None:
    switches = Augmentation.switches()
    assert Augmentation.model_fields.keys() - switches.keys() == {"erase_area", "mixup_of"}
    off = Augmentation(**{name: switch.off for name, switch in switches.items()})
    assert off.beyond_views == ()
    keys = {key.key for key in augmentation_keys()}
    assert keys == {f"augment.{name}" for name in switches}
